"""What a worker does for a task that starts in the triggerer: it concludes, and takes up what a broken trigger has left."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_adf_mi.adf.error_json import error_from_json
from airflow_adf_mi.adf.errors import AdfError
from airflow_adf_mi.adf.intent import Intent, Occasion
from airflow_adf_mi.adf.recall import is_of_before_a_clear, recall
from airflow_adf_mi.adf.report import Report
from airflow_adf_mi.attempt import TRIGGER_FAILURES, Attempt, rest_after
from airflow_adf_mi.journal import RUN_ID_KEY, TaskJournal, is_last_try, occasion_of
from airflow_adf_mi.worker_less import AdfRunPipelineTrigger
from airflow_adf_mi.xcom_journal import INTENT_KEY, place_of

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_adf_mi.operators import AdfRunPipelineOperator

TRIGGER_FAILURES_KEY = "airflow_adf_mi.trigger_failures"
"""In the task state store, how often the trigger of a try has failed."""


def attempt_that_goes_on(task: AdfRunPipelineOperator, context: Context) -> Attempt:
    """The try that a deferral has interrupted; by where it began."""
    if task.start_from_trigger and not (task.durable and TaskJournal(context).is_of_this_try(occasion_of(context))):
        return WorkerLessAttempt(task, context)
    return Attempt(task, context)


class WorkerLessAttempt(Attempt):
    """A try that began in the triggerer. Its journal is kept there, and nothing is started here."""

    def __init__(self, task: AdfRunPipelineOperator, context: Context) -> None:
        super().__init__(task, context)
        self._journal = None

    def complete(self, event: dict[str, Any]) -> dict[str, Any]:
        """Conclude from what the trigger reported."""
        with self._saying_that_it_failed():
            if "not_started" in event:
                raise error_from_json(event["not_started"])
            if "started" in event:
                return dict(event["started"])
            report = Report.from_json(event)
            self._announce(report.address)
            result = self._conclude(report)
        self._tell_next_try(retry=False)
        return result

    def take_up_again(self, failure: Exception) -> NoReturn:
        """The trigger that is the task failed. Its successor finds out what it had started."""
        with self._saying_that_it_failed():
            store = self._context["task_state_store"]
            now = asdict(occasion_of(self._context))
            before: Any = store.get(TRIGGER_FAILURES_KEY, None)
            failures = before["failures"] if isinstance(before, dict) and before.get("of") == now else 0
            if failures >= TRIGGER_FAILURES:
                raise AdfError(
                    f"The trigger of this task failed {failures + 1} times ({failure}). If it had started a run, that was not "
                    "touched, and a retry goes on with it. See the trigger's error above, and whether triggerers and "
                    "scheduler have the same version of this package."
                ) from failure
            store.set(TRIGGER_FAILURES_KEY, {"of": now, "failures": failures + 1})
            pause = rest_after(failures)
            self._task.log.warning(
                "The trigger of this task failed. Will start it again in %.0f s; it goes on with what was started. %s",
                pause,
                failure,
            )
            with self._owning(self._started_in_triggerer()) as owned_run:
                owned_run.rest(pause)
        # With the templates as they are in the Dag: what is rendered may be secret, and is rendered again there.
        again = self._task.dag.get_task(self._task.task_id).start_trigger_args
        assert again is not None  # noqa: S101  or its first trigger would not have been
        self._task.defer(
            trigger=AdfRunPipelineTrigger(**(again.trigger_kwargs or {})),
            method_name=again.next_method,
            timeout=again.timeout,
        )

    def _started_in_triggerer(self) -> Intent | None:
        """What this task's trigger has started, as far as a worker can tell."""
        run_id = self._xcom(RUN_ID_KEY)
        if not isinstance(run_id, str) or not run_id:
            return None
        return replace(self._start.intent(occasion_of(self._context)), key=run_id).started(run_id)

    def _say_that_it_failed(self) -> None:
        if self._task.durable:
            self._tell_next_try(retry=not is_last_try(self._context))

    def _tell_next_try(self, *, retry: bool) -> None:
        """Of a task that starts in the triggerer: whether what follows on this try, if anything does, is a retry.

        Its next try in the triggerer reads it in an XCom, or one on a worker, should the Dag have been changed, in the state
        store.
        """
        try:
            occasion = Occasion(try_number=self._context["ti"].try_number)
            run_id, kept = (self._xcom(key) for key in (RUN_ID_KEY, INTENT_KEY))
            known = recall(run_id, kept, place_of(self._context), self._start.intent(occasion))
            if known is None or is_of_before_a_clear(known):
                return
            told = replace(known, occasion=occasion, failed=retry)
            self._context["ti"].xcom_push(key=INTENT_KEY, value=told.to_json())
            if retry:
                TaskJournal(self._context).note(replace(told, occasion=occasion_of(self._context)))
        except Exception as e:  # noqa: BLE001  it must neither hide the error nor the success
            self._task.log.warning("What was started could not be written down for a next try: %s", e)

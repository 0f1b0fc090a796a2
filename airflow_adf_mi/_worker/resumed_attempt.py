"""What a worker does for a task that starts in the triggerer: it concludes, and takes up what a broken trigger has left."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk.definitions.retry_policy import RetryAction

from airflow_adf_mi._airflow.task_instance import RUN_ID_KEY, is_last_try, task_try_of
from airflow_adf_mi._triggerer.finish import RETURN_VALUE
from airflow_adf_mi._triggerer.start_key import task_try_key_of
from airflow_adf_mi._triggerer.stored_start import is_of_before_a_clear, is_own, marked, readable, recall
from airflow_adf_mi._triggerer.xcom_journal import INTENT_KEY
from airflow_adf_mi._worker.attempt import TRIGGER_FAILURES, Attempt, rest_after
from airflow_adf_mi._worker.state_store_journal import TaskJournal
from airflow_adf_mi.adf.api.operations import get_run
from airflow_adf_mi.adf.error_json import error_from_json
from airflow_adf_mi.adf.errors import AdfError
from airflow_adf_mi.adf.models import PipelineRun
from airflow_adf_mi.adf.reporting.report import Report, RunAddress, address_of
from airflow_adf_mi.adf.starting.intent import Intent, TaskTry
from airflow_adf_mi.hooks import AdfHook
from airflow_adf_mi.triggers.start_and_wait import FOR_A_WORKER, NOT_STARTED, STARTED, AdfStartPipelineTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_adf_mi._airflow.task import PipelineTask

TRIGGER_FAILURES_KEY = "airflow_adf_mi.trigger_failures"
"""In the task state store, how often the trigger of a try has failed."""


def resume(task: PipelineTask, context: Context, event: Mapping[str, Any] | None = None) -> Attempt:
    """The try that a deferral has interrupted, by where it began; `event` is what its trigger has said, if it has."""
    return ResumedAttempt(task, context) if _began_in_triggerer(task, context, event or {}) else Attempt(task, context)


def _began_in_triggerer(task: PipelineTask, context: Context, event: Mapping[str, Any]) -> bool:
    """Whether this try did, whatever the Dag says by now."""
    if event.keys() & {FOR_A_WORKER, NOT_STARTED, STARTED}:
        return True
    if task.durable and TaskJournal(context).is_of_this_try(task_try_of(context)):
        return False
    ti: Any = context["ti"]
    if task.start_from_trigger or ti.map_index >= 0:
        return bool(task.start_from_trigger) and ti.map_index < 0
    run_id, kept = (
        ti.xcom_pull(task_ids=ti.task_id, key=key, map_indexes=ti.map_index) for key in (RUN_ID_KEY, INTENT_KEY)
    )
    return is_own(run_id, kept, task_try_key_of(context))


class ResumedAttempt(Attempt):
    """A try that began in the triggerer. Its journal is kept there, and nothing is started here."""

    def __init__(self, task: PipelineTask, context: Context) -> None:
        super().__init__(task, context)
        self._journal = None
        self._here: Attempt | None = None
        """What goes on on workers, where the Dag was changed meanwhile."""

    def kill(self) -> None:
        if self._here is not None:
            self._here.kill()
        else:
            super().kill()

    def complete(self, event: dict[str, Any]) -> dict[str, Any]:
        """Conclude from what the trigger reported."""
        if FOR_A_WORKER in event:
            return self._go_on_here()
        with self._saying_that_it_failed():
            if NOT_STARTED in event:
                raise error_from_json(event[NOT_STARTED])
            if STARTED in event:
                result = dict(event[STARTED])
                self._results.announce(result["run_id"], result["studio_url"])
            else:
                report = Report.from_json(event)
                self._results.announce(report.address.run_id, report.address.studio_url)
                result = self._results.of(report)
            if self._task.do_xcom_push:
                # As Airflow does next, but while it counts as a failure: what has succeeded is not started again.
                self._context["ti"].xcom_push(key=RETURN_VALUE, value=result)
        self._tell_next_try(retry=False)
        return result

    def _go_on_here(self) -> dict[str, Any]:
        """Do what is left of the task on workers, from what was started in the triggerer."""
        with self._saying_that_it_failed():
            known = self._recalled()
            if known is not None and self._task.durable:
                TaskJournal(self._context).save(self._as_of_here(known))
        self._here = Attempt(self._task, self._context)
        self.run_record = self._here.run_record
        return self._here.run()

    def _as_of_here(self, known: Intent) -> Intent:
        """As a try on a worker writes it. A start of before a clear keeps the task_try by which it is seen as one."""
        if is_of_before_a_clear(known):
            return known
        here = task_try_of(self._context)
        not_adopted_yet = known.not_adopted_yet or known.task_try.try_number != here.try_number
        return replace(known, task_try=here, not_adopted_yet=not_adopted_yet)

    def on_deferral_timeout(self) -> dict[str, Any]:
        """Airflow's own timeout counts from the handing over to a triggerer, which may have had no capacity for long."""
        run = None if self._is_time_over() else self._run_that_is_there()
        if run is None or run.started_at is None or time.time() >= run.started_at.timestamp() + self._task.timeout:
            return super().on_deferral_timeout()
        self._task.log.info("Run %s was started late, and has time left. Waiting on.", run.run_id)
        return self._start_trigger_again()

    def _is_time_over(self) -> bool:
        """Whether `execution_timeout` has passed, which counts from the handing over."""
        limit = self._task.execution_timeout
        return limit is not None and time.time() >= self._began + limit.total_seconds()

    @property
    def _began(self) -> float:
        return float(self._context["ti"].start_date.timestamp())

    def _run_that_is_there(self) -> PipelineRun | None:
        """This try's run, if there is one and the service shows it."""
        try:
            known = self._recalled()
            if known is None or is_of_before_a_clear(known):
                return None
            address = address_of(self._settings, known)
            with AdfHook(self._task.azure_data_factory_conn_id).client() as client:
                return client.send(get_run(address.factory, address.run_id))
        except Exception as e:  # noqa: BLE001  its time is over, and what keeps the run from being cancelled is said then
            self._task.log.warning("The run of this task could not be looked at. %s", e)
            return None

    def retry_trigger(self, failure: Exception) -> dict[str, Any]:
        """The trigger that is the task failed. Its successor finds out what it had started."""
        with self._saying_that_it_failed():
            store = self._context["task_state_store"]
            now = asdict(task_try_of(self._context))
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
            # If this process is told to go meanwhile, its run goes on for a retry.
            self._tell_next_try(retry=self._task.durable and not is_last_try(self._context))
            with self._owning(self._started_in_triggerer()) as owned_run:
                owned_run.rest(pause)
        return self._start_trigger_again()

    def _start_trigger_again(self) -> dict[str, Any]:  # noqa: RET503  defer() does not return
        """Defer to the trigger that is the task."""
        # With the templates as they are in the Dag: what is rendered may be secret, and is rendered again there.
        again = self._task.dag.get_task(self._task.task_id).start_trigger_args
        if again is None or again.timeout is None:
            # The Dag was changed since.
            return self._go_on_here()
        left = again.timeout
        if self._task.execution_timeout is not None:
            left = min(
                left,
                max(timedelta(seconds=1), self._task.execution_timeout - timedelta(seconds=time.time() - self._began)),
            )
        # From now on, what follows is a clear again.
        self._tell_next_try(retry=False)
        trigger = AdfStartPipelineTrigger(**{**(again.trigger_kwargs or {}), "try_began_at": self._began})
        self._task.defer(trigger=trigger, method_name=again.next_method, timeout=left)

    def _started_in_triggerer(self) -> Intent | None:
        """What this task's trigger has started, as far as a worker can tell."""
        run_id = self._xcom(RUN_ID_KEY)
        if not isinstance(run_id, str) or not run_id:
            return None
        return replace(self._start.intent(task_try_of(self._context)), start_key=run_id).started(run_id)

    def _recalled(self) -> Intent | None:
        """What this task's triggers have written, as the next one would read it."""
        wanted = self._start.intent(TaskTry(try_number=self._context["ti"].try_number))
        stored = self._xcom(RUN_ID_KEY), self._xcom(INTENT_KEY)
        return recall(*stored, task_try_key_of(self._context), wanted, durable=self._task.durable, began=self._began)

    def _own_run(self) -> RunAddress:
        known = self._recalled()
        if known is None or is_of_before_a_clear(known):
            raise AdfError(
                f"The time for this task was over before its trigger had started a run of pipeline {self._task.pipeline_name!r}. "
                "Nothing was started by this try. Are triggerers running, and do they have capacity left?"
            )
        return address_of(self._settings, known)

    def _say_that_it_failed(self, error: BaseException) -> None:
        if not self._task.durable:
            return
        retry = self._is_retried_after(error)
        told = self._tell_next_try(retry=retry)
        if told is not None and retry:
            # For a next try on a worker, should the Dag have been changed.
            TaskJournal(self._context).note(replace(told, task_try=task_try_of(self._context)))

    def _is_retried_after(self, error: BaseException) -> bool:
        """Whether Airflow makes another try by itself: one is left, and the task's retry policy does not end it here."""
        policy: Any = self._task.retry_policy
        if is_last_try(self._context) or policy is None:
            return not is_last_try(self._context)
        ti: Any = self._context["ti"]
        try:
            decision = policy.evaluate(
                exception=error, try_number=ti.try_number, max_tries=ti.max_tries, context=self._context
            )
            return bool(decision.action != RetryAction.FAIL)
        except Exception as e:  # noqa: BLE001  a policy that fails, or decides nothing, is none for Airflow either
            self._task.log.warning("The task's retry policy could not be asked, and counts as none; correct it. %s", e)
            return True

    def _tell_next_try(self, *, retry: bool) -> Intent | None:
        """Say to the next try in the triggerer whether it is a retry, in an XCom; the intent in it, if there is one."""
        try:
            told = self._told(retry=retry)
            if told is not None:
                self._context["ti"].xcom_push(key=INTENT_KEY, value=told)
        except Exception as e:  # noqa: BLE001  it must neither hide the error nor the success
            self._task.log.warning("What was started could not be written down for a next try: %s", e)
            return None
        return readable(told)

    def _told(self, *, retry: bool) -> dict[str, Any] | None:
        place = task_try_key_of(self._context)
        try:
            known = self._recalled()
        except Exception as e:  # noqa: BLE001  as of a connection that cannot be used now: what is written is there all the same
            self._task.log.debug("what was started is told without the connection: %s", e)
            known = None
        if known is not None and known.task_try.try_number == place.try_number:
            return replace(known, try_failed=retry).to_json()
        return marked(self._xcom(RUN_ID_KEY), self._xcom(INTENT_KEY), place, failed=retry)

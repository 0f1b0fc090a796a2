"""A try that began in triggerer mode, and ends or continues on a worker.

A worker gets such a try if the start failed, if the run did not succeed, or if the result needs a worker (`outputs`). The worker
also gets it if the trigger could not be loaded, if Airflow's timeout ended it, or if the Dag was edited to run the task there.

    event from the trigger     ---> complete             conclude: raise the error, or push the result
    "for a worker" (Dag edit)  ---> complete             copy the intent into the task state store, continue as a worker's try
    "Trigger failure"          ---> retry_trigger        pause, then defer to the same trigger again, a few times
    "Trigger timeout"          ---> on_deferral_timeout  wait on if the run has time left; otherwise cancel the run, and fail

What can go wrong: the next try may begin in the triggerer again. It reads the XCom `adf_intent`, and it cannot see whether it is
a retry. So this module records in that XCom how the try ended. A failure that is retried is recorded as a failure. A success, a
last failure, and a trigger that is started again are recorded as none, because only a clear can follow.

The record needs no connection: it is added to what the XCom holds. Nothing is started here. If the Dag was edited, an ordinary
`Attempt` continues the try, with the task state store as its memory.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk.definitions.retry_policy import RetryAction

from airflow_adf_mi._airflow.task_instance import RUN_ID_KEY, is_last_try, task_try_of
from airflow_adf_mi._triggerer.finish import RETURN_VALUE
from airflow_adf_mi._triggerer.start_key import task_try_key_of
from airflow_adf_mi._triggerer.stored_start import KEPT_BY_WORKER, StoredStart
from airflow_adf_mi._triggerer.xcom_journal import INTENT_KEY
from airflow_adf_mi._worker.attempt import Attempt, start_of_try
from airflow_adf_mi._worker.state_store_journal import TaskJournal
from airflow_adf_mi._worker.trigger_failures import MOST_TRIGGER_FAILURES, record_trigger_failure
from airflow_adf_mi.adf.api.operations import get_run
from airflow_adf_mi.adf.config.addresses import RunAddress
from airflow_adf_mi.adf.error_json import error_from_json
from airflow_adf_mi.adf.errors import AdfError
from airflow_adf_mi.adf.models import PipelineRun
from airflow_adf_mi.adf.reporting.report import Report
from airflow_adf_mi.adf.starting.intent import Intent, Phase, TaskTry
from airflow_adf_mi.adf.waiting.deadlines import in_seconds, seconds_left, start_of_wait
from airflow_adf_mi.triggers.start_and_wait import FOR_A_WORKER, NOT_STARTED, STARTED, AdfStartPipelineTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_adf_mi._airflow.task import PipelineTask


def resume(task: PipelineTask, context: Context, event: Mapping[str, Any] | None = None) -> Attempt:
    """The try that a deferral has interrupted, of the class for where it began.

    :param event: the event of its trigger, if the trigger has fired one.
    """
    return ResumedAttempt(task, context) if _began_in_triggerer(task, context, event or {}) else Attempt(task, context)


def _began_in_triggerer(task: PipelineTask, context: Context, event: Mapping[str, Any]) -> bool:
    """Whether this try began in triggerer mode, even if the Dag was edited after that."""
    if event.keys() & {FOR_A_WORKER, NOT_STARTED, STARTED}:
        return True
    if task.durable and TaskJournal(context).is_of_this_try(task_try_of(context)):
        return False
    ti: Any = context["ti"]
    if task.start_from_trigger or ti.map_index >= 0:
        return bool(task.start_from_trigger) and ti.map_index < 0
    stored = StoredStart.from_json(ti.xcom_pull(task_ids=ti.task_id, key=INTENT_KEY, map_indexes=ti.map_index))
    return stored is not None and stored.is_of(TaskTry(try_number=ti.try_number))


class ResumedAttempt(Attempt):
    """A try that began in the triggerer. Its intent is in an XCom, and nothing is started here."""

    def __init__(self, task: PipelineTask, context: Context) -> None:
        super().__init__(task, context)
        self._journal = None
        self._here: Attempt | None = None
        """The attempt that continues on workers, if the Dag was edited."""

    def kill(self) -> None:
        if self._here is not None:
            self._here.kill()
        else:
            super().kill()

    def complete(self, event: dict[str, Any]) -> dict[str, Any]:
        """Conclude from the event of the trigger."""
        if FOR_A_WORKER in event:
            return self._continue_here()
        with self._recording_failure():
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
                # Airflow does this next. Here, an error still counts as a failure of the try, so that a retry accepts the run.
                self._context["ti"].xcom_push(key=RETURN_VALUE, value=result)
        self._record_end(failed=False)
        return result

    def _continue_here(self) -> dict[str, Any]:
        """Continue the task on workers, from what was started in the triggerer."""
        with self._recording_failure():
            stored = self._stored_start()
            known = None if stored is None else stored.recall(self._now, durable=self._task.durable)
            if stored is not None and known is not None and self._task.durable:
                TaskJournal(self._context).save(self._for_worker(stored, known))
                self._context["ti"].xcom_push(key=INTENT_KEY, value=KEPT_BY_WORKER)
        self._here = Attempt(self._task, self._context)
        self.run_record = self._here.run_record
        return self._here.run()

    def _for_worker(self, stored: StoredStart, known: Intent) -> Intent:
        """The intent as a try on a worker writes it. A superseded start keeps the counts that show a clear."""
        if stored.is_before_clear(self._now):
            return known
        here = task_try_of(self._context)
        not_adopted_yet = known.not_adopted_yet or known.task_try.try_number != here.try_number
        return replace(known, task_try=here, not_adopted_yet=not_adopted_yet)

    def on_deferral_timeout(self) -> dict[str, Any]:
        """Airflow's own timeout counts from the handing over to a triggerer, which may have had no capacity for a long time."""
        run = None if self._is_time_over() else self._run_of_this_try()
        if run is None or run.started_at is None or time.time() >= self._counts_from(run) + self._task.timeout:
            return super().on_deferral_timeout()
        self._task.log.info("Run %s was started late, and has time left. Waiting for it again.", run.run_id)
        return self._start_trigger_again()

    def _is_time_over(self) -> bool:
        """Whether `execution_timeout` has passed. It counts from the handing over."""
        left = self._seconds_left()
        return left is not None and left <= 0

    def _seconds_left(self) -> float | None:
        return seconds_left(in_seconds(self._task.execution_timeout), try_began=self._began, now=time.time())

    def _counts_from(self, run: PipelineRun) -> float:
        """The moment from which `timeout` counts. It is the same here and in the trigger."""
        run_began = None if run.started_at is None else run.started_at.timestamp()
        return start_of_wait(now=time.time(), try_began=self._began, run_began=run_began)

    @property
    def _began(self) -> float:
        return start_of_try(self._context)

    @property
    def _now(self) -> TaskTry:
        """This try, in the numbers that a trigger knows."""
        return TaskTry(try_number=self._context["ti"].try_number)

    def _run_of_this_try(self) -> PipelineRun | None:
        """This try's run, if there is one and the service shows it."""
        try:
            known = self._own_start()
            if known is None:
                return None
            address = known.address(self._settings)
            with self._hook.client() as client:
                return client.send(get_run(address.factory, address.run_id))
        except Exception as e:  # noqa: BLE001  the time is over; if the run cannot be cancelled, that error is reported
            self._task.log.warning("The status check of this task's run failed. %s", e)
            return None

    def retry_trigger(self, failure: Exception) -> dict[str, Any]:
        """The trigger that is the task failed. The next trigger reads from the stored intent what was started."""
        with self._recording_failure():
            pause = record_trigger_failure(self._context)
            if pause is None:
                raise AdfError(
                    f"The trigger of this task failed {MOST_TRIGGER_FAILURES + 1} times ({failure}). If it had started a run, "
                    "the run is not affected, and a retry adopts it. See the trigger's error above, and check whether "
                    "triggerers and scheduler have the same version of this package."
                ) from failure
            self._task.log.warning(
                "The trigger of this task failed. Will start it again in %.0f s; it adopts what was started. %s",
                pause,
                failure,
            )
            # If this process is evicted during the pause, the run continues, and the retry adopts it.
            self._record_end(failed=self._task.durable and not is_last_try(self._context))
            with self._owning(self._started_in_triggerer()) as owned_run:
                owned_run.rest(pause)
        return self._start_trigger_again()

    def _start_trigger_again(self) -> dict[str, Any]:  # noqa: RET503  defer() does not return
        """Defer to the trigger that is the task."""
        # With the templates of the Dag: rendered values may be secret, and the triggerer renders them again.
        again = self._task.dag.get_task(self._task.task_id).start_trigger_args
        if again is None or again.timeout is None:
            # The Dag was edited, and the task is now one for a worker.
            return self._continue_here()
        left = self._seconds_left()
        timeout = again.timeout if left is None else min(again.timeout, timedelta(seconds=max(1, left)))
        # The try continues. If another one begins while the trigger waits, the task was cleared.
        self._record_end(failed=False)
        trigger = AdfStartPipelineTrigger(**{**(again.trigger_kwargs or {}), "try_began_at": self._began})
        self._task.defer(trigger=trigger, method_name=again.next_method, timeout=timeout)

    def _started_in_triggerer(self) -> Intent | None:
        """The start that the XCom holds, whichever try made it: a kill cancels its run."""
        stored = StoredStart.from_json(self._xcom(INTENT_KEY))
        return None if stored is None or stored.intent.phase is Phase.PREPARED else stored.intent

    def _stored_start(self) -> StoredStart | None:
        """The start that the next trigger would read. Bad input gets its error first."""
        key = task_try_key_of(self._context).start_key
        wanted = replace(self._start.intent(self._now), start_key=key)
        stored = self._xcom(INTENT_KEY)
        return StoredStart.from_json(stored) or StoredStart.without_intent(stored, self._xcom(RUN_ID_KEY), wanted)

    def _own_start(self) -> Intent | None:
        """The start that this try has made, or the one that it retries; None if nothing of it can have started a run."""
        stored = self._stored_start()
        if stored is None or stored.is_before_clear(self._now) or stored.intent.phase is Phase.PREPARED:
            return None
        return stored.recall(self._now, durable=self._task.durable)

    def _own_run(self) -> RunAddress:
        known = self._own_start()
        if known is None:
            raise AdfError(
                f"The time for this task was over before its trigger had started a run of pipeline {self._task.pipeline_name!r}. "
                "This try started nothing. Check that triggerers run and have free capacity, then clear the task."
            )
        return known.address(self._settings)

    def _record_own_failure(self, error: BaseException) -> None:
        if not self._task.durable:
            return
        is_retried = self._is_retried_after(error)
        marked = self._record_end(failed=is_retried)
        if marked is not None and is_retried:
            # For a next try on a worker, if the Dag is edited before it.
            TaskJournal(self._context).save_best_effort(replace(marked.intent, task_try=task_try_of(self._context)))

    def _is_retried_after(self, error: BaseException) -> bool:
        """Whether Airflow makes another try by itself: one is left, and the task's retry policy does not end the task."""
        policy: Any = self._task.retry_policy
        if is_last_try(self._context) or policy is None:
            return not is_last_try(self._context)
        ti: Any = self._context["ti"]
        try:
            decision = policy.evaluate(
                exception=error, try_number=ti.try_number, max_tries=ti.max_tries, context=self._context
            )
            return bool(decision.action != RetryAction.FAIL)
        except Exception as e:  # noqa: BLE001  Airflow ignores a policy that fails, or decides nothing
            self._task.log.warning("The task's retry policy failed and is ignored; correct it. %s", e)
            return True

    def _record_end(self, *, failed: bool) -> StoredStart | None:
        """Record for the next try in the triggerer whether this try failed and is retried. Returns what is stored then."""
        try:
            stored = StoredStart.from_json(self._xcom(INTENT_KEY))
            marked = None if stored is None else stored.marked(self._now, failed=failed)
            if marked is not None:
                self._context["ti"].xcom_push(key=INTENT_KEY, value=marked.to_json())
        except Exception as e:  # noqa: BLE001  it must hide neither the error nor the success
            self._task.log.warning("Airflow did not store for a next try how this try ended. %s", e)
            return None
        return marked

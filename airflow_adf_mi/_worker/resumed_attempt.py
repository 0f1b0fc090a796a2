"""A try that began in triggerer mode, and ends or continues on a worker.

A worker gets such a try if the start failed, if the run did not succeed, or if the result needs a worker (`outputs`). A worker
also gets such a try if the trigger could not be loaded, if Airflow's timeout ended the trigger, or if the edited Dag runs the
task on workers.

    event from the trigger     ---> complete             conclude: raise the error, or push the result
    "for a worker" (Dag edit)  ---> complete             copy the intent into the task state store, continue as a worker's try
    "Trigger failure"          ---> retry_trigger        pause, then defer to the same trigger again, a few times
    "Trigger timeout"          ---> on_deferral_timeout  if the run has time left, defer again; otherwise cancel the run, and fail

What can go wrong: the next try may begin in the triggerer, too. There it reads the XCom `adf_intent`, and cannot see whether it
is a retry. So this module records in that XCom how the try ended. A failure that Airflow retries is recorded as a failure. In all
other cases the record is "not failed": after a success, after a failure without a retry, and before the trigger is started
again. If another try follows a record of "not failed", a user has cleared the task.

Recording works without reading the Airflow connection, because only the stored form is changed. This module starts no run. If the
Dag was edited, an ordinary `Attempt` continues the try, and uses the task state store.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_adf_mi._airflow import features
from airflow_adf_mi._airflow.names import AirflowSkipException
from airflow_adf_mi._airflow.task_instance import RUN_ID_KEY, is_last_try, start_of_try, task_try_of
from airflow_adf_mi._triggerer.finish import RETURN_VALUE
from airflow_adf_mi._triggerer.start_key import task_try_key_of
from airflow_adf_mi._triggerer.stored_start import KEPT_BY_WORKER, StoredStart
from airflow_adf_mi._triggerer.xcom_journal import INTENT_KEY
from airflow_adf_mi._worker.attempt import Attempt
from airflow_adf_mi._worker.task_journal import TaskJournal
from airflow_adf_mi._worker.trigger_failures import MOST_TRIGGER_FAILURES, record_trigger_failure
from airflow_adf_mi.adf.api.operations import get_run
from airflow_adf_mi.adf.config.addresses import RunAddress
from airflow_adf_mi.adf.error_json import error_from_json
from airflow_adf_mi.adf.errors import AdfError
from airflow_adf_mi.adf.models import PipelineRun
from airflow_adf_mi.adf.reporting.report import Report
from airflow_adf_mi.adf.retrying import is_for_good, is_refusal
from airflow_adf_mi.adf.starting.intent import Intent, Phase, TaskTry
from airflow_adf_mi.adf.waiting.deadlines import in_seconds, seconds_left, start_of_wait
from airflow_adf_mi.hooks import READ_RETRIES
from airflow_adf_mi.triggers.start_and_wait import FOR_A_WORKER, NOT_STARTED, SKIPPED, STARTED, AdfStartPipelineTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_adf_mi._airflow.task import PipelineTask


def resume(task: PipelineTask, context: Context, event: Mapping[str, Any] | None = None) -> Attempt:
    """Return the object for a try that resumes after a deferral: `ResumedAttempt` if the try began in the triggerer, otherwise
    `Attempt`.

    :param event: the event of the try's trigger, if the trigger has fired one.
    """
    return ResumedAttempt(task, context) if _began_in_triggerer(task, context, event or {}) else Attempt(task, context)


def is_event_of_earlier_try(task: PipelineTask, context: Context) -> bool:
    """Whether Airflow resumes a new try with the event of an earlier try. Airflow 3.1.0 does so after a deferred try has failed.

    Without a task state store, what a try stores lasts for this try only. So in a try that resumes, the stored intent must be of
    this try.
    """
    if features.TASK_STATE_STORE or not task.durable:
        return False
    return TaskJournal(context).is_of_earlier_try(task_try_of(context))


def _began_in_triggerer(task: PipelineTask, context: Context, event: Mapping[str, Any]) -> bool:
    """Whether this try began in triggerer mode, even if the Dag was edited after that."""
    if not features.TEMPLATED_TRIGGERS:
        return False
    if event.keys() & {FOR_A_WORKER, NOT_STARTED, SKIPPED, STARTED}:
        return True
    ti: Any = context["ti"]
    if ti.map_index >= 0:
        return False
    wrote_intent = TaskJournal(context).is_of_this_try(task_try_of(context)) if task.durable else None
    if wrote_intent:
        return False
    stored = ti.xcom_pull(task_ids=ti.task_id, key=INTENT_KEY, map_indexes=ti.map_index)
    start = StoredStart.from_json(stored)
    if start is not None and start.is_of(TaskTry(try_number=ti.try_number)):
        return True
    # Ask the task as the Dag has it. Whether a task may start in the triggerer depends on its templates, and the rendered copy
    # of the task no longer has the templates.
    if not task.in_dag.start_from_trigger:
        return False
    if wrote_intent is False:
        return True
    # The task state store was not asked (durable=False), or does not answer. After a try on a worker, the XCom `run_id` exists.
    # The XCom `adf_intent` does not exist, because Airflow deletes it when such a try begins. Or it is empty, because a worker
    # has taken over. In all other cases the try began in the triggerer.
    run_id = ti.xcom_pull(task_ids=ti.task_id, key=RUN_ID_KEY, map_indexes=ti.map_index)
    return not run_id or stored not in (None, KEPT_BY_WORKER)


class ResumedAttempt(Attempt):
    """A try that began in the triggerer. Its intent is in an XCom, and nothing is started here."""

    def __init__(self, task: PipelineTask, context: Context) -> None:
        super().__init__(task, context)
        self._journal = None
        self._here: Attempt | None = None
        """The attempt that continues this try on a worker, if the Dag was edited."""

    def kill(self) -> None:
        if self._here is not None:
            self._here.kill()
        else:
            super().kill()

    def complete(self, event: dict[str, Any]) -> dict[str, Any]:
        """Raise or return what the trigger reported, or continue on a worker if the trigger asks for it."""
        if FOR_A_WORKER in event:
            return self._continue_here()
        with self._recording_failure():
            if NOT_STARTED in event:
                raise error_from_json(event[NOT_STARTED])
            if SKIPPED in event:
                skipped = event[SKIPPED]
                self._results.announce(skipped["run_id"], skipped["studio_url"])
                raise AirflowSkipException(f"{skipped['reason']} See {skipped['studio_url']}")
            if STARTED in event:
                result = dict(event[STARTED])
                self._results.announce(result["run_id"], result["studio_url"])
            else:
                report = Report.from_json(event)
                self._results.announce(report.address.run_id, report.address.studio_url)
                result = self._results.of(report)
            if self._task.do_xcom_push:
                # Airflow would push the result after this method. Push it here, so that an error is recorded as a failure of this
                # try, and a retry accepts the run.
                self._context["ti"].xcom_push(key=RETURN_VALUE, value=result)
        self._record_end(failed=False)
        return result

    def _continue_here(self) -> dict[str, Any]:
        """Continue this try on a worker, with the run that was started in the triggerer."""
        with self._recording_failure():
            stored = self._stored_start()
            known = None if stored is None else stored.recall(self._now, durable=self._task.durable)
            if stored is not None and known is not None and self._task.durable:
                TaskJournal(self._context).save(self._for_worker(stored, known))
                self._context["ti"].xcom_push(key=INTENT_KEY, value=KEPT_BY_WORKER)
        self._here = Attempt(self._task, self._context)
        if known is not None and not self._task.durable:
            # Without the task state store, only this object knows the start of this try.
            self._here.take_over(known)
        self.run_record = self._here.run_record
        return self._here.run()

    def _for_worker(self, stored: StoredStart, known: Intent) -> Intent:
        """Return the intent in the form that a try on a worker stores.

        The `task_try` of a superseded start is not changed, so that `intent.decide` sees the clear on the worker as well.
        """
        if stored.is_before_clear(self._now):
            return known
        here = task_try_of(self._context)
        not_adopted_yet = known.not_adopted_yet or known.task_try.try_number != here.try_number
        return replace(known, task_try=here, not_adopted_yet=not_adopted_yet)

    def on_deferral_timeout(self) -> dict[str, Any]:
        """Wait again if the run has time left. Otherwise cancel the run if asked to, and time out.

        Airflow's timeout counts from the moment at which the scheduler handed the task to the triggerer. After that moment, the
        triggerer may have had no capacity for a long time.
        """
        try:
            run = None if self._is_time_over() else self._run_of_this_try()
            counts_from = None if run is None else self._counts_from(run)
        except AdfError as e:
            self._task.log.warning("The status check of this task's run failed, so the task waits for it again. %s", e)
            return self._start_trigger_again()
        if run is None or counts_from is None or time.time() >= counts_from + self._task.timeout:
            return super().on_deferral_timeout()
        self._task.log.info("Airflow's timeout has passed, but run %s has time left. Waiting for it again.", run.run_id)
        return self._start_trigger_again()

    def _owns(self, address: RunAddress) -> bool:
        known = self._own_start()
        return known is not None and not known.is_foreign

    def _is_superseded(self, known: Intent) -> bool:
        stored = StoredStart.from_json(self._xcom(INTENT_KEY))
        return stored is not None and stored.is_before_clear(self._now)

    def _is_time_over(self) -> bool:
        """Whether `execution_timeout` has passed. It counts from the beginning of the try."""
        left = self._seconds_left()
        return left is not None and left <= 0

    def _seconds_left(self) -> float | None:
        return seconds_left(in_seconds(self._task.execution_timeout), try_began=self._began, now=time.time())

    def _counts_from(self, run: PipelineRun) -> float | None:
        """Return the moment from which `timeout` counts: the same moment here and in the trigger. None if it is not known."""
        run_began = None if run.started_at is None else run.started_at.timestamp()
        known = self._own_start()
        first_sent_at = None if known is None else known.first_sent_at
        if first_sent_at is None and run_began is None:
            return None
        return start_of_wait(now=time.time(), try_began=self._began, first_sent_at=first_sent_at, run_began=run_began)

    @property
    def _began(self) -> float:
        return start_of_try(self._context)

    @property
    def _now(self) -> TaskTry:
        """This try, identified only by its number, as a trigger identifies it."""
        return TaskTry(try_number=self._context["ti"].try_number)

    def _run_of_this_try(self) -> PipelineRun | None:
        """Return this try's run; None if there is none, or if its status check can never work.

        Raises the `AdfError` of a status check that may work later.
        """
        try:
            known = self._own_start()
            if known is None:
                return None
            address = known.address(self._settings)
            with self._hook.client(read_retries=READ_RETRIES) as client:
                return client.send(get_run(address.factory, address.run_id))
        except Exception as e:
            if isinstance(e, AdfError) and not is_for_good(e) and not is_refusal(e):
                raise
            # The task times out now. If the cancel of the run fails as well, the error of the task reports that failure.
            self._task.log.warning("The status check of this task's run failed. %s", e)
            return None

    def retry_trigger(self, failure: Exception) -> dict[str, Any]:
        """After the trigger failed, start it again, a few times only. From the stored intent, it reads what was started."""
        with self._recording_failure():
            pause = record_trigger_failure(self._context)
            if pause is None:
                retry = (
                    "a retry adopts it" if self._task.durable else "a retry starts another, because of durable=False"
                )
                raise AdfError(
                    f"The trigger of this task failed {MOST_TRIGGER_FAILURES + 1} times ({failure}). If it had started a run of "
                    f"pipeline {self._task.pipeline_name!r}, the run is not affected; {retry}. See the trigger's error above, "
                    "and check whether triggerers and scheduler have the same version of this package."
                ) from failure
            self._task.log.warning(
                "The trigger of this task failed. Starting it again in %.0f s. If a run was started, it is adopted. %s",
                pause,
                failure,
            )
            # If this process is evicted during the pause, the run continues. Because of the next line, the retry adopts the run.
            self._record_end(failed=self._task.durable and not is_last_try(self._context))
            with self._owning(self._started_in_triggerer()) as owned_run:
                owned_run.rest(pause)
        return self._start_trigger_again()

    def _start_trigger_again(self) -> dict[str, Any]:  # noqa: RET503  defer() does not return
        """Defer to a new `AdfStartPipelineTrigger`, which continues the task."""
        # Use the templates of the Dag, because rendered values may be secret. The triggerer renders the templates again.
        again = self._task.in_dag.start_trigger_args
        if again is None or again.timeout is None:
            # The Dag was edited, and a worker now runs the task.
            return self._continue_here()
        left = self._seconds_left()
        timeout = again.timeout if left is None else min(again.timeout, timedelta(seconds=max(1, left)))
        # This try continues, so it has not failed. If another try begins while the trigger waits, the task was cleared.
        self._record_end(failed=False)
        trigger = AdfStartPipelineTrigger(**{**(again.trigger_kwargs or {}), "try_began_at": self._began})
        self._task.defer(trigger=trigger, method_name=again.next_method, timeout=timeout)

    def _started_in_triggerer(self) -> Intent | None:
        """Return the start whose run a kill cancels, even if an earlier try made that start. None if no run can exist."""
        stored = StoredStart.from_json(self._xcom(INTENT_KEY))
        return None if stored is None or stored.intent.phase is Phase.PREPARED else stored.intent

    def _stored_start(self) -> StoredStart | None:
        """Return the start that the next trigger would read.

        Builds this try's start first, so that wrong arguments raise their error.
        """
        key = task_try_key_of(self._context).start_key
        wanted = replace(self._start.intent(self._now), start_key=key)
        stored = self._xcom(INTENT_KEY)
        return StoredStart.from_json(stored) or StoredStart.without_intent(stored, self._xcom(RUN_ID_KEY), wanted)

    def _stored(self) -> Intent | None:
        """Return the start of this try in the form that a try on a worker stores. None if this try has not begun one."""
        stored = self._stored_start()
        if stored is None or not stored.is_of(self._now):
            return None
        return replace(stored.intent, task_try=task_try_of(self._context))

    def _own_start(self) -> Intent | None:
        """Return the start of this try, or of the try that it retries. None if no run can have been started."""
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
        recorded = self._record_end(failed=is_retried)
        if recorded is not None and is_retried:
            # The Dag may be edited so that a worker runs the next try. So store the intent in the task state store as well.
            TaskJournal(self._context).save_best_effort(replace(recorded.intent, task_try=task_try_of(self._context)))

    def _is_retried_after(self, error: BaseException) -> bool:
        """Whether Airflow retries the task: a try is left, and the task's retry policy does not end the task."""
        policy: Any = self._task.retry_policy
        if is_last_try(self._context) or policy is None:
            return not is_last_try(self._context)
        from airflow.sdk.definitions.retry_policy import RetryAction

        ti: Any = self._context["ti"]
        try:
            decision = policy.evaluate(
                exception=error, try_number=ti.try_number, max_tries=ti.max_tries, context=self._context
            )
            return bool(decision.action != RetryAction.FAIL)
        except Exception as e:  # noqa: BLE001  Airflow ignores a policy that fails or returns no decision
            self._task.log.warning("The task's retry policy failed and is ignored; correct it. %s", e)
            return True

    def _record_end(self, *, failed: bool) -> StoredStart | None:
        """Record for the next try in the triggerer whether this try failed and is retried.

        Returns the start with this record; None if nothing was recorded.
        """
        try:
            stored = StoredStart.from_json(self._xcom(INTENT_KEY))
            recorded = None if stored is None else stored.recording(self._now, failed=failed)
            if recorded is not None:
                self._context["ti"].xcom_push(key=INTENT_KEY, value=recorded.to_json())
        except Exception as e:  # noqa: BLE001  a failure to record must hide neither the error nor the success of the try
            consequence = (
                "A retry may replace the run of this try instead of adopting it."
                if failed
                else "After a clear, the next try may adopt the run of this try instead of replacing it."
            )
            self._task.log.warning("Airflow did not store how this try ended. %s %s", consequence, e)
            return None
        return recorded

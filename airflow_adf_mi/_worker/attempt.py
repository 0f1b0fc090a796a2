"""One try of an `AdfRunPipelineOperator` on a worker, from its rendered arguments to its result.

A try may be the task's first, a retry, or the first after a clear. In the last two cases, the run of an earlier try may still be
active. The same try may also resume: after a superseded run has ended, or after a wait in the triggerer. Two things can go wrong:
a second run starts while another run of the task is active, or a task returns a result for a run that was cancelled. The rule:
the stored intent, Airflow's counts of tries and clears, and the arguments of the start decide what to do. And an intent is
stored before its start is sent.

    execute            run()                 stored intent -> start or adopt -> return, wait, or defer
    execute_after      after_superseded()    the superseded run has ended -> run()
    execute_in_turn    in_turn()             a place in the pipeline's full queue may be free -> run()
    execute_complete   complete()            the trigger's event -> result or error
    deferral timeout   on_deferral_timeout() cancel the run if asked to -> AdfRunTimedOut
    failed trigger     retry_trigger()       pause, then run(), at most 6 times in a try
    on_kill            kill()                see `owned_run`

Tasks import this module; Dag files do not.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_adf_mi._airflow import features
from airflow_adf_mi._airflow.names import AirflowSkipException, AirflowTaskTimeout
from airflow_adf_mi._airflow.shared_pool import in_pool, mention_pool
from airflow_adf_mi._airflow.stats import use_in_tasks
from airflow_adf_mi._airflow.task_instance import RUN_ID_KEY, start_of_try, task_try_of, try_keys_of, will_be_retried
from airflow_adf_mi._openlineage.run_record import RunRecord
from airflow_adf_mi._triggerer.eligibility import may_end_in_triggerer
from airflow_adf_mi._worker.awaited_run import AwaitedRun
from airflow_adf_mi._worker.deferrals import defer_for_run
from airflow_adf_mi._worker.owned_run import OwnedRun
from airflow_adf_mi._worker.queue_wait import QueueWait
from airflow_adf_mi._worker.results import Results
from airflow_adf_mi._worker.task_journal import TaskJournal
from airflow_adf_mi._worker.trigger_failures import record_trigger_failure
from airflow_adf_mi._worker.try_deadlines import TryDeadlines
from airflow_adf_mi.adf import metrics
from airflow_adf_mi.adf.config.addresses import RunAddress
from airflow_adf_mi.adf.errors import AdfAmbiguousStartError, AdfError, AdfQueueFullError, AdfTaskKilled
from airflow_adf_mi.adf.models import PipelineRun
from airflow_adf_mi.adf.reporting.conclude import concluding
from airflow_adf_mi.adf.reporting.outputs import parse_outputs
from airflow_adf_mi.adf.reporting.report import (
    LEFT_RUNNING,
    Report,
    raise_if_too_late,
    raise_unless_ended,
    summary,
)
from airflow_adf_mi.adf.routines import run_routine
from airflow_adf_mi.adf.starting.intent import Intent, Phase, is_superseded, read_intent
from airflow_adf_mi.adf.starting.present_runs import reporting_others
from airflow_adf_mi.adf.starting.start import Start
from airflow_adf_mi.adf.starting.start_or_adopt import start_or_adopt
from airflow_adf_mi.adf.starting.started import Skipped, Started, StillActive
from airflow_adf_mi.adf.starting.superseded_run import SUPERSEDED_CHECK_INTERVAL_SECONDS
from airflow_adf_mi.adf.starting.try_keys import TryKeys
from airflow_adf_mi.adf.starting.usual_duration import limit_of
from airflow_adf_mi.adf.timing import REAL_TIME
from airflow_adf_mi.adf.waiting.deadlines import start_of_wait_on_worker
from airflow_adf_mi.adf.waiting.late_run import LateLimit, LateWatch, waits_since
from airflow_adf_mi.adf.waiting.single_run import Ended, Plan, TimedOut, in_words
from airflow_adf_mi.hooks import AdfHook
from airflow_adf_mi.triggers.queue import IS_TURN, REFUSED_AT
from airflow_adf_mi.triggers.wait import late_arguments

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_adf_mi._airflow.task import PipelineTask
    from airflow_adf_mi.adf.config.settings import AdfSettings


class Attempt:
    """One try of a task.

    :param task: the operator, with its templates rendered.
    :param context: the task's context.
    :param is_first_part: whether the try begins here, and does not continue after a deferral.
    """

    def __init__(self, task: PipelineTask, context: Context, *, is_first_part: bool = False) -> None:
        self._task = task
        self._context = context
        self._is_first_part = is_first_part
        self._journal = TaskJournal(context) if task.durable else None
        self._owned_run: OwnedRun | None = None
        self._taken_over: Intent | None = None
        self._waiting_since: float | None = None
        self.run_record = RunRecord()
        self._results = Results(task, context, self.run_record, lambda: self._hook)
        self._called_at = time.time()
        self._deadlines = TryDeadlines(task, lambda: self._began)
        self._queue_wait = QueueWait(task, context, self._deadlines, lambda: self._waits_since)
        use_in_tasks()

    @cached_property
    def _hook(self) -> AdfHook:
        """One hook for the whole try, because each new hook reads the connection again."""
        return AdfHook(self._task.azure_data_factory_conn_id)

    @property
    def _settings(self) -> AdfSettings:
        return self._hook.settings

    @property
    def _began(self) -> float:
        """The moment from which `execution_timeout` counts, in epoch seconds.

        On a worker, Airflow counts it from the call of `execute`. While a task is deferred, only this package counts it,
        from the beginning of the try. That is the only moment which Airflow keeps during a deferral. Airflow 3.1 keeps none.
        """
        return start_of_try(self._context) if self._task.deferrable else self._called_at

    @property
    def _waits_since(self) -> float:
        """The moment from which waits for runs that are already there count, in epoch seconds: the beginning of the try."""
        return self._waiting_since or start_of_try(self._context)

    @cached_property
    def _start(self) -> Start:
        return self._task.start_of(self._settings)

    def run(self) -> dict[str, Any]:  # noqa: RET503  defer_for_run() does not return
        """Start the run, or adopt the run of an earlier try. Then return, wait, or defer."""
        parse_outputs(self._task.outputs)
        stored = self._stored()
        with self._recording_failure(), self._owning(stored or self._possible()) as owned_run:
            begun = self._begin_in_turn(owned_run, stored)
            while isinstance(begun, StillActive):
                self._wait_for_end(owned_run, begun)
                begun = self._begin_in_turn(owned_run, self._stored())
            if isinstance(begun, Skipped):
                self._skip(begun)
            address = begun.intent.address(self._settings)
            self.run_record.began(address, begun.run, adopted=begun.adopted)
            self._results.announce(address.run_id, address.studio_url)
            mention_pool(self._task.log, self._start, begun, in_pool(self._task.pool))
            owned_run.run(reporting_others(self._start, begun, timing=REAL_TIME))
            owned_run.raise_if_killed()
            if not self._task.wait_for_termination:
                return summary(address, begun.run, adopted=begun.adopted)
            if begun.run is not None and begun.run.is_terminal:
                report = Report(address=address, outcome=Ended(run=begun.run), adopted=begun.adopted)
                return self._results.of(owned_run.explain(report))
            plan = self._plan(begun.intent)
            cancel_on_timeout = self._task.cancel_on_timeout and not begun.is_foreign
            limit = owned_run.run(limit_of(self._task.warn_after, address.factory, self._start.pipeline_name))
            if not self._task.deferrable:
                report = owned_run.wait(
                    plan,
                    cancel_on_timeout=cancel_on_timeout,
                    activity_log=self._task.activity_log,
                    late=None if limit is None else self._late_watch(address, limit, begun.run),
                )
                return self._results.of(replace(report, adopted=begun.adopted))
            if self._journal is not None:
                self._journal.save_best_effort(replace(begun.intent, deadline=plan.deadline))
            owned_run.raise_if_killed()
            defer_for_run(
                self._task,
                self._settings,
                address,
                plan,
                "execute_complete",
                cancel_on_timeout=cancel_on_timeout,
                owns_run=not begun.is_foreign,
                adopted=begun.adopted,
                activity_log=self._task.activity_log,
                not_ended_before=begun.not_ended_before,
                end_task_on_success=not self._task.outputs and may_end_in_triggerer(self._task),
                late=late_arguments(limit, begun.run, time.time()),
            )

    def _late_watch(self, address: RunAddress, limit: LateLimit, seen: PipelineRun | None) -> LateWatch:
        return LateWatch(
            address,
            limit,
            waits_since=waits_since(seen, time.time()),
            check_interval=self._task.check_interval,
            on_late=self._results.warn_of_late_run,
        )

    def after_superseded(self, event: dict[str, Any], waiting_since: float | None = None) -> dict[str, Any]:
        """Start the new run, because the wait in the triggerer for another run is over.

        :param waiting_since: the moment from which this try's waits for other runs count, in epoch seconds.
        """
        self._waiting_since = waiting_since
        report = Report.from_json(event)
        raise_if_too_late(self._deadlines.of_try(), time.time(), report.address)
        raise_unless_ended(report, self._task.supersede_timeout)
        return self.run()

    def _skip(self, begun: Skipped) -> NoReturn:
        """Skip the task, because of a run that is already there."""
        address = begun.intent.address(self._settings)
        self._results.announce(address.run_id, address.studio_url)
        raise AirflowSkipException(
            f"Skipped, because {begun.policy}: {address} {in_words(begun.run.status)}. See {address.studio_url}"
        )

    def in_turn(self, event: dict[str, Any], waiting_since: float | None = None) -> dict[str, Any]:
        """Send the start again, because the wait in the triggerer for a place in the pipeline's queue is over.

        :param waiting_since: as for `after_superseded`.
        """
        self._waiting_since = waiting_since
        self._queue_wait.resume(float(event[REFUSED_AT]))
        if not event[IS_TURN]:
            with self._recording_failure():
                raise self._queue_wait.error(self._start)
        return self.run()

    def complete(self, event: dict[str, Any]) -> dict[str, Any]:
        """Raise or return what the trigger reported."""
        if "outcome" not in event:
            return self._adopt_from_provider()
        with self._recording_failure():
            return self._results.of(Report.from_json(event))

    def _adopt_from_provider(self) -> dict[str, Any]:
        """Adopt a run that the Azure provider's operator started before the Dag was moved to this package.

        If the task failed instead, a retry would start the pipeline again, while the first run may still be active.
        """
        with self._recording_failure():
            address = self._awaited_run().address(self._settings)
            if address is None:
                raise AdfError(
                    f"The Azure provider's operator started a run of pipeline {self._task.pipeline_name!r} before the Dag used "
                    "this package, and the run's id is not in this task's XCom run_id. The run is not affected. Find it in ADF "
                    "Studio: the log of this task's start has its id. Clear the task when that run has ended. The cleared task "
                    "starts another run."
                )
            run_id = address.run_id
            self._taken_over = self._start.intent(task_try_of(self._context)).started(run_id)
        self._task.log.info("Run %s was started by the Azure provider's operator. Adopting it.", run_id)
        return self.run()

    def on_deferral_timeout(self) -> dict[str, Any]:
        """Time out, because Airflow's deferral timeout has passed. A trigger that works ends earlier, at our own deadline."""
        with self._recording_failure():
            self._queue_wait.remember(self._stored())
            if self._queue_wait.refused_at is not None:
                raise self._queue_wait.error(self._start)
            address = self._own_run()
            late = TimedOut(deadline_reason=self._deadlines.of_wait(start_of_try(self._context)).reason)
            cancel = self._task.cancel_on_timeout and self._owns(address)
            if self._task.cancel_on_timeout and not cancel:
                self._task.log.warning("%s is not cancelled: no record shows that this task started it.", address)
            if not cancel:
                return self._results.of(Report(address=address, outcome=late, cancel=LEFT_RUNNING))
            with self._hook.client() as client:
                routine = concluding(address, late, cancel_on_timeout=True, timing=REAL_TIME)
                report = run_routine(routine, client, time.sleep)
            return self._results.of(report)

    def _owns(self, address: RunAddress) -> bool:
        """Whether it is certain that this task started the run."""
        return self._awaited_run().is_ours(address)

    def retry_trigger(self, failure: Exception) -> dict[str, Any]:
        """After its trigger failed, continue the wait, a few times only. A broken deployment makes triggers fail, not runs."""
        stored = self._stored()
        with self._recording_failure():
            # While the task waits for a live run, nothing is stored, because nothing was started.
            may_continue = stored is not None or self._start.present_runs.on_live_run == "wait"
            pause = record_trigger_failure(self._context) if self._journal is not None and may_continue else None
            if pause is None:
                awaited = self._awaited_run()
                raise awaited.trigger_failed(failure, awaited.address(self._settings)) from failure
            what = f"run {stored.run_id}" if stored is not None and stored.run_id else "its turn to start"
            self._task.log.warning(
                "The trigger that waited for %s failed. A run is not affected. Will wait again in %.0f s. %s",
                what,
                pause,
                failure,
            )
            with self._owning(stored) as owned_run:
                owned_run.rest(pause)
        return self.run()

    def take_over(self, known: Intent) -> None:
        """Continue with this start of the same try, instead of with the start that the journal holds."""
        self._taken_over = known

    def kill(self) -> None:
        """Cancel the run of this try. Called in a signal handler."""
        if self._owned_run is not None:
            self._owned_run.kill()

    @contextlib.contextmanager
    def _owning(self, stored: Intent | None) -> Iterator[OwnedRun]:
        """Make the run known to `kill`, which can cancel the run during this context and after it."""
        with OwnedRun(
            self._settings,
            cancel_on_kill=self._task.cancel_on_kill,
            journal=self._journal,
            known=stored,
            will_be_retried=lambda: self._task.durable and will_be_retried(self._context),
        ) as owned_run:
            self._owned_run = owned_run
            if self._task.is_killed:
                # Airflow stopped the task before `kill` could reach this run.
                owned_run.kill()
            try:
                yield owned_run
            except AirflowTaskTimeout:
                # An execution_timeout is a timeout: cancel_on_timeout decides about the run, not cancel_on_kill.
                owned_run.on_execution_timeout(cancel=self._task.cancel_on_timeout, is_superseded=self._is_superseded)
                raise

    def _is_superseded(self, known: Intent) -> bool:
        """Whether this try replaces a start, instead of continuing it."""
        return is_superseded(known, task_try_of(self._context), self._start.intent().fingerprint)

    @cached_property
    def _keys(self) -> TryKeys | None:
        """The start keys of the task's tries, if this Airflow has no store that outlives a try."""
        if features.TASK_STATE_STORE or not self._task.durable:
            return None
        return try_keys_of(self._context, self._task.retries or 0, self._task.retry_delay.total_seconds())

    def _possible(self) -> Intent | None:
        """The start of the previous try, which may have a run. A kill cancels that run, also before the service has shown it."""
        now = task_try_of(self._context)
        if self._keys is None or now.try_number <= 1:
            return None
        # A clear raises max_tries. So another max_tries makes the start one from before a clear (`is_superseded`).
        max_tries = now.max_tries if self._keys.is_retry else -1
        earlier = replace(now, try_number=now.try_number - 1, max_tries=max_tries)
        sent = replace(self._start.intent(earlier), phase=Phase.SENDING)
        return replace(sent, start_key=self._keys.key(earlier.try_number))

    def _begin_in_turn(self, owned_run: OwnedRun, stored: Intent | None) -> Started | StillActive | Skipped:
        """Begin, and wait for a place while the queue of the pipeline is full. A deferrable task resumes in `execute_in_turn`."""
        while True:
            self._queue_wait.remember(stored)
            try:
                return self._begin(owned_run, stored)
            except AdfQueueFullError as e:
                # This try has stored its start.
                self._is_first_part = False
                stored = self._stored()
                self._queue_wait.wait(owned_run, e, stored, self._start, self._settings)

    def _begin(self, owned_run: OwnedRun, stored: Intent | None) -> Started | StillActive | Skipped:
        routine = start_or_adopt(
            replace(self._start, first_refused_at=self._queue_wait.refused_at),
            stored,
            task_try_of(self._context),
            cancel_superseded=self._task.cancel_on_kill,
            timing=REAL_TIME,
            keys=self._keys,
        )
        return owned_run.begin(routine)

    def _wait_for_end(self, owned_run: OwnedRun, begun: StillActive) -> None:
        """Wait for a run that must end before the start: a superseded run, or any run if `on_live_run` is "wait".

        A deferrable task waits in the triggerer, and resumes in `execute_after`.
        """
        seconds = self._task.supersede_timeout
        address = begun.intent.address(self._settings)
        limit = self._deadlines.of_try()
        at = min(time.time() + seconds, float("inf") if limit is None else limit.at)
        reason = None
        if begun.waits_for_any:
            # All waits of this try for runs that are already there end at one moment.
            deadline = self._deadlines.of_wait(self._waits_since)
            at, reason = deadline.at, deadline.reason
        plan = Plan(
            check_interval=min(self._task.check_interval, SUPERSEDED_CHECK_INTERVAL_SECONDS),
            deadline=at,
            deadline_reason=reason,
        )
        self._task.log.info("%s is %s. A new run starts when it has ended.", address, begun.run.status)
        if self._task.deferrable:
            defer_for_run(
                self._task,
                self._settings,
                address,
                plan,
                "execute_after",
                cancel_on_timeout=False,
                owns_run=begun.is_ours,
                kwargs={"waiting_since": self._waits_since},
            )
        report = owned_run.watch(address, plan)
        raise_if_too_late(limit, time.time(), address)
        raise_unless_ended(report, seconds)

    def _plan(self, intent: Intent) -> Plan:
        """Return how to wait. If this same try has already begun to wait, the deadline stays the same."""
        if intent.deadline is None:
            # Time in our own queue, and the search for a lost start, count like time in the queue of the service.
            counts_from = start_of_wait_on_worker(
                now=time.time(),
                try_began=start_of_try(self._context),
                sent_at=intent.sent_at,
                refused_at=intent.first_refused_at,
            )
            deadline = self._deadlines.of_wait(counts_from)
        else:
            deadline = self._deadlines.kept(intent.deadline)
        return Plan(check_interval=self._task.check_interval, deadline=deadline.at, deadline_reason=deadline.reason)

    def _own_run(self) -> RunAddress:
        """Return the address of the run that this try has waited for. Raises `AdfError` if none is known."""
        awaited = self._awaited_run()
        address = awaited.address(self._settings)
        if address is None:
            raise awaited.timed_out_without_a_run()
        return address

    def _awaited_run(self) -> AwaitedRun:
        return AwaitedRun(
            start=self._start,
            stored=self._stored(),
            pushed=self._xcom(RUN_ID_KEY),
            now=task_try_of(self._context),
            durable=self._journal is not None,
        )

    def _stored(self) -> Intent | None:
        """Return the intent that an earlier try, or an earlier part of this try, has stored.

        Builds this try's start first, so that wrong arguments raise their error.
        """
        if self._taken_over is not None:
            return self._taken_over
        otherwise = self._start.intent(task_try_of(self._context))
        if self._journal is None or (self._is_first_part and not features.TASK_STATE_STORE):
            # XComs of earlier tries are deleted, and this try has not stored any. Airflow warns if an XCom does not exist.
            return None
        return read_intent(self._journal.stored(), otherwise)

    @contextlib.contextmanager
    def _recording_failure(self) -> Iterator[None]:
        """Record in the journal that the try failed by itself. The next try is then a retry, not a clear."""
        try:
            yield
        except (AdfTaskKilled, AirflowSkipException):
            raise
        except (Exception, AirflowTaskTimeout) as e:
            if isinstance(e, AdfAmbiguousStartError):
                metrics.count(metrics.AMBIGUOUS_STARTS)
            self._record_own_failure(e)
            raise

    def _record_own_failure(self, error: BaseException) -> None:
        if self._journal is not None:
            self._journal.failed(task_try_of(self._context))

    def _xcom(self, key: str) -> Any:
        ti = self._context["ti"]
        return ti.xcom_pull(task_ids=ti.task_id, key=key, map_indexes=ti.map_index)

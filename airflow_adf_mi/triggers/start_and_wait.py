"""The trigger of a task in triggerer mode: it starts a run, waits for its end, and ends the task if the run succeeds.

The scheduler hands the task to a triggerer, which builds this trigger from the stored arguments. If the triggerer is killed,
another triggerer builds the trigger again and calls `run` from the beginning. So nothing that matters may exist only in this
object. The XCom `adf_intent` records what was started (`_triggerer/xcom_journal`).

    render templates --> read the connection --> start or adopt --> wait --> push the result, end the task
           |                     |                     |              |
           +---------------------+---------------------+--------------+--> record that the try failed, fire an event:
                                                                           a worker ends the task (raises the error,
                                                                           or reads the outputs)

Airflow ends the trigger by cancelling its asyncio task, for one of five reasons. After a mark by a user, `cancel_on_kill`
decides about the run. After a clear, the next try ends the run. After Airflow's timeout, a worker decides about the run. After
a takeover by another triggerer, or a shutdown, the run continues.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, fields
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

import jinja2
from airflow.triggers.base import BaseTrigger, StartTriggerArgs, TriggerEvent

from airflow_adf_mi._airflow.arguments import build_start
from airflow_adf_mi._airflow.connection_cache import settings_of
from airflow_adf_mi._airflow.empty_window import warn_of_empty_window
from airflow_adf_mi._airflow.kept_failure import FAILURE_KEY
from airflow_adf_mi._airflow.shared_pool import IN_TRIGGERER_MODE, mention_pool
from airflow_adf_mi._airflow.stats import use_in_triggerer
from airflow_adf_mi._airflow.task_instance import RUN_ID_KEY
from airflow_adf_mi._airflow.xcoms import read_xcom
from airflow_adf_mi._openlineage.run_record import is_openlineage_on
from airflow_adf_mi._triggerer.cancel_on_kill import begin_kill, hold
from airflow_adf_mi._triggerer.cleared import TaskCleared, fired_once
from airflow_adf_mi._triggerer.finish import LINK_KEY, RETURN_VALUE, end_in_triggerer, linked_later
from airflow_adf_mi._triggerer.start import RunSkipped, TriggererStart
from airflow_adf_mi._triggerer.stored_start import StoredStart
from airflow_adf_mi._triggerer.xcom_journal import INTENT_KEY, TriggerJournal
from airflow_adf_mi.adf.api.shared_client import shared_client
from airflow_adf_mi.adf.error_json import error_to_json
from airflow_adf_mi.adf.errors import AdfError
from airflow_adf_mi.adf.reporting.activity_log import ActivityLogMode
from airflow_adf_mi.adf.reporting.outputs import parse_outputs
from airflow_adf_mi.adf.reporting.report import summary
from airflow_adf_mi.adf.routines import run_routine_async
from airflow_adf_mi.adf.starting.create_run import START_PATIENCE_SECONDS
from airflow_adf_mi.adf.starting.intent import Phase
from airflow_adf_mi.adf.starting.present_runs import reporting_others
from airflow_adf_mi.adf.starting.started import Started
from airflow_adf_mi.adf.timing import REAL_TIME
from airflow_adf_mi.adf.waiting.deadlines import (
    TIMEOUT_SLACK_SECONDS,
    TRIGGERER_MARGIN,
    Deadline,
    deadline_of,
    execution_deadline,
    in_seconds,
    start_of_wait,
)
from airflow_adf_mi.adf.waiting.single_run import Plan
from airflow_adf_mi.triggers.wait import AdfPipelineRunTrigger, run_arguments, stored_arguments, was_killed

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_adf_mi._airflow.task import PipelineTask
    from airflow_adf_mi.adf.config.policies import OnAmbiguousStart, OnLiveRun, OnSucceededRun
    from airflow_adf_mi.adf.config.settings import AdfSettings

log = logging.getLogger(__name__)

FOR_A_WORKER = "for_a_worker"
"""Member of an event that asks a worker to continue the task instead of the trigger."""
NOT_STARTED, STARTED, SKIPPED = "not_started", "started", "skipped"
"""Members of events: the error of a start, the summary of a run that is not waited for, and why the task is skipped."""


@dataclass(kw_only=True, eq=False, repr=False)
class AdfStartPipelineTrigger(BaseTrigger):
    """
    Runs a whole task, an `AdfRunPipelineOperator` with ``start_from_trigger=True``, from its start to its success.

    Fires :class:`~airflow.triggers.base.TaskSuccessEvent`, which ends the task. A worker ends the task if the run could not be
    started, did not succeed, or has outputs to read. Then the trigger fires the event that
    `AdfRunPipelineOperator.execute_complete` handles. Airflow renders the templated arguments in the triggerer.

    Airflow stores the class path and these arguments with every such task. So arguments may be added, but never renamed or
    removed. They have the same meaning as in :class:`~airflow_adf_mi.operators.AdfRunPipelineOperator`, except these:

    :param timeout_slack: seconds that Airflow's own timeout of this trigger adds to ``timeout``.
    :param execution_timeout: the ``execution_timeout`` of the task, in seconds.
    :param push_result: whether the summary is pushed as the XCom ``return_value``.
    :param try_began_at: epoch seconds at which the try began, if this cannot be computed from Airflow's timeout.
    """

    azure_data_factory_conn_id: str
    pipeline_name: Any
    resource_group_name: Any = None
    factory_name: Any = None
    parameters: Any = None
    reference_pipeline_run_id: Any = None
    is_recovery: Any = None
    start_activity_name: Any = None
    start_from_failure: Any = None
    outputs: Any = None
    wait_for_termination: bool = True
    timeout: float
    check_interval: float
    cancel_on_kill: bool = True
    cancel_on_timeout: bool = True
    durable: bool = True
    on_ambiguous_start: OnAmbiguousStart = "fail"
    correlation_parameter: str | None = None
    check_parameters: bool = True
    retry_from_failure: Any = "never"
    on_live_run: OnLiveRun = "start"
    on_succeeded_run: OnSucceededRun = "start"
    succeeded_within: float | None = None
    start_settle: float
    supersede_timeout: float
    activity_log: ActivityLogMode = "off"
    timeout_slack: float
    execution_timeout: float | None = None
    push_result: bool = True
    try_began_at: float | None = None

    def __post_init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # BaseTrigger is not annotated
        self._context: Context | None = None
        self._not_rendered: Exception | None = None
        self._journal: TriggerJournal | None = None
        self._start: TriggererStart | None = None
        self._killing: asyncio.Task[None] | None = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return "airflow_adf_mi.triggers.AdfStartPipelineTrigger", stored_arguments(self)

    def get_template_env(self, dag: Any = None) -> jinja2.Environment:
        """Return the template environment. An undefined name raises an error, as in a Dag, and is not rendered as empty text."""
        environment = super().get_template_env(dag)
        environment.undefined = jinja2.StrictUndefined
        return environment

    def render_template_fields(self, context: Context, jinja_env: jinja2.Environment | None = None) -> None:
        self._context = context
        warn_of_empty_window(log, self, context)
        try:
            super().render_template_fields(context, jinja_env)
        except Exception as e:  # noqa: BLE001  templates raise anything; `run` raises it, after the failure is recorded
            self._not_rendered = e

    def __repr__(self) -> str:
        # Airflow's own form shows all arguments, and their rendered values may be secret.
        return f"<{self.serialize()[0]} pipeline_name={self.pipeline_name!r}>"

    async def run(self) -> AsyncIterator[TriggerEvent]:
        use_in_triggerer()
        try:
            event = await fired_once(self, self._event)
        except asyncio.CancelledError as e:
            if was_killed(self, e):
                self._kill()
            elif self._start is not None:
                # Airflow's own timeout, or the end of this triggerer.
                self._start.stop()
            raise
        yield event

    async def on_kill(self) -> None:
        """Cancel the run if the task is over because a user has marked the task."""
        killing = self._kill()
        if killing is not None:
            await asyncio.shield(killing)

    async def _event(self) -> TriggerEvent:
        if self._context is None:
            # The Dag was edited after this trigger was stored, and its newest version runs the task on a worker. So a worker
            # continues the task.
            return TriggerEvent({FOR_A_WORKER: True})  # type: ignore[no-untyped-call]  # TriggerEvent is not annotated
        self._journal = TriggerJournal(self._context, durable=self.durable, began=self._began)
        try:
            if self._not_rendered is not None:
                raise self._not_rendered
            # Wrong outputs must raise their error before anything is started.
            parse_outputs(self.outputs)
            adf = await settings_of(self.azure_data_factory_conn_id)
            started = await self._started(adf, self._journal)
        except RunSkipped as e:
            await self._forget()
            return TriggerEvent({SKIPPED: e.to_json(adf)})  # type: ignore[no-untyped-call]  # TriggerEvent is not annotated
        except AdfError as e:
            await self._forget_what_was_replaced()
            return await self._handed_over({NOT_STARTED: error_to_json(e)})
        except TaskCleared:
            raise
        except (
            Exception
        ):  # from a template, a secrets backend, or a defect: a worker starts the trigger again, or fails the task
            await self._record_failure(self._journal)
            raise
        return await self._until_ended(adf, started)

    async def _started(self, adf: AdfSettings, journal: TriggerJournal) -> Started:
        started = await self._begin_with(adf, journal).begin()
        await self._forget(failure_only=started.adopted and not started.is_foreign)
        started.announce(started.intent.address(adf))
        await self._report_others(adf, started)
        if is_openlineage_on():
            log.info("There is no OpenLineage event of this task: Airflow calls no listeners in the triggerer.")
        return started

    async def _report_others(self, adf: AdfSettings, started: Started) -> None:
        start = build_start(self, adf, parameters=self.parameters)
        mention_pool(log, start, started, IN_TRIGGERER_MODE)
        async with shared_client(adf) as client:
            await run_routine_async(reporting_others(start, started, timing=REAL_TIME), client, asyncio.sleep)

    async def _forget(self, *, failure_only: bool = False) -> None:
        """Delete why an earlier try failed, and the results of its run.

        :param failure_only: this try has adopted that run, so the results of the run stay.
        """
        if self._journal is not None and self._journal.task_try.try_number > 1:
            results = [] if failure_only else [RETURN_VALUE, LINK_KEY, *parse_outputs(self.outputs)]
            await self._journal.forget([*results, FAILURE_KEY])

    async def _forget_what_was_replaced(self) -> None:
        """Delete the XComs of a run that this try had to replace, if this try has no known run of its own."""
        if self._journal is None or not self._journal.is_read:
            return
        latest, is_superseded = self._journal.latest, self._journal.holds_superseded_start
        if is_superseded and self._journal.has_intent:
            # `run_id` is deleted only if there is an intent. Otherwise the next try can find the run only by `run_id`.
            await self._journal.forget([RUN_ID_KEY])
        if latest is None or latest.run_id is None or is_superseded:
            await self._forget()

    def _begin_with(self, adf: AdfSettings, journal: TriggerJournal) -> TriggererStart:
        start = build_start(self, adf, parameters=self.parameters)
        began = self._began or time.time()
        self._start = TriggererStart(
            adf,
            start,
            journal,
            cancel_on_kill=self.cancel_on_kill,
            supersede_timeout=self.supersede_timeout,
            check_interval=self.check_interval,
            began=began,
            deadline_from=lambda counts_from: deadline_of(
                self.timeout,
                counts_from=counts_from,
                execution_timeout=self.execution_timeout,
                try_began=began,
                margin=TRIGGERER_MARGIN,
            ),
            execution_deadline=execution_deadline(self.execution_timeout, try_began=began, margin=TRIGGERER_MARGIN),
        )
        return self._start

    async def _until_ended(self, adf: AdfSettings, started: Started) -> TriggerEvent:
        address = started.intent.address(adf)
        if not self.wait_for_termination:
            result = summary(address, started.run, adopted=started.adopted)
            return await self._ended(result) or await self._handed_over({STARTED: result})
        deadline = self._deadline(started)
        plan = Plan(check_interval=self.check_interval, deadline=deadline.at, deadline_reason=deadline.reason)
        waiting = AdfPipelineRunTrigger(
            **run_arguments(adf, address, plan),
            owns_run=not started.is_foreign,
            cancel_on_kill=self.cancel_on_kill,
            cancel_on_timeout=self.cancel_on_timeout and not started.is_foreign,
            adopted=started.adopted,
            activity_log=self.activity_log,
            not_ended_before=started.not_ended_before,
        )
        async with linked_later(self.task_instance, address.studio_url):
            report = await waiting.report()
        if not self.outputs and report.is_success:
            event = await self._ended(summary(address, report.outcome.run, adopted=started.adopted))
            if event is not None:
                return event
        return await self._handed_over(report.to_json())

    async def _handed_over(self, payload: Mapping[str, Any]) -> TriggerEvent:
        """Record this try as failed until a worker has ended it. Return the event with which the task continues on a worker."""
        if self._journal is not None:
            await self._record_failure(self._journal)
        return TriggerEvent(payload)  # type: ignore[no-untyped-call]  # TriggerEvent is not annotated

    async def _record_failure(self, journal: TriggerJournal) -> None:
        try:
            await journal.hand_over()
        except AdfError as e:
            log.warning(
                "Airflow did not store that this try failed. A retry will replace the run of this try instead of adopting it. %s",
                e,
            )

    async def _ended(self, result: dict[str, Any]) -> TriggerEvent | None:
        link = {LINK_KEY: result["studio_url"]}
        return await end_in_triggerer(self.task_instance, result if self.push_result else None, xcoms=link)

    @cached_property
    def _began(self) -> float | None:
        """When Airflow began this try. Airflow's timeout for this trigger counts from that moment."""
        if self.try_began_at is not None:
            return self.try_began_at
        timeout_after: Any = getattr(self, "timeout_after", None)
        if timeout_after is None:
            return None
        allowed = self.timeout + self.timeout_slack
        return float(timeout_after.timestamp()) - min(allowed, self.execution_timeout or allowed)

    def _deadline(self, started: Started) -> Deadline:
        now = time.time()
        began = now if self._began is None else self._began
        seen = started.run.started_at if started.run else None
        counts_from = start_of_wait(
            now=now,
            try_began=began,
            first_sent_at=started.intent.first_sent_at,
            run_began=None if seen is None else seen.timestamp(),
        )
        return deadline_of(
            self.timeout,
            counts_from=counts_from,
            execution_timeout=self.execution_timeout,
            try_began=began,
            margin=TRIGGERER_MARGIN,
        )

    def _kill(self) -> asyncio.Task[None] | None:
        """Begin to handle the run of a killed task, once."""
        if self._killing is None and self.task_instance is not None:
            self._killing = self._start.kill(self.task_instance) if self._start else hold(self._kill_before_start())
        return self._killing

    async def _kill_before_start(self) -> None:
        """Handle a kill that came while the connection was read. An earlier triggerer may have started the run."""
        try:
            adf = await settings_of(self.azure_data_factory_conn_id)
            if self._journal is not None:
                await self._begin_with(adf, self._journal).kill(self.task_instance)
                return
            stored = StoredStart.from_json(await read_xcom(self.task_instance, INTENT_KEY))
            is_foreign = stored is not None and stored.intent.is_foreign
            if stored is not None and stored.intent.phase is not Phase.PREPARED and not is_foreign:
                address = stored.intent.address(adf)
                await begin_kill(self.task_instance, adf, address, cancel=self.cancel_on_kill)
        except AdfError as e:
            log.warning(
                "The task was killed, and it is not known whether it has a run. If a run is active, cancel it in ADF Studio. %s",
                e,
            )


def start_trigger_args(task: PipelineTask) -> StartTriggerArgs:
    """Return the stored form of the trigger of a task in triggerer mode."""
    # Airflow's timeout counts from the moment at which the scheduler hands the task to the triggerer. The start takes some time.
    timeout_slack = TIMEOUT_SLACK_SECONDS + task.supersede_timeout + START_PATIENCE_SECONDS + task.start_settle
    own: dict[str, Any] = {
        "timeout_slack": timeout_slack,
        "execution_timeout": in_seconds(task.execution_timeout),
        "push_result": task.do_xcom_push,
        "try_began_at": None,
    }
    names = [field.name for field in fields(AdfStartPipelineTrigger)]
    trigger = AdfStartPipelineTrigger(**{name: own[name] if name in own else getattr(task, name) for name in names})
    trigger_cls, trigger_kwargs = trigger.serialize()
    return StartTriggerArgs(
        trigger_cls=trigger_cls,
        trigger_kwargs=trigger_kwargs,
        next_method="execute_complete",
        timeout=timedelta(seconds=task.timeout + timeout_slack),
    )

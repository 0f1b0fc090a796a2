"""The trigger that waits for the end of a run in the triggerer."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_adf_mi._airflow import features
from airflow_adf_mi._airflow.stats import use_in_triggerer
from airflow_adf_mi._triggerer.cancel_on_kill import begin_kill
from airflow_adf_mi._triggerer.cleared import fired_once
from airflow_adf_mi._triggerer.finish import end_in_triggerer
from airflow_adf_mi._triggerer.late_run import warning_of_late_run
from airflow_adf_mi.adf.api.shared_client import shared_client
from airflow_adf_mi.adf.config.addresses import FactoryRef, RunAddress
from airflow_adf_mi.adf.config.settings import AdfSettings
from airflow_adf_mi.adf.config.validation import required_text
from airflow_adf_mi.adf.models import PipelineRun
from airflow_adf_mi.adf.reporting.activity_log import ActivityLog, ActivityLogMode, accompanied
from airflow_adf_mi.adf.reporting.conclude import concluding
from airflow_adf_mi.adf.reporting.report import Report, summary
from airflow_adf_mi.adf.routines import run_routine_async
from airflow_adf_mi.adf.timing import REAL_TIME
from airflow_adf_mi.adf.waiting.late_run import LateLimit, LateRun, LateWatch, given_limit, waits_since
from airflow_adf_mi.adf.waiting.poller import wait_shared
from airflow_adf_mi.adf.waiting.single_run import Plan

log = logging.getLogger(__name__)

USER_ACTION = "__airflow_user_action__"
"""Airflow cancels a trigger with this message if a user acted on its task. If the triggerer stops, there is no message. Before
Airflow 3.3, there never is one."""


def run_arguments(adf: AdfSettings, address: RunAddress, plan: Plan) -> dict[str, Any]:
    """Return the arguments of `AdfPipelineRunTrigger` that name the run, and how to wait for the run."""
    return {
        "settings": adf.to_json(),
        "resource_group_name": address.factory.resource_group_name,
        "factory_name": address.factory.factory_name,
        "run_id": address.run_id,
        "pipeline_name": address.pipeline_name,
        "check_interval": plan.check_interval,
        "deadline": plan.deadline,
        "deadline_reason": plan.deadline_reason,
    }


def late_arguments(limit: LateLimit | None, seen: PipelineRun | None, now: float) -> dict[str, Any]:
    """Return the arguments of `AdfPipelineRunTrigger` that decide when the run is late.

    :param seen: the run as the service has shown it, if it has.
    :param now: epoch seconds.
    """
    if limit is None:
        return {}
    return {"warn_after": limit.seconds, "warn_reason": limit.reason, "waits_since": waits_since(seen, now)}


def stored_arguments(trigger: Any) -> dict[str, Any]:
    """Return the arguments from which Airflow builds the trigger again."""
    return {field.name: getattr(trigger, field.name) for field in fields(trigger)}


def was_killed(trigger: BaseTrigger, cancelled: asyncio.CancelledError) -> bool:
    """Whether a user may have acted on the task, so that Airflow cancelled the trigger. A timeout is no kill.

    Without a message, the state of the task must decide. `begin_kill` asks for this state.
    """
    timeout_after: Any = getattr(trigger, "timeout_after", None)
    is_late = timeout_after is not None and timeout_after.timestamp() < time.time()
    return not is_late and (not features.TRIGGER_ON_KILL or cancelled.args[:1] == (USER_ACTION,))


@dataclass(kw_only=True, eq=False, repr=False)
class AdfPipelineRunTrigger(BaseTrigger):
    """
    Waits for a pipeline run to end, and fires one event: :meth:`airflow_adf_mi.adf.reporting.report.Report.to_json`.

    Airflow stores the class path and these arguments with every deferred task. So arguments may be added, but never renamed
    or removed.

    :param settings: the connection, as :meth:`airflow_adf_mi.adf.config.settings.AdfSettings.to_json` stores it; no secret.
    :param resource_group_name: the factory's resource group.
    :param factory_name: the factory.
    :param run_id: the run.
    :param pipeline_name: the pipeline; used in texts only.
    :param check_interval: seconds between status checks.
    :param deadline: epoch seconds at which the wait ends. None: the wait has no deadline.
    :param deadline_reason: which argument set the deadline, for texts: "timeout of 600 s".
    :param owns_run: whether the task started this run. If not, the run is never cancelled.
    :param cancel_on_kill: cancel an owned run when a user marks the deferred task as failed or succeeded.
    :param cancel_on_timeout: cancel an owned run when the deadline passes.
    :param adopted: whether the run was adopted: found by a search or in the stored intent, instead of in the answer to the
        start. Used in the summary only.
    :param activity_log: which lines about the run's activities are logged: ``"live"``, ``"summary"`` or ``"off"``.
    :param not_ended_before: epoch seconds before which the run had certainly not ended. None: the wait begins with a status
        check.
    :param end_task_on_success: if the run succeeded, end the task in the triggerer, without a worker.
    :param push_result: when the task ends in the triggerer, push the summary as the XCom ``return_value``.
    :param warn_after: seconds after which the run is late. None: no warning.
    :param warn_reason: where ``warn_after`` comes from, for texts. None: from the author.
    :param waits_since: epoch seconds from which ``warn_after`` counts while the service shows no start of the run. None: from
        the start of this trigger.
    """

    settings: Mapping[str, Any]
    resource_group_name: str
    factory_name: str
    run_id: str
    pipeline_name: str | None = None
    check_interval: float
    deadline: float | None = None
    deadline_reason: str | None = None
    owns_run: bool
    cancel_on_kill: bool = True
    cancel_on_timeout: bool = True
    adopted: bool = False
    activity_log: ActivityLogMode = "off"
    not_ended_before: float | None = None
    end_task_on_success: bool = False
    push_result: bool = True
    warn_after: float | None = None
    warn_reason: str | None = None
    waits_since: float | None = None

    def __post_init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # BaseTrigger is not annotated
        self._killing: asyncio.Task[None] | None = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return "airflow_adf_mi.triggers.AdfPipelineRunTrigger", stored_arguments(self)

    @cached_property
    def _adf(self) -> AdfSettings:
        return AdfSettings.from_json(self.settings)

    @cached_property
    def _factory(self) -> FactoryRef:
        return self._adf.factory(self.resource_group_name, self.factory_name)

    @cached_property
    def _address(self) -> RunAddress:
        return self._adf.run_address(self._factory, self.run_id, self.pipeline_name)

    async def run(self) -> AsyncIterator[TriggerEvent]:
        use_in_triggerer()
        try:
            event = await fired_once(self, self._event)
        except asyncio.CancelledError as e:
            if was_killed(self, e):
                self._kill()
                if not self.owns_run:
                    log.info("%s continues, because this task only watches it.", self._address)
            raise
        yield event

    async def _event(self) -> TriggerEvent:
        report = await self.report()
        # In dag.test() a trigger has no task instance, so there is no task to end.
        if self.end_task_on_success and report.is_success and self.task_instance is not None:
            result = summary(report.address, report.outcome.run, adopted=report.adopted)
            event = await end_in_triggerer(self.task_instance, result if self.push_result else None)
            if event is not None:
                return event
        return TriggerEvent(report.to_json())  # type: ignore[no-untyped-call]  # TriggerEvent is not annotated

    async def report(self, ti: Any = None) -> Report:
        """Wait, without firing an event. Raises `AdfConfigurationError` if there is no run id.

        :param ti: the task instance, if this trigger has none of its own.
        """
        # No stricter check: a run id of any form that the service uses can be waited for.
        required_text("run_id", self.run_id)
        plan = Plan(check_interval=self.check_interval, deadline=self.deadline, deadline_reason=self.deadline_reason)
        activities = ActivityLog(self._factory, self.run_id, self.activity_log, REAL_TIME, self.deadline)
        async with shared_client(self._adf) as client:
            async with accompanied(activities, client), warning_of_late_run(ti or self.task_instance) as on_late:
                outcome = await wait_shared(
                    self._adf,
                    self._factory,
                    self.run_id,
                    plan,
                    not_ended_before=self.not_ended_before,
                    late=self._late_watch(on_late),
                )
            await run_routine_async(activities.at_end(outcome), client, asyncio.sleep)
            routine = concluding(
                self._address,
                outcome,
                cancel_on_timeout=self.owns_run and self.cancel_on_timeout,
                timing=REAL_TIME,
            )
            return replace(await run_routine_async(routine, client, asyncio.sleep), adopted=self.adopted)

    def _late_watch(self, on_late: Callable[[LateRun], object]) -> LateWatch | None:
        if self.warn_after is None:
            return None
        reason = self.warn_reason
        return LateWatch(
            self._address,
            given_limit(self.warn_after) if reason is None else LateLimit(seconds=self.warn_after, reason=reason),
            waits_since=time.time() if self.waits_since is None else self.waits_since,
            check_interval=self.check_interval,
            on_late=on_late,
        )

    async def on_kill(self) -> None:
        """Cancel an owned run if the task is over because a user has marked the task."""
        killing = self._kill()
        if killing is not None:
            await asyncio.shield(killing)

    def _kill(self) -> asyncio.Task[None] | None:
        """Cancel the run in a background task, once.

        `run` also calls this method, because Airflow may not call `on_kill` if it kills many triggers at once.
        """
        if self._killing is None and self.owns_run and self.task_instance is not None:
            self._killing = begin_kill(self.task_instance, self._adf, self._address, cancel=self.cancel_on_kill)
        return self._killing

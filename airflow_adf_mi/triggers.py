"""The trigger that waits for a run without a worker."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Mapping
from functools import cached_property
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_adf_mi.adf.drive import drive_async
from airflow_adf_mi.adf.errors import AdfError
from airflow_adf_mi.adf.report import RunAddress, reporting
from airflow_adf_mi.adf.settings import AdfSettings, FactoryRef
from airflow_adf_mi.adf.sharing import shared_client
from airflow_adf_mi.adf.watch import Plan, cancelling

# Task states in which a task is over. on_kill also fires when another triggerer takes this trigger over and when the task
# is cleared; in both, the state is another one.
_OVER = frozenset({"failed", "success", "skipped", "removed", "upstream_failed"})

_cancels: set[asyncio.Task[None]] = set()
"""Cancels under way: Airflow 3.3.2 interrupts on_kill after about a second, so it cannot hold them itself."""


class AdfPipelineRunTrigger(BaseTrigger):
    """
    Waits for a pipeline run to end, and fires one event: :meth:`airflow_adf_mi.adf.report.Report.to_json`.

    The class path and these arguments are stored with every deferred task: they are only ever added to.

    :param settings: the connection, as :meth:`airflow_adf_mi.adf.settings.AdfSettings.to_json` stores it; no secret.
    :param resource_group_name: the factory's resource group.
    :param factory_name: the factory.
    :param run_id: the run.
    :param pipeline_name: for texts only.
    :param check_interval: seconds between looks.
    :param deadline: epoch seconds after which the wait ends; None waits for ever.
    :param owns_run: whether the task started this run. A run that is only watched is never cancelled.
    :param cancel_on_kill: cancel an owned run when a user marks the deferred task as failed or succeeded.
    :param cancel_on_timeout: cancel an owned run when the deadline passes.
    """

    def __init__(
        self,
        *,
        settings: Mapping[str, Any],
        resource_group_name: str,
        factory_name: str,
        run_id: str,
        pipeline_name: str | None = None,
        check_interval: float,
        deadline: float | None = None,
        owns_run: bool,
        cancel_on_kill: bool = True,
        cancel_on_timeout: bool = True,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # BaseTrigger is not annotated
        self.settings = settings
        self.resource_group_name = resource_group_name
        self.factory_name = factory_name
        self.run_id = run_id
        self.pipeline_name = pipeline_name
        self.check_interval = check_interval
        self.deadline = deadline
        self.owns_run = owns_run
        self.cancel_on_kill = cancel_on_kill
        self.cancel_on_timeout = cancel_on_timeout

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return (
            "airflow_adf_mi.triggers.AdfPipelineRunTrigger",
            {
                "settings": dict(self.settings),
                "resource_group_name": self.resource_group_name,
                "factory_name": self.factory_name,
                "run_id": self.run_id,
                "pipeline_name": self.pipeline_name,
                "check_interval": self.check_interval,
                "deadline": self.deadline,
                "owns_run": self.owns_run,
                "cancel_on_kill": self.cancel_on_kill,
                "cancel_on_timeout": self.cancel_on_timeout,
            },
        )

    @cached_property
    def _adf(self) -> AdfSettings:
        return AdfSettings.from_json(self.settings)

    @cached_property
    def _factory(self) -> FactoryRef:
        return self._adf.factory(self.resource_group_name, self.factory_name)

    async def run(self) -> AsyncIterator[TriggerEvent]:
        address = RunAddress(
            run_id=self.run_id,
            factory=self._factory,
            studio_url=self._adf.studio_run_url(self._factory, self.run_id),
            pipeline_name=self.pipeline_name,
        )
        routine = reporting(
            address,
            Plan(check_interval=self.check_interval, deadline=self.deadline),
            cancel_on_timeout=self.owns_run and self.cancel_on_timeout,
            clock=time.time,
            jitter=random.random,
        )
        async with shared_client(self._adf) as client:
            report = await drive_async(routine, client, asyncio.sleep)
        yield TriggerEvent(report.to_json())  # type: ignore[no-untyped-call]  # nor is its event

    async def on_kill(self) -> None:
        """Cancel an owned run, if the task is over because a user said so."""
        if not self.owns_run:
            return
        cancel = asyncio.create_task(self._cancel_if_over())
        _cancels.add(cancel)
        cancel.add_done_callback(_cancels.discard)
        await asyncio.shield(cancel)

    async def _cancel_if_over(self) -> None:
        state = await self._task_state()
        if state not in _OVER:
            self.log.info("Run %s goes on: the task is %s, not over.", self.run_id, state or "cleared")
            return
        if not self.cancel_on_kill:
            url = self._adf.studio_run_url(self._factory, self.run_id)
            self.log.warning("Run %s was left running, as cancel_on_kill=False says. See %s", self.run_id, url)
            return
        routine = cancelling(self._factory, self.run_id, clock=time.time, jitter=random.random)
        try:
            async with shared_client(self._adf) as client:
                accepted = await drive_async(routine, client, asyncio.sleep)
        except AdfError as e:
            self.log.error("Run %s could not be cancelled after the task was marked %s: %s", self.run_id, state, e)
            return
        said = "was cancelled" if accepted else "had already ended"
        self.log.info("Run %s %s: the task was marked %s.", self.run_id, said, state)

    async def _task_state(self) -> str | None:
        """The task's state now, by the only look-up that works in a trigger."""
        ti = self.task_instance
        if ti is None:
            return None
        from airflow.sdk.execution_time.comms import GetTaskStates, TaskStatesResult
        from airflow.sdk.execution_time.task_runner import SUPERVISOR_COMMS

        answer = await SUPERVISOR_COMMS.asend(
            GetTaskStates(dag_id=ti.dag_id, run_ids=[ti.run_id], task_ids=[ti.task_id], map_index=ti.map_index)
        )
        if not isinstance(answer, TaskStatesResult):
            return None
        states = answer.task_states.get(ti.run_id, {})
        # A mapped task's key ends with its index.
        key = ti.task_id if ti.map_index < 0 else f"{ti.task_id}_{ti.map_index}"
        state: str | None = states.get(key)
        return state

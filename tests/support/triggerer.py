"""The triggerer's view of a task in triggerer mode: Airflow's serialization and rendering, with answers in memory.

An Airflow without triggerer mode lacks some of these classes. So they are imported where they are needed.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import (
    DeleteXCom,
    GetTaskStates,
    GetXCom,
    MaskSecret,
    OKResponse,
    SetXCom,
    TaskStatesResult,
    XComResult,
)

from airflow_adf_mi.triggers.start_and_wait import AdfStartPipelineTrigger

BEGAN = datetime(2026, 11, 1, tzinfo=UTC)


@dataclass
class Airflow:
    """One task of one Dag run, as Airflow keeps it, and the requests of the task's triggers."""

    dag: DAG
    task_id: str = "it"
    try_number: int = 1
    state: str | None = "deferred"
    xcoms: dict[str, Any] = field(default_factory=dict)
    others: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The XComs of other tasks, by task id."""
    dag_run: dict[str, Any] = field(default_factory=dict)
    """Members of the Dag run that differ from the usual ones."""
    asked: list[Any] = field(default_factory=list)
    failures: int = 0
    """How many requests will fail."""
    delay: float = 0.0
    silent_at: int | None = None
    """The index in `asked` of a request that is never answered."""
    silent_is_done: bool = False
    """Whether Airflow does what that request asks for."""
    is_silent: bool = False
    """Whether that request has arrived."""

    @property
    def questions(self) -> list[str]:
        """The types of the requests, with the keys of XComs."""
        return [f"{type(message).__name__} {getattr(message, 'key', '')}".strip() for message in self.asked]

    async def asend(self, message: Any) -> Any:
        if isinstance(message, MaskSecret):
            return None  # once for each connection that is read
        self.asked.append(message)
        await asyncio.sleep(self.delay)
        if self.failures:
            self.failures -= 1
            raise RuntimeError("the API server is down")
        if len(self.asked) - 1 != self.silent_at:
            return self._done(message)
        if self.silent_is_done:
            self._done(message)
        self.is_silent = True
        return await asyncio.Event().wait()

    def _done(self, message: Any) -> Any:
        if isinstance(message, GetTaskStates):
            return TaskStatesResult(task_states={"run1": {self.task_id: self.state}})
        task_id = getattr(message, "task_id", None)
        xcoms = self.xcoms if task_id == self.task_id else self.others.setdefault(str(task_id), {})
        match message:
            case GetXCom():
                return XComResult(key=message.key, value=xcoms.get(message.key))
            case SetXCom():
                xcoms[message.key] = json.loads(json.dumps(message.value))
                return OKResponse(ok=True)
            case DeleteXCom():
                xcoms.pop(message.key, None)
                return OKResponse(ok=True)
        raise AssertionError(f"a trigger must not ask for {message!r}: it hangs")

    def trigger(self) -> AdfStartPipelineTrigger:
        """The trigger of the current try, as a triggerer makes it from the database."""
        from airflow.executors.workloads.task import TaskInstanceDTO
        from airflow.jobs.triggerer_job_runner import TriggerRunner
        from airflow.serialization.serialized_objects import DagSerialization

        encoded = json.loads(json.dumps(DagSerialization.to_dict(self.dag)))
        dag_run = {
            "dag_id": self.dag.dag_id,
            "run_id": "run1",
            "logical_date": BEGAN,
            "data_interval_start": BEGAN,
            "data_interval_end": BEGAN,
            "run_after": BEGAN,
            "start_date": BEGAN,
            "end_date": None,
            "run_type": "manual",
            "state": "running",
            "consumed_asset_events": [],
            "partition_key": None,
            **self.dag_run,
        }
        made = TaskInstanceDTO(
            # Airflow gives each try its own id.
            id=uuid.uuid5(uuid.NAMESPACE_OID, f"{self.dag.dag_id}.{self.task_id}.{self.try_number}"),
            task_id=self.task_id,
            dag_id=self.dag.dag_id,
            run_id="run1",
            try_number=self.try_number,
            map_index=-1,
            dag_version_id=uuid.uuid4(),
            pool_slots=1,
            queue="default",
            priority_weight=1,
        )
        ti = TriggerRunner.create_runtime_ti(made, encoded, dag_run)
        args = ti.task.start_trigger_args
        assert args is not None, "the task starts on a worker"
        kwargs = {name: _decoded(value) for name, value in _inner(args.trigger_kwargs).items()}
        trigger = AdfStartPipelineTrigger(**kwargs)
        assert args.trigger_cls == trigger.serialize()[0]
        trigger.task_instance = ti  # type: ignore[assignment]  # as Airflow does
        limits = [args.timeout, self.dag.get_task(self.task_id).execution_timeout]
        limit = min(limit for limit in limits if limit is not None)
        trigger.timeout_after = datetime.now(UTC) + limit  # type: ignore[attr-defined]  # as Airflow does
        trigger.render_template_fields(ti.get_template_context())
        return trigger

    def next_try(self) -> None:
        """Begin another try after a failure or a clear. A trigger does not know which it was."""
        self.try_number += 1


def _decoded(value: Any) -> Any:
    from airflow.serialization.decoders import smart_decode_trigger_kwargs

    return smart_decode_trigger_kwargs(value)  # type: ignore[no-untyped-call]  # Airflow's is not annotated


def _inner(encoded: Any) -> Any:
    return encoded["__var"] if isinstance(encoded, dict) and "__type" in encoded else encoded


@pytest.fixture
def use_airflow(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes the triggers of this process send their requests to an `Airflow`."""

    def use(airflow: Airflow) -> Airflow:
        monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", airflow, raising=False)
        return airflow

    return use

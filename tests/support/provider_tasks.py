"""Tasks of the Azure provider and of this package, on one emulator."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from airflow.providers.microsoft.azure.operators.data_factory import AzureDataFactoryRunPipelineOperator
from airflow.providers.microsoft.azure.sensors.data_factory import AzureDataFactoryPipelineRunStatusSensor
from airflow.sdk import DAG

from airflow_adf_mi import AdfHook, AdfPipelineRunSensor, AdfRunPipelineOperator
from airflow_adf_mi.emulator import Emulator
from tests.support.minors import TaskDeferred


class Instance:
    """A task instance, its Dag run and its state store, with the members that operators use."""

    dag_id, run_id, task_id, map_index, try_number, max_tries, clear_number = "d", "run1", "t", -1, 1, 1, 0
    id = uuid.UUID(int=1)

    def __init__(self) -> None:
        self.start_date = datetime.now(UTC)
        self.xcoms: dict[str, Any] = {}
        self.kept: dict[str, Any] = {}
        self.get = self.kept.get

    def set(self, key: str, value: Any, **_: Any) -> None:
        self.kept[key] = value

    def delete(self, key: str) -> None:
        self.kept.pop(key, None)

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = value

    def xcom_pull(self, *, key: str, **_: Any) -> Any:
        return self.xcoms.get(key)

    @property
    def context(self) -> Any:
        return {"ti": self, "dag_run": self, "task_state_store": self}


class Both:
    """Makes and runs tasks of the provider and of ours."""

    def __init__(self, emulator: Emulator) -> None:
        self.emulator = emulator
        self.hook = AdfHook("adf_here")
        self.theirs = self.hook.provider_hook()

    def operator(self, ours: bool, pipeline: str = "Load", **arguments: Any) -> Any:
        kind: Any = AdfRunPipelineOperator if ours else AzureDataFactoryRunPipelineOperator
        where = {} if ours else {"resource_group_name": "rg-test", "factory_name": "adf-test"}
        given = {"check_interval": 0.2, "deferrable": False, **where, **arguments}
        return self._made(ours, kind, pipeline_name=pipeline, **given)

    def sensor(self, ours: bool, run_id: str, **arguments: Any) -> Any:
        kind: Any = AdfPipelineRunSensor if ours else AzureDataFactoryPipelineRunStatusSensor
        where = {} if ours else {"resource_group_name": "rg-test", "factory_name": "adf-test"}
        given = {"poke_interval": 0.2, "deferrable": False, **where, **arguments}
        return self._made(ours, kind, run_id=run_id, **given)

    def _made(self, ours: bool, kind: Any, **arguments: Any) -> Any:
        with DAG("d"):
            task = kind(task_id="t", azure_data_factory_conn_id="adf_here", **arguments)
        if not ours:
            # The hook of the provider would sign in to Azure itself.
            task.hook = self.theirs
        return task

    def parameters(self, run_id: str) -> dict[str, Any]:
        return dict(self.theirs.get_pipeline_run(run_id, "rg-test", "adf-test").parameters or {})

    def started(self) -> list[str]:
        return [str(r.run_id) for r in self.emulator.books.of("createRun", status=200)]


def execute(task: Any, instance: Instance | None = None) -> Any:
    """Run a try, without Airflow's guard against calls from elsewhere."""
    return type(task).execute.__wrapped__(task, (instance or Instance()).context)


def resumed(task: Any, event: dict[str, Any]) -> Any:
    """The result of the task after its deferral, in another process."""
    return task.resume_execution("execute_complete", {"event": event}, Instance().context)


def fired(deferred: TaskDeferred) -> Any:
    async def events() -> list[Any]:
        return [event.payload async for event in deferred.trigger.run()]

    (payload,) = asyncio.run(events())
    return json.loads(json.dumps(payload))


@pytest.fixture
def both(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[Both]:
    stored = {"conn_type": "azure_data_factory_mi", "extra": emulator.connection_extra()}
    monkeypatch.setenv("AIRFLOW_CONN_ADF_HERE", json.dumps(stored))
    made = Both(emulator)
    yield made
    made.hook.get_conn().close()

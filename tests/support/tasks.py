"""A task instance as an operator sees it, and ways to run one."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.sdk import DAG

from airflow_adf_mi._airflow import features
from airflow_adf_mi._worker.task_journal import STATE_KEY
from airflow_adf_mi.adf.starting.intent import Intent
from airflow_adf_mi.emulator import Emulator
from airflow_adf_mi.operators import AdfRunPipelineOperator


@dataclass
class Task:
    """A task instance as Airflow keeps it from try to try: its counts, its XComs and its state store, which may fail."""

    try_number: int = 1
    max_tries: int = 1
    clear_number: int = 0
    xcoms_work: bool = True
    store_works: bool = True
    xcoms: dict[str, Any] = field(default_factory=dict)
    kept: dict[str, Any] = field(default_factory=dict)
    retentions: dict[str, timedelta | None] = field(default_factory=dict)
    """How long Airflow keeps each entry of the state store. None means Airflow's default, which is 30 days."""
    task_id: str = "it"
    map_index: int = -1
    dag_id: str = "dag"
    run_id: str = "run1"
    start_date: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def id(self) -> uuid.UUID:
        """A new id for each try, as in Airflow."""
        return uuid.uuid5(uuid.NAMESPACE_OID, f"{self.dag_id}.{self.task_id}.{self.try_number}")

    @property
    def context(self) -> Any:
        return {"ti": self, "dag_run": self, "task_state_store": self}

    def retry(self) -> None:
        self.try_number += 1
        self.xcoms.clear()

    def clear(self) -> None:
        self.retry()
        self.max_tries += 1
        self.clear_number += 1

    def xcom_push(self, key: str, value: Any) -> None:
        if not self.xcoms_work:
            raise RuntimeError("the API server is down")
        self.xcoms[key] = value

    def xcom_pull(self, *, task_ids: str, key: str, map_indexes: int | None) -> Any:
        return self.xcoms.get(key)

    def get(self, key: str, default: Any = None) -> Any:
        if not self.store_works:
            raise RuntimeError("the API server is down")
        return json.loads(self.kept[key]) if key in self.kept else default

    def set(self, key: str, value: Any, *, retention: timedelta | None = None) -> None:
        if not self.store_works:
            raise RuntimeError("the API server is down")
        self.retentions[key] = retention
        self.kept[key] = json.dumps(value)
        assert json.loads(self.kept[key]) == value, "Airflow takes plain JSON only"

    @property
    def intent(self) -> Intent:
        return Intent.from_json(self.get(STATE_KEY) if features.TASK_STATE_STORE else self.xcoms[STATE_KEY])


Make = Callable[..., AdfRunPipelineOperator]


@pytest.fixture
def operator(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Make:
    connection = {"conn_type": "azure_data_factory_mi", "extra": emulator.connection_extra()}
    monkeypatch.setenv("AIRFLOW_CONN_ADF_HERE", json.dumps(connection))

    def make(pipeline: str, **arguments: Any) -> AdfRunPipelineOperator:
        with DAG("d"):
            return AdfRunPipelineOperator(
                **{
                    "task_id": "it",
                    "pipeline_name": pipeline,
                    "azure_data_factory_conn_id": "adf_here",
                    "check_interval": 0.2,
                    "deferrable": False,
                    "retries": 1,  # as `Task.max_tries`
                    **arguments,
                }
            )

    return make


def execute(it: AdfRunPipelineOperator, task: Task) -> dict[str, Any]:
    """Run a try, without Airflow's guard against calls from elsewhere."""
    return dict(AdfRunPipelineOperator.execute.__wrapped__(it, task.context))  # type: ignore[attr-defined]  # Airflow's


def runs(emulator: Emulator) -> list[str]:
    return emulator.call(lambda: list(emulator.state().runs))

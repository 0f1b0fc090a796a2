"""When a deferred task ends: at its own deadline, and at Airflow's later timeout only if the trigger does not work."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG

from airflow_adf_mi.adf.waiting.deadlines import TIMEOUT_SLACK_SECONDS
from airflow_adf_mi.emulator import Emulator
from airflow_adf_mi.operators import AdfRunPipelineOperator
from airflow_adf_mi.sensors import AdfPipelineRunSensor
from tests.support.minors import TaskDeferred


class Store(dict[str, Any]):
    """Airflow's task state store."""

    def set(self, key: str, value: Any, **_: Any) -> None:
        self[key] = value

    def delete(self, key: str) -> None:
        self.pop(key, None)


@pytest.fixture
def context() -> Any:
    ti = SimpleNamespace(
        dag_id="d",
        run_id="run1",
        task_id="it",
        map_index=-1,
        try_number=1,
        max_tries=0,
        start_date=datetime.now(UTC),
        xcom_push=lambda **_: None,
        xcom_pull=lambda **_: None,
    )
    return {
        "ti": ti,
        "task_state_store": Store(),
        "dag_run": SimpleNamespace(clear_number=0, start_date=datetime.now(UTC)),
    }


@pytest.fixture
def connection(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> str:
    stored = {"conn_type": "azure_data_factory_mi", "extra": emulator.connection_extra()}
    monkeypatch.setenv("AIRFLOW_CONN_ADF_HERE", json.dumps(stored))
    return "adf_here"


@pytest.mark.parametrize("kind", ["operator", "sensor"])
def test_airflows_timeout_comes_minutes_after_our_deadline(kind: str, connection: str, context: Any) -> None:
    common: dict[str, Any] = {
        "task_id": "it",
        "azure_data_factory_conn_id": connection,
        "timeout": 100,
        "deferrable": True,
    }
    with DAG("d"):
        it: Any = (
            AdfRunPipelineOperator(pipeline_name="Slow", **common)
            if kind == "operator"
            else AdfPipelineRunSensor(run_id="r1", **common)
        )
    with pytest.raises(TaskDeferred) as deferred:
        type(it).execute.__wrapped__(it, context)
    trigger: Any = deferred.value.trigger
    assert deferred.value.timeout is not None
    assert trigger.deadline == pytest.approx(time.time() + 100, abs=20)
    assert deferred.value.timeout.total_seconds() == pytest.approx(100 + TIMEOUT_SLACK_SECONDS, abs=20)
    assert TIMEOUT_SLACK_SECONDS >= 300

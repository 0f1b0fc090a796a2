"""What the operator does when Airflow itself fails around a run that has been started."""

from __future__ import annotations

import json
from typing import Any

import pytest
from airflow.sdk import DAG

from airflow_adf_mi.adf.errors import AdfError, AdfRunTimedOut
from airflow_adf_mi.emulator import Emulator
from airflow_adf_mi.operators import AdfRunPipelineOperator


class TaskInstance:
    """What the operator uses of one: XComs, which may fail."""

    task_id = "it"
    map_index = -1

    def __init__(self, *, works: bool = True) -> None:
        self.works = works
        self.pushed: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        if not self.works:
            raise RuntimeError("the API server is down")
        self.pushed[key] = value

    def xcom_pull(self, *, task_ids: str, key: str, map_indexes: int) -> Any:
        return self.pushed.get(key)


@pytest.fixture
def operator(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Any:
    connection = {"conn_type": "azure_data_factory_mi", "extra": emulator.connection_extra()}
    monkeypatch.setenv("AIRFLOW_CONN_ADF_HERE", json.dumps(connection))

    def make(pipeline: str, **arguments: Any) -> AdfRunPipelineOperator:
        with DAG("d"):
            return AdfRunPipelineOperator(
                task_id="it",
                pipeline_name=pipeline,
                azure_data_factory_conn_id="adf_here",
                check_interval=0.2,
                deferrable=False,
                **arguments,
            )

    return make


def test_xcom_that_cannot_be_pushed_does_not_orphan_the_run(operator: Any, emulator: Emulator) -> None:
    context: Any = {"ti": TaskInstance(works=False)}
    it = operator("Load")
    result = AdfRunPipelineOperator.execute.__wrapped__(it, context)  # type: ignore[attr-defined]  # without Airflow's guard
    assert result["status"] == "Succeeded"
    assert list(emulator.state().runs) == [result["run_id"]]


@pytest.mark.parametrize("cancels", [True, False])
def test_airflows_own_timeout_is_handled_like_ours(cancels: bool, operator: Any, emulator: Emulator) -> None:
    run_id = emulator.call(lambda: emulator.state().create_run("Slow", None))
    ti = TaskInstance()
    ti.xcom_push("run_id", run_id)
    context: Any = {"ti": ti}
    with pytest.raises(AdfRunTimedOut, match="requested" if cancels else "left running"):
        operator("Slow", cancel_on_timeout=cancels).resume_execution("__fail__", {"error": "Trigger timeout"}, context)
    assert emulator.books.count("cancelRun") == (1 if cancels else 0)


def test_failed_trigger_never_cancels_and_names_the_run(operator: Any, emulator: Emulator) -> None:
    run_id = emulator.call(lambda: emulator.state().create_run("Slow", None))
    ti = TaskInstance()
    ti.xcom_push("run_id", run_id)
    context: Any = {"ti": ti}
    with pytest.raises(AdfError, match=f"run {run_id} failed"):
        operator("Slow").resume_execution("__fail__", {"error": "Trigger failure"}, context)
    assert emulator.books.count("cancelRun") == 0


def test_timeout_without_a_known_run_cancels_nothing_and_says_so(operator: Any, emulator: Emulator) -> None:
    context: Any = {"ti": TaskInstance()}
    with pytest.raises(AdfError, match="is not in this task's XCom run_id"):
        operator("Slow").resume_execution("__fail__", {"error": "Trigger timeout"}, context)
    assert emulator.books.requests == []

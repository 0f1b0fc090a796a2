"""Outputs of activities as XComs of the task."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from airflow_adf_mi.adf.errors import AdfConfigurationError, AdfError
from airflow_adf_mi.emulator import Emulator
from airflow_adf_mi.emulator.pipelines.script import Script
from tests.conftest import activity, factory_of
from tests.support.explained_tasks import both, emulator_of, operator, run
from tests.support.tasks import Task

FACTORY = factory_of(
    Load=[
        activity("CopySales"),
        activity("Each", "ForEach", items=[], activities=[activity("CopyTable")]),
        activity(
            "Return",
            "SetVariable",
            "CopySales",
            variableName="pipelineReturnValue",
            value=[{"key": "total", "value": {"type": "Int", "content": 3}}],
            setSystemVariable=True,
        ),
    ]
)
SCRIPT = {
    "defaults": {"seconds": 0.1},
    "pipelines": {"Load": {"queued_seconds": 0.05}},
    "activities": {
        "Load/CopySales": {"output": {"rowsCopied": 42, "large": "x" * 50_000}},
        "Load/Each": {"iterations": 2},
        "Load/CopyTable": {"outputs_by_iteration": [{"rowsCopied": 1}, {"rowsCopied": 2}]},
    },
}
OUTPUTS = {"rows": "CopySales.rowsCopied", "tables": "CopyTable.rowsCopied", "total": "pipelineReturnValue.total"}


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    with emulator_of(FACTORY, Script.from_json(SCRIPT), monkeypatch) as running:
        yield running


@both
def test_outputs_are_pushed_once_the_run_has_succeeded(deferrable: bool, emulator: Emulator) -> None:
    task = Task()
    run(operator("Load", deferrable=deferrable, outputs=OUTPUTS), task)
    assert {key: sorted(v) if isinstance(v := task.xcoms[key], list) else v for key in OUTPUTS} == {
        "rows": 42,
        "tables": [1, 2],
        "total": 3,
    }
    assert emulator.books.count("queryActivityRuns") == 2


def test_outputs_that_are_left_out_are_logged(emulator: Emulator, capsys: pytest.CaptureFixture[str]) -> None:
    task = Task()
    run(operator("Load", outputs={"all": "CopySales", "rows": "CopySales.rowsRead"}), task)
    assert set(task.xcoms) & {"all", "rows"} == set()
    printed = capsys.readouterr().out
    assert "Output 'all' (CopySales) was left out: it has 50" in printed
    assert "Output 'rows' (CopySales.rowsRead) was not found: CopySales has no 'rowsRead'" in printed


def test_retry_after_unreadable_outputs_accepts_the_run(emulator: Emulator) -> None:
    emulator.tokens.denied = {"00000000-0000-4000-8000-00000000c001": {"pipelineruns/queryactivityruns/action"}}
    task = Task()
    with pytest.raises(AdfError, match=r"succeeded, but its outputs could not be read\. A retry adopts the run"):
        run(operator("Load", outputs=OUTPUTS), task)
    emulator.tokens.denied = {}
    task.retry()
    assert run(operator("Load", outputs=OUTPUTS), task)["adopted"]
    assert task.xcoms["rows"] == 42
    assert emulator.books.count("createRun") == 1


def test_unreadable_outputs_do_not_fail_a_task_without_a_journal(emulator: Emulator) -> None:
    emulator.tokens.denied = {"00000000-0000-4000-8000-00000000c001": {"pipelineruns/queryactivityruns/action"}}
    assert run(operator("Load", outputs=OUTPUTS, durable=False))["status"] == "Succeeded"


@pytest.mark.parametrize("arguments", [{"outputs": {"a": "x["}}, {"outputs": OUTPUTS, "wait_for_termination": False}])
def test_bad_outputs_are_refused_when_the_dag_is_parsed(arguments: Any) -> None:
    with pytest.raises(AdfConfigurationError, match="outputs"):
        operator("Load", **arguments)


def test_rendered_outputs_are_checked_before_anything_is_started(emulator: Emulator) -> None:
    it = operator("Load", outputs={"a": "{{ params.x }}"})
    it.outputs = {"a": "no way["}  # as after rendering
    with pytest.raises(AdfConfigurationError, match="outputs has 'no way"):
        run(it)
    assert emulator.books.requests == []

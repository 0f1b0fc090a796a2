"""The exact text that a user sees for what can go wrong, waiting on a worker and in the triggerer."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import TaskDeferred
from airflow.triggers.base import BaseTrigger

from airflow_adf_mi.adf.errors import AdfError, AdfRunCancelled, AdfRunFailed
from airflow_adf_mi.emulator import Emulator, FactorySpec
from airflow_adf_mi.emulator.definitions import FactoryDefinition
from airflow_adf_mi.emulator.script import Script
from airflow_adf_mi.operators import AdfRunPipelineOperator
from tests.conftest import activity, factory_of
from tests.integration.test_operator import Task, execute

NO_TABLE = "ErrorCode=SqlOperationFailed,'Type=...,Message=Invalid object name sales?sig=abc%2F1234'"


def calls(name: str, pipeline: str) -> dict[str, Any]:
    return activity(name, "ExecutePipeline", pipeline={"referenceName": pipeline}, waitOnCompletion=True)


FACTORY = factory_of(
    Copies=[activity("CopySales"), activity("Report", "Copy", "CopySales")],
    Parent=[calls("CallChild", "Child")],
    Child=[calls("CallGrandchild", "Grandchild")],
    Grandchild=[activity("CopySales")],
    Looped=[activity("EachTable", "ForEach", items=[], activities=[activity("CopyTable")])],
    Slow=[activity("CopySales")],
)
SCRIPT = {
    "defaults": {"seconds": 0.1},
    "pipelines": {name: {"queued_seconds": 0.05, "cancel_seconds": 0.1} for name in FACTORY.pipelines},
    "activities": {
        "Copies/CopySales": {"outcome": "Failed", "error": {"message": NO_TABLE}},
        "Grandchild/CopySales": {"outcome": "Failed", "error": {"message": "boom", "failureType": "SystemError"}},
        "Looped/EachTable": {"iterations": 20},
        "Looped/CopyTable": {"fail_iterations": [7], "error": {"message": "no table 7", "errorCode": "2100"}},
        "Slow/CopySales": {"seconds": 3600},
    },
}


@contextmanager
def emulator_of(factory: FactoryDefinition, script: Script, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """An emulator of this factory, and a connection to it."""
    spec = FactorySpec(source=factory, factory_name="adf-test", resource_group_name="rg-test")
    with Emulator(spec, script=script) as running:
        connection = {"conn_type": "azure_data_factory_mi", "extra": running.connection_extra()}
        monkeypatch.setenv("AIRFLOW_CONN_ADF_HERE", json.dumps(connection))
        for name, value in running.identity_environment("imds").items():
            monkeypatch.setenv(name, value)
        yield running
        assert running.faults.unconsumed() == []


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    with emulator_of(FACTORY, Script.from_json(SCRIPT), monkeypatch) as running:
        yield running


def operator(pipeline: str, **arguments: Any) -> AdfRunPipelineOperator:
    with DAG("d"):
        return AdfRunPipelineOperator(
            **{
                "task_id": "it",
                "pipeline_name": pipeline,
                "azure_data_factory_conn_id": "adf_here",
                "check_interval": 0.2,
                "activity_log": "off",
                **arguments,
            }
        )


def run(it: AdfRunPipelineOperator, task: Task | None = None) -> Any:
    """A task from its start to its end, in the triggerer between if it defers."""
    task = task or Task()
    try:
        return execute(it, task)
    except TaskDeferred as deferral:
        event = asyncio.run(fired(deferral.trigger))
        return it.execute_complete(task.context, json.loads(json.dumps(event)))


async def fired(trigger: BaseTrigger) -> Any:
    (event,) = [event async for event in trigger.run()]
    return event.payload


def error_of(it: AdfRunPipelineOperator) -> AdfError:
    with pytest.raises(AdfError) as e:
        run(it)
    return e.value


def general(text: str, emulator: Emulator) -> str:
    """`text`, without what differs each time: ids by the pipelines' names, times and ports."""
    runs = emulator.call(lambda: list(emulator.state().runs.values()))
    for ran in runs:
        text = text.replace(ran.run_id, f"<{ran.pipeline}>")
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "<time>", text)
    text = re.sub(r"after \d+ s", "after <n> s", text)
    return re.sub(r"127\.0\.0\.1:\d+", "<emulator>", text)


FACTORY_ID = (
    "%2Fsubscriptions%2F11111111-1111-4111-8111-111111111111%2FresourceGroups%2Frg-test%2Fproviders"
    "%2FMicrosoft.DataFactory%2Ffactories%2Fadf-test"
)


def page(pipeline: str) -> str:
    return f"https://adf.azure.com/en/monitoring/pipelineruns/<{pipeline}>?factory={FACTORY_ID}"


def head(pipeline: str) -> str:
    return f"Run <{pipeline}> of pipeline '{pipeline}' in factory 'adf-test' (resource group 'rg-test')"


both = pytest.mark.parametrize("deferrable", [False, True], ids=["blocking", "deferrable"])


@both
def test_failed_copy(deferrable: bool, emulator: Emulator) -> None:
    error = error_of(operator("Copies", deferrable=deferrable))
    assert general(str(error), emulator) == (
        f"{head('Copies')} failed after <n> s, because an activity failed:\n"
        "- 'CopySales' (Copy): UserError 2200: ErrorCode=SqlOperationFailed,'Type=...,Message=Invalid object name "
        "sales?sig=***'. <time> UTC, after <n> s.\n"
        f"See {page('Copies')}"
    )
    assert isinstance(error, AdfRunFailed)
    assert (error.failure_type, error.error_code, error.failed_pipeline_run_id) == ("UserError", "2200", error.run_id)
    assert emulator.books.count("queryActivityRuns") == 1


@both
def test_failed_child_of_a_child(deferrable: bool, emulator: Emulator) -> None:
    error = error_of(operator("Parent", deferrable=deferrable))
    assert general(str(error), emulator) == (
        f"{head('Parent')} failed after <n> s, because an activity failed:\n"
        "- 'CopySales' (Copy) in run <Grandchild> of pipeline 'Grandchild': SystemError 2200: boom. <time> UTC, after <n> s.\n"
        f"  See {page('Grandchild')}\n"
        f"See {page('Parent')}"
    )
    assert isinstance(error, AdfRunFailed)
    assert error.failure_type == "SystemError"
    assert emulator.books.count("queryActivityRuns") == 3


@both
def test_one_failed_iteration_of_twenty(deferrable: bool, emulator: Emulator) -> None:
    error = error_of(operator("Looped", deferrable=deferrable))
    assert general(str(error), emulator) == (
        f"{head('Looped')} failed after <n> s, because an activity failed:\n"
        "- 'CopyTable' (Copy), in an iteration of 'EachTable' (ForEach): UserError 2100: no table 7. <time> UTC, after <n> s.\n"
        f"See {page('Looped')}"
    )


@both
def test_failure_is_reported_although_its_activities_may_not_be_listed(deferrable: bool, emulator: Emulator) -> None:
    emulator.add_fault("queryActivityRuns", times=None, status=503)
    error = error_of(operator("Copies", deferrable=deferrable))
    assert general(str(error), emulator).startswith(
        f"{head('Copies')} failed after <n> s: Operation on target CopySales failed: ErrorCode=SqlOperationFailed,"
    )
    assert "\nIts activities could not be looked up: Could not list the activities of run" in str(error)
    assert isinstance(error, AdfRunFailed)


@both
def test_cancelled_outside(deferrable: bool, emulator: Emulator) -> None:
    def cancel() -> None:
        def now() -> None:
            (ran,) = emulator.state().runs.values()
            emulator.state().cancel_run(ran.run_id, recursive=True)

        while not emulator.books.count("getRun"):
            pass
        emulator.clock.advance(1)
        emulator.call(now)

    threading.Thread(target=cancel).start()
    error = error_of(operator("Slow", deferrable=deferrable))
    assert isinstance(error, AdfRunCancelled)
    assert general(str(error), emulator) == (
        f"{head('Slow')} was cancelled after <n> s, and not by this task: somebody cancelled it in ADF Studio or through the "
        "API (the factory's activity log in the Azure portal names the caller), while 1 activity was on the way:\n"
        "- 'CopySales' (Copy) was cancelled. <time> UTC, after <n> s.\n"
        f"See {page('Slow')}"
    )


@both
@pytest.mark.parametrize("mode", ["live", "summary", "off"])
def test_activity_log(mode: str, deferrable: bool, emulator: Emulator, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    error_of(operator("Looped", deferrable=deferrable, activity_log=mode))
    said = [general(r.getMessage(), emulator) for r in caplog.records if r.name.endswith("activity_log")]
    if mode == "off":
        assert said == []
        return
    assert re.fullmatch(r"Run <Looped> is Failed: 21 activities in \d s, 2 Failed, 19 Succeeded", said[-1])
    if mode == "summary":
        loop = "'EachTable' (ForEach) is Failed after <n> s: UserError BadRequest Activity failed because an inner activity"
        assert said[0] == f"Run <Looped>: {loop} failed; Inner activity name: CopyTable, Error: no table 7"
        assert said[1] == "Run <Looped>: 'CopyTable' (Copy) ran 20 times: 19 Succeeded, 1 Failed"
    else:
        assert sum("'CopyTable' (Copy, iteration" in line and "is Failed" in line for line in said) == 1


@both
def test_activity_log_that_is_refused_does_not_fail_the_task(deferrable: bool, emulator: Emulator) -> None:
    emulator.tokens.denied = {"00000000-0000-4000-8000-00000000c001": {"pipelineruns/queryactivityruns/action"}}
    emulator.call(lambda: setattr(emulator.state(), "script", Script()))
    assert run(operator("Copies", deferrable=deferrable, activity_log="live"))["status"] == "Succeeded"
    assert emulator.books.count("cancelRun") == 0

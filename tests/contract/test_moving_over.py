"""The page "moving over": each row is tested with the provider's classes and with ours, on one emulator."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from airflow.providers.microsoft.azure.hooks.data_factory import (
    AzureDataFactoryHook,
    AzureDataFactoryPipelineRunException,
)
from airflow.providers.microsoft.azure.operators.data_factory import AzureDataFactoryRunPipelineOperator
from airflow.providers.microsoft.azure.sensors.data_factory import AzureDataFactoryPipelineRunStatusSensor
from airflow.sdk import DAG
from azure.core.exceptions import HttpResponseError
from azure.identity import ClientSecretCredential

from airflow_adf_mi import (
    AdfConfigurationError,
    AdfHook,
    AdfNotFoundError,
    AdfPipelineRunSensor,
    AdfRunFailed,
    AdfRunPipelineOperator,
    AdfRunTimedOut,
    Recovery,
)
from airflow_adf_mi.emulator import Emulator, FactorySpec
from airflow_adf_mi.emulator.pipelines.script import Script
from tests.conftest import ROOT, activity, factory_of
from tests.support.minors import AirflowException, AirflowSkipException, TaskDeferred
from tests.support.provider_tasks import Both, Instance, both, execute, fired, resumed

__all__ = ["both"]  # a fixture

TESTED: list[str] = []
"""The rows of the page that have a test here."""


def row(*what: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    TESTED.extend(what)
    return lambda test: test


def page() -> str:
    return (ROOT / "docs" / "moving-over.md").read_text()


def test_rows_of_the_page_are_those_that_are_tested() -> None:
    table = page().partition("| what | provider | here |")[2]
    rows = [line.split(" | ")[0].removeprefix("| ") for line in table.splitlines()[2:] if line.startswith("|")]
    assert rows == list(dict.fromkeys(rows))
    assert sorted(rows) == sorted(TESTED)


def test_class_names_on_the_page_exist() -> None:
    for name in re.findall(r"^\| `(Azure\w+)` \| `(\w+)` \|$", page(), re.MULTILINE):
        theirs, ours = name
        assert hasattr(__import__("airflow_adf_mi"), ours), ours
        kind = "hooks" if "Hook" in theirs else "sensors" if "Sensor" in theirs else "operators"
        module = f"airflow.providers.microsoft.azure.{kind}.data_factory"
        assert hasattr(__import__(module, fromlist=[theirs]), theirs), theirs


def test_fields_that_the_provider_templates_are_templated_here() -> None:
    assert set(AzureDataFactoryRunPipelineOperator.template_fields) <= set(AdfRunPipelineOperator.template_fields)
    assert set(AzureDataFactoryPipelineRunStatusSensor.template_fields) <= set(AdfPipelineRunSensor.template_fields)


@row("`except AirflowException`", "`except AzureDataFactoryPipelineRunException`", "text of the error")
def test_error_of_a_failed_run(both: Both) -> None:
    with pytest.raises(AzureDataFactoryPipelineRunException, match=r"has failed or has been cancelled\.$") as theirs:
        execute(both.operator(False, "Broken"))
    assert isinstance(theirs.value, AirflowException)
    with pytest.raises(AirflowException, match=r"'Copy'.*no such table") as ours:
        execute(both.operator(True, "Broken"))
    assert isinstance(ours.value, AdfRunFailed)
    assert not isinstance(ours.value, AzureDataFactoryPipelineRunException)
    # If the task is deferred, the provider raises a base class.
    with pytest.raises(AirflowException) as theirs_deferred:
        resumed(both.operator(False), {"status": "error", "message": "The pipeline run r1 has Failed.", "run_id": "r1"})
    assert type(theirs_deferred.value) is AirflowException
    with pytest.raises(TaskDeferred) as deferred:
        execute(both.operator(True, "Broken", deferrable=True))
    with pytest.raises(AirflowException) as ours_deferred:
        resumed(both.operator(True, "Broken"), fired(deferred.value))
    assert isinstance(ours_deferred.value, AdfRunFailed)


@row("`op.run_id`", "XCom `run_id`")
def test_run_id(both: Both) -> None:
    theirs, ours = both.operator(False), both.operator(True)
    assert (hasattr(theirs, "run_id"), ours.run_id) == (False, None)
    instances = Instance(), Instance()
    for task, instance in zip((theirs, ours), instances, strict=True):
        execute(task, instance)
        assert instance.xcoms["run_id"] == task.run_id
    assert [theirs.run_id, ours.run_id] == both.started()
    resumed_theirs = both.operator(False)
    resumed(resumed_theirs, {"status": "success", "message": "", "run_id": "r1"})
    assert not hasattr(resumed_theirs, "run_id")
    for pipeline in ("Load", "Broken"):
        waiting = both.operator(True, pipeline, deferrable=True)
        with pytest.raises(TaskDeferred) as deferred:
            execute(waiting)
        assert waiting.run_id == both.started()[-1]
        resumed_ours, event = both.operator(True, pipeline), fired(deferred.value)
        try:
            resumed(resumed_ours, event)
        except AdfRunFailed:
            assert pipeline == "Broken"
        assert resumed_ours.run_id == both.started()[-1]


@row("`op.hook`")
def test_hook_of_a_task_is_ours(both: Both) -> None:
    assert isinstance(both.operator(False).hook, AzureDataFactoryHook)
    for task in (both.operator(True), both.sensor(True, "r1")):
        assert isinstance(task.hook, AdfHook)
        assert task.hook is task.hook
        assert task.hook.azure_data_factory_conn_id == "adf_here"


@row("return value of the operator", "return value of the sensor")
def test_return_values(both: Both) -> None:
    assert execute(both.operator(False)) is None
    summary = execute(both.operator(True))
    assert (summary["run_id"], summary["status"]) == (both.started()[-1], "Succeeded")
    assert execute(both.sensor(False, summary["run_id"])) is None
    assert execute(both.sensor(True, summary["run_id"]))["run_id"] == summary["run_id"]


@row("link")
def test_link_of_a_task(both: Both) -> None:
    (theirs,), (ours,) = (type(both.operator(is_ours)).operator_extra_links for is_ours in (False, True))
    assert (theirs.name, ours.name) == ("Monitor Pipeline Run", "ADF Studio run")
    instance = Instance()
    with pytest.raises(TaskDeferred):
        execute(both.operator(True, "Slow", deferrable=True), instance)
    assert both.started()[-1] in instance.xcoms[ours.xcom_key]


@row("`resource_group_name` and `factory_name`")
def test_factory_comes_from_the_connection() -> None:
    theirs: list[tuple[Any, dict[str, str]]] = [
        (AzureDataFactoryRunPipelineOperator, {"pipeline_name": "Load"}),
        (AzureDataFactoryPipelineRunStatusSensor, {"run_id": "r1"}),
    ]
    with DAG("d"):
        for kind, given in theirs:
            with pytest.raises(TypeError, match="factory_name"):
                kind(task_id="a", **given)
        AdfRunPipelineOperator(task_id="c", pipeline_name="Load")
        AdfPipelineRunSensor(task_id="d", run_id="r1")


@row("dates in `parameters`", "`timedelta`, `Decimal` and bytes in `parameters`")
@pytest.mark.parametrize(
    "value",
    [
        datetime(2026, 1, 31, 6, tzinfo=UTC),
        datetime(2026, 1, 31, 6),  # noqa: DTZ001
        date(2026, 1, 31),
        timedelta(days=1, hours=2),
        Decimal("1.5"),
        b"x",
        [{"at": datetime(2026, 1, 31, 6, tzinfo=UTC)}],
    ],
    ids=str,
)
def test_dates_and_other_values_are_sent_alike(value: Any, both: Both) -> None:
    for ours in (False, True):
        execute(both.operator(ours, parameters={"day": value}))
    theirs, here = map(both.parameters, both.started())
    # The pipeline declares a String, so a list is sent as JSON in a text.
    assert theirs == here or json.loads(theirs["day"]) == json.loads(here["day"])
    assert here["day"]


@row("values in `parameters` that JSON cannot express (a set, a UUID)", "NaN and infinity in `parameters`")
def test_values_that_cannot_be_sent(both: Both) -> None:
    for value in ({1, 2}, uuid.UUID(int=1)):
        with pytest.raises(TypeError, match="not JSON serializable"):
            execute(both.operator(False, parameters={"day": value}))
        with pytest.raises(AdfConfigurationError, match="parameter 'day' cannot be sent"):
            both.operator(True, parameters={"day": value})
    for number in (float("nan"), float("inf")):
        with pytest.raises(AdfConfigurationError, match="parameter 'day' cannot be sent"):
            both.operator(True, parameters={"day": number})
    assert both.emulator.books.of("createRun") == []
    execute(both.operator(False, parameters={"day": float("nan")}))
    assert both.emulator.books.of("createRun") != []


@row("`parameters` with `reference_pipeline_run_id`")
def test_parameters_together_with_a_reference_are_refused(both: Both) -> None:
    first = execute(both.operator(True, parameters={"day": "first"}))["run_id"]
    given = {"parameters": {"day": "second"}, "reference_pipeline_run_id": first}
    execute(both.operator(False, **given))
    assert both.parameters(both.started()[-1]) == {"day": "first"}
    with pytest.raises(AdfConfigurationError, match="takes its parameters from that run"):
        execute(both.operator(True, **given))
    assert len(both.started()) == 2


@row("`start_activity_name` or `start_from_failure` without `is_recovery`")
def test_recovery_arguments_without_is_recovery_are_refused(both: Both) -> None:
    for given in ({"start_activity_name": "Copy"}, {"start_from_failure": True}):
        execute(both.operator(False, **given))
        with pytest.raises(AdfConfigurationError, match="works only with is_recovery"):
            both.operator(True, **given)
    assert len(both.started()) == 2


@row('flags as text (`deferrable="False"`)', "`timeout=0`")
def test_misleading_arguments_are_refused(both: Both) -> None:
    with pytest.raises(TaskDeferred):
        execute(both.operator(False, "Slow", deferrable="False"))
    with pytest.raises(AdfConfigurationError, match="deferrable is 'False'"):
        both.operator(True, deferrable="False")
    with pytest.raises(AzureDataFactoryPipelineRunException, match="after 0 seconds"):
        execute(both.operator(False, "Slow", timeout=0))
    with pytest.raises(AdfConfigurationError, match="timeout is 0"):
        both.operator(True, timeout=0)


@row("a failed status check")
def test_failed_status_check_does_not_fail_the_task(both: Both) -> None:
    fault = {"status": 403, "times": 1}
    both.emulator.add_fault("getRun", **fault)
    with pytest.raises(HttpResponseError):
        execute(both.operator(False))
    both.emulator.add_fault("getRun", **fault)
    assert execute(both.operator(True))["status"] == "Succeeded"


@row("a retry")
def test_retry_starts_no_second_run(both: Both) -> None:
    for ours in (False, True):
        instance = Instance()
        for number in (1, 2):
            instance.try_number = number
            execute(both.operator(ours), instance)
    theirs, ours_started = both.started()[:2], both.started()[2:]
    assert (len(theirs), len(ours_started)) == (2, 1)


@row("the timeout of the task passes")
def test_timeout_cancels_the_run(both: Both) -> None:
    with pytest.raises(AzureDataFactoryPipelineRunException, match="not reached a terminal status"):
        execute(both.operator(False, "Slow", timeout=0.5))
    assert both.emulator.books.of("cancelRun") == []
    with pytest.raises(AdfRunTimedOut):
        execute(both.operator(True, "Slow", timeout=0.5))
    assert [r.run_id for r in both.emulator.books.of("cancelRun")] == both.started()[1:]


@row("cancel of a run with child runs")
def test_cancel_reaches_child_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    call_child = activity("Call", "ExecutePipeline", pipeline={"referenceName": "Child"}, waitOnCompletion=True)
    source = factory_of(Parent=[call_child], Child=[activity("Copy")])
    script = Script.from_json({"activities": {"Child/Copy": {"seconds": 3600}}})
    with Emulator(
        FactorySpec(source=source, factory_name="adf-test", resource_group_name="rg-test"), script=script
    ) as emulator:
        for name, value in emulator.identity_environment("imds").items():
            monkeypatch.setenv(name, value)
        stored = {"conn_type": "azure_data_factory_mi", "extra": emulator.connection_extra()}
        monkeypatch.setenv("AIRFLOW_CONN_ADF_HERE", json.dumps(stored))
        both = Both(emulator)
        for cancel, left in ((both.theirs.cancel_pipeline_run, 1), (both.hook.cancel_pipeline_run, 0)):
            parent = both.hook.run_pipeline("Parent")
            emulator.clock.advance(60)
            known = {r.run_id: r for r in both.hook.query_pipeline_runs(*_around_now())}
            child = next(r for r in known.values() if r.raw["invokedBy"].get("pipelineRunId") == parent)
            cancel(parent, "rg-test", "adf-test")
            emulator.clock.advance(60)
            assert both.hook.get_pipeline_run(parent).status == "Cancelled"
            assert (both.hook.get_pipeline_run(child.run_id).status == "InProgress") is bool(left)
        both.hook.get_conn().close()


def _around_now() -> tuple[datetime, datetime]:
    now = datetime.now(UTC)
    return now - timedelta(days=1), now + timedelta(days=1)


@row("`soft_fail` of a deferrable sensor")
def test_soft_fail_does_not_skip_if_the_run_failed(both: Both) -> None:
    run_id = both.hook.run_pipeline("Broken")
    both.emulator.clock.advance(60)
    with pytest.raises(AirflowSkipException):
        resumed(
            both.sensor(False, run_id, soft_fail=True),
            {"status": "error", "message": f"Pipeline run {run_id} has Failed."},
        )
    with pytest.raises(AzureDataFactoryPipelineRunException):
        execute(both.sensor(False, run_id, soft_fail=True))
    with pytest.raises(AdfRunFailed):
        execute(both.sensor(True, run_id, soft_fail=True, deferrable=True))
    with pytest.raises(AdfRunFailed):
        execute(both.sensor(True, run_id, soft_fail=True))


@row("`hook.run_pipeline()`", "options of `hook.run_pipeline()`", "`hook.get_pipeline_run()`")
def test_hook_starts_and_reads(both: Both) -> None:
    theirs = both.theirs.run_pipeline("Load", "rg-test", "adf-test").run_id
    ours = both.hook.run_pipeline("Load", "rg-test", "adf-test")
    assert [theirs, ours] == both.started()
    both.theirs.run_pipeline("Load", "rg-test", "adf-test", reference_pipeline_run_id=theirs, is_recovery=True)
    both.hook.run_pipeline("Load", recovery=Recovery(reference_pipeline_run_id=ours, is_recovery=True))
    both.emulator.clock.advance(60)
    runs: list[Any] = [both.theirs.get_pipeline_run(ours, "rg-test", "adf-test"), both.hook.get_pipeline_run(ours)]
    seen = [(run.run_id, run.pipeline_name, run.status, run.message or None) for run in runs]
    assert seen[0] == seen[1]
    groups = [both.hook.get_pipeline_run(run_id).run_group_id for run_id in both.started()]
    assert groups == [theirs, ours, theirs, ours]


@row("`hook.cancel_pipeline_run()`")
def test_hook_cancels(both: Both) -> None:
    first, second = both.hook.run_pipeline("Slow"), both.hook.run_pipeline("Slow")
    assert both.theirs.cancel_pipeline_run(first, "rg-test", "adf-test") is None
    assert both.hook.cancel_pipeline_run(second) is True
    both.emulator.clock.advance(60)
    with pytest.raises(HttpResponseError):
        both.theirs.cancel_pipeline_run(first, "rg-test", "adf-test")
    assert both.hook.cancel_pipeline_run(second) is False


@row(
    "`hook.get_pipeline_run_status()` and `hook.wait_for_pipeline_run_status()`",
    "hook methods for factories, datasets, pipelines, triggers",
)
def test_methods_that_only_the_provider_has(both: Both) -> None:
    for name in (
        "get_pipeline_run_status",
        "wait_for_pipeline_run_status",
        "get_factory",
        "get_dataset",
        "start_trigger",
    ):
        assert hasattr(AzureDataFactoryHook, name)
        assert not hasattr(AdfHook, name)
    run_id = both.hook.run_pipeline("Load")
    both.emulator.clock.advance(60)
    assert both.hook.get_pipeline_run(run_id).status == "Succeeded"
    theirs = both.hook.provider_hook()
    assert theirs.get_pipeline_run_status(run_id, "rg-test", "adf-test") == "Succeeded"
    assert theirs.wait_for_pipeline_run_status(run_id, "Succeeded", "rg-test", "adf-test")
    assert getattr(theirs.get_factory("rg-test", "adf-test"), "name", None) == "adf-test"


@row("errors of the hook")
def test_hook_raises_errors_of_ours(both: Both) -> None:
    with pytest.raises(HttpResponseError):
        both.theirs.get_pipeline_run("nope", "rg-test", "adf-test")
    with pytest.raises(HttpResponseError):
        both.hook.get_conn().pipeline_runs.get("rg-test", "adf-test", "nope")
    with pytest.raises(AdfNotFoundError) as ours:
        both.hook.get_pipeline_run("nope")
    assert isinstance(ours.value, AirflowException)


@row("a connection with a client secret")
def test_client_secret_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    extra = {"subscriptionId": str(uuid.UUID(int=1)), "tenantId": str(uuid.UUID(int=2))}
    stored = {"conn_type": "azure_data_factory", "login": str(uuid.UUID(int=3)), "password": "hunter2", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_ADF_SECRET", json.dumps(stored))
    with AzureDataFactoryHook("adf_secret").get_conn() as client:
        assert isinstance(client._config.credential, ClientSecretCredential)
    with pytest.raises(AdfConfigurationError) as ours:
        _ = AdfHook("adf_secret").settings
    assert "hunter2" not in str(ours.value)

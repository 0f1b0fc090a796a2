"""The OpenLineage events of tasks that ran against the emulator."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from airflow.providers.openlineage import conf
from airflow.providers.openlineage.extractors.base import DefaultExtractor
from airflow.providers.openlineage.plugins.adapter import OpenLineageAdapter
from airflow.providers.openlineage.utils.utils import TaskInfo
from openlineage.client.serde import Serde

from airflow_adf_mi.adf.errors import AdfError
from airflow_adf_mi.emulator import Emulator
from airflow_adf_mi.emulator.pipelines.script import Script
from airflow_adf_mi.operators import AdfRunPipelineOperator
from tests.support.explained import assert_no_secret
from tests.support.explained_tasks import both, emulator_of, operator, run
from tests.support.lineage import FACTORY, HERE, SCRIPT, names
from tests.support.openlineage import check_event
from tests.support.tasks import Task

LIST = "queryActivityRuns"


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    with emulator_of(FACTORY, Script.from_json(SCRIPT), monkeypatch) as running:
        yield running


@pytest.fixture
def listening(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenLineage has a transport. Under pytest, the provider reads its configuration each time."""
    monkeypatch.setenv("AIRFLOW__OPENLINEAGE__TRANSPORT", '{"type": "console"}')


def loading(pipeline: str = "Load", **arguments: Any) -> AdfRunPipelineOperator:
    return operator(pipeline, parameters={"key": "planted", "password": "planted"}, **arguments)


def event_of(it: AdfRunPipelineOperator, error: Exception | None = None) -> Any:
    """The last event of a task, made by the provider. It is checked: valid, and without a secret."""
    extractor = DefaultExtractor(it)
    extracted = extractor.extract_on_failure(None) if error else extractor.extract_on_complete(None)
    common: dict[str, Any] = {
        "run_id": "01a21050-0b2c-7305-b640-f3ce8eb012dc",
        "job_name": "d.it",
        "end_time": "2026-01-01T10:00:00+00:00",
        "task": extracted,
        **dict.fromkeys(("nominal_start_time", "nominal_end_time", "owners", "tags", "job_description")),
    }
    adapter = OpenLineageAdapter()
    event = adapter.fail_task(**common, error=error) if error else adapter.complete_task(**common)
    text = Serde.to_json(event)
    assert_no_secret(text)
    found = json.loads(text)
    check_event(found)
    return found


def shown_parameters(it: Any) -> Any:
    """What the provider reads of a task's parameters. Older versions do not read them."""
    info = dict(TaskInfo(it))
    assert "planted" not in str(info)
    return info.get("parameters", {"key": "***", "password": "***"})


@pytest.mark.usefixtures("listening")
def test_parameters_are_hidden_from_the_provider_and_sent_to_the_service(emulator: Emulator) -> None:
    """The provider may run in a thread of the task's process. In a fork, the task would not see the hidden values."""
    it = loading()
    it.get_openlineage_facets_on_start()
    assert shown_parameters(it) == {"key": "***", "password": "***"}
    result = run(it)
    it.get_openlineage_facets_on_complete(None)
    assert shown_parameters(it) == {"key": "***", "password": "***"}
    sent = emulator.call(lambda: emulator.state("adf-test").runs[result["run_id"]].values)
    assert sent == {"key": "planted", "password": "planted"}


@both
@pytest.mark.usefixtures("listening")
def test_event_of_a_success(deferrable: bool, emulator: Emulator) -> None:
    it = loading(deferrable=deferrable)
    result = run(it)
    event = event_of(it)
    assert names(event["inputs"]) == [(HERE, "Lake"), (HERE, "Sales")]
    assert names(event["outputs"]) == [(HERE, "Lake"), (HERE, "Mart")]
    (lake,) = [output for output in event["outputs"] if output["name"] == "Lake"]
    statistics = lake["outputFacets"]["outputStatistics"]
    assert (statistics["rowCount"], statistics["size"]) == (42, 8000)
    facet = event["run"]["facets"]["adf_pipelineRun"]
    same = {"runId": "run_id", "runGroupId": "run_group_id", "studioUrl": "studio_url", "startedAt": "started_at"}
    same |= {"endedAt": "ended_at", "durationSeconds": "duration_seconds", "status": "status", "adopted": "adopted"}
    assert {name: facet[name] for name in same} == {name: result[key] for name, key in same.items()}
    assert event["run"]["facets"]["externalQuery"]["externalQueryId"] == result["run_id"]
    job = event["job"]["facets"]["adf_pipeline"]
    assert (job["pipelineName"], job["factoryName"], job["resourceGroupName"]) == ("Load", "adf-test", "rg-emulator")
    assert event["job"]["facets"]["jobType"]["jobType"] == "TASK"


@both
@pytest.mark.usefixtures("listening", "emulator")
def test_event_of_a_failure(deferrable: bool) -> None:
    it = loading("Broken", deferrable=deferrable)
    with pytest.raises(AdfError) as e:
        run(it)
    event = event_of(it, e.value)
    assert names(event["inputs"]) == [(HERE, "Sales")]
    facet = event["run"]["facets"]["adf_pipelineRun"]
    assert facet["status"] == "Failed"
    (failed,) = facet["failedActivities"]
    assert (failed["name"], failed["errorCode"], failed["failureType"]) == ("CopySales", "2200", "UserError")
    assert "Cannot open" in failed["message"]
    assert "AdfRunFailed" in event["run"]["facets"]["errorMessage"]["stackTrace"]


@pytest.mark.usefixtures("listening")
def test_event_of_a_retry_that_accepts_the_run(emulator: Emulator) -> None:
    task = Task()
    run(loading(), task)
    task.retry()
    again = loading()
    assert run(again, task)["adopted"]
    event = event_of(again)
    assert event["run"]["facets"]["adf_pipelineRun"]["adopted"]
    assert names(event["outputs"]) == [(HERE, "Lake"), (HERE, "Mart")]


@pytest.mark.usefixtures("listening")
def test_event_of_an_active_run_has_no_datasets(emulator: Emulator) -> None:
    it = operator("Slow", wait_for_termination=False)
    run(it)
    late = operator("Slow", timeout=0.5)
    with pytest.raises(AdfError) as e:
        run(late)
    for event in (event_of(it), event_of(late, e.value)):
        assert (event["inputs"], event["outputs"]) == ([], [])
        assert event["run"]["facets"]["adf_pipelineRun"]["runId"]
    assert emulator.books.count(LIST) == 0


@pytest.mark.usefixtures("listening", "emulator")
def test_event_of_a_refused_start() -> None:
    it = operator("Nope")
    with pytest.raises(AdfError) as e:
        run(it)
    event = event_of(it, e.value)
    assert "adf_pipelineRun" not in event["run"]["facets"]
    assert event["job"]["facets"]["adf_pipeline"]["pipelineName"] == "Nope"


def test_lineage_is_not_collected_if_nobody_listens(emulator: Emulator) -> None:
    assert conf.is_disabled()
    run(loading())
    assert emulator.books.count(LIST) == 0


@pytest.mark.usefixtures("listening")
def test_lineage_is_not_collected_for_an_excluded_task(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("airflow.providers.openlineage.utils.emission_policy", reason="this provider has no such rules")
    rule = [{"scope": {"dag_id": "d"}, "controls": {"emit": False}}]
    monkeypatch.setenv("AIRFLOW__OPENLINEAGE__EMISSION_POLICY", json.dumps(rule))
    run(loading())
    assert emulator.books.count(LIST) == 0


@pytest.mark.usefixtures("listening")
@pytest.mark.parametrize("fault", [{"status": 403, "code": "AuthorizationFailed"}, {"status": 503}, {"drop": True}])
def test_unreadable_lineage_does_not_fail_the_task(
    fault: Any, emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    emulator.add_fault(LIST, **fault)
    it = loading()
    assert run(it)["status"] == "Succeeded"
    assert event_of(it)["outputs"] == []
    assert "not all of its datasets could be read for lineage" in caplog.text


@pytest.mark.usefixtures("listening")
def test_lineage_is_not_collected_if_execution_timeout_is_near(
    emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    assert run(loading(execution_timeout=timedelta(seconds=30)))["status"] == "Succeeded"
    assert emulator.books.count(LIST) == 0
    assert "because execution_timeout is near" in caplog.text


@pytest.mark.usefixtures("listening", "emulator")
def test_unexpected_error_in_lineage_does_not_fail_the_task(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(conf, "is_disabled", lambda: 1 / 0)
    assert run(loading())["status"] == "Succeeded"
    assert "its datasets could not be read for lineage. division by zero" in caplog.text


def test_event_of_the_start_contains_the_arguments() -> None:
    extracted: Any = operator("Load", factory_name="adf-other").get_openlineage_facets_on_start()
    facet = extracted.job_facets["adf_pipeline"]
    assert (facet.pipelineName, facet.factoryName, facet.resourceGroupName) == ("Load", "adf-other", None)


def test_task_works_without_the_openlineage_provider(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "airflow.providers.openlineage", None)
    assert run(loading())["status"] == "Succeeded"
    assert emulator.books.count(LIST) == 0
    assert "lineage" not in caplog.text


def test_openlineage_is_imported_only_when_it_is_used() -> None:
    program = "import sys, airflow_adf_mi._worker.attempt; sys.exit('openlineage' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], timeout=120, check=False).returncode == 0

"""Which datasets a run's activities name, and how many requests that takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from airflow_adf_mi.adf.api.operations import Call, Page
from airflow_adf_mi.adf.errors import AdfError, AdfUnavailableError
from airflow_adf_mi.adf.models import ActivityRun, PipelineRun
from airflow_adf_mi.adf.reporting.datasets import (
    LINEAGE_PATIENCE_SECONDS,
    LINEAGE_REQUESTS,
    DataSet,
    Lineage,
    Named,
    activities_of,
    named,
    reading_lineage,
)
from airflow_adf_mi.adf.timing import Timing
from tests.support.routines import FACTORY, Clock

HERE = "azuredatafactory://adf"
RUN = PipelineRun.from_wire({"runId": "r1", "pipelineName": "Load", "status": "Succeeded"})


def reference(name: str, **more: Any) -> dict[str, Any]:
    return {"referenceName": name, "type": "DatasetReference", **more}


def copy(source: str = "", sink: str = "") -> dict[str, Any]:
    """The input of a Copy; without names as recorded."""
    names = {"inputs": [reference(source)], "outputs": [reference(sink)]} if source else {}
    return {"source": {"type": "BlobSource"}, "sink": {"type": "BlobSink"}, **names}


def row(
    name: str,
    given: Any = None,
    kind: str = "Copy",
    *,
    output: Mapping[str, Any] | None = None,
    iteration: str = "",
    minute: int = 0,
    started: bool = True,
    pipeline: str = "Load",
) -> ActivityRun:
    return ActivityRun.from_wire(
        {
            "activityName": name,
            "activityType": kind,
            "pipelineName": pipeline,
            "status": "Succeeded",
            "activityRunStart": f"2026-01-01T10:{minute:02}:00Z" if started else None,
            "activityRunEnd": f"2026-01-01T10:{minute:02}:30Z",
            "input": given,
            "output": output or {},
            "iterationHash": iteration,
        }
    )


class Service:
    """Lists the activities of runs, a page each, and knows pipelines."""

    def __init__(self, pages: Mapping[str, list[Any]], pipelines: Mapping[str, Any] | None = None) -> None:
        self.pages = {run_id: list(rest) for run_id, rest in pages.items()}
        self.pipelines = pipelines or {}
        self.asked: list[str] = []
        self.clock = Clock()

    def answer(self, call: Call[Any]) -> Any:
        self.asked.append(call.doing)
        if call.group == "pipelines":
            return self.pipelines.get(call.args[2], AdfUnavailableError("503"))
        pages = self.pages[call.args[2]]
        page = pages.pop(0) if pages else []
        return (
            page
            if isinstance(page, AdfError)
            else Page(items=page, continuation_token=f"{len(pages)} more" if pages else None)
        )

    def read(self) -> Lineage:
        routine = reading_lineage(RUN, FACTORY, timing=Timing(clock=self.clock))
        step: Any = next(routine)
        try:
            while True:
                step = routine.send(self.answer(step))
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]  # of a generator


def names(found: tuple[DataSet, ...]) -> list[str]:
    return [data.name for data in found]


def test_copy_that_names_its_datasets() -> None:
    service = Service(
        {"r1": [[row("A", copy("Sales", "Lake"), output={"rowsCopied": 3, "dataWritten": 7, "filesWritten": 1})]]}
    )
    assert service.read() == Lineage(
        (DataSet(namespace=HERE, name="Sales"),), (DataSet(namespace=HERE, name="Lake", rows=3, size=7, files=1),)
    )
    assert len(service.asked) == 1


def test_datasets_of_a_copy_are_read_from_its_pipeline_if_the_run_shows_none() -> None:
    inner = {
        "name": "A",
        "type": "Copy",
        "typeProperties": copy(),
        "inputs": [reference("In")],
        "outputs": [reference("Out")],
    }
    each = {"name": "Each", "type": "ForEach", "typeProperties": {"activities": [inner]}}
    pipeline = {"properties": {"activities": [each]}}
    service = Service(
        {"r1": [[row("A", copy(), iteration=i, output={"rowsCopied": 2}) for i in "xy"]]}, {"Load": pipeline}
    )
    found = service.read()
    assert (names(found.inputs), names(found.outputs), found.outputs[0].rows) == (["In"], ["Out"], 4)
    assert service.asked == ["list the activities of run r1", "read pipeline 'Load'"]


def test_child_runs_are_followed_once() -> None:
    child = {"pipelineRunId": "r2"}
    service = Service(
        {
            "r1": [
                [row("Call", kind="ExecutePipeline", output=child), row("Again", kind="ExecutePipeline", output=child)]
            ],
            "r2": [
                [row("A", copy("Sales", "Lake")), row("Back", kind="ExecutePipeline", output={"pipelineRunId": "r1"})]
            ],
        }
    )
    assert names(service.read().outputs) == ["Lake"]
    assert len(service.asked) == 2


def test_pages_are_followed() -> None:
    service = Service({"r1": [[row("A", copy("Sales", "Lake"))], [row("B", copy("Lake", "Mart"))]]})
    found = service.read()
    assert (names(found.inputs), names(found.outputs)) == (["Sales", "Lake"], ["Lake", "Mart"])


def test_list_that_repeats_itself_is_reported_as_incomplete() -> None:
    routine = reading_lineage(RUN, FACTORY, timing=Timing(clock=Clock()))
    next(routine)
    same: Page[Any] = Page(items=[row("A", copy("Sales", "Lake"))], continuation_token="same")
    routine.send(same)
    with pytest.raises(StopIteration) as end:
        routine.send(same)
    assert names(end.value.value.outputs) == ["Lake"]
    assert end.value.value.missing == "page 2 names a page that was already read"


def test_last_attempt_counts() -> None:
    rows = [row("A", copy("S", "Lake"), minute=n, output={"rowsCopied": rows}) for n, rows in ((5, 3), (1, 2))]
    assert Service({"r1": [rows]}).read().outputs[0].rows == 3


def test_amount_is_reported_only_if_all_writers_report_it() -> None:
    rows = [row("A", copy("S", "Lake"), output={"rowsCopied": 3}), row("B", copy("S", "Lake"))]
    assert Service({"r1": [rows]}).read().outputs[0].rows is None
    odd = row("A", copy("S", "Lake"), output={"rowsCopied": True, "dataWritten": "7"})
    assert Service({"r1": [[odd]]}).read().outputs[0] == DataSet(namespace=HERE, name="Lake")


def test_amount_is_unknown_if_there_are_two_outputs() -> None:
    given = {"inputs": [], "outputs": [reference("A"), reference("B")]}
    found = Service({"r1": [[row("Flow", given, output={"rowsCopied": 3})]]}).read()
    assert [data.rows for data in found.outputs] == [None, None]


def test_skipped_activity_has_no_datasets() -> None:
    assert Service({"r1": [[row("A", copy("S", "Lake"), started=False)]]}).read() == Lineage()


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        (copy("S", "L"), Named(("S",), ("L",))),
        ({"sinks": {"one": {"name": "one", "dataset": reference("L")}}}, Named((), ("L",))),
        (
            {"queries": [{"queryName": "q", "dataflowSinks": [{"name": "s", "dataset": reference("L")}]}]},
            Named((), ("L",)),
        ),
        ({"dataFlow": {"referenceName": "Flow", "type": "DataFlowReference"}}, Named()),
        ({"inputs": [{"referenceName": "Flow", "type": "LinkedServiceReference"}]}, Named()),
        ({"inputs": [reference("S"), reference("S")]}, Named(("S",))),
        ({"inputs": [reference("x?sig=abc%2F")]}, Named(("x?sig=***",))),
        ({"inputs": "S", "outputs": [None, 7, {}, {"dataset": None}], "sinks": 7, "queries": "x"}, Named()),
        ({"inputs": [{"referenceName": 7, "type": "DatasetReference"}], "queries": [None]}, Named()),
    ],
)
def test_datasets_that_an_activity_names(members: Any, expected: Named) -> None:
    assert named(members) == expected


@pytest.mark.parametrize("given", [None, "", [], copy()])
def test_input_without_names_has_no_datasets(given: Any) -> None:
    """For example, with secureInput."""
    assert Service({"r1": [[row("A", given)]]}, {"Load": {"properties": {}}}).read() == Lineage()


def test_activities_in_all_containers_are_found() -> None:
    def leaf(name: str) -> dict[str, Any]:
        return {"name": name, "type": "Wait", "typeProperties": {"waitTimeInSeconds": 1}}

    condition = {"ifTrueActivities": [leaf("t")], "ifFalseActivities": [leaf("f")], "expression": {}}
    switch = {"cases": [{"value": "1", "activities": [leaf("c")]}], "defaultActivities": [leaf("d")]}
    until = {"activities": [{"name": "If", "typeProperties": condition}, {"name": "Switch", "typeProperties": switch}]}
    pipeline = {"properties": {"activities": [{"name": "Until", "typeProperties": until}, "odd", {"name": None}]}}
    assert [a["name"] for a in activities_of(pipeline)] == ["Until", "If", "t", "f", "Switch", "d", "c"]


def test_what_could_not_be_read_is_reported() -> None:
    assert Service({"r1": [AdfUnavailableError("503, no list")]}).read() == Lineage(missing="503, no list")
    without_definition = Service({"r1": [[row("A", copy("S", "Lake")), row("B", copy())]]}).read()
    assert (names(without_definition.outputs), without_definition.missing) == (["Lake"], "503")


def test_number_of_requests_is_bounded() -> None:
    service = Service({"r1": [[] for _ in range(50)]})
    assert "no more than 10 requests" in str(service.read().missing)
    assert len(service.asked) == LINEAGE_REQUESTS


def test_time_is_bounded() -> None:
    service = Service({"r1": [[row("A", copy())]] * 3})
    routine = reading_lineage(RUN, FACTORY, timing=Timing(clock=service.clock))
    step: Any = next(routine)
    page = service.answer(step)
    service.clock.now += LINEAGE_PATIENCE_SECONDS + 1
    with pytest.raises(StopIteration) as end:
        routine.send(page)
    assert end.value.value.missing == "the service took longer than 10 s"

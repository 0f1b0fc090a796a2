"""Answers that are odd at one place: no unexpected error, no wrong end, and work in proportion to the answer.

A run succeeds or fails. It is explained, logged, and read for outputs and lineage, all from JSON as the service sends it. One
value of that JSON is replaced. Only `runId` and `status` of the run may change the outcome of the wait.
"""

from __future__ import annotations

import copy
import json
import logging
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from airflow_adf_mi.adf.api.operations import Call
from airflow_adf_mi.adf.api.responses import FailedCall, parse
from airflow_adf_mi.adf.config.addresses import RunAddress
from airflow_adf_mi.adf.errors import AdfRunFailed, AdfUnavailableError
from airflow_adf_mi.adf.models import PipelineRun
from airflow_adf_mi.adf.reporting.conclude import reporting
from airflow_adf_mi.adf.reporting.datasets import reading_lineage
from airflow_adf_mi.adf.reporting.outputs import parse_outputs, reading_outputs
from airflow_adf_mi.adf.reporting.report import Report, error_of, summary
from airflow_adf_mi.adf.routines import Routine
from airflow_adf_mi.adf.timing import Timing
from airflow_adf_mi.adf.waiting.single_run import Ended, GaveUp, Plan, TimedOut
from tests.support.routines import FACTORY, Clock, answer_of

RUN: dict[str, Any] = {
    "runId": "r1",
    "runGroupId": "g1",
    "pipelineName": "Load",
    "parameters": {"day": "2026-01-01"},
    "invokedBy": {"name": "Manual", "invokedByType": "Manual"},
    "runStart": "2026-01-01T10:00:00.1234567Z",
    "runEnd": "2026-01-01T10:01:00Z",
    "durationInMs": 59877,
    "status": "Succeeded",
    "message": "Operation on target Each failed: An inner activity failed; Inner activity name: Table, Error: x",
    "lastUpdated": "2026-01-01T10:01:00.98337Z",
    "runDimension": {"team": "sales"},
    "isLatest": True,
}


ROW_OUTPUT = {
    "rowsCopied": 3,
    "dataWritten": 5,
    "rows": [{"id": 1}],
    "billingReference": {
        "activityType": "DataMovement",
        "billableDuration": [{"meterType": "AzureIR", "duration": 0.0667, "unit": "DIUHours"}],
    },
}


def activity(number: int, name: str, kind: str, status: str = "Succeeded", **more: Any) -> dict[str, Any]:
    return {
        "activityRunId": f"a{number}",
        "activityName": name,
        "activityType": kind,
        "activityRunStart": f"2026-01-01T10:00:{number % 60:02}Z",
        "activityRunEnd": "2026-01-01T10:00:59Z",
        "durationInMs": 1000,
        "status": status,
        "pipelineName": "Load",
        "pipelineRunId": "r1",
        "retryAttempt": None,
        "iterationHash": "",
        "error": {
            "errorCode": "2200",
            "message": "no table",
            "failureType": "UserError",
            "target": name,
            "details": [],
        },
        "input": {"source": {"type": "SqlSource"}},
        "output": copy.deepcopy(ROW_OUTPUT),
        **more,
    }


def page(*rows: dict[str, Any]) -> dict[str, Any]:
    return {"value": list(rows), "continuationToken": None}


ANSWERS: dict[str, Any] = {
    "get": RUN,
    "r1": page(
        activity(1, "Copy", "Copy", input={"inputs": [{"referenceName": "Source", "type": "DatasetReference"}]}),
        activity(2, "Child", "ExecutePipeline", output={"pipelineRunId": "r2"}),
        activity(3, "Each", "ForEach", error={"message": "Inner activity name: Table, Error: y", "errorCode": "1"}),
        activity(4, "Table", "Copy", iterationHash="h1"),
        activity(5, "Table", "Copy", iterationHash="h2"),
        activity(
            6,
            "Return",
            "SetVariable",
            output={"name": "pipelineReturnValue", "value": [{"key": "total", "value": {"type": "Int", "content": 3}}]},
        ),
    ),
    "r2": page(activity(7, "Inner", "Copy", pipelineRunId="r2", pipelineName="Small")),
    "pipeline": {
        "name": "Load",
        "properties": {
            "activities": [
                {
                    "name": "Each",
                    "type": "ForEach",
                    "typeProperties": {
                        "activities": [
                            {
                                "name": "Table",
                                "type": "Copy",
                                "typeProperties": {"queries": [{"dataflowSinks": {}}], "sinks": {}},
                                "inputs": [{"referenceName": "Source", "type": "DatasetReference"}],
                                "outputs": [{"referenceName": "Sink", "type": "DatasetReference"}],
                            }
                        ],
                        "cases": [{"value": "x", "activities": [{"name": "Other"}]}],
                    },
                }
            ]
        },
    },
}
OUTPUTS = parse_outputs(
    {"rows": "Copy.rowsCopied", "tables": "Table.rows[0].id", "total": "pipelineReturnValue.total", "all": "Copy"}
)

NESTED: Any = []
for _ in range(600):
    NESTED = [NESTED]
ODD = st.sampled_from(
    [
        *(None, True, False, 0, -1, 7, 10**400, -(10**400), 1e308, float("inf"), float("nan")),
        *("", " ", "x", "\x00", "\ud800", "Failed", "InProgress", "Cancelled", "r2", "é" * 100_000, "[" * 10_000),
        *("0001-01-01T00:00:00Z", "9999-12-31T23:59:59.9999999Z", "11/28/2026 1:00:00 AM", "2026-01-01T10:00:00"),
        *([], [None], {}, {"a": None}, {"runId": "r1"}, [[]], NESTED, ["x"] * 3),
    ]
)
Place = tuple[str | int, ...]


def places_of(value: Any, here: Place = ()) -> Iterator[Place]:
    """All places in a document, including the document itself."""
    yield here
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places_of(item, (*here, key))


PLACES = [(name, *place) for name, document in ANSWERS.items() for place in places_of(document)]


def with_odd(place: Place, how: str, odd: Any) -> dict[str, Any]:
    """The answers with one odd place: another value, a missing or repeated one, or an unknown member."""
    changed = copy.deepcopy(ANSWERS)
    holder: Any = changed
    for step in place[:-1]:
        holder = holder[step]
    last: Any = place[-1]
    if how == "missing" and len(place) > 1:
        del holder[last]
    elif how == "twice" and isinstance(holder, list):
        holder.append(copy.deepcopy(holder[last]))
    elif how == "unknown member" and isinstance(holder[last], dict):
        holder[last] |= {"somethingNew": odd}
    else:
        holder[last] = odd
    return changed


MEMBERS = {"Status": "status", "ActivityName": "activityName", "ActivityType": "activityType"}


def filtered(document: Any, call: Call[Any]) -> Any:
    """The rows that match a query. Rows with an odd member match every query."""
    if call.method != "query_by_pipeline_run" or not isinstance(document, dict):
        return document
    rows: Any = document.get("value")
    for condition in call.args[-1].get("filters", ()) if isinstance(rows, list) else ():
        rows = [
            row
            for row in rows
            if not isinstance(row, dict)
            or not isinstance(value := row.get(MEMBERS[condition["operand"]]), str)
            or value in condition["values"]
        ]
    return {**document, "value": rows} if "value" in document else document


class Service:
    """Answers calls with JSON text, which is read like an answer of the service."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.texts = {name: json.dumps(answer) for name, answer in answers.items()}
        self.clock = Clock()
        self.clock.now = 1_767_261_700.0
        self.unreadable = 0

    def answer(self, call: Call[Any]) -> Any:
        names = {"get": "get", "query_by_pipeline_run": str(call.args[2])}
        name = names.get(call.method, "") if call.group != "pipelines" else "pipeline"
        answer = parse(call, filtered(json.loads(self.texts.get(name, "{}")), call))
        if not isinstance(answer, FailedCall):
            return answer
        assert isinstance(answer.error, AdfUnavailableError)
        assert answer.error.unreadable
        self.unreadable += 1
        return answer.error

    def play(self, routine: Routine[Any]) -> Any:
        answer: Any = None
        while True:
            try:
                step = routine.send(answer)
            except StopIteration as end:
                return end.value
            answer = self.answer(step) if isinstance(step, Call) else answer_of(step, self.clock)

    def report(self) -> Report:
        """The report of a wait with an activity log, passed on as a trigger's event."""
        wait = reporting(
            RunAddress(run_id="r1", factory=FACTORY, studio_url="https://studio/r1", pipeline_name="Load"),
            Plan(check_interval=60, deadline=self.clock.now + 4000),
            cancel_on_timeout=False,
            timing=Timing(clock=self.clock, jitter=lambda: 0.5),
            activity_log="summary",
        )
        return Report.from_json(json.loads(json.dumps(self.play(wait).to_json(), allow_nan=False)))


def expected_end(place: Place, how: str, odd: Any, status: str) -> type[Any] | str:
    """The expected outcome of the wait: a status, or the class of another outcome."""
    if place == ("get",) and how != "unknown member":
        return GaveUp
    if place[:2] not in {("get", "runId"), ("get", "status")}:
        return status
    if how == "missing" or place[1] == "runId" or not isinstance(odd, str) or not odd.strip() or len(odd) > 1000:
        return GaveUp
    return odd if odd in {"Failed", "Cancelled"} else TimedOut


@pytest.mark.parametrize("status", ["Succeeded", "Failed"])
@given(st.sampled_from(PLACES), st.sampled_from(["other", "missing", "twice", "unknown member"]), ODD)
@example(("get", "lastUpdated"), "other", "11/28/2026 1:00:00 AM")
@example(("get", "runStart"), "other", "0001-01-01T00:00:00Z")
@example(("get", "runId"), "other", "r2")
@example(("get", "status"), "missing", None)
@example(("r1", "value", 0), "other", None)
@example(("r1", "value", 0), "twice", None)
@example(("r1", "value", 3, "error"), "other", "x")
@example(("r1", "value", 1, "output", "pipelineRunId"), "other", "\ud800")
@example(("r1", "value", 0, "output", "rowsCopied"), "other", 10**400)
@example(("r1", "value", 0, "output", "billingReference", "billableDuration", 0), "other", 10**400)
@example(("r1", "value", 4, "pipelineName"), "other", "<no name>")
@example(("pipeline", "properties", "activities"), "other", 7)
@example(("pipeline", "properties", "activities", 0, "typeProperties"), "other", "x")
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_answer_that_is_odd_at_one_place_causes_no_defect_and_no_wrong_end(
    status: str, place: Place, how: str, odd: Any
) -> None:
    answers = with_odd(place, how, odd)
    if status == "Failed":
        for row in [*_rows(answers, "r1"), *_rows(answers, "r2")]:
            if isinstance(row.get("status"), str):
                row["status"] = "Failed"
        if isinstance(answers["get"], dict) and answers["get"].get("status") == "Succeeded":
            answers["get"]["status"] = "Failed"
    service = Service(answers)
    report = service.report()
    expected = expected_end(place, how, odd, status)
    outcome = report.outcome
    assert (outcome.run.status if isinstance(outcome, Ended) else type(outcome)) == expected
    error = error_of(report)
    assert isinstance(outcome, GaveUp) is ("the answers could not be read" in str(error))
    assert str(error) if error is not None else json.dumps(summary(report.address, outcome.run), allow_nan=False)
    if isinstance(error, AdfRunFailed) and status == "Failed" and place[0] not in ("r1", "r2"):
        assert {"Copy", "Table", "Inner"} <= {failed.activity_name for failed in error.activities}
    run = outcome.run or PipelineRun.from_wire(RUN)
    data = service.play(reading_lineage(run, FACTORY, timing=Timing(clock=service.clock)))
    json.dumps([[data.name, data.rows] for data in data.outputs])
    if place[0] != "r1":
        assert {"Source"} <= {data.name for data in data.inputs}
    if status == "Succeeded":
        _read_outputs(service, run, place, is_list=bool(_rows(answers, "r1")))


def _read_outputs(service: Service, run: PipelineRun, place: Place, *, is_list: bool) -> None:
    try:
        found = service.play(reading_outputs(OUTPUTS, run, FACTORY, timing=Timing(clock=service.clock)))
    except AdfUnavailableError:
        assert not is_list
        return
    json.dumps(found.values, allow_nan=False).encode()
    assert found.values.keys() | {line.split("'")[1] for line in found.left_out} == OUTPUTS.keys()
    if place[0] != "r1":
        assert found.values == {"rows": 3, "tables": [1, 1], "total": 3, "all": ROW_OUTPUT}


def _rows(answers: dict[str, Any], run_id: str) -> list[dict[str, Any]]:
    listed = answers[run_id]
    rows = listed.get("value") if isinstance(listed, dict) else None
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def calls_made(act: Callable[[], object]) -> int:
    """How many functions of Python and C are called. The number does not depend on the machine."""
    count = 0

    def count_it(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(count_it)
    try:
        act()
    finally:
        sys.setprofile(None)
    return count


def iterations(count: int) -> dict[str, Any]:
    """The answers about a loop with `count` iterations, each of which is listed twice."""
    rows = [activity(n, "Table", "Copy", iterationHash=f"h{n}") for n in range(count)]
    return {**ANSWERS, "r1": page(*rows, *rows)}


@pytest.mark.parametrize("what", ["report", "outputs", "lineage"])
def test_work_grows_in_proportion_to_the_answer(what: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    run = PipelineRun.from_wire(RUN)

    def work(count: int) -> int:
        service = Service(iterations(count))
        routines: dict[str, Callable[[], Any]] = {
            "report": service.report,
            "outputs": lambda: service.play(reading_outputs(OUTPUTS, run, FACTORY, timing=Timing(clock=service.clock))),
            "lineage": lambda: service.play(reading_lineage(run, FACTORY, timing=Timing(clock=service.clock))),
        }
        return calls_made(routines[what])

    work(10)  # work that is done only once
    assert work(400) < 2.5 * work(200)

"""The emulated factory: starts, parameters, cancel, recovery, concurrency, lists, switches."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_adf_mi.emulator.errors import ServiceError
from airflow_adf_mi.emulator.state import FactoryState
from tests.conftest import activity, factory_of
from tests.unit.test_emulator_walker import FAILED, run_to_end, state, statuses

KEY = "0cc3f4c2-0000-4000-8000-000000000001"
WINDOW = {"lastUpdatedAfter": "2000-01-01T00:00:00Z", "lastUpdatedBefore": "2100-01-01T00:00:00Z"}
SIMPLE = factory_of(P=[activity("A")], Q=[activity("A")])


def refused(action: Any) -> ServiceError:
    with pytest.raises(ServiceError) as error:
        action()
    return error.value


def listed(factory: FactoryState, **body: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    token = None
    while True:
        page = factory.query_runs({**WINDOW, **body, **({"continuationToken": token} if token else {})})
        found += page["value"]
        token = page.get("continuationToken")
        if token is None:
            return found


def test_run_id_is_the_client_request_id_unless_switched_off() -> None:
    assert state(SIMPLE).create_run("P", None, client_request_id=KEY) == KEY
    assert state(SIMPLE).create_run("P", None, client_request_id="not a guid") != "not a guid"
    assert state(SIMPLE, run_id_from_request_id=False).create_run("P", None, client_request_id=KEY) != KEY


def test_second_start_with_the_same_request_id_does_what_the_switch_says() -> None:
    for choice, runs in (("conflict", 1), ("same", 1), ("new", 2)):
        factory = state(SIMPLE, duplicate_request_id=choice)
        factory.create_run("P", None, client_request_id=KEY)
        if choice == "conflict":
            assert refused(lambda f=factory: f.create_run("P", None, client_request_id=KEY)).status == 409
        else:
            factory.create_run("P", None, client_request_id=KEY)
        assert len(factory.runs) == runs


def test_parameters_are_defaulted_dropped_and_shown_as_text() -> None:
    declared = {"day": {"type": "string"}, "flags": {"type": "array", "defaultValue": [1, 2]}}
    factory = state(factory_of(P={"activities": [activity("A")], "parameters": declared}))
    run_id = factory.create_run("P", {"day": "x", "undeclared": 1})
    assert factory.get_run(run_id)["parameters"] == {"day": "x", "flags": "[1, 2]"}


def test_missing_parameter_does_what_the_switch_says() -> None:
    definition = factory_of(P={"activities": [activity("A")], "parameters": {"day": {"type": "string"}}})
    assert refused(lambda: state(definition).create_run("P", None)).status == 400
    run = run_to_end(state(definition, missing_parameter="fail_run"))
    assert run.message == "Operation on target P failed: The workflow parameter 'day' is not found"


def test_unknown_pipeline_and_run_are_not_found() -> None:
    factory = state(SIMPLE)
    assert refused(lambda: factory.create_run("Nope", None)).status == 404
    assert refused(lambda: factory.get_run("nope")).status == 404
    assert refused(lambda: factory.cancel_run("nope")).code == "ReferencedPipelineRunNotFound"


def test_cancel_is_asynchronous() -> None:
    factory = state(SIMPLE, {"activities": {"P/A": {"seconds": 600}}})
    run_id = factory.create_run("P", None)
    factory.clock.advance(5)
    factory.cancel_run(run_id)
    assert factory.get_run(run_id)["status"] == "Canceling"
    assert factory.get_run(run_id)["runEnd"] is None
    factory.clock.advance(2)
    assert factory.get_run(run_id)["status"] == "Cancelled"
    assert statuses(factory.runs[run_id]) == [("A", "Cancelled")]
    late = refused(lambda: factory.cancel_run(run_id))
    assert (late.status, late.code) == (400, "PipelineRunNotRunning")
    assert "completed with status 'Cancelled'.Only" in late.message


def test_cancel_that_loses_lets_the_run_end_as_it_would() -> None:
    script = {"activities": {"P/A": {"seconds": 10}}, "pipelines": {"P": {"cancel": "loses"}}}
    factory = state(SIMPLE, script)
    run_id = factory.create_run("P", None)
    factory.clock.advance(5)
    factory.cancel_run(run_id)
    factory.clock.advance(60)
    assert factory.get_run(run_id)["status"] == "Succeeded"


@pytest.mark.parametrize(("recursive", "child"), [(True, "Cancelled"), (False, "Succeeded")])
def test_cancel_reaches_child_runs_only_when_recursive(recursive: bool, child: str) -> None:
    definition = factory_of(
        P=[activity("Call", "ExecutePipeline", pipeline={"referenceName": "C"}, waitOnCompletion=True)],
        C=[activity("A")],
    )
    factory = state(definition, {"activities": {"C/A": {"seconds": 60}}})
    run_id = factory.create_run("P", None)
    factory.clock.advance(5)
    factory.cancel_run(run_id, recursive=recursive)
    factory.clock.advance(600)
    factory.settle()
    assert factory.runs[run_id].status == "Cancelled"
    assert [r.status for r in factory.runs.values() if r.pipeline == "C"] == [child]


def test_queued_run_can_be_cancelled() -> None:
    factory = state(SIMPLE)
    run_id = factory.create_run("P", None)
    factory.cancel_run(run_id)
    factory.clock.advance(60)
    assert factory.get_run(run_id)["status"] == "Cancelled"
    assert factory.runs[run_id].activities == []


def recovered(**arguments: Any) -> tuple[FactoryState, str, str]:
    definition = factory_of(
        P={
            "activities": [activity("A"), activity("B", "Copy", "A"), activity("C", "Copy", "B")],
            "parameters": {"day": {"type": "string"}},
        }
    )
    factory = state(definition, {"runs": [{"pipeline": "P", "times": 1, "activities": {"B": FAILED}}]})
    first = run_to_end(factory, parameters={"day": "x"}).run_id
    second = factory.create_run("P", {"day": "ignored"}, reference_run_id=first, is_recovery=True, **arguments)
    factory.clock.advance(3600)
    factory.settle()
    return factory, first, second


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ({}, ["A", "B", "C"]),
        ({"start_from_failure": True}, ["B", "C"]),
        ({"start_activity_name": "C"}, ["C"]),
        ({"start_activity_name": "C", "start_from_failure": True}, ["C"]),
    ],
)
def test_recovery_run_continues_its_reference(arguments: dict[str, Any], names: list[str]) -> None:
    factory, first, second = recovered(**arguments)
    assert [entry.name for entry in factory.runs[second].activities] == names
    shown = factory.get_run(second)
    assert shown["status"] == "Succeeded"
    assert (shown["runGroupId"], shown["isLatest"], shown["parameters"]) == (first, True, {"day": "x"})
    assert factory.get_run(first)["isLatest"] is False


def test_reference_alone_supplies_parameters_and_does_not_group() -> None:
    factory, first, _ = recovered()
    third = factory.create_run("P", None, reference_run_id=first)
    assert factory.get_run(third)["parameters"] == {"day": "x"}
    assert factory.get_run(third)["runGroupId"] == third


def test_bad_recovery_requests_are_refused() -> None:
    factory, first, _ = recovered()
    for arguments in (
        {"pipeline": "P", "reference_run_id": "nope"},
        {"pipeline": "P", "reference_run_id": first, "is_recovery": True, "start_activity_name": "Z"},
    ):
        assert refused(lambda a=arguments: factory.create_run(a.pop("pipeline"), None, **a)).status == 400


def test_recovery_of_a_running_reference_does_what_the_switch_says() -> None:
    for choice in ("accept", "refuse"):
        factory = state(SIMPLE, recovery_of_running=choice)
        first = factory.create_run("P", None)
        start = partial(factory.create_run, "P", None, reference_run_id=first, is_recovery=True)
        if choice == "refuse":
            assert refused(start).status == 400
        else:
            assert start() != first


def test_concurrency_queues_runs_and_refuses_the_hundred_and_first() -> None:
    definition = factory_of(P={"activities": [activity("A")], "concurrency": 1})
    factory = state(definition, {"activities": {"P/A": {"seconds": 10}}})
    first, second = factory.create_run("P", None), factory.create_run("P", None)
    factory.clock.advance(5)
    assert (factory.get_run(first)["status"], factory.get_run(second)["status"]) == ("InProgress", "Queued")
    factory.clock.advance(6)
    assert (factory.get_run(first)["status"], factory.get_run(second)["status"]) == ("Succeeded", "InProgress")
    for _ in range(100):
        factory.create_run("P", None)
    assert "maximum of 100 runs" in refused(lambda: factory.create_run("P", None)).message


def test_list_is_behind_by_its_lag_and_frozen_where_switched() -> None:
    factory = state(SIMPLE, list_lag_seconds=60)
    factory.create_run("P", None)
    factory.clock.advance(30)
    assert listed(factory) == []
    factory.clock.advance(31)
    assert [run["status"] for run in listed(factory)] == ["InProgress"]
    factory.clock.advance(60)
    assert [run["status"] for run in listed(factory)] == ["Succeeded"]
    factory.switches.list_frozen_at = factory.clock.now()
    factory.clock.advance(1)
    factory.create_run("P", None)
    factory.clock.advance(3600)
    assert len(listed(factory)) == 1


def test_get_can_be_behind_too() -> None:
    factory = state(SIMPLE, get_visible_after=5)
    run_id = factory.create_run("P", None)
    assert refused(lambda: factory.get_run(run_id)).status == 404
    factory.clock.advance(5)
    assert factory.get_run(run_id)["runId"] == run_id


def test_filters_and_order() -> None:
    factory = state(SIMPLE, {"activities": {"Q/A": FAILED}})
    p = run_to_end(factory, "P").run_id
    q = run_to_end(factory, "Q").run_id

    def where(operand: str, operator: str, *values: Any) -> list[str]:
        return [
            r["runId"]
            for r in listed(factory, filters=[{"operand": operand, "operator": operator, "values": [*values]}])
        ]

    assert where("PipelineName", "Equals", "P") == [p]
    assert where("PipelineName", "NotEquals", "P") == [q]
    assert where("Status", "In", "Failed", "Cancelled") == [q]
    assert where("Status", "NotIn", "Failed") == [p]
    assert where("RunGroupId", "Equals", p) == [p]
    assert where("LatestOnly", "Equals", True) == [p, q]
    assert [r["runId"] for r in listed(factory, orderBy=[{"orderBy": "RunStart", "order": "DESC"}])] == [q, p]
    assert listed(factory, lastUpdatedBefore="2001-01-01T00:00:00Z") == []


@pytest.mark.parametrize(
    "body",
    [
        {"filters": [{"operand": "RunId", "operator": "Equals", "values": ["x"]}]},
        {"filters": [{"operand": "Status", "operator": "Like", "values": ["x"]}]},
        {"filters": [{"operand": "RunGroupId", "operator": "In", "values": ["a", "b"]}]},
        {"orderBy": [{"orderBy": "Nothing", "order": "ASC"}]},
        {"continuationToken": "%%%"},
        {"lastUpdatedAfter": "yesterday"},
    ],
)
def test_bad_queries_are_refused(body: dict[str, Any]) -> None:
    factory = state(SIMPLE)
    run_to_end(factory)
    assert refused(lambda: factory.query_runs({**WINDOW, **body})).status == 400


@given(st.integers(0, 25), st.integers(1, 7))
def test_pages_hold_every_run_exactly_once_even_while_new_ones_come(count: int, page_size: int) -> None:
    factory = state(SIMPLE, page_size=page_size)
    ids = [factory.create_run("P", None, client_request_id=str(uuid.UUID(int=n + 1))) for n in range(count)]
    found: list[str] = []
    token = None
    while True:
        page = factory.query_runs({**WINDOW, **({"continuationToken": token} if token else {})})
        assert len(page["value"]) <= page_size
        found += [run["runId"] for run in page["value"]]
        token = page.get("continuationToken")
        if token is None:
            break
        factory.clock.advance(1)
        factory.create_run("P", None)
    assert sorted(found) == sorted(ids)


def test_activity_runs_of_an_unknown_run_are_an_empty_list() -> None:
    factory = state(SIMPLE)
    run = run_to_end(factory)
    assert factory.query_activity_runs("nope", WINDOW) == {"value": []}
    (entry,) = factory.query_activity_runs(run.run_id, WINDOW)["value"]
    assert (entry["activityName"], entry["pipelineRunId"], entry["status"]) == ("A", run.run_id, "Succeeded")
    assert (
        factory.query_activity_runs(run.run_id, {**WINDOW, "lastUpdatedBefore": "2001-01-01T00:00:00Z"})["value"] == []
    )


def test_times_are_shown_as_the_service_does() -> None:
    factory = state(SIMPLE)
    factory.clock.advance(0.25)
    shown = factory.get_run(factory.create_run("P", None))["runStart"]
    assert shown.endswith(".25Z")
    assert datetime.fromisoformat(shown) == datetime.fromtimestamp(factory.clock.now(), UTC)

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
from airflow_adf_mi.emulator.pipelines.rendering import wire_time
from airflow_adf_mi.emulator.service.state import FactoryState
from tests.conftest import activity, factory_of
from tests.support.walks import FAILED, run_to_end, state, statuses

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


@pytest.mark.parametrize(
    ("switches", "keys"),
    [
        ({}, [True, True, True]),
        ({"rerun_id_from_request_id": False}, [True, False, True]),
        ({"run_id_from_request_id": False}, [False, False, False]),
    ],
    ids=["keys", "own-rerun-ids", "own-ids"],
)
def test_id_of_a_recovery_run_follows_the_switches(switches: dict[str, Any], keys: list[bool]) -> None:
    factory = state(SIMPLE, **switches)
    ids = [str(uuid.uuid4()) for _ in range(3)]
    first = factory.create_run("P", None, client_request_id=ids[0])
    recovery = factory.create_run("P", None, client_request_id=ids[1], reference_run_id=first, is_recovery=True)
    # A reference alone makes no recovery run.
    third = factory.create_run("P", None, client_request_id=ids[2], reference_run_id=first)
    assert [run_id == key for run_id, key in zip((first, recovery, third), ids, strict=True)] == keys


def test_second_start_with_the_same_request_id_follows_the_switch() -> None:
    for choice, runs in (("conflict", 1), ("same", 1), ("new", 2)):
        factory = state(SIMPLE, duplicate_request_id=choice)
        factory.create_run("P", None, client_request_id=KEY)
        if choice == "conflict":
            assert refused(lambda f=factory: f.create_run("P", None, client_request_id=KEY)).status == 409
        else:
            factory.create_run("P", None, client_request_id=KEY)
        assert len(factory.runs) == runs


def test_parameters_get_defaults_and_are_shown_as_text() -> None:
    declared = {"day": {"type": "string"}, "flags": {"type": "array", "defaultValue": [1, 2]}}
    factory = state(factory_of(P={"activities": [activity("A")], "parameters": declared}))
    run_id = factory.create_run("P", {"day": "x", "undeclared": 1})
    assert factory.get_run(run_id)["parameters"] == {"day": "x", "flags": "[1, 2]"}


def test_missing_parameter_follows_the_switch() -> None:
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


def test_cancel_that_is_scripted_to_lose_lets_the_run_succeed() -> None:
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


def test_recovery_of_a_running_reference_follows_the_switch() -> None:
    for choice in ("accept", "refuse"):
        factory = state(SIMPLE, recovery_of_running=choice)
        first = factory.create_run("P", None)
        start = partial(factory.create_run, "P", None, reference_run_id=first, is_recovery=True)
        if choice == "refuse":
            assert refused(start).status == 400
        else:
            assert start() != first


def test_recovery_of_a_run_that_is_not_the_latest_of_its_group_follows_the_switch() -> None:
    for choice in ("accept", "refuse"):
        factory = state(SIMPLE, recovery_of_superseded=choice)
        first = run_to_end(factory).run_id
        second = factory.create_run("P", None, reference_run_id=first, is_recovery=True)
        start = partial(factory.create_run, "P", None, reference_run_id=first)
        if choice == "refuse":
            assert refused(lambda s=start: s(is_recovery=True)).status == 400
        else:
            assert factory.get_run(start(is_recovery=True))["isLatest"] is True
        # Its parameters may still be used, and the latest run can be continued.
        assert start()
        latest = second if choice == "refuse" else list(factory.runs)[2]
        assert factory.create_run("P", None, reference_run_id=latest, is_recovery=True)


def test_old_reference_is_refused_if_the_switch_is_set() -> None:
    factory = state(SIMPLE, recovery_within_days=30)
    first = run_to_end(factory).run_id
    assert factory.create_run("P", None, reference_run_id=first, is_recovery=True)
    factory.clock.advance(30 * 86_400)
    assert "30 days" in refused(lambda: factory.create_run("P", None, reference_run_id=first, is_recovery=True)).message
    assert factory.create_run("P", None, reference_run_id=first)


def again(activities: list[dict[str, Any]], failing: dict[str, Any], **arguments: Any) -> list[tuple[str, str]]:
    """The activities that a recovery runs, after a run in which `failing` was scripted. In the recovery nothing fails."""
    factory = state(factory_of(P=activities), {"runs": [{"pipeline": "P", "times": 1, "activities": failing}]})
    first = run_to_end(factory).run_id
    second = factory.create_run("P", None, reference_run_id=first, is_recovery=True, **arguments)
    factory.clock.advance(3600)
    factory.settle()
    return statuses(factory.runs[second])


def test_start_activity_starts_despite_its_conditions() -> None:
    handled = [activity("A"), activity("Handle", "Copy", "A:Failed"), activity("Last", "Copy", "Handle")]
    assert again(handled, {}, start_activity_name="Handle") == [("Handle", "Succeeded"), ("Last", "Succeeded")]


def test_recovery_from_a_failure_repeats_its_handler_and_skipped_activities() -> None:
    activities = [
        activity("Start"),
        activity("A", "Copy", "Start"),
        activity("Handle", "Copy", "A:Failed"),
        activity("Next", "Copy", "A"),
        activity("Beside"),
    ]
    assert again(activities, {"A": FAILED}, start_from_failure=True) == [
        ("A", "Succeeded"),
        ("Handle", "Skipped"),
        ("Next", "Succeeded"),
    ]


def test_recovery_uses_the_outputs_of_activities_that_it_does_not_repeat() -> None:
    use = activity("Use", "Copy", "Look", found="@activity('Look').output.n")
    failing = {"Look": {"output": {"n": 3}}, "Use": FAILED}
    factory = state(
        factory_of(P=[activity("Look", "Lookup"), use]),
        {"runs": [{"pipeline": "P", "times": 1, "activities": failing}]},
    )
    first = run_to_end(factory).run_id
    second = factory.create_run("P", None, reference_run_id=first, is_recovery=True, start_from_failure=True)
    factory.clock.advance(60)
    factory.settle()
    assert [(entry.name, entry.input) for entry in factory.runs[second].activities] == [("Use", {"found": 3})]


def test_recovery_of_a_recovery_repeats_only_what_failed_last() -> None:
    factory = state(
        factory_of(P=[activity("A"), activity("B", "Copy", "A"), activity("C", "Copy", "B")]),
        {"runs": [{"pipeline": "P", "times": 1, "activities": {name: FAILED}} for name in ("B", "C")]},
    )
    previous = run_to_end(factory).run_id
    ran = []
    for _ in range(2):
        previous = factory.create_run("P", None, reference_run_id=previous, is_recovery=True, start_from_failure=True)
        factory.clock.advance(3600)
        factory.settle()
        ran.append([entry.name for entry in factory.runs[previous].activities])
    assert ran == [["B", "C"], ["C"]]
    assert [run["runId"] for run in listed(factory) if run["isLatest"]] == [previous]
    assert len({run["runGroupId"] for run in listed(factory)}) == 1


def test_concurrency_queues_100_runs_and_refuses_the_next() -> None:
    definition = factory_of(P={"activities": [activity("A")], "concurrency": 1})
    factory = state(definition, {"activities": {"P/A": {"seconds": 10}}})
    first, second = factory.create_run("P", None), factory.create_run("P", None)
    factory.clock.advance(5)
    assert (factory.get_run(first)["status"], factory.get_run(second)["status"]) == ("InProgress", "Queued")
    factory.clock.advance(6)
    assert (factory.get_run(first)["status"], factory.get_run(second)["status"]) == ("Succeeded", "InProgress")
    for _ in range(100):
        factory.create_run("P", None)
    full = refused(lambda: factory.create_run("P", None))
    assert (full.status, full.code, full.headers) == (400, "BadRequest", {})
    assert full.message == (
        "Pipeline execution throttled. If the concurrency value is set for a pipeline, "
        "a maximum of 100 runs will be queued for execution."
    )


def limited(concurrency: int, **script: Any) -> FactoryState:
    declared = {"n": {"type": "int", "defaultValue": 0}}
    definition = {"activities": [activity("A")], "concurrency": concurrency, "parameters": declared}
    return state(factory_of(P=definition), {"activities": {"P/A": {"seconds": 10}}, **script})


def test_answer_of_a_full_queue_follows_the_switches() -> None:
    factory = limited(1)
    factory.switches = factory.switches.changed({"full_queue_status": 429, "most_queued": 2})
    for _ in range(3):  # one may begin, two wait
        factory.create_run("P", None)
    full = refused(lambda: factory.create_run("P", None))
    assert (full.status, full.code, full.headers) == (429, "TooManyRequests", {})
    assert "a maximum of 2 runs will be queued" in full.message
    factory.clock.advance(1)
    assert refused(lambda: factory.create_run("P", None)).status == 429
    factory.clock.advance(10)  # the first run ends, and the next begins
    factory.create_run("P", None)
    assert refused(lambda: factory.create_run("P", None)).status == 429


@given(st.integers(1, 5), st.integers(0, 5), st.floats(0, 5))
def test_queue_holds_as_many_runs_as_the_switch_allows(concurrency: int, most_queued: int, later: float) -> None:
    factory = limited(concurrency)
    factory.switches.most_queued = most_queued
    for _ in range(concurrency):
        factory.create_run("P", None)
    factory.clock.advance(later)
    for _ in range(most_queued):
        factory.create_run("P", None)
    refused(lambda: factory.create_run("P", None))


def test_pipeline_without_concurrency_has_no_queue_that_fills() -> None:
    factory = state(SIMPLE, most_queued=0)
    for _ in range(3):
        factory.create_run("P", None)


def test_queue_is_first_come_first_served() -> None:
    slow_to_queue = {"pipeline": "P", "when": {"n": 1}, "pipelines": {"P": {"queued_seconds": 5}}}
    factory = limited(1, runs=[slow_to_queue])
    first, second, third = (factory.create_run("P", {"n": n}) for n in range(3))
    factory.clock.advance(60)
    factory.settle()
    started = [factory.runs[run_id].started for run_id in (first, second, third)]
    assert started == sorted(started, key=lambda moment: moment or 0.0)
    assert factory.runs[third].ended == factory.runs[first].created + 0.5 + 3 * 10


def test_run_cancelled_in_the_queue_does_not_delay_others() -> None:
    factory = limited(1)
    first, second, third = (factory.create_run("P", None) for _ in range(3))
    factory.clock.advance(1)
    factory.cancel_run(second)
    factory.clock.advance(10)
    assert [factory.get_run(run_id)["status"] for run_id in (first, second, third)] == [
        "Succeeded",
        "Cancelled",
        "InProgress",
    ]


@given(st.integers(1, 4), st.lists(st.tuples(st.floats(0, 5), st.booleans()), min_size=1, max_size=12))
def test_concurrency_limits_the_runs_in_progress(concurrency: int, starts: list[tuple[float, bool]]) -> None:
    factory = limited(concurrency)
    for pause, cancelled in starts:
        run_id = factory.create_run("P", None)
        factory.clock.advance(pause)
        factory.settle()
        if cancelled and not factory.runs[run_id].is_over:
            factory.cancel_run(run_id)
    factory.clock.advance(1000)
    factory.settle()
    runs = list(factory.runs.values())
    assert all(run.is_over for run in runs)
    for run in runs:
        if run.started is not None:
            beside = [o for o in runs if o.started is not None and o.started <= run.started < (o.ended or 0.0)]
            assert len(beside) <= concurrency


def test_missing_parameter_fails_the_run_after_a_wait_in_the_queue() -> None:
    definition = {"activities": [activity("A")], "concurrency": 1, "parameters": {"day": {"type": "string"}}}
    factory = state(factory_of(P=definition), missing_parameter="fail_run")
    factory.create_run("P", {"day": "x"})
    run_id = factory.create_run("P", None)
    factory.clock.advance(60)
    assert "'day' is not found" in factory.get_run(run_id)["message"]


def test_refused_start_changes_nothing() -> None:
    factory = limited(1, runs=[{"pipeline": "P", "times": 1, "when": {"n": 7}, "activities": {"A": {"seconds": 1}}}])
    first = factory.create_run("P", None)
    factory.clock.advance(60)
    for _ in range(101):
        factory.create_run("P", None)
    refused(lambda: factory.create_run("P", None, reference_run_id=first, is_recovery=True))
    refused(lambda: factory.create_run("P", {"n": 7}))
    assert factory.get_run(first)["isLatest"] is True
    assert factory.script.runs[0].times == 1


def test_cancelled_run_does_not_become_failed() -> None:
    script = {"activities": {"P/A": {"seconds": 10, **FAILED}}, "pipelines": {"P": {"cancel_seconds": 30}}}
    factory = state(SIMPLE, script)
    run_id = factory.create_run("P", None)
    factory.clock.advance(5)
    factory.cancel_run(run_id)
    factory.cancel_run(run_id)
    factory.clock.advance(10)
    assert factory.get_run(run_id)["status"] == "Canceling"
    factory.clock.advance(20)
    assert factory.get_run(run_id)["status"] == "Cancelled"


@pytest.mark.parametrize("child_seconds", [1, 30])
def test_recursive_cancel_ends_caller_and_child_as_cancelled(child_seconds: float) -> None:
    call = activity("Call", "ExecutePipeline", pipeline={"referenceName": "C"})
    script = {"activities": {"C/A": {"seconds": 600}}, "pipelines": {"C": {"cancel_seconds": child_seconds}}}
    factory = state(factory_of(P=[call], C=[activity("A")]), script)
    run_id = factory.create_run("P", None)
    factory.clock.advance(5)
    factory.cancel_run(run_id, recursive=True)
    factory.clock.advance(60)
    factory.settle()
    assert {run.status for run in factory.runs.values()} == {"Cancelled"}


def test_ill_typed_parameter_follows_the_switch() -> None:
    declared = {
        "n": {"type": "Int", "defaultValue": 1},
        "flag": {"type": "bool", "defaultValue": True},
        "names": {"type": "array", "defaultValue": []},
    }
    definition = factory_of(P={"activities": [activity("A")], "parameters": declared})
    for given_values in ({"n": "1"}, {"n": True}, {"flag": 1}, {"names": "a"}):
        assert run_to_end(state(definition), parameters=given_values).status == "Succeeded"
        factory = state(definition, ill_typed_parameter="refuse")
        assert refused(lambda f=factory, v=given_values: f.create_run("P", v)).status == 400
        run = run_to_end(state(definition, ill_typed_parameter="fail_run"), parameters=given_values)
        assert "is not of type" in str(run.message)
    fitting = {"n": 2, "flag": False, "names": ["a"]}
    assert run_to_end(state(definition, ill_typed_parameter="refuse"), parameters=fitting).status == "Succeeded"


def test_answer_for_an_unknown_run_follows_the_switches() -> None:
    factory = state(SIMPLE, unknown_run_status=400, unknown_run_code="RunNotFound")
    error = refused(lambda: factory.get_run("nope"))
    assert (error.status, error.code) == (400, "RunNotFound")


def test_list_lags_and_freezes_as_the_switches_say() -> None:
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


def test_get_run_can_lag_too() -> None:
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


def test_order_by_time_ignores_how_fractions_are_written() -> None:
    factory = state(SIMPLE)
    ids = []
    for _ in range(4):
        ids.append(factory.create_run("P", None))
        factory.clock.advance(0.25)
    for order, expected in (("ASC", ids), ("DESC", ids[::-1])):
        assert [r["runId"] for r in listed(factory, orderBy=[{"orderBy": "RunStart", "order": order}])] == expected
    factory.clock.advance(1)
    by_end = listed(factory, orderBy=[{"orderBy": "RunEnd", "order": "ASC"}])
    ended = [run["runId"] for run in by_end if run["runEnd"] is not None]
    assert [run["runEnd"] for run in by_end][: 4 - len(ended)] == [None] * (4 - len(ended))
    assert ended == ids[: len(ended)]
    by_status = listed(
        factory, orderBy=[{"orderBy": "Status", "order": "ASC"}, {"orderBy": "RunStart", "order": "DESC"}]
    )
    assert [r["status"] for r in by_status] == sorted(r["status"] for r in by_status)


def test_list_of_activities_can_lag() -> None:
    factory = state(SIMPLE, {"activities": {"P/A": FAILED}}, activity_list_lag_seconds=60)
    run_id = factory.create_run("P", None)
    factory.clock.advance(50)
    assert factory.get_run(run_id)["status"] == "Failed"
    assert factory.query_activity_runs(run_id, WINDOW)["value"] == []
    factory.clock.advance(11)
    (entry,) = factory.query_activity_runs(run_id, WINDOW)["value"]
    assert (entry["status"], entry["activityRunEnd"], entry["error"]["message"]) == ("InProgress", None, "")
    factory.clock.advance(60)
    (entry,) = factory.query_activity_runs(run_id, WINDOW)["value"]
    assert (entry["status"], entry["error"]["message"]) == ("Failed", "boom")


def test_activity_runs_are_filtered_ordered_and_paged() -> None:
    factory = state(factory_of(P=[activity(f"A{n}") for n in range(5)]), {"activities": {"P/A3": FAILED}}, page_size=2)
    run = run_to_end(factory)
    found: list[str] = []
    token: dict[str, Any] = {}
    while True:
        body = {**WINDOW, "orderBy": [{"orderBy": "ActivityName", "order": "DESC"}], **token}
        page = factory.query_activity_runs(run.run_id, body)
        found += [entry["activityName"] for entry in page["value"]]
        if "continuationToken" not in page:
            break
        token = {"continuationToken": page["continuationToken"]}
    assert found == ["A4", "A3", "A2", "A1", "A0"]
    failed = {"operand": "Status", "operator": "Equals", "values": ["Failed"]}
    (only,) = factory.query_activity_runs(run.run_id, {**WINDOW, "filters": [failed]})["value"]
    assert only["activityName"] == "A3"


def test_run_dimensions_are_evaluated() -> None:
    properties = {
        "activities": [activity("A")],
        "parameters": {"job": {"type": "string"}},
        "runDimensions": {"Job": {"type": "Expression", "value": "@pipeline().parameters.job"}},
    }
    factory = state(factory_of(P=properties))
    assert factory.get_run(factory.create_run("P", {"job": "j"}))["runDimension"] == {"Job": "j"}


@pytest.mark.parametrize(
    "body",
    [
        {"filters": "Status"},
        {"filters": ["Status"]},
        {"orderBy": {}},
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
    assert refused(lambda: factory.query_trigger_runs({**WINDOW, **body})).status == 400


def test_query_of_trigger_runs_checks_its_own_operands_and_returns_none() -> None:
    factory = state(SIMPLE)
    body = {
        "filters": [{"operand": "TriggerName", "operator": "Equals", "values": ["Daily"]}],
        "orderBy": [{"orderBy": "TriggerRunTimestamp", "order": "DESC"}],
    }
    assert factory.query_trigger_runs({**WINDOW, **body}) == {"value": []}
    assert refused(lambda: factory.query_runs({**WINDOW, **body})).status == 400


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("P", {}),
        ("P", {"properties": {"activities": "[parameters('activities')]"}}),
        ("P", {"properties": {"activities": [], "parameters": []}}),
        ("P", {"properties": {"activities": [activity("A"), activity("A")]}}),
        ("P?", {"properties": {"activities": []}}),
    ],
)
def test_invalid_pipeline_is_refused_and_changes_nothing(name: str, body: dict[str, Any]) -> None:
    factory = state(SIMPLE)
    before = factory.pipelines()
    assert refused(lambda: factory.put_pipeline(name, body)).status == 400
    assert factory.pipelines() == before


def test_tag_of_a_missing_pipeline_does_not_match() -> None:
    factory = state(SIMPLE)
    assert refused(lambda: factory.put_pipeline("New", {"properties": {}}, if_match="*")).status == 412
    assert factory.put_pipeline("P", {"properties": {}}, if_match="*")["properties"] == {}


@given(st.integers(0, 25), st.integers(1, 7))
def test_pages_contain_each_run_once_although_new_runs_begin(count: int, page_size: int) -> None:
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


def test_times_have_the_format_of_the_service() -> None:
    factory = state(SIMPLE)
    factory.clock.advance(0.25)
    shown = factory.get_run(factory.create_run("P", None))["runStart"]
    assert shown.endswith(".25Z")
    assert datetime.fromisoformat(shown) == datetime.fromtimestamp(factory.clock.now(), UTC)


@pytest.mark.parametrize(
    ("epoch", "text"),
    [
        (0.0, "1970-01-01T00:00:00Z"),
        (0.5, "1970-01-01T00:00:00.5Z"),
        (1.0000001, "1970-01-01T00:00:01.0000001Z"),
        (1.99999999, "1970-01-01T00:00:02Z"),
        (100.0, "1970-01-01T00:01:40Z"),
    ],
)
def test_times_have_up_to_seven_digits(epoch: float, text: str) -> None:
    assert wire_time(epoch) == text

"""Loops, branches and child pipelines in the emulator: their values, and how they end."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_adf_mi.emulator.pipelines.runs import Run
from airflow_adf_mi.emulator.service.state import FactoryState
from tests.conftest import activity, factory_of
from tests.support.walks import FAILED, run_to_end, state, statuses, walked

WINDOW = {"lastUpdatedAfter": "2000-01-01T00:00:00Z", "lastUpdatedBefore": "2100-01-01T00:00:00Z"}


def named(run: Run, name: str) -> list[Any]:
    return [entry for entry in run.activities if entry.name == name]


def test_parallel_iterations_use_their_own_outputs_and_items() -> None:
    loop = activity(
        "Each",
        "ForEach",
        items=["a", "b", "c"],
        activities=[
            activity("Look", "Lookup"),
            activity("Use", "Copy", "Look", found="@activity('Look').output.n", of="@item()"),
        ],
    )
    run = walked(loop, Look={"outputs_by_iteration": [{"n": 1}, {"n": 2}, {"n": 3}]})
    assert [entry.input for entry in named(run, "Use")] == [
        {"found": 1, "of": "a"},
        {"found": 2, "of": "b"},
        {"found": 3, "of": "c"},
    ]


def test_later_iterations_use_the_general_output() -> None:
    loop = activity("Each", "ForEach", items=[1, 2], activities=[activity("Look", "Lookup")])
    run = walked(loop, Look={"outputs_by_iteration": [{"n": 1}], "output": {"n": 0}})
    assert [entry.output for entry in named(run, "Look")] == [{"n": 1}, {"n": 0}]


def test_outputs_from_inside_a_container_can_be_used_after_it() -> None:
    run = walked(
        activity(
            "Until", "Until", expression="@equals(activity('Poll').output.done, true)", activities=[activity("Poll")]
        ),
        activity("After", "Copy", "Until", said="@activity('Poll').output.done"),
        Poll={"outputs_by_iteration": [{"done": False}, {"done": True}]},
    )
    assert [entry.output for entry in named(run, "Poll")] == [{"done": False}, {"done": True}]
    assert named(run, "After")[0].input == {"said": True}


def test_until_continues_after_a_failure_and_ends_like_its_last_round() -> None:
    until = activity(
        "Until", "Until", expression="@equals(activity('Poll').Status, 'Succeeded')", activities=[activity("Poll")]
    )
    run = walked(until, Poll={"fail_iterations": [0, 1]})
    assert statuses(run) == [("Until", "Succeeded"), ("Poll", "Failed"), ("Poll", "Failed"), ("Poll", "Succeeded")]
    assert run.status == "Succeeded"
    run = walked(activity("Until", "Until", expression="@bool(1)", activities=[activity("Poll")]), Poll=FAILED)
    assert statuses(run) == [("Until", "Failed"), ("Poll", "Failed")]


def test_until_that_times_out_cancels_its_activities() -> None:
    slow = activity("Slow")
    until = activity("Until", "Until", expression="@bool(0)", timeout="0.00:01:00", activities=[slow])
    run = walked(until, activity("Cleanup", "Copy", "Until:Failed"), Slow={"seconds": 25})
    assert statuses(run) == [
        ("Until", "Failed"),
        ("Slow", "Succeeded"),
        ("Slow", "Succeeded"),
        ("Slow", "Cancelled"),
        ("Cleanup", "Succeeded"),
    ]
    until_entry = run.activities[0]
    assert until_entry.ended is not None
    assert until_entry.ended - until_entry.started == 60
    assert until_entry.error is not None
    assert until_entry.error["message"] == "Until activity timed out after 60 seconds."


def test_until_without_an_end_fails_after_1000_rounds() -> None:
    run = walked(activity("Until", "Until", expression="@bool(0)", activities=[]))
    assert run.status == "Failed"
    assert "1000 rounds" in str(run.message)


def test_switch_compares_numbers_as_text() -> None:
    switch = activity("Switch", "Switch", on="@int('2')", cases=[{"value": "2", "activities": [activity("Two")]}])
    assert statuses(walked(switch)) == [("Switch", "Succeeded"), ("Two", "Succeeded")]
    assert statuses(walked(switch, Switch={"case": "3"})) == [("Switch", "Succeeded")]


def test_failure_that_is_handled_in_a_branch_does_not_fail_the_container() -> None:
    inner = [activity("A"), activity("Handle", "Copy", "A:Failed")]
    run = walked(activity("If", "IfCondition", expression="@bool(1)", ifTrueActivities=inner), A=FAILED)
    assert statuses(run) == [("If", "Succeeded"), ("A", "Failed"), ("Handle", "Succeeded")]


def calling(child: dict[str, Any], **call: Any) -> FactoryState:
    return state(
        factory_of(P=[activity("Call", "ExecutePipeline", pipeline={"referenceName": "Child"}, **call)], Child=child),
    )


def test_child_gets_parameters_and_returns_values() -> None:
    back = [
        {"key": "seen", "value": {"type": "Expression", "content": "@pipeline().parameters.day"}},
        {"key": "fixed", "value": {"type": "Int", "content": 7}},
        {"key": "several", "value": {"type": "Array", "content": [{"type": "String", "content": "x"}]}},
        {"key": "lost", "value": {"type": "Expression", "content": "@utcNow()"}},
    ]
    child = {
        "activities": [activity("Return", "SetVariable", variableName="pipelineReturnValue", value=back)],
        "parameters": {"day": {"type": "string"}},
    }
    factory = calling(child, parameters={"day": "@concat('2026', '-01')"})
    (entry,) = run_to_end(factory).activities
    run_id = entry.output["pipelineRunId"]
    assert factory.get_run(run_id)["parameters"] == {"day": "2026-01"}
    assert entry.wire(*factory.address)["output"]["pipelineReturnValue"] == {
        "seen": "2026-01",
        "fixed": 7,
        "several": ["x"],
        "lost": None,
    }


def test_parameter_that_cannot_be_evaluated_is_null_in_the_child() -> None:
    child = {"activities": [activity("A")], "parameters": {"day": {"type": "string"}}}
    factory = calling(child, parameters={"day": "@utcNow()"})
    run = run_to_end(factory)
    assert run.status == "Succeeded"
    assert factory.get_run(run.activities[0].output["pipelineRunId"])["parameters"] == {"day": "null"}


def test_refused_child_run_fails_only_the_activity() -> None:
    factory = calling({"activities": [activity("A")], "parameters": {"day": {"type": "string"}}})
    run = run_to_end(factory)
    assert statuses(run) == [("Call", "Failed")]
    assert "no value was given for the parameter 'day'" in str(run.message)
    full = calling({"activities": [activity("A", "Wait", waitTimeInSeconds=60)], "concurrency": 1})
    full.create_run("Child", None)
    full.clock.advance(1)
    for _ in range(100):
        full.create_run("Child", None)
    run_id = full.create_run("P", None)
    full.clock.advance(0.5)
    assert "maximum of 100 runs" in full.get_run(run_id)["message"]


def test_missing_child_pipeline_fails_the_activity() -> None:
    run = walked(activity("Call", "ExecutePipeline", pipeline={"referenceName": "Gone"}))
    assert run.message == "Operation on target Call failed: The pipeline 'Gone' was not found."


def test_cancelled_child_run_fails_its_caller() -> None:
    factory = calling({"activities": [activity("A", "Wait", waitTimeInSeconds=60)]})
    run_id = factory.create_run("P", None)
    factory.clock.advance(5)
    factory.settle()
    (child,) = factory.runs[run_id].children
    factory.cancel_run(child.run_id)
    factory.clock.advance(60)
    assert factory.get_run(run_id)["status"] == "Failed"
    assert child.run_id in factory.get_run(run_id)["message"]


def test_input_shows_evaluated_properties_without_secrets_and_inner_activities() -> None:
    copy = activity("Copy", "Copy", day={"type": "Expression", "value": "@pipeline().Pipeline"}, other=["@utcNow()"])
    secret = activity("Secret", "Copy", password="x") | {"policy": {"secureInput": True, "secureOutput": True}}
    branch = activity("If", "IfCondition", expression="@bool(0)")
    run = walked(copy, secret, branch, Secret={"output": {"token": "y"}})
    assert named(run, "Copy")[0].input == {"day": "P", "other": ["@utcNow()"]}
    assert (named(run, "Secret")[0].input, named(run, "Secret")[0].output) == ({}, {})
    assert named(run, "If")[0].input == {}


@pytest.mark.parametrize("value", ["[parameters('x')]", {"type": "Expression", "value": "@utcNow()"}, None, "four"])
def test_unknown_numbers_have_their_defaults(value: Any) -> None:
    loop = activity("Each", "ForEach", items=[1, 2], batchCount=value, activities=[activity("A")])
    wait = activity("Wait", "Wait", waitTimeInSeconds=value)
    run = walked(loop, wait, activity("B") | {"policy": {"retry": value}}, B=FAILED)
    assert [status for name, status in statuses(run) if name == "B"] == ["Failed"]
    assert all(entry.ended is not None and entry.ended - entry.started == 1 for entry in run.activities)


def leaves(depth: int) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Lists of activities, in a chain or in parallel, some of them containers of further lists."""
    if depth == 0:
        return st.lists(st.just({"type": "Copy"}), max_size=3)
    inner = leaves(depth - 1)
    container = st.one_of(
        st.builds(lambda a, s: {"type": "ForEach", "activities": a, "isSequential": s}, inner, st.booleans()),
        st.builds(lambda a, b: {"type": "IfCondition", "ifTrueActivities": a, "ifFalseActivities": b}, inner, inner),
        st.builds(lambda a: {"type": "Until", "activities": a, "expression": "@bool(1)"}, inner),
    )
    return st.lists(st.one_of(st.just({"type": "Copy"}), container), max_size=3)


def built(shape: list[dict[str, Any]], chained: bool, names: list[str]) -> list[dict[str, Any]]:
    """Activities of that shape; every name is added to `names`."""
    made: list[dict[str, Any]] = []
    for given_shape in shape:
        name = f"A{len(names)}"
        names.append(name)
        before = [f"{made[-1]['name']}:Completed"] if made and chained else []
        inner = {
            key: built(value, chained, names) if isinstance(value, list) else value
            for key, value in given_shape.items()
            if key != "type"
        }
        made.append(activity(name, given_shape["type"], *before, **inner))
    return made


@given(leaves(2), st.booleans(), st.sets(st.integers(0, 20)), st.one_of(st.none(), st.floats(0, 12)))
def test_all_nested_activities_end_and_none_starts_after_a_cancel(
    shape: list[dict[str, Any]], chained: bool, failing: set[int], cancelled_after: float | None
) -> None:
    names: list[str] = []
    activities = built(shape, chained, names)
    script = {f"P/A{number}": FAILED for number in failing if number < len(names)}
    factory = state(factory_of(P=activities), {"activities": script})
    run_id = factory.create_run("P", None)
    run = factory.runs[run_id]
    if cancelled_after is not None:
        factory.clock.advance(cancelled_after)
        factory.settle()
        if not run.is_over:
            factory.cancel_run(run_id)
    factory.clock.advance(86_400)
    shown = factory.get_run(run_id)
    assert shown["status"] in ("Succeeded", "Failed", "Cancelled")
    assert (shown["status"] == "Cancelled") == (run.cancelled_at is not None)
    assert run.ended is not None
    for entry in run.activities:
        assert entry.ended is not None
        assert run.created <= entry.started <= entry.ended <= run.ended
        assert run.cancelled_at is None or entry.started <= run.cancelled_at
    shown_runs = factory.query_activity_runs(run_id, WINDOW)["value"]
    assert [entry["activityRunId"] for entry in shown_runs] == [e.activity_run_id for e in run.activities][:100]

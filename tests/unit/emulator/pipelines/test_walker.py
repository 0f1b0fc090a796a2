"""How the emulator walks through a pipeline's activities, with a clock that the test advances."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_adf_mi.emulator.pipelines.outcomes import Result, is_met, outcome_of
from tests.conftest import activity, factory_of
from tests.support.walks import DAY, FAILED, run_to_end, state, statuses, walked


def test_activities_run_after_those_they_depend_on() -> None:
    run = walked(activity("B", "Copy", "A"), activity("A"), activity("C", "Copy", "A", "B"))
    assert statuses(run) == [("A", "Succeeded"), ("B", "Succeeded"), ("C", "Succeeded")]
    ends = {entry.name: (entry.started, entry.ended) for entry in run.activities}
    assert ends["A"][1] == ends["B"][0]
    assert ends["B"][1] == ends["C"][0]
    assert (run.status, run.message) == ("Succeeded", "")


def test_status_of_a_run_follows_the_clock() -> None:
    factory = state(factory_of(P=[activity("A")]), {"activities": {"P/A": {"seconds": 10}}})
    run_id = factory.create_run("P", None)
    seen = []
    for seconds in (0, 0.5, 9.9, 0.1):
        factory.clock.advance(seconds)
        shown = factory.get_run(run_id)
        seen.append((shown["status"], shown["message"], shown["durationInMs"]))
    assert seen == [
        ("Queued", None, None),
        ("InProgress", "", None),
        ("InProgress", "", None),
        ("Succeeded", "", 10500),
    ]


def test_failure_skips_dependent_activities_and_fails_the_run() -> None:
    run = walked(activity("A"), activity("B", "Copy", "A"), activity("C", "Copy", "B"), A=FAILED)
    assert statuses(run) == [("A", "Failed"), ("B", "Skipped"), ("C", "Skipped")]
    assert (run.status, run.message) == ("Failed", "Operation on target A failed: boom")


def test_handled_failure_does_not_fail_the_run() -> None:
    """Data Factory evaluates the leaves: the handler succeeded, so the run succeeded."""
    run = walked(activity("A"), activity("Handle", "Copy", "A:Failed"), A=FAILED)
    assert statuses(run) == [("A", "Failed"), ("Handle", "Succeeded")]
    assert run.status == "Succeeded"


def test_failure_with_a_skipped_handler_fails_the_run() -> None:
    run = walked(activity("A"), activity("Next", "Copy", "A"), activity("Handle", "Copy", "Next:Failed"), A=FAILED)
    assert statuses(run) == [("A", "Failed"), ("Next", "Skipped"), ("Handle", "Skipped")]
    assert run.status == "Failed"


@pytest.mark.parametrize(
    ("status", "condition", "met"),
    [
        ("Succeeded", "Succeeded", True),
        ("Failed", "Succeeded", False),
        ("Failed", "Failed", True),
        ("Succeeded", "Completed", True),
        ("Failed", "Completed", True),
        ("Skipped", "Completed", False),
        ("Skipped", "Skipped", True),
    ],
)
def test_dependency_conditions(status: str, condition: str, met: bool) -> None:
    assert is_met(status, [condition]) is met


def test_retry_policy_makes_another_attempt_after_its_interval() -> None:
    flaky = activity("A") | {"policy": {"retry": 2, "retryIntervalInSeconds": 60}}
    run = walked(flaky, A={"fail_attempts": 1, "seconds": 5})
    assert [(entry.status, entry.retry_attempt) for entry in run.activities] == [("Failed", None), ("Succeeded", 2)]
    first, second = run.activities
    assert first.ended is not None
    assert second.started - first.ended == 60
    assert run.status == "Succeeded"


def test_activity_fails_after_its_last_retry() -> None:
    run = walked(activity("A") | {"policy": {"retry": 1}}, A=FAILED)
    assert [entry.status for entry in run.activities] == ["Failed", "Failed"]
    assert run.status == "Failed"


def test_activity_fails_at_its_timeout() -> None:
    """Activities that depend on its failure start then, not when its work would have ended."""
    slow = activity("A") | {"policy": {"timeout": "0.00:01:30"}}
    run = walked(slow, activity("Handle", "Copy", "A:Failed"), A={"seconds": 91})
    assert statuses(run) == [("A", "Failed"), ("Handle", "Succeeded")]
    failed, handled = run.activities
    assert failed.ended is not None
    assert failed.ended - failed.started == 90
    assert handled.started == failed.ended
    assert failed.error is not None
    assert (failed.error["errorCode"], failed.error["message"]) == (
        "Timeout",
        "The activity timed out after 90 seconds.",
    )


def test_activity_that_times_out_is_retried_by_its_policy() -> None:
    slow = activity("A") | {"policy": {"timeout": "00:01:00", "retry": 1, "retryIntervalInSeconds": 30}}
    run = walked(slow, A={"seconds": 600})
    assert [(entry.status, entry.retry_attempt) for entry in run.activities] == [("Failed", None), ("Failed", 2)]
    first, second = run.activities
    assert (first.ended, second.ended) == (first.started + 60, first.started + 60 + 30 + 60)
    assert (run.status, run.message) == (
        "Failed",
        "Operation on target A failed: The activity timed out after 60 seconds.",
    )


@pytest.mark.parametrize(
    ("timeout", "seconds", "status"),
    [
        ("0.00:01:00", 60, "Succeeded"),
        ("1.01:00:00", 90_000, "Succeeded"),
        ("1.01:00:00", 90_001, "Failed"),
        ({"type": "Expression", "value": "@concat('00:0', '1:00')"}, 61, "Failed"),
        # Seven days if it has none, or an unknown one.
        (None, 604_800, "Succeeded"),
        (None, 604_801, "Failed"),
        ("[parameters('timeout')]", 604_801, "Failed"),
    ],
)
def test_timeout_is_the_one_of_the_policy(timeout: Any, seconds: float, status: str) -> None:
    definition = factory_of(P=[activity("A") | {"policy": {"timeout": timeout}}])
    factory = state(definition, {"activities": {"P/A": {"seconds": seconds}}})
    run_id = factory.create_run("P", None)
    factory.clock.advance(8 * DAY)
    assert factory.get_run(run_id)["status"] == status


def test_activity_cancelled_before_its_timeout_has_not_failed() -> None:
    definition = factory_of(P=[activity("A") | {"policy": {"timeout": "00:01:00"}}])
    factory = state(definition, {"activities": {"P/A": {"seconds": 600}}})
    run_id = factory.create_run("P", None)
    factory.clock.advance(30)
    factory.cancel_run(run_id)
    factory.clock.advance(DAY)
    assert factory.get_run(run_id)["status"] == "Cancelled"
    assert statuses(factory.runs[run_id]) == [("A", "Cancelled")]


def test_for_each_runs_a_batch_in_parallel_and_continues_after_a_failure() -> None:
    loop = activity("Each", "ForEach", items="@pipeline().parameters.names", activities=[activity("Inner")])
    factory = state(
        factory_of(P={"activities": [loop], "parameters": {"names": {"type": "array"}}}),
        {"activities": {"P/Inner": {"fail_iterations": [1]}}},
    )
    run = run_to_end(factory, parameters={"names": ["a", "b", "c"]})
    assert [s for n, s in statuses(run) if n == "Inner"] == ["Succeeded", "Failed", "Succeeded"]
    assert len({entry.iteration_hash for entry in run.activities if entry.name == "Inner"}) == 3
    assert run.message is not None
    assert run.message.startswith("Operation on target Each failed: Activity failed because an inner activity failed")


@pytest.mark.parametrize(("properties", "seconds"), [({"isSequential": True}, 4), ({"batchCount": 2}, 2), ({}, 1)])
def test_for_each_respects_its_batch_count(properties: dict[str, Any], seconds: float) -> None:
    loop = activity("Each", "ForEach", items=[1, 2, 3, 4], activities=[activity("Inner")], **properties)
    run = walked(loop)
    entry = run.activities[0]
    assert entry.ended is not None
    assert entry.ended - entry.started == seconds


def test_for_each_without_items_succeeds() -> None:
    assert statuses(walked(activity("Each", "ForEach", items=[], activities=[activity("Inner")]))) == [
        ("Each", "Succeeded")
    ]


def test_for_each_with_unknown_items_has_two_unless_scripted() -> None:
    loop = activity("Each", "ForEach", items="@xml('x')", activities=[activity("Inner")])
    assert len(walked(loop).activities) == 1 + 2
    assert len(walked(loop, Each={"iterations": 5}).activities) == 1 + 5


@pytest.mark.parametrize(
    ("expression", "script", "branch"),
    [
        ("@equals(pipeline().parameters.x, 'yes')", {}, "Yes"),
        ("@equals(pipeline().parameters.x, 'no')", {}, "No"),
        ("@xml('x')", {}, "Yes"),
        ("@xml('x')", {"condition": False}, "No"),
    ],
)
def test_if_takes_its_branch(expression: str, script: dict[str, Any], branch: str) -> None:
    condition = activity(
        "If",
        "IfCondition",
        expression={"type": "Expression", "value": expression},
        ifTrueActivities=[activity("Yes")],
        ifFalseActivities=[activity("No")],
    )
    definition = factory_of(P={"activities": [condition], "parameters": {"x": {"type": "string"}}})
    run = run_to_end(state(definition, {"activities": {"P/If": script}}), parameters={"x": "yes"})
    assert statuses(run) == [("If", "Succeeded"), (branch, "Succeeded")]


@pytest.mark.parametrize(("value", "branch"), [("a", "A"), ("z", "Default")])
def test_switch_takes_its_case(value: str, branch: str) -> None:
    switch = activity(
        "Switch",
        "Switch",
        on=value,
        cases=[{"value": "a", "activities": [activity("A")]}],
        defaultActivities=[activity("Default")],
    )
    assert statuses(walked(switch))[-1] == (branch, "Succeeded")


def test_until_repeats_until_its_condition_holds() -> None:
    until = activity(
        "Until",
        "Until",
        expression="@equals(length(variables('seen')), 3)",
        activities=[activity("Add", "AppendVariable", variableName="seen", value="x")],
    )
    run = run_to_end(state(factory_of(P={"activities": [until], "variables": {"seen": {"type": "Array"}}})))
    assert statuses(run) == [("Until", "Succeeded")] + [("Add", "Succeeded")] * 3


def test_failed_child_pipeline_fails_its_caller_with_its_message() -> None:
    factory = state(
        factory_of(
            P=[activity("Call", "ExecutePipeline", pipeline={"referenceName": "Child"}, waitOnCompletion=True)],
            Child=[activity("Inner")],
        ),
        {"activities": {"Child/Inner": FAILED}},
    )
    run = run_to_end(factory)
    child = next(other for other in factory.runs.values() if other.pipeline == "Child")
    assert child.invoked_by["pipelineRunId"] == run.run_id
    assert child.invoked_by["invokedByType"] == "PipelineActivity"
    assert run.message == "Operation on target Call failed: Operation on target Inner failed: boom"
    assert run.activities[0].output["pipelineRunId"] == child.run_id


def test_child_pipeline_that_is_not_waited_for_does_not_fail_its_caller() -> None:
    factory = state(
        factory_of(
            P=[activity("Call", "ExecutePipeline", pipeline={"referenceName": "Child"}, waitOnCompletion=False)],
            Child=[activity("Inner")],
        ),
        {"activities": {"Child/Inner": {"seconds": 600, **FAILED}}},
    )
    run = run_to_end(factory)
    assert run.status == "Succeeded"
    assert run.ended is not None
    assert [r.status for r in factory.runs.values() if r.pipeline == "Child"] == ["Failed"]


def test_fail_activity_fails_with_its_message_and_code() -> None:
    run = walked(activity("Stop", "Fail", message="@concat('no ', 'data')", errorCode="500"))
    assert run.message == "Operation on target Stop failed: no data"
    assert run.activities[0].error is not None
    assert run.activities[0].error["errorCode"] == "500"


def test_inactive_activity_counts_as_it_is_marked() -> None:
    inactive = activity("A") | {"state": "Inactive", "onInactiveMarkAs": "Failed"}
    assert statuses(walked(inactive, activity("B", "Copy", "A:Failed"))) == [("A", "Inactive"), ("B", "Succeeded")]


def test_output_of_an_activity_can_be_used_by_the_next() -> None:
    run = walked(
        activity("Lookup", "Lookup"),
        activity("Each", "ForEach", "Lookup", items="@activity('Lookup').output.value", activities=[activity("In")]),
        Lookup={"output": {"value": [1, 2, 3]}},
    )
    assert len([1 for name, _ in statuses(run) if name == "In"]) == 3


def test_filter_keeps_matching_items() -> None:
    run = walked(activity("Keep", "Filter", items=[1, 5, 9], condition="@greater(item(), 4)"))
    assert run.activities[0].output == {"ItemsCount": 3, "FilteredItemsCount": 2, "Value": [5, 9]}


def test_wait_takes_the_time_of_its_property() -> None:
    entry = walked(activity("Pause", "Wait", waitTimeInSeconds=30)).activities[0]
    assert entry.ended is not None
    assert entry.ended - entry.started == 30


conditions = st.sampled_from(["Succeeded", "Failed", "Completed", "Skipped"])


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    count = draw(st.integers(1, 7))
    activities = []
    script = {}
    for number in range(count):
        before = draw(st.lists(st.integers(0, number - 1), unique=True, max_size=3)) if number else []
        activities.append(activity(f"A{number}", "Copy", *(f"A{b}:{draw(conditions)}" for b in before)))
        if draw(st.booleans()):
            script[f"P/A{number}"] = FAILED
    return draw(st.permutations(activities)), script


@given(graphs())
def test_every_activity_ends_once_and_after_its_dependencies(
    graph: tuple[list[dict[str, Any]], dict[str, Any]],
) -> None:
    activities, script = graph
    run = run_to_end(state(factory_of(P=activities), {"activities": script}))
    entries = {entry.name: entry for entry in run.activities}
    assert sorted(entry.name for entry in run.activities) == sorted(a["name"] for a in activities)
    assert run.status in ("Succeeded", "Failed")
    for definition in activities:
        entry = entries[definition["name"]]
        before = [(entries[d["activity"]], d["dependencyConditions"]) for d in definition["dependsOn"]]
        assert entry.status in ("Succeeded", "Failed", "Skipped")
        if entry.status == "Skipped":
            assert any(not is_met(other.status, wanted) for other, wanted in before)
        else:
            assert all(is_met(other.status, wanted) for other, wanted in before)
            assert all(other.ended is not None and other.ended <= entry.started for other, _ in before)
    results = {name: Result(entry.status, "boom") for name, entry in entries.items()}
    assert outcome_of(activities, results).status == run.status

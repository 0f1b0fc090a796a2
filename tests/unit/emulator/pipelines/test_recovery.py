"""Recovery runs from a failure: which activities run again in child pipelines, loops and branches."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_adf_mi.emulator.pipelines.runs import Run
from airflow_adf_mi.emulator.service.state import FactoryState
from tests.conftest import activity, factory_of
from tests.support.walks import DAY, FAILED, run_to_end, state, statuses

CHAIN = [activity("A"), activity("B", "Copy", "A"), activity("C", "Copy", "B")]


def call(name: str, pipeline: str, *after: str, **properties: Any) -> dict[str, Any]:
    return activity(name, "ExecutePipeline", *after, pipeline={"referenceName": pipeline}, **properties)


def failing(pipeline: str, *names: str, **entry: Any) -> dict[str, Any]:
    """An entry of a script's `runs`: in one run of the pipeline, these activities fail."""
    return {"pipeline": pipeline, "times": 1, "activities": dict.fromkeys(names, FAILED), **entry}


def recover(factory: FactoryState, earlier: Run, **arguments: Any) -> Run:
    arguments = arguments or {"start_from_failure": True}
    run_id = factory.create_run(earlier.pipeline, None, reference_run_id=earlier.run_id, is_recovery=True, **arguments)
    factory.clock.advance(DAY)
    factory.settle()
    return factory.runs[run_id]


def names(run: Run) -> list[str]:
    return [entry.name for entry in run.activities]


@pytest.mark.parametrize(("reaches", "ran"), [(True, ["B", "C"]), (False, ["A", "B", "C"])])
def test_child_of_a_recovery_run_follows_the_switch(reaches: bool, ran: list[str]) -> None:
    parent = [activity("Before"), call("Call", "Child", "Before"), activity("After", "Copy", "Call")]
    factory = state(
        factory_of(P=parent, Child=CHAIN), {"runs": [failing("Child", "B")]}, recovery_reaches_children=reaches
    )
    first = run_to_end(factory)
    second = recover(factory, first)
    assert statuses(second) == [("Call", "Succeeded"), ("After", "Succeeded")]
    (old,), (new,) = first.children, second.children
    assert statuses(old) == [("A", "Succeeded"), ("B", "Failed"), ("C", "Skipped")]
    assert (names(new), new.status) == (ran, "Succeeded")
    assert second.activities[0].output["pipelineRunId"] == new.run_id != old.run_id
    assert (new.group_id, new.is_latest, old.is_latest) == (new.run_id, True, True)
    assert (second.group_id, second.is_latest, first.is_latest) == (first.run_id, True, False)


@pytest.mark.parametrize("arguments", [{"is_recovery": True}, {"start_activity_name": "Call"}])
def test_child_runs_from_its_beginning_unless_the_recovery_is_from_the_failure(arguments: dict[str, Any]) -> None:
    factory = state(factory_of(P=[call("Call", "Child")], Child=CHAIN), {"runs": [failing("Child", "B")]})
    first = run_to_end(factory)
    run_id = factory.create_run("P", None, **{"reference_run_id": first.run_id, "is_recovery": True, **arguments})
    factory.clock.advance(DAY)
    factory.settle()
    (child,) = factory.runs[run_id].children
    assert names(child) == ["A", "B", "C"]


def test_each_recovery_of_a_recovery_continues_the_last_child() -> None:
    scripted = {"runs": [failing("Child", "B"), failing("Child", "C"), failing("Child", "C")]}
    factory = state(factory_of(P=[call("Call", "Child")], Child=CHAIN), scripted)
    runs = [run_to_end(factory)]
    for _ in range(3):
        runs.append(recover(factory, runs[-1]))
    assert [run.status for run in runs] == ["Failed", "Failed", "Failed", "Succeeded"]
    assert [names(run.children[0]) for run in runs] == [["A", "B", "C"], ["B", "C"], ["C"], ["C"]]
    assert {run.group_id for run in runs} == {runs[0].run_id}
    assert [run.is_latest for run in runs] == [False, False, False, True]


def test_recovery_of_an_older_run_of_the_group_becomes_the_latest() -> None:
    factory = state(factory_of(P=CHAIN), {"runs": [failing("P", "B"), failing("P", "B")]})
    first = run_to_end(factory)
    recover(factory, first)
    third = recover(factory, first)
    assert [run.run_id for run in factory.runs.values() if run.is_latest] == [third.run_id]
    assert {run.group_id for run in factory.runs.values()} == {first.run_id}


def test_run_that_is_no_longer_the_latest_was_not_updated_by_that() -> None:
    """In the recording, its `lastUpdated` stays the time of its end."""
    factory = state(factory_of(P=CHAIN), {"runs": [failing("P", "B")]})
    first = run_to_end(factory)
    before = factory.get_run(first.run_id)
    began = datetime.fromtimestamp(factory.clock.now(), UTC).isoformat()
    second = recover(factory, first)
    assert factory.get_run(first.run_id) == {**before, "isLatest": False}
    window = {"lastUpdatedAfter": began, "lastUpdatedBefore": "2100-01-01T00:00:00Z"}
    assert [run["runId"] for run in factory.query_runs(window)["value"]] == [second.run_id]
    window["lastUpdatedAfter"] = "2000-01-01T00:00:00Z"
    assert [run["isLatest"] for run in factory.query_runs(window)["value"]] == [False, True]


def test_child_of_a_child_continues_too() -> None:
    factory = state(
        factory_of(
            P=[activity("Start"), call("Call", "Middle", "Start")],
            Middle=[activity("Open"), call("Deeper", "Child", "Open"), activity("Close", "Copy", "Deeper")],
            Child=CHAIN,
        ),
        {"runs": [failing("Child", "C")]},
    )
    second = recover(factory, run_to_end(factory))
    (middle,) = second.children
    (child,) = middle.children
    assert [names(run) for run in (second, middle, child)] == [["Call"], ["Deeper", "Close"], ["C"]]


def test_child_whose_caller_runs_again_for_another_reason_runs_from_its_beginning() -> None:
    parent = [activity("First"), call("Call", "Child", "First:Completed")]
    factory = state(factory_of(P=parent, Child=CHAIN), {"runs": [failing("P", "First"), failing("Child", "C")]})
    second = recover(factory, run_to_end(factory))
    assert (names(second), names(second.children[0])) == (["First", "Call"], ["A", "B", "C"])


def test_child_of_a_caller_that_succeeded_is_not_started_again() -> None:
    parent = [call("Call", "Child"), activity("After", "Copy", "Call")]
    factory = state(factory_of(P=parent, Child=CHAIN), {"runs": [failing("P", "After")]})
    second = recover(factory, run_to_end(factory))
    assert (names(second), second.children) == (["After"], [])


@pytest.mark.parametrize("recursive", [True, False])
def test_child_of_a_cancelled_run_continues(recursive: bool) -> None:
    factory = state(factory_of(P=[call("Call", "Child")], Child=CHAIN), {"activities": {"Child/B": {"seconds": 60}}})
    first = factory.create_run("P", None)
    factory.clock.advance(5)
    factory.cancel_run(first, recursive=recursive)
    factory.clock.advance(5)
    factory.settle()
    assert names(recover(factory, factory.runs[first]).children[0]) == ["B", "C"]


def test_recovery_that_never_began_hands_on_what_it_would_have_continued() -> None:
    factory = state(factory_of(P=[call("Call", "Child")], Child=CHAIN), {"runs": [failing("Child", "C")]})
    first = run_to_end(factory)
    second = factory.create_run("P", None, reference_run_id=first.run_id, is_recovery=True, start_from_failure=True)
    factory.cancel_run(second)
    factory.clock.advance(60)
    factory.settle()
    assert (factory.runs[second].status, factory.runs[second].activities) == ("Cancelled", [])
    assert names(recover(factory, factory.runs[second]).children[0]) == ["C"]


def test_parameters_of_the_child_are_evaluated_again_from_outputs_that_are_taken_over() -> None:
    parent = [activity("Look", "Lookup"), call("Call", "Child", "Look", parameters={"n": "@activity('Look').output.n"})]
    child = {"activities": CHAIN, "parameters": {"n": {"type": "int"}}}
    factory = state(
        factory_of(P=parent, Child=child),
        {"activities": {"P/Look": {"output": {"n": 3}}}, "runs": [failing("Child", "B")]},
    )
    (new,) = recover(factory, run_to_end(factory)).children
    assert (names(new), new.values) == (["B", "C"], {"n": 3})


EACH = activity(
    "Each",
    "ForEach",
    items=["a", "b", "c"],
    activities=[activity("Load", of="@item()"), activity("Check", "Copy", "Load")],
)


@pytest.mark.parametrize(("reaches", "again"), [(True, ["b"]), (False, ["a", "b", "c"])])
def test_iterations_of_a_loop_follow_the_switch(reaches: bool, again: list[str]) -> None:
    script = {"runs": [{"pipeline": "P", "times": 1, "activities": {"Load": {"fail_iterations": [1]}}}]}
    factory = state(factory_of(P=[EACH]), script, recovery_reaches_containers=reaches)
    second = recover(factory, run_to_end(factory))
    assert [entry.input["of"] for entry in second.activities if entry.name == "Load"] == again
    assert names(second).count("Check") == len(again)
    assert (names(second)[0], second.status) == ("Each", "Succeeded")


def test_iteration_with_another_item_runs_from_its_beginning() -> None:
    first = {"Each": {"items": ["a", "b", "c"]}, "Check": {"fail_iterations": [0, 1, 2]}}
    script = {
        "runs": [
            {"pipeline": "P", "times": 1, "activities": first},
            {"pipeline": "P", "activities": {"Each": {"items": ["a", "x"]}}},
        ]
    }
    factory = state(factory_of(P=[EACH]), script)
    second = recover(factory, run_to_end(factory))
    assert [entry.input["of"] for entry in second.activities if entry.name == "Load"] == ["x"]
    assert names(second).count("Check") == 2


def test_only_the_failed_child_of_a_loop_is_started_again() -> None:
    each = activity(
        "Each", "ForEach", items=["a", "b"], activities=[call("Call", "Child", parameters={"of": "@item()"})]
    )
    child = {"activities": CHAIN, "parameters": {"of": {"type": "string"}}}
    factory = state(factory_of(P=[each], Child=child), {"runs": [failing("Child", "C", when={"of": "b"})]})
    second = recover(factory, run_to_end(factory))
    assert names(second) == ["Each", "Call"]
    assert [(child.values["of"], names(child)) for child in second.children] == [("b", ["C"])]


IF = activity(
    "Choose", "IfCondition", expression="@bool(1)", ifTrueActivities=CHAIN, ifFalseActivities=[activity("No")]
)
SWITCH = activity(
    "Choose", "Switch", on="x", cases=[{"value": "x", "activities": CHAIN}], defaultActivities=[activity("No")]
)


@pytest.mark.parametrize("container", [IF, SWITCH])
@pytest.mark.parametrize(("reaches", "ran"), [(True, ["Choose", "B", "C"]), (False, ["Choose", "A", "B", "C"])])
def test_branch_that_is_taken_again_follows_the_switch(
    container: dict[str, Any], reaches: bool, ran: list[str]
) -> None:
    factory = state(factory_of(P=[container]), {"runs": [failing("P", "B")]}, recovery_reaches_containers=reaches)
    assert names(recover(factory, run_to_end(factory))) == ran


@pytest.mark.parametrize(("container", "other"), [(IF, {"condition": False}), (SWITCH, {"case": "y"})])
def test_other_branch_runs_whole(container: dict[str, Any], other: dict[str, Any]) -> None:
    script = {"runs": [failing("P", "B"), {"pipeline": "P", "activities": {"Choose": other}}]}
    factory = state(factory_of(P=[container]), script)
    assert names(recover(factory, run_to_end(factory))) == ["Choose", "No"]


def test_activities_inside_an_until_run_again() -> None:
    until = activity("Until", "Until", expression="@bool(1)", activities=CHAIN)
    factory = state(factory_of(P=[until]), {"runs": [failing("P", "C")]})
    assert names(recover(factory, run_to_end(factory))) == ["Until", "A", "B", "C"]


def test_retry_of_a_container_in_a_recovery_run_begins_it_again() -> None:
    each = {**activity("Each", "ForEach", items=[1], activities=CHAIN), "policy": {"retry": 1}}
    factory = state(factory_of(P=[each]), {"runs": [failing("P", "B"), failing("P", "B")]})
    second = recover(factory, run_to_end(factory))
    assert names(second) == ["Each", "B", "C", "Each", "A", "B", "C"]


def test_activity_that_was_skipped_by_success_does_not_run_again() -> None:
    activities = [
        activity("A"),
        activity("OnError", "Copy", "A:Failed"),
        activity("Next", "Copy", "OnError:Skipped"),
        activity("Last", "Copy", "Next"),
    ]
    factory = state(factory_of(P=activities), {"runs": [failing("P", "Last")]})
    assert statuses(recover(factory, run_to_end(factory))) == [("Last", "Succeeded")]


def test_variables_and_return_values_are_taken_over() -> None:
    value = {"type": "Expression", "content": "@variables('v')"}
    child = {
        "activities": [
            activity("Set", "SetVariable", variableName="v", value="x"),
            activity(
                "Return", "SetVariable", "Set", variableName="pipelineReturnValue", value=[{"key": "r", "value": value}]
            ),
            activity("Use", "Copy", "Return", found="@variables('v')"),
        ],
        "variables": {"v": {"type": "String"}},
    }
    parent = [
        call("Call", "Child"),
        activity("Use", "Copy", "Call", found="@activity('Call').output.pipelineReturnValue.r"),
    ]
    factory = state(factory_of(P=parent, Child=child), {"runs": [failing("Child", "Use")]})
    second = recover(factory, run_to_end(factory))
    assert [(entry.name, entry.input) for entry in second.children[0].activities] == [("Use", {"found": "x"})]
    assert second.activities[-1].input == {"found": "x"}
    assert second.guesses == second.children[0].guesses == []


def test_each_iteration_appends_once() -> None:
    inner = [activity("Load"), activity("Note", "AppendVariable", "Load", variableName="seen", value="@item()")]
    each = activity("Each", "ForEach", items=["a", "b", "c"], isSequential=True, activities=inner)
    pipeline = {
        "activities": [each, activity("Last", "Copy", "Each", found="@variables('seen')")],
        "variables": {"seen": {"type": "Array", "defaultValue": []}},
    }
    entries = [{"Load": {"fail_iterations": [0]}}, {"Last": FAILED}]
    script = {"runs": [{"pipeline": "P", "times": 1, "activities": entry} for entry in entries]}
    factory = state(factory_of(P=pipeline), script)
    second = recover(factory, run_to_end(factory))
    third = recover(factory, second)
    assert [(entry.name, sorted(entry.input["found"])) for entry in third.activities] == [("Last", ["a", "b", "c"])]


def test_outputs_inside_a_container_that_is_taken_over_can_be_used() -> None:
    branch = activity("If", "IfCondition", expression="@bool(1)", ifTrueActivities=[activity("Look", "Lookup")])
    use = activity("Use", "Copy", "If", found="@activity('Look').output.n")
    script = {"activities": {"P/Look": {"output": {"n": 7}}}, "runs": [failing("P", "Use")]}
    factory = state(factory_of(P=[branch, use]), script)
    second = recover(factory, run_to_end(factory))
    assert [(entry.name, entry.input) for entry in second.activities] == [("Use", {"found": 7})]


def lists_of(letter: str, *, calls: bool) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Lists of activities, in a chain or side by side, some in a loop, in a branch, or in the pipeline Child."""
    kinds = ["Copy", "ForEach", "IfCondition", *(["ExecutePipeline"] if calls else [])]

    def built(shape: list[tuple[str, int, bool]]) -> list[dict[str, Any]]:
        made: list[dict[str, Any]] = []
        for number, (kind, inside, chained) in enumerate(shape):
            inner = [activity(f"{letter}{number}{n}", "Copy", *[f"{letter}{number}{n - 1}"][:n]) for n in range(inside)]
            properties: dict[str, dict[str, Any]] = {
                "Copy": {},
                "ForEach": {"items": [1, 2], "activities": inner},
                "IfCondition": {"expression": "@bool(1)", "ifTrueActivities": inner},
                "ExecutePipeline": {"pipeline": {"referenceName": "Child"}},
            }
            before = [made[-1]["name"]] if made and chained else []
            made.append(activity(f"{letter}{number}", kind, *before, **properties[kind]))
        return made

    shapes = st.lists(st.tuples(st.sampled_from(kinds), st.integers(0, 3), st.booleans()), min_size=1, max_size=4)
    return shapes.map(built)


def copies(activities: list[dict[str, Any]], child: list[dict[str, Any]], times: int = 1) -> Counter[str]:
    """How often each Copy must succeed."""
    found: Counter[str] = Counter()
    for each in activities:
        properties = each["typeProperties"]
        if each["type"] == "Copy":
            found[each["name"]] += times
        elif each["type"] == "ExecutePipeline":
            found += copies(child, [], times)
        else:
            inner = properties.get("activities") or properties.get("ifTrueActivities") or []
            found += copies(inner, [], times * len(properties.get("items", [1])))
    return found


_FAILS = st.lists(
    st.tuples(st.sampled_from(["P", "Child"]), st.integers(0, 3), st.integers(-1, 2), st.integers(0, 2)), max_size=6
)


@given(lists_of("p", calls=True), lists_of("c", calls=False), _FAILS)
def test_over_a_chain_of_recoveries_each_activity_succeeds_once(
    parent: list[dict[str, Any]], child: list[dict[str, Any]], fails: list[tuple[str, int, int, int]]
) -> None:
    entries = []
    for pipeline, number, inner, iteration in fails:
        name = f"{pipeline[0].lower()}{number}" + ("" if inner < 0 else str(inner))
        outcome: Any = {"fail_iterations": [iteration]} if iteration < 2 else FAILED
        entries.append({"pipeline": pipeline, "times": 1, "activities": {name: outcome}})
    factory = state(factory_of(P=parent, Child=child), {"runs": entries})
    runs = [run_to_end(factory)]
    while runs[-1].status == "Failed":
        runs.append(recover(factory, runs[-1]))
        assert len(runs) <= len(fails) + 1
    succeeded = Counter(
        entry.name
        for run in factory.runs.values()
        for entry in run.activities
        if entry.kind == "Copy" and entry.status == "Succeeded"
    )
    assert succeeded == copies(parent, child)
    assert [run.is_latest for run in runs] == [False] * (len(runs) - 1) + [True]

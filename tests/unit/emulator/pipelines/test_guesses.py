"""An expression that the emulator cannot evaluate: its guess is logged, listed with the run, and decided by the script."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from airflow_adf_mi.emulator import Emulator, FactorySpec
from airflow_adf_mi.emulator.pipelines.guesses import Guess
from airflow_adf_mi.emulator.pipelines.runs import Run
from airflow_adf_mi.emulator.pipelines.script import Script
from bench.world import SPEC
from tests.chaos.run import all_rows
from tests.chaos.world import World
from tests.conftest import activity, factory_of
from tests.support.examples import FACTORY, SCRIPT
from tests.support.walks import run_to_end, state

UNKNOWN_FUNCTION = "@equals(toLower('ABC'),'xyz')"
MISSING_OUTPUT = "@greater(activity('A').output.rowz, 0)"
IN_A_COPY = [activity("Inner")]


def expression(text: str) -> dict[str, str]:
    return {"value": text, "type": "Expression"}


def container(kind: str, **properties: Any) -> list[dict[str, Any]]:
    return [activity("A"), activity("X", kind, "A", **properties)]


def one(run: Run) -> Guess:
    (guess,) = run.guesses
    return guess


GUESSES: dict[str, tuple[list[dict[str, Any]], tuple[str, str, str], dict[str, Any]]] = {
    "If, unknown function": (
        container("IfCondition", expression=expression(UNKNOWN_FUNCTION), ifTrueActivities=IN_A_COPY),
        ("expression", UNKNOWN_FUNCTION, "true"),
        {"condition": False},
    ),
    "If, misspelt output": (
        container("IfCondition", expression=expression(MISSING_OUTPUT), ifTrueActivities=IN_A_COPY),
        ("expression", MISSING_OUTPUT, "true"),
        {"condition": True},
    ),
    "If, no truth value": (
        container("IfCondition", expression=expression("@concat('a', 'b')"), ifTrueActivities=IN_A_COPY),
        ("expression", "@concat('a', 'b')", "false"),
        {"condition": True},
    ),
    "Until": (
        container("Until", expression=expression(UNKNOWN_FUNCTION), activities=IN_A_COPY),
        ("expression", UNKNOWN_FUNCTION, "true"),
        {"iterations": 3},
    ),
    "ForEach, unknown": (
        container("ForEach", items=expression("@json('[1]')"), activities=IN_A_COPY),
        ("items", "@json('[1]')", "2 items"),
        {"items": [1]},
    ),
    "ForEach, no array": (
        container("ForEach", items=expression("@string(5)"), activities=IN_A_COPY),
        ("items", "@string(5)", "2 items"),
        {"iterations": 1},
    ),
    "Switch": (
        container("Switch", on=expression("@toUpper('a')"), cases=[{"value": "A", "activities": IN_A_COPY}]),
        ("on", "@toUpper('a')", "a case named UNKNOWN, or else the default"),
        {"case": "A"},
    ),
    "Wait": (
        container("Wait", waitTimeInSeconds=expression("@mul(2, 3)")),
        ("waitTimeInSeconds", "@mul(2, 3)", "1"),
        {"seconds": 6},
    ),
    "variable": (
        container("SetVariable", variableName="v", value=expression("@utcnow()")),
        ("value", "@utcnow()", "null"),
        {"value": "2026-01-01T00:00:00Z"},
    ),
    "appended variable": (
        container("AppendVariable", variableName="v", value="@utcnow()"),
        ("value", "@utcnow()", "null"),
        {"value": None},
    ),
    "return value": (
        container(
            "SetVariable", variableName="pipelineReturnValue", value=[{"key": "k", "value": expression("@guid()")}]
        ),
        ("value", "@guid()", "null"),
        {"value": {"k": 1}},
    ),
    "Filter, items": (
        container("Filter", items=expression("@json('[1]')"), condition=expression("@equals(item(), 1)")),
        ("items", "@json('[1]')", "an output that is not known"),
        {"items": [1]},
    ),
    "Filter, condition": (
        container("Filter", items=expression("@createArray(1, 2)"), condition=expression("@endsHere(item())")),
        ("condition", "@endsHere(item())", "the item is kept"),
        {"output": {"Value": [2]}},
    ),
    "Fail": (
        container("Fail", message=expression("@replace('a', 'b', 'c')"), errorCode="500"),
        ("message", "@replace('a', 'b', 'c')", "a message of its own"),
        {"error": {"message": "the partner's file is bad"}},
    ),
    "child's parameter": (
        container(
            "ExecutePipeline",
            pipeline={"referenceName": "Child"},
            waitOnCompletion=True,
            parameters={"day": expression("@utcnow()")},
        ),
        ("parameter 'day'", "@utcnow()", "null"),
        {"parameters": {"day": "2026-01-01"}},
    ),
}


def made(activities: list[dict[str, Any]], entry: dict[str, Any] | None = None) -> Run:
    child = {"activities": [activity("C")], "parameters": {"day": {"type": "string"}}}
    factory = factory_of(P={"activities": activities, "variables": {"v": {"type": "String"}}}, Child=child)
    return run_to_end(state(factory, {"activities": {"P/X": entry}} if entry else {}))


@pytest.mark.parametrize("name", GUESSES)
def test_guess_is_listed_and_logged_and_replaced_by_the_scripts_member(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    activities, (what, text, taken), entry = GUESSES[name]
    run = made(activities)
    guess = one(run)
    assert (guess.pipeline, guess.activity, guess.what, guess.expression, guess.taken) == ("P", "X", what, text, taken)
    member = next(iter(entry))
    assert guess.member in (member, "items"), "items and iterations both set the items of a ForEach"
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    for part in ("'P'", "'X'", text, what, taken, f"{guess.member!r} of P/X", run.run_id):
        assert part in record.message
    decided = made(activities, entry)
    assert decided.guesses == []


@pytest.mark.parametrize(
    ("extra", "what"),
    [
        ({"policy": {"timeout": "[parameters('t')]"}}, "policy.timeout"),
        ({"userProperties": [{"name": "n", "value": "@utcnow()"}]}, "user property 'n'"),
    ],
)
def test_guess_that_no_member_can_replace_says_so(extra: dict[str, Any], what: str) -> None:
    guess = one(made([activity("X") | extra]))
    assert (guess.what, guess.member) == (what, None)
    assert "No member of the script decides it" in str(guess)


def test_scripted_values_are_used() -> None:
    variable = made(*[GUESSES["variable"][n] for n in (0, 2)])  # type: ignore[arg-type]
    assert variable.variables["v"] == "2026-01-01T00:00:00Z"
    returned = made(*[GUESSES["return value"][n] for n in (0, 2)])  # type: ignore[arg-type]
    assert returned.return_value == {"k": 1}
    failed = made(*[GUESSES["Fail"][n] for n in (0, 2)])  # type: ignore[arg-type]
    assert "the partner's file is bad" in str(failed.message)
    (child,) = made(*[GUESSES["child's parameter"][n] for n in (0, 2)]).children  # type: ignore[arg-type]
    assert child.values == {"day": "2026-01-01"}


def test_unknown_run_dimension_is_a_guess() -> None:
    factory = factory_of(P={"activities": [activity("A")], "runDimensions": {"d": "@utcnow()", "e": "plain"}})
    guess = one(run_to_end(state(factory)))
    assert (guess.activity, guess.what, guess.taken) == (None, "run dimension 'd'", "null")


def test_same_guess_in_each_iteration_counts_once(caplog: pytest.LogCaptureFixture) -> None:
    inner = activity("X", "IfCondition", expression=expression(UNKNOWN_FUNCTION), ifTrueActivities=IN_A_COPY)
    run = made([activity("Each", "ForEach", items=expression("@range(0, 30)"), activities=[inner])])
    assert len(run.guesses) == len(caplog.records) == 1


def test_child_run_lists_its_own_guesses() -> None:
    guessing = container("IfCondition", expression=expression(UNKNOWN_FUNCTION))
    parent = activity("Call", "ExecutePipeline", pipeline={"referenceName": "Child"}, waitOnCompletion=True)
    run = run_to_end(state(factory_of(P=[parent], Child=guessing)))
    assert run.guesses == []
    (child,) = run.children
    assert one(child).pipeline == "Child"


def walk_everything(emulator: Emulator) -> list[Run]:
    """Run each pipeline of each factory to its end. Parameters without a default get a text."""
    for factory in emulator.factories:
        for name, definition in factory.definition.pipelines.items():
            given = {each: "x" for each, spec in definition.parameters.items() if "defaultValue" not in spec}
            factory.create_run(name, given)
    emulator.clock.advance(30 * 86_400.0)
    runs = []
    for factory in emulator.factories:
        factory.settle()
        runs += list(factory.runs.values())
    assert {run.status for run in runs} <= {"Succeeded", "Failed"}
    return runs


def test_demo_runs_without_a_guess() -> None:
    runs = walk_everything(
        Emulator(FactorySpec(source=FACTORY), script=Script.from_json(json.loads(SCRIPT.read_text())))
    )
    assert len(runs) == 7, "five pipelines, and two child runs"
    assert [guess for run in runs for guess in run.guesses] == []


def test_bench_runs_without_a_guess() -> None:
    (run,) = walk_everything(Emulator(SPEC))
    assert run.guesses == []


def test_chaos_runs_without_a_guess(tmp_path: Path) -> None:
    world = World(tmp_path, all_rows())
    runs = [*walk_everything(world.emulator), *walk_everything(world.second)]
    assert len(runs) > 100
    assert [guess for run in runs for guess in run.guesses] == []

"""Chosen outputs: how they are named, which values are found, and which are left out."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_adf_mi.adf.api.operations import Page
from airflow_adf_mi.adf.errors import AdfConfigurationError, AdfError, AdfUnavailableError
from airflow_adf_mi.adf.models import ActivityRun, PipelineRun
from airflow_adf_mi.adf.reporting.outputs import (
    LARGEST_OUTPUT_BYTES,
    OUTPUT_PAGES,
    OutputPath,
    Outputs,
    parse_outputs,
    reading_outputs,
    taken,
)
from airflow_adf_mi.adf.timing import Timing
from tests.support.routines import FACTORY


def row(name: str, output: dict[str, Any], *, kind: str = "Copy", at: int = 0, iteration: str = "") -> ActivityRun:
    return ActivityRun.from_wire(
        {
            "activityName": name,
            "activityType": kind,
            "status": "Succeeded",
            "activityRunStart": f"2026-01-01T10:00:{at:02}Z",
            "output": output,
            "iterationHash": iteration,
        }
    )


ROWS = [
    row("Copy Sales", {"rowsCopied": 42, "errors": []}),
    row("Lookup", {"firstRow": {"id": "a.b"}, "value": [{"id": 1}, {"id": 2}]}, kind="Lookup"),
    row("Load [Sales]", {"dbo.Orders": {"output-member": 7, "it's": [8]}}),
    row("Each", {"rowsCopied": 2}, at=5, iteration="h2"),
    row("Each", {"rowsCopied": 1}, at=2, iteration="h1"),
]


def find(path: str, rows: list[ActivityRun] = ROWS) -> Outputs:
    return taken(parse_outputs({"it": path}), rows)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("Copy Sales.rowsCopied", 42),
        ("Lookup.firstRow.id", "a.b"),
        ("Lookup.value[1].id", 2),
        ("Lookup.value.0", {"id": 1}),
        ("Each.rowsCopied", [1, 2]),
        ("Copy Sales", {"rowsCopied": 42, "errors": []}),
        # In the form of Data Factory's expressions.
        ("activity('Load [Sales]').output['dbo.Orders']", {"output-member": 7, "it's": [8]}),
        ("@activity('Load [Sales]').output['dbo.Orders'].output-member", 7),
        ("activity('Load [Sales]')?.output?['dbo.Orders']?['it''s'][0]", 8),
        ("activity('Load [Sales]').output?['dbo.Orders']?['it''s'][0]", 8),
        (" @Activity( 'Copy Sales' ).output.rowsCopied ", 42),
        ("activity('Lookup').output.value[1].id", 2),
        ("activity('Lookup').output", {"firstRow": {"id": "a.b"}, "value": [{"id": 1}, {"id": 2}]}),
        ("Lookup['firstRow'].id", "a.b"),
        ("Lookup['value'][ 0 ]['id']", 1),
    ],
)
def test_value_is_found(path: str, value: Any) -> None:
    assert find(path) == Outputs({"it": value}, [])


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("Nope.x", "the run has no activity 'Nope' that succeeded."),
        ("Copy Sales.rows", "Copy Sales has no 'rows'; it has errors, rowsCopied."),
        ("Lookup.value[2]", "Lookup.value is a list of 2, and has no '2'."),
        ("Copy Sales.rowsCopied.x", "Copy Sales.rowsCopied is not an object, and has no 'x'."),
        ("pipelineReturnValue.x", "the pipeline set no return value."),
        (
            "activity('Load [Sales]').output.dbo.Orders.output-member",
            "activity('Load [Sales]').output has no 'dbo'; it has dbo.Orders. If 'dbo.Orders' is meant, write "
            "\"activity('Load [Sales]').output['dbo.Orders'].output-member\".",
        ),
        (
            "activity('Load [Sales]').output['dbo.Orders']['it''s'][999999999]",
            "activity('Load [Sales]').output['dbo.Orders']['it''s'] is a list of 1, and has no '999999999'.",
        ),
    ],
)
def test_missing_value_is_explained(path: str, reason: str) -> None:
    found = find(path)
    assert found.values == {}
    assert found.left_out[0].startswith("Output 'it' (")
    assert found.left_out[0].endswith(f"was not found: {reason}")


@pytest.mark.parametrize(
    "value", [{"rows": 7}, [{"key": "rows", "value": {"type": "Int", "content": 7}}, {"key": "other", "value": 1}]]
)
def test_return_value_of_the_pipeline_is_found(value: Any) -> None:
    rows = [
        row("Return", {"name": "pipelineReturnValue", "value": value}, kind="SetVariable"),
        row("Set", {"name": "v", "value": {"rows": 8}}, kind="SetVariable", at=9),
    ]
    assert find("pipelineReturnValue.rows", rows).values == {"it": 7}


def test_large_value_is_left_out_and_explained() -> None:
    fits = row("Web", {"text": "x" * (LARGEST_OUTPUT_BYTES - 20)})
    assert find("Web", [fits]).left_out == []
    (reason,) = find("Web", [row("Web", {"text": "x" * LARGEST_OUTPUT_BYTES})]).left_out
    assert reason.startswith(
        f"Output 'it' (Web) was left out: it has {LARGEST_OUTPUT_BYTES + 12} bytes, and an XCom may have {LARGEST_OUTPUT_BYTES}"
    )


def test_credentials_are_masked() -> None:
    output = {"url": "https://x/?sig=abc%2F", "rows": [{"password": "hush", "n": 1, "jwt": "eyJhbGciOi.eyJzdWIi.xyz"}]}
    assert find("Web", [row("Web", output)]).values["it"] == {
        "url": "https://x/?sig=***",
        "rows": [{"password": "***", "n": 1, "jwt": "***"}],
    }


@pytest.mark.parametrize(
    ("path", "output", "value"),
    [
        ("Web.firstRow.password", {"firstRow": {"password": "hush"}}, "***"),
        ("Web.access_token", {"access_token": "hush"}, "***"),
        ("Web.tokens[0]", {"tokens": ["x"]}, "x"),
        ("Web.password[0]", {"password": ["hush"]}, "***"),
        ("Web", {"password": {"value": "hush"}}, {"password": "***"}),
        ("Web", {"password": ["hush"], "pwd": 1234}, {"password": "***", "pwd": "***"}),
        ("Web", {"name": "password", "value": "hush"}, {"name": "password", "value": "***"}),
        ("Web", {"name": "table", "value": "sales"}, {"name": "table", "value": "sales"}),
        ("Web", {"password": None, "sas_token": ""}, {"password": None, "sas_token": ""}),
    ],
    ids=str,
)
def test_credentials_are_masked_for_every_path(path: str, output: dict[str, Any], value: Any) -> None:
    assert find(path, [row("Web", output)]).values["it"] == value


def test_output_of_an_incomplete_list_is_left_out() -> None:
    wanted = parse_outputs({"a": "Each.rowsCopied", "b": "pipelineReturnValue.rows"})
    run = PipelineRun.from_wire({"runId": "r1", "status": "Succeeded"})
    routine = reading_outputs(wanted, run, FACTORY, timing=Timing(clock=lambda: 1_000_000.0))
    next(routine)
    for number in range(OUTPUT_PAGES):
        routine.send(Page(items=[ROWS[2]], continuation_token=f"more {number}"))
    value = row("Return", {"name": "pipelineReturnValue", "value": {"rows": 3}}, kind="SetVariable")
    with pytest.raises(StopIteration) as end:
        routine.send(Page(items=[value], continuation_token=None))
    assert end.value.value.values == {"b": 3}
    (reason,) = end.value.value.left_out
    assert reason.startswith("Output 'a' (Each.rowsCopied) was left out: the service's list does not show all runs")
    assert f"(there are more than {OUTPUT_PAGES} pages)" in reason


@pytest.mark.parametrize(
    ("path", "right"),
    [
        ("Load [Sales].rows", "activity('Load [Sales]').output.rows"),
        ("Load [Sales]", "activity('Load [Sales]').output"),
        ("Load's [x].a b", "activity('Load''s [x]').output['a b']"),
        ("activity('Load').error", "activity('Load [Sales]').output['dbo.Orders']"),
        ("activity('Load').outputs.x", "activity('Load [Sales]').output['dbo.Orders']"),
        ("@variables('x')", "activity('Load [Sales]').output['dbo.Orders']"),
        ("", "activity('Load [Sales]').output['dbo.Orders']"),
        ("Copy[9999999999]", "activity('Copy[9999999999]').output"),
    ],
)
def test_error_of_an_unreadable_path_shows_the_right_spelling(path: str, right: str) -> None:
    with pytest.raises(AdfConfigurationError) as refused:
        parse_outputs({"it": path})
    assert f'as in Data Factory\'s expressions: "{right}".' in str(refused.value)


PARTS = st.text(alphabet=st.sampled_from("ab'[]. ?0é-@(") | st.characters(), min_size=1, max_size=8)


@given(PARTS, st.lists(PARTS, max_size=4))
@example("activity(", ["0"])
def test_path_that_is_written_and_read_again_is_the_same(activity: str, steps: list[str]) -> None:
    path = OutputPath(activity, tuple(steps))
    assert OutputPath.parse("it", path.expression()) == path
    assert str(path) == path.expression() or OutputPath.parse("it", str(path)) == path


def test_row_on_two_pages_and_in_two_queries_gives_one_value() -> None:
    wanted = parse_outputs({"each": "Set.value.rows", "it": "pipelineReturnValue.rows"})
    run = PipelineRun.from_wire({"runId": "r1", "status": "Succeeded", "runStart": "0001-01-01T00:00:00Z"})
    routine = reading_outputs(wanted, run, FACTORY, timing=Timing(clock=lambda: 1_000_000.0))
    rows = [
        ActivityRun.from_wire(
            {**dict(row("Set", output, kind="SetVariable", at=n, iteration=str(n)).raw), "activityRunId": f"a{n}"}
        )
        for n, output in enumerate([{"name": "pipelineReturnValue", "value": {"rows": n}} for n in range(3)])
    ]
    next(routine)
    routine.send(Page(items=rows[:2], continuation_token="more"))
    routine.send(Page(items=rows[1:], continuation_token=None))
    with pytest.raises(StopIteration) as end:
        routine.send(Page(items=rows, continuation_token=None))
    assert end.value.value.values == {"each": [0, 1, 2], "it": 2}


@pytest.mark.parametrize("number", [math.inf, -math.inf, math.nan])
def test_number_that_json_cannot_hold_is_left_out(number: float) -> None:
    found = find("Web.a", [row("Web", {"a": [{"b": number}]})])
    assert found.values == {}
    assert found.left_out == [
        "Output 'it' (Web.a) was left out: it has a number that JSON cannot represent. Choose a part of it."
    ]


@pytest.mark.parametrize(
    "outputs",
    [
        "Copy.rows",
        ["Copy.rows"],
        {"": "Copy.rows"},
        {"a": ""},
        {"a": ".rows"},
        {"a": "Copy.rows[x]"},
        {"a": "Copy..rows"},
        {"a": 7},
        {"run_id": "Copy.rows"},
        {"adf_intent": "Copy.rows"},
        {"_link": "Copy.rows"},
    ],
    ids=str,
)
def test_invalid_outputs_are_refused(outputs: Any) -> None:
    with pytest.raises(AdfConfigurationError, match="outputs"):
        parse_outputs(outputs)


def test_only_the_wanted_activities_are_queried_on_all_pages() -> None:
    wanted = parse_outputs({"a": "Copy Sales.rowsCopied", "b": "pipelineReturnValue.rows"})
    run = PipelineRun.from_wire({"runId": "r1", "status": "Succeeded"})
    routine = reading_outputs(wanted, run, FACTORY, timing=Timing(clock=lambda: 1_000_000.0))
    call: Any = next(routine)
    assert call.args[3]["filters"][1] == {"operand": "ActivityName", "operator": "In", "values": ["Copy Sales"]}
    call = routine.send(Page(items=[], continuation_token="more"))
    assert call.args[3]["continuationToken"] == "more"
    call = routine.send(Page(items=[ROWS[0]], continuation_token=None))
    assert call.args[3]["filters"][1] == {"operand": "ActivityType", "operator": "In", "values": ["SetVariable"]}
    with pytest.raises(StopIteration) as end:
        routine.send(Page(items=[], continuation_token=None))
    assert end.value.value.values == {"a": 42}
    routine = reading_outputs(wanted, run, FACTORY, timing=Timing(clock=lambda: 1_000_000.0))
    next(routine)
    with pytest.raises(AdfError, match="503"):
        routine.send(AdfUnavailableError("503"))

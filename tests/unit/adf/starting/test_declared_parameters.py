"""Whether the parameters of a start fit the published pipeline, and how they are sent."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_adf_mi.adf.models import UNREADABLE, PipelineRun
from airflow_adf_mi.adf.starting.declared_parameters import (
    DeclaredParameter,
    Fitted,
    fit,
    listed_parameters,
    read_declared,
)
from airflow_adf_mi.adf.starting.find_run import has_parameters


def declared(**types: str) -> tuple[DeclaredParameter, ...]:
    """Parameters by name. A type that ends with "?" has a default."""
    return tuple(
        DeclaredParameter(name=name, type=kind.rstrip("?").lower(), has_default=kind.endswith("?"))
        for name, kind in types.items()
    )


def fitted(value: Any, kind: str) -> Fitted:
    return fit({"p": value}, declared(p=kind))


@pytest.mark.parametrize(
    ("kind", "value", "sent"),
    [
        ("Int", "5", 5),
        ("int", " -7\n", -7),
        ("Int", 5, 5),
        pytest.param("Int", 10**400, 10**400, id="Int-large"),
        ("Int", 5.0, 5),
        ("Int", "2.0", 2),
        ("Float", "2.5", 2.5),
        ("Float", "2", 2),
        ("Float", 3, 3),
        ("Bool", "true", True),
        ("Bool", "False", False),
        ("Bool", " TRUE\n", True),
        ("Bool", False, False),
        ("Array", '["a", 1]', ["a", 1]),
        ("Array", [1], [1]),
        ("Object", '{"a": {"b": []}}', {"a": {"b": []}}),
        ("Object", {}, {}),
        ("String", "5", "5"),
        ("String", 5, "5"),
        ("String", True, "true"),
        ("String", ["é", 1], '["é",1]'),
        ("String", "", ""),
        ("SecureString", {"a": 1}, '{"a":1}'),
        ("Int", None, None),
        ("TypeOfTomorrow", "x", "x"),
    ],
)
def test_value_is_sent_in_the_declared_type(kind: str, value: Any, sent: Any) -> None:
    result = fitted(value, kind)
    assert result.problems == ()
    assert result.values == {"p": sent}
    assert type(result.values["p"]) is type(sent)
    assert result.converted == (() if type(sent) is type(value) and sent == value else ("p",))


@pytest.mark.parametrize(
    ("kind", "value", "problem"),
    [
        ("Int", "five", "'p' is declared as Int, but the text that is given is not a whole number."),
        ("Int", "", "'p' is declared as Int, but the text that is given is not a whole number."),
        ("Int", "2.5", "'p' is declared as Int, but the text that is given is not a whole number."),
        ("Int", 2.5, "'p' is declared as Int, but the number that is given is not a whole number."),
        ("Int", True, "'p' is declared as Int, but the boolean that is given is not a whole number."),
        ("Int", "1e999", "'p' is declared as Int, but the text that is given is not a whole number."),
        ("Float", "-1e999", "'p' is declared as Float, but the text that is given is not a number."),
        ("Float", "NaN", "'p' is declared as Float, but the text that is given is not a number."),
        ("Float", "Infinity", "'p' is declared as Float, but the text that is given is not a number."),
        ("Float", [1], "'p' is declared as Float, but the list that is given is not a number."),
        ("Bool", "yes", "'p' is declared as Bool, but the text that is given is not true or false."),
        ("Bool", 1, "'p' is declared as Bool, but the number that is given is not true or false."),
        (
            "Array",
            "['a']",
            "'p' is declared as Array, but the text that is given is not a list in JSON, as the template filter `tojson` "
            "writes it.",
        ),
        (
            "Object",
            "[1]",
            "'p' is declared as Object, but the text that is given is not an object in JSON, as the template filter `tojson` "
            "writes it.",
        ),
        (
            "Object",
            "[" * 100_000,
            "'p' is declared as Object, but the text that is given is not an object in JSON, as the template filter `tojson` "
            "writes it.",
        ),
    ],
)
def test_value_that_cannot_become_the_declared_type_is_a_problem(kind: str, value: Any, problem: str) -> None:
    assert fitted(value, kind).problems == (problem,)


def test_value_is_never_quoted() -> None:
    shown = str(fitted("hunter2", "Int").problems) + str(fitted({"key": "hunter2"}, "Array").problems)
    assert "hunter2" not in shown


def test_undeclared_parameter_is_a_problem_with_a_suggestion() -> None:
    result = fit({"windw_start": "x", "zzz": 1}, declared(window_start="String?"))
    assert result.problems == (
        "'windw_start' is not declared. Did you mean 'window_start'?",
        "'zzz' is not declared.",
    )


def test_name_that_differs_by_case_is_sent_as_declared() -> None:
    result = fit({"WINDOW_START": "x"}, declared(window_start="String"))
    assert (result.values, result.problems) == ({"window_start": "x"}, ())
    assert result.respelled == (("WINDOW_START", "window_start"),)


def test_one_parameter_in_two_spellings_is_a_problem() -> None:
    result = fit({"day": "x", "Day": "y"}, declared(day="String"))
    assert result.problems == ("'day' is given twice, in upper and lower case.",)


def test_parameter_without_value_and_default_is_a_problem() -> None:
    result = fit({}, declared(day="String", rows="Int?"))
    assert result.problems == ("'day' has no value and no default.",)


def test_wrong_value_is_one_problem_and_not_a_missing_one() -> None:
    assert len(fit({"DAY": "x"}, declared(day="Int")).problems) == 1


def test_correlation_parameter_counts_as_given() -> None:
    result = fit({}, declared(Start_Key="String"), "start_key")
    assert (result.problems, result.correlation_parameter) == ((), "Start_Key")


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        ("Int", "correlation_parameter 'key' is declared as Int; it must be a String."),
        ("SecureString", "correlation_parameter 'key' is declared as SecureString; it must be a String."),
        ("New", "correlation_parameter 'key' is declared as new; it must be a String."),
    ],
)
def test_correlation_parameter_must_be_a_string(kind: str, problem: str) -> None:
    # The service does not show the value of a SecureString, so that it identifies no run.
    assert fit({}, declared(key=kind), "key").problems == (problem,)


def test_undeclared_correlation_parameter_is_a_problem() -> None:
    assert fit({}, declared(key="String?"), "kay").problems == (
        "correlation_parameter 'kay' is not declared. Did you mean 'key'?",
    )


def test_definition_is_read_as_the_service_writes_it() -> None:
    definition = {
        "properties": {
            "parameters": {"day": {"type": "string"}, "n": {"type": "Int", "defaultValue": 0}, "o": {"type": "X"}}
        }
    }
    assert listed_parameters(read_declared(definition)) == "day (String), n (Int, has a default), o (x)"
    assert listed_parameters(read_declared({"properties": {}})) == "no parameters"


@pytest.mark.parametrize(
    "odd",
    [{}, {"properties": []}, {"properties": {"parameters": [1]}}, {"properties": {"parameters": {"a": {}}}}],
)
def test_odd_definition_cannot_be_read(odd: Any) -> None:
    with pytest.raises(UNREADABLE):
        read_declared(odd)


def test_value_of_a_parameter_in_another_spelling_is_compared() -> None:
    run = PipelineRun.from_wire({"runId": "r", "pipelineName": "Load", "status": "Failed", "parameters": {"Day": "y"}})
    assert has_parameters(run, {"day": "y"})
    assert not has_parameters(run, {"day": "x"})


@pytest.mark.parametrize("author_wrote", [True, "true", "True", "TRUE", " true\n"])
def test_boolean_is_recognised_in_each_spelling_that_is_converted(author_wrote: Any) -> None:
    assert fitted(author_wrote, "Bool").values == {"p": True}
    for shown, same in (("true", True), ("True", True), ("false", False), ("1", False)):
        wire = {"runId": "r", "pipelineName": "Load", "status": "InProgress", "parameters": {"p": shown}}
        assert has_parameters(PipelineRun.from_wire(wire), {"p": author_wrote}) is same


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(
    value=values,
    kind=st.sampled_from(["String", "Int", "Float", "Bool", "Array", "Object"]),
    write=st.sampled_from([lambda value: value, json.dumps, lambda value: f" {json.dumps(value)}\n".upper(), str]),
)
def test_run_with_the_converted_value_has_the_parameters_of_its_start(
    value: Any, kind: str, write: Callable[[Any], Any]
) -> None:
    author_wrote = write(value)
    result = fitted(author_wrote, kind)
    if not result.problems:
        sent = result.values["p"]
        shown = sent if isinstance(sent, str) else json.dumps(sent)
        run = PipelineRun.from_wire(
            {"runId": "r", "pipelineName": "Load", "status": "InProgress", "parameters": {"P": shown}}
        )
        assert has_parameters(run, {"p": author_wrote}) or sent is None
        # To fit the values again changes nothing.
        assert fit(result.values, declared(p=kind)).values == result.values

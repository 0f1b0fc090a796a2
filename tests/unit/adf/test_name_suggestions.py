"""Suggestions for misspelt names."""

from __future__ import annotations

import difflib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_adf_mi.adf.config.addresses import FactoryRef
from airflow_adf_mi.adf.errors import AdfError, AdfNotFoundError, AdfPermissionError
from airflow_adf_mi.adf.name_suggestions import (
    LEAST_LIKENESS,
    NAMES_BETWEEN_PAUSES,
    suggest_factories,
    suggest_pipelines,
    with_suggestions,
)
from airflow_adf_mi.adf.routines import Pause, Routine

FACTORY = FactoryRef(subscription_id="s", resource_group_name="rg", factory_name="adf-sales")


def factory_id(name: str, group: str = "rg") -> str:
    return f"/subscriptions/s/resourceGroups/{group}/providers/Microsoft.DataFactory/factories/{name}"


def sentence_of(routine: Routine[str], pauses: list[Any] | None = None) -> str:
    """The sentence. The steps of the routine are added to `pauses`."""
    while True:
        try:
            step = next(routine)
        except StopIteration as end:
            return str(end.value)
        if pauses is not None:
            pauses.append(step)


def test_similar_pipelines_are_suggested() -> None:
    assert sentence_of(suggest_pipelines("copysales", ["CopySales", "Other"])) == "Did you mean 'CopySales'?"
    assert sentence_of(suggest_pipelines("X", [])) == "The factory has no published pipeline at all."
    assert (
        sentence_of(suggest_pipelines("X", ["B", "A"])) == "Published pipelines: 2, none with a similar name: 'A', 'B'."
    )
    many = sentence_of(suggest_pipelines("zzz", [f"Pipeline{n}" for n in range(9)]))
    assert many.startswith("Published pipelines: 9, none with a similar name: 'Pipeline0', ")
    assert many.endswith(" and others.")


def test_similar_factories_are_suggested() -> None:
    assert sentence_of(suggest_factories(FACTORY, [factory_id("ADF-Sales", "rg-2")])) == (
        "There is a factory 'adf-sales' in resource group 'rg-2'."
    )
    assert (
        sentence_of(suggest_factories(FACTORY, [factory_id("adf-sale")]))
        == "Did you mean 'adf-sale' (resource group 'rg')?"
    )
    assert sentence_of(suggest_factories(FACTORY, [factory_id("x-1"), "odd"])) == (
        "Factories that the identity sees in this subscription: 1, none with a similar name: 'x-1' (resource group 'rg')."
    )
    assert "sees no data factory in this subscription" in sentence_of(suggest_factories(FACTORY, []))


@given(
    st.text(alphabet="abcAB_", max_size=8),
    st.lists(st.text(alphabet="abcAB_", max_size=8), max_size=25, unique_by=str.lower),
)
def test_names_are_the_same_as_from_difflib_and_the_event_loop_gets_turns(wanted: str, names: list[str]) -> None:
    pauses: list[Any] = []
    sentence = sentence_of(suggest_pipelines(wanted, names), pauses)
    lower = {name.lower(): name for name in names}
    closest = [repr(lower[name]) for name in difflib.get_close_matches(wanted.lower(), lower, 3, LEAST_LIKENESS)]
    assert sentence == f"Did you mean {' or '.join(closest)}?" or not closest
    assert sentence.startswith("Did you mean") is bool(closest)
    assert pauses == [Pause(0)] * (len(names) // NAMES_BETWEEN_PAUSES)


def suggested(error: AdfError, *answers: Any) -> tuple[str, int]:
    """The text of the error with suggestions, and the number of requests."""
    routine = with_suggestions(error, FACTORY, "CopySale")
    answer: Any = None
    for number, following in enumerate([*answers, None]):
        try:
            routine.send(answer)
        except StopIteration as end:
            return str(end.value), number
        answer = following
    raise AssertionError("another request was sent")


def test_only_the_missing_kind_of_name_is_requested() -> None:
    assert suggested(AdfNotFoundError("404.", status=404, missing="pipeline"), ["CopySales"]) == (
        "404. Did you mean 'CopySales'?",
        1,
    )
    assert suggested(AdfNotFoundError("404.", status=404, missing="factory"), [factory_id("adf-sale")])[1] == 1
    for error in (AdfNotFoundError("404.", status=404, missing="run"), AdfPermissionError("403.", status=403)):
        assert suggested(error)[1] == 0


def test_error_is_unchanged_if_names_must_not_be_listed() -> None:
    for missing in ("pipeline", "factory"):
        error = AdfNotFoundError("404.", status=404, missing=missing)
        assert suggested(error, AdfPermissionError("403", status=403)) == ("404.", 1)


def test_original_error_is_unchanged_by_suggestions() -> None:
    """Other callers may have the same error."""
    error = AdfNotFoundError("404.", status=404, code="NotFound", missing="pipeline", failure_cause="gateway")
    error.add_note("a note")
    error.__cause__ = ValueError("the cause")
    routine = with_suggestions(error, FACTORY, "CopySale")
    routine.send(None)
    with pytest.raises(StopIteration) as end:
        routine.send(["CopySales"])
    another = end.value.value
    assert (str(error), str(another)) == ("404.", "404. Did you mean 'CopySales'?")
    assert (type(another), vars(another), another.__cause__) == (type(error), vars(error), error.__cause__)
    another.add_note("another note")
    assert error.__notes__ == ["a note"]

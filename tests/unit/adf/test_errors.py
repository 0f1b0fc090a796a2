"""Errors of every class, on their way through pickle, copy, JSON, and a process pool."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from airflow_adf_mi.adf.error_json import error_from_json, error_to_json
from airflow_adf_mi.adf.errors import AdfError, AdfNotFoundError, AdfRunFailed, AdfThrottledError, members_of
from airflow_adf_mi.exceptions import AdfError as AdfErrorOfAirflow
from airflow_adf_mi.exceptions import to_airflow
from tests.support.every_error import CLASSES, MEMBERS, known, made

WAYS: dict[str, Callable[[AdfError], AdfError]] = {
    "pickle": lambda error: pickle.loads(pickle.dumps(error)),  # noqa: S301  our own
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}
each_class = pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)


def test_list_of_members_is_complete() -> None:
    """Otherwise, the tests below would test nothing."""
    assert {name for kind in CLASSES for name in members_of(kind)} == set(MEMBERS)
    assert members_of(AdfError) == ()
    assert members_of(AdfNotFoundError) == ("status", "code", "request_id", "retry_after", "failure_cause", "missing")
    assert len(CLASSES) >= 15


@each_class
def test_every_member_is_an_attribute(kind: type[AdfError]) -> None:
    text, attributes = known(made(kind))
    assert text == f"what happened to {kind.__name__}"
    assert attributes == {**{name: MEMBERS[name] for name in members_of(kind)}, "__notes__": ["and a note"]}


@each_class
@pytest.mark.parametrize("is_twin", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_copied_error_keeps_its_members_and_notes(way: str, is_twin: bool, kind: type[AdfError]) -> None:
    error = to_airflow(made(kind)) if is_twin else made(kind)
    again = WAYS[way](error)
    assert (type(again), known(again)) == (type(error), known(error))
    assert again.args == error.args
    again.add_note("of the copy")
    assert error.__notes__ == ["and a note"]


def _fails() -> None:
    raise made(AdfRunFailed)


def test_error_keeps_its_members_through_a_process_pool() -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool, pytest.raises(AdfRunFailed) as failed:
        pool.submit(_fails).result()
    assert failed.value.failed_activity == "Copy"
    assert failed.value.run_id == "r1"


@each_class
@pytest.mark.parametrize("is_twin", [False, True])
def test_error_that_is_stored_as_json_stays_the_same(is_twin: bool, kind: type[AdfError]) -> None:
    """A twin is read as the error of the core. Public methods convert that to a twin again."""
    error = made(kind)
    stored = json.loads(json.dumps(error_to_json(to_airflow(error) if is_twin else error)))
    again = error_from_json(stored)
    assert (type(again), known(again)) == (kind, known(error))
    assert not isinstance(again, AdfErrorOfAirflow)


@pytest.mark.parametrize(
    "stored",
    [
        {"type": "AdfOfALaterVersion", "message": "said"},
        {"type": "Sequence", "message": "said"},
        {"type": "E", "message": "said"},
        {"type": "AdfRequestError", "message": "said"},
        {"type": "AdfRequestError", "message": "said", "status": None, "code": None, "request_id": None},
        {
            "type": "AdfRunFailed",
            "message": "said",
            "run_id": "r1",
            "studio_url": "u",
            "run": {"of": "a later version"},
        },
        {"type": "TypeVar", "message": "said"},
        {"type": "AdfRunFailed", "message": "said", "run_id": "r1", "studio_url": "u", "activities": [{}]},
        {"type": "AdfRunFailed", "message": "said", "run_id": "r1", "studio_url": "u", "run": "r1"},
    ],
    ids=str,
)
def test_unknown_stored_error_keeps_its_text(stored: dict[str, object]) -> None:
    again = error_from_json(stored)
    assert (type(again), str(again)) == (AdfError, "said")


@pytest.mark.parametrize("notes", [None, [], "missing"])
def test_stored_error_without_notes_keeps_its_class(notes: object) -> None:
    stored = {"type": "AdfRunFailed", "message": "said", "run_id": "r1", "studio_url": "u"}
    again = error_from_json(stored if notes == "missing" else {**stored, "notes": notes})
    assert (type(again), str(again)) == (AdfRunFailed, "said")


def test_stored_error_with_fewer_or_more_members_keeps_its_class() -> None:
    again = error_from_json({"type": "AdfThrottledError", "message": "said", "status": 429, "of_a_later_version": 1})
    assert known(again) == ("said", dict.fromkeys(members_of(AdfThrottledError)) | {"status": 429})

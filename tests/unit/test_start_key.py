"""Keys that say for themselves which try they are of."""

from __future__ import annotations

import uuid
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from airflow_adf_mi.adf.start_key import Place

PLACE = Place(dag_id="dag", dag_run_id="run", task_id="it", began="2026-11-01T00:00:00+00:00")
tries = st.integers(1, 30)
places = st.builds(
    Place,
    dag_id=st.text(),
    dag_run_id=st.text(),
    task_id=st.text(),
    map_index=st.integers(-1, 5),
    began=st.text(),
)


@given(place=places, number=tries, last=tries)
def test_a_key_tells_its_try(place: Place, number: int, last: int) -> None:
    key = place.key(number)
    assert str(uuid.UUID(key)) == key
    assert (uuid.UUID(key).version, uuid.UUID(key).variant) == (8, uuid.RFC_4122)
    assert place.try_of(key, last) == (number if number <= last else None)
    assert place.try_of(key.upper(), number) == number


@given(one=places, other=places, number=tries)
def test_a_key_is_of_no_other_place(one: Place, other: Place, number: int) -> None:
    if one != other:
        assert other.try_of(one.key(number), 30) is None


@given(a=tries, b=tries)
def test_tries_have_keys_of_their_own(a: int, b: int) -> None:
    assert (PLACE.key(a) == PLACE.key(b)) == (a == b)


def test_a_dag_run_that_is_made_again_is_another_place() -> None:
    assert replace(PLACE, began="2026-11-02T00:00:00+00:00").try_of(PLACE.key(1), 9) is None


@given(st.text() | st.uuids().map(str))
def test_what_is_no_key_is_of_no_try(text: str) -> None:
    assert PLACE.try_of(text, 30) is None


def test_keys_stay_what_they_are() -> None:
    """They are stored with tasks that go on while this package is updated."""
    assert PLACE.key(1) == "9e3fb651-1552-85db-88b9-4b1fff8dcf69"

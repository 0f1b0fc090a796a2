"""Keys that say for themselves what they are of."""

from __future__ import annotations

import uuid
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from airflow_adf_mi.adf.start_key import Place, is_of

PLACE = Place(dag_id="dag", dag_run_id="run", task_id="it", began="2026-11-01T00:00:00+00:00")
tries = st.integers(1, 30)
places = st.builds(
    Place,
    dag_id=st.text(),
    dag_run_id=st.text(),
    task_id=st.text(),
    map_index=st.integers(-1, 5),
    clear_number=st.integers(0, 5),
    began=st.text(),
)


@given(place=places, number=tries, last=tries, fingerprint=st.text())
def test_a_key_tells_its_try_and_what_it_runs(place: Place, number: int, last: int, fingerprint: str) -> None:
    key = place.key(number, fingerprint)
    assert str(uuid.UUID(key)) == key
    assert (uuid.UUID(key).version, uuid.UUID(key).variant) == (8, uuid.RFC_4122)
    assert place.try_of(key, last) == (number if number <= last else None)
    assert place.try_of(key.upper(), number) == number
    assert is_of(key, fingerprint)
    assert not is_of(key, f"{fingerprint}x")


@given(one=places, other=places, number=tries)
def test_a_key_is_of_no_other_place(one: Place, other: Place, number: int) -> None:
    if one != other:
        assert other.try_of(one.key(number, "same"), 30) is None


@given(a=tries, b=tries)
def test_tries_have_keys_of_their_own(a: int, b: int) -> None:
    assert (PLACE.key(a, "same") == PLACE.key(b, "same")) == (a == b)


def test_a_clear_and_a_dag_run_that_is_made_again_are_other_places() -> None:
    key = PLACE.key(1, "same")
    assert replace(PLACE, clear_number=1).try_of(key, 9) is None
    assert replace(PLACE, began="2026-11-02T00:00:00+00:00").try_of(key, 9) is None


@given(st.text() | st.uuids().map(str))
def test_what_is_no_key_is_of_no_try(text: str) -> None:
    assert PLACE.try_of(text, 30) is None


def test_keys_stay_what_they_are() -> None:
    """They are stored with tasks that go on while this package is updated."""
    assert PLACE.key(1, "f") == "13a61f4c-2160-8c1b-9094-bc4320d843af"

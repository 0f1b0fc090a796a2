"""Start keys that identify the task try that they belong to."""

from __future__ import annotations

import uuid
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from airflow_adf_mi._triggerer.start_key import TaskTryKey

PLACE = TaskTryKey(dag_id="dag", dag_run_id="run", task_id="it", ti_id="0192f0c1", try_number=1)
places = st.builds(
    TaskTryKey,
    dag_id=st.text(),
    dag_run_id=st.text(),
    task_id=st.text(),
    map_index=st.integers(-1, 5),
    ti_id=st.text(),
    try_number=st.integers(1, 30),
)


@given(place=places)
def test_key_identifies_its_try(place: TaskTryKey) -> None:
    assert str(uuid.UUID(place.start_key)) == place.start_key
    assert (uuid.UUID(place.start_key).version, uuid.UUID(place.start_key).variant) == (8, uuid.RFC_4122)
    assert place.has_key(place.start_key)
    assert place.has_key(place.start_key.upper())


@given(one=places, other=places)
def test_key_belongs_to_no_other_task_try(one: TaskTryKey, other: TaskTryKey) -> None:
    assert other.has_key(one.start_key) == (one == other)


@given(a=st.integers(1, 30), b=st.integers(1, 30))
def test_each_try_has_its_own_key(a: int, b: int) -> None:
    assert replace(PLACE, try_number=a).has_key(replace(PLACE, try_number=b).start_key) == (a == b)


def test_dag_run_that_is_created_again_has_other_keys() -> None:
    assert not replace(PLACE, ti_id="0192f0c2").has_key(PLACE.start_key)


@given(st.text() | st.uuids().map(str) | st.none() | st.integers())
def test_value_that_is_not_a_key_belongs_to_no_try(text: object) -> None:
    assert not PLACE.has_key(text)

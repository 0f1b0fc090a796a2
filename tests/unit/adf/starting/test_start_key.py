"""Start keys: nothing else has their form. `tests/contract/test_stored_names.py` has literal keys."""

from __future__ import annotations

import uuid

from hypothesis import given
from hypothesis import strategies as st

from airflow_adf_mi.adf.starting.start_key import digest_key, is_start_key, random_key

parts = st.lists(st.text() | st.integers(), max_size=6)


@given(parts)
def test_form_is_a_guid_of_version_8(given_parts: list[str | int]) -> None:
    for key in (digest_key(*given_parts), random_key()):
        number = uuid.UUID(key)
        assert (str(number), number.version, number.variant) == (key, 8, uuid.RFC_4122)
        assert is_start_key(key)
        assert is_start_key(key.upper())


@given(key=parts.map(lambda given_parts: digest_key(*given_parts)), bit=st.integers(0, 127))
def test_key_with_one_other_bit_is_no_key(key: str, bit: int) -> None:
    assert not is_start_key(str(uuid.UUID(int=uuid.UUID(key).int ^ (1 << bit))))


@given(st.text() | st.uuids().map(str) | st.none() | st.integers())
def test_nothing_else_is_a_key(text: object) -> None:
    assert not is_start_key(text)


@given(one=parts, other=parts)
def test_other_parts_have_another_key(one: list[str | int], other: list[str | int]) -> None:
    assert (digest_key(*one) == digest_key(*other)) == (one == other)


def test_random_keys_differ() -> None:
    assert len({random_key() for _ in range(100)}) == 100

"""The rule for reading stored forms."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_adf_mi.adf.starting.intent import TaskTry
from airflow_adf_mi.adf.stored_forms import known_members


def test_unknown_members_are_ignored_and_missing_ones_are_left_out() -> None:
    assert known_members(TaskTry, {"try_number": 2, "later": 1}) == {"try_number": 2}


@pytest.mark.parametrize("stored", ["try_number", ["try_number"], None, 7])
def test_other_forms_are_refused(stored: Any) -> None:
    with pytest.raises(TypeError, match="expected the members of TaskTry, found a"):
        known_members(TaskTry, stored)

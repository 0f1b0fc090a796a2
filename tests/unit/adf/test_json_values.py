"""Values of Dag files as JSON: the same as the official client and the Azure provider send."""

from __future__ import annotations

import json
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

import pendulum
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_adf_mi.adf.json_values import to_json_value

ZONES: Any = st.none() | st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
MOMENTS = st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1), timezones=ZONES)  # noqa: DTZ001
# The client uses floating point, which loses microseconds of very long durations.
DURATIONS = st.timedeltas(timedelta(microseconds=1), timedelta(days=200 * 365))
PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
NUMBERS = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**9), max_value=10**9, places=6)
SINGLE = PLAIN | MOMENTS | st.dates() | st.times() | DURATIONS | NUMBERS | st.binary()
VALUES = st.recursive(SINGLE, lambda inner: st.lists(inner) | st.tuples(inner) | st.dictionaries(st.text(), inner))


@given(VALUES)
def test_every_value_is_the_same_as_from_the_official_client(value: Any) -> None:
    encoder = pytest.importorskip(
        "azure.mgmt.datafactory._utils.model_base", reason="version 9 has no encoder"
    ).SdkJSONEncoder
    theirs = json.loads(json.dumps(value, cls=encoder))
    assert json.loads(json.dumps(to_json_value(value), allow_nan=False)) == theirs


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (datetime(2026, 1, 31, 6), "2026-01-31T06:00:00Z"),  # noqa: DTZ001
        (datetime(2026, 1, 31, 6, 0, 0, 5, tzinfo=timezone(timedelta(hours=-5))), "2026-01-31T11:00:00.000005Z"),
        (pendulum.datetime(2026, 1, 31, 6, tz="Europe/Berlin"), "2026-01-31T05:00:00Z"),
        (date(2026, 1, 31), "2026-01-31"),
        (time(6, 30), "06:30:00"),
        (timedelta(days=1), "P1D"),
        (timedelta(days=1, hours=2), "P1DT02H00M00S"),
        (timedelta(minutes=90), "PT01H30M00S"),
        (timedelta(seconds=1.5), "PT01.5S"),
        (Decimal("1.50"), 1.5),
        (b"x", "eA=="),
        # For these, the official client sends invalid durations: "P" and "P-1DT23H59M59S".
        (timedelta(), "PT00S"),
        (timedelta(seconds=-1), "-PT01S"),
    ],
    ids=str,
)
def test_examples(value: Any, text: Any) -> None:
    assert to_json_value(value) == text

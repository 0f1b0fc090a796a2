"""Times of the service, however odd they are."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_adf_mi.adf.times import (
    EARLIEST,
    LATEST,
    RUN_RETENTION,
    moment,
    read_number,
    read_seconds,
    read_time,
    run_window,
)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2026-11-28T01:00:00.1234567Z", datetime(2026, 11, 28, 1, 0, 0, 123456, tzinfo=UTC)),
        ("2026-11-28T01:00:00", datetime(2026, 11, 28, 1, tzinfo=UTC)),
        ("2026-11-28T01:00:00+02:00", datetime(2026, 11, 27, 23, tzinfo=UTC)),
        (datetime(2026, 11, 28, 1), datetime(2026, 11, 28, 1, tzinfo=UTC)),  # noqa: DTZ001  as the official client may
        # A format that was observed in answers of the service.
        ("11/28/2026 1:00:00 AM", datetime(2026, 11, 28, 1, tzinfo=UTC)),
        ("2/1/2026 12:05:09 AM", datetime(2026, 2, 1, 0, 5, 9, tzinfo=UTC)),
        ("02/01/2026 12:05 PM", datetime(2026, 2, 1, 12, 5, tzinfo=UTC)),
        ("2/1/2026 11:59:59 PM", datetime(2026, 2, 1, 23, 59, 59, tzinfo=UTC)),
    ],
    ids=str,
)
def test_time_is_read(value: Any, expected: datetime) -> None:
    found = read_time(value)
    assert found == expected
    assert found is not None
    assert found.utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    "value",
    [
        *(None, 0, 5, True, 1e400, "", "soon", [], {}, "x" * 1_000_000),
        *("0001-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59.9999999Z", "1970-01-01T00:00:00Z"),
        *("9999-12-31T23:59:59-14:00", "1601-01-01T00:00:00Z", "1/1/0001 12:00:00 AM", "12/31/9999 11:59:59 PM"),
        *("28/11/2026 1:00:00 AM", "2/30/2026 1:00:00 AM", "2/1/2026 13:00:00 PM", "2/1/2026 0:00:00 AM"),
        # A format of other countries, with the day first.
        "2/1/2026 13:00:00",
    ],
    ids=lambda value: repr(value)[:40],
)
def test_value_that_cannot_be_the_time_of_a_run_is_read_as_none(value: Any) -> None:
    assert read_time(value) is None


ANY_TIME = st.datetimes(timezones=st.none() | st.timezones() | st.just(timezone(timedelta(hours=-14))))


@given(ANY_TIME | ANY_TIME.map(lambda time: time.isoformat()) | st.text(max_size=30), st.integers() | st.floats())
def test_calculations_with_any_read_time_do_not_raise(value: Any, now: float) -> None:
    read = read_time(value)
    assert read is None or EARLIEST < read < LATEST
    after, before = run_window(read, now)
    assert after < before
    assert isinstance((after - before).total_seconds() + after.timestamp(), float)


def test_window_contains_the_run_even_if_its_start_is_unknown_or_in_the_future() -> None:
    now = datetime(2026, 11, 28, tzinfo=UTC)
    began = now - timedelta(hours=5)
    assert run_window(began, now.timestamp()) == (began - timedelta(days=1), now + timedelta(days=1))
    assert run_window(None, now.timestamp())[0] == now - RUN_RETENTION - timedelta(days=1)
    # Month and day were exchanged, or another clock was used.
    assert run_window(now + timedelta(days=40), now.timestamp())[0] == now - timedelta(days=1)


@pytest.mark.parametrize("seconds", [-1e300, -1, math.nan, 0, 1e300, math.inf, -math.inf])
def test_moment_is_never_out_of_range(seconds: float) -> None:
    assert EARLIEST <= moment(seconds) <= LATEST


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, 10**400, "5", None, True, [], {}], ids=str)
def test_unusable_number_is_read_as_none(value: Any) -> None:
    assert read_number(value) is None
    assert read_seconds(value) is None


@pytest.mark.parametrize(("value", "seconds"), [(59877, 59.877), (0, 0), (1.5, 0.0015), (-1, None), (1e300, None)])
def test_negative_or_endless_duration_is_read_as_none(value: float, seconds: float | None) -> None:
    assert read_seconds(value) == seconds

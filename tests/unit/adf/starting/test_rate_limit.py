"""How fast starts leave."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from airflow_adf_mi.adf.starting.rate_limit import TokenBucket

BUCKET, REFILL = 200, 10.0
"""The service's limit, of which others use some as well."""


def test_a_burst_leaves_at_once_and_what_follows_at_the_rate() -> None:
    pace = TokenBucket(burst=100, per_second=8)
    waits = [pace.reserve(0.0) for _ in range(500)]
    assert waits[:100] == [0.0] * 100
    assert waits[100] == 1 / 8
    assert waits[-1] == 400 / 8


def test_a_bucket_fills_again() -> None:
    pace = TokenBucket(burst=100, per_second=8)
    for _ in range(100):
        pace.reserve(0.0)
    assert [pace.reserve(5.0) for _ in range(41)] == [*[0.0] * 40, 1 / 8]


def test_a_throttled_start_holds_all_and_ends_the_burst() -> None:
    pace = TokenBucket(burst=100, per_second=8)
    pace.reserve(0.0)
    pace.hold(30.0)
    assert [pace.reserve(1.0), pace.reserve(1.0)] == [29.0, 29.0 + 1 / 8]


@given(st.lists(st.floats(0, 5), min_size=1, max_size=600))
def test_starts_stay_inside_the_services_limit(gaps: list[float]) -> None:
    pace, now, left, at = TokenBucket(), 0.0, float(BUCKET), 0.0
    times = []
    for gap in gaps:
        now += gap
        times.append(now + pace.reserve(now))
    for time in times:
        left = min(BUCKET, left + (time - at) * REFILL) - 1
        at = time
        assert left >= 0
    assert times == sorted(times)

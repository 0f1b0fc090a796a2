"""How fast starts are sent."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from airflow_adf_mi.adf.starting.rate_limit import TokenBucket

BUCKET, REFILL = 200, 10.0
"""The service's limit, which other clients share."""


def test_burst_is_sent_at_once_and_later_starts_at_the_rate() -> None:
    bucket = TokenBucket(burst=100, per_second=8)
    waits = [bucket.reserve(0.0) for _ in range(500)]
    assert waits[:100] == [0.0] * 100
    assert waits[100] == 1 / 8
    assert waits[-1] == 400 / 8


def test_bucket_fills_again() -> None:
    bucket = TokenBucket(burst=100, per_second=8)
    for _ in range(100):
        bucket.reserve(0.0)
    assert [bucket.reserve(5.0) for _ in range(41)] == [*[0.0] * 40, 1 / 8]


def test_throttled_start_delays_all_starts_and_ends_the_burst() -> None:
    bucket = TokenBucket(burst=100, per_second=8)
    bucket.reserve(0.0)
    bucket.hold(30.0)
    assert [bucket.reserve(1.0), bucket.reserve(1.0)] == [29.0, 29.0 + 1 / 8]


@given(st.lists(st.floats(0, 5), min_size=1, max_size=600))
def test_starts_stay_within_the_services_limit(gaps: list[float]) -> None:
    bucket, now, left, at = TokenBucket(), 0.0, float(BUCKET), 0.0
    times = []
    for gap in gaps:
        now += gap
        times.append(now + bucket.reserve(now))
    for time in times:
        left = min(BUCKET, left + (time - at) * REFILL) - 1
        at = time
        assert left >= 0
    assert times == sorted(times)

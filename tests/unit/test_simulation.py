"""The simulation of `make bench`, at a smaller load: nothing is lost, and the service's limit is kept."""

from __future__ import annotations

from bench import simulation


def test_day_with_a_lagging_list_throttling_and_expired_tokens_loses_nothing() -> None:
    result, text = simulation.a_day(an_hour=100)
    assert result.runs == 2400
    assert result.lost == 0
    assert result.throttled == 0
    # The faults happened.
    assert result.outages > 20
    assert result.refused >= 3
    assert "0 lost" in text


def test_hour_on_several_triggerers_loses_nothing() -> None:
    result, _ = simulation.an_hour(a_hour=3000, triggerers=3)
    assert (result.runs, result.lost, result.throttled) == (3000, 0, 0)
    # One poll for each run and interval would be 3000 * 10.5 minutes / 60 s.
    assert result.requests < 3000 * 10.5


def test_requests_grow_more_slowly_than_waits() -> None:
    few, many = (point[2] for point in simulation.requests_against_waits((300, 3000)))
    assert many < 5 * few

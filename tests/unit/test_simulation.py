"""The simulation of `make bench`, at a smaller load: nothing is lost, and the service's limit is kept."""

from __future__ import annotations

from bench import simulation


def test_a_day_with_a_list_that_lags_throttling_and_expired_tokens() -> None:
    came, said = simulation.a_day(an_hour=100)
    assert came.runs == 2400
    assert came.lost == 0
    assert came.throttled == 0
    # The faults were there.
    assert came.outages > 20
    assert came.refused >= 3
    assert "0 lost" in said


def test_an_hour_over_several_triggerers() -> None:
    came, _ = simulation.an_hour(a_hour=3000, triggerers=3)
    assert (came.runs, came.lost, came.throttled) == (3000, 0, 0)
    # A look for each run and interval would be 3000 * 10.5 minutes / 60 s.
    assert came.requests < 3000 * 10.5


def test_requests_grow_less_than_waits() -> None:
    few, many = (point[2] for point in simulation.requests_against_waits((300, 3000)))
    assert many < 5 * few

"""When a run is late, on a virtual clock."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_adf_mi.adf import metrics
from airflow_adf_mi.adf.config.addresses import RunAddress
from airflow_adf_mi.adf.models import PipelineRun
from airflow_adf_mi.adf.timing import Timing
from airflow_adf_mi.adf.waiting.late_run import (
    FEWEST_RUNS,
    LateRun,
    LateWatch,
    active_seconds,
    given_limit,
    usual_limit,
    waits_since,
)
from airflow_adf_mi.adf.waiting.single_run import Plan, waiting
from tests.support.routines import FACTORY, FAULTS, Clock, play, run

ADDRESS = RunAddress(run_id="r1", factory=FACTORY, studio_url="https://adf.example.org/r1", pipeline_name="Load")
LIMIT = given_limit(600)


def running(started_at: str | None = None) -> PipelineRun:
    """A run that is active. The epoch second 1000 is 1970-01-01T00:16:40Z."""
    return PipelineRun.from_wire(
        {"runId": "r1", "pipelineName": "Load", "status": "InProgress", "runStart": started_at}
    )


def watch(found: list[LateRun], waits_since: float = 1000.0) -> LateWatch:
    return LateWatch(ADDRESS, LIMIT, waits_since=waits_since, check_interval=10, on_late=found.append)


@pytest.mark.parametrize(
    ("durations", "limit"),
    [
        ([100.0] * 4, None),
        ([100.0] * 5, 160),  # short runs get a minute
        ([1000.0] * 5, 1500),
        ([1000.0] * 99 + [90_000.0], 1500),  # one run that was stuck does not count
        ([100.0] * 8 + [1000.0] * 2, 1500),  # the large runs at the end of a month do
        ([0.0] * 5, 60),
    ],
)
def test_usual_limit(durations: list[float], limit: float | None) -> None:
    found = usual_limit(durations)
    assert (None if found is None else found.seconds) == limit


def test_usual_limit_names_the_runs_it_comes_from() -> None:
    found = usual_limit([*range(100, 140)])
    assert found is not None
    assert found.reason == "90% of its last 40 successful runs took at most 135 s, so the limit is 202 s"


@given(st.lists(st.floats(0, 1e7), min_size=FEWEST_RUNS, max_size=100))
def test_most_of_the_earlier_runs_were_not_late(durations: list[float]) -> None:
    limit = usual_limit(durations)
    assert limit is not None
    assert sum(duration > limit.seconds for duration in durations) <= len(durations) / 10


def test_time_counts_from_the_start_that_the_service_shows_by_its_clock() -> None:
    began = {"waits_since": 1500.0, "now": 1600.0, "service_now": 5000.0}
    assert active_seconds(running("1970-01-01T00:16:40Z"), **began) == 4000
    assert active_seconds(running(), **began) == 100
    assert active_seconds(None, **began) == 100
    assert active_seconds(running("1970-01-02T00:00:00Z"), **began) == 0, "a clock may be wrong"


def test_wait_for_an_adopted_run_counts_from_its_start() -> None:
    assert waits_since(running("1970-01-01T00:16:40Z"), now=5000.0) == 1000
    assert waits_since(running(), now=5000.0) == waits_since(None, now=5000.0) == 5000


def test_run_is_late_at_the_limit_if_it_was_just_seen_and_otherwise_an_interval_later() -> None:
    found: list[LateRun] = []
    watching = watch(found)
    for now, is_seen_now, count in ((1599.0, True, 0), (1609.0, False, 0), (1610.0, False, 1), (9000.0, True, 1)):
        watching.check(running(), now, now, is_seen_now=is_seen_now)
        assert len(found) == count
    watch(found).check(running(), 1600.0, 1600.0, is_seen_now=True)
    assert [late.seconds for late in found] == [610, 600]


def test_next_check_comes_within_an_interval_and_none_after_the_warning() -> None:
    watching = watch([])
    assert watching.seconds_left(None, 1000.0, 1000.0) == 10
    assert watching.seconds_left(None, 1603.0, 1603.0) == 7
    assert watching.seconds_left(None, 1700.0, 1700.0) == 0
    watching.check(None, 1700.0, 1700.0)
    assert watching.seconds_left(None, 1700.0, 1700.0) is None


def played(answers: Iterable[Any], found: list[LateRun], clock: Clock) -> tuple[Any, list[str]]:
    timing = Timing(clock=clock, jitter=lambda: 0.5)
    wait = waiting(FACTORY, "r1", Plan(check_interval=10), timing=timing)
    return play(watch(found).beside(wait, timing=timing), clock, iter(answers))


def test_wait_warns_once_and_sends_no_further_request() -> None:
    found: list[LateRun] = []
    outcome, asked = played([running("1970-01-01T00:16:40Z")] * 100 + [run("Succeeded")], found, Clock())
    assert outcome.run.status == "Succeeded"
    assert asked == ["get"] * 101
    assert [(late.seconds, late.at) for late in found] == [(600, 1600)]


def test_run_that_ends_in_time_is_not_late() -> None:
    found: list[LateRun] = []
    played([running("1970-01-01T00:16:40Z")] * 60 + [run("Succeeded")], found, Clock())
    assert found == []


def test_end_that_is_seen_late_is_no_warning() -> None:
    found: list[LateRun] = []
    clock = Clock()

    def hours_pass() -> Iterator[Any]:
        yield running("1970-01-01T00:16:40Z")
        clock.now += 5000
        yield run("Succeeded")

    played(hours_pass(), found, clock)
    assert found == []


def test_run_is_late_although_status_checks_fail() -> None:
    found: list[LateRun] = []
    played([running("1970-01-01T00:16:40Z"), *[FAULTS[1]] * 40, run("Succeeded")], found, Clock())
    assert len(found) == 1
    assert found[0].seconds >= 610


def test_failing_warning_does_not_end_the_wait(caplog: pytest.LogCaptureFixture) -> None:
    def fail(_late: LateRun) -> None:
        raise OSError("no route")

    watching = LateWatch(ADDRESS, LIMIT, waits_since=0.0, check_interval=10, on_late=fail)
    for _ in range(2):
        watching.check(None, 5000.0, 5000.0)
    assert caplog.text.count("A part of the warning of a late run failed. OSError: no route") == 1


def test_warning_names_run_pipeline_time_limit_and_link(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[str] = []

    class Counts:
        def count(self, name: str, tags: dict[str, str]) -> None:
            counted.append(name)

        def time(self, name: str, seconds: float, tags: dict[str, str]) -> None:
            raise AssertionError(name)

    monkeypatch.setattr(metrics, "_sinks", [Counts()])
    LateRun(address=ADDRESS, limit=LIMIT, seconds=601.2, at=0.0).announce()
    assert counted == ["adf.late_runs"]
    assert caplog.messages == [
        "Run r1 of pipeline 'Load' in factory 'adf' (resource group 'rg') has been active for 601 s, which is too long: "
        "warn_after is 600 s. The run continues. See https://adf.example.org/r1"
    ]

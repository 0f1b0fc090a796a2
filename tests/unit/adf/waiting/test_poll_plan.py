"""Waiting for many runs at once, against a factory whose list lags, forgets and fails, on a virtual clock."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_adf_mi.adf.errors import (
    AdfAuthenticationError,
    AdfError,
    AdfPermissionError,
    AdfThrottledError,
    AdfUnavailableError,
)
from airflow_adf_mi.adf.models import PipelineRun
from airflow_adf_mi.adf.retrying import LONGEST_BACKOFF_SECONDS
from airflow_adf_mi.adf.waiting.poll_plan import FEW_RUNS, PollPlan, PollRun, Sleep
from airflow_adf_mi.adf.waiting.poll_queue import FULL_POLLS_PER_SECOND, POLL_BURST, PollQueue
from airflow_adf_mi.adf.waiting.run_list import LIST_REACH_SECONDS, ListQuery
from airflow_adf_mi.adf.waiting.single_run import REFUSAL_GRACE_SECONDS, Ended, GaveUp, Outcome
from tests.support.listed_factory import Factory, seen

INTERVAL = 10.0


@dataclass
class Simulation:
    """A plan, driven until each of its waits has an outcome."""

    factory: Factory
    plan: PollPlan = field(default_factory=PollPlan)
    outcomes: dict[str, tuple[float, Outcome]] = field(default_factory=dict)
    arrivals: list[tuple[float, str, float | None]] = field(default_factory=list)
    """(time, run, not_ended_before), in order of time."""
    remaining: int | None = None
    interval: float = INTERVAL
    intervals: dict[str, float] = field(default_factory=dict)
    """Intervals of runs that do not use `interval`."""

    def run(self, until: float) -> None:
        factory, plan = self.factory, self.plan
        while factory.now < until:
            while self.arrivals and self.arrivals[0][0] <= factory.now:
                _, run_id, not_ended_before = self.arrivals.pop(0)
                interval = self.intervals.get(run_id, self.interval)
                plan.add(run_id, interval=interval, not_ended_before=not_ended_before, now=factory.now)
            assert factory.lists < 20_000, "requests without a pause"
            # As in the poller: the service's answers show its time.
            answered = factory.polls + factory.lists > 0
            action = plan.next(factory.now, factory.now + factory.ahead if answered else None, self.remaining)
            found: dict[str, Outcome] = {}
            if isinstance(action, Sleep):
                wake = factory.now + action.seconds
                factory.now = min(wake, self.arrivals[0][0]) if self.arrivals else wake
            elif isinstance(action, PollRun):
                found = plan.poll_answered(action, factory.answer_poll(action.run_id), factory.now)
            else:
                items = factory.answer_list(action)
                if isinstance(items, AdfError):
                    found = plan.list_failed(items, factory.now)
                else:
                    found = plan.list_answered(action, items, factory.now)
            for run_id, outcome in found.items():
                assert run_id not in self.outcomes, "outcome reported twice"
                self.outcomes[run_id] = factory.now, outcome
                plan.remove(run_id)
            if not len(plan) and not self.arrivals:
                return

    def lags(self) -> list[float]:
        """Seconds from the end of each run until the plan reported it."""
        return [at - self.factory.ends[run_id] for run_id, (at, _) in self.outcomes.items()]


def just_asked() -> tuple[PollPlan, ListQuery, float]:
    """A plan with more than a few waits, the list query that it has just sent, and when."""
    plan, now = PollPlan(jitter=0), 1_000_000.0
    for n in range(FEW_RUNS + 2):
        plan.add(f"r{n}", interval=INTERVAL, not_ended_before=now, now=now)
    asked = plan.next(now, now)
    assert isinstance(asked, ListQuery)
    return plan, asked, now


def wait_for(count: int, seconds: float, **factory: Any) -> Simulation:
    """Wait for `count` runs that were just started and all last for `seconds`."""
    made = Factory(**factory)
    names = [f"r{n}" for n in range(count)]
    made.ends = {name: made.now + seconds + n * 0.01 for n, name in enumerate(names)}
    simulation = Simulation(made)
    simulation.arrivals = [(made.now, name, made.now) for name in names]
    simulation.run(made.now + 100_000)
    assert set(simulation.outcomes) == set(names), "an outcome was lost"
    assert all(isinstance(outcome, Ended) for _, outcome in simulation.outcomes.values())
    return simulation


def test_a_thousand_waits_need_few_requests_while_the_list_keeps_up() -> None:
    simulation = wait_for(1000, 60)
    assert simulation.factory.polls + simulation.factory.pages <= 150
    assert max(simulation.lags()) <= 11


def test_frozen_list_delays_outcomes_within_the_bound_and_loses_none() -> None:
    simulation = wait_for(1000, 60, frozen=True)
    assert max(simulation.lags()) <= 1000 / FULL_POLLS_PER_SECOND
    assert simulation.factory.polls + simulation.factory.pages <= 2500


@pytest.mark.parametrize("lag", [5.0, 30.0, 600.0])
@pytest.mark.parametrize("ahead", [0.0, 90.0, -90.0])
def test_lagging_list_and_wrong_clock_lose_no_outcome(lag: float, ahead: float) -> None:
    simulation = wait_for(500, 60, lag=lag, ahead=ahead)
    assert max(simulation.lags()) <= (60 + lag if lag <= 30 else 60)


def many_that_end(lag: float, interval: float = INTERVAL, *, arriving: bool = False) -> Simulation:
    """12,000 runs, of which a hundred end every second. With `arriving`, a hundred also begin every second."""
    made = Factory(lag=lag)
    names = [f"r{n}" for n in range(12_000)]
    made.ends = {name: made.now + 60 + n * 0.01 for n, name in enumerate(names)}
    begins = [made.now + n * 0.01 * arriving for n in range(len(names))]
    arrivals: list[tuple[float, str, float | None]] = [(at, name, at) for at, name in zip(begins, names, strict=True)]
    simulation = Simulation(made, arrivals=arrivals, interval=interval)
    simulation.run(made.now + 10_000)
    assert len(simulation.outcomes) == 12_000
    return simulation


def test_ordered_list_is_read_with_one_page_of_overlap_at_most() -> None:
    simulation = many_that_end(lag=0.0)
    assert max(simulation.lags()) <= 11
    assert simulation.factory.pages - simulation.factory.lists <= 120 + 14, (
        "the pages of all ends, and one page of overlap for each of 14 queries"
    )


def test_new_waits_cost_two_seconds_of_list_overlap_at_most() -> None:
    simulation = many_that_end(lag=0.0, arriving=True)
    assert max(simulation.lags()) <= 11
    assert simulation.factory.pages - simulation.factory.lists <= 120 + 2 * 14


@pytest.mark.parametrize("interval", [10.0, 60.0])
@pytest.mark.parametrize("lag", [4.0, 8.0])
def test_list_that_lags_by_seconds_is_read_further_back(lag: float, interval: float) -> None:
    simulation = many_that_end(lag, interval)
    assert max(simulation.lags()) <= interval + lag + 1
    assert not simulation.plan.is_lagging
    assert simulation.factory.lists <= 2 * 190 / (0.9 * interval) + 2, "no query without need"


@pytest.mark.parametrize("count", [2, FEW_RUNS])
def test_run_with_a_long_interval_does_not_delay_others(count: int) -> None:
    made = Factory(ends={"seldom": 1_007_000.0, **{f"r{n}": 1_000_300.0 for n in range(count - 1)}})
    simulation = Simulation(
        made, arrivals=[(made.now, name, made.now) for name in made.ends], intervals={"seldom": 3600.0}
    )
    simulation.run(made.now + 20_000)
    assert all(simulation.outcomes[f"r{n}"][0] <= 1_000_300 + INTERVAL + 1 for n in range(count - 1))
    assert simulation.outcomes["seldom"][0] <= 1_007_000 + 3600


def test_run_with_a_long_interval_does_not_delay_others_while_the_list_is_frozen() -> None:
    made = Factory(frozen=True, ends={"seldom": 1_007_000.0, **{f"r{n}": 1_000_300.0 for n in range(50)}})
    simulation = Simulation(
        made, arrivals=[(made.now, name, made.now) for name in made.ends], intervals={"seldom": 3600.0}
    )
    simulation.run(made.now + 20_000)
    assert max(at for name, (at, _) in simulation.outcomes.items() if name != "seldom") <= 1_000_300 + 60


def test_new_wait_with_a_shorter_interval_brings_the_list_query_forward() -> None:
    made = Factory(ends={f"slow{n}": 1_019_000.0 for n in range(5)} | {f"r{n}": 1_004_060.0 for n in range(60)})
    simulation = Simulation(made, intervals={f"slow{n}": 3600.0 for n in range(5)})
    simulation.arrivals = [(made.now, f"slow{n}", made.now) for n in range(5)]
    simulation.arrivals += [(made.now + 4000, f"r{n}", made.now + 4000) for n in range(60)]
    simulation.run(made.now + 4200)
    assert len(simulation.outcomes) == 60
    assert max(simulation.lags()) <= INTERVAL + 1


def test_second_wait_with_a_shorter_interval_shortens_the_interval_of_its_run() -> None:
    plan = PollPlan(jitter=0)
    plan.add("r1", interval=3600, not_ended_before=1_000_000, now=1_000_000)
    plan.add("r1", interval=10, not_ended_before=1_000_100, now=1_000_100)
    assert plan.next(1_000_100, 1_000_100) == PollRun("r1", 1_000_100)


def test_end_outside_of_all_list_queries_does_not_mean_that_the_list_lags() -> None:
    old = {f"old{n}": 1_000_030.0 for n in range(200)}
    made = Factory(ends={**old, **{f"r{n}": 1_000_600.0 for n in range(500)}})
    simulation = Simulation(made, arrivals=[(made.now, f"r{n}", made.now) for n in range(500)])
    simulation.arrivals += [(made.now + 100, name, None) for name in old]
    simulation.run(made.now + 500)
    assert set(simulation.outcomes) == set(old)
    assert not simulation.plan.is_lagging
    assert made.polls <= 500 + len(old) + 20


def test_list_is_not_lagging_before_the_first_query_of_a_wait() -> None:
    plan, asked, now = just_asked()
    plan.list_answered(asked, [], now)
    plan.add("back", interval=INTERVAL, not_ended_before=now - 100, now=now + 1)
    plan.poll_answered(PollRun("back", now + 1), seen("back", "Succeeded", now - 15), now + 1)
    assert not plan.is_lagging


def test_frozen_list_that_misses_ends_from_before_the_waits_is_noticed() -> None:
    simulation = Simulation(Factory(frozen=True, ends={f"r{n}": 999_900.0 for n in range(500)}))
    simulation.arrivals = [(1_000_000.0, name, 999_800.0) for name in simulation.factory.ends]
    simulation.run(1_001_000)
    assert max(at for at, _ in simulation.outcomes.values()) <= 1_000_000 + 60


def test_end_from_before_a_wait_does_not_count_as_listed_late() -> None:
    plan, first, now = just_asked()
    plan.list_answered(first, [seen(f"other{n}", "Succeeded", now - 1) for n in range(1000)], now)
    plan.add("late", interval=INTERVAL, not_ended_before=now - 0.5, now=now + 1)
    then = now + INTERVAL
    second = plan.next(then, then)
    assert isinstance(second, ListQuery)
    plan.list_answered(second, [seen("late", "Succeeded", now - 0.3)], then)
    third = plan.next(then, then)
    assert not isinstance(third, ListQuery)


def test_no_list_query_reaches_back_for_days() -> None:
    plan, asked, now = just_asked()
    plan.list_answered(asked, [], now)
    for name in ("r0", "r1"):
        plan.remove(name)
    assert not isinstance(plan.next(now, now), ListQuery)
    now += 86_400
    plan.add("r0", interval=INTERVAL, not_ended_before=now, now=now)
    again = plan.next(now + INTERVAL, now + INTERVAL)
    assert isinstance(again, ListQuery)
    assert again.after >= now + INTERVAL - LIST_REACH_SECONDS
    plan.list_answered(again, [], now + INTERVAL)
    assert not plan.is_lagging


@pytest.mark.parametrize(
    ("error", "held"),
    [(AdfUnavailableError("500", status=500), 5), (AdfThrottledError("429", status=429, retry_after=30), 3 * 30)],
    ids=["500", "429"],
)
def test_failing_list_is_replaced_by_polls(error: AdfError, held: float) -> None:
    simulation = wait_for(1000, 60, list_fails=lambda _now: error)
    assert max(simulation.lags()) <= 1000 / FULL_POLLS_PER_SECOND + held
    assert simulation.factory.lists <= 20


def test_new_waits_do_not_bring_a_failing_list_query_forward() -> None:
    error = AdfThrottledError("429", status=429, retry_after=30)
    made = Factory(list_fails=lambda _now: error, ends={f"r{n}": 1_000_900.0 for n in range(600)})
    simulation = Simulation(made)
    simulation.arrivals = [(made.now + n, f"r{n}", made.now + n) for n in range(600)]
    simulation.run(made.now + 600)
    assert made.lists <= 6


def test_list_is_used_again_after_an_outage() -> None:
    error = AdfUnavailableError("500", status=500)
    made = Factory(list_fails=lambda now: error if now < 1_000_100 or 1_000_975 < now < 1_000_985 else None)
    made.ends = {f"r{n}": made.now + 1000 + n for n in range(100)}
    simulation = Simulation(made, arrivals=[(made.now, name, made.now) for name in made.ends])
    simulation.run(made.now + 985)
    assert not simulation.plan.is_lagging, "a single failure is not a series of failures"
    simulation.run(1_000_000 + 2000)
    assert len(simulation.outcomes) == 100
    assert max(simulation.lags()) <= INTERVAL + 5


def test_few_runs_that_ended_are_found_although_many_new_waits_begin() -> None:
    made = Factory(ends={f"r{n}": 1_000_005.0 + n for n in range(FEW_RUNS)})
    simulation = Simulation(made, interval=60.0)
    simulation.arrivals = [(made.now, name, made.now) for name in made.ends]
    simulation.arrivals += [(made.now + 30, f"late{n}", None) for n in range(3000)]
    made.ends |= {f"late{n}": 1_003_000.0 for n in range(3000)}
    simulation.run(made.now + 2000)
    assert {f"r{n}" for n in range(FEW_RUNS)} <= simulation.outcomes.keys()
    assert max(simulation.lags()) <= 60


@pytest.mark.parametrize(("slowest", "after"), [(300.0, 298.0), (0.0, -2.0)])
def test_first_list_query_begins_at_the_oldest_poll_that_showed_a_run_active(slowest: float, after: float) -> None:
    """A poll shows that its run was active when the poll was sent, however late its answer comes."""
    plan, now = PollPlan(jitter=0), 1_000_000.0
    for n in range(FEW_RUNS):
        plan.add(f"r{n}", interval=INTERVAL, not_ended_before=now - 100, now=now)
        plan.poll_answered(PollRun(f"r{n}", now + (300 if n else slowest)), seen(f"r{n}", "InProgress", now), now + 310)
    assert not isinstance(plan.next(now + 310, now + 310), ListQuery)
    plan.add("later", interval=INTERVAL, not_ended_before=now + 310, now=now + 310)
    asked = plan.next(now + 320, now + 320)
    assert isinstance(asked, ListQuery)
    assert asked.after == now + after


def test_first_list_query_reaches_back_for_minutes_only() -> None:
    plan, now = PollPlan(jitter=0), 1_000_000.0
    for n in range(FEW_RUNS):
        plan.add(f"r{n}", interval=36_000, not_ended_before=now, now=now)
    assert not isinstance(plan.next(now, now), ListQuery)
    plan.add("later", interval=INTERVAL, not_ended_before=now + 20_000, now=now + 20_000)
    asked = plan.next(now + 20_000, now + 20_000)
    assert isinstance(asked, ListQuery)
    assert asked.after == now + 20_000 - LIST_REACH_SECONDS


def test_run_with_a_moment_from_a_clock_that_is_ahead_is_polled_first() -> None:
    plan, now = PollPlan(), 1_000_000.0
    plan.add("r1", interval=3600, not_ended_before=now + 3600, now=now)
    assert plan.next(now, now) == PollRun("r1", now)


def test_refused_polls_end_all_waits_although_the_list_works() -> None:
    error = AdfPermissionError("403", status=403)

    class NoPolls(Factory):
        def answer_poll(self, run_id: str) -> PipelineRun | AdfError:
            self.polls += 1
            return error

    made = NoPolls(ends=dict.fromkeys([f"r{n}" for n in range(50)], 2e6))
    simulation = Simulation(made, arrivals=[(made.now, name, made.now) for name in made.ends])
    simulation.run(made.now + 10_000)
    assert {type(outcome) for _, outcome in simulation.outcomes.values()} == {GaveUp}
    assert 300 <= made.now - 1_000_000 <= 420


def test_all_waits_share_an_error_only_while_polls_fail_or_are_not_sent() -> None:
    plan, asked, now = just_asked()
    failed = AdfUnavailableError("500", status=500)
    waits = AdfThrottledError("429", status=429, retry_after=600)
    unknown = AdfAuthenticationError("401", refused_token=True)

    def works(asked_at: float) -> None:
        plan.poll_answered(PollRun("r1", asked_at), seen("r1", "InProgress", asked_at), asked_at)

    steps: list[tuple[Callable[[], object], AdfError | None]] = [
        (lambda: plan.list_failed(failed, now), None),
        (lambda: plan.list_failed(AdfThrottledError("429", status=429, retry_after=5), now), None),
        (lambda: plan.poll_answered(PollRun("r0", now), failed, now), failed),
        (lambda: plan.list_answered(asked, [], now), failed),
        (lambda: works(now - 1), failed),
        (lambda: works(now), None),
        (lambda: plan.list_failed(waits, now), waits),
        (lambda: works(now - 1), waits),
        (lambda: plan.list_answered(asked, [], now), None),
        (lambda: plan.list_failed(unknown, now), unknown),
        (lambda: works(now), None),
    ]
    assert [(step(), plan.error)[1] for step, _ in steps] == [error for _, error in steps]


def test_outage_of_all_requests_does_not_mean_that_the_list_lags() -> None:
    error = AdfUnavailableError("503", status=503)
    made = Factory(fails=lambda now: error if 1_000_100 <= now < 1_000_400 else None)
    made.ends = {f"r{n}": made.now + 10_000.0 for n in range(100)}
    simulation = Simulation(made, arrivals=[(made.now, name, made.now) for name in made.ends])
    simulation.run(made.now + 600)
    assert not simulation.plan.is_lagging
    assert made.polls <= 320, "at most one poll a second"


def test_end_while_few_runs_were_polled_does_not_mean_that_the_list_lags() -> None:
    made = Factory(ends={"early": 1_000_050.0, **{f"r{n}": 1_019_000.0 for n in range(FEW_RUNS)}})
    simulation = Simulation(made, interval=3600.0)
    simulation.arrivals = [(made.now, "early", made.now), *((made.now, f"r{n}", made.now) for n in range(FEW_RUNS - 1))]
    simulation.arrivals.append((made.now + 1000, f"r{FEW_RUNS - 1}", made.now + 1000))
    simulation.intervals = {f"r{FEW_RUNS - 1}": INTERVAL}
    simulation.run(made.now + 5000)
    assert "early" in simulation.outcomes
    assert made.lists > 100
    assert not simulation.plan.is_lagging


def test_list_queries_at_a_long_interval_leave_no_gap() -> None:
    made = Factory()
    made.ends = {f"r{n}": made.now + 60 + n * 10 for n in range(700)}
    simulation = Simulation(made, arrivals=[(made.now, name, made.now) for name in made.ends], interval=3600.0)
    simulation.run(made.now + 20_000)
    assert len(simulation.outcomes) == 700
    assert not simulation.plan.is_lagging
    assert max(simulation.lags()) <= 3600


@pytest.mark.parametrize("ahead", [3600.0, -3600.0])
@pytest.mark.parametrize("frozen", [True, False])
def test_clock_that_is_an_hour_off_hides_no_outcome(ahead: float, frozen: bool) -> None:
    simulation = wait_for(500, 60, ahead=ahead, frozen=frozen)
    assert max(simulation.lags()) <= (60 if frozen else INTERVAL + 1)


def test_unknown_run_among_many_is_reported_within_minutes() -> None:
    made = Factory(ends={f"r{n}": 1_009_000.0 for n in range(1000)})
    simulation = Simulation(made, arrivals=[(made.now, name, made.now) for name in made.ends])
    simulation.arrivals.append((made.now + 30, "nowhere", made.now + 30))
    simulation.run(made.now + 2000)
    at, outcome = simulation.outcomes["nowhere"]
    assert isinstance(outcome, GaveUp)
    # Its first poll, as a canary, may come after 1,000 s. Then the refusal must last for some minutes.
    assert at - 1_000_000 <= 30 + 1000 + 420


def test_many_unknown_runs_do_not_delay_polls_of_others() -> None:
    made = Factory(frozen=True, ends={f"r{n}": 1_000_060.0 for n in range(100)})
    simulation = Simulation(made, arrivals=[(made.now, name, made.now) for name in made.ends])
    simulation.arrivals = [(made.now, f"nowhere{n}", None) for n in range(300)] + simulation.arrivals
    simulation.run(made.now + 5000)
    assert max(at for name, (at, _) in simulation.outcomes.items() if name.startswith("r")) <= 1_000_060 + 120


def test_new_waits_do_not_undo_a_slowdown() -> None:
    made = Factory(ends={f"r{n}": 1e9 for n in range(600)})
    simulation = Simulation(made, remaining=10)
    simulation.arrivals = [(made.now + n, f"r{n}", made.now + n) for n in range(600)]
    simulation.run(made.now + 600)
    assert made.lists <= 600 / (4 * INTERVAL * 0.9) + 2


def test_lost_list_query_is_sent_again() -> None:
    plan, _, now = just_asked()
    plan.list_query_lost(now)
    assert isinstance(plan.next(now + INTERVAL, now + INTERVAL), ListQuery)


def test_only_one_list_query_is_in_flight() -> None:
    plan, _, now = just_asked()
    for _ in range(30):
        now += INTERVAL
        action = plan.next(now, now)
        assert not isinstance(action, ListQuery)
        assert not isinstance(action, Sleep) or action.seconds >= 0.1
    plan.list_failed(AdfUnavailableError("503", status=503), now)
    assert isinstance(plan.next(now + 70, now + 70), ListQuery)


def test_removed_runs_do_not_accumulate_in_the_queue() -> None:
    queue = PollQueue(jitter=0)
    queue.put("long", 0.0, 10.0)
    for n in range(10_000):
        queue.put(f"r{n}", 20.0 + n, 10.0)
        queue.remove(f"r{n}")
    assert queue.first(20.0) == "long"
    assert len(queue) <= 2 + POLL_BURST


def test_next_list_query_covers_a_wait_that_began_during_a_query() -> None:
    plan, asked, now = just_asked()
    plan.add("late", interval=INTERVAL, not_ended_before=now - 300, now=now)
    plan.list_answered(asked, [], now)
    action: Any = None
    while not isinstance(action, ListQuery):
        now += 1
        action = plan.next(now, now)
    assert action.after <= 1_000_000 - 300


def test_run_that_the_list_hides_is_found_by_polls() -> None:
    simulation = wait_for(200, 60, hidden={"r7"})
    assert simulation.outcomes["r7"][0] - simulation.factory.ends["r7"] <= 200 + INTERVAL


def test_few_runs_are_polled_one_by_one_at_their_interval() -> None:
    simulation = wait_for(FEW_RUNS, 60)
    assert simulation.factory.lists == 0
    assert simulation.factory.polls <= FEW_RUNS * 8


def test_run_of_which_nothing_is_known_is_polled_first() -> None:
    factory = Factory(ends={f"r{n}": 999_000.0 for n in range(100)})
    simulation = Simulation(factory, arrivals=[(factory.now, name, None) for name in factory.ends])
    simulation.run(factory.now + 1000)
    assert len(simulation.outcomes) == 100
    assert factory.now <= 1_000_000 + 100 / FULL_POLLS_PER_SECOND + INTERVAL


def test_ends_during_a_long_absence_are_found_by_polls() -> None:
    factory = Factory(ends={f"r{n}": 999_000.0 for n in range(100)})
    simulation = Simulation(factory, arrivals=[(factory.now, name, 990_000.0) for name in factory.ends])
    simulation.run(factory.now + 1000)
    assert len(simulation.outcomes) == 100


def test_ends_during_a_short_absence_are_found_in_the_list() -> None:
    factory = Factory(ends={f"r{n}": 999_800.0 for n in range(100)})
    simulation = Simulation(factory, arrivals=[(factory.now, name, 999_500.0) for name in factory.ends])
    simulation.run(factory.now + 1000)
    assert len(simulation.outcomes) == 100
    assert factory.polls <= 2 * INTERVAL


@pytest.mark.parametrize(
    "error",
    [
        AdfThrottledError("429", status=429, retry_after=30),
        AdfUnavailableError("503", status=503),
        AdfAuthenticationError("no endpoint", transient=True),
        AdfAuthenticationError("401", refused_token=True),
    ],
    ids=str,
)
def test_outage_of_two_minutes_gets_few_requests_and_loses_no_outcome(error: AdfError) -> None:
    begin = 1_000_030.0
    simulation = wait_for(500, 60, fails=lambda now: error if begin <= now < begin + 120 else None)
    during = [moment for moment in simulation.factory.log if begin <= moment < begin + 120]
    assert len(during) <= 15, "one request at a time, with growing pauses"
    assert max(simulation.lags()) <= 120 + 60


def test_no_request_is_sent_before_retry_after_has_passed() -> None:
    error = AdfThrottledError("429", status=429, retry_after=30)
    simulation = wait_for(50, 60, fails=lambda now: error if now < 1_000_050 else None)
    pauses = [b - a for a, b in zip(simulation.factory.log, simulation.factory.log[1:], strict=False) if b <= 1_000_050]
    assert all(pause >= 30 for pause in pauses)


def test_refused_list_is_replaced_by_polls() -> None:
    class NoList(Factory):
        def answer_list(self, query: ListQuery) -> list[PipelineRun] | AdfError:
            self.lists += 1
            return AdfPermissionError("403", status=403)

    factory = NoList(ends={f"r{n}": 1_000_060.0 for n in range(200)})
    simulation = Simulation(factory, arrivals=[(factory.now, name, factory.now) for name in factory.ends])
    simulation.run(factory.now + 10_000)
    assert len(simulation.outcomes) == 200
    assert max(simulation.lags()) <= 60
    assert factory.lists <= 2


def test_lasting_refusal_ends_all_waits() -> None:
    error = AdfAuthenticationError("401", refused_token=True)
    made = Factory(fails=lambda _now: error, ends=dict.fromkeys([f"r{n}" for n in range(50)], 2e6))
    simulation = Simulation(made, arrivals=[(made.now, name, made.now) for name in made.ends])
    simulation.run(made.now + 10_000)
    assert {type(outcome) for _, outcome in simulation.outcomes.values()} == {GaveUp}
    assert 300 <= made.now - 1_000_000 <= 400


def test_refusal_lasts_only_after_more_than_two_refused_polls() -> None:
    """This holds for any interval: two refused polls may be two short outages."""
    error = AdfAuthenticationError("401", refused_token=True)
    made = Factory(fails=lambda _now: error, ends={"r1": 2e6})
    plan = PollPlan()
    plan.add("r1", interval=600, not_ended_before=None, now=made.now)
    simulation = Simulation(made, plan=plan)
    simulation.run(made.now + 10_000)
    assert made.polls >= 5
    assert made.now - 1_000_000 <= 420


def test_two_refusals_before_and_after_a_process_was_stopped_end_no_wait() -> None:
    error = AdfAuthenticationError("401", refused_token=True)
    plan = PollPlan()
    plan.add("r1", interval=5, not_ended_before=None, now=1_000_000)
    assert plan.poll_answered(PollRun("r1", 1_000_001), error, 1_000_001) == {}
    assert plan.poll_answered(PollRun("r1", 1_000_601), error, 1_000_601) == {}
    for _ in range(2):
        assert plan.poll_answered(PollRun("r1", 1_000_610), error, 1_000_610) == {}
    assert set(plan.poll_answered(PollRun("r1", 1_000_611), error, 1_000_611)) == {"r1"}


def test_shortest_interval_of_a_runs_waits_is_used() -> None:
    plan = PollPlan()
    for interval in (3600.0, 5.0):
        plan.add("r1", interval=interval, not_ended_before=1_000_000, now=1_000_000)
    action = plan.next(1_000_000, 1_000_000)
    assert isinstance(action, Sleep)
    assert action.seconds <= 6


def test_unknown_run_ends_its_own_wait_only() -> None:
    made = Factory(ends={f"r{n}": 1_000_700.0 for n in range(50)})
    arrivals = [(made.now, name, made.now) for name in made.ends]
    simulation = Simulation(made, arrivals=[(made.now, "nowhere", None), *arrivals])
    simulation.run(made.now + 10_000)
    assert isinstance(simulation.outcomes["nowhere"][1], GaveUp)
    assert simulation.outcomes["nowhere"][0] - 1_000_000 <= 420
    assert {type(o) for name, (_, o) in simulation.outcomes.items() if name != "nowhere"} == {Ended}


def test_few_remaining_reads_slow_polls_down() -> None:
    def polls(remaining: int | None) -> int:
        made = Factory(frozen=True, ends={f"r{n}": 1e9 for n in range(500)})
        simulation = Simulation(made, arrivals=[(made.now, name, None) for name in made.ends], remaining=remaining)
        simulation.run(made.now + 30)
        return made.polls

    assert polls(10) < polls(None) / 2


@given(
    count=st.integers(1, 60),
    lag=st.sampled_from([0.0, 15.0, 120.0]),
    ahead=st.sampled_from([0.0, 90.0, -90.0]),
    frozen=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=150)
def test_each_wait_gets_exactly_one_outcome_and_never_early(
    count: int, lag: float, ahead: float, frozen: bool, seed: int
) -> None:
    """For any lag, clocks, faults, other people's runs, and moments at which waits begin."""
    dice = random.Random(seed)
    errors = [AdfUnavailableError("503"), AdfThrottledError("429", status=429, retry_after=5), AdfUnavailableError("x")]
    outages = sorted((dice.uniform(0, 400), dice.uniform(1, 100), dice.choice(errors)) for _ in range(3))

    def fails(now: float) -> AdfError | None:
        at = now - 1_000_000
        return next((error for begin, length, error in outages if begin <= at < begin + length), None)

    made = Factory(lag=lag, ahead=ahead, frozen=frozen, fails=fails)
    made.foreign = [made.now + dice.uniform(0, 500) for _ in range(200)]
    names = [f"r{n}" for n in range(count)]
    begins = {name: made.now + dice.uniform(0, 200) for name in names}
    made.ends = {name: begins[name] + dice.uniform(0, 200) for name in names}
    made.hidden = {name for name in names if dice.random() < 0.1}
    simulation = Simulation(made)
    simulation.arrivals = sorted(
        (max(begins[name], made.ends[name] + 50) if dice.random() < 0.2 else begins[name], name, None)
        if dice.random() < 0.3
        else (begins[name], name, begins[name])
        for name in names
    )
    simulation.run(made.now + 50_000)
    assert set(simulation.outcomes) == set(names)
    for name, (at, outcome) in simulation.outcomes.items():
        assert isinstance(outcome, Ended)
        assert at >= made.ends[name], "an end was reported before it happened"


def test_lasting_unreadable_answers_about_one_run_end_its_wait_only() -> None:
    """It ends after the same grace period as a refusal, although other polls work. Other waits are not delayed."""
    unreadable = AdfUnavailableError("could not be read", status=200, unreadable=True)
    plan, now = PollPlan(jitter=0.5), 1_000_000.0
    ended: dict[str, Outcome] = {}
    for name in ("odd", "good"):
        plan.add(name, interval=INTERVAL, not_ended_before=now, now=now)
    while "odd" not in ended and now < 1_010_000:
        action = plan.next(now, now)
        if isinstance(action, Sleep):
            now += action.seconds
            continue
        assert isinstance(action, PollRun)
        answer = unreadable if action.run_id == "odd" else seen("good", "InProgress", now)
        ended |= plan.poll_answered(action, answer, now)
        assert plan.error is None, "the error concerns that run only"
    assert list(ended) == ["odd"]
    assert isinstance(ended["odd"], GaveUp)
    assert REFUSAL_GRACE_SECONDS <= now - 1_000_000 <= REFUSAL_GRACE_SECONDS + 2 * LONGEST_BACKOFF_SECONDS
    assert plan.state_of("good").error is None


def test_service_whose_answers_stay_unreadable_ends_all_waits() -> None:
    """For example, a proxy may answer in its place."""
    unreadable = AdfUnavailableError("could not be read", status=200, unreadable=True)
    simulation = Simulation(Factory(fails=lambda _now: unreadable))
    simulation.arrivals = [(simulation.factory.now, f"r{n}", None) for n in range(200)]
    began = simulation.factory.now
    simulation.run(began + 10_000)
    assert {type(outcome) for _, outcome in simulation.outcomes.values()} == {GaveUp}
    assert len(simulation.outcomes) == 200
    assert (
        max(at for at, _ in simulation.outcomes.values()) <= began + REFUSAL_GRACE_SECONDS + 3 * LONGEST_BACKOFF_SECONDS
    )
    assert simulation.factory.polls <= 12 * 500, "within the budget of polls"

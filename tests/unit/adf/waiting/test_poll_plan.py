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
    """Rounds that are driven until all that is waited for has come to something."""

    factory: Factory
    rounds: PollPlan = field(default_factory=PollPlan)
    outcomes: dict[str, tuple[float, Outcome]] = field(default_factory=dict)
    arrivals: list[tuple[float, str, float | None]] = field(default_factory=list)
    """(time, run, since), in order of time."""
    remaining: int | None = None
    interval: float = INTERVAL
    intervals: dict[str, float] = field(default_factory=dict)
    """Of runs whose interval is another."""

    def run(self, until: float) -> None:
        factory, rounds = self.factory, self.rounds
        while factory.now < until:
            while self.arrivals and self.arrivals[0][0] <= factory.now:
                _, run_id, since = self.arrivals.pop(0)
                interval = self.intervals.get(run_id, self.interval)
                rounds.add(run_id, interval=interval, not_ended_before=since, now=factory.now)
            assert factory.lists < 20_000, "it asks without rest"
            # As the poller does: by its answers, the service tells its time.
            answered = factory.looks + factory.lists > 0
            ask = rounds.next(factory.now, factory.now + factory.ahead if answered else None, self.remaining)
            told: dict[str, Outcome] = {}
            if isinstance(ask, Sleep):
                wake = factory.now + ask.seconds
                factory.now = min(wake, self.arrivals[0][0]) if self.arrivals else wake
            elif isinstance(ask, PollRun):
                told = rounds.poll_answered(ask, factory.answer_look(ask.run_id), factory.now)
            else:
                items = factory.answer_list(ask)
                if isinstance(items, AdfError):
                    told = rounds.list_failed(items, factory.now)
                else:
                    told = rounds.list_answered(ask, items, factory.now)
            for run_id, outcome in told.items():
                assert run_id not in self.outcomes, "told twice"
                self.outcomes[run_id] = factory.now, outcome
                rounds.remove(run_id)
            if not len(rounds) and not self.arrivals:
                return

    def lags(self) -> list[float]:
        """Seconds from each run's end until it was known."""
        return [at - self.factory.ends[run_id] for run_id, (at, _) in self.outcomes.items()]


def just_asked() -> tuple[PollPlan, ListQuery, float]:
    """Rounds in which more than a few wait, what they have just asked the list, and when."""
    rounds, now = PollPlan(jitter=0), 1_000_000.0
    for n in range(FEW_RUNS + 2):
        rounds.add(f"r{n}", interval=INTERVAL, not_ended_before=now, now=now)
    asked = rounds.next(now, now)
    assert isinstance(asked, ListQuery)
    return rounds, asked, now


def wait_for(count: int, seconds: float, **factory: Any) -> Simulation:
    """So many runs that were just started, all of the same length."""
    made = Factory(**factory)
    names = [f"r{n}" for n in range(count)]
    made.ends = {name: made.now + seconds + n * 0.01 for n, name in enumerate(names)}
    simulation = Simulation(made)
    simulation.arrivals = [(made.now, name, made.now) for name in names]
    simulation.run(made.now + 100_000)
    assert set(simulation.outcomes) == set(names), "an outcome was lost"
    assert all(isinstance(outcome, Ended) for _, outcome in simulation.outcomes.values())
    return simulation


def test_a_thousand_waits_cost_little_while_the_list_keeps_up() -> None:
    simulation = wait_for(1000, 60)
    assert simulation.factory.looks + simulation.factory.pages <= 150
    assert max(simulation.lags()) <= 11


def test_frozen_list_costs_delay_within_the_bound_and_no_outcome() -> None:
    simulation = wait_for(1000, 60, frozen=True)
    assert max(simulation.lags()) <= 1000 / FULL_POLLS_PER_SECOND
    assert simulation.factory.looks + simulation.factory.pages <= 2500


@pytest.mark.parametrize("lag", [5.0, 30.0, 600.0])
@pytest.mark.parametrize("ahead", [0.0, 90.0, -90.0])
def test_lagging_list_and_wrong_clock_lose_nothing(lag: float, ahead: float) -> None:
    simulation = wait_for(500, 60, lag=lag, ahead=ahead)
    assert max(simulation.lags()) <= (60 + lag if lag <= 30 else 60)


def many_that_end(lag: float, interval: float = INTERVAL, *, arriving: bool = False) -> Simulation:
    """12,000 runs of which a hundred end every second; with `arriving`, they also begin so."""
    made = Factory(lag=lag)
    names = [f"r{n}" for n in range(12_000)]
    made.ends = {name: made.now + 60 + n * 0.01 for n, name in enumerate(names)}
    begins = [made.now + n * 0.01 * arriving for n in range(len(names))]
    arrivals: list[tuple[float, str, float | None]] = [(at, name, at) for at, name in zip(begins, names, strict=True)]
    simulation = Simulation(made, arrivals=arrivals, interval=interval)
    simulation.run(made.now + 10_000)
    assert len(simulation.outcomes) == 12_000
    return simulation


def test_list_that_keeps_its_order_costs_a_page_of_overlap_at_most() -> None:
    simulation = many_that_end(lag=0.0)
    assert max(simulation.lags()) <= 11
    assert simulation.factory.pages - simulation.factory.lists <= 120 + 14, (
        "the ends, and a page for each of 14 queries"
    )


def test_waiters_that_keep_coming_cost_no_more_than_two_seconds_of_overlap() -> None:
    simulation = many_that_end(lag=0.0, arriving=True)
    assert max(simulation.lags()) <= 11
    assert simulation.factory.pages - simulation.factory.lists <= 120 + 2 * 14


@pytest.mark.parametrize("interval", [10.0, 60.0])
@pytest.mark.parametrize("lag", [4.0, 8.0])
def test_list_that_is_seconds_late_while_much_ends_is_read_further_back(lag: float, interval: float) -> None:
    simulation = many_that_end(lag, interval)
    assert max(simulation.lags()) <= interval + lag + 1
    assert not simulation.rounds.is_lagging
    assert simulation.factory.lists <= 2 * 190 / (0.9 * interval) + 2, "no query in vain"


@pytest.mark.parametrize("count", [2, FEW_RUNS])
def test_run_that_is_looked_at_seldom_keeps_no_other_waiting(count: int) -> None:
    made = Factory(ends={"seldom": 1_007_000.0, **{f"r{n}": 1_000_300.0 for n in range(count - 1)}})
    simulation = Simulation(
        made, arrivals=[(made.now, name, made.now) for name in made.ends], intervals={"seldom": 3600.0}
    )
    simulation.run(made.now + 20_000)
    assert all(simulation.outcomes[f"r{n}"][0] <= 1_000_300 + INTERVAL + 1 for n in range(count - 1))
    assert simulation.outcomes["seldom"][0] <= 1_007_000 + 3600


def test_nor_does_it_where_the_list_shows_nothing() -> None:
    made = Factory(frozen=True, ends={"seldom": 1_007_000.0, **{f"r{n}": 1_000_300.0 for n in range(50)}})
    simulation = Simulation(
        made, arrivals=[(made.now, name, made.now) for name in made.ends], intervals={"seldom": 3600.0}
    )
    simulation.run(made.now + 20_000)
    assert max(at for name, (at, _) in simulation.outcomes.items() if name != "seldom") <= 1_000_300 + 60


def test_list_is_asked_sooner_for_a_waiter_with_a_shorter_interval() -> None:
    made = Factory(ends={f"slow{n}": 1_019_000.0 for n in range(5)} | {f"r{n}": 1_004_060.0 for n in range(60)})
    simulation = Simulation(made, intervals={f"slow{n}": 3600.0 for n in range(5)})
    simulation.arrivals = [(made.now, f"slow{n}", made.now) for n in range(5)]
    simulation.arrivals += [(made.now + 4000, f"r{n}", made.now + 4000) for n in range(60)]
    simulation.run(made.now + 4200)
    assert len(simulation.outcomes) == 60
    assert max(simulation.lags()) <= INTERVAL + 1


def test_run_waited_for_at_a_shorter_interval_is_looked_at_so() -> None:
    rounds = PollPlan(jitter=0)
    rounds.add("r1", interval=3600, not_ended_before=1_000_000, now=1_000_000)
    rounds.add("r1", interval=10, not_ended_before=1_000_100, now=1_000_100)
    assert rounds.next(1_000_100, 1_000_100) == PollRun("r1", 1_000_100)


def test_list_is_not_accused_of_what_it_was_never_asked_for() -> None:
    old = {f"old{n}": 1_000_030.0 for n in range(200)}
    made = Factory(ends={**old, **{f"r{n}": 1_000_600.0 for n in range(500)}})
    simulation = Simulation(made, arrivals=[(made.now, f"r{n}", made.now) for n in range(500)])
    simulation.arrivals += [(made.now + 100, name, None) for name in old]
    simulation.run(made.now + 500)
    assert set(simulation.outcomes) == set(old)
    assert not simulation.rounds.is_lagging
    assert made.looks <= 500 + len(old) + 20


def test_list_is_not_accused_before_it_was_asked() -> None:
    rounds, asked, now = just_asked()
    rounds.list_answered(asked, [], now)
    rounds.add("back", interval=INTERVAL, not_ended_before=now - 100, now=now + 1)
    rounds.poll_answered(PollRun("back", now + 1), seen("back", "Succeeded", now - 15), now + 1)
    assert not rounds.is_lagging


def test_list_that_misses_an_end_of_before_a_wait_is_caught_by_it() -> None:
    simulation = Simulation(Factory(frozen=True, ends={f"r{n}": 999_900.0 for n in range(500)}))
    simulation.arrivals = [(1_000_000.0, name, 999_800.0) for name in simulation.factory.ends]
    simulation.run(1_001_000)
    assert max(at for at, _ in simulation.outcomes.values()) <= 1_000_000 + 60


def test_order_of_the_list_is_not_doubted_for_a_run_that_ended_before_its_wait() -> None:
    rounds, first, now = just_asked()
    rounds.list_answered(first, [seen(f"other{n}", "Succeeded", now - 1) for n in range(1000)], now)
    rounds.add("late", interval=INTERVAL, not_ended_before=now - 0.5, now=now + 1)
    then = now + INTERVAL
    second = rounds.next(then, then)
    assert isinstance(second, ListQuery)
    rounds.list_answered(second, [seen("late", "Succeeded", now - 0.3)], then)
    third = rounds.next(then, then)
    assert not isinstance(third, ListQuery)


def test_no_query_reaches_back_for_days() -> None:
    rounds, asked, now = just_asked()
    rounds.list_answered(asked, [], now)
    for name in ("r0", "r1"):
        rounds.remove(name)
    assert not isinstance(rounds.next(now, now), ListQuery)
    now += 86_400
    rounds.add("r0", interval=INTERVAL, not_ended_before=now, now=now)
    again = rounds.next(now + INTERVAL, now + INTERVAL)
    assert isinstance(again, ListQuery)
    assert again.after >= now + INTERVAL - LIST_REACH_SECONDS
    rounds.list_answered(again, [], now + INTERVAL)
    assert not rounds.is_lagging


@pytest.mark.parametrize(
    ("error", "held"),
    [(AdfUnavailableError("500", status=500), 5), (AdfThrottledError("429", status=429, retry_after=30), 3 * 30)],
    ids=["500", "429"],
)
def test_list_that_fails_alone_is_done_without(error: AdfError, held: float) -> None:
    simulation = wait_for(1000, 60, list_fails=lambda _now: error)
    assert max(simulation.lags()) <= 1000 / FULL_POLLS_PER_SECOND + held
    assert simulation.factory.lists <= 20


def test_new_waiters_do_not_bring_a_list_forward_that_fails_alone() -> None:
    error = AdfThrottledError("429", status=429, retry_after=30)
    made = Factory(list_fails=lambda _now: error, ends={f"r{n}": 1_000_900.0 for n in range(600)})
    simulation = Simulation(made)
    simulation.arrivals = [(made.now + n, f"r{n}", made.now + n) for n in range(600)]
    simulation.run(made.now + 600)
    assert made.lists <= 6


def test_list_that_fails_for_a_while_is_taken_up_again() -> None:
    error = AdfUnavailableError("500", status=500)
    made = Factory(list_fails=lambda now: error if now < 1_000_100 or 1_000_975 < now < 1_000_985 else None)
    made.ends = {f"r{n}": made.now + 1000 + n for n in range(100)}
    simulation = Simulation(made, arrivals=[(made.now, name, made.now) for name in made.ends])
    simulation.run(made.now + 985)
    assert not simulation.rounds.is_lagging, "one failure more is none of a row"
    simulation.run(1_000_000 + 2000)
    assert len(simulation.outcomes) == 100
    assert max(simulation.lags()) <= INTERVAL + 5


def test_what_ended_while_few_were_looked_at_is_asked_for_before_many_unknown_ones_are_looked_at() -> None:
    made = Factory(ends={f"r{n}": 1_000_005.0 + n for n in range(FEW_RUNS)})
    simulation = Simulation(made, interval=60.0)
    simulation.arrivals = [(made.now, name, made.now) for name in made.ends]
    simulation.arrivals += [(made.now + 30, f"late{n}", None) for n in range(3000)]
    made.ends |= {f"late{n}": 1_003_000.0 for n in range(3000)}
    simulation.run(made.now + 2000)
    assert {f"r{n}" for n in range(FEW_RUNS)} <= simulation.outcomes.keys()
    assert max(simulation.lags()) <= 60


@pytest.mark.parametrize(("slowest", "after"), [(300.0, 298.0), (0.0, -2.0)])
def test_list_is_first_asked_for_what_no_look_has_shown(slowest: float, after: float) -> None:
    """A look shows its run going on at the time it was made, however long its answer takes."""
    rounds, now = PollPlan(jitter=0), 1_000_000.0
    for n in range(FEW_RUNS):
        rounds.add(f"r{n}", interval=INTERVAL, not_ended_before=now - 100, now=now)
        rounds.poll_answered(
            PollRun(f"r{n}", now + (300 if n else slowest)), seen(f"r{n}", "InProgress", now), now + 310
        )
    assert not isinstance(rounds.next(now + 310, now + 310), ListQuery)
    rounds.add("later", interval=INTERVAL, not_ended_before=now + 310, now=now + 310)
    asked = rounds.next(now + 320, now + 320)
    assert isinstance(asked, ListQuery)
    assert asked.after == now + after


def test_first_query_of_the_list_reaches_back_for_minutes_only() -> None:
    rounds, now = PollPlan(jitter=0), 1_000_000.0
    for n in range(FEW_RUNS):
        rounds.add(f"r{n}", interval=36_000, not_ended_before=now, now=now)
    assert not isinstance(rounds.next(now, now), ListQuery)
    rounds.add("later", interval=INTERVAL, not_ended_before=now + 20_000, now=now + 20_000)
    asked = rounds.next(now + 20_000, now + 20_000)
    assert isinstance(asked, ListQuery)
    assert asked.after == now + 20_000 - LIST_REACH_SECONDS


def test_run_known_by_a_clock_that_is_ahead_is_looked_at_first() -> None:
    rounds, now = PollPlan(), 1_000_000.0
    rounds.add("r1", interval=3600, not_ended_before=now + 3600, now=now)
    assert rounds.next(now, now) == PollRun("r1", now)


def test_refused_looks_end_all_waits_though_the_list_works() -> None:
    error = AdfPermissionError("403", status=403)

    class NoLooks(Factory):
        def answer_look(self, run_id: str) -> PipelineRun | AdfError:
            self.looks += 1
            return error

    made = NoLooks(ends=dict.fromkeys([f"r{n}" for n in range(50)], 2e6))
    simulation = Simulation(made, arrivals=[(made.now, name, made.now) for name in made.ends])
    simulation.run(made.now + 10_000)
    assert {type(outcome) for _, outcome in simulation.outcomes.values()} == {GaveUp}
    assert 300 <= made.now - 1_000_000 <= 420


def test_only_what_keeps_looks_from_being_made_or_working_is_told_to_all() -> None:
    rounds, asked, now = just_asked()
    failed = AdfUnavailableError("500", status=500)
    waits = AdfThrottledError("429", status=429, retry_after=600)
    unknown = AdfAuthenticationError("401", refused_token=True)

    def works(asked_at: float) -> None:
        rounds.poll_answered(PollRun("r1", asked_at), seen("r1", "InProgress", asked_at), asked_at)

    steps: list[tuple[Callable[[], object], AdfError | None]] = [
        (lambda: rounds.list_failed(failed, now), None),
        (lambda: rounds.list_failed(AdfThrottledError("429", status=429, retry_after=5), now), None),
        (lambda: rounds.poll_answered(PollRun("r0", now), failed, now), failed),
        (lambda: rounds.list_answered(asked, [], now), failed),
        (lambda: works(now - 1), failed),
        (lambda: works(now), None),
        (lambda: rounds.list_failed(waits, now), waits),
        (lambda: works(now - 1), waits),
        (lambda: rounds.list_answered(asked, [], now), None),
        (lambda: rounds.list_failed(unknown, now), unknown),
        (lambda: works(now), None),
    ]
    assert [(step(), rounds.error)[1] for step, _ in steps] == [error for _, error in steps]


def test_outage_of_all_is_not_held_against_the_list() -> None:
    error = AdfUnavailableError("503", status=503)
    made = Factory(fails=lambda now: error if 1_000_100 <= now < 1_000_400 else None)
    made.ends = {f"r{n}": made.now + 10_000.0 for n in range(100)}
    simulation = Simulation(made, arrivals=[(made.now, name, made.now) for name in made.ends])
    simulation.run(made.now + 600)
    assert not simulation.rounds.is_lagging
    assert made.looks <= 320, "no more than one a second"


def test_list_is_not_accused_of_what_ended_while_few_were_looked_at() -> None:
    made = Factory(ends={"early": 1_000_050.0, **{f"r{n}": 1_019_000.0 for n in range(FEW_RUNS)}})
    simulation = Simulation(made, interval=3600.0)
    simulation.arrivals = [(made.now, "early", made.now), *((made.now, f"r{n}", made.now) for n in range(FEW_RUNS - 1))]
    simulation.arrivals.append((made.now + 1000, f"r{FEW_RUNS - 1}", made.now + 1000))
    simulation.intervals = {f"r{FEW_RUNS - 1}": INTERVAL}
    simulation.run(made.now + 5000)
    assert "early" in simulation.outcomes
    assert made.lists > 100
    assert not simulation.rounds.is_lagging


def test_long_interval_leaves_no_gap_in_what_the_list_is_asked_for() -> None:
    made = Factory()
    made.ends = {f"r{n}": made.now + 60 + n * 10 for n in range(700)}
    simulation = Simulation(made, arrivals=[(made.now, name, made.now) for name in made.ends], interval=3600.0)
    simulation.run(made.now + 20_000)
    assert len(simulation.outcomes) == 700
    assert not simulation.rounds.is_lagging
    assert max(simulation.lags()) <= 3600


@pytest.mark.parametrize("ahead", [3600.0, -3600.0])
@pytest.mark.parametrize("frozen", [True, False])
def test_clock_that_is_an_hour_off_hides_nothing(ahead: float, frozen: bool) -> None:
    simulation = wait_for(500, 60, ahead=ahead, frozen=frozen)
    assert max(simulation.lags()) <= (60 if frozen else INTERVAL + 1)


def test_run_that_is_not_there_is_told_of_within_minutes_among_many() -> None:
    made = Factory(ends={f"r{n}": 1_009_000.0 for n in range(1000)})
    simulation = Simulation(made, arrivals=[(made.now, name, made.now) for name in made.ends])
    simulation.arrivals.append((made.now + 30, "nowhere", made.now + 30))
    simulation.run(made.now + 2000)
    at, outcome = simulation.outcomes["nowhere"]
    assert isinstance(outcome, GaveUp)
    # Among the canaries its first turn may take 1,000 s to come; from then on it takes the minutes that a refusal must last.
    assert at - 1_000_000 <= 30 + 1000 + 420


def test_many_that_are_not_there_keep_no_other_from_being_looked_at() -> None:
    made = Factory(frozen=True, ends={f"r{n}": 1_000_060.0 for n in range(100)})
    simulation = Simulation(made, arrivals=[(made.now, name, made.now) for name in made.ends])
    simulation.arrivals = [(made.now, f"nowhere{n}", None) for n in range(300)] + simulation.arrivals
    simulation.run(made.now + 5000)
    assert max(at for name, (at, _) in simulation.outcomes.items() if name.startswith("r")) <= 1_000_060 + 120


def test_new_waiters_do_not_undo_a_slowing_down() -> None:
    made = Factory(ends={f"r{n}": 1e9 for n in range(600)})
    simulation = Simulation(made, remaining=10)
    simulation.arrivals = [(made.now + n, f"r{n}", made.now + n) for n in range(600)]
    simulation.run(made.now + 600)
    assert made.lists <= 600 / (4 * INTERVAL * 0.9) + 2


def test_list_query_that_is_lost_is_asked_again() -> None:
    rounds, _, now = just_asked()
    rounds.list_query_lost(now)
    assert isinstance(rounds.next(now + INTERVAL, now + INTERVAL), ListQuery)


def test_list_is_asked_once_at_a_time() -> None:
    rounds, _, now = just_asked()
    for _ in range(30):
        now += INTERVAL
        ask = rounds.next(now, now)
        assert not isinstance(ask, ListQuery)
        assert not isinstance(ask, Sleep) or ask.seconds >= 0.1
    rounds.list_failed(AdfUnavailableError("503", status=503), now)
    assert isinstance(rounds.next(now + 70, now + 70), ListQuery)


def test_forgotten_runs_do_not_pile_up_behind_one_that_is_looked_at_seldom() -> None:
    looks = PollQueue(jitter=0)
    looks.put("long", 0.0, 10.0)
    for n in range(10_000):
        looks.put(f"r{n}", 20.0 + n, 10.0)
        looks.remove(f"r{n}")
    assert looks.first(20.0) == "long"
    assert len(looks) <= 2 + POLL_BURST


def test_who_comes_while_the_list_is_asked_is_caught_up_by_the_next() -> None:
    rounds, asked, now = just_asked()
    rounds.add("late", interval=INTERVAL, not_ended_before=now - 300, now=now)
    rounds.list_answered(asked, [], now)
    ask: Any = None
    while not isinstance(ask, ListQuery):
        now += 1
        ask = rounds.next(now, now)
    assert ask.after <= 1_000_000 - 300


def test_run_that_the_list_hides_is_found_by_looking() -> None:
    simulation = wait_for(200, 60, hidden={"r7"})
    assert simulation.outcomes["r7"][0] - simulation.factory.ends["r7"] <= 200 + INTERVAL


def test_few_runs_are_looked_at_one_by_one_at_their_interval() -> None:
    simulation = wait_for(FEW_RUNS, 60)
    assert simulation.factory.lists == 0
    assert simulation.factory.looks <= FEW_RUNS * 8


def test_run_of_which_nothing_is_known_is_looked_at_first() -> None:
    factory = Factory(ends={f"r{n}": 999_000.0 for n in range(100)})
    simulation = Simulation(factory, arrivals=[(factory.now, name, None) for name in factory.ends])
    simulation.run(factory.now + 1000)
    assert len(simulation.outcomes) == 100
    assert factory.now <= 1_000_000 + 100 / FULL_POLLS_PER_SECOND + INTERVAL


def test_long_absence_is_caught_up_by_looking() -> None:
    factory = Factory(ends={f"r{n}": 999_000.0 for n in range(100)})
    simulation = Simulation(factory, arrivals=[(factory.now, name, 990_000.0) for name in factory.ends])
    simulation.run(factory.now + 1000)
    assert len(simulation.outcomes) == 100


def test_short_absence_is_caught_up_by_the_list() -> None:
    factory = Factory(ends={f"r{n}": 999_800.0 for n in range(100)})
    simulation = Simulation(factory, arrivals=[(factory.now, name, 999_500.0) for name in factory.ends])
    simulation.run(factory.now + 1000)
    assert len(simulation.outcomes) == 100
    assert factory.looks <= 2 * INTERVAL


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
def test_outage_of_two_minutes_costs_few_requests_and_no_outcome(error: AdfError) -> None:
    begin = 1_000_030.0
    simulation = wait_for(500, 60, fails=lambda now: error if begin <= now < begin + 120 else None)
    during = [moment for moment in simulation.factory.log if begin <= moment < begin + 120]
    assert len(during) <= 15, "one request at a time, backing off"
    assert max(simulation.lags()) <= 120 + 60


def test_service_that_asks_to_wait_is_left_alone_for_so_long() -> None:
    error = AdfThrottledError("429", status=429, retry_after=30)
    simulation = wait_for(50, 60, fails=lambda now: error if now < 1_000_050 else None)
    pauses = [b - a for a, b in zip(simulation.factory.log, simulation.factory.log[1:], strict=False) if b <= 1_000_050]
    assert all(pause >= 30 for pause in pauses)


def test_list_that_is_refused_is_done_without() -> None:
    class NoList(Factory):
        def answer_list(self, ask: ListQuery) -> list[PipelineRun] | AdfError:
            self.lists += 1
            return AdfPermissionError("403", status=403)

    factory = NoList(ends={f"r{n}": 1_000_060.0 for n in range(200)})
    simulation = Simulation(factory, arrivals=[(factory.now, name, factory.now) for name in factory.ends])
    simulation.run(factory.now + 10_000)
    assert len(simulation.outcomes) == 200
    assert max(simulation.lags()) <= 60
    assert factory.lists <= 2


def test_refusal_that_lasts_ends_all_waits() -> None:
    error = AdfAuthenticationError("401", refused_token=True)
    made = Factory(fails=lambda _now: error, ends=dict.fromkeys([f"r{n}" for n in range(50)], 2e6))
    simulation = Simulation(made, arrivals=[(made.now, name, made.now) for name in made.ends])
    simulation.run(made.now + 10_000)
    assert {type(outcome) for _, outcome in simulation.outcomes.values()} == {GaveUp}
    assert 300 <= made.now - 1_000_000 <= 400


def test_refusal_must_be_seen_more_than_twice_to_last() -> None:
    """Whatever the interval: two looks that are refused may be two short bouts."""
    error = AdfAuthenticationError("401", refused_token=True)
    made = Factory(fails=lambda _now: error, ends={"r1": 2e6})
    rounds = PollPlan()
    rounds.add("r1", interval=600, not_ended_before=None, now=made.now)
    simulation = Simulation(made, rounds=rounds)
    simulation.run(made.now + 10_000)
    assert made.looks >= 5
    assert made.now - 1_000_000 <= 420


def test_two_refusals_with_a_stopped_process_between_them_do_not_last() -> None:
    error = AdfAuthenticationError("401", refused_token=True)
    rounds = PollPlan()
    rounds.add("r1", interval=5, not_ended_before=None, now=1_000_000)
    assert rounds.poll_answered(PollRun("r1", 1_000_001), error, 1_000_001) == {}
    assert rounds.poll_answered(PollRun("r1", 1_000_601), error, 1_000_601) == {}
    for _ in range(2):
        assert rounds.poll_answered(PollRun("r1", 1_000_610), error, 1_000_610) == {}
    assert set(rounds.poll_answered(PollRun("r1", 1_000_611), error, 1_000_611)) == {"r1"}


def test_shortest_interval_of_a_runs_waiters_counts() -> None:
    rounds = PollPlan()
    for interval in (3600.0, 5.0):
        rounds.add("r1", interval=interval, not_ended_before=1_000_000, now=1_000_000)
    ask = rounds.next(1_000_000, 1_000_000)
    assert isinstance(ask, Sleep)
    assert ask.seconds <= 6


def test_run_that_is_not_there_ends_its_own_wait_only() -> None:
    made = Factory(ends={f"r{n}": 1_000_700.0 for n in range(50)})
    arrivals = [(made.now, name, made.now) for name in made.ends]
    simulation = Simulation(made, arrivals=[(made.now, "nowhere", None), *arrivals])
    simulation.run(made.now + 10_000)
    assert isinstance(simulation.outcomes["nowhere"][1], GaveUp)
    assert simulation.outcomes["nowhere"][0] - 1_000_000 <= 420
    assert {type(o) for name, (_, o) in simulation.outcomes.items() if name != "nowhere"} == {Ended}


def test_little_left_of_the_limit_slows_down() -> None:
    def looks(remaining: int | None) -> int:
        made = Factory(frozen=True, ends={f"r{n}": 1e9 for n in range(500)})
        simulation = Simulation(made, arrivals=[(made.now, name, None) for name in made.ends], remaining=remaining)
        simulation.run(made.now + 30)
        return made.looks

    assert looks(10) < looks(None) / 2


@given(
    count=st.integers(1, 60),
    lag=st.sampled_from([0.0, 15.0, 120.0]),
    ahead=st.sampled_from([0.0, 90.0, -90.0]),
    frozen=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=150)
def test_no_outcome_is_lost_told_twice_or_invented(
    count: int, lag: float, ahead: float, frozen: bool, seed: int
) -> None:
    """Whatever the lag, the clocks, the faults, what others run, and when waiters come."""
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
        assert at >= made.ends[name], "known before it happened"


def test_answers_about_one_run_that_stay_unreadable_end_its_wait_and_no_other() -> None:
    """After the same grace as a refusal, although the other looks work; and nobody else is held up."""
    unreadable = AdfUnavailableError("could not be read", status=200, unreadable=True)
    rounds, now = PollPlan(jitter=0.5), 1_000_000.0
    ended: dict[str, Outcome] = {}
    for name in ("odd", "good"):
        rounds.add(name, interval=INTERVAL, not_ended_before=now, now=now)
    while "odd" not in ended and now < 1_010_000:
        ask = rounds.next(now, now)
        if isinstance(ask, Sleep):
            now += ask.seconds
            continue
        assert isinstance(ask, PollRun)
        answer = unreadable if ask.run_id == "odd" else seen("good", "InProgress", now)
        ended |= rounds.poll_answered(ask, answer, now)
        assert rounds.error is None, "it concerns the one run"
    assert list(ended) == ["odd"]
    assert isinstance(ended["odd"], GaveUp)
    assert REFUSAL_GRACE_SECONDS <= now - 1_000_000 <= REFUSAL_GRACE_SECONDS + 2 * LONGEST_BACKOFF_SECONDS
    assert rounds.state_of("good").error is None


def test_service_that_answers_nothing_that_can_be_read_ends_all_waits() -> None:
    """As a proxy does that answers in its place."""
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
    assert simulation.factory.looks <= 12 * 500, "within the budget of looks"

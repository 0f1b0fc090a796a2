"""Waiting for many runs where answers take their time, and interleave with each other, with new waiters, and with faults."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import example, given, settings
from hypothesis import strategies as st

from airflow_adf_mi.adf.errors import AdfError, AdfThrottledError, AdfUnavailableError
from airflow_adf_mi.adf.models import PipelineRun
from airflow_adf_mi.adf.waiting.poll_plan import PollPlan, PollRun, Sleep
from airflow_adf_mi.adf.waiting.poll_queue import CANARY_POLLS_PER_SECOND, FULL_POLLS_PER_SECOND
from airflow_adf_mi.adf.waiting.poller import POLLS_AT_ONCE
from airflow_adf_mi.adf.waiting.run_list import ListQuery
from airflow_adf_mi.adf.waiting.single_run import Ended, Outcome
from tests.support.listed_factory import Factory

START = 1_000_000.0
ANSWERS = 5.0
"""Seconds that requests take here, at most: one that is under way when the run ends, and the one that shows the end."""


@dataclass
class Poller:
    """Drives rounds as the real one does, with several requests under way at a time."""

    factory: Factory
    rounds: PollPlan
    arrivals: list[tuple[float, str, float, float | None]]
    """(time, run, interval, since), in order of time."""
    dice: random.Random
    known: dict[str, float] = field(default_factory=dict)
    answered: bool = False
    distrusted: list[tuple[float, bool]] = field(default_factory=lambda: [(float("-inf"), False)])
    """From when on the list was taken for lagging, or not."""

    def run(self, most: float) -> None:
        """Until all that comes is known, or for so many seconds."""
        factory, rounds = self.factory, self.rounds
        under_way: list[tuple[float, int, Callable[[float], dict[str, Outcome]]]] = []
        asked = 0
        while (self.arrivals or len(rounds) or under_way) and factory.now < START + most:
            while self.arrivals and self.arrivals[0][0] <= factory.now:
                _, run_id, interval, since = self.arrivals.pop(0)
                rounds.add(run_id, interval=interval, not_ended_before=since, now=factory.now)
            wakes = [self.arrivals[0][0]] if self.arrivals else []
            if len(under_way) < POLLS_AT_ONCE:
                ask = rounds.next(factory.now, factory.now + factory.ahead if self.answered else None)
                if not isinstance(ask, Sleep):
                    asked += 1
                    assert asked < 100_000, "it asks without rest"
                    heapq.heappush(under_way, (factory.now + self.takes(ask), asked, self.answer(ask)))
                    continue
                assert ask.seconds > 0
                wakes.append(factory.now + ask.seconds)
            if under_way:
                wakes.append(under_way[0][0])
            factory.now = max(factory.now, min(wakes))
            while under_way and under_way[0][0] <= factory.now:
                self.tell(heapq.heappop(under_way)[2](factory.now))

    def takes(self, ask: ListQuery | PollRun) -> float:
        return self.dice.uniform(0.1, 0.5) if isinstance(ask, PollRun) else self.dice.uniform(0.2, 3)

    def answer(self, ask: ListQuery | PollRun) -> Callable[[float], dict[str, Outcome]]:
        """The service's answer, as of now, which arrives later."""
        rounds = self.rounds
        if isinstance(ask, PollRun):
            seen = self.factory.answer_look(ask.run_id)
            return lambda now: rounds.poll_answered(ask, seen, now)
        items = self.factory.answer_list(ask)
        if isinstance(items, AdfError):
            return lambda now: rounds.list_failed(items, now)
        listed: list[PipelineRun] = items
        return lambda now: rounds.list_answered(ask, listed, now)

    def tell(self, told: dict[str, Outcome]) -> None:
        self.answered = True
        for run_id, outcome in told.items():
            if run_id not in self.rounds:
                continue
            assert run_id not in self.known, "told twice"
            assert isinstance(outcome, Ended)
            assert self.factory.ends[run_id] <= self.factory.now, "known before it happened"
            self.known[run_id] = self.factory.now
            self.rounds.remove(run_id)
        if self.rounds.is_lagging != self.distrusted[-1][1]:
            self.distrusted.append((self.factory.now, self.rounds.is_lagging))

    def distrusts_throughout(self, begin: float, end: float) -> bool:
        """Whether the list was taken for lagging all the time between two moments."""
        before = [is_lagging for at, is_lagging in self.distrusted if at <= begin]
        return before[-1] and all(is_lagging for at, is_lagging in self.distrusted if begin < at <= end)


@given(
    count=st.sampled_from([2, 4, 5, 6, 30, 200]),
    lag=st.sampled_from([0.0, 3.0, 8.0, 30.0, 600.0]),
    ahead=st.sampled_from([0.0, 90.0, -90.0, 3600.0, -3600.0]),
    frozen=st.booleans(),
    outages=st.integers(0, 2),
    list_outages=st.integers(0, 1),
    seed=st.integers(0, 2**32 - 1),
)
@example(count=200, lag=0.0, ahead=0.0, frozen=True, outages=0, list_outages=0, seed=31208)
@settings(max_examples=100)
def test_all_is_known_within_the_bounds(
    count: int, lag: float, ahead: float, frozen: bool, outages: int, list_outages: int, seed: int
) -> None:
    """The bounds of `docs/waiting.md`, whatever the order of answers, the intervals, the lag, the clocks and the faults."""
    dice = random.Random(seed)
    error = dice.choice([AdfUnavailableError("503"), AdfThrottledError("429", status=429, retry_after=30)])
    down = [(START + dice.uniform(0, 900), dice.uniform(1, 120)) for _ in range(outages)]
    list_down = [(START + dice.uniform(0, 900), dice.uniform(1, dice.choice([300, 2500]))) for _ in range(list_outages)]

    def within(windows: list[tuple[float, float]]) -> Callable[[float], AdfError | None]:
        return lambda now: error if any(begin <= now < begin + length for begin, length in windows) else None

    factory = Factory(lag=lag, ahead=ahead, frozen=frozen, fails=within(down), list_fails=within(list_down))
    begins = {f"r{n}": START + dice.uniform(0, 300) for n in range(count)}
    factory.ends = {run_id: begin + dice.uniform(0, 1500) for run_id, begin in begins.items()}
    intervals = {run_id: dice.choice([5.0, 10.0, 60.0, 300.0, 3600.0]) for run_id in begins}
    arrivals = sorted(
        (begin, run_id, intervals[run_id], begin if dice.random() < 0.8 else None) for run_id, begin in begins.items()
    )
    poller = Poller(factory, PollPlan(jitter=dice.random()), arrivals, dice)
    poller.run(50_000)
    assert poller.known.keys() == begins.keys(), "an outcome was lost"
    # While requests fail, nothing is known; after the failure, the next request may be a minute away.
    slack = sum(length + 60 for _, length in down) + sum(min(length, 300) + 100 for _, length in list_down)
    for run_id, at in poller.known.items():
        end = max(factory.ends[run_id], begins[run_id])
        pace = FULL_POLLS_PER_SECOND if poller.distrusts_throughout(end, at) else CANARY_POLLS_PER_SECOND
        assert at - end <= intervals[run_id] * 1.05 + count / pace + ANSWERS + slack

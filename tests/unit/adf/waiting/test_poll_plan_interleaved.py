"""Waiting for many runs while answers come late and interleave with each other, with new waits, and with faults."""

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
"""Most seconds that two requests take here: one that is in flight when the run ends, and the one that shows the end."""


@dataclass
class Poller:
    """Drives a plan as the real poller does, with several requests in flight at a time."""

    factory: Factory
    plan: PollPlan
    arrivals: list[tuple[float, str, float, float | None]]
    """(time, run, interval, not_ended_before), in order of time."""
    dice: random.Random
    known: dict[str, float] = field(default_factory=dict)
    answered: bool = False
    lagging_from: list[tuple[float, bool]] = field(default_factory=lambda: [(float("-inf"), False)])
    """When the list began to count as lagging, or no longer did."""

    def run(self, most: float) -> None:
        """Run until all outcomes are known, or for `most` seconds."""
        factory, plan = self.factory, self.plan
        under_way: list[tuple[float, int, Callable[[float], dict[str, Outcome]]]] = []
        asked = 0
        while (self.arrivals or len(plan) or under_way) and factory.now < START + most:
            while self.arrivals and self.arrivals[0][0] <= factory.now:
                _, run_id, interval, not_ended_before = self.arrivals.pop(0)
                plan.add(run_id, interval=interval, not_ended_before=not_ended_before, now=factory.now)
            wakes = [self.arrivals[0][0]] if self.arrivals else []
            if len(under_way) < POLLS_AT_ONCE:
                action = plan.next(factory.now, factory.now + factory.ahead if self.answered else None)
                if not isinstance(action, Sleep):
                    asked += 1
                    assert asked < 100_000, "requests without a pause"
                    heapq.heappush(under_way, (factory.now + self.takes(action), asked, self.answer(action)))
                    continue
                assert action.seconds > 0
                wakes.append(factory.now + action.seconds)
            if under_way:
                wakes.append(under_way[0][0])
            factory.now = max(factory.now, min(wakes))
            while under_way and under_way[0][0] <= factory.now:
                self.report(heapq.heappop(under_way)[2](factory.now))

    def takes(self, action: ListQuery | PollRun) -> float:
        return self.dice.uniform(0.1, 0.5) if isinstance(action, PollRun) else self.dice.uniform(0.2, 3)

    def answer(self, action: ListQuery | PollRun) -> Callable[[float], dict[str, Outcome]]:
        """The service makes its answer now. The answer arrives later, when the returned function is called."""
        plan = self.plan
        if isinstance(action, PollRun):
            seen = self.factory.answer_poll(action.run_id)
            return lambda now: plan.poll_answered(action, seen, now)
        items = self.factory.answer_list(action)
        if isinstance(items, AdfError):
            return lambda now: plan.list_failed(items, now)
        listed: list[PipelineRun] = items
        return lambda now: plan.list_answered(action, listed, now)

    def report(self, found: dict[str, Outcome]) -> None:
        self.answered = True
        for run_id, outcome in found.items():
            if run_id not in self.plan:
                continue
            assert run_id not in self.known, "outcome reported twice"
            assert isinstance(outcome, Ended)
            assert self.factory.ends[run_id] <= self.factory.now, "an end was reported before it happened"
            self.known[run_id] = self.factory.now
            self.plan.remove(run_id)
        if self.plan.is_lagging != self.lagging_from[-1][1]:
            self.lagging_from.append((self.factory.now, self.plan.is_lagging))

    def is_lagging_throughout(self, begin: float, end: float) -> bool:
        """Whether the list counted as lagging during the whole time between two moments."""
        before = [is_lagging for at, is_lagging in self.lagging_from if at <= begin]
        return before[-1] and all(is_lagging for at, is_lagging in self.lagging_from if begin < at <= end)


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
def test_every_end_is_known_within_the_documented_bounds(
    count: int, lag: float, ahead: float, frozen: bool, outages: int, list_outages: int, seed: int
) -> None:
    """The bounds of `docs/waiting.md`, for any order of answers, intervals, lag, clocks and faults."""
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
    # No end is known while requests fail. After the failures, the next request may be sent a minute later.
    slack = sum(length + 60 for _, length in down) + sum(min(length, 300) + 100 for _, length in list_down)
    for run_id, at in poller.known.items():
        end = max(factory.ends[run_id], begins[run_id])
        pace = FULL_POLLS_PER_SECOND if poller.is_lagging_throughout(end, at) else CANARY_POLLS_PER_SECOND
        assert at - end <= intervals[run_id] * 1.05 + count / pace + ANSWERS + slack

"""The rules of waiting for many runs of one factory at once: what to ask next, and what an answer tells each waiter. Pure.

One query of the factory's list finds all that ended expected_from the query before it. The list can lag behind the truth, for one
run or for all, so it is only ever believed when it shows an end; that a run has not ended is never taken from it. Runs are
therefore also looked at one by one, those longest overdue first: a few at a time while the list keeps up, as many
as the budget allows once it is caught missing something. So a list that shows nothing costs delay, and no outcome.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from airflow_adf_mi.adf.errors import AdfError
from airflow_adf_mi.adf.models import PipelineRun
from airflow_adf_mi.adf.retrying import backoff
from airflow_adf_mi.adf.waiting.failure_tracker import FailureTracker, concerns_all
from airflow_adf_mi.adf.waiting.poll_queue import NEVER_POLLED, PollQueue
from airflow_adf_mi.adf.waiting.run_list import LIST_REACH_SECONDS, ExpectedEnd, ListQuery, RunListTracker
from airflow_adf_mi.adf.waiting.single_run import Ended, GaveUp, Outcome, Plan, WaitState, next_state

FEW_RUNS = 4
"""Up to so many runs are looked at one by one, which is as cheap as the list, and shows every status."""
SERVICE_CLOCK_SLACK_SECONDS = 2.0
"""Seconds by which what we take for the service's clock may be off: its answers tell whole seconds."""
FEWEST_REMAINING_READS = 60
"""Reads that the service says are left in its limit, below which everything slows down."""


@dataclass(frozen=True)
class PollRun:
    """Look at one run."""

    run_id: str
    at: float
    """When it is to be looked at: now."""


@dataclass(frozen=True)
class Sleep:
    """Nothing to ask for so many seconds."""

    seconds: float


NextAction = ListQuery | PollRun | Sleep


@dataclass(kw_only=True)
class _WaitedRun:
    """A run that is waited for."""

    interval: float
    added: float
    expected_from: float
    """As of `Wanted`, but by our clock: the service's may not be known yet. Moves on with each look that shows it going on."""
    state: WaitState = field(default_factory=WaitState)


class PollPlan:
    """What is waited for in one factory, and what was last learnt.

    Times are seconds of our clock, whatever it counts from, but for those of the list, which are the service's.
    """

    def __init__(self, *, jitter: float = 0.5) -> None:
        self._waited: dict[str, _WaitedRun] = {}
        self._intervals: Counter[float] = Counter()
        self._run_list = RunListTracker()
        self._queue = PollQueue(jitter)
        self._failures = FailureTracker(jitter)
        self._jitter = jitter
        self._next_list_at = float("-inf")
        self._list_query_began: float | None = None
        """Since when a list query is under way, if one is."""
        self._joined_from: float | None = None
        """From when the next list query must reach, on account of those who came expected_from the last."""
        self._service_ahead = 0.0
        """Seconds by which the service's clock is ahead of ours."""
        self._slowdown = 1.0

    def __len__(self) -> int:
        return len(self._waited)

    def __contains__(self, run_id: str) -> bool:
        return run_id in self._waited

    @property
    def error(self) -> AdfError | None:
        """What keeps looks from being made or from working; None once one has worked."""
        return self._failures.error

    @property
    def is_lagging(self) -> bool:
        """Whether the list was caught missing something a while ago, or cannot be had."""
        return self._run_list.is_lagging

    def add(self, run_id: str, *, interval: float, not_ended_before: float | None, now: float) -> None:
        """Wait for a run, which `not_ended_before` (our clock) is known not to have ended before; None knows nothing."""
        if not_ended_before is not None and not_ended_before > now + SERVICE_CLOCK_SLACK_SECONDS:
            # The machine that told it has another clock.
            not_ended_before = None
        known = self._waited.get(run_id)
        if known is not None:
            if interval < known.interval:
                self._intervals -= Counter([known.interval])
                self._intervals[interval] += 1
                known.interval = interval
                self._queue.set_interval(run_id, interval)
                self._list_within(interval, now)
            return
        polled_at, expected_from = NEVER_POLLED, now
        if not_ended_before is not None and now - not_ended_before <= LIST_REACH_SECONDS:
            polled_at = expected_from = not_ended_before
            joined = not_ended_before - SERVICE_CLOCK_SLACK_SECONDS
            self._joined_from = joined if self._joined_from is None else min(self._joined_from, joined)
        is_first = not self._waited
        self._waited[run_id] = _WaitedRun(interval=interval, added=now, expected_from=expected_from)
        self._intervals[interval] += 1
        self._queue.put(run_id, polled_at, interval)
        if is_first:
            self._next_list_at = now + interval * self._jitter
        else:
            self._list_within(interval, now)

    def _list_within(self, interval: float, now: float) -> None:
        """The list is to be asked as often as the most impatient wants it."""
        self._next_list_at = min(
            self._next_list_at, max(self._failures.pause_until, now + interval * 0.9 * self._slowdown)
        )

    def remove(self, run_id: str) -> None:
        """Nobody waits for it any more."""
        waited = self._waited.pop(run_id, None)
        if waited is not None:
            self._intervals -= Counter([waited.interval])
            self._queue.remove(run_id)

    def state_of(self, run_id: str) -> WaitState:
        """What was last learnt of a run."""
        return self._waited[run_id].state

    def next(self, now: float, service_now: float | None, remaining_reads: int | None = None) -> NextAction:
        """What to ask now. Without the service's time, of which its first answer tells, the list cannot be asked."""
        if not self._waited:
            return Sleep(60.0)
        if now < self._failures.pause_until:
            return Sleep(self._failures.pause_until - now)
        self._slowdown = 1.0 if remaining_reads is None or remaining_reads > FEWEST_REMAINING_READS else 4.0
        interval = self._interval
        if service_now is not None:
            self._service_ahead = service_now - now
        if len(self._waited) <= FEW_RUNS:
            self._run_list.forget_position()
            self._joined_from = None
        can_list = len(self._waited) > FEW_RUNS and self._list_query_began is None
        list_at = max(self._next_list_at, self._failures.list_pause_until)
        if can_list and service_now is not None and now >= list_at:
            self._next_list_at = now + interval * 0.9 * self._slowdown
            self._list_query_began = now
            if self._joined_from is not None:
                self._run_list.reach_back(self._joined_from + self._service_ahead)
                self._joined_from = None
            unseen_since = min(waited.expected_from for waited in self._waited.values()) - SERVICE_CLOCK_SLACK_SECONDS
            return self._run_list.next_query(service_now, unseen_since + self._service_ahead)
        first = self._queue.first(now)
        wait = list_at - now if can_list and service_now is not None else interval
        if first is not None:
            at = self._queue.allowed_at(first, now)
            if at <= now:
                is_full = self.is_lagging or len(self._waited) <= FEW_RUNS or self._queue.has_unpolled_run
                self._queue.record_poll(first, now, is_full=is_full, slow=self._slowdown)
                self._queue.put(first, now, self._waited[first].interval)
                return PollRun(first, now)
            wait = min(wait, at - now)
        return Sleep(max(0.01, wait))

    def list_answered(self, asked: ListQuery, items: Sequence[PipelineRun], now: float) -> dict[str, Outcome]:
        """The outcomes in the list's answer to `asked`, of all its pages."""
        self._list_query_began = None
        self._failures.list_answered()
        found: dict[str, Outcome] = {}
        expected = {
            run.run_id: self._expected_end(self._waited[run.run_id]) for run in items if run.run_id in self._waited
        }
        for run in self._run_list.take_answer(asked, items, expected, now):
            self._waited[run.run_id].state = WaitState(run=run)
            found[run.run_id] = Ended(run=run)
        if self._run_list.has_more:
            self._next_list_at = now
        return found

    def poll_answered(self, asked: PollRun, seen: PipelineRun | AdfError, now: float) -> dict[str, Outcome]:
        """What the answer to a look comes to; a refusal that lasts ends all waits."""
        run_id = asked.run_id
        waited = self._waited.get(run_id)
        if isinstance(seen, AdfError) and concerns_all(seen):
            if waited is not None:
                # Whether the refusal lasts is to be seen by more than one look, whatever the interval.
                self._queue.put(run_id, now - waited.interval, waited.interval)
            self._failures.poll_failed(seen, asked.at, now)
            return self._give_up()
        self._failures.poll_answered(asked.at, shows_run=isinstance(seen, PipelineRun))
        if waited is None:
            return {}
        waited.state, outcome = next_state(waited.state, seen, now, Plan(check_interval=waited.interval))
        if isinstance(seen, PipelineRun):
            if seen.is_terminal:
                was_lagging = self.is_lagging
                self._run_list.record_polled_end(seen, self._expected_end(waited), now)
                if self.is_lagging and not was_lagging:
                    self._queue.burst()
            else:
                waited.expected_from = max(waited.expected_from, asked.at)
        else:
            self._queue.retry(run_id, now, now + backoff(waited.state.failures, None, self._jitter))
        return {run_id: outcome} if outcome is not None else {}

    def list_failed(self, error: AdfError, now: float) -> dict[str, Outcome]:
        """The list could not be had."""
        asked_at = now if self._list_query_began is None else self._list_query_began
        self._list_query_began = None
        self._next_list_at = now
        self._failures.list_failed(error, asked_at, now)
        if self._failures.is_list_unavailable:
            # Looks go on in its place, at full pace.
            self._run_list.record_unavailable(now)
        return self._give_up()

    def list_query_lost(self, now: float) -> None:
        """The list query under way will not be answered."""
        self._list_query_began = None
        self._next_list_at = now + self._interval if self._waited else now

    def _give_up(self) -> dict[str, Outcome]:
        error = self._failures.final_error
        if error is None:
            return {}
        return {run_id: GaveUp(error=error, run=waited.state.run) for run_id, waited in self._waited.items()}

    def _expected_end(self, waited: _WaitedRun) -> ExpectedEnd:
        return ExpectedEnd(
            added=waited.added + self._service_ahead, expected_from=waited.expected_from + self._service_ahead
        )

    @property
    def _interval(self) -> float:
        return min(self._intervals)

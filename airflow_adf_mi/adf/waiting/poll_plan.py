"""The rules of waiting for many runs of one factory at once: what to ask next, and what an answer tells each waiter. Pure.

One query of the factory's list finds all that ended since the query before it. The list can lag behind the truth, for one
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
from airflow_adf_mi.adf.waiting.poll_queue import NEVER, PollQueue
from airflow_adf_mi.adf.waiting.run_list import REACH, ExpectedEnd, ListQuery, RunListTracker
from airflow_adf_mi.adf.waiting.single_run import Ended, GaveUp, Outcome, Plan, WaitState, next_state

FEW_RUNS = 4
"""Up to so many runs are looked at one by one, which is as cheap as the list, and shows every status."""
SERVICE_CLOCK_SLACK = 2.0
"""Seconds by which what we take for the service's clock may be off: its answers tell whole seconds."""
FEWEST_READS = 60
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
class _Waited:
    """A run that is waited for."""

    interval: float
    added: float
    since: float
    """As of `Wanted`, but by our clock: the service's may not be known yet. Moves on with each look that shows it going on."""
    watching: WaitState = field(default_factory=WaitState)


class PollPlan:
    """What is waited for in one factory, and what was last learnt.

    Times are seconds of our clock, whatever it counts from, but for those of the list, which are the service's.
    """

    def __init__(self, *, jitter: float = 0.5) -> None:
        self._waited: dict[str, _Waited] = {}
        self._intervals: Counter[float] = Counter()
        self._listing = RunListTracker()
        self._looks = PollQueue(jitter)
        self._trouble = FailureTracker(jitter)
        self._jitter = jitter
        self._next_list = float("-inf")
        self._listing_since: float | None = None
        """Since when a list query is under way, if one is."""
        self._joined_from: float | None = None
        """From when the next list query must reach, on account of those who came since the last."""
        self._ahead = 0.0
        """Seconds by which the service's clock is ahead of ours."""
        self._slow = 1.0

    def __len__(self) -> int:
        return len(self._waited)

    def __contains__(self, run_id: str) -> bool:
        return run_id in self._waited

    @property
    def error(self) -> AdfError | None:
        """What keeps looks from being made or from working; None once one has worked."""
        return self._trouble.error

    @property
    def is_lagging(self) -> bool:
        """Whether the list was caught missing something a while ago, or cannot be had."""
        return self._listing.is_lagging

    def add(self, run_id: str, *, interval: float, since: float | None, now: float) -> None:
        """Wait for a run, which `since` (our clock) is known not to have ended before; None knows nothing."""
        if since is not None and since > now + SERVICE_CLOCK_SLACK:
            # The machine that told it has another clock.
            since = None
        known = self._waited.get(run_id)
        if known is not None:
            if interval < known.interval:
                self._intervals -= Counter([known.interval])
                self._intervals[interval] += 1
                known.interval = interval
                self._looks.set_interval(run_id, interval)
                self._list_within(interval, now)
            return
        looked_at, shown_from = NEVER, now
        if since is not None and now - since <= REACH:
            looked_at = shown_from = since
            joined = since - SERVICE_CLOCK_SLACK
            self._joined_from = joined if self._joined_from is None else min(self._joined_from, joined)
        is_first = not self._waited
        self._waited[run_id] = _Waited(interval=interval, added=now, since=shown_from)
        self._intervals[interval] += 1
        self._looks.put(run_id, looked_at, interval)
        if is_first:
            self._next_list = now + interval * self._jitter
        else:
            self._list_within(interval, now)

    def _list_within(self, interval: float, now: float) -> None:
        """The list is to be asked as often as the most impatient wants it."""
        self._next_list = min(self._next_list, max(self._trouble.pause_until, now + interval * 0.9 * self._slow))

    def remove(self, run_id: str) -> None:
        """Nobody waits for it any more."""
        waited = self._waited.pop(run_id, None)
        if waited is not None:
            self._intervals -= Counter([waited.interval])
            self._looks.remove(run_id)

    def watching(self, run_id: str) -> WaitState:
        """What was last learnt of a run."""
        return self._waited[run_id].watching

    def next(self, now: float, service_now: float | None, remaining_reads: int | None = None) -> NextAction:
        """What to ask now. Without the service's time, of which its first answer tells, the list cannot be asked."""
        if not self._waited:
            return Sleep(60.0)
        if now < self._trouble.pause_until:
            return Sleep(self._trouble.pause_until - now)
        self._slow = 1.0 if remaining_reads is None or remaining_reads > FEWEST_READS else 4.0
        interval = self._interval
        if service_now is not None:
            self._ahead = service_now - now
        if len(self._waited) <= FEW_RUNS:
            self._listing.skip()
            self._joined_from = None
        can_list = len(self._waited) > FEW_RUNS and self._listing_since is None
        list_at = max(self._next_list, self._trouble.list_pause_until)
        if can_list and service_now is not None and now >= list_at:
            self._next_list = now + interval * 0.9 * self._slow
            self._listing_since = now
            if self._joined_from is not None:
                self._listing.reach_back(self._joined_from + self._ahead)
                self._joined_from = None
            unseen_since = min(waited.since for waited in self._waited.values()) - SERVICE_CLOCK_SLACK
            return self._listing.query(service_now, unseen_since + self._ahead)
        first = self._looks.first(now)
        wait = list_at - now if can_list and service_now is not None else interval
        if first is not None:
            at = self._looks.when(first, now)
            if at <= now:
                is_full = self.is_lagging or len(self._waited) <= FEW_RUNS or self._looks.some_unknown
                self._looks.spend(first, now, is_full=is_full, slow=self._slow)
                self._looks.put(first, now, self._waited[first].interval)
                return PollRun(first, now)
            wait = min(wait, at - now)
        return Sleep(max(0.01, wait))

    def listed(self, asked: ListQuery, items: Sequence[PipelineRun], now: float) -> dict[str, Outcome]:
        """The outcomes in the list's answer to `asked`, of all its pages."""
        self._listing_since = None
        self._trouble.listed()
        found: dict[str, Outcome] = {}
        wanted = {run.run_id: self._wanted(self._waited[run.run_id]) for run in items if run.run_id in self._waited}
        for run in self._listing.read(asked, items, wanted, now):
            self._waited[run.run_id].watching = WaitState(run=run)
            found[run.run_id] = Ended(run=run)
        if self._listing.has_more:
            self._next_list = now
        return found

    def looked(self, asked: PollRun, seen: PipelineRun | AdfError, now: float) -> dict[str, Outcome]:
        """What the answer to a look comes to; a refusal that lasts ends all waits."""
        run_id = asked.run_id
        waited = self._waited.get(run_id)
        if isinstance(seen, AdfError) and concerns_all(seen):
            if waited is not None:
                # Whether the refusal lasts is to be seen by more than one look, whatever the interval.
                self._looks.put(run_id, now - waited.interval, waited.interval)
            self._trouble.look_failed(seen, asked.at, now)
            return self._given_up()
        self._trouble.looked(asked.at, shows_run=isinstance(seen, PipelineRun))
        if waited is None:
            return {}
        waited.watching, outcome = next_state(waited.watching, seen, now, Plan(check_interval=waited.interval))
        if isinstance(seen, PipelineRun):
            if seen.is_terminal:
                was_lagging = self.is_lagging
                self._listing.judge(seen, self._wanted(waited), now)
                if self.is_lagging and not was_lagging:
                    self._looks.burst()
            else:
                waited.since = max(waited.since, asked.at)
        else:
            self._looks.retry(run_id, now, now + backoff(waited.watching.failures, None, self._jitter))
        return {run_id: outcome} if outcome is not None else {}

    def list_failed(self, error: AdfError, now: float) -> dict[str, Outcome]:
        """The list could not be had."""
        asked_at = now if self._listing_since is None else self._listing_since
        self._listing_since = None
        self._next_list = now
        self._trouble.list_failed(error, asked_at, now)
        if self._trouble.is_list_lost:
            # Looks go on in its place, at full pace.
            self._listing.refused(now)
        return self._given_up()

    def list_lost(self, now: float) -> None:
        """The list query under way will not be answered."""
        self._listing_since = None
        self._next_list = now + self._interval if self._waited else now

    def _given_up(self) -> dict[str, Outcome]:
        error = self._trouble.gives_up
        if error is None:
            return {}
        return {run_id: GaveUp(error=error, run=waited.watching.run) for run_id, waited in self._waited.items()}

    def _wanted(self, waited: _Waited) -> ExpectedEnd:
        return ExpectedEnd(added=waited.added + self._ahead, since=waited.since + self._ahead)

    @property
    def _interval(self) -> float:
        return min(self._intervals)

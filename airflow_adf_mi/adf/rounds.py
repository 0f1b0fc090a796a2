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

from airflow_adf_mi.adf.errors import AdfAuthenticationError, AdfError, AdfPermissionError
from airflow_adf_mi.adf.listing import REACH, List, Listing, Wanted
from airflow_adf_mi.adf.looks import NEVER, Looks
from airflow_adf_mi.adf.models import PipelineRun
from airflow_adf_mi.adf.watch import REFUSAL_GRACE, Ended, GaveUp, Outcome, Plan, Watching, backoff, fold, is_refusal

FEW = 4
"""Up to so many runs are looked at one by one, which is as cheap as the list, and shows every status."""
CLOCK_SLACK = 2.0
"""Seconds by which what we take for the service's clock may be off: its answers tell whole seconds."""
LIST_REFUSED_PAUSE = 300.0
"""Seconds until the list is tried again after the service refused it, for example for a missing role."""
FEWEST_REFUSALS = 5
"""Refused looks in a row without which a refusal does not count as lasting."""
FEWEST_READS = 60
"""Reads that the service says are left in its limit, below which everything slows down."""


@dataclass(frozen=True)
class Look:
    """Look at one run."""

    run_id: str


@dataclass(frozen=True)
class Rest:
    """Nothing to ask for so many seconds."""

    seconds: float


Ask = List | Look | Rest


@dataclass(kw_only=True)
class _Waited:
    """A run that is waited for."""

    interval: float
    wanted: Wanted
    watching: Watching = field(default_factory=Watching)


class Rounds:
    """What is waited for in one factory, and what was last learnt.

    Times are epoch seconds of our clock, but for those of the list, which are the service's.
    """

    def __init__(self, *, jitter: float = 0.5) -> None:
        self._waited: dict[str, _Waited] = {}
        self._intervals: Counter[float] = Counter()
        self._listing = Listing()
        self._looks = Looks(jitter)
        self._jitter = jitter
        self._next_list = float("-inf")
        self._is_listing = False
        """Whether a list query is under way."""
        self._failures = 0
        self._not_before = float("-inf")
        self._refused_since: float | None = None
        self._list_refused_until = float("-inf")
        self.error: AdfError | None = None
        """Why the last request failed; None after one that did not."""

    def __len__(self) -> int:
        return len(self._waited)

    def __contains__(self, run_id: str) -> bool:
        return run_id in self._waited

    @property
    def is_lagging(self) -> bool:
        """Whether the list was caught missing something a while ago, or cannot be had."""
        return self._listing.is_lagging

    def add(self, run_id: str, *, interval: float, since: float | None, now: float, service_now: float) -> None:
        """Wait for a run, which `since` (our clock) is known not to have ended before; None knows nothing."""
        known = self._waited.get(run_id)
        if known is not None:
            if interval < known.interval:
                self._intervals -= Counter([known.interval])
                self._intervals[interval] += 1
                known.interval = interval
                self._looks.set_interval(run_id, interval)
                self._next_list = min(self._next_list, now + interval * 0.9)
            return
        looked_at, shown_from = NEVER, service_now
        if since is not None and now - since <= REACH:
            looked_at, shown_from = since, since + (service_now - now)
            self._listing.reach_back(shown_from - CLOCK_SLACK)
        self._waited[run_id] = _Waited(interval=interval, wanted=Wanted(added=service_now, since=shown_from))
        self._intervals[interval] += 1
        self._looks.put(run_id, looked_at, interval)
        is_first = len(self._waited) == 1
        self._next_list = now + interval * self._jitter if is_first else min(self._next_list, now + interval * 0.9)

    def remove(self, run_id: str) -> None:
        """Nobody waits for it any more."""
        waited = self._waited.pop(run_id, None)
        if waited is not None:
            self._intervals -= Counter([waited.interval])
            self._looks.remove(run_id)

    def watching(self, run_id: str) -> Watching:
        """What was last learnt of a run."""
        return self._waited[run_id].watching

    def next(self, now: float, service_now: float, remaining_reads: int | None = None) -> Ask:
        """What to ask now."""
        if not self._waited:
            return Rest(60.0)
        if now < self._not_before:
            return Rest(self._not_before - now)
        slow = 1.0 if remaining_reads is None or remaining_reads > FEWEST_READS else 4.0
        interval = self._interval
        uses_list = len(self._waited) > FEW and now >= self._list_refused_until and not self._is_listing
        if uses_list and now >= self._next_list:
            self._next_list = now + interval * 0.9 * slow
            self._is_listing = True
            return self._listing.query(service_now)
        first = self._looks.first()
        wait = self._next_list - now if uses_list else interval
        if first is not None:
            at = self._looks.when(first, now)
            if at <= now:
                is_full = self.is_lagging or len(self._waited) <= FEW or self._looks.some_unknown
                self._looks.spend(now, is_full=is_full, slow=slow)
                self._looks.put(first, now, self._waited[first].interval)
                return Look(first)
            wait = min(wait, at - now)
        return Rest(max(0.01, wait))

    def listed(self, asked: List, items: Sequence[PipelineRun], now: float) -> dict[str, Outcome]:
        """The outcomes in the list's answer to `asked`, of all its pages."""
        self._worked()
        self._refused_since = None
        self._is_listing = False
        found: dict[str, Outcome] = {}
        wanted = {run_id: waited.wanted for run_id, waited in self._waited.items()}
        for run in self._listing.read(asked, items, wanted, now):
            self._waited[run.run_id].watching = Watching(run=run)
            found[run.run_id] = Ended(run=run)
        if self._listing.has_more:
            self._next_list = now
        return found

    def looked(self, run_id: str, seen: PipelineRun | AdfError, now: float) -> dict[str, Outcome]:
        """What the answer to a look at `run_id` comes to; a refusal that lasts ends all waits."""
        waited = self._waited.get(run_id)
        if isinstance(seen, AdfError):
            if _is_about_all(seen):
                if waited is not None:
                    # Whether the refusal lasts is to be seen by more than one look, whatever the interval.
                    self._looks.put(run_id, now - waited.interval, waited.interval)
                return self._failed(seen, now)
            self._worked()
        else:
            self._worked()
            self._refused_since = None
        if waited is None:
            return {}
        waited.watching, outcome = fold(waited.watching, seen, now, Plan(check_interval=waited.interval))
        if isinstance(seen, PipelineRun):
            if seen.is_terminal:
                was_lagging = self.is_lagging
                self._listing.judge(seen, waited.wanted, now)
                if self.is_lagging and not was_lagging:
                    self._looks.burst()
        else:
            # It is looked at again soon, whatever the pace of the others.
            pause = backoff(waited.watching.failures, None, self._jitter)
            self._looks.put(run_id, now - waited.interval + pause, waited.interval)
        return {run_id: outcome} if outcome is not None else {}

    def list_failed(self, error: AdfError, now: float) -> dict[str, Outcome]:
        """The list could not be had."""
        self._is_listing = False
        if is_refusal(error) and not isinstance(error, AdfAuthenticationError):
            # Perhaps the role lacks this one action. Looking at single runs goes on, at full pace.
            self._list_refused_until = now + LIST_REFUSED_PAUSE
            self._listing.refused(now)
            self.error = error
            return {}
        self._next_list = now
        return self._failed(error, now)

    def _failed(self, error: AdfError, now: float) -> dict[str, Outcome]:
        self.error = error
        self._failures += 1
        pause = backoff(self._failures, getattr(error, "retry_after", None), self._jitter)
        self._not_before = now + pause
        if not is_refusal(error):
            return {}
        self._refused_since = now if self._refused_since is None else self._refused_since
        if now - self._refused_since < REFUSAL_GRACE or self._failures < FEWEST_REFUSALS:
            return {}
        return {run_id: GaveUp(error=error, run=waited.watching.run) for run_id, waited in self._waited.items()}

    def _worked(self) -> None:
        self.error = None
        self._failures = 0

    @property
    def _interval(self) -> float:
        return min(self._intervals)


def _is_about_all(error: AdfError) -> bool:
    """Whether a failed look says nothing about the one run: it would have failed for any."""
    return not is_refusal(error) or isinstance(error, AdfAuthenticationError | AdfPermissionError)

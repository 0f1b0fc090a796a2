"""The rules of waiting for many runs of one factory at once: what to ask next, and what an answer tells each waiter. Pure.

One query of the factory's list finds all that ended since the query before it. The list can lag behind the truth, for one
run or for all, so it is only ever believed when it shows an end; that a run has not ended is never taken from it. Runs are
therefore also looked at one by one, those not looked at for longest first: a few at a time while the list keeps up, as many
as the budget allows once it is caught missing something. So a list that shows nothing costs delay, and no outcome.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from airflow_adf_mi.adf.errors import AdfAuthenticationError, AdfError, AdfPermissionError
from airflow_adf_mi.adf.models import PipelineRun
from airflow_adf_mi.adf.watch import REFUSAL_GRACE, Ended, GaveUp, Outcome, Plan, Watching, backoff, fold, is_refusal

FEW = 4
"""Up to so many runs are looked at one by one, which is as cheap as the list, and shows every status."""
CANARIES = 1.0
"""Looks at single runs a second while the list keeps up. They measure its lag, and bound how long it can hide one run:
runs waited for / CANARIES."""
BUDGET = 10.0
"""Looks at single runs a second at most. The bound on detection with a list that shows nothing: max(60 s, runs / BUDGET)."""
BURST = 100
"""Looks that may be made at once when the list is first caught missing something."""
LAG_TOLERANCE = 10.0
"""Seconds by which the list may be behind without being called lagging."""
CALM = 60.0
"""Seconds without a miss after which the list is trusted again."""
OVERLAP = 20.0
"""Seconds that a list query reaches back behind the one before it, at most; runs come into the list out of order."""
OVERLAP_ITEMS = 400
"""Entries that this overlap may cost, in a factory where much ends."""
REACH = 900.0
"""Seconds that the first list query of new waiters may reach back; a longer absence is caught up by looking at single runs."""
LIST_REFUSED_PAUSE = 300.0
"""Seconds until the list is tried again after the service refused it, for example for a missing role."""
FEWEST_REFUSALS = 5
"""Refused looks in a row without which a refusal does not count as lasting."""
FEWEST_READS = 60
"""Reads that the service says are left in its limit, below which everything slows down."""


_ALL = float("inf")
"""In place of the moment of a missed end: the list cannot be had, and so misses all."""


@dataclass(frozen=True)
class List:
    """Query the list for what ended and was updated between two moments of the service's clock."""

    after: float
    before: float


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
    looked_at: float
    """When it was last known not to have ended (our clock); -inf for never."""
    watching: Watching = field(default_factory=Watching)
    entry: float = 0.0
    """Of its entry in the queue that counts; older ones are skipped."""


class Rounds:
    """What is waited for in one factory, and what was last learnt.

    Times are epoch seconds of our clock, but for those of the list, which are the service's.
    """

    def __init__(self, *, jitter: float = 0.5) -> None:
        self._waited: dict[str, _Waited] = {}
        self._intervals: Counter[float] = Counter()
        self._queue: list[tuple[float, str]] = []
        self._jitter = jitter
        self._listed_until: float | None = None
        """Service time up to which the list has been queried."""
        self._list_from: float | None = None
        """Service time from which the next query must reach, on account of new waiters."""
        self._next_list = float("-inf")
        self._next_look = float("-inf")
        self._rate_seen = 0.0
        """Entries a second that the last query returned."""
        self._missed_at: float | None = None
        """Service time of the latest end that the list was caught missing."""
        self._missed_until = float("-inf")
        self._horizon = float("-inf")
        self._credit = 0.0
        self._failures = 0
        self._not_before = float("-inf")
        self._refused: AdfError | None = None
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
        return self._missed_at is not None

    def add(self, run_id: str, *, interval: float, since: float | None, now: float, service_now: float) -> None:
        """Wait for a run, which `since` (our clock) is known not to have ended before; None knows nothing."""
        known = self._waited.get(run_id)
        if known is not None:
            if interval < known.interval:
                self._intervals -= Counter([known.interval])
                self._intervals[interval] += 1
                known.interval = interval
            return
        looked_at = float("-inf")
        if since is not None and now - since <= REACH:
            looked_at = since
            wanted = since + (service_now - now) - LAG_TOLERANCE
            self._list_from = wanted if self._list_from is None else min(self._list_from, wanted)
        self._waited[run_id] = waited = _Waited(interval=interval, looked_at=looked_at)
        self._intervals[interval] += 1
        self._put(run_id, waited, looked_at)
        if len(self._waited) == 1:
            self._next_list = now + interval * self._jitter

    def remove(self, run_id: str) -> None:
        """Nobody waits for it any more."""
        waited = self._waited.pop(run_id, None)
        if waited is not None:
            self._intervals -= Counter([waited.interval])

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
        uses_list = len(self._waited) > FEW and now >= self._list_refused_until
        if uses_list and now >= self._next_list:
            self._next_list = now + interval * 0.9 * slow
            return List(self._reach(service_now), service_now + LAG_TOLERANCE)
        due = self._due()
        wait = self._next_list - now if uses_list else interval
        if due is not None:
            at = self._may_look_at(due, now)
            if at <= now:
                self._spend(now, slow)
                self._put(due, self._waited[due], now)
                return Look(due)
            wait = min(wait, at - now)
        return Rest(max(0.01, wait))

    def listed(self, asked: List, items: Sequence[PipelineRun], now: float) -> dict[str, Outcome]:
        """The outcomes in the list's answer to `asked`, of all its pages."""
        self._worked()
        self._refused_since = None
        self._list_from = None
        self._rate_seen = len(items) / max(1.0, asked.before - asked.after)
        self._listed_until = asked.before - LAG_TOLERANCE
        found: dict[str, Outcome] = {}
        for run in items:
            if run.last_updated is not None:
                self._horizon = max(self._horizon, run.last_updated.timestamp())
            waited = self._waited.get(run.run_id)
            if waited is not None and run.is_terminal:
                waited.watching = Watching(run=run)
                found[run.run_id] = Ended(run=run)
        caught_up = self._missed_at is not None and self._missed_at in (_ALL, min(self._missed_at, self._horizon))
        if caught_up and now >= self._missed_until:
            self._missed_at = None
        return found

    def looked(self, run_id: str, seen: PipelineRun | AdfError, now: float) -> dict[str, Outcome]:
        """What the answer to a look at `run_id` comes to; a refusal that lasts ends all waits."""
        waited = self._waited.get(run_id)
        if isinstance(seen, AdfError):
            if _is_about_all(seen):
                if waited is not None:
                    # Whether the refusal lasts is to be seen by more than one look, whatever the interval.
                    self._put(run_id, waited, now - waited.interval)
                return self._failed(seen, now)
            self._worked()
        else:
            self._worked()
            self._refused_since = None
        if waited is None:
            return {}
        waited.watching, outcome = fold(waited.watching, seen, now, Plan(check_interval=waited.interval))
        if isinstance(seen, PipelineRun):
            waited.looked_at = now
            if seen.is_terminal:
                self._judge_list(seen, now)
        else:
            # It is looked at again soon, whatever the pace of the others.
            self._put(run_id, waited, now - waited.interval + backoff(waited.watching.failures, None, self._jitter))
        return {run_id: outcome} if outcome is not None else {}

    def list_failed(self, error: AdfError, now: float) -> dict[str, Outcome]:
        """The list could not be had."""
        if is_refusal(error) and not isinstance(error, AdfAuthenticationError):
            # Perhaps the role lacks this one action. Looking at single runs goes on, at full pace.
            self._list_refused_until = now + LIST_REFUSED_PAUSE
            self._missed_at, self._missed_until = _ALL, now + CALM
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

    def _judge_list(self, ended: PipelineRun, now: float) -> None:
        """Whether the list should have shown this end already."""
        if ended.last_updated is None or self._listed_until is None:
            return
        moment = ended.last_updated.timestamp()
        if moment > self._listed_until - LAG_TOLERANCE:
            return
        if self._missed_at is None:
            self._credit = float(BURST)
        self._missed_at = moment if self._missed_at is None else max(moment, self._missed_at)
        self._missed_until = now + CALM

    @property
    def _interval(self) -> float:
        return min(self._intervals)

    def _reach(self, service_now: float) -> float:
        """The begin of the next list query."""
        overlap = min(OVERLAP, OVERLAP_ITEMS / self._rate_seen) if self._rate_seen > 0 else OVERLAP
        begin = service_now - overlap if self._listed_until is None else self._listed_until - overlap
        return begin if self._list_from is None else min(begin, self._list_from)

    def _due(self) -> str | None:
        """The run that was not looked at for longest."""
        while self._queue:
            entry, run_id = self._queue[0]
            waited = self._waited.get(run_id)
            if waited is not None and waited.entry == entry:
                return run_id
            heapq.heappop(self._queue)
        return None

    def _may_look_at(self, run_id: str, now: float) -> float:
        """From when on the run may be looked at."""
        waited = self._waited[run_id]
        if waited.entry == float("-inf"):
            # Nothing is known of it: as soon as the budget allows.
            return max(self._next_look, now - 1)
        due = waited.entry + waited.interval * (0.95 + self._jitter / 10)
        if self._credit >= 1:
            return due
        return max(due, self._next_look)

    def _spend(self, now: float, slow: float) -> None:
        if self._credit >= 1:
            self._credit -= 1
            return
        full = self.is_lagging or len(self._waited) <= FEW or self._waited_unknown()
        rate = (BUDGET * 1.2 if full else CANARIES) / slow
        self._next_look = max(self._next_look, now - 1) + 1 / rate

    def _waited_unknown(self) -> bool:
        return bool(self._queue) and self._queue[0][0] == float("-inf")

    def _put(self, run_id: str, waited: _Waited, moment: float) -> None:
        waited.entry = moment
        heapq.heappush(self._queue, (moment, run_id))


def _is_about_all(error: AdfError) -> bool:
    """Whether a failed look says nothing about the one run: it would have failed for any."""
    return not is_refusal(error) or isinstance(error, AdfAuthenticationError | AdfPermissionError)

"""What a factory's list has shown, what to ask it next, and whether it can be relied on. Pure.

The list can lag behind the truth, for one run or for all, so it is only ever believed where it shows an end; that a run has
not ended is never taken from it. Moments are epoch seconds of the service's clock; those called `now` are of ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from airflow_adf_mi.adf.models import PipelineRun

LAG_TOLERANCE_SECONDS = 10.0
"""Seconds by which the list may be behind without being called lagging."""
TRUST_AGAIN_SECONDS = 60.0
"""Seconds without a miss after which the list is trusted again."""
LIST_OVERLAP_SECONDS = 20.0
"""Seconds that a list query reaches back behind the one before it, at most; runs come into the list out of order."""
LIST_OVERLAP_ITEMS = 100
"""Entries that this overlap may cost in a factory where much ends: a page, while the list is seen to keep its order."""

LIST_REACH_SECONDS = 900.0
"""Seconds that a first query may reach back; what ended before is caught up by looking at single runs."""

_EVERY_END = float("inf")
"""In place of the moment of a missed end: the list cannot be had, and so misses all."""


@dataclass(frozen=True)
class ListQuery:
    """Query the list for what ended and was updated between two moments of the service's clock."""

    after: float
    before: float


@dataclass(frozen=True)
class ExpectedEnd:
    """What may be expected of the list for a run that is waited for."""

    added: float
    """When the wait began."""
    expected_from: float
    """From when on it is to show the run's end, should it have come before the wait began."""


class RunListTracker:
    """The list of one factory."""

    def __init__(self) -> None:
        self._listed_until: float | None = None
        """Up to when the list has been queried, without a gap expected_from `_listed_from`."""
        self._listed_from = float("inf")
        self._reach_back_to: float | None = None
        """From when the next query must reach, on account of new waiters or of ends that came late."""
        self._entries_per_second = 0.0
        """Entries a second that the last query returned."""
        self._missed_end: float | None = None
        """The latest end that the list was caught missing."""
        self._distrusted_until = float("-inf")
        """Until when (our clock) it is not trusted on account of that."""
        self._newest_shown = float("-inf")
        """The latest moment that the list has shown anything of."""
        self.has_more = False
        """Whether the last answer showed that a query which reaches further back would show more."""

    @property
    def is_lagging(self) -> bool:
        """Whether the list was caught missing something a while ago, or cannot be had."""
        return self._missed_end is not None

    def reach_back(self, moment: float) -> None:
        """The next query is to show what ended expected_from then."""
        self._reach_back_to = moment if self._reach_back_to is None else min(self._reach_back_to, moment)

    def next_query(self, service_now: float, unseen_since: float) -> ListQuery:
        """What to ask the list now. All that is waited for was seen to go on at `unseen_since`, or its wait began then."""
        overlap = (
            min(LIST_OVERLAP_SECONDS, LIST_OVERLAP_ITEMS / self._entries_per_second)
            if self._entries_per_second > 0
            else LIST_OVERLAP_SECONDS
        )
        if self._listed_until is None:
            begin = min(service_now - overlap, max(unseen_since, service_now - LIST_REACH_SECONDS))
        else:
            begin = min(self._listed_until, service_now) - overlap
        begin = begin if self._reach_back_to is None else min(begin, self._reach_back_to)
        return ListQuery(begin, service_now + LAG_TOLERANCE_SECONDS)

    def forget_position(self) -> None:
        """For now runs are looked at singly; what looks have not shown is asked for once the list is used again."""
        self._listed_until = None
        self._listed_from = float("inf")
        self._reach_back_to = None

    def take_answer(
        self, asked: ListQuery, items: Sequence[PipelineRun], expected: Mapping[str, ExpectedEnd], now: float
    ) -> list[PipelineRun]:
        """The ends of `expected` runs in the list's answer to `asked`, of all its pages."""
        if self._reach_back_to is not None and asked.after <= self._reach_back_to:
            self._reach_back_to = None
        self._listed_from = min(self._listed_from, asked.after)
        listed_before, self._listed_until = self._listed_until, asked.before - LAG_TOLERANCE_SECONDS
        self._entries_per_second = len(items) / max(1.0, self._listed_until - asked.after)
        ended = []
        is_late = False
        for run in items:
            moment = _updated_at(run)
            if moment is not None:
                self._newest_shown = max(self._newest_shown, moment)
            if run.run_id in expected and run.is_terminal:
                ended.append(run)
                # The query before this one should have shown it.
                is_late |= moment is not None and expected[run.run_id].added <= moment < (listed_before or moment)
        self.has_more = False
        if is_late and listed_before is not None:
            # Where one comes late, more do, and from further back than this query may have reached.
            self.has_more = asked.after > listed_before - LIST_OVERLAP_SECONDS
            self.reach_back((listed_before if self.has_more else self._listed_until) - LIST_OVERLAP_SECONDS)
        caught_up = self._missed_end is not None and self._missed_end in (
            _EVERY_END,
            min(self._missed_end, self._newest_shown),
        )
        if caught_up and now >= self._distrusted_until:
            self._missed_end = None
        return ended

    def record_polled_end(self, ended: PipelineRun, expected: ExpectedEnd, now: float) -> None:
        """Whether the list should have shown this end, found by a look at the run, already."""
        moment = _updated_at(ended)
        if moment is None or self._listed_until is None or self._listed_until < expected.added:
            return
        if max(expected.expected_from, self._listed_from) <= moment <= self._listed_until - LAG_TOLERANCE_SECONDS:
            self._missed_end = moment if self._missed_end is None else max(moment, self._missed_end)
            self._distrusted_until = now + TRUST_AGAIN_SECONDS

    def record_unavailable(self, now: float) -> None:
        """The list cannot be had."""
        self._missed_end, self._distrusted_until = _EVERY_END, now + TRUST_AGAIN_SECONDS


def _updated_at(run: PipelineRun) -> float | None:
    return None if run.last_updated is None else run.last_updated.timestamp()

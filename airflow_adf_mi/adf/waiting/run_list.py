"""How far the run list of a factory is known, what to query next, and whether the list can be trusted. Pure.

The run list (`queryPipelineRuns`) is cheap: one query shows all runs that ended within a window of time. But the list can lag
behind polls of single runs, for one run or for all, by seconds or by hours. Runs can also appear out of order. Two mistakes are
possible:

- To take the absence of a run in the list as news about that run. So the list is believed only if it shows an end. The list never
  proves that a run has not ended, and single runs are polled as well (`poll_plan`).
- To leave a gap between two queries, so that an end in the gap is never shown. So each query overlaps the previous query. A query
  reaches back further if the list showed an end too late, or if a new wait needs an earlier moment.

The windows of three queries, on the service's clock:

    query 1   [---- reach ----|..]                        "|" is now; ".." are 10 s more, because clocks differ a little
    query 2            [overlap-------|..]                begins up to 20 s before the "|" of query 1
    query 3                    [overlap-------|..]        begins up to 20 s before the "|" of query 2
              ^                               ^
              _listed_from                    _listed_until: no gap is left between these two

Polls of single runs reveal whether the list lags. If a poll finds an end between `_listed_from` and `_listed_until` (with 10 s of
tolerance), the list should have shown that end already. So the list lags, and `poll_plan` polls at full pace. The list is trusted
again once it has missed no end for a minute, and has shown a run that was updated at or after the missed end.

Moments are epoch seconds by the service's clock. Only `now` is by our clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from airflow_adf_mi.adf.models import PipelineRun

LAG_TOLERANCE_SECONDS = 10.0
"""The list is lagging if it is more than this many seconds behind."""
TRUST_AGAIN_SECONDS = 60.0
"""Seconds without a missed end after which the list is trusted again."""
LIST_OVERLAP_SECONDS = 20.0
"""Longest overlap of a list query with the previous query, in seconds. The overlap is needed because runs appear in the list out
of order."""
LIST_OVERLAP_ITEMS = 100
"""If many runs end, the overlap is shortened, so that it returns at most this many entries (one page) a second time. The overlap
may return more entries if the list shows ends out of order."""

LIST_REACH_SECONDS = 900.0
"""Longest reach of a first query into the past, in seconds. Polls of single runs find earlier ends."""

_EVERY_END = float("inf")
"""Sentinel for `_missed_end`: the list is unavailable, so every end is missed."""


@dataclass(frozen=True)
class ListQuery:
    """A query for runs that have ended, and were last updated between two moments of the service's clock."""

    after: float
    before: float


@dataclass(frozen=True)
class ExpectedEnd:
    """From which moment on the list should show the end of a run."""

    added: float
    """When the wait began."""
    expected_from: float
    """If the run ended at or after this moment, the list should show its end. The moment may lie before the start of the wait."""


class RunListTracker:
    """What is known of the run list of one factory."""

    def __init__(self) -> None:
        self._listed_until: float | None = None
        """The list has been queried from `_listed_from` to this moment, without a gap."""
        self._listed_from = float("inf")
        self._reach_back_to: float | None = None
        """The next query must begin here or earlier, because of a new wait, or because the list showed an end too late."""
        self._entries_per_second = 0.0
        """Entries of the last answer, for each second of its window."""
        self._missed_end: float | None = None
        """The latest end that the list should have shown and did not show."""
        self._distrusted_until = float("-inf")
        """The list is not trusted before this moment (our clock), because of the missed end."""
        self._newest_shown = float("-inf")
        """The latest update of any run that the list has shown."""
        self.has_more = False
        """Whether a query that reaches further back than the last query will probably show more ends."""

    @property
    def is_lagging(self) -> bool:
        """Whether the list is not trusted, because it has missed an end, or is unavailable."""
        return self._missed_end is not None

    def reach_back(self, moment: float) -> None:
        """Make the next query begin at `moment` or earlier."""
        self._reach_back_to = moment if self._reach_back_to is None else min(self._reach_back_to, moment)

    def next_query(self, service_now: float, unseen_since: float) -> ListQuery:
        """Return the query to send now.

        :param unseen_since: the first moment at which an end may have been missed. For one run, this is the last moment at which
            the run was known to be active. If no such moment is known, it is the beginning of the wait.
        """
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
        """Forget which windows were queried, because only single runs are polled now. The next query is a first query again."""
        self._listed_until = None
        self._listed_from = float("inf")
        self._reach_back_to = None

    def take_answer(
        self, asked: ListQuery, items: Sequence[PipelineRun], expected: Mapping[str, ExpectedEnd], now: float
    ) -> list[PipelineRun]:
        """Record what the answer to `asked` shows. Returns the runs of `expected` that have ended.

        :param items: the entries of all pages of the answer.
        """
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
                # The previous query should have shown this end.
                is_late |= moment is not None and expected[run.run_id].added <= moment < (listed_before or moment)
        self.has_more = False
        if is_late and listed_before is not None:
            # The list showed an end too late. It may show more such ends, from before the window of this query.
            self.has_more = asked.after > listed_before - LIST_OVERLAP_SECONDS
            self.reach_back((listed_before if self.has_more else self._listed_until) - LIST_OVERLAP_SECONDS)
        caught_up = self._missed_end is not None and (
            self._missed_end == _EVERY_END or self._newest_shown >= self._missed_end
        )
        if caught_up and now >= self._distrusted_until:
            self._missed_end = None
        return ended

    def record_polled_end(self, ended: PipelineRun, expected: ExpectedEnd, now: float) -> None:
        """Record that a poll has found the end of a run. Stop trusting the list if it should have shown that end already."""
        moment = _updated_at(ended)
        if moment is None or self._listed_until is None or self._listed_until < expected.added:
            return
        if max(expected.expected_from, self._listed_from) <= moment <= self._listed_until - LAG_TOLERANCE_SECONDS:
            self._missed_end = moment if self._missed_end is None else max(moment, self._missed_end)
            self._distrusted_until = now + TRUST_AGAIN_SECONDS

    def record_unavailable(self, now: float) -> None:
        """Record that the list is unavailable."""
        self._missed_end, self._distrusted_until = _EVERY_END, now + TRUST_AGAIN_SECONDS


def _updated_at(run: PipelineRun) -> float | None:
    return None if run.last_updated is None else run.last_updated.timestamp()

"""Who may send a start next to a pipeline whose queue is full: the policy. Pure.

A pipeline with a `concurrency` queues at most 100 more runs, and refuses further starts (docs/backfills.md). Starts that were
refused wait here. A start that is let go is sent by its task, on a worker or in the triggerer. It may be refused again: then it
comes back, and keeps its place.

    the run list                             starts that are let go
    ---------------------------------------  -----------------------------------------------------------------------
    is believed                              in each round (10 s): one for each tenth of the queue that is free, and none
                                             beyond the last free place. For this, a start that was let go within 90 s
                                             counts as queued
    is believed, lets none go for 60 s       one
    cannot be read                           one, if nothing was let go within 30 s
    was wrong: a start came back, although   the same. If this start does not come back, the list is believed again. The
      it showed a free place                 queue then counts as no longer than what the list showed

The first start that was refused is the first that is let go. This rule orders the starts of one triggerer only.

So few go at once, because no triggerer knows which starts another triggerer lets go, and because a deferrable task needs a worker
slot to send its start. Most of the queue stays full meanwhile, unless more than 10 runs end in a round.

A busy Airflow may need long to resume a task. If its start did not count as queued until then, others would be let go for the
same place, and would keep more and more workers busy. A start that was accepted in the meantime counts twice. This slows nothing
down, because at most 10 starts go in a round anyway.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

MOST_QUEUED = 100
"""Runs of one pipeline that the service queues (Microsoft's documentation of concurrency)."""
ROUND_SECONDS = 10.0
"""Seconds between two queries for the queued runs of a factory."""
UNDER_WAY_SECONDS = 30.0
"""Seconds in which a start that was let go is either accepted, or refused and back here."""
COUNTED_SECONDS = 90.0
"""Seconds for which a start that was let go counts as queued."""
STALE_SECONDS = 60.0
"""If the list lets no start go for this many seconds, one is sent all the same."""
PARTS = 10
"""For each of so many parts of the queue that is free, one start is let go in a round."""


@dataclass
class Turns:
    """The starts of one pipeline that wait for their turn."""

    _waiting: dict[Hashable, float] = field(default_factory=dict)
    """By start: when it was refused first, which is its place."""
    _let_go: dict[Hashable, float] = field(default_factory=dict)
    """By start: when it was let go, within `COUNTED_SECONDS`."""
    _came_back_at: float | None = None
    """When a start came back last."""
    _moved_at: float | None = None
    """When the last start was let go, or the first start began to wait."""
    _limit: int = field(default_factory=lambda: MOST_QUEUED)
    """How many runs may be queued, as far as the answers have shown."""
    _shown: int | None = None
    """How many runs the list showed as queued when starts were let go last; None if it could not be read."""
    _is_believed: bool = True
    _is_probing: bool = False
    """One start was let go to find out whether the list can be believed."""

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, token: Hashable, refused_at: float, *, now: float) -> None:
        """Let a start wait.

        :param token: identifies the start. A start that is refused again has the same token.
        :param refused_at: epoch seconds at which this try's start was refused first.
        """
        self._waiting[token] = refused_at
        self._moved_at = now if self._moved_at is None else self._moved_at
        let_go_at = self._let_go.pop(token, None)
        if let_go_at is not None and let_go_at > now - COUNTED_SECONDS:
            self._came_back_at, self._is_probing = now, False
            if self._shown is not None and self._shown < self._limit:
                # There was no place, although the list showed one.
                self._is_believed, self._limit = False, self._shown

    def remove(self, token: Hashable) -> None:
        """Forget a start whose wait has ended otherwise."""
        self._waiting.pop(token, None)

    def next(self, now: float, queued: int | None) -> list[Hashable]:
        """The starts that may be sent now. They no longer wait.

        :param queued: how many runs of the pipeline the list shows as queued; None if the list cannot be read.
        """
        self._let_go = {token: at for token, at in self._let_go.items() if at > now - COUNTED_SECONDS}
        if self._is_probing and not self._is_under_way(now):
            self._is_believed, self._is_probing = True, False
        if queued is not None:
            self._limit = max(self._limit, min(queued, MOST_QUEUED))
        first = sorted(self._waiting, key=self._waiting.__getitem__)[: self._how_many(now, queued)]
        for token in first:
            del self._waiting[token]
            self._let_go[token] = now
        if first:
            self._moved_at, self._shown = now, queued
        return first

    def _is_under_way(self, now: float) -> bool:
        moments = [*self._let_go.values(), *([] if self._came_back_at is None else [self._came_back_at])]
        return any(at > now - UNDER_WAY_SECONDS for at in moments)

    def _how_many(self, now: float, queued: int | None) -> int:
        if queued is not None and self._is_believed:
            shown_free = self._limit - queued
            free = shown_free - len(self._let_go)
            is_stale = self._moved_at is not None and now - self._moved_at >= STALE_SECONDS
            return max(min(free, shown_free * PARTS // max(self._limit, 1)), int(is_stale))
        if self._is_under_way(now):
            return 0
        self._is_probing = not self._is_believed
        return 1

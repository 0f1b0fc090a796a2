"""Which of many runs to look at next, and when: those not looked at for longest first, within a budget. Pure."""

from __future__ import annotations

import heapq

CANARIES = 1.0
"""Looks at single runs a second while the list keeps up. They measure its lag, and bound how long it can hide one run:
runs waited for / CANARIES."""
BUDGET = 10.0
"""Looks at single runs a second at most. The bound on detection with a list that shows nothing: max(60 s, runs / BUDGET)."""
BURST = 100
"""Looks that may be made at once when the list is first caught missing something."""

NEVER = float("-inf")
"""When a run of which nothing is known was last looked at."""


class Looks:
    """The runs that are waited for, in the order in which they are to be looked at. Times are epoch seconds."""

    def __init__(self, jitter: float) -> None:
        self._last: dict[str, float] = {}
        """When each run was last looked at."""
        self._queue: list[tuple[float, str]] = []
        """The same, oldest first; entries that differ from `_last` are obsolete."""
        self._next = NEVER
        """From when on the budget allows another."""
        self._credit = 0
        """Looks that need not wait for that."""
        self._jitter = jitter

    def __len__(self) -> int:
        """How many entries are held, obsolete ones among them."""
        return len(self._queue)

    def put(self, run_id: str, moment: float) -> None:
        """The run was last looked at then; `NEVER` puts it before all others."""
        self._last[run_id] = moment
        heapq.heappush(self._queue, (moment, run_id))

    def remove(self, run_id: str) -> None:
        """The run is not to be looked at any more."""
        self._last.pop(run_id, None)
        if len(self._queue) > 2 * len(self._last) + BURST:
            # Behind one that is looked at seldom, what is obsolete would pile up.
            self._queue = [(moment, of) for of, moment in self._last.items()]
            heapq.heapify(self._queue)

    def due(self) -> str | None:
        """The run that was not looked at for longest."""
        while self._queue:
            moment, run_id = self._queue[0]
            if self._last.get(run_id) == moment:
                return run_id
            heapq.heappop(self._queue)
        return None

    @property
    def some_unknown(self) -> bool:
        """Whether nothing is known of some run."""
        return bool(self._queue) and self._queue[0][0] == NEVER

    def when(self, run_id: str, interval: float, now: float) -> float:
        """From when on the run may be looked at, which is not to be looked at more often than every `interval` seconds."""
        last = self._last[run_id]
        if last == NEVER:
            return max(self._next, now - 1)
        due = last + interval * (0.95 + self._jitter / 10)
        return due if self._credit >= 1 else max(due, self._next)

    def spend(self, run_id: str, now: float, *, is_full: bool, slow: float) -> None:
        """The run is looked at now, at the full pace or that of canaries, divided by `slow`."""
        if self._credit >= 1:
            self._credit -= 1
        else:
            rate = (BUDGET * 1.2 if is_full else CANARIES) / slow
            self._next = max(self._next, now - 1) + 1 / rate
        self.put(run_id, now)

    def burst(self) -> None:
        """The next `BURST` looks need not wait for the budget."""
        self._credit = BURST

"""Which of many runs to look at next, and when: those longest overdue first, within a budget. Pure."""

from __future__ import annotations

import heapq

CANARIES = 1.0
"""Looks at single runs a second while the list is trusted. They measure its lag. They also bound how long it can hide an end
before it is caught: the run's own interval and a twentieth, and runs waited for / CANARIES."""
BUDGET = 10.0
"""Looks at single runs a second, and a fifth more, at most, once the list was caught missing an end. The bound is then: the
run's own interval and a twentieth, and runs waited for / BUDGET."""
POLL_BURST = 100
"""Looks that may be made at once when the list is first caught missing something."""

NEVER = float("-inf")
"""When a run of which nothing is known was last looked at."""


class PollQueue:
    """The runs that are waited for, in the order in which they are to be looked at. Times are seconds of our clock."""

    def __init__(self, jitter: float) -> None:
        self._last: dict[str, float] = {}
        """When each run was last looked at."""
        self._due: dict[str, float] = {}
        """When each is to be looked at again."""
        self._queue: list[tuple[float, str]] = []
        """The same, in order; entries that differ from `_due` are obsolete."""
        self._again: list[tuple[float, str]] = []
        """So, too, those of runs that are to be looked at again soon, whatever the pace of the others."""
        self._was_again = False
        self._next = NEVER
        """From when on the budget allows another."""
        self._credit = 0
        """Looks that need not wait for that."""
        self._jitter = jitter

    def __len__(self) -> int:
        """How many entries are held, obsolete ones among them."""
        return len(self._queue) + len(self._again)

    def put(self, run_id: str, last: float, interval: float) -> None:
        """The run was last looked at then, and is to be looked at every `interval` seconds; `NEVER` puts it first."""
        self._last[run_id] = last
        self._due[run_id] = due = last + interval * (0.95 + self._jitter / 10)
        heapq.heappush(self._queue, (due, run_id))

    def retry(self, run_id: str, last: float, due: float) -> None:
        """The run is to be looked at again then, before those that are overdue."""
        self._last[run_id] = last
        self._due[run_id] = due
        heapq.heappush(self._again, (due, run_id))

    def set_interval(self, run_id: str, interval: float) -> None:
        """The run is to be looked at every `interval` seconds from now on."""
        self.put(run_id, self._last[run_id], interval)

    def remove(self, run_id: str) -> None:
        """The run is not to be looked at any more."""
        if self._due.pop(run_id, None) is None:
            return
        del self._last[run_id]
        if len(self._queue) > 2 * len(self._due) + POLL_BURST:
            # Behind a run that is due late, what is obsolete would pile up.
            self._queue = [(due, of) for due, of in self._queue if self._due.get(of) == due]
            heapq.heapify(self._queue)

    def first(self, now: float) -> str | None:
        """The run that is to be looked at next."""
        usual, again = self._head(self._queue), self._head(self._again)
        if usual is None or again is None:
            return usual or again
        if max(self._due[usual], self._due[again]) <= now:
            # By turns, so that many that fail do not keep the others waiting.
            return usual if self._was_again else again
        return min(usual, again, key=self._due.__getitem__)

    def _head(self, queue: list[tuple[float, str]]) -> str | None:
        while queue:
            due, run_id = queue[0]
            if self._due.get(run_id) == due:
                return run_id
            heapq.heappop(queue)
        return None

    @property
    def some_unknown(self) -> bool:
        """Whether nothing is known of some run."""
        return bool(self._queue) and self._queue[0][0] == NEVER

    def when(self, run_id: str, now: float) -> float:
        """From when on the run may be looked at."""
        due = self._due[run_id]
        if due == NEVER:
            # As soon as the budget allows.
            return max(self._next, now - 1)
        return due if self._credit >= 1 else max(due, self._next)

    def spend(self, run_id: str, now: float, *, is_full: bool, slow: float) -> None:
        """The run is looked at now, at the full pace or at that of canaries, divided by `slow`."""
        self._was_again = bool(self._again) and self._again[0] == (self._due[run_id], run_id)
        if self._credit >= 1:
            self._credit -= 1
            return
        rate = (BUDGET * 1.2 if is_full else CANARIES) / slow
        self._next = max(self._next, now - 1) + 1 / rate

    def burst(self) -> None:
        """The next `BURST` looks need not wait for the budget."""
        self._credit = POLL_BURST

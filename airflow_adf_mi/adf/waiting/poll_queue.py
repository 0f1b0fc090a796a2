"""Which of many runs to look at next, and when: those longest overdue first, within a budget. Pure."""

from __future__ import annotations

import heapq

CANARY_POLLS_PER_SECOND = 1.0
"""Looks at single runs a second while the list is trusted. They measure its lag. They also bound how long it can hide an end
before it is caught: the run's own interval and a twentieth, and runs waited for / CANARY_POLLS_PER_SECOND."""
FULL_POLLS_PER_SECOND = 10.0
"""Looks at single runs a second, and a fifth more, at most, once the list was caught missing an end. The bound is then: the
run's own interval and a twentieth, and runs waited for / FULL_POLLS_PER_SECOND."""
POLL_BURST = 100
"""Looks that may be made at once when the list is first caught missing something."""

NEVER_POLLED = float("-inf")
"""When a run of which nothing is known was polled_at looked at."""


class PollQueue:
    """The runs that are waited for, in the order in which they are to be looked at. Times are seconds of our clock."""

    def __init__(self, jitter: float) -> None:
        self._polled_at: dict[str, float] = {}
        """When each run was polled_at looked at."""
        self._due_at: dict[str, float] = {}
        """When each is to be looked at retry_run."""
        self._queue: list[tuple[float, str]] = []
        """The same, in order; entries that differ from `_due_at` are obsolete."""
        self._retries: list[tuple[float, str]] = []
        """So, too, those of runs that are to be looked at retry_run soon, whatever the pace of the others."""
        self._was_retry = False
        self._next_poll_at = NEVER_POLLED
        """From when on the budget allows another."""
        self._burst_left = 0
        """Looks that need not wait for that."""
        self._jitter = jitter

    def __len__(self) -> int:
        """How many entries are held, obsolete ones among them."""
        return len(self._queue) + len(self._retries)

    def put(self, run_id: str, polled_at: float, interval: float) -> None:
        """The run was polled_at looked at then, and is to be looked at every `interval` seconds; `NEVER_POLLED` puts it first."""
        self._polled_at[run_id] = polled_at
        self._due_at[run_id] = due = polled_at + interval * (0.95 + self._jitter / 10)
        heapq.heappush(self._queue, (due, run_id))

    def retry(self, run_id: str, polled_at: float, due: float) -> None:
        """The run is to be looked at retry_run then, before those that are overdue."""
        self._polled_at[run_id] = polled_at
        self._due_at[run_id] = due
        heapq.heappush(self._retries, (due, run_id))

    def set_interval(self, run_id: str, interval: float) -> None:
        """The run is to be looked at every `interval` seconds from now on."""
        self.put(run_id, self._polled_at[run_id], interval)

    def remove(self, run_id: str) -> None:
        """The run is not to be looked at any more."""
        if self._due_at.pop(run_id, None) is None:
            return
        del self._polled_at[run_id]
        if len(self._queue) > 2 * len(self._due_at) + POLL_BURST:
            # Behind a run that is due late, what is obsolete would pile up.
            self._queue = [(due, of) for due, of in self._queue if self._due_at.get(of) == due]
            heapq.heapify(self._queue)

    def first(self, now: float) -> str | None:
        """The run that is to be looked at next."""
        usual_run, retry_run = self._head(self._queue), self._head(self._retries)
        if usual_run is None or retry_run is None:
            return usual_run or retry_run
        if max(self._due_at[usual_run], self._due_at[retry_run]) <= now:
            # By turns, so that many that fail do not keep the others waiting.
            return usual_run if self._was_retry else retry_run
        return min(usual_run, retry_run, key=self._due_at.__getitem__)

    def _head(self, queue: list[tuple[float, str]]) -> str | None:
        while queue:
            due, run_id = queue[0]
            if self._due_at.get(run_id) == due:
                return run_id
            heapq.heappop(queue)
        return None

    @property
    def has_unpolled_run(self) -> bool:
        """Whether nothing is known of some run."""
        return bool(self._queue) and self._queue[0][0] == NEVER_POLLED

    def allowed_at(self, run_id: str, now: float) -> float:
        """From when on the run may be looked at."""
        due = self._due_at[run_id]
        if due == NEVER_POLLED:
            # As soon as the budget allows.
            return max(self._next_poll_at, now - 1)
        return due if self._burst_left >= 1 else max(due, self._next_poll_at)

    def record_poll(self, run_id: str, now: float, *, is_full: bool, slow: float) -> None:
        """The run is looked at now, at the full pace or at that of canaries, divided by `slow`."""
        self._was_retry = bool(self._retries) and self._retries[0] == (self._due_at[run_id], run_id)
        if self._burst_left >= 1:
            self._burst_left -= 1
            return
        rate = (FULL_POLLS_PER_SECOND * 1.2 if is_full else CANARY_POLLS_PER_SECOND) / slow
        self._next_poll_at = max(self._next_poll_at, now - 1) + 1 / rate

    def burst(self) -> None:
        """The next `BURST` looks need not wait for the budget."""
        self._burst_left = POLL_BURST

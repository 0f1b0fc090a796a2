"""Which of many runs to poll next, and when: the longest overdue first, within a budget of polls a second. Pure."""

from __future__ import annotations

import heapq

CANARY_POLLS_PER_SECOND = 1.0
"""Polls of single runs in each second while the list is trusted. These polls measure how far the list lags. With them, the
list can hide an end for 1.05 * the run's own interval, plus 1 s / CANARY_POLLS_PER_SECOND for each run that is waited for."""
FULL_POLLS_PER_SECOND = 10.0
"""Polls of single runs in each second after the list has missed an end; a fifth more are sent if they are due. An end is then
detected within 1.05 * the run's own interval, plus 1 s / FULL_POLLS_PER_SECOND for each run that is waited for."""
POLL_BURST = 100
"""Polls that may be sent at once when the list is first found to lag."""

NEVER_POLLED = float("-inf")
"""Stands for the moment of the last poll of a run that was never polled."""


class PollQueue:
    """The runs that are waited for, in the order of their next polls. Times are seconds of our clock."""

    def __init__(self, jitter: float) -> None:
        self._polled_at: dict[str, float] = {}
        """When each run was last polled."""
        self._due_at: dict[str, float] = {}
        """When each run is due to be polled again."""
        self._queue: list[tuple[float, str]] = []
        """A heap of the same moments. Entries that differ from `_due_at` are obsolete."""
        self._retries: list[tuple[float, str]] = []
        """A heap of the runs whose last poll failed. They are polled again soon, without a place behind all other runs."""
        self._was_retry = False
        self._next_poll_at = NEVER_POLLED
        """The budget allows no poll before this moment."""
        self._burst_left = 0
        """How many polls may be sent without regard to the budget."""
        self._jitter = jitter

    def __len__(self) -> int:
        """How many entries are stored, including obsolete ones."""
        return len(self._queue) + len(self._retries)

    def put(self, run_id: str, polled_at: float, interval: float) -> None:
        """Poll the run every `interval` seconds after `polled_at`, the moment of its last poll. `NEVER_POLLED` puts the run
        first.
        """
        self._polled_at[run_id] = polled_at
        self._due_at[run_id] = due = polled_at + interval * (0.95 + self._jitter / 10)
        heapq.heappush(self._queue, (due, run_id))

    def retry(self, run_id: str, polled_at: float, due: float) -> None:
        """Poll the run again at `due`, without a place behind all runs that are overdue."""
        self._polled_at[run_id] = polled_at
        self._due_at[run_id] = due
        heapq.heappush(self._retries, (due, run_id))

    def set_interval(self, run_id: str, interval: float) -> None:
        """Poll the run every `interval` seconds from now on."""
        self.put(run_id, self._polled_at[run_id], interval)

    def remove(self, run_id: str) -> None:
        """Forget the run."""
        if self._due_at.pop(run_id, None) is None:
            return
        del self._polled_at[run_id]
        if len(self._queue) > 2 * len(self._due_at) + POLL_BURST:
            # Obsolete entries are dropped when they reach the head of the heap. Behind a run that is due late, they would pile
            # up.
            self._queue = [(due, of) for due, of in self._queue if self._due_at.get(of) == due]
            heapq.heapify(self._queue)

    def first(self, now: float) -> str | None:
        """The run to poll next."""
        usual_run, retry_run = self._head(self._queue), self._head(self._retries)
        if usual_run is None or retry_run is None:
            return usual_run or retry_run
        if max(self._due_at[usual_run], self._due_at[retry_run]) <= now:
            # Take turns, so that many failing runs do not keep the other runs waiting.
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
        """Whether some run was never polled."""
        return bool(self._queue) and self._queue[0][0] == NEVER_POLLED

    def allowed_at(self, run_id: str, now: float) -> float:
        """When the run may be polled."""
        due = self._due_at[run_id]
        if due == NEVER_POLLED:
            # It may be polled as soon as the budget allows.
            return max(self._next_poll_at, now - 1)
        return due if self._burst_left >= 1 else max(due, self._next_poll_at)

    def record_poll(self, run_id: str, now: float, *, is_full: bool, slow: float) -> None:
        """Record that the run is polled now, and take the poll from the budget.

        :param is_full: use the budget of full pace, not that of canaries.
        :param slow: divides the budget.
        """
        self._was_retry = bool(self._retries) and self._retries[0] == (self._due_at[run_id], run_id)
        if self._burst_left >= 1:
            self._burst_left -= 1
            return
        rate = (FULL_POLLS_PER_SECOND * 1.2 if is_full else CANARY_POLLS_PER_SECOND) / slow
        self._next_poll_at = max(self._next_poll_at, now - 1) + 1 / rate

    def burst(self) -> None:
        """Let the next `POLL_BURST` polls ignore the budget."""
        self._burst_left = POLL_BURST

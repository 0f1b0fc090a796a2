"""The queue of a pipeline that has a concurrency."""

from __future__ import annotations

from airflow_adf_mi.emulator.errors import FullQueueError
from airflow_adf_mi.emulator.pipelines.runs import Run
from airflow_adf_mi.emulator.switches import Switches


class Queue:
    """The runs of one pipeline that wait for its concurrency, first come first served, and how many are in progress."""

    def __init__(self) -> None:
        self._waiting: list[Run] = []
        self._due: set[str] = set()
        self._in_progress = 0

    def check(self, concurrency: int, switches: Switches) -> None:
        """Raise `FullQueueError` if no further run may wait. A run for which there is a free place does not wait."""
        free = max(0, concurrency - self._in_progress)
        if len(self._waiting) >= free + switches.most_queued:
            raise FullQueueError(switches.full_queue_status, switches.most_queued)

    def add(self, run: Run) -> None:
        self._waiting.append(run)

    def mark_due(self, run: Run) -> None:
        """Let a run begin as soon as there is a place. Until then it also keeps back the runs behind it."""
        self._due.add(run.run_id)

    def remove(self, run: Run) -> None:
        """Take a run out, because it was cancelled. Runs that do not wait are ignored."""
        self._due.discard(run.run_id)
        if run in self._waiting:
            self._waiting.remove(run)

    def begin_next(self, concurrency: int) -> Run | None:
        """The next run that begins, if any. It is in progress from now on."""
        if not self._waiting or self._waiting[0].run_id not in self._due or self._in_progress >= concurrency:
            return None
        run = self._waiting[0]
        self.remove(run)
        self._in_progress += 1
        return run

    def end(self) -> None:
        """Give the place of a run back that was in progress."""
        self._in_progress -= 1

"""A task whose tries follow each other, on a service that exists in memory."""

from __future__ import annotations

from typing import Any

from airflow_adf_mi.adf.starting.intent import TaskTry, read_intent
from airflow_adf_mi.adf.starting.start import Start
from airflow_adf_mi.adf.starting.start_or_adopt import start_or_adopt
from airflow_adf_mi.adf.starting.started import StillActive
from airflow_adf_mi.adf.timing import Timing
from tests.support.routines import FACTORY
from tests.support.service import MemoryJournal, Service, run_on

__all__ = ["CLEARED", "CLEARED_WHILE_RUNNING", "FACTORY", "FIRST", "RETRY", "RETRY_OF_CLEAR", "SECOND_RETRY", "World"]

FIRST = TaskTry(try_number=1, max_tries=2, clear_number=0)
RETRY = TaskTry(try_number=2, max_tries=2, clear_number=0)
CLEARED = TaskTry(try_number=2, max_tries=3, clear_number=1)
SECOND_RETRY = TaskTry(try_number=3, max_tries=2, clear_number=0)
RETRY_OF_CLEAR = TaskTry(try_number=3, max_tries=3, clear_number=1)
CLEARED_WHILE_RUNNING = TaskTry(try_number=2, max_tries=2, clear_number=1)


class World:
    """A task whose tries follow each other."""

    def __init__(self, **service: Any) -> None:
        self.service = Service(**service)
        self.journal = MemoryJournal(self.service)

    def begin(self, task_try: TaskTry, *, cancel: bool = True, **start: Any) -> Any:
        """What a try begins with, after a superseded run has ended."""
        order = Start(**{"factory": FACTORY, "pipeline_name": "Load", **start})
        while True:
            stored = read_intent(self.journal.kept, order.intent(task_try))
            routine = start_or_adopt(
                order,
                stored,
                task_try,
                cancel_superseded=cancel,
                timing=Timing(clock=self.service.clock, jitter=lambda: 0.5),
            )
            begun = run_on(routine, self.service, self.journal)
            if not isinstance(begun, StillActive):
                return begun
            assert begun.intent.run_id == begun.run.run_id, "another run would be waited for"
            self.service.settle_cancels()
            if begun.run.run_id in self.service.live():
                # The run is not cancelled. The try only waits for it.
                self.service.end(begun.run.run_id, "Succeeded")

    def status(self, run_id: str) -> str:
        return str(self.service.runs[run_id]["status"])

"""The deadlines of a try: by `timeout`, which counts from a start, and by `execution_timeout`, which counts for the try."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from airflow_adf_mi.adf.waiting.deadlines import (
    DEFERRED_MARGIN,
    WORKER_MARGIN,
    Deadline,
    deadline_of,
    execution_deadline,
    in_seconds,
    kept_deadline,
)

if TYPE_CHECKING:
    from airflow_adf_mi._airflow.task import PipelineTask


class TryDeadlines:
    """The deadlines of a try.

    :param began: returns the moment from which `execution_timeout` counts, in epoch seconds.
    """

    def __init__(self, task: PipelineTask, began: Callable[[], float]) -> None:
        self._task = task
        self._began = began
        self._margin = DEFERRED_MARGIN if task.deferrable else WORKER_MARGIN

    def of_wait(self, counts_from: float) -> Deadline:
        """The deadline of a wait whose `timeout` counts from this moment."""
        return deadline_of(
            self._task.timeout,
            counts_from=counts_from,
            execution_timeout=in_seconds(self._task.execution_timeout),
            try_began=self._began(),
            margin=self._margin,
        )

    def kept(self, at: float) -> Deadline:
        """The deadline of a wait that this try has already begun. It stays the same."""
        return kept_deadline(at, self._task.timeout, self.of_try())

    def of_try(self) -> Deadline | None:
        """The deadline by `execution_timeout`, if the task has one."""
        limit = in_seconds(self._task.execution_timeout)
        return execution_deadline(limit, try_began=self._began(), margin=self._margin)

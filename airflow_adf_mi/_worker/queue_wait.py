"""A try whose start a full queue has refused: it waits for a place in the queue of its pipeline, and then sends the start again.

A deferrable task waits in the triggerer, and resumes in `execute_in_turn`. Another task waits here, and keeps its worker slot.
The moment of the first refusal is the place in the line, and `timeout` counts from it. It is stored with the intent, so it
outlives a deferral.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from airflow_adf_mi._airflow.task_instance import task_try_of
from airflow_adf_mi._worker.owned_run import OwnedRun
from airflow_adf_mi._worker.try_deadlines import TryDeadlines
from airflow_adf_mi.adf.errors import AdfQueueFullError
from airflow_adf_mi.adf.reporting.report import queue_was_full
from airflow_adf_mi.adf.starting.intent import Intent, Phase
from airflow_adf_mi.adf.starting.start import Start
from airflow_adf_mi.adf.timing import REAL_TIME
from airflow_adf_mi.adf.waiting.deadlines import deferral_timeout
from airflow_adf_mi.triggers.queue import AdfPipelineQueueTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_adf_mi._airflow.task import PipelineTask
    from airflow_adf_mi.adf.config.settings import AdfSettings

PAUSE_SECONDS = 30.0
"""A task that waits on a worker sends its start again after about this many seconds."""


class QueueWait:
    """The wait of one try for a place in the queue of its pipeline.

    :param waits_since: the moment from which the try's waits for other runs count, in epoch seconds.
    """

    def __init__(
        self, task: PipelineTask, context: Context, deadlines: TryDeadlines, waits_since: Callable[[], float]
    ) -> None:
        self._task = task
        self._context = context
        self._deadlines = deadlines
        self._waits_since = waits_since
        self._refused_at: float | None = None

    @property
    def refused_at(self) -> float | None:
        """When a full queue refused a start of this try first, in epoch seconds; None if none was refused."""
        return self._refused_at

    def resume(self, refused_at: float) -> None:
        """Continue the wait of an earlier part of this try."""
        self._refused_at = refused_at

    def remember(self, stored: Intent | None) -> None:
        """Take the moment of the first refusal from the stored intent, unless it is known."""
        self._refused_at = self._refused_at or self._refused_since(stored)

    def _refused_since(self, stored: Intent | None) -> float | None:
        """When a full queue refused a start of this try first, if this try's last start was refused."""
        is_own = stored is not None and stored.task_try.is_try_of(task_try_of(self._context))
        return stored.first_refused_at if stored is not None and is_own and stored.phase is Phase.PREPARED else None

    def wait(
        self,
        owned_run: OwnedRun,
        refusal: AdfQueueFullError,
        stored: Intent | None,
        start: Start,
        settings: AdfSettings,
    ) -> None:
        """Wait until the start may be sent again. A deferrable task is deferred, so this does not return."""
        is_first = self._refused_at is None
        self.remember(stored)
        now = time.time()
        self._refused_at = self._refused_at or now
        deadline = self._deadlines.of_wait(self._refused_at)
        if now >= deadline.at:
            raise self.error(start) from refusal
        owned_run.raise_if_killed()
        if self._task.deferrable:
            self._task.log.info(
                "The task waits for a place in the queue of pipeline %r. %s", start.pipeline_name, refusal
            )
            self._task.defer(
                trigger=AdfPipelineQueueTrigger(
                    settings=settings.to_json(),
                    resource_group_name=start.factory.resource_group_name,
                    factory_name=start.factory.factory_name,
                    pipeline_name=start.pipeline_name,
                    refused_at=self._refused_at,
                    deadline=deadline.at,
                ),
                method_name="execute_in_turn",
                kwargs={"waiting_since": self._waits_since()},
                timeout=deferral_timeout(deadline.at, now),
            )
        if is_first:
            self._task.log.warning(
                "The task waits for a place in the queue of pipeline %r, and keeps its worker slot. With deferrable=True, it "
                "would wait in the triggerer. %s",
                start.pipeline_name,
                refusal,
            )
        pause = PAUSE_SECONDS * (0.5 + REAL_TIME.jitter())
        owned_run.rest(min(pause, deadline.at - now))

    def error(self, start: Start) -> AdfQueueFullError:
        """The error of a deadline that passed while this try waited for a place."""
        deadline = self._deadlines.of_wait(self._refused_at or time.time())
        return queue_was_full(start.pipeline_name, start.factory, deadline.reason)

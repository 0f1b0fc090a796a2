"""The life of runs: queued, in progress, ended, cancelled. Events happen in order of time, by the clock.

Nothing happens by itself: `settle` runs the events that are due. So a test that drives the clock sees the same behaviour
every time.
"""

from __future__ import annotations

import heapq
import itertools
from collections import defaultdict
from collections.abc import Callable, Mapping
from copy import deepcopy
from functools import partial
from typing import Any

from airflow_adf_mi.emulator.clock import Clock
from airflow_adf_mi.emulator.errors import ServiceError
from airflow_adf_mi.emulator.pipelines import activities, recovery, runs
from airflow_adf_mi.emulator.pipelines.definitions import FactoryDefinition, PipelineDefinition
from airflow_adf_mi.emulator.pipelines.outcomes import Result
from airflow_adf_mi.emulator.pipelines.parameters import values_of
from airflow_adf_mi.emulator.pipelines.progress import Progress
from airflow_adf_mi.emulator.pipelines.queue import Queue
from airflow_adf_mi.emulator.pipelines.rendering import Address
from airflow_adf_mi.emulator.pipelines.runs import ActivityRun, Run
from airflow_adf_mi.emulator.pipelines.script import Script
from airflow_adf_mi.emulator.pipelines.walker import Walk
from airflow_adf_mi.emulator.switches import Switches


class Lifecycle:
    """The runs of one factory, and their progress."""

    execute = staticmethod(activities.execute)

    def __init__(
        self, definition: FactoryDefinition, address: Address, clock: Clock, script: Script, switches: Switches
    ) -> None:
        self.definition = definition
        self.address = address
        self.clock = clock
        self.script = script
        self.switches = switches
        self.runs: dict[str, Run] = {}
        self._now = clock.now()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._on_end: dict[str, Callable[[Run], None]] = {}
        # Only for pipelines with a concurrency, by name.
        self._queues: defaultdict[str, Queue] = defaultdict(Queue)

    @property
    def global_parameters(self) -> Mapping[str, Any]:
        return self.definition.global_parameters

    def settle(self) -> None:
        """Run all events that are due."""
        until = self.clock.now()
        while self._events and self._events[0][0] <= until:
            due, _, action = heapq.heappop(self._events)
            self._now = max(self._now, due)
            action()
        self._now = max(self._now, until)

    def now(self) -> float:
        """The time of the current event."""
        return self._now

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self._now + seconds, next(self._order), action))

    def touch(self, run: Run) -> None:
        """Record a change of `run`. From now on the service shows it."""
        run.last_updated = self._now
        self._show(run)

    def supersede(self, run: Run) -> None:
        """Make another run the latest one of the group. This does not count as an update of this run (recorded 2020)."""
        run.is_latest = False
        self._show(run)

    def _show(self, run: Run) -> None:
        if run.history and run.history[-1][0] == self._now:
            run.history.pop()
        run.history.append((self._now, run.wire(*self.address)))

    def start(
        self,
        run_id: str,
        definition: PipelineDefinition,
        values: Mapping[str, Any],
        invoked_by: Mapping[str, Any],
        *,
        problem: str | None = None,
        prepare: Callable[[Run], None] | None = None,
    ) -> Run:
        """Put a new run into the queue. `prepare` completes the run before it is visible.

        With a `problem`, the run fails when it begins. Raises `ServiceError`, and changes nothing, if the queue is full.
        """
        if definition.concurrency is not None:
            self._queues[definition.name].check(definition.concurrency, self.switches)
        run_script = self.script.for_run(definition.name, values)
        run = Run(
            run_id=run_id,
            definition=definition,
            values=values,
            created=self._now,
            group_id=run_id,
            script=self.script.pipeline(definition.name, run_script),
            run_script=run_script,
            invoked_by=invoked_by,
            problem=problem,
            # A copy for each run, because AppendVariable and SetVariable change it.
            variables=deepcopy(definition.variables),
        )
        if prepare is not None:
            prepare(run)
        self.runs[run_id] = run
        if definition.concurrency is not None:
            self._queues[definition.name].add(run)
        self.touch(run)
        self.after(run.script.queued_seconds, lambda: self._is_due(run))
        return run

    def start_child(
        self,
        parent: Run,
        activity: ActivityRun,
        pipeline: str,
        values: Mapping[str, Any],
        on_end: Callable[[Run], None],
        *,
        earlier: Progress | None,
    ) -> Run:
        """Start the run of an ExecutePipeline activity. Raises `ServiceError` if the service would refuse it.

        If the switch allows it, the run continues an `earlier` run.
        """
        definition = self.definition.pipeline(pipeline)
        if definition is None:
            raise ServiceError(400, "BadRequest", f"The pipeline '{pipeline}' was not found.")
        known, problem = values_of(definition, values, self.switches)

        def prepare(child: Run) -> None:
            child.parent_run_id = parent.run_id
            if earlier is not None and self.switches.recovery_reaches_children:
                child.progress = recovery.carried_over(earlier, definition.activities)
            parent.children.append(child)
            self._on_end[child.run_id] = on_end

        return self.start(
            runs.new_id(), definition, known, runs.by_activity(parent, activity), problem=problem, prepare=prepare
        )

    def cancel(self, run: Run, *, recursive: bool) -> None:
        """Begin to cancel a run that has not ended, and its children. A second call changes nothing."""
        if run.cancelled_at is None:
            run.cancelled_at = self._now
            run.status, run.message = "Canceling", ""
            self.touch(run)
            self._queues[run.pipeline].remove(run)
            if run.script.cancel == "wins" or run.started is None:
                self.after(run.script.cancel_seconds, lambda: self._cancelled(run))
        if recursive:
            for child in run.children:
                if not child.is_over:
                    self.cancel(child, recursive=True)

    def _is_due(self, run: Run) -> None:
        if run.status != "Queued":
            return
        if run.definition.concurrency is None:
            self._begin(run)
        else:
            self._queues[run.pipeline].mark_due(run)
            self._begin_queued(run.definition)

    def _begin_queued(self, definition: PipelineDefinition) -> None:
        queue = self._queues[definition.name]
        while (run := queue.begin_next(definition.concurrency or 1)) is not None:
            self._begin(run)

    def _begin(self, run: Run) -> None:
        run.started = self._now
        run.status, run.message = "InProgress", ""
        self.touch(run)
        if run.problem is not None:
            self._end(run, Result("Failed", run.problem, run.pipeline))
        else:
            end = partial(self._end, run)
            Walk(self, run, run.definition.activities, end, progress=run.progress).begin()

    def _end(self, run: Run, result: Result) -> None:
        if result.status == "Failed":
            self._close(run, "Failed", f"Operation on target {result.failed_activity} failed: {result.message}")
        else:
            self._close(run, "Succeeded", "")

    def _cancelled(self, run: Run) -> None:
        for entry in run.activities:
            if entry.ended is None:
                entry.status, entry.ended = "Cancelled", self._now
        self._close(run, "Cancelled", "")

    def _close(self, run: Run, status: str, message: str) -> None:
        run.status, run.message, run.ended = status, message, self._now
        self.touch(run)
        on_end = self._on_end.pop(run.run_id, None)
        if on_end is not None:
            on_end(run)
        if run.definition.concurrency is not None:
            if run.started is not None:
                self._queues[run.pipeline].end()
            self._begin_queued(run.definition)

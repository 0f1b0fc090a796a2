"""One data factory: its runs, moved by a clock.

Nothing happens by itself: every call first lets happen, in order of time, what was due by then. So a test that drives
the clock sees the same thing every time.
"""

from __future__ import annotations

import heapq
import itertools
import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from airflow_adf_mi.emulator import queries, recovery, runs
from airflow_adf_mi.emulator.clock import Clock
from airflow_adf_mi.emulator.definitions import FactoryDefinition, PipelineDefinition
from airflow_adf_mi.emulator.errors import ServiceError
from airflow_adf_mi.emulator.runs import ActivityRun, Run
from airflow_adf_mi.emulator.script import Script
from airflow_adf_mi.emulator.walker import Result, Walk

MOST_QUEUED = 100
"""Runs of one pipeline that may wait for its concurrency (Microsoft's documentation)."""


@dataclass
class Switches:
    """What no source establishes about the service. Defaults are the emulator's choice, not a claim."""

    run_id_from_request_id: bool = True
    """A run's id is the x-ms-client-request-id of its createRun, as in every recording; documented nowhere."""
    duplicate_request_id: Literal["conflict", "same", "new"] = "conflict"
    """A second createRun with a request id that is a run's id already: 409, the same run, or another run."""
    missing_parameter: Literal["refuse", "fail_run"] = "refuse"
    """A parameter without a value or default: 400, or a run that fails."""
    cancel_finished_status: int = 400
    """HTTP status of PipelineRunNotRunning; only its code and message were seen."""
    recovery_of_running: Literal["accept", "refuse"] = "accept"
    """isRecovery with a reference that has not ended."""
    page_size: int = 100
    list_lag_seconds: float = 0.0
    """How far queryPipelineRuns is behind PipelineRuns_Get; hours were reported."""
    list_frozen_at: float | None = None
    """Epoch seconds from which on queryPipelineRuns shows nothing new."""
    list_skipped: bool = True
    """Skipped activities appear among the activity runs."""
    get_visible_after: float = 0.0
    """Seconds for which PipelineRuns_Get answers 404 after createRun."""


class FactoryState:
    """A factory and everything that has run in it."""

    def __init__(
        self,
        definition: FactoryDefinition,
        *,
        subscription_id: str,
        resource_group_name: str,
        factory_name: str,
        clock: Clock,
        script: Script | None = None,
        switches: Switches | None = None,
    ) -> None:
        self.definition = definition
        self.subscription_id = subscription_id
        self.resource_group_name = resource_group_name
        self.factory_name = factory_name
        self.clock = clock
        self.script = script or Script()
        self.switches = switches or Switches()
        self.runs: dict[str, Run] = {}
        self._children_end: dict[str, Callable[[Run], None]] = {}
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._created = self._now = clock.now()

    @property
    def address(self) -> tuple[str, str, str]:
        return self.subscription_id, self.resource_group_name, self.factory_name

    @property
    def resource_id(self) -> str:
        return (
            f"/subscriptions/{self.subscription_id}/resourceGroups/{self.resource_group_name}"
            f"/providers/Microsoft.DataFactory/factories/{self.factory_name}"
        )

    @property
    def global_parameters(self) -> Mapping[str, Any]:
        return self.definition.global_parameters

    @property
    def list_skipped(self) -> bool:
        return self.switches.list_skipped

    def settle(self) -> None:
        """Let everything happen that is due by now."""
        until = self.clock.now()
        while self._events and self._events[0][0] <= until:
            due, _, action = heapq.heappop(self._events)
            self._now = max(self._now, due)
            action()
        self._now = max(self._now, until)

    def now(self) -> float:
        """The time of the event that is happening."""
        return self._now

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self._now + seconds, next(self._order), action))

    def touch(self, run: Run) -> None:
        """Something about `run` changed: it is shown so from now on."""
        run.last_updated = self._now
        run.history.append((self._now, run.wire(*self.address)))

    def create_run(
        self,
        pipeline: str,
        parameters: Mapping[str, Any] | None,
        *,
        client_request_id: str | None = None,
        reference_run_id: str | None = None,
        is_recovery: bool = False,
        start_activity_name: str | None = None,
        start_from_failure: bool = False,
    ) -> str:
        """Pipelines_CreateRun."""
        self.settle()
        definition = self._definition(pipeline)
        run_id = self._run_id(client_request_id)
        if run_id in self.runs:
            if self.switches.duplicate_request_id == "same":
                return run_id
            if self.switches.duplicate_request_id == "conflict":
                raise ServiceError(409, "Conflict", f"A pipeline run with id {run_id} already exists.")
            run_id = str(uuid.uuid4())
        reference = None
        if reference_run_id is not None:
            reference = recovery.reference(
                self.runs, reference_run_id, definition.name, is_recovery=is_recovery, switches=self.switches
            )
        values, missing = self._values(definition, parameters or {}, reference)
        carried = frozenset[str]()
        if reference is not None and is_recovery:
            carried = recovery.carried_over(
                reference, definition, start_activity=start_activity_name, from_failure=start_from_failure
            )
        run = self._new_run(run_id, definition, values, runs.manual())
        run.client_request_id = client_request_id
        if reference is not None and is_recovery:
            run.group_id = reference.group_id
            run.carried_over = carried
            run.outputs.update({name: reference.outputs[name] for name in carried if name in reference.outputs})
            for other in self.runs.values():
                if other.group_id == run.group_id and other is not run and other.is_latest:
                    other.is_latest = False
                    self.touch(other)
        self._queue(run, missing)
        return run_id

    def get_run(self, run_id: str) -> dict[str, Any]:
        """PipelineRuns_Get."""
        self.settle()
        run = self.runs.get(run_id.lower())
        if run is None or self.clock.now() - run.created < self.switches.get_visible_after:
            # The body for an unknown run is unverified; this is the recorded one of an unknown pipeline.
            raise ServiceError(
                404,
                "NotFound",
                "The document could not be retrieved because it does not exist.",
                target=f"{self.resource_id}/pipelineruns/{run_id}",
                details=None,
            )
        return run.wire(*self.address)

    def cancel_run(self, run_id: str, *, recursive: bool = False) -> None:
        """PipelineRuns_Cancel: accepted now, ended later, and possibly otherwise."""
        self.settle()
        run = self.runs.get(run_id.lower())
        if run is None:
            raise ServiceError(
                400,
                "ReferencedPipelineRunNotFound",
                f"Referenced pipeline run id {run_id} does not exist.",
                target="pipelinerun",
                details=None,
            )
        if run.is_over:
            raise ServiceError(
                self.switches.cancel_finished_status,
                "PipelineRunNotRunning",
                f"Pipeline run has already completed with status '{run.status}'."
                "Only pipeline runs that are in progress or queued can be canceled.",
                target=f"pipelinerun/{run_id}",
                details=None,
            )
        self._cancel(run, recursive=recursive)

    def query_runs(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """PipelineRuns_QueryByFactory."""
        self.settle()
        seen_from = self.clock.now() - self.switches.list_lag_seconds
        if self.switches.list_frozen_at is not None:
            seen_from = min(seen_from, self.switches.list_frozen_at)
        return queries.runs_page(body, self.runs.values(), seen_from, self.switches.page_size)

    def query_activity_runs(self, run_id: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """ActivityRuns_QueryByPipelineRun: an empty list for an unknown run (recorded 2021)."""
        self.settle()
        run = self.runs.get(run_id.lower())
        entries = [entry.wire(*self.address) for entry in run.activities] if run else []
        return queries.activities_page(body, entries, self.switches.page_size)

    def factory(self) -> dict[str, Any]:
        """Factories_Get."""
        shown: dict[str, Any] = {
            "name": self.factory_name,
            "id": self.resource_id,
            "type": "Microsoft.DataFactory/factories",
            "properties": {
                "provisioningState": "Succeeded",
                "createTime": runs.wire_time(self._created),
                "version": "2018-06-01",
                "factoryStatistics": {
                    "totalResourceCount": 0,
                    "maxAllowedResourceCount": 0,
                    "factorySizeInGbUnits": 0,
                    "maxAllowedFactorySizeInGbUnits": 0,
                },
            },
            "eTag": '"1a00f542-0000-0800-0000-62e564860000"',
            "location": self.definition.location,
        }
        if self.definition.identity:
            shown["identity"] = dict(self.definition.identity)
        shown["tags"] = dict(self.definition.tags)
        return shown

    def pipeline(self, name: str) -> dict[str, Any]:
        """Pipelines_Get."""
        definition = self._definition(name)
        return {
            "id": f"{self.resource_id}/pipelines/{definition.name}",
            "name": definition.name,
            "type": "Microsoft.DataFactory/factories/pipelines",
            "properties": {
                **definition.properties,
                "lastPublishTime": runs.wire_time(float(int(self._created))),
            },
            "etag": "8b011762-0000-0800-0000-62e564610000",
        }

    def pipelines(self) -> list[dict[str, Any]]:
        """Pipelines_ListByFactory."""
        return [self.pipeline(name) for name in self.definition.pipelines]

    def start_child(
        self,
        parent: Run,
        activity: ActivityRun,
        pipeline: str,
        values: Mapping[str, Any],
        on_end: Callable[[Run], None],
    ) -> Run:
        """Start the run of an ExecutePipeline activity. Raises `LookupError` for an unknown pipeline."""
        definition = self.definition.pipeline(pipeline)
        if definition is None:
            raise LookupError(pipeline)
        known, missing = self._values(definition, values, None)
        child = self._new_run(str(uuid.uuid4()), definition, known, runs.by_activity(parent, activity))
        child.parent_run_id = parent.run_id
        self._children_end[child.run_id] = on_end
        self._queue(child, missing)
        return child

    def _definition(self, pipeline: str) -> PipelineDefinition:
        definition = self.definition.pipeline(pipeline)
        if definition is None:
            raise ServiceError(
                404,
                "NotFound",
                "The document could not be retrieved because it does not exist.",
                target=f"{self.resource_id}/pipelines/{pipeline}",
                details=None,
            )
        return definition

    def _run_id(self, client_request_id: str | None) -> str:
        if client_request_id and self.switches.run_id_from_request_id:
            try:
                return str(uuid.UUID(client_request_id))
            except ValueError:
                pass  # Not a GUID: the service makes an id of its own.
        return str(uuid.uuid4())

    def _values(
        self, definition: PipelineDefinition, given: Mapping[str, Any], reference: Run | None
    ) -> tuple[dict[str, Any], list[str]]:
        """The parameters' values, and the names that have none. Undeclared ones are dropped (recorded 2021)."""
        if reference is not None:
            return dict(reference.values), []
        values = {}
        missing = []
        for name, declaration in definition.parameters.items():
            if name in given:
                values[name] = given[name]
            elif "defaultValue" in declaration:
                values[name] = declaration["defaultValue"]
            else:
                missing.append(name)
        if missing and self.switches.missing_parameter == "refuse":
            raise ServiceError(
                400,
                "BadRequest",
                f"The template validation failed: no value was given for the parameter(s) {', '.join(missing)}.",
                target=f"pipeline/{definition.name}/",
                details=None,
            )
        return values, missing

    def _new_run(
        self,
        run_id: str,
        definition: PipelineDefinition,
        values: Mapping[str, Any],
        invoked_by: Mapping[str, Any],
    ) -> Run:
        run_script = self.script.for_run(definition.name, values)
        return Run(
            run_id=run_id,
            definition=definition,
            values=values,
            created=self._now,
            group_id=run_id,
            script=self.script.pipeline(definition.name, run_script),
            run_script=run_script,
            invoked_by=invoked_by,
            # A copy each: AppendVariable and SetVariable change a run's own.
            variables=json.loads(json.dumps(definition.variables)),
        )

    def _queue(self, run: Run, missing: list[str]) -> None:
        queued = [other for other in self.runs.values() if other.pipeline == run.pipeline and other.status == "Queued"]
        if run.definition.concurrency is not None and len(queued) >= MOST_QUEUED:
            raise ServiceError(
                400,
                "BadRequest",
                "If the concurrency value is set for a pipeline, a maximum of 100 runs will be queued for execution.",
            )
        self.runs[run.run_id] = run
        self.touch(run)
        self.after(run.script.queued_seconds, lambda: self._begin(run, missing))

    def _begin(self, run: Run, missing: list[str]) -> None:
        if run.status != "Queued":
            return
        limit = run.definition.concurrency
        busy = sum(
            other.pipeline == run.pipeline and other.status in ("InProgress", "Canceling") and other.started is not None
            for other in self.runs.values()
        )
        if limit is not None and busy >= limit:
            # _end looks for the next one in the queue.
            return
        run.started = self._now
        run.status, run.message = "InProgress", ""
        self.touch(run)
        if missing:
            self._end(run, Result("Failed", f"The workflow parameter '{missing[0]}' is not found", run.pipeline))
            return
        Walk(self, run, run.definition.activities, lambda result: self._end(run, result)).begin()

    def _end(self, run: Run, result: Result) -> None:
        if run.is_over:
            return
        if result.status == "Failed":
            message = f"Operation on target {result.failed_activity} failed: {result.message}"
            self._close(run, "Failed", message)
        elif run.status == "Canceling" and run.script.cancel == "wins":
            return
        else:
            self._close(run, "Succeeded", "")

    def _cancel(self, run: Run, *, recursive: bool) -> None:
        if run.cancelled_at is not None:
            return
        run.cancelled_at = self._now
        run.status, run.message = "Canceling", ""
        self.touch(run)
        if run.script.cancel == "wins" or run.started is None:
            self.after(run.script.cancel_seconds, lambda: self._cancelled(run))
        if recursive:
            for child in list(self.runs.values()):
                if child.parent_run_id == run.run_id and not child.is_over:
                    self._cancel(child, recursive=recursive)

    def _cancelled(self, run: Run) -> None:
        if run.is_over:
            return
        for entry in run.activities:
            if entry.ended is None:
                entry.status, entry.ended = "Cancelled", self._now
        self._close(run, "Cancelled", "")

    def _close(self, run: Run, status: str, message: str) -> None:
        run.status, run.message, run.ended = status, message, self._now
        self.touch(run)
        on_end = self._children_end.pop(run.run_id, None)
        if on_end is not None:
            on_end(run)
        if run.definition.concurrency is not None:
            for other in self.runs.values():
                if other.pipeline == run.pipeline and other.status == "Queued":
                    self._begin(other, [])
                    break

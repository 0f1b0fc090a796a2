"""The state of one data factory, for ARM's operations."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from airflow_adf_mi.emulator.clock import Clock
from airflow_adf_mi.emulator.errors import ServiceError
from airflow_adf_mi.emulator.pipelines import recovery, rendering, runs
from airflow_adf_mi.emulator.pipelines.definitions import FactoryDefinition, PipelineDefinition, published_pipeline
from airflow_adf_mi.emulator.pipelines.lifecycle import Lifecycle
from airflow_adf_mi.emulator.pipelines.parameters import values_of
from airflow_adf_mi.emulator.pipelines.progress import Progress
from airflow_adf_mi.emulator.pipelines.runs import Run
from airflow_adf_mi.emulator.pipelines.script import Script
from airflow_adf_mi.emulator.service import queries
from airflow_adf_mi.emulator.switches import Switches

__all__ = ["FactoryState", "Switches"]

_FIRST_ETAG = "8b011762-0000-0800-0000-62e564610000"
_NOT_THERE = "The document could not be retrieved because it does not exist."


class FactoryState(Lifecycle):
    """A factory and all its runs. Operations raise `ServiceError` like the service.

    `runs` holds every run by its id. `script` and `switches` may be replaced at any time. Runs that have begun keep the entries
    of their pipeline, and read the entries of activities when those start.
    """

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
        address = (subscription_id, resource_group_name, factory_name)
        super().__init__(definition, address, clock, script or Script(), switches or Switches())
        self.subscription_id = subscription_id
        self.resource_group_name = resource_group_name
        self.factory_name = factory_name
        self._created = clock.now()
        # For pipelines that were published after the start, by name: tag and time.
        self._put: dict[str, tuple[str, float]] = {}

    @property
    def resource_id(self) -> str:
        return rendering.resource_id(self.address)

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
        """Pipelines_CreateRun. Without `is_recovery`, a reference gives its parameters, and those of the body are ignored."""
        self.settle()
        definition = self._definition(pipeline)
        run_id = self._new_id(client_request_id, is_recovery=is_recovery)
        if run_id in self.runs:
            if self.switches.duplicate_request_id == "same":
                return run_id
            if self.switches.duplicate_request_id == "conflict":
                raise ServiceError(409, "Conflict", f"A pipeline run with id {run_id} already exists.")
            run_id = runs.new_id()
        if reference_run_id is None:
            values, problem = values_of(definition, parameters or {}, self.switches)
            run = self.start(run_id, definition, values, runs.manual(), problem=problem)
        else:
            reference = recovery.reference(
                self.runs,
                reference_run_id,
                definition.name,
                is_recovery=is_recovery,
                switches=self.switches,
                now=self._now,
            )
            run = self._start_again(run_id, definition, reference, is_recovery, start_activity_name, start_from_failure)
        run.client_request_id = client_request_id
        return run_id

    def get_run(self, run_id: str) -> dict[str, Any]:
        """PipelineRuns_Get."""
        self.settle()
        run = self.runs.get(run_id.lower())
        if run is None or self.clock.now() - run.created < self.switches.get_visible_after:
            raise ServiceError(
                self.switches.unknown_run_status,
                self.switches.unknown_run_code,
                _NOT_THERE,
                target=f"{self.resource_id}/pipelineruns/{run_id}",
                details=None,
            )
        return run.wire(*self.address)

    def cancel_run(self, run_id: str, *, recursive: bool = False) -> None:
        """PipelineRuns_Cancel: accepted now. The run ends later, and may end with another status."""
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
        self.cancel(run, recursive=recursive)

    def query_runs(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """PipelineRuns_QueryByFactory."""
        self.settle()
        seen_from = self.clock.now() - self.switches.list_lag_seconds
        if self.switches.list_frozen_at is not None:
            seen_from = min(seen_from, self.switches.list_frozen_at)
        listed = [run for run in self.runs.values() if run.is_listed]
        return queries.runs_page(body, listed, seen_from, self.switches)

    def query_activity_runs(self, run_id: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """ActivityRuns_QueryByPipelineRun: an empty list for an unknown run (recorded 2021)."""
        self.settle()
        run = self.runs.get(run_id.lower())
        seen_from = self.clock.now() - self.switches.activity_list_lag_seconds
        entries = run.activities if run is not None else []
        return queries.activities_page(body, entries, self.address, seen_from, self.switches)

    def query_trigger_runs(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """TriggerRuns_QueryByFactory."""
        return queries.trigger_runs_page(body, self.clock.now(), self.switches)

    def factory(self) -> dict[str, Any]:
        """Factories_Get."""
        return rendering.factory(self.definition, self.address, self._created)

    def pipeline(self, name: str) -> dict[str, Any]:
        """Pipelines_Get."""
        definition = self._definition(name)
        etag, published = self._put.get(definition.name, (_FIRST_ETAG, self._created))
        return rendering.pipeline(definition, self.address, etag, published)

    def pipelines(self) -> list[dict[str, Any]]:
        """Pipelines_ListByFactory, without its envelope."""
        return [self.pipeline(name) for name in self.definition.pipelines]

    def put_pipeline(self, name: str, body: Mapping[str, Any], *, if_match: str | None = None) -> dict[str, Any]:
        """Pipelines_CreateOrUpdate. Runs that have already started keep their version of the pipeline.

        The code and text of 412, and the text of 400, are the emulator's own, because no source shows the service's.
        """
        self.settle()
        held = self.definition.pipeline(name)
        if if_match is not None and (held is None or if_match.strip('"') not in ("*", self.pipeline(name)["etag"])):
            raise ServiceError(412, "PreconditionFailed", f"If-Match {if_match} is not the etag of pipeline {name!r}.")
        try:
            # A name that differs only in case names the same pipeline. The service shows the first spelling.
            definition = published_pipeline(name if held is None else held.name, body)
        except ValueError as e:
            raise ServiceError(400, "BadRequest", f"The pipeline is not valid: {e}") from None
        etag = str(uuid.uuid4())
        self.definition = self.definition.with_pipeline(definition)
        self._put[definition.name] = (etag, self.clock.now())
        return rendering.pipeline(definition, self.address, etag, None)

    def _start_again(
        self,
        run_id: str,
        definition: PipelineDefinition,
        reference: Run,
        is_recovery: bool,  # noqa: FBT001 - passed on from the operation's own arguments
        start_activity: str | None,
        from_failure: bool,  # noqa: FBT001 - as above
    ) -> Run:
        """Start a run with another run's parameters. A recovery run also joins that run's group, as its latest run."""
        if not is_recovery:
            return self.start(run_id, definition, reference.values, runs.manual())
        if start_activity:  # which overrides `from_failure`
            progress = recovery.started_at(start_activity, reference.progress, definition)
        elif from_failure:
            progress = recovery.carried_over(reference.progress, definition.activities)
        else:
            progress = Progress()

        def prepare(run: Run) -> None:
            run.group_id = reference.group_id
            run.start_activity = start_activity
            run.progress = progress

        run = self.start(run_id, definition, reference.values, runs.manual(), prepare=prepare)
        for other in self.runs.values():
            if other.group_id == run.group_id and other is not run and other.is_latest:
                self.supersede(other)
        return run

    def _definition(self, pipeline: str) -> PipelineDefinition:
        definition = self.definition.pipeline(pipeline)
        if definition is None:
            raise ServiceError(
                404, "NotFound", _NOT_THERE, target=f"{self.resource_id}/pipelines/{pipeline}", details=None
            )
        return definition

    def _new_id(self, client_request_id: str | None, *, is_recovery: bool) -> str:
        """The client's request id if it is a GUID and the switches allow it. Otherwise a new id."""
        is_used = self.switches.run_id_from_request_id and (not is_recovery or self.switches.rerun_id_from_request_id)
        if client_request_id and is_used:
            try:
                return str(uuid.UUID(client_request_id))
            except ValueError:
                return runs.new_id()
        return runs.new_id()

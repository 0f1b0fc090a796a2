"""Runs and activity runs, and their form in the service's answers."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from airflow_adf_mi.emulator.pipelines.definitions import RETURN_VALUE, PipelineDefinition
from airflow_adf_mi.emulator.pipelines.expressions import UNKNOWN, Scope, evaluate, plain
from airflow_adf_mi.emulator.pipelines.guesses import Guess, text_of
from airflow_adf_mi.emulator.pipelines.progress import Assignment, Progress
from airflow_adf_mi.emulator.pipelines.rendering import run_resource_id, wire_milliseconds, wire_parameters, wire_time
from airflow_adf_mi.emulator.pipelines.script import PipelineScript, RunScript

log = logging.getLogger(__name__)

TERMINAL = frozenset({"Succeeded", "Failed", "Cancelled"})


@dataclass
class ActivityRun:
    """One attempt of one activity, in one iteration."""

    name: str
    kind: str
    pipeline: str
    run_id: str
    started: float
    activity_run_id: str = field(default_factory=lambda: new_id())
    ended: float | None = None
    status: str = "InProgress"
    input: Any = field(default_factory=dict)
    output: Mapping[str, Any] = field(default_factory=dict)
    error: Mapping[str, Any] | None = None
    retry_attempt: int | None = None
    iteration_hash: str = ""
    user_properties: Mapping[str, Any] = field(default_factory=dict)
    linked_service: str = ""

    def seen_at(self, moment: float) -> Self:
        """The activity run as it was at that moment, which must not be before its start."""
        if self.ended is None or self.ended <= moment:
            return self
        return replace(self, ended=None, status="InProgress", output={}, error=None)

    def wire(self, subscription: str, resource_group: str, factory: str) -> dict[str, Any]:
        """The form of ActivityRuns_QueryByPipelineRun. The specification lacks iterationHash and retryAttempt."""
        return {
            "id": f"{run_resource_id((subscription, resource_group, factory), self.run_id)}"
            f"/activityruns/{self.activity_run_id}",
            "activityName": self.name,
            "activityType": self.kind,
            "activityRunId": self.activity_run_id,
            "pipelineName": self.pipeline,
            "pipelineRunId": self.run_id,
            "activityRunStart": wire_time(self.started),
            "activityRunEnd": wire_time(self.ended),
            "durationInMs": wire_milliseconds(self.started, self.ended),
            "status": self.status,
            "error": self.error or {"errorCode": "", "message": "", "failureType": "", "target": self.name},
            "input": plain(self.input),
            "output": plain(self.output),
            "linkedServiceName": self.linked_service,
            "retryAttempt": self.retry_attempt,
            "iterationHash": self.iteration_hash,
            "userProperties": plain(self.user_properties),
        }


@dataclass
class Run:
    """A run of a pipeline."""

    run_id: str
    definition: PipelineDefinition
    values: Mapping[str, Any]
    """Parameters, as expressions see them."""
    created: float
    group_id: str
    script: PipelineScript
    run_script: RunScript
    client_request_id: str | None = None
    invoked_by: Mapping[str, Any] = field(default_factory=dict)
    parent_run_id: str | None = None
    status: str = "Queued"
    message: str | None = None
    started: float | None = None
    ended: float | None = None
    last_updated: float = 0.0
    is_latest: bool = True
    is_listed: bool = True
    """Whether queryPipelineRuns shows the run."""
    cancelled_at: float | None = None
    variables: dict[str, Any] = field(default_factory=dict)
    activities: list[ActivityRun] = field(default_factory=list)
    problem: str | None = None
    """The problem of its parameters. The run fails with it as soon as it begins."""
    start_activity: str | None = None
    """The activity that a recovery run starts from, however the activities before it ended."""
    progress: Progress = field(default_factory=Progress)
    """A recovery run begins with what it takes over from the earlier run."""
    return_value: dict[str, Any] = field(default_factory=dict)
    """The values that the pipeline returns to its caller (`pipelineReturnValue`)."""
    children: list[Run] = field(default_factory=list)
    history: list[tuple[float, dict[str, Any]]] = field(default_factory=list)
    """The versions of the run that the service showed, and since when. Lists that lag show an older version."""
    guesses: list[Guess] = field(default_factory=list)
    """The guesses for expressions that the emulator cannot evaluate. A child run lists its own."""

    @property
    def pipeline(self) -> str:
        return self.definition.name

    @property
    def is_over(self) -> bool:
        return self.status in TERMINAL

    @property
    def is_stopping(self) -> bool:
        """Whether the run has ended, or will end by a cancel that wins. Then nothing more happens in it."""
        return self.is_over or (self.status == "Canceling" and self.script.cancel == "wins")

    def assign(self, assignment: Assignment) -> None:
        """Change a variable, or the values that the pipeline returns."""
        if assignment.variable == RETURN_VALUE:
            self.return_value.update(assignment.value)
        elif assignment.appends:
            before = self.variables.get(assignment.variable)
            self.variables[assignment.variable] = [*(before if isinstance(before, list) else []), assignment.value]
        else:
            self.variables[assignment.variable] = assignment.value

    def guess(self, activity: str | None, what: str, expression: Any, taken: str, member: str | None = None) -> None:
        """Log and list a guess, once."""
        guess = Guess(
            pipeline=self.pipeline,
            activity=activity,
            what=what,
            expression=text_of(expression),
            taken=taken,
            member=member,
        )
        if guess not in self.guesses:
            self.guesses.append(guess)
            log.warning("%s Run %s.", guess, self.run_id)

    def wire(self, subscription: str, resource_group: str, factory: str) -> dict[str, Any]:
        """The recorded form: these keys in this order, the ARM part of the id in capitals, `runDimension` in the singular."""
        return {
            "id": run_resource_id((subscription, resource_group, factory), self.run_id),
            "runId": self.run_id,
            "debugRunId": None,
            "runGroupId": self.group_id,
            "pipelineName": self.pipeline,
            "parameters": wire_parameters(self.values),
            "invokedBy": dict(self.invoked_by),
            "runStart": wire_time(self.created),
            "runEnd": wire_time(self.ended),
            "durationInMs": wire_milliseconds(self.created, self.ended),
            "status": self.status,
            "message": self.message,
            "lastUpdated": wire_time(self.last_updated),
            "annotations": list(self.definition.properties.get("annotations") or []),
            "runDimension": self._dimensions(),
            "isLatest": self.is_latest,
        }

    def _dimensions(self) -> dict[str, Any]:
        declared = self.definition.properties.get("runDimensions")
        if not isinstance(declared, Mapping):
            return {}
        scope = Scope(parameters=self.values, run_id=self.run_id, pipeline=self.pipeline)
        known = {name: evaluate(value, scope) for name, value in declared.items()}
        for name, value in known.items():
            if value is UNKNOWN:
                self.guess(None, f"run dimension {name!r}", declared[name], "null")
        return plain(known)  # type: ignore[no-any-return]  # JSON


def new_id() -> str:
    """A new id, as the service makes it."""
    return str(uuid.uuid4())


def manual() -> dict[str, Any]:
    """`invokedBy` of a run started by createRun (recorded)."""
    return {"id": uuid.uuid4().hex, "name": "Manual", "invokedByType": "Manual"}


def by_activity(parent: Run, activity: ActivityRun) -> dict[str, Any]:
    """`invokedBy` of a run started by an ExecutePipeline activity."""
    return {
        "id": activity.activity_run_id,
        "name": activity.name,
        "invokedByType": "PipelineActivity",
        "pipelineName": parent.pipeline,
        "pipelineRunId": parent.run_id,
    }

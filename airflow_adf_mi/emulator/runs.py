"""Runs and activity runs, and how the service shows them."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from airflow_adf_mi.emulator.definitions import PipelineDefinition
from airflow_adf_mi.emulator.script import PipelineScript, RunScript

TERMINAL = frozenset({"Succeeded", "Failed", "Cancelled"})


def wire_time(epoch: float | None) -> str | None:
    """As recorded: up to 7 digits of fraction without trailing zeros, and Z."""
    if epoch is None:
        return None
    moment = datetime.fromtimestamp(epoch, UTC)
    fraction = f"{moment.microsecond:06d}0".rstrip("0")
    return moment.strftime("%Y-%m-%dT%H:%M:%S") + (f".{fraction}" if fraction else "") + "Z"


def wire_milliseconds(start: float | None, end: float | None) -> int | None:
    return None if start is None or end is None else round((end - start) * 1000)


def wire_parameters(values: Mapping[str, Any]) -> dict[str, str]:
    """Text as it is, anything else JSON-encoded (the specification's example)."""
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in values.items()}


def _scope(subscription: str, resource_group: str, factory: str) -> str:
    """The ARM part of an id, in capitals as recorded."""
    return (
        f"/subscriptions/{subscription}/resourceGroups/{resource_group}"
        f"/providers/Microsoft.DataFactory/factories/{factory}"
    ).upper()


@dataclass
class ActivityRun:
    """One attempt of one activity, in one iteration."""

    name: str
    kind: str
    pipeline: str
    run_id: str
    started: float
    activity_run_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    ended: float | None = None
    status: str = "InProgress"
    input: Any = field(default_factory=dict)
    output: Mapping[str, Any] = field(default_factory=dict)
    error: Mapping[str, Any] | None = None
    retry_attempt: int | None = None
    iteration_hash: str = ""
    user_properties: Mapping[str, Any] = field(default_factory=dict)
    linked_service: str = ""

    @property
    def last_updated(self) -> float:
        return self.started if self.ended is None else self.ended

    def wire(self, subscription: str, resource_group: str, factory: str) -> dict[str, Any]:
        """As of ActivityRuns_QueryByPipelineRun; the specification lacks iterationHash and retryAttempt."""
        run = f"{_scope(subscription, resource_group, factory)}/pipelineruns/{self.run_id}"
        return {
            "id": f"{run}/activityruns/{self.activity_run_id}",
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
            "input": self.input,
            "output": dict(self.output),
            "linkedServiceName": self.linked_service,
            "retryAttempt": self.retry_attempt,
            "iterationHash": self.iteration_hash,
            "userProperties": dict(self.user_properties),
        }


@dataclass
class Run:
    """A run of a pipeline."""

    run_id: str
    definition: PipelineDefinition
    values: Mapping[str, Any]
    """Parameters as expressions see them."""
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
    cancelled_at: float | None = None
    variables: dict[str, Any] = field(default_factory=dict)
    activities: list[ActivityRun] = field(default_factory=list)
    carried_over: frozenset[str] = frozenset()
    """Activities that a recovery run does not run again."""
    outputs: dict[str, Any] = field(default_factory=dict)
    history: list[tuple[float, dict[str, Any]]] = field(default_factory=list)
    """What the service showed of it, and from when: lists look at it from behind."""

    @property
    def pipeline(self) -> str:
        return self.definition.name

    @property
    def is_over(self) -> bool:
        return self.status in TERMINAL

    def wire(self, subscription: str, resource_group: str, factory: str) -> dict[str, Any]:
        """As recorded: these keys in this order, the ARM part of the id in capitals, `runDimension` in the singular."""
        return {
            "id": f"{_scope(subscription, resource_group, factory)}/pipelineruns/{self.run_id}",
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
            "runDimension": {},
            "isLatest": self.is_latest,
        }


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

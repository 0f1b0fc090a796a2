"""One error of each class of the core, with every member set. New classes are found; a new member needs a value in `MEMBERS`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from airflow_adf_mi.adf import errors
from airflow_adf_mi.adf.activity_failures import ActivityFailure
from airflow_adf_mi.adf.errors import AdfError, members_of
from airflow_adf_mi.adf.models import PipelineRun

RUN = PipelineRun.from_wire(
    {"runId": "r1", "pipelineName": "Load", "status": "Failed", "runStart": "2026-11-01T00:00:00Z"}
)
ACTIVITY = ActivityFailure(
    activity_name="Copy",
    activity_type="Copy",
    status="Failed",
    pipeline_name="Load",
    pipeline_run_id="r1",
    studio_url="https://adf.azure.com/r1",
    error_code="2200",
    failure_type="UserError",
    message="no such table",
    ended_at=datetime(2026, 11, 1, tzinfo=UTC),
)
MEMBERS: dict[str, Any] = {
    "transient": True,
    "refused_token": True,
    "status": 418,
    "code": "Teapot",
    "request_id": "q1",
    "retry_after": 7.5,
    "missing": "pipeline",
    "failure_cause": "gateway",
    "never_sent": True,
    "unreadable": True,
    "is_foreign": True,
    "candidates": (RUN,),
    "run_id": "r1",
    "studio_url": "https://adf.azure.com/r1",
    "run": RUN,
    "activities": (ACTIVITY,),
}


def classes(base: type[AdfError] = AdfError) -> Iterator[type[AdfError]]:
    """`base` and all its subclasses that are in the core."""
    if base.__module__ == errors.__name__:
        yield base
        for kind in base.__subclasses__():
            yield from classes(kind)


CLASSES = list(dict.fromkeys(classes()))


def made(kind: type[AdfError]) -> AdfError:
    """An error of this class, with a note."""
    error = kind(f"what happened to {kind.__name__}", **{name: MEMBERS[name] for name in members_of(kind)})
    error.add_note("and a note")
    return error


def known(error: BaseException) -> tuple[str, dict[str, Any]]:
    """The error's text, and all its attributes."""
    return str(error), vars(error)

"""What the service says of runs and activities, read without losing anything.

Readers take any mapping (the official client's models are mappings, and so are recorded answers) and keep the whole
answer, so unknown fields stay available in `raw` and unknown statuses are carried as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Self

from airflow_adf_mi.adf.redact import shown


class RunStatus:
    """The statuses the service documents, and the questions asked of them.

    The service sends plain strings and may add to them; a status in none of these sets counts as not finished.
    """

    QUEUED = "Queued"
    IN_PROGRESS = "InProgress"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    CANCELING = "Canceling"
    CANCELLED = "Cancelled"

    TERMINAL = frozenset({SUCCEEDED, FAILED, CANCELLED})
    """Has the run ended for good?"""
    UNFINISHED = frozenset({QUEUED, IN_PROGRESS, CANCELING})
    """Is it known to be still on its way?"""
    KNOWN = TERMINAL | UNFINISHED


def _time(value: object) -> datetime | None:
    """A wire time (up to 7 digits of fraction, `Z`); the official client hands over either the text or a datetime."""
    if isinstance(value, str) and value:
        value = datetime.fromisoformat(value)
    if isinstance(value, datetime):
        # Times of one answer are compared with each other, so all of them must know their zone.
        return value if value.tzinfo is not None else value.replace(tzinfo=UTC)
    return None


def _wire(value: Any) -> Any:
    """`value` as plain JSON types: the official client wraps answers in models, and models nest."""
    if isinstance(value, Mapping):
        return {str(key): _wire(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_wire(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    return value


def run_id_of(wire: Mapping[str, Any]) -> str:
    """The id in an answer. Raises `ValueError` for anything but text: `null` must not become a run called "None"."""
    run_id = wire["runId"]
    if not isinstance(run_id, str) or not run_id.strip():
        raise ValueError(f"runId is {run_id!r}")
    return run_id


def _text(value: object) -> str | None:
    """Free text of the service, safe to show."""
    return shown(value) if isinstance(value, str) and value else None


def _word(value: object) -> str | None:
    """A code or a name; the service is not bound to send text."""
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) and value != "" else None


def _number(value: object) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _seconds(milliseconds: object) -> float | None:
    known = _number(milliseconds)
    return None if known is None else known / 1000


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


@dataclass(frozen=True, kw_only=True)
class PipelineRun:
    """A run of a pipeline, as the service last described it."""

    run_id: str
    pipeline_name: str
    status: str
    run_group_id: str | None = None
    message: str | None = None
    """Why the run failed, credentials masked; None when there is nothing to say."""
    started_at: datetime | None = None
    ended_at: datetime | None = None
    duration_seconds: float | None = None
    last_updated: datetime | None = None
    parameters: Mapping[str, str] = field(default_factory=dict, repr=False)
    """As the service keeps them: text, other types JSON-encoded. Not shown, since some may be secret."""
    is_latest: bool | None = None
    """False once a recovery run of the same group has replaced this one."""
    run_dimensions: Mapping[str, str] = field(default_factory=dict)
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """The whole answer, also what this version does not know."""

    @property
    def is_terminal(self) -> bool:
        return self.status in RunStatus.TERMINAL

    @classmethod
    def from_wire(cls, answer: Mapping[str, Any]) -> Self:
        """Read a run object of PipelineRuns_Get or PipelineRuns_QueryByFactory."""
        wire = _wire(answer)
        return cls(
            run_id=run_id_of(wire),
            pipeline_name=wire.get("pipelineName") or "",
            status=wire.get("status") or "",
            run_group_id=wire.get("runGroupId"),
            message=_text(wire.get("message")),
            started_at=_time(wire.get("runStart")),
            ended_at=_time(wire.get("runEnd")),
            duration_seconds=_seconds(wire.get("durationInMs")),
            last_updated=_time(wire.get("lastUpdated")),
            parameters=wire.get("parameters") or {},
            is_latest=wire.get("isLatest"),
            # Recordings say runDimension; the specification, and so the official client's attribute, runDimensions.
            run_dimensions=wire.get("runDimension") or wire.get("runDimensions") or {},
            raw=wire,
        )

    def essentials(self) -> dict[str, Any]:
        """The JSON form for a trigger's event: what `from_wire` needs, without parameters, which may be sensitive."""
        kept = (
            "runId",
            "pipelineName",
            "status",
            "runGroupId",
            "runStart",
            "runEnd",
            "durationInMs",
            "lastUpdated",
        )
        return {key: self.raw[key] for key in kept if key in self.raw} | {"message": self.message}

    @classmethod
    def from_essentials(cls, stored: Mapping[str, Any]) -> Self:
        """Read what `essentials` gave, whose text is redacted and cut already."""
        return replace(cls.from_wire(stored), message=stored.get("message"))


@dataclass(frozen=True, kw_only=True)
class ActivityRun:
    """One activity's run (one iteration's, inside a ForEach)."""

    activity_name: str
    activity_type: str
    status: str
    activity_run_id: str
    pipeline_name: str | None = None
    pipeline_run_id: str | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    duration_seconds: float | None = None
    error_code: str | None = None
    error_message: str | None = None
    """What went wrong, credentials masked; None when nothing did."""
    failure_type: str | None = None
    """`UserError` or `SystemError` for a failed activity."""
    retry_attempt: int | None = None
    iteration_hash: str | None = None
    output: Mapping[str, Any] = field(default_factory=dict, repr=False)
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_wire(cls, answer: Mapping[str, Any]) -> Self:
        """Read an activity run object of ActivityRuns_QueryByPipelineRun."""
        wire = _wire(answer)
        error = _object(wire.get("error"))
        attempt = _number(wire.get("retryAttempt"))
        return cls(
            activity_name=_word(wire.get("activityName")) or "",
            activity_type=_word(wire.get("activityType")) or "",
            status=_word(wire.get("status")) or "",
            activity_run_id=_word(wire.get("activityRunId")) or "",
            pipeline_name=_word(wire.get("pipelineName")),
            pipeline_run_id=_word(wire.get("pipelineRunId")),
            started_at=_time(wire.get("activityRunStart")),
            ended_at=_time(wire.get("activityRunEnd")),
            duration_seconds=_seconds(wire.get("durationInMs")),
            # An activity that went well carries the error object with empty members.
            error_code=_word(error.get("errorCode")),
            error_message=_text(error.get("message")),
            failure_type=_word(error.get("failureType")),
            retry_attempt=None if attempt is None else int(attempt),
            iteration_hash=_word(wire.get("iterationHash")),
            output=_object(wire.get("output")),
            raw=wire,
        )

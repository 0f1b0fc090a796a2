"""What the service says of runs and activities, read without losing anything.

Readers take any mapping (the official client's models are mappings, and so are recorded answers) and keep the whole
answer, so unknown fields stay available in `raw` and unknown statuses are carried as they are.

There is one rule for what can be read: `runId` and `status` decide for a run, and everything else may be missing or odd. A
member that is not what the specification promises is None or empty, or the text that it can be shown as.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Self

from airflow_adf_mi.adf.redaction import cap, shown
from airflow_adf_mi.adf.times import read_number, read_seconds, read_time

UNREADABLE = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError, zlib.error)
"""What reading an answer raises that is not what the specification promises, such as the page of a proxy. `zlib.error`: it is
not compressed as its header says."""
MOST_DEPTH = 64
"""Levels of an answer that are kept, below which it is cut: what follows them recurses, and Python's stack has an end."""
LONGEST_NAME = 1000
"""Characters of a name, a code or an id that are kept; Data Factory's own are of 260 at most."""
MOST_DETAILS = 5


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


def plain(value: Any, depth: int = 0) -> Any:
    """`value` as plain JSON types: the official client wraps answers in models, and models nest.

    What lies deeper than `MOST_DEPTH` is None; characters that no database or log takes are replaced.
    """
    if isinstance(value, str):
        return value if value.isprintable() else _storable(value)
    if isinstance(value, Mapping | list | tuple):
        if depth >= MOST_DEPTH:
            return None
        if isinstance(value, Mapping):
            return {plain(str(key)): plain(item, depth + 1) for key, item in value.items()}
        return [plain(item, depth + 1) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    return value


def _storable(text: str) -> str:
    """Without NUL, which PostgreSQL refuses, and without half of a surrogate pair, which UTF-8 has no form for."""
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def document(answer: Any) -> dict[str, Any]:
    """An answer that is an object, as plain JSON types. Raises `TypeError` for any other."""
    if not isinstance(answer, Mapping):
        raise TypeError(f"the answer is {type(answer).__name__}, and no object")
    return plain(answer)  # type: ignore[no-any-return]  # of a mapping it is one


def read_run_id(wire: Mapping[str, Any]) -> str:
    """The id in an answer. Raises `ValueError` for anything but text: `null` must not become a run called "None"."""
    return _required(wire, "runId")


def _required(wire: Mapping[str, Any], member: str) -> str:
    value = wire[member]
    if not isinstance(value, str) or not value.strip() or len(value) > LONGEST_NAME:
        kind = "empty or too long" if isinstance(value, str) else type(value).__name__
        raise ValueError(f"{member} is {kind}, and no name")
    return value


def _text(value: object) -> str | None:
    """Free text of the service, safe to show; what is no text is shown as JSON."""
    if value is None or value in ("", {}, []):
        return None
    return shown(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _word(value: object) -> str | None:
    """A name or an id, cut."""
    word = _one_word(value)
    return None if word is None else cap(word, LONGEST_NAME)


def _code(value: object) -> str | None:
    """A code of an error, safe to show: whatever else stands there is foreign text, which may quote a credential."""
    word = _one_word(value)
    return None if word is None else shown(word, LONGEST_NAME)


def _one_word(value: object) -> str | None:
    """What should be a code or a name; the service is not bound to send text."""
    if isinstance(value, bool) or not isinstance(value, str | int | float) or value == "":
        return None
    if not isinstance(value, str) and read_number(value) is None:
        return None
    return str(value)


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _texts(value: object) -> Mapping[str, str]:
    """Values that the service keeps as text. One that is none is taken as the JSON that it should have been."""
    return {name: item if isinstance(item, str) else json.dumps(item) for name, item in _object(value).items()}


def _error_of(value: object) -> tuple[str | None, str | None, str | None]:
    """Code, message and kind of an activity's `error`: an object as a rule, but a text says as much."""
    if not isinstance(value, Mapping):
        return None, _text(value), None
    details = value.get("details")
    said = [_text(value.get("message"))]
    # ARM's own form of an error puts the causes there.
    for detail in details[:MOST_DETAILS] if isinstance(details, list) else [details]:
        inner = _object(detail)
        text = " ".join(filter(None, (_code(inner.get("code")), _text(inner.get("message") if inner else detail))))
        said += [text] if text and not any(text in known for known in said if known) else []
    message = " ".join(filter(None, said))
    return _code(value.get("errorCode") or value.get("code")), cap(message) or None, _code(value.get("failureType"))


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
        """Read a run object of PipelineRuns_Get or PipelineRuns_QueryByFactory.

        Raises one of `UNREADABLE` for an answer without `runId` or `status`, and for nothing else.
        """
        wire = document(answer)
        return cls._read(wire, _required(wire, "status"))

    @classmethod
    def _read(cls, wire: Mapping[str, Any], status: str) -> Self:
        is_latest = wire.get("isLatest")
        return cls(
            run_id=read_run_id(wire),
            pipeline_name=_word(wire.get("pipelineName")) or "",
            status=status,
            run_group_id=_word(wire.get("runGroupId")),
            message=_text(wire.get("message")),
            started_at=read_time(wire.get("runStart")),
            ended_at=read_time(wire.get("runEnd")),
            duration_seconds=read_seconds(wire.get("durationInMs")),
            last_updated=read_time(wire.get("lastUpdated")),
            parameters=_texts(wire.get("parameters")),
            is_latest=is_latest if isinstance(is_latest, bool) else None,
            # Recordings say runDimension; the specification, and so the official client's attribute, runDimensions.
            run_dimensions=_texts(wire.get("runDimension") or wire.get("runDimensions")),
            raw=wire,
        )

    def essentials(self) -> dict[str, Any]:
        """The JSON form for a trigger's event: what `from_essentials` reads, without parameters, which may be sensitive."""
        seconds = self.duration_seconds
        return {
            "runId": self.run_id,
            "pipelineName": self.pipeline_name,
            "status": self.status,
            "runGroupId": self.run_group_id,
            "runStart": _iso(self.started_at),
            "runEnd": _iso(self.ended_at),
            "durationInMs": None if seconds is None else round(seconds * 1000, 3),
            "lastUpdated": _iso(self.last_updated),
            "message": self.message,
        }

    @classmethod
    def from_essentials(cls, stored: Mapping[str, Any]) -> Self:
        """Read what `essentials` gave, whose text is redacted and cut already."""
        wire = document(stored)
        # Earlier versions stored a run without a status, too.
        return replace(cls._read(wire, _word(wire.get("status")) or ""), message=wire.get("message"))


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


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
        """Read an activity run object of ActivityRuns_QueryByPipelineRun.

        Raises `TypeError` for what is no object, and nothing else.
        """
        wire = document(answer)
        code, message, failure_type = _error_of(wire.get("error"))
        attempt = read_number(wire.get("retryAttempt"))
        return cls(
            activity_name=_word(wire.get("activityName")) or "",
            activity_type=_word(wire.get("activityType")) or "",
            status=_word(wire.get("status")) or "",
            activity_run_id=_word(wire.get("activityRunId")) or "",
            pipeline_name=_word(wire.get("pipelineName")),
            pipeline_run_id=_word(wire.get("pipelineRunId")),
            started_at=read_time(wire.get("activityRunStart")),
            ended_at=read_time(wire.get("activityRunEnd")),
            duration_seconds=read_seconds(wire.get("durationInMs")),
            # An activity that went well carries the error object with empty members.
            error_code=code,
            error_message=message,
            failure_type=failure_type,
            retry_attempt=None if attempt is None else int(attempt),
            iteration_hash=_word(wire.get("iterationHash")),
            output=_object(wire.get("output")),
            raw=wire,
        )

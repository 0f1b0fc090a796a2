"""Runs and activity runs as the service describes them, read without losing anything.

Readers take any mapping (the official client's models are mappings, and so are recorded answers). Readers keep the whole answer:
unknown fields stay available in `raw`, and unknown statuses are kept unchanged.

An answer about a run is readable if it has `runId` and `status`. Everything else may be missing or odd. A
member that does not match the specification becomes None or empty, or the text that it can be shown as.
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
"""Errors that are raised while reading an answer that does not match the specification, such as the page of a proxy.
`zlib.error`: the answer is not compressed as its header claims."""
MOST_DEPTH = 64
"""Levels of an answer that are kept; deeper levels are cut. The readers are recursive, and Python's stack is limited."""
LONGEST_NAME = 1000
"""At most this many characters of a name, a code or an id are kept. Data Factory's own names have 260 at most."""
MOST_DETAILS = 5


class RunStatus:
    """The statuses that the service documents, and sets of them.

    The service sends plain strings, and may add statuses. A status in none of these sets counts as not finished.
    """

    QUEUED = "Queued"
    IN_PROGRESS = "InProgress"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    CANCELING = "Canceling"
    CANCELLED = "Cancelled"

    TERMINAL = frozenset({SUCCEEDED, FAILED, CANCELLED})
    """The run has ended."""
    UNFINISHED = frozenset({QUEUED, IN_PROGRESS, CANCELING})
    """The run is known to be active."""
    KNOWN = TERMINAL | UNFINISHED


def plain(value: Any, depth: int = 0) -> Any:
    """`value` as plain JSON types. The official client wraps answers in models, and models are nested.

    Levels deeper than `MOST_DEPTH` become None. Characters that no database or log accepts are replaced.
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
    """`text` without NUL, which PostgreSQL refuses, and without half of a surrogate pair, which UTF-8 cannot represent."""
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def document(answer: Any) -> dict[str, Any]:
    """An answer that is an object, as plain JSON types. Raises `TypeError` for any other answer."""
    if not isinstance(answer, Mapping):
        raise TypeError(f"the answer is {type(answer).__name__}, not an object")
    return plain(answer)  # type: ignore[no-any-return]  # `plain` of a mapping is a mapping


def read_run_id(wire: Mapping[str, Any]) -> str:
    """The run id in an answer. Raises `ValueError` for anything but text, so that `null` never becomes a run named "None"."""
    return _required(wire, "runId")


def _required(wire: Mapping[str, Any], member: str) -> str:
    value = wire[member]
    if not isinstance(value, str) or not value.strip() or len(value) > LONGEST_NAME:
        kind = "empty or too long" if isinstance(value, str) else type(value).__name__
        raise ValueError(f"{member} is {kind}, not a name")
    return value


def _text(value: object) -> str | None:
    """Free text of the service, safe to show. A value that is not a text is shown as JSON."""
    if value is None or value in ("", {}, []):
        return None
    return shown(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _word(value: object) -> str | None:
    """A name or an id, cut to `LONGEST_NAME`."""
    word = _one_word(value)
    return None if word is None else cap(word, LONGEST_NAME)


def _code(value: object) -> str | None:
    """A code of an error, safe to show. Any other text here is of unknown origin, and may contain a credential."""
    word = _one_word(value)
    return None if word is None else shown(word, LONGEST_NAME)


def _one_word(value: object) -> str | None:
    """A value that should be a code or a name. The service may send something other than text."""
    if isinstance(value, bool) or not isinstance(value, str | int | float) or value == "":
        return None
    if not isinstance(value, str) and read_number(value) is None:
        return None
    return str(value)


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _texts(value: object) -> Mapping[str, str]:
    """Values that the service stores as text. A value that is not a text becomes the text of its JSON form."""
    return {name: item if isinstance(item, str) else json.dumps(item) for name, item in _object(value).items()}


def _error_of(value: object) -> tuple[str | None, str | None, str | None]:
    """Code, message and failure type of an activity's `error`. The error is usually an object, but may be a text."""
    if not isinstance(value, Mapping):
        return None, _text(value), None
    details = value.get("details")
    messages = [_text(value.get("message"))]
    # ARM's own form of an error has the causes in `details`.
    for detail in details[:MOST_DETAILS] if isinstance(details, list) else [details]:
        inner = _object(detail)
        text = " ".join(filter(None, (_code(inner.get("code")), _text(inner.get("message") if inner else detail))))
        messages += [text] if text and not any(text in known for known in messages if known) else []
    message = " ".join(filter(None, messages))
    return _code(value.get("errorCode") or value.get("code")), cap(message) or None, _code(value.get("failureType"))


@dataclass(frozen=True, kw_only=True)
class PipelineRun:
    """A run of a pipeline, as the service last described it."""

    run_id: str
    pipeline_name: str
    status: str
    run_group_id: str | None = None
    message: str | None = None
    """Why the run failed, credentials masked; None if there is no message."""
    started_at: datetime | None = None
    ended_at: datetime | None = None
    duration_seconds: float | None = None
    last_updated: datetime | None = None
    parameters: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The parameters as the service stores them: as text, other types JSON-encoded. `repr` omits them, because some may be
    secret."""
    is_latest: bool | None = None
    """False after a recovery run of the same group has replaced this run."""
    run_dimensions: Mapping[str, str] = field(default_factory=dict)
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """The whole answer, including members that this version does not know."""

    @property
    def is_terminal(self) -> bool:
        return self.status in RunStatus.TERMINAL

    @classmethod
    def from_wire(cls, answer: Mapping[str, Any]) -> Self:
        """Read a run object of PipelineRuns_Get or PipelineRuns_QueryByFactory.

        Raises one of `UNREADABLE` only if the answer has no readable `runId` or `status`.
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
            # Recordings have runDimension. The specification, and so the official client's attribute, has runDimensions.
            run_dimensions=_texts(wire.get("runDimension") or wire.get("runDimensions")),
            raw=wire,
        )

    def essentials(self) -> dict[str, Any]:
        """The JSON form for a trigger's event, which `from_essentials` reads. It has no parameters, because they may be
        sensitive.
        """
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
        """Read the form that `essentials` returns. Its text is already redacted and cut."""
        wire = document(stored)
        # Earlier versions also stored runs without a status.
        return replace(cls._read(wire, _word(wire.get("status")) or ""), message=wire.get("message"))


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


@dataclass(frozen=True, kw_only=True)
class ActivityRun:
    """One run of an activity (inside a ForEach: of one iteration)."""

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
    """Why the activity failed, credentials masked; None if it did not fail."""
    failure_type: str | None = None
    """`UserError` or `SystemError` for a failed activity."""
    retry_attempt: int | None = None
    iteration_hash: str | None = None
    output: Mapping[str, Any] = field(default_factory=dict, repr=False)
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_wire(cls, answer: Mapping[str, Any]) -> Self:
        """Read an activity run object of ActivityRuns_QueryByPipelineRun.

        Raises only `TypeError`, for an answer that is not an object.
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
            # The answer has an error object even for an activity that succeeded. The members of that object are then empty.
            error_code=code,
            error_message=message,
            failure_type=failure_type,
            retry_attempt=None if attempt is None else int(attempt),
            iteration_hash=_word(wire.get("iterationHash")),
            output=_object(wire.get("output")),
            raw=wire,
        )

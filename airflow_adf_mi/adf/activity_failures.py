"""Why a run did not succeed: the activities that failed, as data, as JSON and as text. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Self

from airflow_adf_mi.adf.models import ActivityRun, RunStatus
from airflow_adf_mi.adf.redaction import cap
from airflow_adf_mi.adf.stored_forms import known_members
from airflow_adf_mi.adf.times import read_time

LONGEST_MESSAGE = 1000
"""A text quotes at most this many characters of an activity's message. ADF Studio shows the whole message."""


@dataclass(frozen=True, kw_only=True)
class ActivityFailure:
    """The last attempt of an activity, in one iteration. The attempt failed, or was cancelled with its run."""

    activity_name: str
    activity_type: str
    status: str
    pipeline_name: str
    pipeline_run_id: str
    """The innermost run: the run of the pipeline that has the activity."""
    studio_url: str
    """The page of that run in ADF Studio."""
    error_code: str | None = None
    failure_type: str | None = None
    """`UserError` or `SystemError`, as the service judges the failure."""
    message: str | None = None
    """The activity's message, credentials masked."""
    started_at: datetime | None = None
    ended_at: datetime | None = None
    attempts: int = 1
    loop: str | None = None
    """The ForEach, If, Switch or Until in which the activity failed, if that is known."""
    is_iteration: bool = False
    """Whether this is one iteration of several."""
    is_named: bool = False
    """Whether the run's own message names this activity as its failure. The pipeline may have handled other failures."""

    @classmethod
    def of(cls, run: ActivityRun, *, attempts: int, loop: str | None, studio_url: str, is_named: bool) -> Self:
        return cls(
            activity_name=run.activity_name,
            activity_type=run.activity_type,
            status=run.status,
            pipeline_name=run.pipeline_name or "",
            pipeline_run_id=run.pipeline_run_id or "",
            studio_url=studio_url,
            error_code=run.error_code,
            failure_type=run.failure_type,
            message=None if run.error_message is None else cap(run.error_message, LONGEST_MESSAGE),
            started_at=run.started_at,
            ended_at=run.ended_at,
            attempts=max(attempts, run.retry_attempt or 1),
            loop=loop,
            is_iteration=run.iteration_hash is not None,
            is_named=is_named,
        )

    def to_json(self) -> dict[str, Any]:
        return {name: _plain(value) for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Read the JSON form. Unknown members are ignored, because a later version may have added them."""
        known = known_members(cls, stored)
        times = {name: read_time(known.get(name)) for name in ("started_at", "ended_at")}
        return cls(**{**known, **times})

    def text(self, root_run_id: str) -> str:
        """The failure as an item of a list, below a sentence about the run `root_run_id`."""
        where = f" in run {self.pipeline_run_id} of pipeline {self.pipeline_name!r}"
        inside = f", {'in an iteration of' if self.is_iteration else 'in'} {self.loop}" if self.loop else ""
        if self.is_iteration and not self.loop:
            inside = ", in one iteration"
        is_child = self.pipeline_run_id != root_run_id
        what = f"{self.activity_name!r} ({self.activity_type}){where if is_child else ''}{inside}"
        kind = " ".join(part for part in (self.failure_type, self.error_code) if part)
        when = _when(self.started_at, self.ended_at)
        link = f"\n  See {self.studio_url}" if is_child else ""
        if self.status == RunStatus.CANCELLED:
            return f"- {what} was cancelled{when}.{link}"
        tries = f", in attempt {self.attempts}" if self.attempts > 1 else ""
        failure = f"{kind + ': ' if kind else ''}{_sentence(self.message or 'no message')}"
        return f"- {what}: {failure} Failed{when}{tries}.{link}"


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """The reasons why a run did not succeed, as far as they were found out."""

    activities: tuple[ActivityFailure, ...] = ()
    """The failed activities, the first cause first."""
    more: int = 0
    """How many more activities failed."""
    missing: str | None = None
    """Why some or all reasons are missing."""

    def to_json(self) -> dict[str, Any]:
        return {"activities": [a.to_json() for a in self.activities], "more": self.more, "missing": self.missing}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        return cls(
            activities=tuple(ActivityFailure.from_json(entry) for entry in stored["activities"]),
            more=stored["more"],
            missing=stored["missing"],
        )

    def text(self, root_run_id: str) -> str:
        """The list of activities, and what is missing in it; "" if there is neither."""
        lines = [activity.text(root_run_id) for activity in self.activities]
        if self.more:
            lines.append(f"- and {self.more} more")
        if self.missing:
            what = "More activities" if self.activities else "Its activities"
            lines.append(f"{what} could not be read: {_sentence(self.missing)}")
        return "\n".join(lines)

    def covers(self, message: str | None) -> bool:
        """Whether the run's own `message` only repeats the message of an activity."""
        return not message or any(a.message is not None and a.message[:200] in message for a in self.activities)


def headline(failures: Sequence[ActivityFailure], more: int) -> str:
    """How many activities failed or were cancelled, as the end of a sentence about their run."""
    number = len(failures) + more
    failed = sum(failure.status != RunStatus.CANCELLED for failure in failures)
    if not failed:
        return f"while {number} {'activities were' if number > 1 else 'activity was'} active"
    return f"because {number} activities failed, the first cause first" if number > 1 else "because an activity failed"


def _when(started: datetime | None, ended: datetime | None) -> str:
    if ended is None:
        return ""
    took = f", after {(ended - started).total_seconds():.0f} s" if started and started <= ended else ""
    return f" at {ended.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC{took}"


def _sentence(text: str) -> str:
    text = text.strip()
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _plain(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else value

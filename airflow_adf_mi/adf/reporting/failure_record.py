"""What is kept of a failed try: the cause and the run, as one small JSON value. Pure.

A callback may run in another process than the task, and there the exception does not exist. Such a callback reads this record.
The record outlives the log of the task, and anybody who can read XComs can read it. So its texts are short, and credentials are
masked.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, Self

from airflow_adf_mi.adf.activity_failures import ActivityFailure
from airflow_adf_mi.adf.errors import AdfRunError
from airflow_adf_mi.adf.redaction import shown
from airflow_adf_mi.adf.stored_forms import known_members

VERSION = 1
LONGEST_CAUSE = 2000
"""Characters of the error's text that are kept."""
LONGEST_ACTIVITY_MESSAGE = 300
MOST_ACTIVITIES = 5
LARGEST_RECORD = 16_000
"""Characters of JSON. If the activities make the record larger, it has none."""


@dataclass(frozen=True, kw_only=True)
class FailureRecord:
    """Why a try failed, and which run it had. A later version may add members."""

    error: str
    """The name of the error's class, such as `AdfRunFailed`."""
    message: str
    try_number: int | None = None
    """The try that failed. A record of another try says nothing about this try."""
    pipeline_name: str | None = None
    run_id: str | None = None
    studio_url: str | None = None
    activities: tuple[ActivityFailure, ...] = ()
    """The failed activities, the first cause first."""

    @classmethod
    def of(
        cls,
        error: BaseException,
        *,
        try_number: int | None = None,
        pipeline_name: object = None,
        run_id: object = None,
        mask: Callable[[str], str] = str,
    ) -> Self:
        """Describe an error of any class.

        :param pipeline_name: the task's pipeline, if the error does not know a pipeline.
        :param run_id: the task's run, if the error does not know a run.
        :param mask: masks more secrets than those that the text itself gives away.
        """
        known = cls(
            error=type(error).__name__,
            message=shown(mask(str(error)), LONGEST_CAUSE),
            try_number=try_number,
            pipeline_name=_text(pipeline_name),
            run_id=_text(run_id),
        )
        if not isinstance(error, AdfRunError):
            return known
        return replace(
            known,
            pipeline_name=(error.run.pipeline_name if error.run else None) or known.pipeline_name,
            run_id=error.run_id,
            studio_url=error.studio_url,
            activities=tuple(
                replace(failed, message=failed.message and shown(mask(failed.message), LONGEST_ACTIVITY_MESSAGE))
                for failed in error.activities[:MOST_ACTIVITIES]
            ),
        )

    def to_json(self) -> dict[str, Any]:
        """The stored form. It has at most `LARGEST_RECORD` characters."""
        stored = {
            "version": VERSION,
            **{field.name: getattr(self, field.name) for field in fields(self)},
            "activities": [failed.to_json() for failed in self.activities],
        }
        return stored if len(json.dumps(stored)) <= LARGEST_RECORD else {**stored, "activities": []}

    @classmethod
    def from_json(cls, stored: Any) -> Self | None:
        """Read what any version stored; None if it is no record of a failure."""
        try:
            known = known_members(cls, stored)
            activities = tuple(ActivityFailure.from_json(entry) for entry in known.get("activities") or ())
            return cls(**{**known, "activities": activities})
        except (AttributeError, TypeError, ValueError):
            return None

    def is_of(self, try_number: object) -> bool:
        """Whether this record describes that try. In triggerer mode, XComs of an earlier try remain for a while."""
        return None in (self.try_number, try_number) or self.try_number == try_number

    @property
    def headline(self) -> str:
        """The cause in one line."""
        pipeline = f"pipeline {self.pipeline_name!r}" if self.pipeline_name else "the pipeline"
        match self.error:
            case "AdfRunFailed":
                return f"{pipeline} failed{self._first_activity}"
            case "AdfRunCancelled":
                return f"the run of {pipeline} was cancelled"
            case "AdfRunTimedOut":
                return f"the run of {pipeline} did not end in time"
        first_line = self.message.strip().partition("\n")[0]
        return f"{self.error}: {first_line}" if first_line else self.error

    @property
    def _first_activity(self) -> str:
        if not self.activities:
            return ""
        first = self.activities[0]
        return f" in activity {first.activity_name!r}" + (f" ({first.error_code})" if first.error_code else "")


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None

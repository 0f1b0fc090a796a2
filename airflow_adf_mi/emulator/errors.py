"""The error answers of ARM and Data Factory."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

OMIT: Any = object()
"""Stands for a member that the recorded body does not have. A null member is different."""


class ServiceError(Exception):
    """An answer that is not a success: `{"error": {"code", "message", "target"?, "details"?}}`."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        target: Any = OMIT,
        details: Any = OMIT,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.target = target
        self.details = details
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        error = {"code": self.code, "message": self.message, "target": self.target, "details": self.details}
        return {"error": {key: value for key, value in error.items() if value is not OMIT}}


class FullQueueError(ServiceError):
    """A start is refused, because the queue of its pipeline is full.

    The text is from public reports (azure-docs#85538), and 100 is the documented limit. No report shows the status or the code.
    """

    def __init__(self, status: int, most_queued: int) -> None:
        super().__init__(
            status,
            "TooManyRequests" if status == HTTPStatus.TOO_MANY_REQUESTS else "BadRequest",
            "Pipeline execution throttled. If the concurrency value is set for a pipeline, "
            f"a maximum of {most_queued} runs will be queued for execution.",
        )

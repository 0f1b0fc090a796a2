"""The error answers of ARM and Data Factory."""

from __future__ import annotations

from collections.abc import Mapping
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

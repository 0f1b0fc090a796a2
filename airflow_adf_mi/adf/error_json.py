"""Errors as JSON, for the events in which a trigger hands them to its task. Pure.

Events that were fired before an update are read after it: names keep their meaning, and unknown ones become `AdfError`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_adf_mi.adf.errors import (
    AdfAmbiguousStartError,
    AdfAuthenticationError,
    AdfCertificateError,
    AdfConfigurationError,
    AdfError,
    AdfNotFoundError,
    AdfPermissionError,
    AdfRequestError,
    AdfThrottledError,
    AdfUnavailableError,
)

_REQUEST = ("status", "code", "request_id", "failure_cause")
_MEMBERS: Mapping[type[AdfError], tuple[str, ...]] = {
    AdfError: (),
    AdfConfigurationError: (),
    AdfCertificateError: (),
    AdfAuthenticationError: ("transient", "refused_token"),
    AdfRequestError: _REQUEST,
    AdfPermissionError: _REQUEST,
    AdfNotFoundError: (*_REQUEST, "missing"),
    AdfThrottledError: _REQUEST,
    AdfUnavailableError: ("status", "never_sent", "unreadable", "is_foreign"),
    AdfAmbiguousStartError: ("request_id",),
}
"""What is kept of an error beside its text."""
_BY_NAME: Mapping[str, type[AdfError]] = {kind.__name__: kind for kind in _MEMBERS}


def error_to_json(error: AdfError) -> dict[str, Any]:
    """What `error_from_json` makes an error of."""
    members = _MEMBERS.get(type(error), ())
    return {
        "type": type(error).__name__,
        "message": str(error),
        **{name: getattr(error, name) for name in members},
    }


def error_from_json(stored: Mapping[str, Any]) -> AdfError:
    """The error that `error_to_json` has stored; a plain `AdfError` where it cannot be made."""
    kind = _BY_NAME.get(stored["type"], AdfError)
    members = {name: stored[name] for name in _MEMBERS[kind] if stored.get(name) is not None}
    try:
        return kind(stored["message"], **members)
    except TypeError:
        # An older version kept less.
        return AdfError(stored["message"])

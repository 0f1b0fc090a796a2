"""Errors as JSON, for the events in which a trigger hands them to its task, and for Airflow's own serialization. Pure.

Events that were fired before an update are read after it. So names keep their meaning, unknown classes become `AdfError`,
and unknown members are ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from airflow_adf_mi.adf import errors
from airflow_adf_mi.adf.activity_failures import ActivityFailure
from airflow_adf_mi.adf.errors import AdfError, members_of
from airflow_adf_mi.adf.models import PipelineRun

NOTES = "notes"
_READERS: Mapping[str, Callable[[Any], Any]] = {
    "run": PipelineRun.from_essentials,
    "candidates": lambda stored: tuple(map(PipelineRun.from_essentials, stored)),
    "activities": lambda stored: tuple(map(ActivityFailure.from_json, stored)),
}
"""How the members are read that are no plain JSON values."""


def error_to_json(error: AdfError) -> dict[str, Any]:
    """What `error_from_json` makes an error of."""
    return {"type": type(error).__name__, "message": str(error), **members_to_json(error)}


def error_from_json(stored: Mapping[str, Any]) -> AdfError:
    """The error that `error_to_json` has stored; a plain `AdfError` where it cannot be made."""
    kind = vars(errors).get(stored["type"])
    if not isinstance(kind, type) or not issubclass(kind, AdfError):
        # A later version stored a class of its own.
        return AdfError(stored["message"])
    try:
        error = kind(stored["message"], **members_from_json(kind, stored))
    except (AttributeError, KeyError, TypeError, ValueError):
        # An older version stored less, or a later one something else.
        return AdfError(stored["message"])
    for note in stored.get(NOTES) or ():
        error.add_note(note)
    return error


def members_to_json(error: AdfError) -> dict[str, Any]:
    """The members and notes of an error. A run loses its parameters, which may be secret."""
    notes: list[str] = getattr(error, "__notes__", [])
    return {
        **{name: _plain(getattr(error, name)) for name in members_of(type(error))},
        **({NOTES: list(notes)} if notes else {}),
    }


def members_from_json(kind: type[AdfError], stored: Mapping[str, Any]) -> dict[str, Any]:
    """The members of an error of class `kind` that `members_to_json` has stored."""
    known = {name: stored[name] for name in members_of(kind) if stored.get(name) is not None}
    return {name: _READERS[name](value) if name in _READERS else value for name, value in known.items()}


def _plain(value: Any) -> Any:
    match value:
        case PipelineRun():
            return value.essentials()
        case ActivityFailure():
            return value.to_json()
        case tuple():
            return [_plain(item) for item in value]
        case _:
            return value

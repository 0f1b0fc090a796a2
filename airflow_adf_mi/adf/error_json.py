"""Errors as JSON: for the events that a trigger sends to its task, and for Airflow's own serialization. Pure.

An event that was fired before an update of this package may be read after the update. So names keep their meaning, unknown
classes become `AdfError`, and unknown members are ignored.
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
"""How to read members that are not plain JSON values."""


def error_to_json(error: AdfError) -> dict[str, Any]:
    """The form of an error that `error_from_json` reads."""
    return {"type": type(error).__name__, "message": str(error), **members_to_json(error)}


def error_from_json(stored: Mapping[str, Any]) -> AdfError:
    """The error that `error_to_json` stored. A plain `AdfError` if its class cannot be made."""
    kind = vars(errors).get(stored["type"])
    if not isinstance(kind, type) or not issubclass(kind, AdfError):
        # A later version stored a class that this version does not know.
        return AdfError(stored["message"])
    try:
        error = kind(stored["message"], **members_from_json(kind, stored))
    except (AttributeError, KeyError, TypeError, ValueError):
        # An older version stored fewer members, or a later version stored other forms.
        return AdfError(stored["message"])
    for note in stored.get(NOTES) or ():
        error.add_note(note)
    return error


def members_to_json(error: AdfError) -> dict[str, Any]:
    """The members and notes of an error. The parameters of a run are left out, because they may be secret."""
    notes: list[str] = getattr(error, "__notes__", [])
    return {
        **{name: _plain(getattr(error, name)) for name in members_of(type(error))},
        **({NOTES: list(notes)} if notes else {}),
    }


def members_from_json(kind: type[AdfError], stored: Mapping[str, Any]) -> dict[str, Any]:
    """The members of an error of class `kind` that `members_to_json` stored."""
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

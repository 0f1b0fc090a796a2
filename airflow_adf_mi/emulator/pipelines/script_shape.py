"""The members of a script, and the kind of value of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_adf_mi.emulator.name_suggestions import did_you_mean


@dataclass(frozen=True)
class Kind:
    """A kind of value: its description, and the check of a value."""

    words: str
    fits: Callable[[Any], bool]


_MOST = 1_000_000_000
"""As seconds, 31 years."""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= _MOST


def _is_count(value: Any) -> bool:
    return _is_number(value) and isinstance(value, int)


def _one_of(*texts: str) -> Kind:
    return Kind(" or ".join(map(repr, texts)), lambda value: isinstance(value, str) and value in texts)


def _or_null(kind: Kind) -> Kind:
    """A kind that also accepts null. Null stands for a missing member."""
    return Kind(f"{kind.words}, or null", lambda value: value is None or kind.fits(value))


_NUMBER = Kind("a number from 0 to 1,000,000,000", _is_number)
_COUNT = Kind("a whole number from 0 to 1,000,000,000", _is_count)
_TEXT = Kind("a text", lambda value: isinstance(value, str))
_OBJECT = Kind("an object", lambda value: isinstance(value, Mapping))
_ARRAY = Kind("an array", lambda value: isinstance(value, list))
_BOOLEAN = Kind("true or false", lambda value: isinstance(value, bool))
_ANYTHING = Kind("anything", lambda value: True)  # noqa: ARG005
_COUNTS = Kind(
    "an array of whole numbers from 0 to 1,000,000,000", lambda value: _ARRAY.fits(value) and all(map(_is_count, value))
)
_OBJECTS = Kind("an array of objects", lambda value: _ARRAY.fits(value) and all(map(_OBJECT.fits, value)))

SCRIPT = {"defaults": _OBJECT, "pipelines": _OBJECT, "activities": _OBJECT, "runs": _OBJECTS}
DEFAULTS = {"seconds": _NUMBER}
RUN = {
    "pipeline": _TEXT,
    "when": _OBJECT,
    "times": _or_null(_COUNT),
    "pipelines": _OBJECT,
    "activities": _OBJECT,
}
PIPELINE = {"queued_seconds": _NUMBER, "cancel_seconds": _NUMBER, "cancel": _one_of("wins", "loses")}
ACTIVITY = {
    "seconds": _or_null(_NUMBER),
    "outcome": _one_of("Succeeded", "Failed"),
    "output": _or_null(_OBJECT),
    "error": _or_null(_OBJECT),
    "items": _or_null(_ARRAY),
    "iterations": _or_null(_COUNT),
    "condition": _or_null(_BOOLEAN),
    "case": _or_null(_TEXT),
    "value": _ANYTHING,
    "parameters": _or_null(_OBJECT),
    "fail_iterations": _COUNTS,
    "fail_attempts": _COUNT,
    "outputs_by_iteration": _OBJECTS,
}


def check(where: str, entry: Any, members: Mapping[str, Kind]) -> None:
    """Raise `ValueError` unless `entry` is an object with these members only, each of its kind."""
    if not isinstance(entry, Mapping):
        raise ValueError(f"{where} must be an object, but is {_shown(entry)}")
    for name, value in entry.items():
        if name not in members:
            raise ValueError(f"{where} has an unknown member {name!r}. {did_you_mean(name, members)}")
        if not members[name].fits(value):
            raise ValueError(f"{where}: {name} must be {members[name].words}, and is {_shown(value)}")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."

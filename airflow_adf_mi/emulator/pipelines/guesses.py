"""Guesses: the values that the emulator uses for expressions that it cannot evaluate.

A guess can hide an error: a test of a failure may pass because the emulator took the other branch. So each guess is logged, and
listed with its run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Guess:
    """One guess. Equal guesses in several iterations or attempts of an activity count once."""

    pipeline: str
    activity: str | None
    """None for a property of the pipeline itself."""
    what: str
    """The property whose value is not known, such as `expression` of an IfCondition."""
    expression: str
    taken: str
    """What the emulator did instead."""
    member: str | None
    """The member of the activity's script entry that would decide the guess. None if there is no such member."""

    def __str__(self) -> str:
        where = f"{self.what} of pipeline {self.pipeline!r}"
        if self.activity is not None:
            where = f"{self.what} of activity {self.activity!r} in pipeline {self.pipeline!r}"
        decided = (
            "No member of the script decides it."
            if self.member is None
            else f"Decide it by {self.member!r} of {self.pipeline}/{self.activity} in `activities` of the script."
        )
        return f"The emulator cannot evaluate {self.expression} ({where}), so it guessed: {self.taken}. {decided}"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def text_of(value: Any) -> str:
    """The text of an expression in its pipeline."""
    if isinstance(value, Mapping) and value.get("type") == "Expression":
        value = value.get("value", value.get("content"))
    return value if isinstance(value, str) else json.dumps(value)

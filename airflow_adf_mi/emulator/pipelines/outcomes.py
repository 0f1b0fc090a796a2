"""The outcome of ended activities: for activities that depend on them, and for their list."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Result:
    """How an activity, or a list of them, ended."""

    status: str
    message: str = ""
    failed_activity: str | None = None
    """The inner activity that failed, for a list of activities."""


def is_met(status: str, conditions: Iterable[str]) -> bool:
    """Whether an activity that ended with `status` meets one of the conditions. Completed means that it ran."""
    wanted = set(conditions) or {"Succeeded"}
    return status in wanted or ("Completed" in wanted and status in ("Succeeded", "Failed"))


def outcome_of(activities: list[dict[str, Any]], results: Mapping[str, Result]) -> Result:
    """The outcome of a list of ended activities, by Data Factory's documented rule.

    The leaves decide. For a skipped leaf, the activities that it depends on decide instead. If any deciding activity failed, the
    list failed. The first failed one, in the order of the definition, gives the message.
    """
    by_name = {activity["name"]: activity for activity in activities}
    needed = {dependency["activity"] for activity in activities for dependency in activity.get("dependsOn") or []}
    pending = [name for name in by_name if name not in needed]
    deciding: set[str] = set()
    seen: set[str] = set()
    while pending:
        name = pending.pop()
        if name in seen:
            continue
        seen.add(name)
        if results[name].status == "Skipped":
            pending += [dependency["activity"] for dependency in by_name[name].get("dependsOn") or []]
        else:
            deciding.add(name)
    for name in by_name:
        if name in deciding and results[name].status == "Failed":
            return Result("Failed", results[name].message, name)
    return Result("Succeeded")

"""Recovery runs: what a run that refers to an earlier one takes over (recorded 2020, and the specification)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from airflow_adf_mi.emulator.definitions import PipelineDefinition
from airflow_adf_mi.emulator.errors import ServiceError
from airflow_adf_mi.emulator.runs import Run

if TYPE_CHECKING:
    from airflow_adf_mi.emulator.state import Switches


def reference(runs: Mapping[str, Run], run_id: str, pipeline: str, *, is_recovery: bool, switches: Switches) -> Run:
    """The run referred to. Raises `ServiceError` for one that does not exist or is another pipeline's."""
    run = runs.get(run_id.lower())
    if run is None or run.pipeline != pipeline:
        raise ServiceError(
            400,
            "ReferencedPipelineRunNotValid",
            f"Referenced pipeline run id {run_id} is not a valid run id.",
            target=f"pipeline/{pipeline}/",
            details=None,
        )
    if is_recovery and not run.is_over and switches.recovery_of_running == "refuse":
        raise ServiceError(400, "BadRequest", f"Referenced pipeline run {run_id} is still running.")
    return run


def carried_over(
    run: Run, definition: PipelineDefinition, *, start_activity: str | None, from_failure: bool
) -> frozenset[str]:
    """The activities that are not run again. A start activity counts before `from_failure`; without both, all run."""
    names = [activity["name"] for activity in definition.activities]
    if start_activity:
        if start_activity not in names:
            raise ServiceError(
                400, "BadRequest", f"The activity {start_activity!r} is not in pipeline {definition.name!r}."
            )
        again = {start_activity}
    elif from_failure:
        latest = {entry.name: entry.status for entry in run.activities}
        again = {name for name in names if name not in run.carried_over and latest.get(name) != "Succeeded"}
    else:
        return frozenset()
    changed = True
    while changed:
        changed = False
        for activity in definition.activities:
            depends_on = {dependency["activity"] for dependency in activity.get("dependsOn") or []}
            if activity["name"] not in again and depends_on & again:
                again.add(activity["name"])
                changed = True
    if not start_activity:
        return frozenset(names) - again
    # Only what comes before the start activity is carried over; a branch beside it runs.
    before: set[str] = set()
    pending = [start_activity]
    by_name = {activity["name"]: activity for activity in definition.activities}
    while pending:
        for dependency in by_name[pending.pop()].get("dependsOn") or []:
            if dependency["activity"] not in before:
                before.add(dependency["activity"])
                pending.append(dependency["activity"])
    return frozenset(before)

"""Recovery runs: what a run takes from the earlier run that it refers to (recorded 2020, and the specification)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_adf_mi.emulator.errors import ServiceError
from airflow_adf_mi.emulator.pipelines.definitions import PipelineDefinition
from airflow_adf_mi.emulator.pipelines.runs import Run
from airflow_adf_mi.emulator.switches import Switches


def reference(
    runs: Mapping[str, Run], run_id: str, pipeline: str, *, is_recovery: bool, switches: Switches, now: float
) -> Run:
    """The referenced run. Raises `ServiceError` if it does not exist, or belongs to another pipeline."""
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
    days = switches.recovery_within_days
    if is_recovery and days is not None and now - run.created > days * 86_400:
        raise ServiceError(400, "BadRequest", f"Referenced pipeline run {run_id} is older than {days:g} days.")
    return run


def carried_over(
    run: Run, definition: PipelineDefinition, *, start_activity: str | None, from_failure: bool
) -> dict[str, dict[str, Any]]:
    """The activities that do not run again, and how they ended.

    A start activity overrides `from_failure`: the activities that lead to it do not run again, however they ended. Activities of
    other branches run again (this is unverified). With `from_failure`, succeeded activities do not run again, unless they depend
    on an activity that does. Without both, all activities run.
    """
    by_name = {activity["name"]: activity for activity in definition.activities}
    if start_activity:
        if start_activity not in by_name:
            raise ServiceError(
                400, "BadRequest", f"The activity {start_activity!r} is not in pipeline {definition.name!r}."
            )
        before = _before(start_activity, by_name)
        return {name: run.ended_activities.get(name, {"Status": "Succeeded"}) for name in by_name if name in before}
    if not from_failure:
        return {}
    succeeded = {name for name in by_name if run.ended_activities.get(name, {}).get("Status") == "Succeeded"}
    kept = {name for name in succeeded if _before(name, by_name) <= succeeded}
    return {name: run.ended_activities[name] for name in by_name if name in kept}


def _before(name: str, by_name: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """All activities that lead to an activity."""
    found: set[str] = set()
    pending = [name]
    while pending:
        for dependency in by_name[pending.pop()].get("dependsOn") or []:
            if dependency["activity"] not in found:
                found.add(dependency["activity"])
                pending.append(dependency["activity"])
    return found

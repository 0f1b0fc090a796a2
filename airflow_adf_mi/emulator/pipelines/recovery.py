"""Recovery runs: what a run takes from the earlier run that it refers to (recorded 2020, and the specification)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

from airflow_adf_mi.emulator.errors import ServiceError
from airflow_adf_mi.emulator.pipelines.definitions import PipelineDefinition, branches
from airflow_adf_mi.emulator.pipelines.progress import Progress
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
    if is_recovery and not run.is_latest and switches.recovery_of_superseded == "refuse":
        raise ServiceError(400, "BadRequest", f"Referenced pipeline run {run_id} is not the latest run of its group.")
    days = switches.recovery_within_days
    if is_recovery and days is not None and now - run.created > days * 86_400:
        raise ServiceError(400, "BadRequest", f"Referenced pipeline run {run_id} is older than {days:g} days.")
    return run


def carried_over(earlier: Progress, activities: list[dict[str, Any]]) -> Progress:
    """The beginning of a list of activities that continues `earlier` from its failure.

    Activities that succeeded do not run again, whatever their type, and neither do those that they had skipped. All activities
    after one that runs again run again, too. An activity that runs again is continued, if nothing before it runs again: the
    switches decide how far its inner activities follow the same rule.

    Microsoft's page has this rule for inner activities only, and it does not name the activities that are skipped. It says that
    Wait, Set Variable and Filter "behave as before". Here they have no rule of their own.
    """
    by_name = {activity["name"]: activity for activity in activities}
    settled = {name for name in by_name if earlier.ended.get(name, {}).get("Status") in ("Succeeded", "Skipped")}
    before = {name: _before(name, by_name) for name in by_name}
    carried = frozenset(name for name in settled if before[name] <= settled)
    resumed = frozenset(name for name in by_name if name not in carried and before[name] <= carried)
    begun = _with(carried, earlier, by_name)
    begun.resumed = resumed
    begun.inner = {key: progress for key, progress in earlier.inner.items() if key[0] in resumed}
    return begun


def started_at(start_activity: str, earlier: Progress, definition: PipelineDefinition) -> Progress:
    """The beginning of a run that starts at an activity. The activities that lead to it do not run again, however they ended.

    Activities of other branches run again (this is unverified). Raises `ServiceError` if there is no such activity.
    """
    by_name = {activity["name"]: activity for activity in definition.activities}
    if start_activity not in by_name:
        raise ServiceError(
            400, "BadRequest", f"The activity {start_activity!r} is not in pipeline {definition.name!r}."
        )
    carried = _before(start_activity, by_name)
    begun = _with(carried, earlier, by_name)
    for name in carried - begun.ended.keys():
        begun.ended[name] = {"Status": "Succeeded"}
    return begun


def _with(carried: AbstractSet[str], earlier: Progress, by_name: Mapping[str, Mapping[str, Any]]) -> Progress:
    """The progress with these activities only, and with what is inside them."""
    kept = {inner for name in carried for inner in _names(by_name[name])}
    return Progress(
        ended={name: value for name, value in earlier.ended.items() if name in kept},
        assignments=[each for each in earlier.assignments if each.activity in kept],
        carried=frozenset(carried),
        item=earlier.item,
    )


def _names(activity: Mapping[str, Any]) -> Iterator[str]:
    """The name of an activity, and the names of all activities inside it."""
    yield activity["name"]
    for inner in branches(activity):
        for each in inner:
            yield from _names(each)


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

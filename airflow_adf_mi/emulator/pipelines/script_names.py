"""Checks a script against factories: an entry that no run could ever use is refused.

Otherwise a misspelt name would have no effect, and a test of a failure would pass because nothing fails.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from airflow_adf_mi.emulator.name_suggestions import did_you_mean
from airflow_adf_mi.emulator.pipelines.definitions import RETURN_VALUE, FactoryDefinition, PipelineDefinition, branches
from airflow_adf_mi.emulator.pipelines.expressions import UNKNOWN
from airflow_adf_mi.emulator.pipelines.script import ActivityScript, RunScript, Script

_LOOPS = frozenset({"ForEach", "Until"})
_TYPES: Mapping[str, frozenset[str]] = {
    "items": frozenset({"ForEach", "Filter"}),
    "iterations": _LOOPS,
    "condition": frozenset({"IfCondition"}),
    "case": frozenset({"Switch"}),
    "value": frozenset({"SetVariable", "AppendVariable"}),
    "parameters": frozenset({"ExecutePipeline"}),
}
"""Members that only have an effect on activities of these types."""
_FAILING = frozenset({"Fail"})
"""Activities of these types always fail."""
_SILENT = ActivityScript()
_IN_LOOPS = ("fail_iterations", "outputs_by_iteration")
"""Members that only have an effect on activities inside a loop."""


def check_names(script: Script, factories: Iterable[FactoryDefinition]) -> None:
    """Raise `ValueError` for an entry about a pipeline, activity or parameter that no factory has.

    A script applies to all factories of an emulator, so a name of any factory is accepted.
    """
    pipelines: dict[str, list[PipelineDefinition]] = {}
    for factory in factories:
        for name, pipeline in factory.pipelines.items():
            pipelines.setdefault(name, []).append(pipeline)
    names = _Names(pipelines)
    for name in script.pipelines:
        names.check_pipeline("pipelines", name)
    for name, entry in script.activities.items():
        names.check_activity("activities", name, entry)
    for number, run in enumerate(script.runs):
        names.check_run(f"runs[{number}]", run)


class _Names:
    """The names that a script may use."""

    def __init__(self, pipelines: Mapping[str, list[PipelineDefinition]]) -> None:
        self._pipelines = pipelines
        self._lower = {name.lower(): name for name in pipelines}
        self._activities: dict[str, dict[str, list[tuple[Mapping[str, Any], bool]]]] = {}

    def check_pipeline(self, where: str, name: str) -> None:
        if name not in self._pipelines:
            raise ValueError(
                f"{where} of the script: there is no pipeline {name!r}. {did_you_mean(name, self._pipelines)}"
            )

    def check_activity(self, where: str, key: str, entry: ActivityScript) -> None:
        pipeline, slash, name = key.partition("/")
        if not slash:
            raise ValueError(f"{where} of the script: {key!r} must be written as '<pipeline>/<activity>'")
        self.check_pipeline(f"{where} ({key!r})", pipeline)
        known = self._activities_of(pipeline)
        if name not in known:
            raise ValueError(
                f"{where} of the script: pipeline {pipeline!r} has no activity {name!r}. {did_you_mean(name, known)}"
            )
        if problem := _problem(entry, known[name]):
            raise ValueError(f"{where} of the script: {key!r} {problem}")

    def check_run(self, where: str, run: RunScript) -> None:
        pipeline = self._lower.get(run.pipeline.lower())
        if pipeline is None:
            self.check_pipeline(where, run.pipeline)
            return
        parameters = {name for definition in self._pipelines[pipeline] for name in definition.parameters}
        for name in run.when:
            if name not in parameters:
                suggestion = did_you_mean(name, parameters)
                raise ValueError(
                    f"{where}.when of the script: pipeline {pipeline!r} has no parameter {name!r}. {suggestion}"
                )
        for name in run.pipelines:
            if name != pipeline:
                raise ValueError(
                    f"{where}.pipelines of the script: it applies to runs of {pipeline!r} only, not of {name!r}"
                )
        for key, entry in run.activities.items():
            if key.partition("/")[0] != pipeline:
                raise ValueError(
                    f"{where}.activities of the script: it applies to activities of {pipeline!r} only, not to {key!r}"
                )
            self.check_activity(f"{where}.activities", key, entry)

    def _activities_of(self, pipeline: str) -> dict[str, list[tuple[Mapping[str, Any], bool]]]:
        """Activities by name. Activities in different branches may have equal names. Cached, because scripts may be long."""
        if pipeline not in self._activities:
            found = self._activities.setdefault(pipeline, {})
            for definition in self._pipelines[pipeline]:
                for activity, in_loop in _all(definition.activities, in_loop=False):
                    found.setdefault(activity["name"], []).append((activity, in_loop))
        return self._activities[pipeline]


def _all(activities: list[dict[str, Any]], *, in_loop: bool) -> Iterator[tuple[dict[str, Any], bool]]:
    """Every activity, with whether it is inside a loop."""
    for activity in activities:
        yield activity, in_loop
        for inner in branches(activity):
            yield from _all(inner, in_loop=in_loop or activity["type"] in _LOOPS)


def _problem(entry: ActivityScript, activities: list[tuple[Mapping[str, Any], bool]]) -> str | None:
    """Why a member of an entry would have no effect. None if all members have one."""
    types = {activity["type"] for activity, _ in activities}
    for member, acts_on in _TYPES.items():
        if getattr(entry, member) != getattr(_SILENT, member) and not types & acts_on:
            only, is_of = " and ".join(sorted(acts_on)), ", ".join(sorted(types))
            return f"has {member!r}, which only has an effect on {only}, but its type is {is_of}"
    for member in _IN_LOOPS:
        if getattr(entry, member) and not any(in_loop for _, in_loop in activities):
            return f"has {member!r}, which only has an effect inside a ForEach or Until, but is in neither"
    if entry.items is not None and entry.iterations is not None:
        return "has 'items' and 'iterations', which both set the number of iterations. Keep one"
    fails = entry.outcome == "Failed" or entry.fail_attempts or entry.fail_iterations or types & _FAILING
    if entry.error and not fails:
        return 'has an \'error\', but never fails. Add "outcome": "Failed"'
    returns = any((a.get("typeProperties") or {}).get("variableName") == RETURN_VALUE for a, _ in activities)
    if returns and entry.value is not UNKNOWN and not isinstance(entry.value, Mapping):
        return "sets the return value of the pipeline, so its 'value' must be an object"
    return None

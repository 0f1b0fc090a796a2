"""Loads pipelines from an ADF Git folder, from one pipeline's JSON file, or from an ARM template."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

_PARAMETER = re.compile(r"\[parameters\('([^']+)'\)\]")
_PIPELINE_NAME = re.compile(r"[A-Za-z0-9_][^<>*#.%&:\\+?/]{0,259}")
_FACTORY_CHILD = re.compile(r"\[concat\(parameters\('[^']+'\), *'/([^']+)'\)\]")

INNER_LISTS = ("activities", "ifTrueActivities", "ifFalseActivities", "defaultActivities")
"""The members in which containers keep their activities. A Switch has more in its `cases`."""


RETURN_VALUE = "pipelineReturnValue"
"""With this name, a SetVariable sets no variable of the pipeline, but the value that the pipeline returns."""


@dataclass(frozen=True)
class PipelineDefinition:
    """A published pipeline. Raises `ValueError` for activities that no run could complete."""

    name: str
    properties: Mapping[str, Any]

    def __post_init__(self) -> None:
        try:
            _check_activities(self.activities)
        except ValueError as e:
            raise ValueError(f"pipeline {self.name!r}: {e}") from e

    @property
    def activities(self) -> list[dict[str, Any]]:
        """The activities. If a template expression stands in their place, the pipeline has none."""
        given = self.properties.get("activities")
        return list(given) if isinstance(given, list) else []

    @property
    def parameters(self) -> dict[str, dict[str, Any]]:
        """Declarations: {name: {"type", "defaultValue"?}}. A template expression in their place declares none."""
        declared = self.properties.get("parameters")
        return dict(declared) if isinstance(declared, Mapping) else {}

    @property
    def variables(self) -> dict[str, Any]:
        declared = self.properties.get("variables")
        if not isinstance(declared, Mapping):
            return {}
        return {name: spec.get("defaultValue") for name, spec in declared.items()}

    @property
    def concurrency(self) -> int | None:
        value = self.properties.get("concurrency")
        return value if isinstance(value, int) else None


def branches(activity: Mapping[str, Any]) -> list[list[dict[str, Any]]]:
    """The lists of activities inside a container. Other activities have none."""
    properties = activity.get("typeProperties") or {}
    inner = [properties.get(member) for member in INNER_LISTS]
    inner += [case.get("activities") for case in properties.get("cases") or []]
    return [activities for activities in inner if isinstance(activities, list)]


def _check_activities(activities: list[dict[str, Any]]) -> None:
    """Check that names are given and unique, and that dependencies stay in the list and form no circle."""
    before: dict[str, set[str]] = {}
    for activity in activities:
        _check_shape(activity)
        if not activity.get("name") or not activity.get("type"):
            raise ValueError("an activity has no name or no type")
        if activity["name"] in before:
            raise ValueError(f"two activities are named {activity['name']!r}")
        before[activity["name"]] = {dependency["activity"] for dependency in activity.get("dependsOn") or []}
        for inner in branches(activity):
            _check_activities(inner)
    for name, dependencies in before.items():
        if unknown := dependencies - set(before):
            raise ValueError(f"activity {name!r} depends on unknown activities: {', '.join(sorted(unknown))}")
    while before:
        free = {name for name, dependencies in before.items() if not dependencies & set(before)}
        if not free:
            raise ValueError(f"activities depend on each other in a circle: {', '.join(sorted(before))}")
        before = {name: dependencies for name, dependencies in before.items() if name not in free}


def _check_shape(activity: Any) -> None:
    """Check that objects and lists are where the specification has them. All other code relies on that."""
    if not isinstance(activity, Mapping):
        raise ValueError("an activity is not an object")
    name = activity.get("name")
    for member in ("typeProperties", "policy"):
        if not isinstance(activity.get(member) or {}, Mapping):
            raise ValueError(f"{member} of activity {name!r} must be an object")
    cases = (activity.get("typeProperties") or {}).get("cases") or []
    if not _are_objects(cases):
        raise ValueError(f"cases of activity {name!r} must be a list of objects")
    dependencies = activity.get("dependsOn") or []
    if not _are_objects(dependencies) or not all(isinstance(d.get("activity"), str) for d in dependencies):
        raise ValueError(f"dependsOn of activity {name!r} must be a list of objects that each name an activity")


def _are_objects(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(entry, Mapping) for entry in value)


@dataclass(frozen=True)
class FactoryDefinition:
    """A data factory: the answer of Factories_Get, and the pipelines by name."""

    pipelines: Mapping[str, PipelineDefinition]
    name: str | None = None
    location: str = "westeurope"
    identity: Mapping[str, Any] | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    global_parameters: Mapping[str, Any] = field(default_factory=dict)

    def pipeline(self, name: str) -> PipelineDefinition | None:
        """The pipeline with a name. Names are compared without case, as ARM compares paths."""
        by_name = {known.lower(): definition for known, definition in self.pipelines.items()}
        return by_name.get(name.lower())

    def with_pipeline(self, pipeline: PipelineDefinition) -> Self:
        """A copy with this pipeline, which replaces a pipeline of the same name."""
        return replace(self, pipelines={**self.pipelines, pipeline.name: pipeline})


def load_factory(path: Path, *, arm_parameters: Mapping[str, Any] | None = None) -> FactoryDefinition:
    """The factory described at `path`.

    `path` is an ADF Git folder (`pipeline/*.json`, and `factory/*.json` where it is there), a file of one pipeline, or an
    ARM template. In a template, the expression `[parameters('x')]` is replaced by `arm_parameters` or the parameter's
    default. Without both, the expression stays. Raises `ValueError` for any other file.
    """
    if path.is_dir():
        return _load_folder(path)
    document = _read(path)
    if "resources" in document:
        try:
            return _load_template(document, arm_parameters or {})
        except (AttributeError, KeyError, TypeError) as e:
            raise ValueError(f"{path} does not have the form of an ARM template ({type(e).__name__}: {e})") from e
    if "properties" in document:
        pipeline = _pipeline(document, path)
        return FactoryDefinition(pipelines={pipeline.name: pipeline})
    raise ValueError(f"{path} is neither an ADF Git folder nor a pipeline nor an ARM template")


def _load_folder(path: Path) -> FactoryDefinition:
    files = sorted((path / "pipeline").glob("*.json"))
    if not files:
        raise ValueError(f"{path} is not an ADF Git folder: it has no pipeline/*.json")
    pipelines = {pipeline.name: pipeline for pipeline in (_pipeline(_read(file), file) for file in files)}
    described = [_read(file) for file in sorted((path / "factory").glob("*.json"))]
    if not described:
        return FactoryDefinition(pipelines=pipelines)
    factory = described[0]
    properties = factory.get("properties") or {}
    return FactoryDefinition(
        pipelines=pipelines,
        name=factory.get("name"),
        location=factory.get("location", "westeurope"),
        identity=factory.get("identity"),
        tags=factory.get("tags") or {},
        global_parameters={
            name: spec.get("value") for name, spec in (properties.get("globalParameters") or {}).items()
        },
    )


def _load_template(template: Mapping[str, Any], given: Mapping[str, Any]) -> FactoryDefinition:
    defaults = {
        name: spec["defaultValue"]
        for name, spec in (template.get("parameters") or {}).items()
        if "defaultValue" in spec
    }
    values = {**defaults, **given}
    pipelines = {}
    for resource in template["resources"]:
        if str(resource.get("type", "")).lower() != "microsoft.datafactory/factories/pipelines":
            continue
        child = _FACTORY_CHILD.fullmatch(resource["name"])
        name = child.group(1) if child else resource["name"].rsplit("/", 1)[-1]
        pipelines[name] = PipelineDefinition(name, _resolved(resource["properties"], values))
    if not pipelines:
        raise ValueError("the ARM template has no pipelines")
    return FactoryDefinition(pipelines=pipelines)


def _resolved(value: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(value, Mapping):
        return {key: _resolved(item, values) for key, item in value.items()}
    if isinstance(value, list):
        return [_resolved(item, values) for item in value]
    if isinstance(value, str) and (match := _PARAMETER.fullmatch(value)):
        return values.get(match.group(1), value)
    return value


def _pipeline(document: Mapping[str, Any], path: Path) -> PipelineDefinition:
    if "name" not in document or "activities" not in (document.get("properties") or {}):
        raise ValueError(f"{path} is not a pipeline: it has no name or no properties.activities")
    return PipelineDefinition(document["name"], document["properties"])


def published_pipeline(name: str, resource: Mapping[str, Any]) -> PipelineDefinition:
    """A pipeline from a request to publish it. Raises `ValueError` for what the specification does not allow.

    A `lastPublishTime` from an earlier answer is not a property, and is dropped.
    """
    if not _PIPELINE_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not a valid name of a pipeline")
    properties = resource.get("properties")
    if not isinstance(properties, Mapping):
        raise ValueError("its properties are missing")
    for member, kind in (("activities", list), ("parameters", dict), ("variables", dict)):
        if not isinstance(properties.get(member, kind()), kind):
            raise ValueError(f"its {member} must be of type {'array' if kind is list else 'object'}")
    return PipelineDefinition(name, {key: value for key, value in properties.items() if key != "lastPublishTime"})


def _read(path: Path) -> dict[str, Any]:
    try:
        # utf-8-sig: ADF Studio and PowerShell write byte order marks.
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as e:
        raise ValueError(f"{path} is not JSON: {e}") from e
    if not isinstance(document, dict):
        raise ValueError(f"{path} is not a JSON object")
    return document

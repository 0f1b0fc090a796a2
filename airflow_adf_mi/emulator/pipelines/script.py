"""The script: how long activities take, how they end, and their outputs.

The form in JSON (a file for the command line, or sent to a running emulator):

    {"defaults":   {"seconds": 1},
     "pipelines":  {"<pipeline>": {"queued_seconds": 0.5, "cancel_seconds": 2, "cancel": "wins" | "loses"}},
     "activities": {"<pipeline>/<activity>": {"seconds": 3, "outcome": "Succeeded" | "Failed", "output": {...},
                                              "error": {"errorCode", "message", "failureType", "target"},
                                              "items": [...], "iterations": 2, "condition": true, "case": "x",
                                              "value": ..., "parameters": {...},
                                              "fail_iterations": [1], "fail_attempts": 1,
                                              "outputs_by_iteration": [{...}, {...}]}},
     "runs":       [{"pipeline": "<pipeline>", "when": {"<parameter>": "<value>"}, "times": 1,
                     "pipelines": {...}, "activities": {...}}]}

An entry of `runs` applies to runs of its `pipeline` whose parameters have the values of `when`. With `"times": 2`, it applies to
the first two such runs; without `times`, to all of them. It overrides the general entries. In its `activities`, the pipeline's
name may be left out.

A member that is unknown or of the wrong type is refused, and so is a name that no factory has (`script_names`). Otherwise a test
would pass although its script has no effect.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from airflow_adf_mi.emulator.pipelines.expressions import UNKNOWN
from airflow_adf_mi.emulator.pipelines.script_shape import ACTIVITY, DEFAULTS, PIPELINE, RUN, SCRIPT, check


@dataclass(frozen=True, kw_only=True)
class ActivityScript:
    """The script of one activity. A member that is None leaves the decision to the definition, or to a default."""

    seconds: float | None = None
    """How long the activity takes. If its policy's timeout is shorter, the activity fails at the timeout."""
    outcome: Literal["Succeeded", "Failed"] = "Succeeded"
    output: Mapping[str, Any] | None = None
    error: Mapping[str, Any] | None = None
    items: list[Any] | None = None
    """The items of a ForEach or a Filter."""
    iterations: int | None = None
    """How many items a ForEach has, or how many rounds an Until takes."""
    condition: bool | None = None
    """The branch that an IfCondition takes."""
    case: str | None = None
    """The case that a Switch takes."""
    value: Any = UNKNOWN
    """The value that a SetVariable sets, or an AppendVariable appends. For `pipelineReturnValue`, an object."""
    parameters: Mapping[str, Any] | None = None
    """Parameters of the run that an ExecutePipeline starts. They override those of its definition."""
    fail_iterations: tuple[int, ...] = ()
    """The iterations, from 0, of the innermost ForEach or Until in which the activity fails."""
    fail_attempts: int = 0
    """How many attempts fail before an attempt ends with `outcome`. The activity's policy decides on retries."""
    outputs_by_iteration: tuple[Mapping[str, Any], ...] = ()
    """The output in each iteration of the innermost ForEach or Until. For further iterations, `output` counts."""

    def output_in(self, iteration: int | None) -> Mapping[str, Any] | None:
        if iteration is not None and iteration < len(self.outputs_by_iteration):
            return self.outputs_by_iteration[iteration]
        return self.output


@dataclass(frozen=True, kw_only=True)
class PipelineScript:
    """How the runs of a pipeline are queued and cancelled."""

    queued_seconds: float = 0.5
    cancel_seconds: float = 2.0
    cancel: Literal["wins", "loses"] = "wins"
    """Whether a cancelled run ends as Cancelled, or as if it had not been cancelled."""


@dataclass
class RunScript:
    """Entries that apply to some runs only."""

    pipeline: str
    when: Mapping[str, Any] = field(default_factory=dict)
    times: int | None = None
    pipelines: Mapping[str, PipelineScript] = field(default_factory=dict)
    activities: Mapping[str, ActivityScript] = field(default_factory=dict)

    def applies_to(self, pipeline: str, parameters: Mapping[str, Any]) -> bool:
        return (
            self.times != 0
            and self.pipeline.lower() == pipeline.lower()
            and all(name in parameters and parameters[name] == value for name, value in self.when.items())
        )


@dataclass
class Script:
    """The whole script."""

    seconds: float = 1.0
    """How long an activity takes if no other entry sets its time."""
    pipelines: Mapping[str, PipelineScript] = field(default_factory=dict)
    activities: Mapping[str, ActivityScript] = field(default_factory=dict)
    runs: list[RunScript] = field(default_factory=list)

    @classmethod
    def from_json(cls, document: Any) -> Self:
        """Read a script from JSON. Raises `ValueError` for an unknown member, or one of the wrong type."""
        check("the script", document, SCRIPT)
        defaults = document.get("defaults", {})
        check("defaults", defaults, DEFAULTS)
        return cls(
            seconds=float(defaults.get("seconds", 1.0)),
            pipelines=_pipelines("pipelines", document.get("pipelines", {})),
            activities=_activities("activities", document.get("activities", {})),
            runs=[_run(f"runs[{number}]", entry) for number, entry in enumerate(document.get("runs", []))],
        )

    def for_run(self, pipeline: str, parameters: Mapping[str, Any]) -> RunScript:
        """The entry of `runs` for a new run, which counts as one use of it. An empty entry if none applies."""
        for entry in self.runs:
            if entry.applies_to(pipeline, parameters):
                if entry.times is not None:
                    entry.times -= 1
                return entry
        return RunScript(pipeline)

    def pipeline(self, name: str, run: RunScript) -> PipelineScript:
        return run.pipelines.get(name) or self.pipelines.get(name) or PipelineScript()

    def activity(self, pipeline: str, name: str, run: RunScript) -> ActivityScript:
        key = f"{pipeline}/{name}"
        return run.activities.get(key) or self.activities.get(key) or ActivityScript()


def _run(where: str, entry: Any) -> RunScript:
    check(where, entry, RUN)
    if "pipeline" not in entry:
        raise ValueError(f"{where} needs a pipeline: the name of the pipeline whose runs it is about")
    name = entry["pipeline"]
    activities = {key if "/" in key else f"{name}/{key}": value for key, value in entry.get("activities", {}).items()}
    return RunScript(
        pipeline=name,
        when=entry.get("when", {}),
        times=entry.get("times"),
        pipelines=_pipelines(f"{where}.pipelines", entry.get("pipelines", {})),
        activities=_activities(f"{where}.activities", activities),
    )


def _pipelines(where: str, entries: Mapping[str, Any]) -> dict[str, PipelineScript]:
    for name, entry in entries.items():
        check(f"{where}: {name!r}", entry, PIPELINE)
    return {name: PipelineScript(**entry) for name, entry in entries.items()}


def _activities(where: str, entries: Mapping[str, Any]) -> dict[str, ActivityScript]:
    scripts = {}
    for name, entry in entries.items():
        check(f"{where}: {name!r}", entry, ACTIVITY)
        several = {
            member: tuple(entry[member]) for member in ("fail_iterations", "outputs_by_iteration") if member in entry
        }
        scripts[name] = ActivityScript(**{**entry, **several})
    return scripts

"""How far a run has come, for each list of its activities. A recovery run takes its beginning from it (`recovery`)."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

from airflow_adf_mi.emulator.pipelines.expressions import UNKNOWN


@dataclass(frozen=True)
class Assignment:
    """A value that an activity gave to a variable, or that it returned to the pipeline's caller."""

    activity: str
    variable: str
    value: Any
    appends: bool = False


@dataclass
class Progress:
    """How far one list of activities has come: of a pipeline, a branch or an iteration."""

    ended: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The values of `activity('name')`: of the list's ended activities, and of activities inside its ended containers."""
    assignments: list[Assignment] = field(default_factory=list)
    """The assignments by the activities in `ended`, in the order of time."""
    inner: dict[tuple[str, Hashable], Progress] = field(default_factory=dict)
    """The progress inside activities: by activity, and by iteration, branch or name of the child pipeline. An Until has none."""
    carried: frozenset[str] = frozenset()
    """The list's activities that this run does not run, because an earlier run did."""
    resumed: frozenset[str] = frozenset()
    """The list's activities that this run continues where the earlier run ended. Until then, `inner` is the earlier run's."""
    item: Any = UNKNOWN
    """The item of the innermost ForEach."""

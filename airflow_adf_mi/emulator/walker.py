"""Walks a pipeline's activities: which may start, which are skipped, and what the whole comes to.

A `Walk` runs one list of activities (a pipeline's, a branch's, an iteration's). Time passes by events of the factory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from airflow_adf_mi.emulator.expressions import UNKNOWN, Scope
from airflow_adf_mi.emulator.runs import ActivityRun, Run
from airflow_adf_mi.emulator.script import ActivityScript, Script


@dataclass(frozen=True)
class Result:
    """How an activity, or a list of them, ended."""

    status: str
    message: str = ""
    failed_activity: str | None = None
    """The inner activity that failed, for a list of activities."""


class Factory(Protocol):
    """What a walk needs of its factory."""

    script: Script

    @property
    def global_parameters(self) -> Mapping[str, Any]: ...

    @property
    def list_skipped(self) -> bool: ...

    def now(self) -> float: ...

    def after(self, seconds: float, action: Callable[[], None]) -> None: ...

    def touch(self, run: Run) -> None: ...

    def start_child(
        self,
        parent: Run,
        activity: ActivityRun,
        pipeline: str,
        values: Mapping[str, Any],
        on_end: Callable[[Run], None],
    ) -> Run: ...


def is_met(status: str, conditions: Iterable[str]) -> bool:
    """Whether an activity that ended as `status` meets one of the conditions. Completed means that it ran."""
    wanted = set(conditions) or {"Succeeded"}
    return status in wanted or ("Completed" in wanted and status in ("Succeeded", "Failed"))


def outcome_of(activities: list[dict[str, Any]], results: Mapping[str, Result]) -> Result:
    """What a list of ended activities comes to, by Data Factory's documented rule.

    The leaves decide; in place of a leaf that was skipped, the activities it depends on do. It failed if any that decides
    failed: the first of them, in the order of the definition, gives the message.
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


class Walk:
    """One list of activities of a run, on its way.

    `on_end` gets the outcome; a walk whose run was cancelled stops without one.
    """

    def __init__(
        self,
        factory: Factory,
        run: Run,
        activities: list[dict[str, Any]],
        on_end: Callable[[Result], None],
        *,
        item: Any = UNKNOWN,
        iteration: int | None = None,
        iteration_hash: str = "",
    ) -> None:
        self.factory = factory
        self.run = run
        self.item = item
        self.iteration = iteration
        self.iteration_hash = iteration_hash
        self._activities = activities
        self._on_end = on_end
        names = {activity["name"] for activity in activities}
        self._results: dict[str, Result] = {name: Result("Succeeded") for name in names & run.carried_over}
        self._running: set[str] = set()
        self._over = False

    def begin(self) -> None:
        """Start what depends on nothing."""
        self._advance()

    def scope(self) -> Scope:
        """What expressions see at this point."""
        return Scope(
            parameters=self.run.values,
            global_parameters=self.factory.global_parameters,
            variables=self.run.variables,
            outputs=self.run.outputs,
            item=self.item,
            run_id=self.run.run_id,
            pipeline=self.run.pipeline,
        )

    def script(self, name: str) -> ActivityScript:
        return self.factory.script.activity(self.run.pipeline, name, self.run.run_script)

    def record(self, activity: Mapping[str, Any], **members: Any) -> ActivityRun:
        """A new activity run of this run."""
        entry = ActivityRun(
            name=activity["name"],
            kind=activity["type"],
            pipeline=self.run.pipeline,
            run_id=self.run.run_id,
            started=self.factory.now(),
            iteration_hash=self.iteration_hash,
            linked_service=(activity.get("linkedServiceName") or {}).get("referenceName", ""),
            user_properties={p["name"]: p.get("value") for p in activity.get("userProperties") or []},
            **members,
        )
        self.run.activities.append(entry)
        self.factory.touch(self.run)
        return entry

    def _advance(self) -> None:
        from airflow_adf_mi.emulator.activities import execute

        progressed = True
        while progressed and not self._over:
            progressed = False
            for activity in self._activities:
                name = activity["name"]
                if name in self._results or name in self._running or self._over:
                    continue
                ready = self._readiness(activity)
                if ready is None:
                    continue
                progressed = True
                if ready:
                    self._running.add(name)
                    execute(self, activity, partial(self._ended, name))
                else:
                    if self.factory.list_skipped:
                        self.record(activity, status="Skipped", ended=self.factory.now())
                    self._results[name] = Result("Skipped")
        if not self._over and len(self._results) == len(self._activities):
            self._over = True
            self._on_end(outcome_of(self._activities, self._results))

    def _readiness(self, activity: Mapping[str, Any]) -> bool | None:
        """True to start, False to skip, None to wait."""
        dependencies = activity.get("dependsOn") or []
        ended = [(d, self._results[d["activity"]].status) for d in dependencies if d["activity"] in self._results]
        if any(not is_met(status, d.get("dependencyConditions") or []) for d, status in ended):
            return False
        return True if len(ended) == len(dependencies) else None

    def _ended(self, name: str, result: Result) -> None:
        self._running.discard(name)
        if self.run.is_over:
            return
        self._results[name] = result
        self.factory.touch(self.run)
        self._advance()

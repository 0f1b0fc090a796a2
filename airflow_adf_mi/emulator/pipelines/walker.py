"""Walks through a pipeline's activities: which may start, which are skipped, and the outcome of the whole.

A `Walk` runs one list of activities: of a pipeline, a branch or an iteration. Time passes by events of the factory.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol

from airflow_adf_mi.emulator.pipelines.expressions import UNKNOWN, Scope, evaluate
from airflow_adf_mi.emulator.pipelines.outcomes import Result, is_met, outcome_of
from airflow_adf_mi.emulator.pipelines.progress import Assignment, Progress
from airflow_adf_mi.emulator.pipelines.runs import ActivityRun, Run
from airflow_adf_mi.emulator.pipelines.script import ActivityScript, Script
from airflow_adf_mi.emulator.switches import Switches

End = Callable[[Result], None]


class Factory(Protocol):
    """The members of a factory that a walk uses."""

    script: Script
    switches: Switches

    @property
    def global_parameters(self) -> Mapping[str, Any]: ...

    @property
    def execute(self) -> Callable[[Walk, Mapping[str, Any], End], None]:
        """Starts one activity. `End` is called when it has ended, now or later."""

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
        *,
        earlier: Progress | None,
    ) -> Run:
        """Start another pipeline, which may continue an earlier run. Raises `ServiceError` if the service would refuse it."""


class Walk:
    """One list of activities of a run, in progress.

    `on_end` gets the outcome. A walk that is stopped, or whose run is stopped, ends without an outcome.
    """

    def __init__(
        self,
        factory: Factory,
        run: Run,
        activities: list[dict[str, Any]],
        on_end: End,
        *,
        progress: Progress,
        parent: Walk | None = None,
        item: Any = UNKNOWN,
        iteration: int | None = None,
        iteration_hash: str = "",
    ) -> None:
        self.factory = factory
        self.run = run
        self.progress = progress
        self.item = item
        self.iteration = iteration
        self.iteration_hash = iteration_hash
        self._parent = parent
        self._activities = activities
        self._on_end = on_end
        self._running: set[str] = set()
        self._entries: list[ActivityRun] = []
        self.inner: list[Walk] = []
        self._over = False
        self._results = {name: Result(progress.ended[name]["Status"]) for name in progress.carried}
        # An iteration sees its own activities, not those of parallel iterations.
        self.ended_activities: ChainMap[str, dict[str, Any]]
        if parent is None:
            self.ended_activities = ChainMap(progress.ended)
        else:
            self.ended_activities = parent.ended_activities.new_child(progress.ended)
            parent.inner.append(self)
        for assignment in progress.assignments:
            run.assign(assignment)

    def begin(self) -> None:
        """Start the activities without dependencies."""
        self._advance()

    @property
    def is_stopped(self) -> bool:
        """Whether the walk has ended, or must not continue."""
        return self._over or self.run.is_stopping or (self._parent is not None and self._parent.is_stopped)

    def stop(self) -> None:
        """End without an outcome, and stop all that is running inside."""
        self._over = True
        for entry in self._entries:
            if entry.ended is None:
                entry.status, entry.ended = "Cancelled", self.factory.now()
        for inner in self.inner:
            inner.stop()

    def scope(self) -> Scope:
        """The values that expressions see at this point."""
        return Scope(
            parameters=self.run.values,
            global_parameters=self.factory.global_parameters,
            variables=self.run.variables,
            activities=self.ended_activities,
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
            user_properties={p["name"]: self._user_property(activity, p) for p in activity.get("userProperties") or []},
            **members,
        )
        self._entries.append(entry)
        self.run.activities.append(entry)
        self.factory.touch(self.run)
        return entry

    def _user_property(self, activity: Mapping[str, Any], entry: Mapping[str, Any]) -> Any:
        value = evaluate(entry.get("value"), self.scope())
        if value is UNKNOWN:
            self.run.guess(activity["name"], f"user property {entry['name']!r}", entry.get("value"), "null")
        return value

    def remember(self, name: str, ended: dict[str, Any]) -> None:
        """Set the value of `activity('name')` from now on."""
        self.ended_activities[name] = ended

    def assign(self, assignment: Assignment) -> None:
        """Change a variable of the run, or the values that it returns."""
        self.run.assign(assignment)
        self.progress.assignments.append(assignment)

    def _advance(self) -> None:
        progressed = True
        while progressed and not self.is_stopped:
            progressed = False
            for activity in self._activities:
                name = activity["name"]
                if name in self._results or name in self._running or self.is_stopped:
                    continue
                ready = self._readiness(activity)
                if ready is None:
                    continue
                progressed = True
                if ready:
                    self._running.add(name)
                    self.factory.execute(self, activity, partial(self._ended, name))
                else:
                    self._skip(activity)
        if not self.is_stopped and len(self._results) == len(self._activities):
            self._over = True
            if self._parent is not None:
                # Published pipelines refer to activities inside a container after it. The last iteration counts.
                self._parent.progress.ended.update(self.progress.ended)
                self._parent.progress.assignments.extend(self.progress.assignments)
            self._on_end(outcome_of(self._activities, self._results))

    def _readiness(self, activity: Mapping[str, Any]) -> bool | None:
        """True to start, False to skip, None to wait."""
        if self._parent is None and activity["name"] == self.run.start_activity:
            return True
        dependencies = activity.get("dependsOn") or []
        ended = [(d, self._results[d["activity"]].status) for d in dependencies if d["activity"] in self._results]
        if any(not is_met(status, d.get("dependencyConditions") or []) for d, status in ended):
            return False
        return True if len(ended) == len(dependencies) else None

    def _skip(self, activity: Mapping[str, Any]) -> None:
        if self.factory.switches.list_skipped:
            self.record(activity, status="Skipped", ended=self.factory.now())
        self._results[activity["name"]] = Result("Skipped")
        self.remember(activity["name"], {"Status": "Skipped"})

    def _ended(self, name: str, result: Result) -> None:
        self._running.discard(name)
        self._results[name] = result
        self.factory.touch(self.run)
        self._advance()

"""A service, a task's journal and a clock that exist in memory, for routines that start and adopt runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from airflow_adf_mi.adf.api.operations import Call, Page
from airflow_adf_mi.adf.errors import (
    AdfError,
    AdfNotFoundError,
    AdfPermissionError,
    AdfQueueFullError,
    AdfUnavailableError,
)
from airflow_adf_mi.adf.models import ActivityRun, PipelineRun, RunStatus
from airflow_adf_mi.adf.routines import Routine, run_routine
from airflow_adf_mi.adf.starting.intent import Intent

LOST = AdfUnavailableError("the answer was dropped")


class ProcessDied(BaseException):
    """The process that drove the routine was killed, without a chance to log or store anything."""


@dataclass
class Service:
    """Runs by id. `on_create` decides how a createRun is handled: "answered", "lost", "dropped" (never arrived), "refused",
    "full" (the queue), or "late" (the process dies, and the run appears `late_seconds` later).
    """

    own_ids: bool = False
    own_rerun_ids: bool = False
    """The service chooses the ids of reruns only."""
    list_lag: float = 0.0
    ahead: float = 0.0
    """Seconds by which the service's clock is ahead of the task's."""
    now: float = 1_000_000.0
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    on_create: Callable[[], str] = lambda: "answered"
    late_seconds: float = 10.0
    cancel_loses: bool = False
    shows_old_status: bool = False
    """The answer to a cancel says that the run has ended, although the run is still shown as active."""
    polls_fail: bool = False
    polls_unreadable: bool = False
    listed: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By run id: what the list still shows, although it has changed."""
    faults: Iterator[AdfError] = field(default_factory=lambda: iter(()))
    """Errors that the next polls and searches get, before any gets its proper answer."""
    faulty: str | None = None
    """The operation that `faults` are for, "get" or "query_by_factory"; or the run whose polls get them. None: all."""
    missing: str | None = None
    """What the service does not know ("run", "factory", "subscription"), in all its answers."""
    dies_after_create: bool = False
    """The process that sends createRun dies once the run exists."""
    requested: int = 0
    """How many createRun were sent."""
    created: int = 0
    """How many of them started a run."""
    sent: list[dict[str, Any]] = field(default_factory=list)
    """The parameters of each createRun, as they were sent."""
    definitions_read: int = 0
    """How many times the definition of a pipeline was read."""
    queries: int = 0
    """How many times the run list was queried."""
    polls: int = 0
    """How many times a run was read by its id."""
    page_size: int = 1000
    """How many runs a page of the run list has."""
    list_seconds: float = 0.0
    """How long a query of the run list takes. Its answer is as old as its beginning."""
    activities: dict[str, dict[str, str]] = field(default_factory=dict)
    """By run id: the status of each activity."""
    refuses_recovery: AdfError | None = None
    """The refusal that each recovery gets; None if the service accepts it."""
    declares: Mapping[str, Any] | AdfError | None = None
    """The parameters that pipelines declare; or the error of reading a definition. None: there is no definition."""
    published_name: str | None = None
    """How the name of pipelines is spelled. None: as it is asked for."""
    step: Callable[[], None] = lambda: None
    """Called before each step that leaves the process: may raise `ProcessDied`."""

    def clock(self) -> float:
        return self.now

    def service_time(self) -> float:
        return self.now + self.ahead

    def authenticate(self) -> None:
        self.step()

    def pause(self, seconds: float) -> None:
        self.now += seconds
        self.step()

    def send(self, call: Call[Any]) -> Any:
        self.step()
        answer = getattr(
            self, "_get_pipeline" if call.group == "pipelines" and call.method == "get" else f"_{call.method}"
        )(call)
        if call.method == "query_by_factory":
            self.now += self.list_seconds
        self.step()
        return answer

    def end(self, run_id: str, status: str) -> None:
        self.runs[run_id]["status"] = status

    def finish(self, run_id: str, status: str = "Succeeded") -> None:
        """End a run now, with the time of its end."""
        ended = datetime.fromtimestamp(self.service_time(), UTC).isoformat()
        self.runs[run_id] |= {"status": status, "runEnd": ended, "lastUpdated": ended}

    def show_at_the_look(self, run_id: str) -> None:
        """Show a run as soon as the list is queried by status, as a look for runs that are already there does."""
        query = self._query_by_factory

        def showing(call: Call[Any]) -> Page[PipelineRun]:
            if any(given["operand"] == "Status" for given in call.args[2].get("filters", ())):
                self.runs[run_id] |= {"appears_at": 0.0, "listed_at": 0.0}
            return query(call)

        self._query_by_factory = showing  # type: ignore[method-assign]

    def live(self) -> list[str]:
        return [run_id for run_id, run in self.runs.items() if run["status"] not in RunStatus.TERMINAL]

    def start_foreign(self, pipeline: str = "Load", **parameters: str) -> str:
        """A run that somebody else started."""
        return self._new(f"foreign-{len(self.runs)}", pipeline, parameters)

    def start_elsewhere(self, key: str, pipeline: str = "Load") -> str:
        """A run that another deployment of this package started under its key."""
        return self._new(key, pipeline, None)

    def _new(self, run_id: str, pipeline: str, parameters: Mapping[str, Any] | None, factory: str = "adf") -> str:
        began = datetime.fromtimestamp(self.service_time(), UTC).isoformat()
        self.runs[run_id] = {
            "runId": run_id,
            "factory": factory,
            "pipelineName": pipeline,
            "parameters": {name: str(value) for name, value in (parameters or {}).items()},
            "status": "InProgress",
            "runStart": began,
            "lastUpdated": began,
            "invokedBy": {"invokedByType": "Manual"},
            "runGroupId": run_id,
            "isLatest": True,
            "listed_at": self.now + self.list_lag,
        }
        return run_id

    def join_group(self, run_id: str, earlier: str) -> None:
        """Make a run the newest of the group of an earlier run."""
        group = self.runs[earlier]["runGroupId"]
        for run in self.runs.values():
            if run["runGroupId"] == group:
                run["isLatest"] = False
        self.runs[run_id] |= {"runGroupId": group, "parameters": self.runs[earlier]["parameters"]}

    def _query_by_pipeline_run(self, call: Call[Any]) -> Page[ActivityRun]:
        self._fail(call)
        ran = self.activities.get(call.args[2], {})
        shown = [{"activityName": name, "activityRunId": name, "status": status} for name, status in ran.items()]
        return Page(
            items=[ActivityRun.from_wire(one) for one in shown if one["status"] == "Succeeded"], continuation_token=None
        )

    def _create_run(self, call: Call[Any]) -> Any:
        fate = self.on_create()
        self.requested += 1
        self.sent.append(dict(call.kwargs["parameters"] or {}))
        if fate == "dropped":
            raise LOST
        if fate == "full":
            raise AdfQueueFullError("the queue is full", status=400)
        if fate == "refused":
            raise AdfPermissionError("403", status=403, code="AuthorizationFailed")
        if self.refuses_recovery is not None and call.kwargs.get("is_recovery"):
            raise self.refuses_recovery
        self.created += 1
        is_own = self.own_ids or (self.own_rerun_ids and call.kwargs.get("is_recovery"))
        run_id = f"own-{self.created}" if is_own else call.kwargs["request_id"]
        assert run_id not in self.runs, "the same key was sent twice"
        self._new(run_id, call.args[2], {**self._defaults(), **(call.kwargs["parameters"] or {})}, call.args[1])
        if call.kwargs.get("is_recovery"):
            self.join_group(run_id, call.kwargs["reference_pipeline_run_id"])
        if self.dies_after_create:
            raise ProcessDied
        if fate == "lost":
            raise LOST
        if fate == "late":
            self.runs[run_id]["appears_at"] = self.runs[run_id]["listed_at"] = self.now + self.late_seconds
            raise ProcessDied
        return run_id

    def _fail(self, call: Call[Any]) -> None:
        if self.faulty in (None, call.method, call.args[2]) and (fault := next(self.faults, None)) is not None:
            raise fault

    def _get_pipeline(self, call: Call[Any]) -> Mapping[str, Any]:
        self.definitions_read += 1
        if self.declares is None:
            raise AdfNotFoundError("404", status=404, missing="pipeline")
        if isinstance(self.declares, AdfError):
            raise self.declares
        return {"name": self.published_name or call.args[2], "properties": {"parameters": self.declares}}

    def _list(self, call: Call[Any]) -> Any:
        """Names of factories or pipelines, for suggestions. This identity has no role to list them."""
        raise AdfPermissionError("403", status=403, code="AuthorizationFailed")

    _list_by_factory = _list

    def _defaults(self) -> Mapping[str, Any]:
        declared = self.declares if isinstance(self.declares, Mapping) else {}
        return {
            name: one["defaultValue"]
            for name, one in declared.items()
            if isinstance(one, Mapping) and "defaultValue" in one
        }

    def _get(self, call: Call[Any]) -> PipelineRun:
        self.polls += 1
        self._fail(call)
        if self.polls_fail:
            raise AdfUnavailableError("503", status=503)
        if self.polls_unreadable:
            raise AdfUnavailableError("no status", status=200, unreadable=True)
        if self.missing is not None:
            raise AdfNotFoundError("404", status=404, missing=self.missing)
        run = self.runs.get(call.args[2])
        if run is None or run["factory"] != call.args[1] or run.get("appears_at", 0.0) > self.now:
            raise AdfNotFoundError("404", status=404, missing="run")
        return PipelineRun.from_wire(run)

    def _cancel(self, call: Call[Any]) -> bool:
        if self.missing is not None:
            raise AdfNotFoundError("404", status=404, missing=self.missing)
        run = self.runs.get(call.args[2])
        if run is None:
            raise AdfNotFoundError("400", status=400, missing="run")
        if run["status"] in RunStatus.TERMINAL or self.shows_old_status:
            return False
        run["status"] = "Canceling"
        return True

    def settle_cancels(self) -> None:
        """End all runs that are being cancelled."""
        for run in self.runs.values():
            if run["status"] == "Canceling":
                run["status"] = "Succeeded" if self.cancel_loses else "Cancelled"

    def _query_by_factory(self, call: Call[Any]) -> Page[PipelineRun]:
        self.queries += 1
        self._fail(call)
        window = call.args[2]
        after, before = (datetime.fromisoformat(window[f"lastUpdated{side}"]) for side in ("After", "Before"))
        filters = {given["operand"]: given["values"] for given in window.get("filters", ())}
        names, groups, statuses = (filters.get(operand) for operand in ("PipelineName", "RunGroupId", "Status"))
        rows = [run | self.listed.get(run["runId"], {}) for run in self.runs.values() if run["listed_at"] <= self.now]
        shown = [PipelineRun.from_wire(run) for run in rows]
        inside = [run for run in shown if run.last_updated and after <= run.last_updated <= before]
        found = [run for run in inside if not names or run.pipeline_name in names]
        found = [run for run in found if run.raw["factory"] == call.args[1]]
        found = [run for run in found if not groups or run.run_group_id in groups]
        found = [run for run in found if not statuses or run.status in statuses]
        if window.get("orderBy") == [{"orderBy": "RunStart", "order": "DESC"}]:
            found.sort(key=lambda run: str(run.started_at), reverse=True)
        begin = int(window.get("continuationToken", 0))
        end = begin + self.page_size
        return Page(items=found[begin:end], continuation_token=str(end) if end < len(found) else None)


@dataclass
class MemoryJournal:
    """A journal that outlives the tries of its task, as Airflow's task state store does."""

    service: Service
    kept: Any = None
    others: set[str] = field(default_factory=set)
    claims: list[str] = field(default_factory=list)
    refuses_claims: bool = False

    def save(self, intent: Intent) -> None:
        self.service.step()
        self.kept = intent.to_json()
        self.service.step()

    save_best_effort = save

    def claimed(self) -> frozenset[str]:
        return frozenset(self.others)

    def claim(self, run_id: str) -> bool:
        self.claims.append(run_id)
        return not self.refuses_claims


def run_on(routine: Routine[Any], service: Service, journal: MemoryJournal) -> Any:
    """The routine's result; an `AdfError` is raised as it is."""
    return run_routine(routine, service, service.pause, journal)


def outcome(routine: Routine[Any], service: Service, journal: MemoryJournal) -> Any:
    """The routine's result, or the `AdfError` it ended with."""
    try:
        return run_on(routine, service, journal)
    except AdfError as e:
        return e

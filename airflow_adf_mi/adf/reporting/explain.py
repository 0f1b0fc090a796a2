"""Explains a run that failed or was cancelled: which activities are the causes, also in child pipelines.

The service lists a run's activities flat. An activity inside a container (ForEach, If, Switch or Until) is listed beside the
container, with the hash of its iteration, but without the container's name. Each attempt is an entry of its own. An
ExecutePipeline names the run that it started. A failed container, and a failed ExecutePipeline, only repeat what failed inside.
So the causes are the failed entries without these two kinds.

This code runs on the triggerer's event loop, and a ForEach may have failed in thousands of iterations. So every step takes time
in proportion to the number of rows. A long list is processed in parts. An `ActivityFailure` is made only for a failure that is
shown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from airflow_adf_mi.adf.activity_failures import ActivityFailure, Explanation
from airflow_adf_mi.adf.api.operations import Page, query_activity_runs
from airflow_adf_mi.adf.api.paging import Pages
from airflow_adf_mi.adf.config.addresses import FactoryRef
from airflow_adf_mi.adf.errors import AdfError, AdfThrottledError, AdfUnavailableError
from airflow_adf_mi.adf.models import ActivityRun, PipelineRun, RunStatus
from airflow_adf_mi.adf.redaction import cap
from airflow_adf_mi.adf.reporting.request_budget import RequestBudget
from airflow_adf_mi.adf.routines import Pause, Routine
from airflow_adf_mi.adf.times import DAY, moment, run_window
from airflow_adf_mi.adf.timing import Timing

EXPLANATION_REQUESTS = 20
MOST_CAUSES_SHOWN = 10
EXPLANATION_PATIENCE_SECONDS = 20.0
"""Seconds after which no more requests are sent, because the failure itself must be reported."""
EXPLANATION_PAUSE_SECONDS = 2.0
"""Seconds until the list of activities is queried again, if the service gave no answer or its list is behind the run."""
MOST_EXPLANATION_PAUSES = 2
"""One explanation makes at most this many such pauses."""
CONTAINERS = frozenset({"ForEach", "IfCondition", "Switch", "Until"})
ROWS_PER_TURN = 500
"""Rows that are processed before the event loop gets a turn."""
_BEFORE_INNER = re.compile("Inner activity name: ", re.IGNORECASE)
_AFTER_INNER = re.compile(", Error", re.IGNORECASE)


StudioUrl = Callable[[str], str]


@dataclass(kw_only=True)
class _Search(RequestBudget):
    name: str = "an explanation"
    most: int = EXPLANATION_REQUESTS
    seconds: float = EXPLANATION_PATIENCE_SECONDS
    factory: FactoryRef
    studio_url: StudioUrl
    since: datetime
    statuses: tuple[str, ...]
    pauses: int = 0
    seen: set[str] = field(default_factory=set)

    def may_pause(self) -> bool:
        self.pauses += 1
        return self.pauses <= MOST_EXPLANATION_PAUSES


def explaining(run: PipelineRun, factory: FactoryRef, studio_url: StudioUrl, *, timing: Timing) -> Routine[Explanation]:
    """Find out why `run` did not succeed. Raises nothing: the explanation names what could not be found out.

    :param studio_url: gives the page of a run.
    """
    cancelled = (RunStatus.CANCELLED,) if run.status == RunStatus.CANCELLED else ()
    search = _Search(
        factory=factory,
        studio_url=studio_url,
        timing=timing,
        since=run_window(run.started_at, timing.clock())[0],
        statuses=(RunStatus.FAILED, *cancelled),
    )
    found = yield from _causes(search, run.run_id, run.message)
    if not found.number and run.status == RunStatus.FAILED:
        search.record("the service lists no failed activity of the run")
    return Explanation(activities=tuple(found.first), more=found.number - len(found.first), missing=search.missing)


@dataclass
class _Found:
    """Causes, in order."""

    first: list[ActivityFailure] = field(default_factory=list)
    """The causes that are shown."""
    number: int = 0
    """The number of all causes."""


class _RunMessage:
    """The activities that a run's own message names as its failure."""

    def __init__(self, message: str | None) -> None:
        self._message = message or ""
        self._inner = frozenset(inner_names(self._message))
        self._known: dict[str, bool] = {}

    def names(self, activity: str) -> bool:
        known = self._known.get(activity)
        if known is None:
            known = self._known[activity] = activity in self._inner or f"target {activity} failed" in self._message
        return known


def _causes(search: _Search, run_id: str, message: str | None) -> Routine[_Found]:
    """The causes within a run and the runs that it started.

    :param message: the message of the run's failure, as the level above shows it.
    """
    search.seen.add(run_id)
    message_of_run = _RunMessage(message)
    listed = yield from _list_activities(search, run_id, search.statuses, again_if_empty=True)
    rows = final_attempts(listed)
    yield Pause(0)
    if _may_have_recovered(rows, message_of_run):
        names = sorted({row.activity_name for row, _ in rows})
        later = yield from _list_activities(search, run_id, (RunStatus.SUCCEEDED,), names=names)
        recovered = {_key(row) for row in later}
        rows = [entry for entry in rows if _key(entry[0]) not in recovered]
    loops = loops_of(row for row, _ in rows)
    yield Pause(0)
    found = _Found()
    for number, (row, attempts) in enumerate(in_order(without_consequences(rows), message_of_run), 1):
        if number % ROWS_PER_TURN == 0:
            yield Pause(0)
        is_named = message_of_run.names(row.activity_name)
        child = row.output.get("pipelineRunId") if row.activity_type == "ExecutePipeline" else None
        if isinstance(child, str) and child and child not in search.seen:
            inside = yield from _causes(search, child, row.error_message)
            if inside.number:
                first = inside.first[: MOST_CAUSES_SHOWN - len(found.first)]
                found.first += first if is_named else [replace(cause, is_named=False) for cause in first]
                found.number += inside.number
                continue
        found.number += 1
        if len(found.first) < MOST_CAUSES_SHOWN:
            found.first.append(
                ActivityFailure.of(
                    row,
                    attempts=attempts,
                    loop=loops.get(row.activity_name),
                    studio_url=search.studio_url(row.pipeline_run_id or run_id),
                    is_named=is_named,
                )
            )
    return found


def _list_activities(
    search: _Search,
    run_id: str,
    statuses: Sequence[str],
    *,
    names: Sequence[str] = (),
    again_if_empty: bool = False,
) -> Routine[list[ActivityRun]]:
    """The activity runs with these statuses, as far as they can be read."""
    filters: list[dict[str, Any]] = [{"operand": "Status", "operator": "In", "values": list(statuses)}]
    if names:
        filters.append({"operand": "ActivityName", "operator": "In", "values": list(names)})
    before = moment(search.timing.clock()) + DAY
    first = query_activity_runs(search.factory, run_id, search.since, before, filters=filters)
    pages = Pages(first)
    while (call := pages.next()) is not None and search.may_send():
        page = yield call
        if isinstance(page, Page):
            pages.take(page)
            search.record(pages.cut)
            if pages.next() is None and not pages.rows and again_if_empty and search.may_pause():
                # The list of activities may be behind the run itself.
                pages = Pages(first)
                yield Pause(EXPLANATION_PAUSE_SECONDS)
        elif isinstance(page, AdfThrottledError | AdfUnavailableError) and search.may_pause():
            yield Pause(EXPLANATION_PAUSE_SECONDS)
        else:
            search.record(cap(str(page) if isinstance(page, AdfError) else f"unexpected answer {page!r}"))
            break
    return pages.rows


Attempts = tuple[ActivityRun, int]
"""The last attempt of an activity in an iteration, and the number of its known attempts."""


def _key(row: ActivityRun) -> tuple[str, str | None]:
    return row.activity_name, row.iteration_hash


def final_attempts(rows: Sequence[ActivityRun]) -> list[Attempts]:
    """The last attempt of each activity and iteration."""
    by_key: dict[tuple[str, str | None], list[ActivityRun]] = {}
    for row in sorted(rows, key=_ended):
        by_key.setdefault(_key(row), []).append(row)
    return [(attempts[-1], len(attempts)) for attempts in by_key.values()]


def _may_have_recovered(rows: Sequence[Attempts], message_of_run: _RunMessage) -> bool:
    """Whether one of these failures may have succeeded in a later attempt. False for a single failure that the run's message
    names.
    """
    inner = [row for row, _ in without_consequences(rows) if row.status == RunStatus.FAILED]
    return bool(inner) and not (len(inner) == 1 and message_of_run.names(inner[0].activity_name))


def without_consequences(rows: Sequence[Attempts]) -> list[Attempts]:
    """The rows, except those of containers that failed, or were cancelled, only because of an activity inside them."""
    names = {row.activity_name for row, _ in rows}
    is_inside = any(row.activity_type not in CONTAINERS for row, _ in rows)

    def is_consequence(row: ActivityRun) -> bool:
        if row.activity_type not in CONTAINERS:
            return False
        if row.status == RunStatus.CANCELLED:
            return is_inside
        return any(name in names for name in inner_names(row.error_message))

    return [entry for entry in rows if not is_consequence(entry[0])]


def in_order(rows: Sequence[Attempts], message_of_run: _RunMessage) -> list[Attempts]:
    """The rows, the first cause first.

    Activities that the run's own message names come before other failures, which the pipeline may have handled. A Fail activity
    comes later: the author wrote its message, and another failure made the pipeline reach it.
    """

    def key(entry: Attempts) -> tuple[bool, datetime]:
        row = entry[0]
        return not message_of_run.names(row.activity_name) or row.activity_type == "Fail", _ended(row)

    return sorted(rows, key=key)


def loops_of(rows: Iterable[ActivityRun]) -> dict[str, str]:
    """The container of each activity, by the activity's name, if the container's message names the activity."""
    loops: dict[str, str] = {}
    for row in rows:
        inner = inner_names(row.error_message) if row.activity_type in CONTAINERS else []
        if inner:
            loops.setdefault(inner[0], f"{row.activity_name!r} ({row.activity_type})")
    return loops


def inner_names(message: str | None) -> list[str]:
    """The activities that failed inside a container, as the container's message names them."""
    parts = _BEFORE_INNER.split(message or "")[1:]
    ends = ((part, _AFTER_INNER.search(part, 1)) for part in parts)
    return [part[: end.start()] for part, end in ends if end is not None]


def _ended(row: ActivityRun) -> datetime:
    return row.ended_at or row.started_at or datetime.max.replace(tzinfo=UTC)

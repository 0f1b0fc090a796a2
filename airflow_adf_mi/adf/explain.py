"""The rules of explaining a run that failed or was cancelled: which activities are the causes, through child pipelines.

The service lists a run's activities flat: those inside a ForEach, If, Switch or Until beside it, with an iteration's hash
and without the name of what they are in; each attempt by itself; and an ExecutePipeline names the run it started. Failed
containers and failed ExecutePipelines only repeat what failed inside, so what counts is what is left.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from airflow_adf_mi.adf.calls import Page, query_activity_runs
from airflow_adf_mi.adf.drive import Pause, Routine
from airflow_adf_mi.adf.errors import AdfError, AdfThrottledError, AdfUnavailableError
from airflow_adf_mi.adf.failure import ActivityFailure, Explanation
from airflow_adf_mi.adf.models import ActivityRun, PipelineRun, RunStatus
from airflow_adf_mi.adf.paging import Pages
from airflow_adf_mi.adf.redact import cap
from airflow_adf_mi.adf.settings import FactoryRef
from airflow_adf_mi.adf.times import DAY, moment, run_window

MOST_REQUESTS = 20
MOST_SHOWN = 10
PATIENCE = 20.0
"""Seconds after which nothing more is asked: the failure itself is to be reported."""
REST = 2.0
"""Seconds until activities are asked for again, where the service gave no answer, or its list is behind the run."""
RESTS = 2
"""How often, in all."""
CONTAINERS = frozenset({"ForEach", "IfCondition", "Switch", "Until"})
_INNER = re.compile(r"Inner activity name: (.+?), Error", re.IGNORECASE)

StudioUrl = Callable[[str], str]


@dataclass
class _Search:
    """What one explanation has asked, and found missing."""

    factory: FactoryRef
    studio_url: StudioUrl
    clock: Callable[[], float]
    since: datetime
    statuses: tuple[str, ...]
    until: float
    requests: int = 0
    rests: int = 0
    missing: str | None = None
    seen: set[str] = field(default_factory=set)

    def may_ask(self) -> bool:
        if self.requests >= MOST_REQUESTS:
            self.missing = f"no more than {MOST_REQUESTS} requests are made for it"
        elif self.clock() > self.until:
            self.missing = self.missing or f"the service took longer than {PATIENCE:.0f} s to tell"
        else:
            self.requests += 1
            return True
        return False

    def may_rest(self) -> bool:
        self.rests += 1
        return self.rests <= RESTS


def explaining(
    run: PipelineRun, factory: FactoryRef, studio_url: StudioUrl, *, clock: Callable[[], float]
) -> Routine[Explanation]:
    """Find out why `run` did not succeed. Raises nothing: what cannot be learnt is said to be missing.

    `studio_url` gives the page of a run.
    """
    now = clock()
    cancelled = (RunStatus.CANCELLED,) if run.status == RunStatus.CANCELLED else ()
    search = _Search(
        factory=factory,
        studio_url=studio_url,
        clock=clock,
        since=run_window(run.started_at, now)[0],
        statuses=(RunStatus.FAILED, *cancelled),
        until=now + PATIENCE,
    )
    found = yield from _causes(search, run.run_id, run.message)
    if not found and search.missing is None and run.status == RunStatus.FAILED:
        search.missing = "the service lists no failed activity of it"
    return Explanation(
        activities=tuple(found[:MOST_SHOWN]), more=max(0, len(found) - MOST_SHOWN), missing=search.missing
    )


def _causes(search: _Search, run_id: str, said: str | None) -> Routine[list[ActivityFailure]]:
    """The causes within a run and the runs that it started. `said` is how the run's failure reads one level up."""
    search.seen.add(run_id)
    listed = yield from _listed(search, run_id, search.statuses, again_if_empty=True)
    rows = final_attempts(listed)
    if _may_have_recovered(rows, said):
        names = sorted({row.activity_name for row, _ in rows})
        later = yield from _listed(search, run_id, (RunStatus.SUCCEEDED,), names=names)
        recovered = {_key(row) for row in later}
        rows = [entry for entry in rows if _key(entry[0]) not in recovered]
    found: list[ActivityFailure] = []
    for row, attempts in in_order(without_consequences(rows), said):
        failure = ActivityFailure.of(
            row,
            attempts=attempts,
            loop=loop_of(row, [other for other, _ in rows]),
            studio_url=search.studio_url(row.pipeline_run_id or run_id),
            is_named=_is_named(row, said),
        )
        child = row.output.get("pipelineRunId") if row.activity_type == "ExecutePipeline" else None
        inside: list[ActivityFailure] = []
        if isinstance(child, str) and child and child not in search.seen:
            inside = yield from _causes(search, child, row.error_message)
        if not failure.is_named:
            inside = [replace(cause, is_named=False) for cause in inside]
        found += inside or [failure]
    return found


def _listed(
    search: _Search,
    run_id: str,
    statuses: Sequence[str],
    *,
    names: Sequence[str] = (),
    again_if_empty: bool = False,
) -> Routine[list[ActivityRun]]:
    """The activity runs of these statuses, as far as they can be learnt."""
    filters: list[dict[str, Any]] = [{"operand": "Status", "operator": "In", "values": list(statuses)}]
    if names:
        filters.append({"operand": "ActivityName", "operator": "In", "values": list(names)})
    before = moment(search.clock()) + DAY
    first = query_activity_runs(search.factory, run_id, search.since, before, filters=filters)
    pages = Pages(first)
    while (call := pages.next()) is not None and search.may_ask():
        page = yield call
        if isinstance(page, Page):
            pages.take(page)
            search.missing = search.missing or pages.cut
            if pages.next() is None and not pages.rows and again_if_empty and search.may_rest():
                # The list of activities may be behind the run itself.
                pages = Pages(first)
                yield Pause(REST)
        elif isinstance(page, AdfThrottledError | AdfUnavailableError) and search.may_rest():
            yield Pause(REST)
        else:
            search.missing = cap(str(page), 2000) if isinstance(page, AdfError) else f"unexpected answer {page!r}"
            break
    return pages.rows


Attempts = tuple[ActivityRun, int]
"""The last attempt of an activity in an iteration, and how many of its attempts are known."""


def _key(row: ActivityRun) -> tuple[str, str | None]:
    return row.activity_name, row.iteration_hash


def final_attempts(rows: Sequence[ActivityRun]) -> list[Attempts]:
    """The last attempt of each activity and iteration."""
    by_key: dict[tuple[str, str | None], list[ActivityRun]] = {}
    for row in sorted(rows, key=_ended):
        by_key.setdefault(_key(row), []).append(row)
    return [(attempts[-1], len(attempts)) for attempts in by_key.values()]


def _may_have_recovered(rows: Sequence[Attempts], said: str | None) -> bool:
    """Whether one of these may have succeeded in a later attempt: not so, if the run's message names the only one."""
    inner = [row for row, _ in without_consequences(rows) if row.status == RunStatus.FAILED]
    return bool(inner) and not (len(inner) == 1 and _is_named(inner[0], said))


def without_consequences(rows: Sequence[Attempts]) -> list[Attempts]:
    """Without the containers that failed, or were cancelled, only with something inside them."""
    names = {row.activity_name for row, _ in rows}
    is_inside = any(row.activity_type not in CONTAINERS for row, _ in rows)

    def is_consequence(row: ActivityRun) -> bool:
        if row.activity_type not in CONTAINERS:
            return False
        if row.status == RunStatus.CANCELLED:
            return is_inside
        return bool(set(_INNER.findall(row.error_message or "")) & names)

    return [entry for entry in rows if not is_consequence(entry[0])]


def in_order(rows: Sequence[Attempts], said: str | None) -> list[Attempts]:
    """The first cause first.

    What the run's own message names comes before what else failed, which the pipeline may have handled; but a Fail
    activity, of which the message is made by the author, comes after what made the pipeline take that way.
    """

    def key(entry: Attempts) -> tuple[bool, datetime]:
        row = entry[0]
        return not _is_named(row, said) or row.activity_type == "Fail", _ended(row)

    return sorted(rows, key=key)


def loop_of(row: ActivityRun, rows: Sequence[ActivityRun]) -> str | None:
    """What `row` failed in, by the message of the container that names it."""
    for container in rows:
        inner: Mapping[str, None] = dict.fromkeys(_INNER.findall(container.error_message or ""))
        if container.activity_type in CONTAINERS and next(iter(inner), None) == row.activity_name:
            return f"{container.activity_name!r} ({container.activity_type})"
    return None


def _is_named(row: ActivityRun, said: str | None) -> bool:
    text = said or ""
    return f"target {row.activity_name} failed" in text or row.activity_name in _INNER.findall(text)


def _ended(row: ActivityRun) -> datetime:
    return row.ended_at or row.started_at or datetime.max.replace(tzinfo=UTC)

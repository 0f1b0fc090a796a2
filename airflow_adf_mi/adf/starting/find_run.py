"""One search for the run of a lost start.

The problem: createRun was sent, its answer was lost, and perhaps a run exists. createRun carried the start key as its request
id. In every published recording that shows both ids (docs/starting-once.md), the run's id is this request id, but no
documentation promises that both are equal. So the search has two steps:

    1. get the run whose id is the start key      found -----------> PROVEN
                 |
                 | "no such run", or an error
                 v
    2. list the runs of the pipeline, from 5 s before the request was sent:

       the correlation parameter has our key      yes -------------> PROVEN   (no ----> NO)
       started by a user or API, in the window,
         with our parameters                      yes -------------> POSSIBLE: may be another task's run
       anything else                              -----------------> NO

Whether a factory uses request ids as run ids is shown by its other runs (`uses_start_keys`). If it does, a POSSIBLE run is not
ours.

What can go wrong:

- The run list can lag by minutes to hours (https://github.com/Azure/azure-cli/issues/22733). A poll by id does not lag. So step
  1 comes first, and an empty list proves nothing.
- The list is too long, or a part of it cannot be read. A run that was not read may be ours, so the search reports an error. The
  only similar run of an incomplete list must not be adopted.
- Two instances of a mapped task may each lose a start with equal parameters at the same time. So a POSSIBLE run is only
  returned if no other instance has claimed it.

`create_run.resolve_lost_start` repeats the search, and decides what its results mean.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, TypeVar

from airflow_adf_mi.adf.api.operations import Call, Page, get_run
from airflow_adf_mi.adf.api.paging import Pages
from airflow_adf_mi.adf.api.recovery import Recovery
from airflow_adf_mi.adf.api.shown_runs import shown_since
from airflow_adf_mi.adf.config.addresses import FactoryRef
from airflow_adf_mi.adf.errors import AdfError, AdfNotFoundError
from airflow_adf_mi.adf.models import PipelineRun
from airflow_adf_mi.adf.routines import Routine, ServiceTime
from airflow_adf_mi.adf.starting.intent import Intent
from airflow_adf_mi.adf.starting.journal import claims_of_others
from airflow_adf_mi.adf.starting.pipeline_name import is_of, runs_of_pipeline
from airflow_adf_mi.adf.starting.run_list import (
    DAY_SECONDS,
    RETENTION_SECONDS,
    having,
    list_runs,
    with_patience,
)
from airflow_adf_mi.adf.starting.start_key import is_start_key
from airflow_adf_mi.adf.timing import Timing

T = TypeVar("T")

log = logging.getLogger(__name__)

START_CLOCK_SLACK_SECONDS = 5.0
"""A run may seem to begin this many seconds before its request was sent. The service's `Date` has whole seconds only, its answer
takes time, and clocks drift: 5 s is a generous bound."""
START_WINDOW_SECONDS = 300.0
"""A run must begin within this many seconds after its request. A run that begins later belongs to another start."""
LIST_SEARCH_SECONDS = 60.0
"""Seconds for which one search may read pages of the run list."""


class Likeness(IntEnum):
    """How certain it is that a run belongs to a start."""

    NO = 0
    POSSIBLE = 1
    """Same pipeline, same parameters, right time: the run may also be another task's."""
    PROVEN = 2
    """The run carries our start key: as its id, or in the parameter that the author declared for it."""


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """What one search found."""

    proven: tuple[PipelineRun, ...] = ()
    possible: tuple[PipelineRun, ...] = ()
    key_unknown: bool = False
    """The service answered that no run has the start key as its id."""
    error: AdfError | None = None
    """Why the search was not complete."""


@dataclass(frozen=True, kw_only=True)
class RunCriteria:
    """What distinguishes the run of a start from other runs."""

    factory: FactoryRef
    pipeline_name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    recovery: Recovery = Recovery()
    correlation_parameter: str | None = None
    rerun_group_id: str | None = None
    """The group that the run joins, if it is a rerun. Its parameters are those of the run that it continues."""


def likeness(run: PipelineRun, criteria: RunCriteria, key: str, sent_at: float | None) -> Likeness:
    """How certain it is that `run` belongs to the start with `key`.

    :param sent_at: when createRun was sent, by the service's clock; None if that is not known.
    """
    if not is_of(run, criteria.pipeline_name):
        return Likeness.NO
    if run.run_id.lower() == key.lower():
        return Likeness.PROVEN
    if criteria.rerun_group_id is not None:
        return Likeness.PROVEN if _is_later_rerun(run, criteria.rerun_group_id, sent_at) else Likeness.NO
    if criteria.correlation_parameter is not None:
        same = correlation_value(run, criteria.correlation_parameter) == key
        return Likeness.PROVEN if same else Likeness.NO
    invoked_by = run.raw.get("invokedBy")
    kind = invoked_by.get("invokedByType", "Manual") if isinstance(invoked_by, Mapping) else "Manual"
    if criteria.recovery.reference_pipeline_run_id is not None or kind != "Manual":
        # A start that takes its parameters from another run cannot be identified by them. A run that a trigger or another
        # pipeline started is not ours.
        return Likeness.NO
    began = run.started_at or run.last_updated
    if began is None:
        return Likeness.NO
    if sent_at is None or not -START_CLOCK_SLACK_SECONDS <= began.timestamp() - sent_at <= START_WINDOW_SECONDS:
        return Likeness.NO
    return Likeness.POSSIBLE if has_parameters(run, criteria.parameters) else Likeness.NO


def _is_later_rerun(run: PipelineRun, group_id: str, sent_at: float | None) -> bool:
    """Whether a run of the group began after our request. It is ours, or somebody began it in ADF Studio: either is adopted."""
    began = run.started_at or run.last_updated
    if sent_at is None or began is None or run.run_group_id != group_id:
        return False
    return began.timestamp() - sent_at >= -START_CLOCK_SLACK_SECONDS


def has_parameters(run: PipelineRun, sent: Mapping[str, Any]) -> bool:
    """Whether the run shows the values of a start, as the author wrote them or as they were converted for the pipeline."""
    # The service drops parameters that the pipeline does not declare, and adds default values.
    wanted = _by_lower_name(sent)
    shown = {name: text for name, text in _by_lower_name(run.parameters).items() if name in wanted}
    return all(same_value(wanted[name], text) for name, text in shown.items())


def _by_lower_name(parameters: Mapping[str, T]) -> dict[str, T]:
    """Parameters are sent in the spelling that the pipeline declares, which may differ from the author's by case."""
    return {name.lower(): value for name, value in parameters.items()}


def listed(runs: Sequence[PipelineRun]) -> str:
    """The first runs of a search, for errors."""
    return ", ".join(f"{run.run_id} ({run.status}, began {run.started_at})" for run in runs[:10])


def same_value(sent: Any, shown: object) -> bool:
    """Whether `shown` is the value of a start. The service shows a parameter as text, or as JSON in a text.

    A text may have been converted to the type that the pipeline declares. So two texts are also the same value if both are the
    same JSON.
    """
    if sent == shown or not isinstance(shown, str):
        return bool(sent == shown)
    wanted = _read(sent if isinstance(sent, str) else json.dumps(sent))
    return wanted is not None and wanted == _read(shown)


def _read(text: str) -> str | None:
    """`text` as JSON in one spelling, so that 1 and true differ; None if `text` is not JSON."""
    # .NET and Python's templates write True and False. `declared_parameters` converts them in any spelling.
    folded = text.strip().lower()
    text = folded if folded in ("true", "false") else text
    try:
        # A whole number is converted from a text such as 2.0.
        return json.dumps(json.loads(text, parse_float=_number), sort_keys=True)
    except (RecursionError, ValueError):
        return None


def _number(text: str) -> int | float:
    number = float(text)
    return int(number) if number.is_integer() else number


def get_run_patiently(
    factory: FactoryRef,
    run_id: str,
    *,
    timing: Timing,
    is_final: Callable[[AdfError], bool] = lambda _error: False,
) -> Routine[PipelineRun | AdfError]:
    """Get a run. A request that fails is repeated for a while, unless its error `is_final`."""

    def get() -> Routine[tuple[PipelineRun | AdfError, AdfError | None]]:
        seen: PipelineRun | AdfError = yield get_run(factory, run_id)
        return seen, None if isinstance(seen, PipelineRun) or is_final(seen) else seen

    seen, _ = yield from with_patience(get, timing=timing)
    return seen


def uses_start_keys(factory: FactoryRef, pipeline_name: str, *, of_reruns: bool = False) -> Routine[bool]:
    """Whether a run of the factory has a start key as its id. Then the factory uses request ids as run ids.

    In such a factory, a start has started nothing if the service knows no run with the key of that start. The evidence needs no
    store: any process that uses this package, in any deployment, may have started the listed run. A query that fails proves
    nothing.

    :param of_reruns: whether the listed run must be a rerun, which has another id than its group.
    """
    now = yield ServiceTime()
    # A factory may have many runs that others start. So the first query is for runs of this pipeline.
    for filters in ([having("PipelineName", pipeline_name)], []):
        page = yield list_runs(factory, now - RETENTION_SECONDS, now, *filters)
        runs = page.items if isinstance(page, Page) else []
        if any(is_start_key(run.run_id) and not (of_reruns and run.run_id == run.run_group_id) for run in runs):
            return True
    return False


def _sent_at(intent: Intent, service_time: float, timing: Timing) -> float | None:
    """When the start was sent, by the service's clock; None if that is not known."""
    return None if intent.sent_at is None else intent.sent_at + service_time - timing.clock()


def later_run(criteria: RunCriteria, intent: Intent, *, timing: Timing) -> Routine[PipelineRun | None]:
    """A run of somebody else that began after a start was sent; None if the list shows none, lags, or cannot be read.

    Such a run shows that the list is up to date. It proves nothing about one single run that the list may leave out. The run must
    be of another pipeline, or have another value of the correlation parameter. Otherwise it may be the run of the start itself.
    The list lags if it leaves out a later run that this process has seen by its id.
    """
    now = yield ServiceTime()
    sent_at = _sent_at(intent, now, timing)
    if sent_at is None:
        return None
    whole = f"The list of runs in {criteria.factory}"
    runs, error = yield from _read_for_a_while(list_runs(criteria.factory, sent_at, now), whole, timing=timing)
    if error is not None:
        log.info("It is not known whether the list of runs is up to date. %s", error)
        return None
    since = sent_at + START_CLOCK_SLACK_SECONDS
    hidden = shown_since(criteria.factory, since) - {run.run_id for run in runs}
    if hidden:
        log.info("The list of runs lags. It does not show %d later run(s), such as %s.", len(hidden), min(hidden))
        return None
    later = [run for run in runs if run.started_at is not None and run.started_at.timestamp() > since]
    return next((run for run in later if _is_of_another_start(run, criteria, intent.start_key)), None)


def _is_of_another_start(run: PipelineRun, criteria: RunCriteria, key: str) -> bool:
    if not is_of(run, criteria.pipeline_name):
        return True
    return correlation_value(run, criteria.correlation_parameter, otherwise=key) != key


def correlation_value(run: PipelineRun, parameter: str | None, *, otherwise: str | None = None) -> str | None:
    """The run's value of the correlation parameter, in whatever case its name is written."""
    return _by_lower_name(run.parameters).get((parameter or "").lower(), otherwise)


def read_list(
    criteria: RunCriteria, since: float | None, *, timing: Timing
) -> Routine[tuple[list[PipelineRun], AdfError | None]]:
    """Read the runs of the pipeline that were updated since a moment, and why the list is not complete, if it is not.

    :param since: epoch seconds by the service's clock; None for a day ago.
    """
    now = yield ServiceTime()
    since = now - DAY_SECONDS - START_CLOCK_SLACK_SECONDS if since is None else since
    of_pipeline = yield from runs_of_pipeline(criteria.factory, criteria.pipeline_name, timing=timing)
    call = list_runs(criteria.factory, since, now, *of_pipeline)
    whole = f"The list of runs of pipeline {criteria.pipeline_name!r}"
    runs, error = yield from _read_for_a_while(call, whole, timing=timing)
    return [run for run in runs if is_of(run, criteria.pipeline_name)], error


def _read_for_a_while(
    call: Call[Page[PipelineRun]], runs: str, *, timing: Timing
) -> Routine[tuple[list[PipelineRun], AdfError | None]]:
    """Read a list for at most `LIST_SEARCH_SECONDS`. Also returns why it is not complete, if it is not.

    :param runs: the list, for texts.
    """
    until = timing.clock() + LIST_SEARCH_SECONDS
    pages, error = Pages(call), None
    while (following := pages.next()) is not None:
        page = yield following
        if not isinstance(page, Page):
            error = page
            break
        pages.take(page)
        if pages.next() is not None and timing.clock() > until:
            error = AdfError(f"{runs} is too long to read in {LIST_SEARCH_SECONDS:.0f} s.")
            break
    if pages.cut is not None:
        # The part that was not read may hold other similar runs.
        error = AdfError(f"{runs} could not be read to the end, because {pages.cut}.")
    if pages.unreadable:
        # One of these rows may be ours, and a similar run that could be read may be another task's.
        error = AdfError(f"{runs} has {pages.unreadable} row(s) that could not be read.")
    return pages.rows, error


def search(criteria: RunCriteria, intent: Intent, *, timing: Timing) -> Routine[SearchResult]:
    """Search once: by the start key, then in the run list."""
    seen = yield get_run(criteria.factory, intent.start_key)
    if isinstance(seen, PipelineRun):
        if likeness(seen, criteria, intent.start_key, None) is Likeness.PROVEN:
            return SearchResult(proven=(seen,))
        return SearchResult(error=AdfError(f"Run {seen.run_id} belongs to another pipeline, {seen.pipeline_name!r}."))
    return (yield from search_list(criteria, intent, seen, timing=timing))


def search_list(criteria: RunCriteria, intent: Intent, seen: AdfError, *, timing: Timing) -> Routine[SearchResult]:
    """The second step of a search: the run list.

    :param seen: the error of the first step, the request for the run whose id is the start key.
    """
    # A "not found" of the first step is not reported as an error. If the factory is missing, the list query fails as well.
    is_missing = isinstance(seen, AdfNotFoundError) and seen.missing is not None
    # Only "no such run" shows that the key is unknown. A missing subscription or factory proves nothing about the run.
    key_unknown = isinstance(seen, AdfNotFoundError) and seen.missing == "run"
    now = yield ServiceTime()
    sent_at = _sent_at(intent, now, timing)
    since = None if sent_at is None else sent_at - START_CLOCK_SLACK_SECONDS
    runs, error = yield from read_list(criteria, since, timing=timing)
    error = error or (None if is_missing else seen)
    found: dict[Likeness, list[PipelineRun]] = {kind: [] for kind in Likeness}
    earlier = {run_id.lower() for run_id in intent.previous_run_ids}
    for run in runs:
        if run.run_id.lower() not in earlier:
            found[likeness(run, criteria, intent.start_key, sent_at)].append(run)
    claimed = (yield claims_of_others()) if found[Likeness.POSSIBLE] else frozenset()
    return SearchResult(
        proven=tuple(found[Likeness.PROVEN]),
        possible=tuple(run for run in found[Likeness.POSSIBLE] if run.run_id not in claimed),
        key_unknown=key_unknown,
        error=error,
    )

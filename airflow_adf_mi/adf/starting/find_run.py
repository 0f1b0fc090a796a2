"""The rules of finding a run whose createRun answer was lost.

Looking a run up by id does not lag. The list of runs can, by minutes to hours: https://github.com/Azure/azure-cli/issues/22733.
So a start is looked for under its key first, and in the list only where the service made an id of its own.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from airflow_adf_mi.adf.api.operations import Page, get_run, query_runs
from airflow_adf_mi.adf.api.paging import Pages
from airflow_adf_mi.adf.api.recovery import Recovery
from airflow_adf_mi.adf.config.settings import FactoryRef
from airflow_adf_mi.adf.errors import AdfError, AdfNotFoundError
from airflow_adf_mi.adf.models import PipelineRun
from airflow_adf_mi.adf.routines import Routine, ServiceTime
from airflow_adf_mi.adf.starting.intent import Intent
from airflow_adf_mi.adf.starting.journal import claims_of_others
from airflow_adf_mi.adf.times import moment

log = logging.getLogger(__name__)

START_CLOCK_SLACK_SECONDS = 5.0
"""Seconds that a run may seem to have begun before its request was sent: the service's `Date` has no fractions."""
START_WINDOW_SECONDS = 300.0
"""Seconds after the request within which its run must have begun; later ones are somebody else's."""
LIST_SEARCH_SECONDS = 60.0
"""Seconds for which the pages of one look through the list are followed."""
_DAY_SECONDS = 86400.0
"""Seconds that are searched where it is not known when the request was sent; and those added to the end of a window."""


class Likeness(IntEnum):
    """How surely a run is the one that a start asked for."""

    NO = 0
    POSSIBLE = 1
    """Same pipeline, same parameters, right time: so may be another task's."""
    PROVEN = 2
    """It carries our key, as its id or in the parameter that the author declared for it."""


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """What one look found."""

    proven: tuple[PipelineRun, ...] = ()
    possible: tuple[PipelineRun, ...] = ()
    key_unknown: bool = False
    """The service said that no run has the key as its id."""
    error: AdfError | None = None
    """Why the look was not complete."""


@dataclass(frozen=True, kw_only=True)
class RunCriteria:
    """What tells the run of a start from others."""

    factory: FactoryRef
    pipeline_name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    recovery: Recovery = Recovery()
    correlation_parameter: str | None = None


def likeness(run: PipelineRun, criteria: RunCriteria, key: str, sent_at: float | None) -> Likeness:
    """How surely `run` is the one that a start with `key` started, at `sent_at` by the service's clock if that is known."""
    if run.pipeline_name.lower() != criteria.pipeline_name.lower():
        return Likeness.NO
    if run.run_id.lower() == key.lower():
        return Likeness.PROVEN
    if criteria.correlation_parameter is not None:
        same = run.parameters.get(criteria.correlation_parameter) == key
        return Likeness.PROVEN if same else Likeness.NO
    invoked_by = run.raw.get("invokedBy")
    kind = invoked_by.get("invokedByType", "Manual") if isinstance(invoked_by, Mapping) else "Manual"
    if criteria.recovery.reference_pipeline_run_id is not None or kind != "Manual":
        # A start that takes its parameters from another run has none to be known by; and what a trigger or another
        # pipeline started is not ours.
        return Likeness.NO
    began = run.started_at or run.last_updated
    if began is None:
        return Likeness.NO
    if sent_at is None or not -START_CLOCK_SLACK_SECONDS <= began.timestamp() - sent_at <= START_WINDOW_SECONDS:
        return Likeness.NO
    # The service drops parameters that the pipeline does not declare, and adds defaults.
    shown = {name: text for name, text in run.parameters.items() if name in criteria.parameters}
    same = all(same_value(criteria.parameters[name], text) for name, text in shown.items())
    return Likeness.POSSIBLE if same else Likeness.NO


def same_value(sent: Any, shown: object) -> bool:
    """Whether `shown`, a parameter as the service shows it (text, or JSON in a text), is what was sent."""
    if isinstance(sent, str) or not isinstance(shown, str):
        return bool(sent == shown)
    # Booleans come back in .NET's spelling, too.
    return any(_read(text) == json.dumps(sent, sort_keys=True) for text in (shown, shown.lower()))


def _read(text: str) -> str | None:
    """JSON in one spelling, so that 1, 1.0 and true are told apart; None where `text` is none."""
    try:
        return json.dumps(json.loads(text), sort_keys=True)
    except (RecursionError, ValueError):
        return None


def search(criteria: RunCriteria, intent: Intent, *, clock: Callable[[], float]) -> Routine[SearchResult]:
    """Look once: under the key, then through the list."""
    seen = yield get_run(criteria.factory, intent.start_key)
    if isinstance(seen, PipelineRun):
        if likeness(seen, criteria, intent.start_key, None) is Likeness.PROVEN:
            return SearchResult(proven=(seen,))
        return SearchResult(error=AdfError(f"run {seen.run_id} is one of another pipeline, {seen.pipeline_name!r}"))
    return (yield from search_list(criteria, intent, seen, clock=clock))


def search_list(
    criteria: RunCriteria, intent: Intent, seen: AdfError, *, clock: Callable[[], float]
) -> Routine[SearchResult]:
    """The second half of a look: through the list. `seen` is what the service answered when it was asked for the key."""
    # A subscription or factory that is not found proves nothing about the run.
    is_missing = isinstance(seen, AdfNotFoundError) and seen.missing is not None
    key_unknown = isinstance(seen, AdfNotFoundError) and seen.missing == "run"
    now = yield ServiceTime()
    until = clock() + LIST_SEARCH_SECONDS
    sent_at = None if intent.sent_at is None else intent.sent_at + now - clock()
    after = (now - _DAY_SECONDS if sent_at is None else sent_at) - START_CLOCK_SLACK_SECONDS
    call = query_runs(
        criteria.factory,
        moment(after),
        moment(now + _DAY_SECONDS),
        filters=[{"operand": "PipelineName", "operator": "Equals", "values": [criteria.pipeline_name]}],
    )
    # What is not found is no failed look: where the list is answered, the factory is there.
    pages, error = Pages(call), None if is_missing else seen
    while (following := pages.next()) is not None:
        page = yield following
        if not isinstance(page, Page):
            error = page
            break
        pages.take(page)
        if pages.next() is not None and clock() > until:
            error = AdfError(f"the list of its runs is too long to be read in {LIST_SEARCH_SECONDS:.0f} s")
            break
    if pages.cut is not None:
        # What was not read may hold other runs that look the same.
        error = AdfError(f"the list of its runs could not be read to the end, because {pages.cut}")
    if pages.unreadable:
        # One of these may be ours, and one that only looks alike somebody else's.
        error = AdfError(f"{pages.unreadable} row(s) of the list of its runs could not be read")
    found: dict[Likeness, list[PipelineRun]] = {kind: [] for kind in Likeness}
    for run in pages.rows:
        if run.run_id not in intent.previous_run_ids:
            found[likeness(run, criteria, intent.start_key, sent_at)].append(run)
    claimed = (yield claims_of_others()) if found[Likeness.POSSIBLE] else frozenset()
    return SearchResult(
        proven=tuple(found[Likeness.PROVEN]),
        possible=tuple(run for run in found[Likeness.POSSIBLE] if run.run_id not in claimed),
        key_unknown=key_unknown,
        error=error,
    )

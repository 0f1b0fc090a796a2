"""Queries of the run list, and questions that are asked again for a while after errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from airflow_adf_mi.adf.api.operations import Call, Page, query_runs
from airflow_adf_mi.adf.api.paging import Pages
from airflow_adf_mi.adf.config.addresses import FactoryRef
from airflow_adf_mi.adf.errors import AdfError
from airflow_adf_mi.adf.models import PipelineRun
from airflow_adf_mi.adf.retrying import backoff, within
from airflow_adf_mi.adf.routines import Pause, Routine
from airflow_adf_mi.adf.times import DAY, RUN_RETENTION, moment
from airflow_adf_mi.adf.timing import Timing

T = TypeVar("T")

PATIENCE_SECONDS = 60.0
"""A question whose answer is an error is asked again for this many seconds."""
DAY_SECONDS = DAY.total_seconds()
RETENTION_SECONDS = RUN_RETENTION.total_seconds()
_NEWEST_FIRST = [{"orderBy": "RunStart", "order": "DESC"}]


def with_patience(
    ask: Callable[[], Routine[tuple[T, AdfError | None]]], *, timing: Timing
) -> Routine[tuple[T, AdfError | None]]:
    """Ask until there is no error, or until the patience is over. The last question is asked at its end.

    :param ask: returns an answer, and the error for which to ask again.
    """
    until = timing.clock() + PATIENCE_SECONDS
    failures = 0
    while True:
        answer, error = yield from ask()
        if error is None:
            return answer, None
        failures += 1
        retry_after = getattr(error, "retry_after", None)
        pause = within(until - timing.clock(), backoff(failures, retry_after, timing.jitter()), retry_after)
        if pause is None:
            return answer, error
        yield Pause(pause)


def list_runs(factory: FactoryRef, since: float, now: float, *filters: Mapping[str, Any]) -> Call[Page[PipelineRun]]:
    """A query for the runs that were updated since a moment, the newest first.

    The window ends a day in the future, so that no recent update of a run is missed.

    :param since: epoch seconds, like `now`, by the service's clock.
    """
    window = moment(since), moment(now + DAY_SECONDS)
    return query_runs(factory, *window, filters=filters, order_by=_NEWEST_FIRST)


def having(operand: str, *values: str) -> Mapping[str, Any]:
    """A filter of a query: the operand has one of these values."""
    return {"operand": operand, "operator": "In" if len(values) > 1 else "Equals", "values": list(values)}


def read_pages(call: Call[Page[PipelineRun]]) -> Routine[tuple[list[PipelineRun], AdfError | None]]:
    """All runs of a list, and why the list is not complete, if it is not."""
    pages = Pages(call)
    while (following := pages.next()) is not None:
        page = yield following
        if not isinstance(page, Page):
            return pages.rows, page
        pages.take(page)
    if pages.cut is not None or pages.unreadable:
        reason = pages.cut or f"{pages.unreadable} row(s) could not be read"
        return pages.rows, AdfError(f"The list of runs is not complete: {reason}.")
    return pages.rows, None

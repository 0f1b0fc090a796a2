"""Runs of a pipeline that are already there: reads their lists, compares their parameters, and says which are this task's.

`present_runs` decides what a start does about them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from airflow_adf_mi.adf.api.operations import get_pipeline, get_run
from airflow_adf_mi.adf.errors import AdfError
from airflow_adf_mi.adf.models import UNREADABLE, PipelineRun
from airflow_adf_mi.adf.routines import Routine, ServiceTime
from airflow_adf_mi.adf.starting.declared_parameters import DeclaredParameter, fit, is_equal, read_declared
from airflow_adf_mi.adf.starting.find_run import START_CLOCK_SLACK_SECONDS, correlation_value
from airflow_adf_mi.adf.starting.intent import Intent
from airflow_adf_mi.adf.starting.pipeline_name import is_of, remember_name, runs_of_pipeline
from airflow_adf_mi.adf.starting.published_pipeline import does_not_fit
from airflow_adf_mi.adf.starting.run_list import having, list_runs, read_pages, with_patience
from airflow_adf_mi.adf.starting.start import Start
from airflow_adf_mi.adf.timing import Timing

log = logging.getLogger(__name__)

IsEqual: TypeAlias = Callable[[PipelineRun], bool]
"""Says whether a run has the parameters of a start."""


def listed_runs(start: Start, statuses: Sequence[str], within: float, *, timing: Timing) -> Routine[list[PipelineRun]]:
    """The runs of the pipeline with one of these statuses, the newest first. Raises `AdfError` if the list cannot be read."""

    def read() -> Routine[tuple[list[PipelineRun], AdfError | None]]:
        now = yield ServiceTime()
        of_pipeline = yield from runs_of_pipeline(start.factory, start.pipeline_name, timing=timing)
        call = list_runs(start.factory, now - within, now, *of_pipeline, having("Status", *statuses))
        runs, error = yield from read_pages(call)
        return [run for run in runs if is_of(run, start.pipeline_name)], error

    runs, error = yield from with_patience(read, timing=timing)
    if error is not None:
        raise AdfError(
            f"The runs of pipeline {start.pipeline_name!r} in {start.factory} could not be listed, so it is not known "
            "whether one is already there (on_live_run, on_succeeded_run). Nothing was started. Remove the cause below. A "
            f"retry reads the list again. {error}"
        ) from error
    return runs


def runs_since_start(start: Start, sent_at: float, *, timing: Timing) -> Routine[tuple[list[PipelineRun], float]]:
    """The runs of the pipeline that were updated since our start was sent, whatever their status, and when it was sent, in epoch
    seconds by the service's clock.
    """
    now = yield ServiceTime()
    sent = sent_at + now - timing.clock()
    of_pipeline = yield from runs_of_pipeline(start.factory, start.pipeline_name, timing=timing)
    runs, _ = yield from read_pages(list_runs(start.factory, sent - START_CLOCK_SLACK_SECONDS, now, *of_pipeline))
    return [run for run in runs if is_of(run, start.pipeline_name)], sent


def as_they_are(
    listed: Sequence[PipelineRun], start: Start, is_found: Callable[[PipelineRun], bool], *, most: int = 1
) -> Routine[list[PipelineRun]]:
    """The runs by their own status, because the list may lag, until `most` are found. A run that cannot be read is as the list
    shows it.
    """
    seen: list[PipelineRun] = []
    for run in listed:
        answer: PipelineRun | AdfError = yield get_run(start.factory, run.run_id)
        seen.append(answer if isinstance(answer, PipelineRun) else run)
        most -= is_found(seen[-1])
        if most == 0:
            break
    return seen


def comparison(start: Start, *, timing: Timing) -> Routine[IsEqual]:
    """A function that says whether a run has the parameters of this start. Raises `AdfError` if the pipeline cannot be read."""

    def read() -> Routine[tuple[tuple[DeclaredParameter, ...], AdfError | None]]:
        answer: Mapping[str, Any] | AdfError = yield get_pipeline(start.factory, start.pipeline_name)
        remember_name(start.factory, start.pipeline_name, answer, now=timing.clock())
        if isinstance(answer, AdfError):
            return (), answer
        try:
            return read_declared(answer), None
        except UNREADABLE as e:
            return (), AdfError(str(e))

    declared, error = yield from with_patience(read, timing=timing)
    if error is not None:
        raise AdfError(
            f"Pipeline {start.pipeline_name!r} in {start.factory} could not be read, so its runs cannot be compared "
            "(on_live_run, on_succeeded_run). Nothing was started. Remove the cause below, or use values that compare "
            f"nothing: 'start', 'wait' or 'fail'. {error}"
        ) from error
    if any(one.is_secure for one in declared):
        log.info("Pipeline %r has secure parameters, so no run counts as equal.", start.pipeline_name)
        return never_equal
    fitted = fit(start.parameters or {}, declared, start.correlation_parameter)
    if fitted.problems:
        if start.check_parameters:
            raise does_not_fit(start, declared, fitted)
        log.info("The parameters do not fit pipeline %r, so no run counts as equal.", start.pipeline_name)
        return never_equal
    compared = [one for one in declared if one.name != fitted.correlation_parameter]
    return lambda run: has_equal_parameters(run, fitted.values, compared)


def has_equal_parameters(run: PipelineRun, values: Mapping[str, Any], declared: Sequence[DeclaredParameter]) -> bool:
    """Whether a run has these values, and the defaults of all other parameters."""
    return all(
        one.name in run.parameters and is_equal(one, values.get(one.name, one.default), run.parameters[one.name])
        for one in declared
    )


def never_equal(_run: PipelineRun) -> bool:
    """No run counts as equal."""
    return False


def ownership(start: Start, intent: Intent, *run_ids: str) -> Callable[[PipelineRun], bool]:
    """A function that says whether this task has started a run: its id or its correlation parameter is an id or a key that this
    task knows.

    A rerun has the correlation parameter of the run that it continues, so somebody else may have begun it. A run that somebody
    starts with the parameters of our run has our correlation parameter, too. So if the service uses our keys as run ids, only
    the id shows that a run is ours.
    """
    own = {known.lower() for known in (*intent.previous_run_ids, intent.start_key, *run_ids)}

    def is_own(run: PipelineRun) -> bool:
        is_rerun = run.run_group_id not in (None, run.run_id)
        value = None if is_rerun or intent.service_uses_key else correlation_value(run, start.correlation_parameter)
        return run.run_id.lower() in own or (value is not None and value.lower() in own)

    return is_own


def ended_at(run: PipelineRun) -> float | None:
    """Epoch seconds, by the service's clock, at which a run that is over has ended; None if that is not known."""
    ended = run.ended_at or run.last_updated
    return None if ended is None else ended.timestamp()

"""What a start does about runs of its pipeline that are already there, whoever started them: ADF triggers, people, other Dags.

    on_live_run       a run is active                      on_succeeded_run    a run has succeeded within the time
    ----------------  -----------------------------------  ------------------  -------------------------------------
    "start"           start another                        "start"             start another
    "wait"            wait for its end, then look again    "accept"            its summary is the result
    "adopt"           wait for it, instead of a run of     "skip"              skip the task
                      our own
    "skip"            skip the task
    "fail"            fail

"adopt", "accept" and "skip" need equal parameters, with the pipeline's defaults. A pipeline with secure parameters has no equal
run, because the service does not show their values. "wait" and "fail" are about any run of the pipeline.

A run that somebody else started is foreign: it is watched, and never cancelled.

What can go wrong: between the list query and createRun, somebody else may start a run, and the run list may lag. Neither the
service nor Airflow has a lock that could prevent this. So after createRun, the list is read again until it shows our own run. A
second active run is reported, and nothing is cancelled (docs/backfills.md names the two ways to be exact).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from airflow_adf_mi.adf import metrics
from airflow_adf_mi.adf.api.operations import Page, get_pipeline, get_run
from airflow_adf_mi.adf.config.policies import PresentRuns
from airflow_adf_mi.adf.errors import AdfError
from airflow_adf_mi.adf.models import UNREADABLE, PipelineRun, RunStatus
from airflow_adf_mi.adf.routines import Pause, Routine, ServiceTime
from airflow_adf_mi.adf.starting.create_run import create_run_once
from airflow_adf_mi.adf.starting.declared_parameters import DeclaredParameter, fit, is_equal, read_declared
from airflow_adf_mi.adf.starting.find_run import START_CLOCK_SLACK_SECONDS
from airflow_adf_mi.adf.starting.intent import Intent
from airflow_adf_mi.adf.starting.journal import save_best_effort
from airflow_adf_mi.adf.starting.published_pipeline import does_not_fit
from airflow_adf_mi.adf.starting.run_list import RETENTION_SECONDS, having, list_runs, read_pages, with_patience
from airflow_adf_mi.adf.starting.start import Start
from airflow_adf_mi.adf.starting.started import Skipped, Started, StillActive
from airflow_adf_mi.adf.timing import Timing
from airflow_adf_mi.adf.waiting.single_run import in_words

log = logging.getLogger(__name__)

LOOK_AGAIN_SECONDS = 60.0
"""After createRun, the list is read for at most this many seconds until it shows our own run."""
LOOK_AGAIN_PAUSE_SECONDS = 3.0
_LIVE = sorted(RunStatus.UNFINISHED)
_USABLE = (RunStatus.QUEUED, RunStatus.IN_PROGRESS)
"""Statuses of runs that may be adopted. A run that is being cancelled is active, but leads to nothing."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a policy chose, and the run that it is about."""

    policy: str
    """The argument and its value, for texts."""
    action: str
    run: PipelineRun


def start_unless_present(start: Start, fresh: Intent, *, timing: Timing) -> Routine[Started | StillActive | Skipped]:
    """Start a run, unless a policy chooses a run that is already there.

    Raises the errors of `create_run_once`. Raises `AdfError` if the runs cannot be listed or compared, or if `on_live_run` is
    "fail" and a run is active.
    """
    if not start.present_runs:
        return (yield from create_run_once(start, fresh, timing=timing))
    found = yield from _choose(start, fresh, timing=timing)
    if found is None:
        return (yield from create_run_once(start, fresh, timing=timing))
    return (yield from _use(start, fresh, found, timing=timing))


def yield_to_live_run(start: Start, fresh: Intent, *, timing: Timing) -> Routine[StillActive | None]:
    """The active run that a rerun must wait for. Raises `AdfError` if `on_live_run` is "fail" and a run is active.

    A rerun continues a run of its own group, so a run that is already there cannot take its place.
    """
    if start.present_runs.on_live_run not in ("wait", "fail"):
        return None
    found = yield from _choose(start, fresh, timing=timing)
    if found is None or found.action not in ("wait", "fail"):
        return None
    used = yield from _use(start, fresh, found, timing=timing)
    return used if isinstance(used, StillActive) else None


def _use(start: Start, fresh: Intent, found: Found, *, timing: Timing) -> Routine[Started | StillActive | Skipped]:
    run = found.run
    log.info("%s: run %s, which this task did not start, %s.", found.policy, run.run_id, in_words(run.status))
    foreign = replace(fresh.started(run.run_id), is_foreign=True, service_uses_key=fresh.service_uses_key)
    match found.action:
        case "wait":
            return StillActive(intent=foreign, run=run, is_ours=False, waits_for_any=True)
        case "skip":
            return Skipped(intent=foreign, run=run, policy=found.policy)
        case "fail":
            raise AdfError(
                f"Run {run.run_id} of pipeline {start.pipeline_name!r} in {start.factory} is {run.status}, and {found.policy}. "
                "So nothing was started. Clear the task when that run has ended, or choose another value of on_live_run."
            )
    yield save_best_effort(foreign)
    return Started(intent=foreign, run=run, adopted=True, seen_at=timing.clock())


def _choose(start: Start, fresh: Intent, *, timing: Timing) -> Routine[Found | None]:
    policies = start.present_runs
    own = {*fresh.previous_run_ids, fresh.start_key}
    is_equal: Callable[[PipelineRun], bool] | None = None
    if policies.compares:
        is_equal = yield from _comparison(start, timing=timing)
    live: list[PipelineRun] = []
    just_succeeded: list[PipelineRun] = []
    if policies.on_live_run != "start":
        listed = yield from _listed(start, _LIVE, RETENTION_SECONDS, timing=timing)
        seen = yield from _as_they_are([run for run in listed if run.run_id not in own], start)
        live = [run for run in seen if not run.is_terminal]
        just_succeeded = [run for run in seen if run.status == RunStatus.SUCCEEDED]
    succeeded: list[PipelineRun] = []
    if policies.on_succeeded_run != "start":
        listed = yield from _listed(start, [RunStatus.SUCCEEDED], policies.succeeded_within or 0.0, timing=timing)
        # The list may not show yet that a run has succeeded which was active a moment ago.
        succeeded = [*just_succeeded, *(run for run in listed if run.run_id not in own)]
    return chosen(policies, live, succeeded, is_equal or (lambda _run: False))


def chosen(
    policies: PresentRuns,
    live: Sequence[PipelineRun],
    succeeded: Sequence[PipelineRun],
    is_equal: Callable[[PipelineRun], bool],
) -> Found | None:
    """What the policies do about these runs. Pure.

    :param live: active runs of the pipeline, the newest first.
    :param succeeded: runs that have succeeded within the time, the newest first.
    """
    action: str = policies.on_live_run
    compares = action in ("adopt", "skip")
    wanted = [run for run in live if not compares or (run.status in _USABLE and is_equal(run))]
    if wanted and action != "start":
        return Found(policy=f"on_live_run is {action!r}", action=action, run=wanted[0])
    action = policies.on_succeeded_run
    equal = [run for run in succeeded if is_equal(run)]
    if equal and action != "start":
        return Found(policy=f"on_succeeded_run is {action!r}", action=action, run=equal[0])
    return None


def _listed(start: Start, statuses: Sequence[str], within: float, *, timing: Timing) -> Routine[list[PipelineRun]]:
    """The runs of the pipeline with one of these statuses, the newest first. Raises `AdfError` if the list cannot be read."""

    def read() -> Routine[tuple[list[PipelineRun], AdfError | None]]:
        now = yield ServiceTime()
        of_pipeline = having("PipelineName", start.pipeline_name)
        call = list_runs(start.factory, now - within, now, of_pipeline, having("Status", *statuses))
        return (yield from read_pages(call))

    runs, error = yield from with_patience(read, timing=timing)
    if error is not None:
        raise AdfError(
            f"The runs of pipeline {start.pipeline_name!r} in {start.factory} could not be listed, so it is not known "
            "whether one is already there (on_live_run, on_succeeded_run). Nothing was started. Remove the cause below. A "
            f"retry reads the list again. {error}"
        ) from error
    return runs


def _as_they_are(listed: Sequence[PipelineRun], start: Start) -> Routine[list[PipelineRun]]:
    """The runs by their own status, because the list may lag. A run that cannot be read is as the list shows it."""
    seen = []
    for run in listed:
        answer: PipelineRun | AdfError = yield get_run(start.factory, run.run_id)
        seen.append(answer if isinstance(answer, PipelineRun) else run)
    return seen


def _comparison(start: Start, *, timing: Timing) -> Routine[Callable[[PipelineRun], bool]]:
    """A function that says whether a run has the parameters of this start. Raises `AdfError` if the pipeline cannot be read."""

    def read() -> Routine[tuple[tuple[DeclaredParameter, ...], AdfError | None]]:
        answer: Mapping[str, Any] | AdfError = yield get_pipeline(start.factory, start.pipeline_name)
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
        return lambda _run: False
    fitted = fit(start.parameters or {}, declared, start.correlation_parameter)
    if fitted.problems:
        if start.check_parameters:
            raise does_not_fit(start, declared, fitted)
        log.info("The parameters do not fit pipeline %r, so no run counts as equal.", start.pipeline_name)
        return lambda _run: False
    compared = [one for one in declared if one.name != fitted.correlation_parameter]
    return lambda run: has_equal_parameters(run, fitted.values, compared)


def has_equal_parameters(run: PipelineRun, values: Mapping[str, Any], declared: Sequence[DeclaredParameter]) -> bool:
    """Whether a run has these values, and the defaults of all other parameters."""
    return all(
        one.name in run.parameters and is_equal(one, values.get(one.name, one.default), run.parameters[one.name])
        for one in declared
    )


def reporting_others(start: Start, started: Started, *, timing: Timing) -> Routine[None]:
    """Report active runs that somebody else started at the same time as this task. Call it when the run has been announced.

    With "wait" and "fail", any other run of the pipeline counts; with "adopt" and "skip", a run with equal parameters.
    """
    action = start.present_runs.on_live_run
    if action == "start" or started.adopted or started.intent.sent_at is None:
        return
    is_equal_run: Callable[[PipelineRun], bool] = lambda _run: True  # noqa: E731  the same name as below
    if action in ("adopt", "skip"):
        try:
            is_equal_run = yield from _comparison(start, timing=timing)
        except AdfError as e:
            # The run has begun. So an error here must not end the try.
            log.warning(
                "Run %s could not be compared with runs that began at the same time. The wait for it goes on. %s",
                started.run_id,
                e.__cause__ or e,
            )
            return
    until = timing.clock() + LOOK_AGAIN_SECONDS
    while True:
        now = yield ServiceTime()
        since = started.intent.sent_at + now - timing.clock() - START_CLOCK_SLACK_SECONDS
        page = yield list_runs(start.factory, since, now, having("PipelineName", start.pipeline_name))
        runs = page.items if isinstance(page, Page) else []
        others = [run for run in runs if run.status in _LIVE and run.run_id != started.run_id and is_equal_run(run)]
        if others:
            metrics.count(metrics.OVERLAPS)
            log.warning(
                "Run %s was started, and these runs of pipeline %r are active, too: %s. Somebody else started them at the same "
                "time. Nothing was cancelled. The guide names two ways to be exact: docs/backfills.md.",
                started.run_id,
                start.pipeline_name,
                ", ".join(run.run_id for run in others[:10]),
            )
            return
        if any(run.run_id == started.run_id for run in runs):
            return
        if timing.clock() + LOOK_AGAIN_PAUSE_SECONDS > until:
            log.info(
                "The list does not show run %s yet, so runs that began at the same time may be missing.", started.run_id
            )
            return
        yield Pause(LOOK_AGAIN_PAUSE_SECONDS)

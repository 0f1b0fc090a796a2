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
service nor Airflow has a lock that could prevent this. So after createRun, the list is read until it shows our own run, and then
the active runs are read again. A second active run is reported, and nothing is cancelled (docs/backfills.md names the two
ways to be exact).

    look: list, then GET --> createRun --> the list shows our run --> look: list, then GET --> report a second active run
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from airflow_adf_mi.adf import metrics
from airflow_adf_mi.adf.api.operations import get_pipeline, get_run
from airflow_adf_mi.adf.config.policies import PresentRuns
from airflow_adf_mi.adf.errors import AdfError
from airflow_adf_mi.adf.models import UNREADABLE, PipelineRun, RunStatus
from airflow_adf_mi.adf.routines import Pause, Routine, ServiceTime
from airflow_adf_mi.adf.starting.create_run import create_run_once
from airflow_adf_mi.adf.starting.declared_parameters import DeclaredParameter, fit, is_equal, read_declared
from airflow_adf_mi.adf.starting.find_run import START_CLOCK_SLACK_SECONDS, START_WINDOW_SECONDS
from airflow_adf_mi.adf.starting.intent import Intent
from airflow_adf_mi.adf.starting.journal import save_best_effort
from airflow_adf_mi.adf.starting.pipeline_name import runs_of_pipeline
from airflow_adf_mi.adf.starting.published_pipeline import does_not_fit
from airflow_adf_mi.adf.starting.run_list import RETENTION_SECONDS, having, list_runs, read_pages, with_patience
from airflow_adf_mi.adf.starting.start import Start
from airflow_adf_mi.adf.starting.started import Skipped, Started, StillActive
from airflow_adf_mi.adf.timing import Timing
from airflow_adf_mi.adf.waiting.single_run import in_words

log = logging.getLogger(__name__)

IsEqual: TypeAlias = Callable[[PipelineRun], bool]
"""Says whether a run has the parameters of a start."""
LOOK_AGAIN_SECONDS = 60.0
"""After createRun, the list is read for at most this many seconds until it shows our own run."""
LOOK_AGAIN_PAUSE_SECONDS = 3.0
MOST_OTHERS = 10
"""At most this many other active runs are named after a start."""
_ABOUT_ANY_RUN = ("wait", "fail")
"""Values of `on_live_run` for which parameters do not matter."""
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

    A rerun continues a run of its own group, so a run that is already there cannot take its place. So nothing is compared here.
    """
    if start.present_runs.on_live_run not in _ABOUT_ANY_RUN:
        return None
    start = replace(start, present_runs=PresentRuns(on_live_run=start.present_runs.on_live_run))
    found = yield from _choose(start, fresh, timing=timing)
    if found is None:
        return None
    used = yield from _use(start, fresh, found, timing=timing)
    assert isinstance(used, StillActive)  # noqa: S101  "fail" raises
    return used


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
    is_equal: IsEqual = _never
    if policies.compares:
        is_equal = yield from _comparison(start, timing=timing)
    seen: list[PipelineRun] = []
    if policies.on_live_run != "start":
        listed = yield from _listed(start, _LIVE, RETENTION_SECONDS, timing=timing)
        counted = [run for run in listed if run.run_id not in own and _counts(policies, run, is_equal)]
        # The first run that is chosen decides. So the runs behind it, perhaps hundreds, are not read.
        seen = yield from _as_they_are(counted, start, lambda run: chosen(policies, [run], (), is_equal) is not None)
    succeeded: list[PipelineRun] = []
    if policies.on_succeeded_run != "start":
        listed = yield from _listed(start, [RunStatus.SUCCEEDED], policies.succeeded_within or 0.0, timing=timing)
        # The list may not show yet that a run has succeeded which was active a moment ago.
        just_succeeded = [run for run in seen if run.status == RunStatus.SUCCEEDED]
        succeeded = [*just_succeeded, *(run for run in listed if run.run_id not in own)]
    return chosen(policies, seen, succeeded, is_equal)


def chosen(
    policies: PresentRuns,
    seen: Sequence[PipelineRun],
    succeeded: Sequence[PipelineRun],
    is_equal: IsEqual,
) -> Found | None:
    """What the policies do about these runs. Pure.

    :param seen: runs of the pipeline that the list shows as active, as they are, the newest first.
    :param succeeded: runs that have succeeded within the time, the newest first.
    """
    action: str = policies.on_live_run
    live = [run for run in seen if not run.is_terminal]
    wanted = [run for run in live if action in _ABOUT_ANY_RUN or (run.status in _USABLE and is_equal(run))]
    if wanted and action != "start":
        return Found(policy=f"on_live_run is {action!r}", action=action, run=wanted[0])
    action = policies.on_succeeded_run
    equal = [run for run in succeeded if is_equal(run)]
    if equal and action != "start":
        return Found(policy=f"on_succeeded_run is {action!r}", action=action, run=equal[0])
    return None


def _counts(policies: PresentRuns, run: PipelineRun, is_equal: IsEqual) -> bool:
    """Whether the policies are about a run with these parameters, if it is active."""
    return policies.on_live_run in _ABOUT_ANY_RUN or is_equal(run)


def _never(_run: PipelineRun) -> bool:
    """No run counts as equal."""
    return False


def _listed(start: Start, statuses: Sequence[str], within: float, *, timing: Timing) -> Routine[list[PipelineRun]]:
    """The runs of the pipeline with one of these statuses, the newest first. Raises `AdfError` if the list cannot be read."""

    def read() -> Routine[tuple[list[PipelineRun], AdfError | None]]:
        now = yield ServiceTime()
        of_pipeline = yield from runs_of_pipeline(start.factory, start.pipeline_name, timing=timing)
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


def _as_they_are(
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


def _comparison(start: Start, *, timing: Timing) -> Routine[IsEqual]:
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
        return _never
    fitted = fit(start.parameters or {}, declared, start.correlation_parameter)
    if fitted.problems:
        if start.check_parameters:
            raise does_not_fit(start, declared, fitted)
        log.info("The parameters do not fit pipeline %r, so no run counts as equal.", start.pipeline_name)
        return _never
    compared = [one for one in declared if one.name != fitted.correlation_parameter]
    return lambda run: has_equal_parameters(run, fitted.values, compared)


def has_equal_parameters(run: PipelineRun, values: Mapping[str, Any], declared: Sequence[DeclaredParameter]) -> bool:
    """Whether a run has these values, and the defaults of all other parameters."""
    return all(
        one.name in run.parameters and is_equal(one, values.get(one.name, one.default), run.parameters[one.name])
        for one in declared
    )


def reporting_others(start: Start, started: Started, *, timing: Timing) -> Routine[None]:
    """Report active runs that this task did not start. Call it when the run has been announced.

    With "wait" and "fail", any other run of the pipeline counts; otherwise, a run with equal parameters.
    """
    sent_at = started.intent.sent_at
    is_over = started.run is not None and started.run.is_terminal
    if not start.present_runs or started.is_foreign or is_over or sent_at is None:
        return
    if timing.clock() - sent_at > start.settle + START_WINDOW_SECONDS:
        # The run of an earlier try. A run that was sent a moment ago may be an adopted one, too: its answer was lost.
        return
    try:
        others = yield from _others(start, started, sent_at, timing=timing)
    except AdfError as e:
        # The run has begun. So an error here must not end the try.
        log.warning(
            "Run %s could not be compared with other active runs of its pipeline. The wait for it goes on. %s",
            started.run_id,
            e.__cause__ or e,
        )
        return
    if others:
        metrics.count(metrics.OVERLAPS)
        log.warning(
            "Run %s was started, and these runs of pipeline %r are active, too: %s. This task did not start them. Nothing was "
            "cancelled. The guide names two ways to be exact: docs/backfills.md.",
            started.run_id,
            start.pipeline_name,
            ", ".join(run.run_id for run in others),
        )


def _others(start: Start, started: Started, sent_at: float, *, timing: Timing) -> Routine[list[PipelineRun]]:
    """Active runs of others, once the list shows our own run. Raises `AdfError` if they cannot be listed or compared."""
    policies = start.present_runs
    own = {*started.intent.previous_run_ids, started.intent.start_key, started.run_id}
    is_equal: IsEqual = _never
    if policies.on_live_run not in _ABOUT_ANY_RUN:
        # The run has begun, so parameters that do not fit refuse nothing any more.
        is_equal = yield from _comparison(replace(start, check_parameters=False), timing=timing)
    until = timing.clock() + LOOK_AGAIN_SECONDS
    while not (yield from _is_listed(start, started.run_id, sent_at, timing=timing)):
        if timing.clock() + LOOK_AGAIN_PAUSE_SECONDS > until:
            log.info("The list does not show run %s yet, so other active runs may be missing.", started.run_id)
            break
        yield Pause(LOOK_AGAIN_PAUSE_SECONDS)
    listed = yield from _listed(start, _LIVE, RETENTION_SECONDS, timing=timing)
    counted = [run for run in listed if run.run_id not in own and _counts(policies, run, is_equal)]
    seen = yield from _as_they_are(counted, start, lambda run: not run.is_terminal, most=MOST_OTHERS)
    return [run for run in seen if not run.is_terminal]


def _is_listed(start: Start, run_id: str, sent_at: float, *, timing: Timing) -> Routine[bool]:
    """Whether the list shows our run, whatever its status. It may have ended already."""
    now = yield ServiceTime()
    since = sent_at + now - timing.clock() - START_CLOCK_SLACK_SECONDS
    of_pipeline = yield from runs_of_pipeline(start.factory, start.pipeline_name, timing=timing)
    runs, _ = yield from read_pages(list_runs(start.factory, since, now, of_pipeline))
    return any(run.run_id == run_id for run in runs)

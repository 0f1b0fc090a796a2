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
the active runs are read again. A second run that is active, or was active beside our run, is reported, and nothing is cancelled
(docs/backfills.md names the two ways to be exact).

    look: list, then GET --> createRun --> the list shows our run --> look: list, then GET --> report a second run
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from airflow_adf_mi.adf import metrics
from airflow_adf_mi.adf.config.policies import PresentRuns
from airflow_adf_mi.adf.errors import AdfError
from airflow_adf_mi.adf.models import PipelineRun, RunStatus
from airflow_adf_mi.adf.routines import Pause, Routine, ServiceTime
from airflow_adf_mi.adf.starting.create_run import create_run_once
from airflow_adf_mi.adf.starting.find_run import START_CLOCK_SLACK_SECONDS, START_WINDOW_SECONDS
from airflow_adf_mi.adf.starting.intent import Intent
from airflow_adf_mi.adf.starting.journal import save_best_effort
from airflow_adf_mi.adf.starting.other_runs import (
    IsEqual,
    as_they_are,
    comparison,
    ended_at,
    listed_runs,
    never_equal,
    ownership,
    runs_since_start,
)
from airflow_adf_mi.adf.starting.run_list import RETENTION_SECONDS
from airflow_adf_mi.adf.starting.start import Start
from airflow_adf_mi.adf.starting.started import Skipped, Started, StillActive
from airflow_adf_mi.adf.timing import Timing
from airflow_adf_mi.adf.waiting.single_run import in_words

log = logging.getLogger(__name__)

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
    is_own = ownership(start, fresh)
    is_equal: IsEqual = never_equal
    if policies.compares:
        is_equal = yield from comparison(start, timing=timing)
    # Also for on_succeeded_run: the list may not show yet that a run has succeeded which was active a moment ago.
    listed = yield from listed_runs(start, _LIVE, RETENTION_SECONDS, timing=timing)
    within = policies.succeeded_within or 0.0
    oldest = (yield ServiceTime()) - within

    def has_just_succeeded(run: PipelineRun) -> bool:
        ended = ended_at(run)
        return run.status == RunStatus.SUCCEEDED and (ended is None or ended >= oldest)

    def decides(run: PipelineRun) -> bool:
        # An active run comes first.
        is_enough = policies.on_live_run == "start" and has_just_succeeded(run)
        return chosen(policies, [run], [run] if is_enough else (), is_equal) is not None

    counted = [run for run in listed if not is_own(run) and _counts(policies, run, is_equal)]
    # The first run that is chosen decides. So the runs behind it, perhaps hundreds, are not read.
    seen = yield from as_they_are(counted, start, decides)
    succeeded: list[PipelineRun] = []
    if policies.on_succeeded_run != "start":
        listed = yield from listed_runs(start, [RunStatus.SUCCEEDED], within, timing=timing)
        succeeded = [*filter(has_just_succeeded, seen), *(run for run in listed if not is_own(run))]
    return chosen(policies, seen, succeeded, is_equal)


def chosen(
    policies: PresentRuns,
    seen: Sequence[PipelineRun],
    succeeded: Sequence[PipelineRun],
    is_equal: IsEqual,
) -> Found | None:
    """What the policies do about these runs. Pure.

    :param seen: runs of the pipeline that the list shows as active, by their own status, the newest first.
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


def reporting_others(start: Start, started: Started, *, timing: Timing) -> Routine[None]:
    """Report runs that this task did not start, and that are active, or were active beside its run. Call it when the run has
    been announced.

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
        active, ended = yield from _others(start, started, sent_at, timing=timing)
    except AdfError as e:
        # The run has begun. So an error here must not end the try.
        log.warning(
            "Run %s could not be compared with other active runs of its pipeline. The wait for it goes on. %s",
            started.run_id,
            e.__cause__ or e,
        )
        return
    found = {"are active, too": active, "were active, too, and have ended": ended}
    if active or ended:
        metrics.count(metrics.OVERLAPS)
        log.warning(
            "Run %s was started, and of pipeline %r %s. This task did not start them. Nothing was cancelled. The guide names two "
            "ways to be exact: docs/backfills.md.",
            started.run_id,
            start.pipeline_name,
            "; ".join(
                f"these runs {how}: {', '.join(run.run_id for run in runs)}" for how, runs in found.items() if runs
            ),
        )


def _others(
    start: Start, started: Started, sent_at: float, *, timing: Timing
) -> Routine[tuple[list[PipelineRun], list[PipelineRun]]]:
    """Runs of others, once the list shows our own run: those that are active, and those that were active beside our run and have
    ended. Raises `AdfError` if they cannot be listed or compared.
    """
    policies = start.present_runs
    is_own = ownership(start, started.intent, started.run_id)
    is_equal: IsEqual = never_equal
    if policies.on_live_run not in _ABOUT_ANY_RUN:
        # The run has begun, so parameters that do not fit refuse nothing any more.
        is_equal = yield from comparison(replace(start, check_parameters=False), timing=timing)
    until = timing.clock() + LOOK_AGAIN_SECONDS
    while True:
        recent, sent = yield from runs_since_start(start, sent_at, timing=timing)
        ours = next((run for run in recent if run.run_id.lower() == started.run_id.lower()), None)
        left = until - timing.clock()
        if ours is not None:
            break
        if left <= 0:
            log.info("The list does not show run %s yet, so other active runs may be missing.", started.run_id)
            break
        yield Pause(min(LOOK_AGAIN_PAUSE_SECONDS, left))
    listed = yield from listed_runs(start, _LIVE, RETENTION_SECONDS, timing=timing)
    counted = [run for run in listed if not is_own(run) and _counts(policies, run, is_equal)]
    seen = yield from as_they_are(counted, start, lambda run: not run.is_terminal, most=MOST_OTHERS)
    # A run that is over by now is not among the active ones. The list of recent runs shows it, as active or as ended.
    known = {run.run_id for run in listed}
    gone = [run for run in recent if run.run_id not in known and not is_own(run) and _counts(policies, run, is_equal)]
    seen += [run for run in gone if run.is_terminal]
    seen += yield from as_they_are([run for run in gone if not run.is_terminal][:MOST_OTHERS], start, never_equal)
    active = [run for run in seen if not run.is_terminal]
    ended = [run for run in seen if run.is_terminal and _was_beside(run, ours, sent)]
    return active, ended[:MOST_OTHERS]


def _was_beside(run: PipelineRun, ours: PipelineRun | None, sent: float) -> bool:
    """Whether a run that has ended was active while our run was.

    :param ours: our run, as the list shows it; None if the list does not show it.
    :param sent: when our start was sent, by the service's clock. It is known to a few seconds only. So a run that has ended a
        moment before our start, for which the task may have waited, must not count.
    """
    ended = ended_at(run)
    began = sent + START_CLOCK_SLACK_SECONDS
    if ours is not None and ours.started_at is not None:
        began = ours.started_at.timestamp()
    if ended is None or ended <= began:
        return False
    our_end = ours.ended_at if ours is not None and ours.is_terminal else None
    # A run that has begun after the end of our run was never beside it.
    return our_end is None or run.started_at is None or run.started_at < our_end

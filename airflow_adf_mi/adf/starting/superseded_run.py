"""Ends the run of an earlier try that a new run replaces: after a clear, or if its parameters have changed.

The run is cancelled, or only waited for (`cancel_superseded`). A run that may be somebody else's is never cancelled. While the
run is active, `end_superseded_run` returns it. The caller waits for it, and asks again.

    the earlier start      what is ended
    ---------------------  ---------------------------------------------------------------------------------------------------
    was answered           its run
    was never answered     the runs with its start key, or with its correlation parameter; otherwise the only similar run, which
                           may be another task's, so it is only waited for
    was a rerun, which     the run with its start key; otherwise all later runs of the group, which may be somebody's, so they
      was never answered   are only waited for

What can go wrong: the service may not show the earlier run, because of an outage or a missing role. A run that cannot be
checked may still be active. So nothing is started until the answer to a cancel proves that the run has ended. If the
run must not be cancelled, only its age (45 days) can prove that.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

from airflow_adf_mi.adf.api.operations import cancel_run, get_run
from airflow_adf_mi.adf.cancelling import Cancel, cancelling
from airflow_adf_mi.adf.errors import AdfError, AdfNotFoundError
from airflow_adf_mi.adf.models import PipelineRun, RunStatus
from airflow_adf_mi.adf.routines import Pause, Routine
from airflow_adf_mi.adf.starting.create_run import SEARCH_PAUSE_SECONDS
from airflow_adf_mi.adf.starting.find_run import (
    RunCriteria,
    SearchResult,
    get_run_patiently,
    search_list,
    uses_start_keys,
)
from airflow_adf_mi.adf.starting.intent import Intent, Phase
from airflow_adf_mi.adf.starting.run_list import with_patience
from airflow_adf_mi.adf.starting.start import Start
from airflow_adf_mi.adf.starting.started import StillActive
from airflow_adf_mi.adf.times import RUN_RETENTION
from airflow_adf_mi.adf.timing import Timing
from airflow_adf_mi.adf.waiting.single_run import is_unreadable

log = logging.getLogger(__name__)

SUPERSEDED_CHECK_INTERVAL_SECONDS = 10.0
"""Longest time in seconds between two status checks of a run that must end before another run is started."""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """The superseded run has ended."""

    found: tuple[str, ...] = ()
    """The ids of the runs that a search found for a start without an answer. Policies about runs that are already there must not
    take them for runs of somebody else."""
    is_ours: bool = True
    """Whether these runs are certainly ours, so that one of them may be continued."""


def end_superseded_run(start: Start, older: Intent, *, cancel: bool, timing: Timing) -> Routine[StillActive | Ended]:
    """Cancel a superseded run, or only let it end."""
    # A foreign run is not waited for, unless it may be the rerun that this task has sent.
    is_certainly_foreign = older.is_foreign and (older.rerun_of is None or older.sent_at is None)
    if older.phase is Phase.PREPARED or is_certainly_foreign:
        return Ended()
    if older.run_id is not None:
        return (yield from _end_run(older, cancel=cancel, is_ours=not older.is_foreign, timing=timing)) or Ended()
    runs, is_ours = yield from _find_superseded_runs(start, older, timing=timing)
    if not runs:
        log.warning(
            "An earlier start (key %s) was lost, and no run could be identified as its run; starting a new one.",
            older.start_key,
        )
    for run in runs:
        active = yield from _end_run(older.started(run.run_id), cancel=cancel, is_ours=is_ours, timing=timing)
        if active is not None:
            return active
    # Later runs of a rerun's group may be somebody else's.
    may_be_theirs = older.rerun_of is not None and not is_ours
    return Ended(found=() if may_be_theirs else tuple(run.run_id for run in runs), is_ours=is_ours)


def _end_run(older: Intent, *, cancel: bool, is_ours: bool, timing: Timing) -> Routine[StillActive | None]:
    """Cancel a run, or only let it end. A run that may be somebody else's is never cancelled."""
    cancel = cancel and is_ours
    seen = yield from poll_with_retries(older, timing=timing)
    if isinstance(seen, AdfError):
        shows_nothing = isinstance(seen, AdfNotFoundError) or is_unreadable(seen)
        if shows_nothing and (yield from _is_over_or_forgotten(older, cancel=cancel, timing=timing)):
            log.warning("Run %s of an earlier try has ended, or the service no longer knows it. %s", older.run_id, seen)
            return None
        raise AdfError(
            f"Run {older.run_id} of pipeline {older.pipeline_name!r}, started by an earlier try of this task, could not be "
            "checked. So it is not known whether the run has ended, and nothing was started. Remove the cause below, and clear "
            "the task. Or check in ADF Studio that the run has ended, and run the task with durable=False. "
            f"{seen}"
        ) from seen
    if seen.is_terminal:
        return None
    if cancel and seen.status != RunStatus.CANCELING:
        answer = yield from cancelling(older.factory, seen.run_id, timing=timing)
        is_accepted = answer is Cancel.ACCEPTED
        log.info("Superseded run %s %s.", seen.run_id, "is being cancelled" if is_accepted else answer)
        if not is_accepted:
            return None
    return StillActive(intent=older, run=seen, is_ours=is_ours)


def _find_superseded_runs(
    start: Start, older: Intent, *, timing: Timing
) -> Routine[tuple[tuple[PipelineRun, ...], bool]]:
    """Search for the run of a superseded start whose answer was lost. Returns the runs that must end, and whether they are
    certainly ours.

    Raises `AdfError` if the searches keep failing, because a failed search does not show that there is no run.
    """
    same = start.intent().fingerprint == older.fingerprint
    criteria = RunCriteria(
        factory=older.factory,
        pipeline_name=older.pipeline_name,
        parameters=(start.parameters or {}) if same else {},
        correlation_parameter=start.correlation_parameter,
    )
    if older.rerun_of is not None:
        criteria = RunCriteria(
            factory=older.factory,
            pipeline_name=older.pipeline_name,
            rerun_group_id=older.run_group_id or older.rerun_of,
        )
    until = (older.sent_at or timing.clock()) + start.settle
    while True:
        searched_at = timing.clock()
        result = yield from _search_with_retries(criteria, older, timing=timing)
        ours = _certainly_ours(result, older)
        if ours:
            return ours, True
        if result.error is not None:
            raise AdfError(
                f"An earlier try of this task started pipeline {older.pipeline_name!r} in {older.factory} (start key "
                f"{older.start_key}). That start got no answer, and the search for its run failed. So it is not known whether "
                "such a run is active, and nothing was started. Remove the cause below, and clear the task, which searches "
                "again. Or check in ADF Studio that no run of this task is active, and run the task with durable=False. "
                f"{result.error}"
            ) from result.error
        if searched_at >= until:
            if older.rerun_of is not None or result.proven:
                # Later runs of the group: ours has another id, or somebody began them in ADF Studio.
                return result.proven, False
            uses_key = older.service_uses_key or (yield from uses_start_keys(older.factory, older.pipeline_name))
            # If the factory uses our keys as run ids, a run with another id is not ours.
            possible = () if uses_key else result.possible
            return (possible if len(possible) == 1 else ()), False
        # The run of a recent start may still appear.
        yield Pause(max(0.0, min(SEARCH_PAUSE_SECONDS, until - timing.clock())))


def _certainly_ours(result: SearchResult, older: Intent) -> tuple[PipelineRun, ...]:
    """The proven runs of a start. A rerun may be somebody else's, so it must have our key as its id."""

    def is_ours(run: PipelineRun) -> bool:
        is_rerun = older.rerun_of is not None or run.run_group_id not in (None, run.run_id)
        return not is_rerun or run.run_id.lower() == older.start_key.lower()

    return tuple(filter(is_ours, result.proven))


def _search_with_retries(criteria: RunCriteria, older: Intent, *, timing: Timing) -> Routine[SearchResult]:
    """Search for the run of a lost start, and repeat a failed search for a while.

    The result has an `error` if the last search failed.
    """

    def once() -> Routine[tuple[SearchResult, AdfError | None]]:
        seen: PipelineRun | AdfError = yield get_run(older.factory, older.start_key)
        if isinstance(seen, PipelineRun):
            # Accept the run whatever its pipeline is, because the task may have been edited after the run was started.
            return SearchResult(proven=(seen,)), None
        result = yield from search_list(criteria, older, seen, timing=timing)
        if not result.key_unknown:
            # The list may lag. So without an answer about the key, the list proves nothing.
            result = replace(result, error=result.error or seen)
        return result, None if _certainly_ours(result, older) else result.error

    result, _ = yield from with_patience(once, timing=timing)
    return result


def _is_over_or_forgotten(older: Intent, *, cancel: bool, timing: Timing) -> Routine[bool]:
    """The service does not show the run. Return whether the run has ended or was deleted.

    The answer to a cancel must prove this. If the run must not be cancelled, its age must prove it.
    """
    if not cancel:
        return older.sent_at is not None and timing.clock() - older.sent_at > RUN_RETENTION.total_seconds()
    answer = yield cancel_run(older.factory, older.run_id or older.start_key)
    return answer is False or (isinstance(answer, AdfNotFoundError) and answer.missing == "run")


def poll_with_retries(intent: Intent, *, timing: Timing) -> Routine[PipelineRun | AdfError]:
    """Poll the run of `intent`. A failed poll is repeated for a while."""
    return get_run_patiently(intent.factory, intent.run_id or intent.start_key, timing=timing)

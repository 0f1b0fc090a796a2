"""Reruns: a run that continues the failed run of an earlier try, from the activities that failed.

The problem: if the last of ten activities fails, a retry that starts from the beginning repeats nine. The service can continue a
run (`isRecovery`, `startFromFailure`). The new run joins the group of the failed run, and takes its parameters. It skips what has
succeeded, also in child pipelines (docs/backfills.md).

    the earlier run            newest run of its group    this try
    -------------------------  -------------------------  -------------------------------------------
    failed                     itself, or failed too      continues the newest run
    failed, and somebody ran   active, or succeeded       adopts that run. If it fails, the next try continues it
      it again in ADF Studio   cancelled                  starts from the beginning
    cancelled, or timed out    any                        starts from the beginning

If Data Factory refuses to continue the run, the try starts from the beginning. The service may no longer know the run, because it
keeps runs for 45 days. But if somebody has run it again meanwhile, the try reads the group again, by the table above. A refusal
that every start would get (a missing role, a lock, a policy, a missing factory, a limit) is raised. Otherwise a moment without a
lock would make everything run.

A rerun is a start like any other: its key is stored before it is sent, and a lost answer is searched for. The run of a lost rerun
is a run of the group that this task does not know: ours, or a rerun that somebody began in ADF Studio. Either is adopted. But
only a run with our key is ours. A run that may be somebody else's is watched, and never cancelled. After a clear, it must end
before another run is started, because it may be ours.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from airflow_adf_mi.adf.api.operations import Page, get_run, query_activity_runs
from airflow_adf_mi.adf.api.refusal import is_front_door
from airflow_adf_mi.adf.config.addresses import FactoryRef
from airflow_adf_mi.adf.errors import (
    AdfError,
    AdfNotFoundError,
    AdfPermissionError,
    AdfRequestError,
    AdfThrottledError,
)
from airflow_adf_mi.adf.models import PipelineRun, RunStatus
from airflow_adf_mi.adf.routines import Routine, ServiceTime
from airflow_adf_mi.adf.starting.create_run import create_run_once
from airflow_adf_mi.adf.starting.find_run import get_run_patiently
from airflow_adf_mi.adf.starting.intent import Intent
from airflow_adf_mi.adf.starting.journal import save_best_effort
from airflow_adf_mi.adf.starting.present_runs import start_unless_present, yield_to_live_run
from airflow_adf_mi.adf.starting.run_list import (
    DAY_SECONDS,
    RETENTION_SECONDS,
    having,
    list_runs,
    read_pages,
    with_patience,
)
from airflow_adf_mi.adf.starting.start import Start
from airflow_adf_mi.adf.starting.started import Skipped, Started, StillActive
from airflow_adf_mi.adf.times import moment
from airflow_adf_mi.adf.timing import Timing
from airflow_adf_mi.adf.waiting.single_run import in_words

log = logging.getLogger(__name__)

MOST_NAMES = 20
"""At most this many skipped activities are named in the log."""
_RERUN_REFUSED = frozenset({400, 404, 410, 412, 422})
"""Statuses by which Data Factory may refuse to continue a run. Which of them it uses is not documented."""


def rerun_or_start(
    start: Start, fresh: Intent, failed: PipelineRun, *, timing: Timing
) -> Routine[Started | StillActive | Skipped]:
    """Continue a failed run, or start from the beginning if that cannot be done.

    Raises the errors of `create_run_once`. Raises `AdfError` if the group has a newer run, and it cannot be read: that run may be
    active.

    :param fresh: the intent of a new start of this try.
    """
    latest = failed
    if _has_newer(failed):
        latest = yield from _latest_of_group(start, failed, timing=timing)
    if latest.status not in (RunStatus.FAILED, RunStatus.CANCELLED):
        log.info("Somebody ran run %s again as %s, which %s.", failed.run_id, latest.run_id, in_words(latest.status))
        theirs = replace(
            fresh.started(latest.run_id),
            is_foreign=True,
            service_uses_key=fresh.service_uses_key,
            rerun_of=failed.run_id,
            run_group_id=latest.run_group_id,
        )
        if latest.status == RunStatus.CANCELING:
            return StillActive(intent=theirs, run=latest, is_ours=False)
        yield save_best_effort(theirs)
        return Started(intent=theirs, run=latest, adopted=True, seen_at=timing.clock())
    if latest.status != RunStatus.FAILED:
        log.info("Starting from the beginning: run %s %s.", latest.run_id, in_words(latest.status))
        return (yield from start_unless_present(start, fresh, timing=timing))
    live = yield from yield_to_live_run(start, fresh, timing=timing)
    if live is not None:
        return live
    skipped = yield from _succeeded_activities(start.factory, latest.run_id, timing=timing)
    rerun = replace(fresh.after(fresh.started(latest.run_id)), rerun_of=latest.run_id, run_group_id=latest.run_group_id)
    try:
        started = yield from create_run_once(start, rerun, timing=timing)
    except AdfRequestError as e:
        if not refuses_rerun(e):
            raise
        # Somebody may have begun a rerun after this try had read the group.
        now = yield from failed_run(start, latest.run_id, timing=timing)
        if now is not None and _has_newer(now):
            log.warning(
                "Run %s cannot be continued. Reading its group again, because it has a newer run. %s", now.run_id, e
            )
            return (yield from rerun_or_start(start, fresh, now, timing=timing))
        log.warning("Starting from the beginning: run %s cannot be continued. %s", latest.run_id, e)
        return (yield from start_unless_present(start, fresh, timing=timing))
    log.info("Run %s continues run %s from its failed activities.%s", started.run_id, latest.run_id, skipped)
    return started


def refuses_rerun(error: AdfRequestError) -> bool:
    """Whether Data Factory refuses to continue the run. Every start would get any other refusal, from the beginning or not."""
    if isinstance(error, AdfPermissionError | AdfThrottledError) or is_front_door(error.code, error.failure_cause):
        return False
    if isinstance(error, AdfNotFoundError):
        # Data Factory's 404 of createRun may be about the pipeline, or about the run to continue.
        return error.missing in ("run", "pipeline")
    return error.status in _RERUN_REFUSED


def failed_run(start: Start, run_id: str, *, timing: Timing) -> Routine[PipelineRun | None]:
    """Read a run that may be continued. None if the service no longer knows it, and everything must run.

    Raises `AdfError` if the run cannot be read. One outage must not make everything run.
    """
    seen = yield from get_run_patiently(start.factory, run_id, timing=timing, is_final=_is_unknown_run)
    if isinstance(seen, PipelineRun):
        return seen
    if _is_unknown_run(seen):
        log.warning("Starting from the beginning: the service no longer knows run %s. %s", run_id, seen)
        return None
    raise AdfError(
        f"Run {run_id} of pipeline {start.pipeline_name!r} in {start.factory} may be continued (retry_from_failure), but could "
        "not be read. So nothing was started. Remove the cause below. A retry reads the run again. Or set "
        f"retry_from_failure='never' to start from the beginning. {seen}"
    ) from seen


def _is_unknown_run(error: AdfError) -> bool:
    return isinstance(error, AdfNotFoundError) and error.missing == "run"


def _has_newer(run: PipelineRun) -> bool:
    """Whether somebody has run the run again, so that its group has a newer run."""
    return run.is_latest is False and run.run_group_id is not None


def _latest_of_group(start: Start, failed: PipelineRun, *, timing: Timing) -> Routine[PipelineRun]:
    """The newest run of the group of a run that the service no longer shows as the latest."""

    def read() -> Routine[tuple[PipelineRun, AdfError | None]]:
        runs, error = yield from runs_of_group(start.factory, str(failed.run_group_id))
        newest = [run for run in runs if run.is_latest is not False and run.run_id != failed.run_id]
        if not newest:
            return failed, error or AdfError("The list does not show it.")
        # The list may lag. The run itself shows its status, and whether it is still the newest.
        seen = yield get_run(start.factory, newest[0].run_id)
        if isinstance(seen, AdfError):
            return failed, seen
        return seen, AdfError("The list does not show it.") if seen.is_latest is False else None

    latest, error = yield from with_patience(read, timing=timing)
    if error is not None:
        raise AdfError(
            f"Run {failed.run_id} of pipeline {start.pipeline_name!r} failed, and somebody has run it again, but the newer "
            f"run cannot be read. It may be active, so nothing was started. A retry reads it again. Or look in ADF Studio at "
            f"the runs of group {failed.run_group_id}, wait for the end of the newest, and clear the task. {error}"
        ) from error
    return latest


def runs_of_group(factory: FactoryRef, group_id: str) -> Routine[tuple[list[PipelineRun], AdfError | None]]:
    """The runs of a group, the newest first, and why the list is not complete, if it is not. The list may lag."""
    now = yield ServiceTime()
    return (yield from read_pages(list_runs(factory, now - RETENTION_SECONDS, now, having("RunGroupId", group_id))))


def _succeeded_activities(factory: FactoryRef, run_id: str, *, timing: Timing) -> Routine[str]:
    """A sentence that names the activities which the rerun skips. Empty if they cannot be listed."""
    now = timing.clock()
    page = yield query_activity_runs(
        factory,
        run_id,
        moment(now - RETENTION_SECONDS),
        moment(now + DAY_SECONDS),
        filters=[having("Status", RunStatus.SUCCEEDED)],
    )
    names: Sequence[str] = sorted({run.activity_name for run in page.items}) if isinstance(page, Page) else ()
    if not names:
        return ""
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return f" These activities had succeeded, and do not run again: {', '.join(map(repr, names[:MOST_NAMES]))}{more}."

"""From a run to its report: wait, cancel an overdue run, and find out why a run failed. These functions are routines."""

from __future__ import annotations

from dataclasses import replace

from airflow_adf_mi.adf import metrics
from airflow_adf_mi.adf.activity_failures import Explanation
from airflow_adf_mi.adf.api.operations import get_run
from airflow_adf_mi.adf.cancelling import Cancel, cancelling
from airflow_adf_mi.adf.config.addresses import RunAddress
from airflow_adf_mi.adf.errors import AdfError
from airflow_adf_mi.adf.models import PipelineRun, RunStatus
from airflow_adf_mi.adf.redaction import shown
from airflow_adf_mi.adf.reporting.activity_log import ActivityLog, ActivityLogMode
from airflow_adf_mi.adf.reporting.explain import explaining
from airflow_adf_mi.adf.reporting.report import ALREADY_OVER, KIND, LEFT_RUNNING, REQUESTED, Report
from airflow_adf_mi.adf.retrying import backoff
from airflow_adf_mi.adf.routines import Pause, Routine
from airflow_adf_mi.adf.timing import Timing
from airflow_adf_mi.adf.waiting.late_run import LateWatch
from airflow_adf_mi.adf.waiting.single_run import Ended, Outcome, Plan, TimedOut, waiting

LAST_POLLS = 3
"""Polls of a run that could not be cancelled because it had already ended. One bad answer must not hide its end."""


def reporting(
    address: RunAddress,
    plan: Plan,
    *,
    cancel_on_timeout: bool,
    timing: Timing,
    activity_log: ActivityLogMode = "off",
    late: LateWatch | None = None,
) -> Routine[Report]:
    """Wait for the run, and report. If the deadline passes first, cancel the run if `cancel_on_timeout` is true."""
    activities = ActivityLog(address.factory, address.run_id, activity_log, timing, plan.deadline)
    wait = waiting(address.factory, address.run_id, plan, timing=timing)
    outcome = yield from activities.beside(wait if late is None else late.beside(wait, timing=timing))
    return (yield from concluding(address, outcome, cancel_on_timeout=cancel_on_timeout, timing=timing))


def concluding(
    address: RunAddress,
    outcome: Outcome,
    *,
    cancel_on_timeout: bool,
    timing: Timing,
) -> Routine[Report]:
    """Report the outcome of a wait. Cancel an overdue run if `cancel_on_timeout` is true. Explain a run that failed."""
    measure(outcome, timing.clock())
    if isinstance(outcome, TimedOut) and cancel_on_timeout:
        report = yield from cancelling_overdue(address, outcome, timing=timing)
    else:
        cancel = LEFT_RUNNING if isinstance(outcome, TimedOut) else None
        report = Report(address=address, outcome=outcome, cancel=cancel)
    return (yield from explained(report, timing=timing))


def measure(outcome: Outcome, now: float) -> None:
    """Count how waits end, and measure how late an end was detected. The measure uses our clock, which may differ from the
    service's.
    """
    run = outcome.run
    metrics.count(metrics.ENDED, outcome=run.status if isinstance(outcome, Ended) and run else KIND[type(outcome)])
    if isinstance(outcome, Ended) and outcome.run.ended_at is not None:
        metrics.time(metrics.DETECTION_LAG, now - outcome.run.ended_at.timestamp())
    if isinstance(outcome, Ended) and outcome.run.duration_seconds is not None:
        metrics.time(metrics.RUN_DURATION, outcome.run.duration_seconds, status=outcome.run.status)


def explained(report: Report, *, timing: Timing) -> Routine[Report]:
    """The report, with the reasons why its run did not succeed, as far as they can be found out."""
    outcome, address = report.outcome, report.address
    if not isinstance(outcome, Ended) or outcome.run.status == RunStatus.SUCCEEDED:
        return report
    try:
        explanation = yield from explaining(outcome.run, address.factory, address.page_of, timing=timing)
    except Exception as e:  # noqa: BLE001  whatever the answer was, the failure itself must be reported
        explanation = Explanation(missing=f"{type(e).__name__}: {shown(str(e))}")
    return replace(report, explanation=explanation)


def cancelling_overdue(address: RunAddress, overdue: TimedOut, *, timing: Timing) -> Routine[Report]:
    """Cancel a run whose deadline has passed, and report."""
    try:
        answer = yield from cancelling(address.factory, address.run_id, timing=timing)
    except AdfError as e:
        return Report(address=address, outcome=overdue, cancel=str(e))
    if answer is Cancel.ACCEPTED:
        return Report(address=address, outcome=overdue, cancel=REQUESTED)
    # The run ended between our last poll and the cancel. The report must show how it ended.
    seen: PipelineRun | AdfError | None = None
    for failures in range(LAST_POLLS):
        if failures:
            yield Pause(backoff(failures, None, timing.jitter()))
        seen = yield get_run(address.factory, address.run_id)
        if isinstance(seen, PipelineRun) and seen.is_terminal:
            if answer is Cancel.PERHAPS and seen.status == RunStatus.CANCELLED:
                return Report(address=address, outcome=overdue, cancel=REQUESTED)
            return Report(address=address, outcome=Ended(run=seen))
    last = replace(overdue, error=seen) if isinstance(seen, AdfError) else replace(overdue, run=seen, error=None)
    return Report(address=address, outcome=last, cancel=ALREADY_OVER)

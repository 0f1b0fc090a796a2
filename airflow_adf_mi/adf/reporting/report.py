"""The result of a wait, in three forms: the JSON that a trigger gives to its task, the run summary, and the error to raise.
Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from airflow_adf_mi.adf.activity_failures import ActivityFailure, Explanation, headline
from airflow_adf_mi.adf.config.addresses import FactoryRef, RunAddress
from airflow_adf_mi.adf.error_json import error_from_json, error_to_json
from airflow_adf_mi.adf.errors import (
    AdfConfigurationError,
    AdfError,
    AdfQueueFullError,
    AdfRunCancelled,
    AdfRunError,
    AdfRunFailed,
    AdfRunTimedOut,
    AdfUnavailableError,
)
from airflow_adf_mi.adf.models import PipelineRun, RunStatus
from airflow_adf_mi.adf.reporting.consumption import Consumed
from airflow_adf_mi.adf.waiting.deadlines import Deadline
from airflow_adf_mi.adf.waiting.single_run import Ended, GaveUp, Outcome, TimedOut, is_unreadable


@dataclass(frozen=True, kw_only=True)
class Report:
    """The outcome of a wait for a run, and the result of cancelling a run that was overdue."""

    address: RunAddress
    outcome: Outcome
    cancel: str | None = None
    """After a timeout: `REQUESTED`, `LEFT_RUNNING`, `ALREADY_OVER`, or the reason why the cancel was not accepted."""
    adopted: bool = False
    """Whether the run was found by a search or in the stored intent, instead of in createRun's answer. It may be the run of an
    earlier try, the run of a lost start, or this try's own run."""
    explanation: Explanation | None = None
    """Why the run failed or was cancelled."""
    consumption: tuple[Consumed, ...] | None = None
    """What the run's activities consumed; None if not all of them were read."""

    @property
    def is_success(self) -> bool:
        return isinstance(self.outcome, Ended) and self.outcome.run.status == RunStatus.SUCCEEDED

    def to_json(self) -> dict[str, Any]:
        """The payload of a trigger's event. Airflow logs payloads, so it holds no parameters."""
        run = self.outcome.run
        error = None if isinstance(self.outcome, Ended) else self.outcome.error
        return {
            "address": self.address.to_json(),
            "outcome": KIND[type(self.outcome)],
            "run": None if run is None else run.essentials(),
            "error": None if error is None else error_to_json(error),
            "deadline_reason": self.outcome.deadline_reason if isinstance(self.outcome, TimedOut) else None,
            "cancel": self.cancel,
            "adopted": self.adopted,
            "explanation": None if self.explanation is None else self.explanation.to_json(),
            "consumption": _plain(self.consumption),
        }

    @classmethod
    def from_json(cls, payload: Mapping[str, Any]) -> Self:
        if "outcome" not in payload:
            # The event is of a trigger of the Azure provider: the Dag was changed to this package while its task was deferred.
            raise AdfError(
                "Another class deferred this task before the Dag used this package, which cannot read the event of that class. "
                "The run is not affected. Clear the task: the cleared task waits for the run again."
            )
        run = None if payload["run"] is None else PipelineRun.from_essentials(payload["run"])
        error = None if payload["error"] is None else error_from_json(payload["error"])
        outcome: Outcome
        if payload["outcome"] == "ended" and run is not None:
            outcome = Ended(run=run)
        elif payload["outcome"] == "gave_up" and error is not None:
            outcome = GaveUp(error=error, run=run)
        elif payload["outcome"] == "timed_out":
            outcome = TimedOut(error=error, run=run, deadline_reason=payload.get("deadline_reason"))
        else:
            raise AdfError(
                f"This task resumed with an event that this version cannot read (outcome {payload['outcome']!r}). Its run is "
                "not affected. Use the same version of this package on triggerers and workers, then clear the task."
            )
        return cls(
            address=RunAddress.from_json(payload["address"]),
            outcome=outcome,
            cancel=payload["cancel"],
            # Events that were fired before an update of this package do not have these members.
            adopted=payload.get("adopted", False),
            explanation=Explanation.from_json(payload["explanation"]) if payload.get("explanation") else None,
            consumption=_consumed(payload.get("consumption")),
        )


def _plain(consumption: tuple[Consumed, ...] | None) -> list[dict[str, Any]] | None:
    return None if consumption is None else [one.to_json() for one in consumption]


def _consumed(stored: Iterable[Mapping[str, Any]] | None) -> tuple[Consumed, ...] | None:
    return None if stored is None else tuple(map(Consumed.from_json, stored))


REQUESTED = "requested"
LEFT_RUNNING = "left running"
ALREADY_OVER = "already over"
"""The service refused the cancel because the run had already ended, and did not show how it had ended."""

KIND: Mapping[type[Outcome], str] = {Ended: "ended", TimedOut: "timed_out", GaveUp: "gave_up"}


def raise_if_too_late(deadline: Deadline | None, now: float, superseded: RunAddress) -> None:
    """Raises `AdfError` if this try has no time left for a run after it has waited for a run that had to end first.

    :param deadline: the deadline that the task's `execution_timeout` sets, if the task has one.
    :param now: epoch seconds.
    """
    if deadline is not None and now >= deadline.at:
        raise AdfError(
            f"This try's {deadline.reason} was over before it could start a run, because it waited for the end of "
            f"{superseded}. Nothing was started. Clear the task when that run has ended, or set a longer execution_timeout. See "
            f"{superseded.studio_url}"
        )


def queue_was_full(pipeline_name: str, factory: FactoryRef, deadline_reason: str) -> AdfQueueFullError:
    """The error of a task whose deadline passed while it waited for a place in the queue of its pipeline."""
    return AdfQueueFullError(
        f"Pipeline {pipeline_name!r} in {factory} was not started: its queue was full until the deadline ({deadline_reason}). "
        "A pipeline with a concurrency queues at most 100 runs, and refuses more. A retry tries again. To need less time in the "
        "queue, start fewer runs at once (a pool, max_active_runs), raise the concurrency of the pipeline, or raise the timeout.",
        status=429,
    )


def raise_unless_ended(report: Report, timeout: float) -> None:
    """Raises `AdfError` unless a superseded run has ended.

    :param timeout: seconds for which the task has waited for the run's end.
    """
    if isinstance(report.outcome, Ended):
        return
    if isinstance(report.outcome, TimedOut) and report.outcome.deadline_reason is not None:
        raise AdfError(
            f"{report.address} is still active, and on_live_run is 'wait'. The deadline of this try has passed "
            f"({report.outcome.deadline_reason}), so nothing was started. A retry waits again. See {report.address.studio_url}"
        )
    if isinstance(report.outcome, TimedOut):
        status = report.outcome.run.status if report.outcome.run else "of unknown status"
        raise AdfError(
            f"{report.address}, which this try supersedes, is still {status} after {timeout:g} s (supersede_timeout). Two runs "
            "of one task must not overlap, so nothing was started. Clear the task after that run has ended. See "
            f"{report.address.studio_url}"
        )
    conclude(report)


def summary(
    address: RunAddress,
    run: PipelineRun | None,
    *,
    adopted: bool = False,
    consumption: tuple[Consumed, ...] | None = None,
) -> dict[str, Any]:
    """What a task returns about a run.

    :param run: None if only the start is known.
    """
    return {
        "run_id": address.run_id,
        "run_group_id": run.run_group_id if run else None,
        "pipeline_name": (run.pipeline_name if run else None) or address.pipeline_name,
        "factory_name": address.factory.factory_name,
        "resource_group_name": address.factory.resource_group_name,
        "status": run.status if run else None,
        "started_at": run.started_at.isoformat() if run and run.started_at else None,
        "ended_at": run.ended_at.isoformat() if run and run.ended_at else None,
        "duration_seconds": run.duration_seconds if run else None,
        "studio_url": address.studio_url,
        "adopted": adopted,
        "consumption": _plain(consumption),
    }


def summary_of(report: Report) -> dict[str, Any]:
    """What a task returns about a run that succeeded."""
    return summary(report.address, report.outcome.run, adopted=report.adopted, consumption=report.consumption)


def conclude(report: Report) -> dict[str, Any]:
    """The summary of a run that succeeded. For any other report, raises its error."""
    error = error_of(report)
    if error is not None:
        raise error
    return summary_of(report)


def error_of(report: Report) -> AdfError | None:
    """The error that a task raises for this report; None for a run that succeeded."""
    address, outcome = report.address, report.outcome
    known: dict[str, Any] = {"run_id": address.run_id, "studio_url": address.studio_url}
    see = f" See {address.studio_url}"
    if isinstance(outcome, GaveUp):
        why = "the service kept refusing the status checks"
        if isinstance(outcome.error, AdfConfigurationError):
            why = "the connection cannot be used on this machine"
        elif is_unreadable(outcome.error):
            why = "the answers could not be read"
        elif isinstance(outcome.error, AdfUnavailableError):
            why = "something between this machine and the service kept refusing the status checks"
        return outcome.error.with_text(
            f"{address}: the wait gave up, because {why}. The run itself is not affected and may still be active.{see} "
            f"{outcome.error}"
        )
    if isinstance(outcome, TimedOut):
        last = f"It was {outcome.run.status} at the last status check." if outcome.run else "No status check succeeded."
        why = f" The last status check failed: {outcome.error}" if outcome.error else ""
        limit = f"within its {outcome.deadline_reason}" if outcome.deadline_reason else "before the timeout"
        ended = "had no known end" if report.cancel == ALREADY_OVER else "did not end"
        return AdfRunTimedOut(
            f"{address} {ended} {limit}. {last} {_what_became(report.cancel)}{see}{why}",
            run=outcome.run,
            **known,
        )
    run = outcome.run
    if run.status == RunStatus.SUCCEEDED:
        return None
    took = f" after {run.duration_seconds:.0f} s" if run.duration_seconds is not None else ""
    kind: type[AdfRunError] = AdfRunFailed
    what = f"{address} failed{took}"
    if run.status == RunStatus.CANCELLED:
        kind = AdfRunCancelled
        what = f"{address} was cancelled{took}, {_BY_OTHERS}"
    text, activities = _with_explanation(what, run, report)
    return kind(f"{text}See {address.studio_url}", run=run, activities=activities, **known)


_BY_OTHERS = (
    "and not by this task: somebody cancelled it in ADF Studio or through the API (the factory's activity log in the Azure "
    "portal names the caller)"
)


def _with_explanation(what: str, run: PipelineRun, report: Report) -> tuple[str, tuple[ActivityFailure, ...]]:
    """`what`, with the run's own message, or with the activities if they give the same message in more detail."""
    explanation = report.explanation or Explanation()
    activities, listed = explanation.activities, explanation.text(report.address.run_id)
    if activities:
        what += f", {headline(activities, explanation.more)}"
    if run.message and not explanation.covers(run.message):
        what += f": {run.message}"
    else:
        what += ":" if activities else "."
    return f"{what}\n{listed}\n" if listed else f"{what} ", activities


def _what_became(cancel: str | None) -> str:
    if cancel == REQUESTED:
        return "Its cancellation was requested."
    if cancel == ALREADY_OVER:
        return (
            "The service refused to cancel it, because it had already ended. No status check showed how it ended. A retry of "
            "this task checks again."
        )
    if cancel in (None, LEFT_RUNNING):
        return "It was left running."
    return f"It could not be cancelled and may still be active: {cancel}"

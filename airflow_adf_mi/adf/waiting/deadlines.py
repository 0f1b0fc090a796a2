"""Until when a task waits for its run. Pure.

Two arguments limit a wait. `timeout` counts from the first createRun of this try, accepted or refused. For a run of an earlier
try, it counts from the moment at which this try adopted the run (`start_of_wait_on_worker`; in triggerer mode: `start_of_wait`).
`execution_timeout` counts from the beginning of the try; if the task waits on a worker, from the call of `execute`. The deadline
is the earlier of the two ends.

What can go wrong: when `execution_timeout` passes, Airflow ends the task, and the run would continue. So the deadline
comes earlier by a margin, in which the run can be cancelled. The place of the wait decides how long the margin is.

    try begins     first createRun, or adopted       deadline           Airflow ends the task
        |--------------------|--------------------------|--- margin ---------|
        |<------------------------- execution_timeout ---------------------->|
                             |<---------------------- timeout ------ ... ------- ... ->|

A try that continues after its trigger was lost keeps its deadline. On a worker, the deadline is in the stored intent. In
triggerer mode, the deadline is computed again (`start_of_wait`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

TIMEOUT_SLACK_SECONDS = 600.0
"""Seconds between our deadline and Airflow's timeout of a deferral. Our deadline comes first, so that the run is cancelled."""


@dataclass(frozen=True, kw_only=True)
class Deadline:
    """The end of a wait."""

    at: float
    """Epoch seconds."""
    reason: str
    """The argument that sets the deadline, and its length, for texts: "timeout of 600 s"."""


@dataclass(frozen=True, kw_only=True)
class Margin:
    """Time between our deadline and the end of `execution_timeout`: some seconds, but at most a share of `execution_timeout`."""

    seconds: float
    share: float

    def of(self, execution_timeout: float) -> float:
        return min(self.seconds, execution_timeout * self.share)


WORKER_MARGIN = Margin(seconds=2, share=0.1)
"""On a worker, Airflow interrupts the task when `execution_timeout` passes."""
DEFERRED_MARGIN = Margin(seconds=0, share=0)
"""Airflow 3.3 does not enforce `execution_timeout` while a task is deferred."""
TRIGGERER_MARGIN = Margin(seconds=15, share=0.25)
"""In triggerer mode, Airflow cancels the trigger when `execution_timeout` passes."""


def deadline_of(
    timeout: float,
    *,
    counts_from: float,
    execution_timeout: float | None = None,
    try_began: float = 0,
    margin: Margin = DEFERRED_MARGIN,
) -> Deadline:
    """Return the deadline of a wait.

    :param timeout: seconds from `counts_from`.
    :param counts_from: epoch seconds at which the wait began. In triggerer mode, this is the result of `start_of_wait`.
    :param execution_timeout: seconds from `try_began`, if the task has this limit.
    :param try_began: epoch seconds from which `execution_timeout` counts.
    :param margin: how much earlier than the end of `execution_timeout` the deadline is.
    """
    by_timeout = Deadline(at=counts_from + timeout, reason=_timeout_reason(timeout))
    by_execution = execution_deadline(execution_timeout, try_began=try_began, margin=margin)
    return by_timeout if by_execution is None else min(by_timeout, by_execution, key=lambda deadline: deadline.at)


def execution_deadline(execution_timeout: float | None, *, try_began: float, margin: Margin) -> Deadline | None:
    """The deadline that `execution_timeout` alone sets; None if the task has no such limit."""
    if execution_timeout is None:
        return None
    end = try_began + execution_timeout - margin.of(execution_timeout)
    return Deadline(at=end, reason=f"execution_timeout of {execution_timeout:g} s")


def kept_deadline(at: float, timeout: float, by_execution: Deadline | None) -> Deadline:
    """The deadline `at` that this same try has stored. Its reason is inferred: `execution_timeout`, if `by_execution` is not
    later than `at`; otherwise `timeout`.

    :param by_execution: what `execution_deadline` returns for this try.
    """
    if by_execution is not None and by_execution.at <= at:
        return Deadline(at=at, reason=by_execution.reason)
    return Deadline(at=at, reason=_timeout_reason(timeout))


def _timeout_reason(timeout: float) -> str:
    return f"timeout of {timeout:g} s"


def start_of_wait(
    *, now: float, try_began: float | None, first_sent_at: float | None = None, run_began: float | None = None
) -> float:
    """Return the moment from which `timeout` counts in triggerer mode.

    This moment is the first createRun of this try or, for a run of an earlier try, the beginning of this try. A new triggerer
    computes the moment again, from what is stored.

    :param now: epoch seconds; used in place of a moment that is not known.
    :param try_began: epoch seconds at which this try began, if known.
    :param first_sent_at: epoch seconds of the first createRun of the start, accepted or refused, if known.
    :param run_began: epoch seconds at which the run began, if known. Used if `first_sent_at` is not known.
    """
    counted = next((moment for moment in (first_sent_at, run_began) if moment is not None), now)
    return max(now if try_began is None else try_began, counted)


def start_of_wait_on_worker(*, now: float, try_began: float, sent_at: float | None, refused_at: float | None) -> float:
    """Return the moment from which `timeout` counts if a worker starts or adopts the run.

    This moment is the first createRun of this try, even if a full queue refused it, or if its answer was lost. If this try adopts
    a run that it did not start, this moment is the adoption: `now`.

    :param now: epoch seconds.
    :param try_began: epoch seconds at which this try began. A start that was sent earlier is a start of an earlier try.
    :param sent_at: epoch seconds at which the start of the run was sent, if known.
    :param refused_at: epoch seconds at which a full queue refused a start of this try first; None if it refused none.
    """
    by_this_try = sent_at if sent_at is not None and sent_at >= try_began else None
    return min(moment for moment in (now, by_this_try, refused_at) if moment is not None)


def seconds_left(execution_timeout: float | None, *, try_began: float, now: float) -> float | None:
    """Return the seconds until `execution_timeout` passes. Negative after that; None if the task has no such limit."""
    return None if execution_timeout is None else try_began + execution_timeout - now


def deferral_timeout(deadline: float, now: float) -> timedelta:
    """Return Airflow's timeout for a trigger that waits until `deadline`."""
    return timedelta(seconds=max(0.0, deadline - now) + TIMEOUT_SLACK_SECONDS)


def in_seconds(limit: timedelta | None) -> float | None:
    """Convert a limit of an Airflow operator to seconds."""
    return None if limit is None else limit.total_seconds()

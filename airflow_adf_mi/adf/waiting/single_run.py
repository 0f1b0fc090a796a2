"""Waits for one run: when to poll it, and what an answer means.

The problem: a poll can fail for many reasons, and a failed poll gives no information about the run. A run may take days, so
nearly every long wait meets an outage, an expired token or a restarted proxy. The worst mistake would be to fail or cancel a
healthy run because of a failed poll.

The rule: failed polls are repeated, with growing pauses, until the deadline. Only two kinds of errors end the wait before that,
and even then the run is not touched:

- The connection cannot be used on this machine, so no poll will ever work.
- The service refuses (401, 403, 404 and similar), or its answers cannot be read, for longer than `REFUSAL_GRACE_SECONDS`.

States of a wait (`WaitState`), and its outcomes:

    active  --- failed poll --->  failing  --- refused, or unreadable --->  refused
      ^                              |                                         |
      +------------------------------+-----------------------------------------+
                        any answer that shows the run

    outcome    from        when
    ---------  ----------  --------------------------------------------------------------------
    Ended      any state   the run has a terminal status
    GaveUp     any state   the connection can never work on this machine
    GaveUp     refused     refused or unreadable again, 5 minutes after the first time
    TimedOut   any state   the deadline passes first

`next_state` is this drawing as a pure function. Blocking waits, the sensor and the triggerer's poller all use it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

from airflow_adf_mi.adf.api.operations import get_run
from airflow_adf_mi.adf.config.addresses import FactoryRef
from airflow_adf_mi.adf.errors import AdfError, AdfUnavailableError
from airflow_adf_mi.adf.models import PipelineRun, RunStatus
from airflow_adf_mi.adf.retrying import backoff, is_for_good, is_refusal
from airflow_adf_mi.adf.routines import Pause, Routine
from airflow_adf_mi.adf.timing import Timing

log = logging.getLogger(__name__)

REFUSAL_GRACE_SECONDS = 300.0
"""Seconds for which the service may refuse polls before the wait ends. A new role assignment takes minutes to become effective
everywhere, and a 404 may come from a replica that is behind. An answer that cannot be read may come from a proxy, and the next
answer may be readable. But an unreadable answer of the service itself will not change, and the deadline may be days away."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How to wait: seconds between polls, and the deadline (epoch seconds; None waits without an end)."""

    check_interval: float
    deadline: float | None = None
    deadline_reason: str | None = None
    """The argument that set the deadline, and its length, for texts: "timeout of 600 s"."""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """The run ended by itself, in one of the terminal statuses."""

    run: PipelineRun


@dataclass(frozen=True, kw_only=True)
class TimedOut:
    """The deadline passed first. `run` and `error` are the results of the last polls."""

    run: PipelineRun | None = None
    error: AdfError | None = None
    deadline_reason: str | None = None
    """As in `Plan`."""


@dataclass(frozen=True, kw_only=True)
class GaveUp:
    """The wait ended without the run's end: the service kept refusing, its answers stayed unreadable, or the connection cannot
    be used here. The run itself may be healthy.
    """

    error: AdfError
    run: PipelineRun | None = None


Outcome = Ended | TimedOut | GaveUp


@dataclass(frozen=True, kw_only=True)
class WaitState:
    """What a wait knows so far."""

    run: PipelineRun | None = None
    error: AdfError | None = None
    """Why the last poll failed; None if it did not fail."""
    failures: int = 0
    """Consecutive failed polls."""
    refused_since: float | None = None
    """When the service began to refuse, or to send unreadable answers, without a successful poll after that."""


def is_unreadable(error: AdfError) -> bool:
    """Whether there was an answer, but not one that the service's specification allows."""
    return isinstance(error, AdfUnavailableError) and error.unreadable


def has_grace(error: AdfError) -> bool:
    """Whether polls that fail with this error end the wait once they have failed for `REFUSAL_GRACE_SECONDS`."""
    return is_refusal(error) or is_unreadable(error)


def next_state(
    before: WaitState, seen: PipelineRun | AdfError, now: float, plan: Plan
) -> tuple[WaitState, Outcome | None]:
    """The state after a poll, and the outcome if the wait is over."""
    if isinstance(seen, PipelineRun):
        after = WaitState(run=seen)
        if seen.is_terminal:
            return after, Ended(run=seen)
    else:
        refused_since = before.refused_since
        if refused_since is None and has_grace(seen):
            refused_since = now
        after = replace(before, error=seen, failures=before.failures + 1, refused_since=refused_since)
        if is_for_good(seen):
            return after, GaveUp(error=seen, run=after.run)
        if has_grace(seen) and refused_since is not None and now - refused_since >= REFUSAL_GRACE_SECONDS:
            return after, GaveUp(error=seen, run=after.run)
    if plan.deadline is not None and now >= plan.deadline:
        return after, TimedOut(run=after.run, error=after.error, deadline_reason=plan.deadline_reason)
    return after, None


def pause_before_next_poll(state: WaitState, now: float, plan: Plan, jitter: float) -> float:
    """Seconds until the next poll, at most until the deadline."""
    if state.error is not None:
        delay = backoff(state.failures, getattr(state.error, "retry_after", None), jitter)
    else:
        delay = plan.check_interval * (0.95 + jitter / 10)
    if plan.deadline is not None:
        delay = min(delay, plan.deadline - now)
    return max(0.0, delay)


def waiting(
    factory: FactoryRef,
    run_id: str,
    plan: Plan,
    *,
    timing: Timing,
) -> Routine[Outcome]:
    """Poll the run until there is an outcome. Logs changes. The first poll is sent at once."""
    state = WaitState()
    while True:
        before, seen = state, (yield get_run(factory, run_id))
        now = timing.clock()
        state, outcome = next_state(before, seen, now, plan)
        log_changes(run_id, before, state)
        if outcome is not None:
            return outcome
        yield Pause(pause_before_next_poll(state, now, plan, timing.jitter()))


_ENDS = {RunStatus.SUCCEEDED: "succeeded", RunStatus.FAILED: "failed", RunStatus.CANCELLED: "was cancelled"}


def in_words(status: str) -> str:
    """The status of a run or an activity as the end of a sentence about it."""
    return _ENDS.get(status, f"is {status}")


def log_changes(run_id: str, before: WaitState, after: WaitState) -> None:
    """Log what has changed. The change comes first in each line, because a page of logs shows about 150 columns."""
    if after.error is not None:
        if after.error is not before.error:
            log.warning("Status check of run %s failed; the run itself is not affected.\n  %s", run_id, after.error)
        return
    seen = after.run
    if before.error is not None and not (seen is not None and seen.is_terminal):
        log.info("Status checks work again (run %s).", run_id)
    if seen is None:
        return
    if before.run is None or before.run.status != seen.status:
        log.info("Run %s %s.", run_id, in_words(seen.status))
        if seen.status not in RunStatus.KNOWN:
            log.warning(
                "Run %s has the status %r, which this version does not know; the wait continues.", run_id, seen.status
            )

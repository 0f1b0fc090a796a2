"""The rules of waiting: when to look at a run, and what a look means.

A look that fails says nothing about the run. So no failed look ever cancels or fails a run: faults are looked through
until the deadline. Only two things end the wait, and the run goes on: a connection that cannot be used on this machine; and
a refusal (401, 403, 404 and their like), or an answer that cannot be read, that lasts longer than `REFUSAL_GRACE_SECONDS`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from airflow_adf_mi.adf.api.operations import get_run
from airflow_adf_mi.adf.config.settings import FactoryRef
from airflow_adf_mi.adf.errors import AdfError, AdfUnavailableError
from airflow_adf_mi.adf.models import PipelineRun, RunStatus
from airflow_adf_mi.adf.retrying import backoff, is_for_good, is_refusal
from airflow_adf_mi.adf.routines import Pause, Routine

log = logging.getLogger(__name__)

REFUSAL_GRACE_SECONDS = 300.0
"""Seconds for which the service may refuse our looks before the wait ends: a freshly granted role takes minutes to act
everywhere, and a 404 may come from a replica that is behind. An answer that cannot be read may come from a proxy, and that
may pass; but what the service itself writes so will not change, and nobody must wait for it until a deadline of days."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How to wait: seconds between looks, and until when (epoch seconds; None waits for ever)."""

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
    """The deadline passed first. `run` and `error` are what the last looks gave."""

    run: PipelineRun | None = None
    error: AdfError | None = None
    deadline_reason: str | None = None
    """As in `Plan`."""


@dataclass(frozen=True, kw_only=True)
class GaveUp:
    """The service kept refusing to show the run, its answers stayed unreadable, or it cannot be asked from here. The run
    itself may be well.
    """

    error: AdfError
    run: PipelineRun | None = None


Outcome = Ended | TimedOut | GaveUp


@dataclass(frozen=True, kw_only=True)
class WaitState:
    """What a wait has seen so far."""

    run: PipelineRun | None = None
    error: AdfError | None = None
    """Why the last look failed; None after one that did not."""
    failures: int = 0
    """Failed looks in a row."""
    refused_since: float | None = None
    """When the service began to refuse, or to answer what cannot be read, with no successful look since."""


def is_unreadable(error: AdfError) -> bool:
    """Whether an answer came that is not what the service promises."""
    return isinstance(error, AdfUnavailableError) and error.unreadable


def has_grace(error: AdfError) -> bool:
    """Whether a look that fails so ends the wait once that has lasted for `REFUSAL_GRACE_SECONDS`."""
    return is_refusal(error) or is_unreadable(error)


def next_state(
    before: WaitState, seen: PipelineRun | AdfError, now: float, plan: Plan
) -> tuple[WaitState, Outcome | None]:
    """What a look adds: the new state, and the outcome if the wait is over."""
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
    """Seconds until the next look; the deadline is never slept through."""
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
    clock: Callable[[], float],
    jitter: Callable[[], float],
) -> Routine[Outcome]:
    """Look at the run until there is an outcome. Logs what is new. The first look is at once."""
    state = WaitState()
    while True:
        before, seen = state, (yield get_run(factory, run_id))
        now = clock()
        state, outcome = next_state(before, seen, now, plan)
        log_changes(run_id, before, state)
        if outcome is not None:
            return outcome
        yield Pause(pause_before_next_poll(state, now, plan, jitter()))


_ENDS = {RunStatus.SUCCEEDED: "succeeded", RunStatus.FAILED: "failed", RunStatus.CANCELLED: "was cancelled"}


def in_words(status: str) -> str:
    """The status of a run or an activity as the end of a sentence about it."""
    return _ENDS.get(status, f"is {status}")


def log_changes(run_id: str, before: WaitState, after: WaitState) -> None:
    """Log what a look has shown of the run. Leads with the news: a page of logs shows about 150 columns of a line."""
    if after.error is not None:
        if after.error is not before.error:
            log.warning("The look at run %s failed, and the run goes on.\n  %s", run_id, after.error)
        return
    seen = after.run
    if before.error is not None and not (seen is not None and seen.is_terminal):
        log.info("Looks work again, at run %s.", run_id)
    if seen is None:
        return
    if before.run is None or before.run.status != seen.status:
        log.info("Run %s %s.", run_id, in_words(seen.status))
        if seen.status not in RunStatus.KNOWN:
            log.warning("Run %s has the status %r, which this version does not know; waiting on.", run_id, seen.status)

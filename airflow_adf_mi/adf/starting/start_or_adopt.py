"""What a try of a task does first: go on with the run of an earlier try, or start one once the earlier one is over.

Two runs of one task never overlap, and a run that an earlier try started is never started again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from airflow_adf_mi.adf.api.operations import cancel_run, get_run
from airflow_adf_mi.adf.cancelling import Cancel, cancelling
from airflow_adf_mi.adf.errors import AdfError, AdfNotFoundError
from airflow_adf_mi.adf.models import PipelineRun, RunStatus
from airflow_adf_mi.adf.retrying import backoff
from airflow_adf_mi.adf.routines import Pause, Routine
from airflow_adf_mi.adf.starting.create_run import (
    SEARCH_PAUSE_SECONDS,
    Start,
    Started,
    create_run_once,
    resolve_lost_start,
)
from airflow_adf_mi.adf.starting.find_run import RunCriteria, SearchResult, search_list
from airflow_adf_mi.adf.starting.intent import Adopt, Intent, Phase, ResolveLostStart, StartNew, TaskTry, decide
from airflow_adf_mi.adf.starting.journal import claim, note, save
from airflow_adf_mi.adf.times import RETENTION
from airflow_adf_mi.adf.waiting.single_run import in_words, is_unreadable

log = logging.getLogger(__name__)

SUPERSEDED_CHECK_INTERVAL_SECONDS = 10.0
"""Most seconds between two status checks of a run that must end before another is started."""
STATUS_CHECK_PATIENCE_SECONDS = 60.0
"""Seconds for which a result at an earlier run is repeated when it fails."""


@dataclass(frozen=True, kw_only=True)
class StillActive:
    """A run of an earlier try that is on its way to its end, and must be there before anything is started."""

    intent: Intent
    run: PipelineRun
    is_ours: bool = True
    """False for a run that only looks like the one of a lost start: it is waited for, and never cancelled."""


def start_or_adopt(
    start: Start,
    stored: Intent | None,
    task_try: TaskTry,
    *,
    cancel_superseded: bool,
    clock: Callable[[], float],
    jitter: Callable[[], float],
) -> Routine[Started | StillActive]:
    """Start a run, or go on with the one in `stored`. Begin again once an `Outlasting` run is over.

    `cancel_superseded`: whether a run that a clear or changed parameters have made obsolete is cancelled, or only waited
    for. Raises the errors of `starting`, and those of not being able to result at an earlier run.
    """
    fresh = start.intent(task_try)
    decision = decide(stored, task_try, fresh.fingerprint)
    match decision:
        case StartNew(older=None):
            pass
        case StartNew(older=older):
            assert older is not None  # noqa: S101  the case above
            remaining = yield from _end_superseded_run(
                start, older, cancel=cancel_superseded, clock=clock, jitter=jitter
            )
            if remaining is not None:
                return remaining
            fresh = fresh.after(older)
        case ResolveLostStart(intent=lost):
            same_try = _is_own(lost, task_try)
            lost = replace(lost, task_try=task_try, try_failed=False, not_adopted_yet=not same_try)
            # Also where nothing could be read: from now on, a clear is seen as one.
            yield save(lost)
            found = yield from resolve_lost_start(start, lost, lost=None, clock=clock, jitter=jitter)
            if found is not None:
                adopting = _adopt_or_replace(
                    start, found.intent, fresh, found.run, same_try=same_try, clock=clock, jitter=jitter
                )
                return (yield from adopting)
            # The same key: should the first request still arrive, the service may know it by that.
            fresh = replace(fresh.after(lost), start_key=lost.start_key)
        case Adopt(intent=known):
            # A retry has lost its XComs, by which its siblings know that the run is not theirs.
            yield claim(known.run_id or known.start_key)
            seen = yield from _poll_with_retries(known, clock=clock, jitter=jitter)
            if isinstance(seen, AdfError):
                # Not being able to see it proves nothing: wait for it, by the rules of waiting.
                log.warning("Run %s of an earlier try cannot be looked at now; waiting for it. %s", known.run_id, seen)
            run = seen if isinstance(seen, PipelineRun) else None
            same_try = _is_own(known, task_try)
            adopting = _adopt_or_replace(start, known, fresh, run, same_try=same_try, clock=clock, jitter=jitter)
            return (yield from adopting)
    return (yield from create_run_once(start, fresh, clock=clock, jitter=jitter))


def _is_own(known: Intent, task_try: TaskTry) -> bool:
    """Whether a start is this very try's, which goes on after its trigger or triggerer was lost."""
    return known.task_try.is_try_of(task_try) and not known.not_adopted_yet


def _adopt_or_replace(
    start: Start,
    known: Intent,
    fresh: Intent,
    run: PipelineRun | None,
    *,
    same_try: bool,
    clock: Callable[[], float],
    jitter: Callable[[], float],
) -> Routine[Started | StillActive]:
    """Go on with a run of an earlier try; or start another, once it is over, where it came to nothing.

    `same_try`: it is this very try's, which goes on after its trigger or triggerer was lost, and has one run, whatever that
    comes to.
    """
    if run is not None and run.status == RunStatus.CANCELING and not same_try:
        return StillActive(intent=known, run=run)
    if run is not None and run.status in (RunStatus.FAILED, RunStatus.CANCELLED) and not same_try:
        log.info("Run %s of an earlier try %s; starting a new one.", known.run_id, in_words(run.status))
        return (yield from create_run_once(start, fresh.after(known), clock=clock, jitter=jitter))
    log.info("Going on with run %s, which %s started.", known.run_id, "this try" if same_try else "an earlier try")
    # It is now this try's, which has not failed, and whose wait begins now.
    adopted = replace(
        known,
        task_try=fresh.task_try,
        try_failed=False,
        deadline=known.deadline if same_try else None,
        trigger_failures=known.trigger_failures if same_try else 0,
        not_adopted_yet=False,
    )
    yield note(adopted)
    return Started(intent=adopted, run=run, adopted=True)


def _end_superseded_run(
    start: Start, older: Intent, *, cancel: bool, clock: Callable[[], float], jitter: Callable[[], float]
) -> Routine[StillActive | None]:
    """See to it that an obsolete run ends: what remains of it, while it has not; None once it is over."""
    is_ours = True
    if older.phase is Phase.PREPARED:
        return None
    if older.run_id is None:
        run, is_ours = yield from _find_superseded_run(start, older, clock=clock, jitter=jitter)
        if run is None:
            log.warning("No run is known of an earlier start (key %s) whose answer was lost.", older.start_key)
            return None
        # What may be somebody else's is waited for, and not cancelled.
        older, cancel = older.started(run.run_id), cancel and is_ours
    seen = yield from _poll_with_retries(older, clock=clock, jitter=jitter)
    if isinstance(seen, AdfError):
        shows_nothing = isinstance(seen, AdfNotFoundError) or is_unreadable(seen)
        if shows_nothing and (yield from _is_over_or_forgotten(older, cancel=cancel, clock=clock)):
            log.warning("Run %s of an earlier try is over, or no longer known. %s", older.run_id, seen)
            return None
        raise AdfError(
            f"Run {older.run_id} of pipeline {older.pipeline_name!r}, started by an earlier try of this task, could not be "
            "looked at, so it is not known whether it is over, and nothing was started. Restore what the service misses, and "
            "clear the task; or, once you have seen in ADF Studio that the run is over, run the task with durable=False. "
            f"{seen}"
        ) from seen
    if seen.is_terminal:
        return None
    if cancel and seen.status != RunStatus.CANCELING:
        answer = yield from cancelling(older.factory, seen.run_id, clock=clock, jitter=jitter)
        is_accepted = answer is Cancel.ACCEPTED
        log.info("Run %s, which this try replaces, %s.", seen.run_id, "is being cancelled" if is_accepted else answer)
        if not is_accepted:
            return None
    return StillActive(intent=older, run=seen, is_ours=is_ours)


def _find_superseded_run(
    start: Start, older: Intent, *, clock: Callable[[], float], jitter: Callable[[], float]
) -> Routine[tuple[PipelineRun | None, bool]]:
    """The run of an obsolete start whose answer was lost, as far as it can be told, and whether it is ours for certain.

    Raises `AdfError` where the looks for it keep failing: they do not show that there is no run.
    """
    same = start.intent().fingerprint == older.fingerprint
    criteria = RunCriteria(
        factory=older.factory,
        pipeline_name=older.pipeline_name,
        parameters=(start.parameters or {}) if same else {},
        correlation_parameter=start.correlation_parameter,
    )
    until = (older.sent_at or clock()) + start.settle
    while True:
        result = yield from _search_with_retries(criteria, older, clock=clock, jitter=jitter)
        if len(result.proven) == 1:
            return result.proven[0], True
        if result.error is not None:
            raise AdfError(
                f"The start of pipeline {older.pipeline_name!r} in {older.factory} that an earlier try of this task made (key "
                f"{older.start_key}) got no answer, and its run could not be looked for. So it is not known whether a run of it "
                "goes on, and nothing was started. Restore what the service misses, and clear the task, which looks again; or, "
                "once you have seen in ADF Studio that no run of this task goes on, run the task with durable=False. "
                f"{result.error}"
            ) from result.error
        if clock() + SEARCH_PAUSE_SECONDS > until:
            return (result.possible[0], False) if len(result.possible) == 1 else (None, False)
        # A start of a moment ago may yet show.
        yield Pause(SEARCH_PAUSE_SECONDS)


def _search_with_retries(
    criteria: RunCriteria, older: Intent, *, clock: Callable[[], float], jitter: Callable[[], float]
) -> Routine[SearchResult]:
    """Look for the run of a lost start; at faults, again for a while. What is returned has an `error` if the last result failed."""
    until = clock() + STATUS_CHECK_PATIENCE_SECONDS
    failures = 0
    while True:
        seen: PipelineRun | AdfError = yield get_run(older.factory, older.start_key)
        if isinstance(seen, PipelineRun):
            # Whatever its pipeline: the task may have been changed since.
            return SearchResult(proven=(seen,))
        result = yield from search_list(criteria, older, seen, clock=clock)
        if not result.key_unknown:
            # Without an answer about the key, the list proves nothing: it may lag.
            result = replace(result, error=result.error or seen)
        if len(result.proven) == 1 or result.error is None:
            return result
        failures += 1
        pause = backoff(failures, getattr(result.error, "retry_after", None), jitter())
        if clock() + pause > until:
            return result
        yield Pause(pause)


def _is_over_or_forgotten(older: Intent, *, cancel: bool, clock: Callable[[], float]) -> Routine[bool]:
    """Whether a run that the service does not show is over or forgotten: another operation must say so too, or the calendar."""
    if not cancel:
        return older.sent_at is not None and clock() - older.sent_at > RETENTION.total_seconds()
    answer = yield cancel_run(older.factory, older.run_id or older.start_key)
    return answer is False or (isinstance(answer, AdfNotFoundError) and answer.missing == "run")


def _poll_with_retries(
    intent: Intent, *, clock: Callable[[], float], jitter: Callable[[], float]
) -> Routine[PipelineRun | AdfError]:
    """Look at the run of `intent`; at faults, again for a while."""
    until = clock() + STATUS_CHECK_PATIENCE_SECONDS
    failures = 0
    while True:
        seen: PipelineRun | AdfError = yield get_run(intent.factory, intent.run_id or intent.start_key)
        if isinstance(seen, PipelineRun):
            return seen
        failures += 1
        pause = backoff(failures, getattr(seen, "retry_after", None), jitter())
        if clock() + pause > until:
            return seen
        yield Pause(pause)

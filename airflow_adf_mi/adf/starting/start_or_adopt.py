"""What a task try does first: adopt the run of an earlier try, or start a new run after the earlier run has ended.

The problem: a try may be a retry, or follow a clear, changed parameters or a lost trigger. All that the try finds is the intent
that an earlier try, or an earlier part of this try, has stored. Two runs of one task must never overlap, and a run that is still
useful must not be replaced.

    stored intent   the same try continues    a retry                       a clear, or other parameters
    --------------  ------------------------  ----------------------------  ----------------------------
    none, prepared  start a new run           start a new run               start a new run
    sending         search for its run:       search for its run:           search for its run:
                    adopt it; start again     if found, as in the row       end it, then start
                    if none was started       `started`; start again if     a new run
                                              none was started
    started         adopt its run, whatever   active, succeeded: adopt it   end its run, then start
                    its status                being cancelled: wait for     a new run
                                              its end, then decide again
                                              failed, cancelled: start a
                                              new run, or continue the
                                              failed one (`rerun`)

"End it" means: cancel the superseded run, or only wait for it (`cancel_superseded`). While the superseded run is still active,
this routine returns `StillActive`. The caller waits for that run and calls the routine again.

`intent.decide` makes the decision; this module carries it out. `superseded_run` ends a superseded run.
"""

from __future__ import annotations

import logging
from dataclasses import replace

from airflow_adf_mi.adf.errors import AdfError
from airflow_adf_mi.adf.models import PipelineRun, RunStatus
from airflow_adf_mi.adf.routines import Routine
from airflow_adf_mi.adf.starting.create_run import resolve_lost_start
from airflow_adf_mi.adf.starting.earlier_tries import find_earlier_start
from airflow_adf_mi.adf.starting.intent import (
    Adopt,
    Intent,
    Phase,
    ResolveLostStart,
    StartNew,
    TaskTry,
    decide,
    was_cleared,
)
from airflow_adf_mi.adf.starting.journal import claim, save, save_best_effort
from airflow_adf_mi.adf.starting.present_runs import start_unless_present
from airflow_adf_mi.adf.starting.rerun import failed_run, rerun_or_start
from airflow_adf_mi.adf.starting.start import Start
from airflow_adf_mi.adf.starting.started import Skipped, Started, StillActive
from airflow_adf_mi.adf.starting.superseded_run import end_superseded_run, poll_with_retries
from airflow_adf_mi.adf.starting.try_keys import TryKeys
from airflow_adf_mi.adf.timing import Timing
from airflow_adf_mi.adf.waiting.single_run import in_words

log = logging.getLogger(__name__)


def start_or_adopt(
    start: Start,
    stored: Intent | None,
    task_try: TaskTry,
    *,
    cancel_superseded: bool,
    timing: Timing,
    keys: TryKeys | None = None,
    ended: frozenset[str] = frozenset(),
) -> Routine[Started | StillActive | Skipped]:
    """Start a run, or adopt the run of the intent `stored`. If the result is `StillActive`, call again after that run has
    ended.

    Raises the errors of `create_run_once`, and `AdfError` if an earlier run cannot be checked.

    :param cancel_superseded: whether a superseded run is cancelled. If not, it is only waited for.
    :param keys: the start keys of this task's tries, if `stored` does not outlive a try. The runs of earlier tries are then found
        by their keys.
    :param ended: ids of runs whose end is proven, with `keys`.
    """
    start, stored, last, own_ids, unknown = yield from _recalled(start, stored, keys, timing=timing, ended=ended)
    fresh = replace(start.intent(task_try), previous_run_ids=(*unknown, *own_ids))
    decision = decide(stored, task_try, fresh.fingerprint)
    match decision:
        case StartNew(older=None):
            pass
        case StartNew(older=older):
            assert older is not None  # noqa: S101  the case above
            superseded = yield from end_superseded_run(start, older, cancel=cancel_superseded, timing=timing)
            if isinstance(superseded, StillActive):
                return superseded
            if keys is not None:
                # There may be other runs of earlier tries. And the new start needs a key that the next try can compute.
                return (
                    yield from start_or_adopt(
                        start,
                        None,
                        task_try,
                        cancel_superseded=cancel_superseded,
                        timing=timing,
                        keys=keys,
                        # The service may show the run as active for a while, although the answer to a cancel proves its end.
                        ended=ended | {*superseded.found, *([older.run_id] if older.run_id else [])},
                    )
                )
            fresh = fresh.after(older, *superseded.found)
            ours = superseded.found if superseded.is_ours else ()
            last = yield from _run_to_continue(start, older, fresh, ours, timing=timing)
        case ResolveLostStart(intent=lost):
            return (yield from _settle_lost_start(start, lost, fresh, timing=timing))
        case Adopt(intent=known):
            # A claim is an XCom. It shows the other instances of a mapped task that this run is not theirs. Airflow has
            # deleted the XComs of the earlier try, so claim the run again.
            yield claim(known.run_id or known.start_key)
            asked_at = timing.clock()
            seen = yield from poll_with_retries(known, timing=timing)
            if isinstance(seen, AdfError):
                # A failed status check proves nothing about the run. So wait for the run, by the rules of waiting.
                log.warning("Run %s of an earlier try cannot be checked now; waiting for it. %s", known.run_id, seen)
            found = Started(intent=known, adopted=True)
            if isinstance(seen, PipelineRun):
                found = replace(found, run=seen, seen_at=asked_at)
            same_try = _is_own(known, task_try)
            return (yield from _adopt_or_replace(start, found, fresh, same_try=same_try, timing=timing))
    if last is not None and last.status == RunStatus.FAILED:
        return (yield from rerun_or_start(start, fresh, last, timing=timing))
    if last is not None:
        log.info("Starting from the beginning: run %s %s.", last.run_id, in_words(last.status))
    elif own_ids and start.retry_from_failure != "never":
        log.info(
            "Starting from the beginning: the task was cleared, or no run of its earlier tries has this pipeline and parameters."
        )
    return (yield from start_unless_present(start, fresh, timing=timing))


def _recalled(
    start: Start, stored: Intent | None, keys: TryKeys | None, *, timing: Timing, ended: frozenset[str]
) -> Routine[tuple[Start, Intent | None, PipelineRun | None, tuple[str, ...], tuple[str, ...]]]:
    """This try's start with its key, and the earlier start that it must continue or end: stored, or found by its key.

    Also, if runs were found by their keys: the last run with the same parameters, if it may be continued, and the ids of all of
    them, the newest last. And the keys of earlier tries that the service does not know.
    """
    if keys is None or stored is not None:
        return start, stored, None, tuple(sorted(ended)), ()
    found = yield from find_earlier_start(start, keys, timing=timing, ended=ended)
    with_key = replace(start, start_key=found.own_key, service_uses_key=found.service_uses_key)
    last = found.last if start.retry_from_failure == "always" else None
    forgotten = sorted(ended.difference(found.known_ids))
    return with_key, found.intent, last, (*forgotten, *found.known_ids), found.unknown_keys


def _run_to_continue(
    start: Start, older: Intent, fresh: Intent, found: tuple[str, ...], *, timing: Timing
) -> Routine[PipelineRun | None]:
    """The run that this try may continue instead of starting from the beginning.

    It is the run before a clear: that of `older`, or the one that was `found` for it and is certainly ours. Or it is the run that
    a rerun was meant to continue, if the rerun has no run that is certainly ours. Raises `AdfError` if that run cannot be read.
    """
    is_clear = not older.task_try.is_try_of(fresh.task_try) and was_cleared(older, fresh.task_try)
    run_id = older.run_id or next(iter(found), older.rerun_of)
    is_unrelated = older.is_foreign and older.rerun_of is None
    if run_id is None or is_unrelated or start.retry_from_failure == "never":
        return None
    if older.fingerprint != fresh.fingerprint:
        log.info("Starting from the beginning: the parameters, the pipeline or the factory have changed.")
        return None
    if is_clear and start.retry_from_failure != "always":
        log.info("Starting from the beginning: the task was cleared, and retry_from_failure is 'retry'.")
        return None
    return (yield from failed_run(start, run_id, timing=timing))


def _settle_lost_start(
    start: Start, lost: Intent, fresh: Intent, *, timing: Timing
) -> Routine[Started | StillActive | Skipped]:
    """Find the run of a start that was never answered. If nothing was started, start again."""
    task_try = fresh.task_try
    same_try = _is_own(lost, task_try)
    lost = replace(lost, task_try=task_try, try_failed=False, not_adopted_yet=not same_try)
    # `lost` may stand for a stored form that could not be read (`read_intent`). Save it, so that a later try can recognise a
    # clear.
    yield save(lost)
    found = yield from resolve_lost_start(start, lost, lost=None, timing=timing)
    if isinstance(found, Started):
        return (yield from _adopt_or_replace(start, found, fresh, same_try=same_try, timing=timing))
    # Use the same key again. If the first request still arrives, the service may recognise by the key that both requests are
    # the same start.
    fresh = replace(fresh, start_key=lost.start_key).after(lost)
    if found is Phase.SENDING:
        # This try sends the start again without proof at most once.
        start = start.sent_again()
        # Without proof, the first request may still have a run. So its record is kept.
        fresh = replace(fresh, phase=found, sent_at=lost.sent_at, may_have_two_runs=True)
    if lost.rerun_of is not None:
        failed = yield from failed_run(start, lost.rerun_of, timing=timing)
        if failed is not None:
            return (yield from rerun_or_start(start, fresh, failed, timing=timing))
    return (yield from start_unless_present(start, fresh, timing=timing))


def _is_own(known: Intent, task_try: TaskTry) -> bool:
    """Whether this same try made the start, and now continues after its trigger or triggerer was lost."""
    return known.task_try.is_try_of(task_try) and not known.not_adopted_yet


def _adopt_or_replace(
    start: Start, found: Started, fresh: Intent, *, same_try: bool, timing: Timing
) -> Routine[Started | StillActive | Skipped]:
    """Adopt a run of an earlier try. If that run failed or was cancelled, start a new run after its end.

    :param same_try: the run belongs to this same try, which continues after its trigger or triggerer was lost. A try has one
        run, whatever its result.
    """
    known, run = found.intent, found.run
    if run is not None and run.status == RunStatus.CANCELING and not same_try:
        return StillActive(intent=known, run=run, is_ours=not known.is_foreign)
    if run is not None and run.status in (RunStatus.FAILED, RunStatus.CANCELLED) and not same_try:
        # Also a run of somebody, if it continued a run of this task.
        is_of_group = not known.is_foreign or known.rerun_of is not None
        if run.status == RunStatus.FAILED and start.retry_from_failure != "never" and is_of_group:
            return (yield from rerun_or_start(start, fresh.after(known), run, timing=timing))
        log.info("Run %s of an earlier try %s; starting a new one.", known.run_id, in_words(run.status))
        return (yield from start_unless_present(start, fresh.after(known), timing=timing))
    log.info("Continuing with run %s, which %s started.", known.run_id, "this try" if same_try else "an earlier try")
    # The run now belongs to this try, which has not failed. If this try is a new one, its wait begins now.
    adopted = replace(
        known,
        task_try=fresh.task_try,
        try_failed=False,
        deadline=known.deadline if same_try else None,
        first_refused_at=fresh.first_refused_at,
        not_adopted_yet=False,
    )
    yield save_best_effort(adopted)
    return replace(found, intent=adopted)

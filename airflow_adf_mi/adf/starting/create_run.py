"""createRun, sent once: what its failure means, and how a lost start is resolved.

The problem: the service documents no idempotency key for createRun. If the answer to createRun is lost, a run may or may not
exist. If createRun is sent again, two runs may start. If it is not sent again, the task may have no run.

    save intent: prepared
    check the parameters        against the published pipeline (`published_pipeline`)
    get a token                 may take long, so it comes before the next step
    save intent: sending        from here on, a later try must assume that createRun was sent
    createRun ----------------> an answer with a run id ----> save intent: started
              |
              +---------------> an error: `judge` decides
                                  NOT_STARTED  nothing was started: pause, then send again (up to 5 minutes)
                                  REFUSED      nothing was started, and the same request would be refused again: raise
                                  QUEUE_FULL   nothing was started: raise, and the caller waits for its turn
                                  AMBIGUOUS    a run may have been started: `resolve_lost_start`

`resolve_lost_start` searches for the run (`find_run`) until the run has had time to appear. The search ends in one of four
ways:

    one run carries our key                          adopt the run at once
    one run is similar, and no other instance of
      a mapped task claims it                        adopt the run, at the end of the search
    the factory uses our keys as run ids,
      and knows no run with this key                 nothing was started: send createRun again
    the list shows a later run, none has our key
      in the correlation parameter, and the Dag's
      author chose "start_if_list_is_fresh"          very probably nothing was started: send createRun again
                                                     (not for a rerun, which has the value of its group)
    anything else                                    raise AdfAmbiguousStartError, or start again if the Dag's
                                                     author allowed it (`on_ambiguous`)

The rule: createRun is sent a second time in two cases only. Either it is proven that the first createRun started nothing, or the
author of the Dag allowed it.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from enum import Enum
from typing import Literal

from airflow_adf_mi.adf.api.refusal import is_front_door
from airflow_adf_mi.adf.errors import (
    AdfAmbiguousStartError,
    AdfAuthenticationError,
    AdfConfigurationError,
    AdfError,
    AdfQueueFullError,
    AdfRequestError,
    AdfThrottledError,
    AdfUnavailableError,
)
from airflow_adf_mi.adf.models import PipelineRun
from airflow_adf_mi.adf.name_suggestions import with_suggestions
from airflow_adf_mi.adf.retrying import backoff
from airflow_adf_mi.adf.routines import Authenticate, Pause, Routine
from airflow_adf_mi.adf.starting.find_run import SearchResult, later_run, listed, search, uses_start_keys
from airflow_adf_mi.adf.starting.intent import Intent, Phase
from airflow_adf_mi.adf.starting.journal import claim, save, save_best_effort
from airflow_adf_mi.adf.starting.published_pipeline import fitted_to_pipeline
from airflow_adf_mi.adf.starting.start import Start
from airflow_adf_mi.adf.starting.started import Started
from airflow_adf_mi.adf.timing import Timing

log = logging.getLogger(__name__)

START_PATIENCE_SECONDS = 300.0
"""If it is proven that nothing was started (throttled, connection refused, no token, token refused), the start is sent again for
this many seconds."""
LATE_SEARCH_SECONDS = 15.0
"""A retry searches for at least this many seconds, even if `start_settle` has already passed since the start was sent."""
SEARCH_PAUSE_SECONDS = 10.0
"""Longest pause in seconds between two searches for the run of a lost start."""


class Verdict(Enum):
    """What a failed createRun means."""

    REFUSED = "refused"
    """The service or the identity endpoint refused. Nothing was started, and the same request would be refused again."""
    NOT_STARTED = "not started"
    """Nothing was started: the request was never sent, or was refused for now. It may be sent again."""
    QUEUE_FULL = "queue full"
    """Nothing was started, because the queue of the pipeline is full. The request may be sent again in its turn."""
    AMBIGUOUS = "ambiguous"
    """A run may or may not have been started. The request must not be sent again before its run was searched for."""


NOT_FORWARDED_STATUSES = frozenset({407, 411, 413, 414, 421, 431, 511})
"""By the definition of these statuses in HTTP, a proxy or gateway did not forward the request. The gateway wants credentials of
its own, the request is too large for it, or it is the wrong machine."""
NOT_FOLLOWED_STATUSES = frozenset({307, 308})
"""Redirects that ask to send the same request to another address. The clients do not follow them."""


def judge(error: AdfError) -> Verdict:
    """Return what it means that createRun failed with `error`."""
    match error:
        case AdfAuthenticationError():
            # A token is needed before the request is sent. If the service refused the token (401), nothing was started, and
            # another token may be accepted.
            return Verdict.NOT_STARTED if error.transient or error.refused_token else Verdict.REFUSED
        case AdfQueueFullError():
            return Verdict.QUEUE_FULL
        case AdfThrottledError():
            return Verdict.NOT_STARTED
        case AdfUnavailableError():
            return _judge_no_answer(error)
        case AdfRequestError(status=409):
            # If Data Factory itself answered, the conflict may be with the run that this very request started.
            is_refused = is_front_door(error.code, error.failure_cause)
            return Verdict.REFUSED if is_refused else Verdict.AMBIGUOUS
        case AdfRequestError() | AdfConfigurationError():
            return Verdict.REFUSED
        case _:
            return Verdict.AMBIGUOUS


def _judge_no_answer(error: AdfUnavailableError) -> Verdict:
    if error.never_sent:
        return Verdict.NOT_STARTED
    if error.status in NOT_FOLLOWED_STATUSES:
        return Verdict.REFUSED
    if error.is_foreign and error.status == 401:
        # A gateway that asks for credentials of its own has not forwarded the request.
        return Verdict.NOT_STARTED
    if error.is_foreign and error.status in NOT_FORWARDED_STATUSES:
        return Verdict.REFUSED
    # A 403 or 404 page of a web filter is ambiguous too. Most filters block requests. But some filters inspect answers, and
    # replace an answer that contains a new run id. The page does not show whether the request or the answer was blocked.
    return Verdict.AMBIGUOUS


def create_run_once(start: Start, intent: Intent, *, timing: Timing) -> Routine[Started]:
    """Start the run, once.

    Raises `AdfAmbiguousStartError` if the answer was lost and the run can be neither found nor ruled out. Raises the `AdfError`
    of a refusal, such as `AdfQueueFullError`. If `START_PATIENCE_SECONDS` have passed, raises the last `AdfError`.

    :param intent: what to start. In the phase SENDING, an earlier request of this start may have started a run.
    """
    until = timing.clock() + START_PATIENCE_SECONDS
    failures = 0
    # What the journal holds while no request is under way. While an earlier request may have started a run, this is the record
    # of that request. A later try, also after a clear, must search for its run.
    idle = intent if intent.phase is Phase.SENDING else replace(intent, phase=Phase.PREPARED, sent_at=None)
    yield save(idle)
    if intent.rerun_of is None:
        start = yield from fitted_to_pipeline(start, timing=timing)
    while True:
        # Getting a token may take long, so do it before the intent records that the request is being sent.
        answer = yield Authenticate()
        if answer is None:
            sending = replace(idle, phase=Phase.SENDING, sent_at=timing.clock())
            yield save(sending)
            answer = yield start.call(intent)
            if not isinstance(answer, AdfError):
                answered_at = timing.clock()
                started = sending.started(str(answer))
                yield save_best_effort(started)
                return Started(intent=started, seen_at=answered_at)
            verdict = judge(answer)
            if verdict is Verdict.AMBIGUOUS:
                log.warning("The answer to createRun was lost; searching for its run. %s", answer)
                found = yield from resolve_lost_start(start, sending, lost=answer, timing=timing)
                if isinstance(found, Started):
                    return found
                if timing.clock() > until:
                    raise answer
                if found is Phase.SENDING:
                    # A try may send one start without proof. From now on, an ambiguous start fails.
                    start = start.sent_again()
                idle = replace(sending, phase=found, sent_at=sending.sent_at if found is Phase.SENDING else None)
                continue
            if verdict is Verdict.QUEUE_FULL and idle.phase is Phase.PREPARED:
                # The caller waits for a place: how, depends on where the task waits.
                yield save(replace(idle, first_refused_at=idle.first_refused_at or sending.sent_at))
                raise answer
            yield save(idle)
            if verdict is Verdict.QUEUE_FULL:
                # The record of the first request must stay. So this try cannot store that it waits for its turn.
                raise AdfAmbiguousStartError(
                    f"A start of pipeline {start.pipeline_name!r} in {start.factory} (key {intent.start_key}) got no usable "
                    f"answer. It was sent again without proof, and the pipeline's queue was full. {answer} A retry searches "
                    "for the run of the first request.",
                    request_id=intent.start_key,
                )
        else:
            verdict = judge(answer)
        failures += 1
        pause = backoff(failures, getattr(answer, "retry_after", None), timing.jitter())
        if verdict is Verdict.REFUSED or timing.clock() + pause > until:
            raise (yield from with_suggestions(answer, start.factory, start.pipeline_name))
        log.warning("Nothing was started. Sending createRun again in %.0f s. %s", pause, answer)
        yield Pause(pause)


def resolve_lost_start(
    start: Start,
    intent: Intent,
    *,
    lost: AdfError | None,
    timing: Timing,
) -> Routine[Started | Literal[Phase.PREPARED, Phase.SENDING]]:
    """Find the run of a start that may have been sent, or allow that it is sent again.

    It may be sent again if the result is PREPARED (it is proven that nothing was started) or SENDING (without that proof).

    A run that carries the start key is adopted at once. A run that is only similar is adopted at the end of the search, after
    other similar runs have had time to appear. It must be the only similar run, and no other instance of a mapped task may have
    claimed it.
    Otherwise raises `AdfAmbiguousStartError`.

    :param lost: the error of createRun in this try; None if an earlier try sent createRun.
    """
    now = timing.clock()
    until = (
        now + start.settle
        if lost is not None
        else max(now + LATE_SEARCH_SECONDS, (intent.sent_at or now) + start.settle)
    )
    searches = 0
    while True:
        searched_at = timing.clock()
        result = yield from search(start.criteria(intent), intent, timing=timing)
        searches += 1
        pause = min(
            SEARCH_PAUSE_SECONDS, backoff(searches, getattr(result.error, "retry_after", None), timing.jitter())
        )
        # The last search must begin at the end: what it has read is as old as its beginning, and reading may take long.
        is_last = searched_at >= until
        if is_last and not result.proven and (intent.rerun_of is not None or not intent.service_uses_key):
            # The one recording of reruns is old. So only another rerun of this factory shows that their ids are our keys, too.
            uses_key = yield from uses_start_keys(
                start.factory, start.pipeline_name, of_reruns=intent.rerun_of is not None
            )
            intent = replace(intent, service_uses_key=uses_key)
        if intent.service_uses_key:
            # If the factory uses our keys as run ids, a run with another id is not ours.
            result = replace(result, possible=())
        found = _chosen_run(result, is_last=is_last)
        if found is not None and (found in result.proven or (yield claim(found.run_id))):
            return (yield from _adopted(intent, found, seen_at=searched_at))
        if is_last:
            break
        yield Pause(max(0.0, min(pause, until - timing.clock())))
    candidates = (*result.proven, *result.possible)
    if not candidates and result.key_unknown and result.error is None and intent.service_uses_key:
        log.warning("Nothing was started: the factory uses our keys as run ids, and knows no run %s.", intent.start_key)
        return Phase.PREPARED
    if start.on_ambiguous == "start":
        log.warning(
            "Sending createRun again, because on_ambiguous_start is 'start'. The lost start has the key %s, and %s.%s",
            intent.start_key,
            _what_was_found(intent, result),
            _cause(result),
        )
        return Phase.SENDING
    # The correlation parameter of a rerun is that of the run which it continues, so it identifies nothing.
    may_look = start.on_ambiguous == "start_if_list_is_fresh" and intent.rerun_of is None
    if may_look and not candidates and result.error is None:
        later = yield from later_run(start.criteria(intent), intent, timing=timing)
        # The list may have caught up since the last search.
        again = (yield from search(start.criteria(intent), intent, timing=timing)) if later is not None else result
        if len(again.proven) == 1:
            return (yield from _adopted(intent, again.proven[0], seen_at=timing.clock()))
        if later is not None and not again.proven and again.error is None:
            log.warning(
                "Sending createRun again, because on_ambiguous_start is 'start_if_list_is_fresh'. The list shows run %s, which "
                "began after the lost start, and no run of the lost start (key %s).",
                later.run_id,
                intent.start_key,
            )
            return Phase.SENDING
    raise AdfAmbiguousStartError(
        _ambiguous_text(start, intent, result, lost), request_id=intent.start_key, candidates=candidates
    )


def _adopted(intent: Intent, found: PipelineRun, *, seen_at: float) -> Routine[Started]:
    log.info("Found run %s: the lost start had succeeded.", found.run_id)
    started = intent.started(found.run_id)
    # A run of the group of a rerun may be somebody else's, unless it has our key.
    started = replace(started, is_foreign=intent.rerun_of is not None and not started.service_uses_key)
    yield save_best_effort(started)
    return Started(intent=started, run=found, adopted=True, seen_at=seen_at)


def _chosen_run(result: SearchResult, *, is_last: bool) -> PipelineRun | None:
    if len(result.proven) == 1:
        return result.proven[0]
    complete = is_last and not result.proven and result.error is None
    return result.possible[0] if complete and len(result.possible) == 1 else None


def _what_was_found(intent: Intent, result: SearchResult) -> str:
    candidates = (*result.proven, *result.possible)
    if candidates:
        found = f"{len(candidates)} run{'s' if len(candidates) > 1 else ''} may be the run of this start: {listed(candidates)}"
        return found + (", and perhaps more" if result.error is not None else "")
    if result.error is not None:
        return "the search for its run failed"
    return f"the service shows no run with the id {intent.start_key}, and no similar run in its list"


def _cause(result: SearchResult) -> str:
    return f" The search failed with: {result.error}" if result.error is not None else ""


def _advice(start: Start, intent: Intent) -> str:
    """How to avoid the doubt in future, depending on what is set already."""
    if start.is_sent_again:
        return "This try has already sent the start again, as on_ambiguous_start allows. A try does so only once."
    if intent.rerun_of is not None:
        # Its correlation parameter is that of the run which it continues.
        return "To avoid this doubt in future, set on_ambiguous_start='start' if two runs do no harm."
    if start.correlation_parameter is None:
        return (
            "To avoid this doubt in future, set correlation_parameter to a parameter that the pipeline declares for this "
            "purpose; or set on_ambiguous_start='start' if two runs do no harm."
        )
    if start.on_ambiguous == "start_if_list_is_fresh":
        return "The run list does not show that it is up to date, so it may lag. A retry looks again."
    return (
        "To avoid this doubt in future, set on_ambiguous_start='start_if_list_is_fresh', which starts again if the run list "
        "shows later runs; or 'start' if two runs do no harm."
    )


def _ambiguous_text(start: Start, intent: Intent, result: SearchResult, lost: AdfError | None) -> str:
    found = _what_was_found(intent, result)
    # After a clear, the next try searches as well, and starts nothing while its search fails.
    once = " as soon as the search for the lost start's run works" if result.error is not None else ""
    return (
        f"The start of pipeline {start.pipeline_name!r} in {start.factory} got no usable answer, and {found}. A run may or "
        "may not have been started, so the task does not start another. A retry of this task searches again. Or check the "
        "pipeline's runs in ADF Studio: if none of them is this task's, clear the task. The cleared task starts a new "
        f"run{once}. {_advice(start, intent)}"
        f"{_cause(result)}"
        f"{f' The first error was: {lost}' if lost else ''}"
    )

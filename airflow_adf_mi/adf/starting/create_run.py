"""The rules of starting a run: what a failed createRun means, and how a lost answer is settled.

createRun has no idempotency key that the service documents, so nothing here ever sends it a second time unless it is
proven that the first one did nothing, or the author of the Dag allowed it.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Literal

from airflow_adf_mi.adf.api.operations import create_run
from airflow_adf_mi.adf.api.recovery import Recovery
from airflow_adf_mi.adf.api.refusal import is_front_door
from airflow_adf_mi.adf.config.settings import FactoryRef
from airflow_adf_mi.adf.config.validation import check_parameters, check_pipeline_name, check_text
from airflow_adf_mi.adf.errors import (
    AdfAmbiguousStartError,
    AdfAuthenticationError,
    AdfConfigurationError,
    AdfError,
    AdfRequestError,
    AdfThrottledError,
    AdfUnavailableError,
)
from airflow_adf_mi.adf.models import PipelineRun
from airflow_adf_mi.adf.name_suggestions import with_suggestions
from airflow_adf_mi.adf.retrying import backoff
from airflow_adf_mi.adf.routines import Authenticate, Pause, Routine
from airflow_adf_mi.adf.starting.find_run import RunCriteria, SearchResult, search
from airflow_adf_mi.adf.starting.intent import Intent, Phase, TaskTry, fingerprint
from airflow_adf_mi.adf.starting.journal import claim, note, save

log = logging.getLogger(__name__)

START_PATIENCE_SECONDS = 300.0
"""Seconds for which a start that provably did nothing (throttled, connection refused, no token, token refused) is tried again."""
START_SETTLE_SECONDS = 120.0
"""Seconds for which the run of a lost answer is looked for, by default. Above the client's timeouts, so that a request
that the service is still working on has time to show."""
LATE_SEARCH_SECONDS = 15.0
"""Seconds for which a later try searches for a run that was lost longer ago than that."""
SEARCH_PAUSE_SECONDS = 10.0
"""Most seconds between two searches for a lost run."""


class Verdict(Enum):
    """What a failed createRun means."""

    REFUSED = "refused"
    """The service or the identity endpoint said no. Nothing was started, and asking again would not help."""
    NOT_STARTED = "not started"
    """Nothing was started: the request never left, or was turned away for now. It may be sent again."""
    AMBIGUOUS = "ambiguous"
    """The run may or may not have been started. The request must not be sent again."""


NOT_FORWARDED_STATUSES = frozenset({407, 411, 413, 414, 421, 431, 511})
"""Statuses by which a proxy or gateway says, by their definition in HTTP, that it did not send a request on: it wants a sign-in
of its own, the request is too large for it, or it is the wrong machine."""
NOT_FOLLOWED_STATUSES = frozenset({307, 308})
"""Redirects that leave a request to be sent to another address. The clients do not follow them."""


def judge(error: AdfError) -> Verdict:
    """What `error`, in place of createRun's answer, means."""
    match error:
        case AdfAuthenticationError():
            # Tokens come before the request. A request whose token was refused (401) has started nothing, and another token
            # may be accepted.
            return Verdict.NOT_STARTED if error.transient or error.refused_token else Verdict.REFUSED
        case AdfThrottledError():
            return Verdict.NOT_STARTED
        case AdfUnavailableError():
            return _judge_no_answer(error)
        case AdfRequestError(status=409):
            # Where Data Factory itself was asked, a conflict may be with the run of this very request.
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
        # A gateway that wants to know who asks has not asked Azure yet.
        return Verdict.NOT_STARTED
    if error.is_foreign and error.status in NOT_FORWARDED_STATUSES:
        return Verdict.REFUSED
    # Also a 403 or 404 page of a web filter: most filters block requests, but some result at answers, and put their page in the
    # place of one that says that a run was started. Nothing in the page tells which it was.
    return Verdict.AMBIGUOUS


@dataclass(frozen=True, kw_only=True)
class Start:
    """A start to be made. Raises `AdfConfigurationError` for what the service would refuse or misread."""

    factory: FactoryRef
    pipeline_name: str
    parameters: Mapping[str, Any] | None = None
    recovery: Recovery = Recovery()
    correlation_parameter: str | None = None
    """A parameter that the pipeline declares for it, and that gets the start's key: by it, a run is ours for certain."""
    settle: float = START_SETTLE_SECONDS
    """Seconds for which the run of a lost answer is looked for."""
    on_ambiguous: Literal["fail", "start"] = "fail"
    """What to do when it can be neither found nor ruled out."""
    start_key: str | None = None
    """The key that it is made with; None for a random one."""

    def __post_init__(self) -> None:
        check_pipeline_name(self.pipeline_name)
        # As they are sent, so that the fingerprint and the search for a lost run know what the service knows.
        object.__setattr__(self, "parameters", check_parameters(self.parameters))
        if not isinstance(self.recovery, Recovery):
            raise AdfConfigurationError(f"recovery is of type {type(self.recovery).__name__}; it must be a Recovery.")
        if self.on_ambiguous not in ("fail", "start"):
            raise AdfConfigurationError(f"on_ambiguous_start is {self.on_ambiguous!r}; it must be 'fail' or 'start'.")
        refers = self.recovery.reference_pipeline_run_id is not None
        if refers and (self.parameters or self.correlation_parameter):
            given = "parameters" if self.parameters else "correlation_parameter"
            raise AdfConfigurationError(
                f"{given} and reference_pipeline_run_id are both given, but the parameters of a run that refers to "
                "another are taken from that other run. Remove one of them."
            )
        if self.correlation_parameter is not None:
            check_text("correlation_parameter", self.correlation_parameter)
            if self.correlation_parameter in (self.parameters or {}):
                raise AdfConfigurationError(
                    f"correlation_parameter {self.correlation_parameter!r} is in parameters, too. Its value is the start's "
                    "key, so leave it out of parameters."
                )

    def intent(self, task_try: TaskTry = TaskTry()) -> Intent:
        """A new intent to make this start. Its key is random where none is given: a Dag run that is deleted and made again
        must not meet the runs of the one before.
        """
        return Intent(
            start_key=self.start_key or str(uuid.uuid4()),
            factory=self.factory,
            pipeline_name=self.pipeline_name,
            fingerprint=fingerprint(self.factory, self.pipeline_name, self.parameters, self.recovery),
            task_try=task_try,
        )

    def criteria(self) -> RunCriteria:
        return RunCriteria(
            factory=self.factory,
            pipeline_name=self.pipeline_name,
            parameters=self.parameters or {},
            recovery=self.recovery,
            correlation_parameter=self.correlation_parameter,
        )

    def call(self, key: str) -> Any:
        own = {self.correlation_parameter: key} if self.correlation_parameter is not None else {}
        return create_run(
            self.factory,
            self.pipeline_name,
            {**(self.parameters or {}), **own},
            request_id=key,
            recovery=self.recovery,
        )


@dataclass(frozen=True, kw_only=True)
class Started:
    """A run that is there because of us."""

    intent: Intent
    run: PipelineRun | None = None
    """As it was last seen; None right after createRun's answer."""
    adopted: bool = False
    """It was found, rather than told of by createRun's answer."""

    @property
    def run_id(self) -> str:
        assert self.intent.run_id is not None  # noqa: S101  that is what started means
        return self.intent.run_id


def create_run_once(
    start: Start, intent: Intent, *, clock: Callable[[], float], jitter: Callable[[], float]
) -> Routine[Started]:
    """Start the run, once.

    Raises `AdfAmbiguousStartError` when the answer was lost and the run can be neither found nor ruled out; otherwise the
    `AdfError` of the refusal, or of the last try after `START_PATIENCE_SECONDS`.
    """
    until = clock() + START_PATIENCE_SECONDS
    failures = 0
    prepared = replace(intent, phase=Phase.PREPARED, sent_at=None)
    yield save(prepared)
    while True:
        # Whatever takes time comes before the intent says that the request is on its way.
        answer = yield Authenticate()
        if answer is None:
            sending = replace(prepared, phase=Phase.SENDING, sent_at=clock())
            yield save(sending)
            answer = yield start.call(intent.start_key)
            if not isinstance(answer, AdfError):
                started = sending.started(str(answer))
                yield note(started)
                return Started(intent=started)
            verdict = judge(answer)
            if verdict is Verdict.AMBIGUOUS:
                log.warning("The answer to the start was lost; looking for its run. %s", answer)
                found = yield from resolve_lost_start(start, sending, lost=answer, clock=clock, jitter=jitter)
                if found is not None:
                    return found
                if clock() > until:
                    raise answer
                continue
            yield save(prepared)
        else:
            verdict = judge(answer)
        failures += 1
        pause = backoff(failures, getattr(answer, "retry_after", None), jitter())
        if verdict is Verdict.REFUSED or clock() + pause > until:
            raise (yield from with_suggestions(answer, start.factory, start.pipeline_name))
        log.warning("Nothing was started. Will send the start again in %.0f s. %s", pause, answer)
        yield Pause(pause)


def resolve_lost_start(
    start: Start,
    intent: Intent,
    *,
    lost: AdfError | None,
    clock: Callable[[], float],
    jitter: Callable[[], float],
) -> Routine[Started | None]:
    """Find the run of a start that may have been sent; None when it may be sent again.

    A run that carries the key is taken at once. One that only searches like ours is taken at the end, when others that result
    the same have had time to show, and only if it is the only one and no other task's. Raises `AdfAmbiguousStartError`.
    """
    now = clock()
    until = (
        now + start.settle
        if lost is not None
        else max(now + LATE_SEARCH_SECONDS, (intent.sent_at or now) + start.settle)
    )
    searches = 0
    while True:
        result = yield from search(start.criteria(), intent, clock=clock)
        if intent.service_uses_key:
            # Where keys are run ids, a run with another id is not ours.
            result = replace(result, possible=())
        searches += 1
        pause = min(SEARCH_PAUSE_SECONDS, backoff(searches, getattr(result.error, "retry_after", None), jitter()))
        is_last = clock() + pause > until
        found = _chosen_run(result, is_last=is_last)
        if found is not None and (found in result.proven or (yield claim(found.run_id))):
            log.info("Run %s is there: the start had worked.", found.run_id)
            started = intent.started(found.run_id)
            yield note(started)
            return Started(intent=started, run=found, adopted=True)
        if is_last:
            break
        yield Pause(pause)
    candidates = (*result.proven, *result.possible)
    if not candidates and result.key_unknown and result.error is None and intent.service_uses_key:
        log.warning("Nothing was started: the service uses our keys as run ids, and knows no run %s.", intent.start_key)
        return None
    problem = AdfAmbiguousStartError(
        _ambiguous_text(start, intent, result, lost), request_id=intent.start_key, candidates=candidates
    )
    if start.on_ambiguous == "start":
        log.warning("Will start it again, as on_ambiguous_start='start' says. %s", problem)
        return None
    raise problem


def _chosen_run(result: SearchResult, *, is_last: bool) -> PipelineRun | None:
    if len(result.proven) == 1:
        return result.proven[0]
    complete = is_last and not result.proven and result.error is None
    return result.possible[0] if complete and len(result.possible) == 1 else None


def _ambiguous_text(start: Start, intent: Intent, result: SearchResult, lost: AdfError | None) -> str:
    candidates = (*result.proven, *result.possible)
    if candidates:
        listed = ", ".join(f"{run.run_id} ({run.status}, began {run.started_at})" for run in candidates[:10])
        found = f"{len(candidates)} run(s) may be the one: {listed}"
        found += f", and perhaps others ({result.error})" if result.error is not None else ""
    elif result.error is not None:
        found = f"its run could not be looked for ({result.error})"
    else:
        found = f"the service shows no run with the id {intent.start_key}, and none in its list that fits"
    # A clear searches, too, and starts nothing while its searches fail.
    again = " once its runs can be looked for" if result.error is not None else ""
    return (
        f"The start of pipeline {start.pipeline_name!r} in {start.factory} got no usable answer, and {found}. A run may or "
        "may not have been started, so none is started again. A retry of this task searches once more. Or result at the "
        f"pipeline's runs in ADF Studio: if none is this task's, clear the task, and a new run is started{again}. To make this "
        "certain in future, set correlation_parameter to a parameter that the pipeline declares for it; or set "
        f"on_ambiguous_start='start' if two runs do no harm.{f' The first error was: {lost}' if lost else ''}"
    )

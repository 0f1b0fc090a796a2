"""The rules of starting a run: what a failed createRun means, and how a lost answer is settled.

createRun has no idempotency key that the service documents, so nothing here ever sends it a second time unless it is
proven that the first one did nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from airflow_adf_mi.adf.calls import create_run, get_run
from airflow_adf_mi.adf.checks import check_parameters, check_pipeline_name
from airflow_adf_mi.adf.drive import Pause, Routine
from airflow_adf_mi.adf.errors import (
    AdfAmbiguousStartError,
    AdfAuthenticationError,
    AdfConfigurationError,
    AdfError,
    AdfNotFoundError,
    AdfRequestError,
    AdfThrottledError,
    AdfUnavailableError,
)
from airflow_adf_mi.adf.models import PipelineRun
from airflow_adf_mi.adf.recovery import Recovery
from airflow_adf_mi.adf.settings import FactoryRef
from airflow_adf_mi.adf.watch import backoff

log = logging.getLogger(__name__)

START_PATIENCE = 300.0
"""Seconds for which a start that provably did nothing (throttled, connection refused, no token) is tried again."""
SETTLE_TIME = 60.0
"""Seconds for which a lost answer's run is looked for. Above the client's read timeout, so that a request that the
service is still working on has time to show."""


class Verdict(Enum):
    """What a failed createRun means."""

    REFUSED = "refused"
    """The service or the identity endpoint said no. Nothing was started, and asking again would not help."""
    NOT_STARTED = "not started"
    """Nothing was started: the request never left, or was turned away for now. It may be sent again."""
    AMBIGUOUS = "ambiguous"
    """The run may or may not have been started. The request must not be sent again."""


def judge(error: AdfError) -> Verdict:
    """What `error`, in place of createRun's answer, means."""
    match error:
        case AdfAuthenticationError():
            # Tokens come before the request, and a 401 is an answer to it.
            return Verdict.NOT_STARTED if error.transient else Verdict.REFUSED
        case AdfThrottledError():
            return Verdict.NOT_STARTED
        case AdfUnavailableError():
            return Verdict.NOT_STARTED if error.never_sent else Verdict.AMBIGUOUS
        case AdfRequestError(status=409):
            # A conflict may be with the run of this very request.
            return Verdict.AMBIGUOUS
        case AdfRequestError() | AdfConfigurationError():
            return Verdict.REFUSED
        case _:
            return Verdict.AMBIGUOUS


@dataclass(frozen=True, kw_only=True)
class Start:
    """A start to be made. Raises `AdfConfigurationError` for what the service would refuse or misread."""

    factory: FactoryRef
    pipeline_name: str
    request_id: str
    """A GUID; travels as x-ms-client-request-id, and by it a run whose answer was lost may be found."""
    parameters: Mapping[str, Any] | None = None
    recovery: Recovery = Recovery()

    def __post_init__(self) -> None:
        check_pipeline_name(self.pipeline_name)
        check_parameters(self.parameters)
        if self.parameters and self.recovery.reference_pipeline_run_id is not None:
            raise AdfConfigurationError(
                "parameters and reference_pipeline_run_id are both given, but the parameters of a run that refers to "
                "another are taken from that other run. Remove one of them."
            )


def starting(
    start: Start,
    *,
    clock: Callable[[], float],
    jitter: Callable[[], float],
) -> Routine[str]:
    """Start the run, once: its run id.

    Raises `AdfAmbiguousStartError` when the answer was lost and the run can not be found; otherwise the `AdfError` of
    the refusal, or of the last try after `START_PATIENCE`.
    """
    until = clock() + START_PATIENCE
    failures = 0
    while True:
        answer = yield create_run(
            start.factory,
            start.pipeline_name,
            start.parameters,
            request_id=start.request_id,
            recovery=start.recovery,
        )
        if not isinstance(answer, AdfError):
            return str(answer)
        verdict = judge(answer)
        if verdict is Verdict.AMBIGUOUS:
            return (yield from _settling(start, answer, clock=clock, jitter=jitter))
        failures += 1
        pause = backoff(failures, getattr(answer, "retry_after", None), jitter())
        if verdict is Verdict.REFUSED or clock() + pause > until:
            raise answer
        log.warning("Nothing was started. Will send the start again in %.0f s. %s", pause, answer)
        yield Pause(pause)


def _settling(start: Start, lost: AdfError, *, clock: Callable[[], float], jitter: Callable[[], float]) -> Routine[str]:
    """Look for the run whose createRun answer was lost. Never starts one."""
    until = clock() + SETTLE_TIME
    looks = 0
    log.warning("The answer to the start was lost; looking for run %s. %s", start.request_id, lost)
    while True:
        seen = yield get_run(start.factory, start.request_id)
        if isinstance(seen, PipelineRun) and seen.pipeline_name.lower() == start.pipeline_name.lower():
            log.info("Run %s is there: the start had worked.", seen.run_id)
            return seen.run_id
        looks += 1
        pause = backoff(looks, getattr(seen, "retry_after", None), jitter())
        if clock() + pause > until:
            raise AdfAmbiguousStartError(_ambiguous(start, lost, seen), request_id=start.request_id) from lost
        yield Pause(pause)


def _ambiguous(start: Start, lost: AdfError, seen: PipelineRun | AdfError) -> str:
    if isinstance(seen, AdfNotFoundError):
        found = f"the service shows no run {start.request_id}"
    elif isinstance(seen, PipelineRun):
        found = f"run {seen.run_id} is one of another pipeline, {seen.pipeline_name!r}"
    else:
        found = f"run {start.request_id} could not be looked up ({seen})"
    return (
        f"The start of pipeline {start.pipeline_name!r} in {start.factory} got no usable answer, and {found}. A run may or "
        "may not have been started, so none is started again. Look at the pipeline's runs of the last minutes in ADF "
        f"Studio: if there is none, clear this task. The first error was: {lost}"
    )

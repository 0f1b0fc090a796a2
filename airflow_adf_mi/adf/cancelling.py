"""Cancels a run, and repeats a cancel that was not accepted."""

from __future__ import annotations

import logging
from enum import StrEnum

from airflow_adf_mi.adf.api.operations import cancel_run
from airflow_adf_mi.adf.config.addresses import FactoryRef
from airflow_adf_mi.adf.errors import AdfError
from airflow_adf_mi.adf.retrying import backoff, may_pass
from airflow_adf_mi.adf.routines import Pause, Routine
from airflow_adf_mi.adf.timing import Timing

log = logging.getLogger(__name__)

CANCEL_PATIENCE_SECONDS = 60.0
"""Seconds for which a cancel that is not accepted (429, 5xx, dropped) is sent again."""


class Cancel(StrEnum):
    """The result of cancelling a run."""

    ACCEPTED = "was cancelled"
    TOO_LATE = "had already ended"
    PERHAPS = "has ended, perhaps by a cancel whose answer was lost"


def cancelling(
    factory: FactoryRef,
    run_id: str,
    *,
    timing: Timing,
    patience: float = CANCEL_PATIENCE_SECONDS,
) -> Routine[Cancel]:
    """Cancel the run and the runs that it started.

    For `patience` seconds, repeats a cancel that was not accepted. After that, raises the `AdfError`. For a lasting refusal,
    raises it at once.
    """
    until = timing.clock() + patience
    failures = 0
    while True:
        answer = yield cancel_run(factory, run_id)
        if not isinstance(answer, AdfError):
            over = Cancel.PERHAPS if failures else Cancel.TOO_LATE
            return Cancel.ACCEPTED if answer else over
        failures += 1
        pause = backoff(failures, getattr(answer, "retry_after", None), timing.jitter())
        if not may_pass(answer) or timing.clock() + pause > until:
            raise answer
        # The error names the run.
        log.warning("The cancel was not accepted and will be sent again in %.0f s.\n  %s", pause, answer)
        yield Pause(pause)

"""Checks the parameters of a start against the published pipeline, before createRun is sent.

The problem: the service drops a parameter that the pipeline does not declare, and then the run works on the wrong data and
succeeds. And a template always renders text, so a number reaches the service as text.

    definition          the values fit        the values do not fit
    ------------------  --------------------  -------------------------------------------
    read now            send, converted       raise `AdfConfigurationError`
    kept, at most 60 s  send, converted       read again, because it may have been published since
    cannot be read      send unchecked, with a line in the log: a check must never prevent a start that may be right
"""

from __future__ import annotations

import logging
from dataclasses import replace

from airflow_adf_mi.adf.config.addresses import FactoryRef
from airflow_adf_mi.adf.errors import AdfConfigurationError, AdfError
from airflow_adf_mi.adf.models import UNREADABLE
from airflow_adf_mi.adf.routines import Routine
from airflow_adf_mi.adf.starting.declared_parameters import (
    DeclaredParameter,
    Fitted,
    fit,
    listed_parameters,
    read_declared,
)
from airflow_adf_mi.adf.starting.pipeline_name import KEPT_SECONDS, forget_names, read_pipeline
from airflow_adf_mi.adf.starting.start import Start
from airflow_adf_mi.adf.timing import Timing

log = logging.getLogger(__name__)

_kept: dict[tuple[FactoryRef, str], tuple[float, tuple[DeclaredParameter, ...]]] = {}
"""Definitions, and the epoch seconds at which they were read."""


def fitted_to_pipeline(start: Start, *, timing: Timing) -> Routine[Start]:
    """The start with the values that the published pipeline wants. Raises `AdfConfigurationError` if they do not fit."""
    if not start.check_parameters or start.recovery.reference_pipeline_run_id is not None:
        # A run that refers to an earlier run takes its parameters from that run.
        return start
    place = start.factory, start.pipeline_name
    read_at, declared = _kept.get(place, (float("-inf"), ()))
    if timing.clock() - read_at < KEPT_SECONDS:
        fitted = fit(start.parameters or {}, declared, start.correlation_parameter)
        if not fitted.problems:
            return _sending(start, fitted)
    answer = yield from read_pipeline(*place, timing=timing)
    try:
        if isinstance(answer, AdfError):
            raise answer
        declared = read_declared(answer)
    except (AdfError, *UNREADABLE) as e:
        _kept.pop(place, None)
        log.info("The parameters were not checked, because pipeline %r could not be read. %s", start.pipeline_name, e)
        return start
    for old in [known for known, (at, _) in _kept.items() if timing.clock() - at >= KEPT_SECONDS]:
        del _kept[old]
    _kept[place] = (timing.clock(), declared)
    fitted = fit(start.parameters or {}, declared, start.correlation_parameter)
    if fitted.problems:
        raise does_not_fit(start, declared, fitted)
    return _sending(start, fitted)


def does_not_fit(start: Start, declared: tuple[DeclaredParameter, ...], fitted: Fitted) -> AdfConfigurationError:
    """The error of parameters that do not fit the published pipeline."""
    return AdfConfigurationError(
        f"The parameters do not fit pipeline {start.pipeline_name!r} in {start.factory}, so nothing was started. "
        f"{' '.join(fitted.problems)} The published pipeline declares: {listed_parameters(declared)}. Correct the "
        "parameters, or publish the pipeline. check_parameters=False sends the parameters as they are."
    )


def forget_definitions() -> None:
    """Forget the definitions that this process keeps."""
    _kept.clear()
    forget_names()


def _sending(start: Start, fitted: Fitted) -> Start:
    for given, declared in fitted.respelled:
        log.info("Parameter %r is sent as %r, as the pipeline declares it.", given, declared)
    if fitted.converted:
        log.info("Sent in the type that the pipeline declares: %s.", ", ".join(fitted.converted))
    return replace(start, fitted=fitted)

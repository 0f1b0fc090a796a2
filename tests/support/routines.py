"""Runs routines on a virtual clock, with scripted answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

from airflow_adf_mi.adf.api.operations import Call
from airflow_adf_mi.adf.config.addresses import FactoryRef
from airflow_adf_mi.adf.errors import (
    AdfAuthenticationError,
    AdfCertificateError,
    AdfNotFoundError,
    AdfPermissionError,
    AdfRequestError,
    AdfThrottledError,
    AdfUnavailableError,
)
from airflow_adf_mi.adf.models import PipelineRun
from airflow_adf_mi.adf.routines import Pause, Routine, ServiceTime, Step, Write
from airflow_adf_mi.adf.starting.journal import NoJournal

FACTORY = FactoryRef(subscription_id="s", resource_group_name="rg", factory_name="adf")


FAULTS = [
    AdfThrottledError("429", status=429, retry_after=7),
    AdfUnavailableError("503", status=503),
    AdfUnavailableError("dropped"),
    AdfAuthenticationError("the endpoint is down", transient=True),
    AdfUnavailableError("a gateway's 502", status=502, is_foreign=True),
    AdfUnavailableError("a gateway's 408", status=408, is_foreign=True),
]


REFUSALS = [
    AdfNotFoundError("404", status=404),
    AdfPermissionError("403", status=403),
    AdfRequestError("409", status=409),
    AdfAuthenticationError("401", refused_token=True),
    AdfCertificateError("not trusted"),
    AdfUnavailableError("a web filter's 403", status=403, is_foreign=True),
    AdfUnavailableError("redirected", status=307),
]


def run(status: str) -> PipelineRun:
    return PipelineRun.from_wire({"runId": "r1", "pipelineName": "Load", "status": status})


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def answer_of(step: Step, clock: Clock) -> Any:
    """The result of a step that sends no request, with a journal that stores nothing."""
    match step:
        case Pause():
            clock.now += step.seconds
        case ServiceTime():
            return clock.now
        case Write():
            return step.act(NoJournal())
    return None


def play(routine: Routine[Any], clock: Clock, answers: Iterator[Any]) -> tuple[Any, list[str]]:
    """Run a routine on a virtual clock; its result, and the methods it called.

    There is no definition of a pipeline. A request for one has no scripted answer.
    """
    called: list[str] = []
    answer = None
    while True:
        try:
            step = routine.send(answer)
        except StopIteration as end:
            return end.value, called
        if isinstance(step, Call) and (step.group, step.method) == ("pipelines", "get"):
            answer = AdfNotFoundError("404", status=404)
        elif isinstance(step, Call):
            called.append(step.method)
            answer = next(answers)
        else:
            answer = answer_of(step, clock)


UNREADABLE = AdfUnavailableError("could not be read", status=200, unreadable=True)


answers = st.one_of(
    st.sampled_from(["Queued", "InProgress", "Canceling", "Succeeded", "Failed", "Cancelled", "Odd"]).map(run),
    st.sampled_from([*FAULTS, *REFUSALS, UNREADABLE]),
)

"""Runs a routine: a generator that decides which request to send and when to pause, and does neither itself.

Each of our procedures (starting, waiting, cancelling) is written once, as a generator. It yields a step and gets the step's
result. For a request that failed, the result is the `AdfError`. The two functions below send the requests and pause: one
blocks, for workers; the other runs on an event loop, for the triggerer.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, TypeVar

from airflow_adf_mi.adf.api.operations import Call
from airflow_adf_mi.adf.errors import AdfError

T = TypeVar("T")


@dataclass(frozen=True)
class Pause:
    """Wait this many seconds before the next step."""

    seconds: float


@dataclass(frozen=True)
class Authenticate:
    """Get a token, so that the next request can be sent at once. The result is None, or the `AdfError`."""


@dataclass(frozen=True)
class ServiceTime:
    """Get the time in epoch seconds: by the service's clock, as its last answer shows it. Before any answer: by our clock."""


@dataclass(frozen=True)
class Write:
    """Call the journal. `act` gets the journal that the routine runs with, or None. An error that `act` raises ends the
    routine.
    """

    act: Callable[[Any], Any]


Step: TypeAlias = Call[Any] | Pause | Authenticate | ServiceTime | Write
Routine: TypeAlias = Generator[Step, Any, T]


class Sends(Protocol):
    def send(self, call: Call[Any]) -> Any: ...
    def authenticate(self) -> object: ...
    def service_time(self) -> float: ...


class SendsAsync(Protocol):
    def send(self, call: Call[Any]) -> Awaitable[Any]: ...
    def authenticate(self) -> Awaitable[object]: ...
    def service_time(self) -> float: ...


def run_routine(routine: Routine[T], client: Sends, pause: Callable[[float], object], journal: object = None) -> T:
    """Run `routine` to its end, blocking. An error that `pause` or the journal raises ends the routine."""
    answer: Any = None
    while True:
        try:
            step = routine.send(answer)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]  # StopIteration does not carry the generator's type
        match step:
            case Pause():
                answer = pause(step.seconds)
            case ServiceTime():
                answer = client.service_time()
            case Write():
                answer = step.act(journal)
            case _:
                try:
                    answer = client.authenticate() if isinstance(step, Authenticate) else client.send(step)
                except AdfError as e:
                    answer = e


async def run_routine_async(
    routine: Routine[T],
    client: SendsAsync,
    pause: Callable[[float], Awaitable[object]],
    journal: object = None,
) -> T:
    """Run `routine` to its end on the event loop."""
    answer: Any = None
    while True:
        try:
            step = routine.send(answer)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]  # as above
        match step:
            case Pause():
                answer = await pause(step.seconds)
            case ServiceTime():
                answer = client.service_time()
            case Write():
                answer = step.act(journal)
                if inspect.isawaitable(answer):
                    answer = await answer
            case _:
                try:
                    answer = await (client.authenticate() if isinstance(step, Authenticate) else client.send(step))
                except AdfError as e:
                    answer = e

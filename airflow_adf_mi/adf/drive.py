"""Runs a routine: a generator that decides what to ask and when to pause, without doing either.

Each of our procedures (starting, waiting, cancelling) is written once, as a generator that yields a `Call` or a `Pause`
and is sent the answer, or the `AdfError` that came instead of one. The two drivers below do the asking and the
sleeping, blocking or on an event loop.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, TypeVar

from airflow_adf_mi.adf.calls import Call
from airflow_adf_mi.adf.errors import AdfError

T = TypeVar("T")


@dataclass(frozen=True)
class Pause:
    """Wait this many seconds before the next step."""

    seconds: float


Routine: TypeAlias = Generator[Call[Any] | Pause, Any, T]


class Sends(Protocol):
    def send(self, call: Call[Any]) -> Any: ...


class SendsAsync(Protocol):
    def send(self, call: Call[Any]) -> Awaitable[Any]: ...


def drive(routine: Routine[T], client: Sends, pause: Callable[[float], object]) -> T:
    """Run `routine` to its end, blocking. What `pause` raises ends it."""
    answer: Any = None
    while True:
        try:
            step = routine.send(answer)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]  # StopIteration does not carry the generator's type
        if isinstance(step, Pause):
            pause(step.seconds)
            answer = None
        else:
            try:
                answer = client.send(step)
            except AdfError as e:
                answer = e


async def drive_async(routine: Routine[T], client: SendsAsync, pause: Callable[[float], Awaitable[object]]) -> T:
    """Run `routine` to its end on the event loop."""
    answer: Any = None
    while True:
        try:
            step = routine.send(answer)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]  # as above
        if isinstance(step, Pause):
            await pause(step.seconds)
            answer = None
        else:
            try:
                answer = await client.send(step)
            except AdfError as e:
                answer = e

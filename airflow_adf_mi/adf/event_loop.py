"""What the triggers of one event loop share: values that live as long as the loop, and tasks that belong to no trigger.

Airflow may cancel a trigger at any time. Airflow also assigns the log lines of a trigger's context to that trigger. So work
that several triggers wait for runs in a task and a context of its own.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")


class PerLoop(Generic[T]):
    """One value for each event loop. The value is dropped together with its loop.

    :param make: makes the value of a loop that has none.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._values: WeakKeyDictionary[asyncio.AbstractEventLoop, T] = WeakKeyDictionary()

    def here(self) -> T:
        """The value of the running loop."""
        loop = asyncio.get_running_loop()
        if loop not in self._values:
            self._values[loop] = self._make()
        return self._values[loop]

    def clear(self) -> None:
        """Forget the values of all loops."""
        self._values.clear()


def start_detached(coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Begin a task in a context of its own. The task may outlive the caller, and does not log as the caller."""
    return asyncio.get_running_loop().create_task(coroutine, context=contextvars.Context())


def mark_seen(task: asyncio.Task[Any]) -> None:
    """Mark the error of a finished task as seen, if it has one, because asyncio complains about errors that nobody has read.

    A caller that awaits the task gets the error all the same.
    """
    if not task.cancelled():
        task.exception()

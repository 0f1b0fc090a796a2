"""Through what the starts of a triggerer leave: at the bucket that the service bears, and few at a time."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

from airflow_adf_mi.adf.api.operations import Call
from airflow_adf_mi.adf.config.settings import AdfSettings, FactoryRef
from airflow_adf_mi.adf.errors import AdfThrottledError
from airflow_adf_mi.adf.event_loop import PerLoop
from airflow_adf_mi.adf.starting.rate_limit import TokenBucket

if TYPE_CHECKING:
    from airflow_adf_mi.adf.api.client import AsyncAdfClient

Pause: TypeAlias = Callable[[float], Awaitable[None]]

STARTS_AT_ONCE = 20
"""Starts that may be between their first question to Airflow and the service's answer. Airflow answers a triggerer one question
at a time: of hundreds, those that it holds up would all leave together in the end, and be out of date by then."""


class StartClient:
    """A client for one start.

    It remembers for how long the service has asked to wait with starts. It gives its place away once createRun is answered, and
    when it rests: to look for what an earlier start has become may take minutes, and must not hold up the others. Before it
    sends another, it waits for its turn again.
    """

    def __init__(self, client: AsyncAdfClient, bucket: TokenBucket, slots: asyncio.Semaphore, pause: Pause) -> None:
        self._client = client
        self._bucket = bucket
        self._slots = slots
        self._pause = pause
        self._has_slot = False
        self.service_time = client.service_time

    async def authenticate(self) -> None:
        """Have a place, and a token, so that a start may leave at once."""
        if not self._has_slot:
            await self.enter()
        await self._client.authenticate()

    async def send(self, call: Call[Any]) -> Any:
        if call.method != "create_run":
            return await self._client.send(call)
        try:
            return await self._client.send(call)
        except AdfThrottledError as e:
            self._bucket.hold(time.time() + (e.retry_after or 0))
            raise
        finally:
            self.leave()

    async def enter(self) -> None:
        """Wait until one more start may leave."""
        await self._slots.acquire()
        self._has_slot = True
        await self._pause(self._bucket.reserve(time.time()))
        while held := self._bucket.held(time.time()):
            await self._pause(held + random.random())  # noqa: S311  spreads, and hides nothing

    async def rest(self, seconds: float) -> None:
        """Pause, without a place."""
        self.leave()
        await self._pause(seconds)

    def leave(self) -> None:
        """Let the next start come."""
        if self._has_slot:
            self._has_slot = False
            self._slots.release()


class StartQueue:
    """One for all that an identity starts in a subscription, since the service's limit is."""

    def __init__(self) -> None:
        self._bucket = TokenBucket()
        self._slots = asyncio.Semaphore(STARTS_AT_ONCE)

    @asynccontextmanager
    async def turn(self, client: AsyncAdfClient, pause: Pause) -> AsyncIterator[StartClient]:
        """Wait until one more start may leave. `pause` rests for some seconds; what it raises ends the wait."""
        starting = StartClient(client, self._bucket, self._slots, pause)
        try:
            await starting.enter()
            yield starting
        finally:
            starting.leave()


_queues = PerLoop(dict[Hashable, StartQueue])


def start_queue_for(adf: AdfSettings, factory: FactoryRef) -> StartQueue:
    """The event loop's outlet for the identity of `adf` and the subscription of `factory`."""
    return _queues.here().setdefault((adf.identity, adf.arm_endpoint, factory.subscription_id), StartQueue())

"""Limits how fast a triggerer sends createRun: a token bucket, and at most 20 starts in flight."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

from airflow_adf_mi.adf.api.operations import Call
from airflow_adf_mi.adf.config.addresses import FactoryRef
from airflow_adf_mi.adf.config.settings import AdfSettings
from airflow_adf_mi.adf.errors import AdfQueueFullError, AdfThrottledError
from airflow_adf_mi.adf.event_loop import PerLoop
from airflow_adf_mi.adf.starting.rate_limit import TokenBucket

if TYPE_CHECKING:
    from airflow_adf_mi.adf.api.client import AsyncAdfClient

PauseFunction: TypeAlias = Callable[[float], Awaitable[None]]

STARTS_AT_ONCE = 20
"""Starts that may be in flight, from their first question to Airflow to the service's answer. Airflow answers a triggerer one
question at a time. Without this limit, hundreds of starts would wait for Airflow, and would all be sent at once, with outdated
answers."""


class StartClient:
    """A client for one start.

    It records for how long the service has asked to wait with starts. It gives up its slot (one of `STARTS_AT_ONCE`) as soon as
    createRun is answered, and whenever it pauses. To resolve a lost start may take minutes, and must not delay other starts.
    Before it sends another createRun, it waits for a slot again.
    """

    def __init__(
        self, client: AsyncAdfClient, bucket: TokenBucket, slots: asyncio.Semaphore, pause: PauseFunction
    ) -> None:
        self._client = client
        self._bucket = bucket
        self._slots = slots
        self._pause = pause
        self._has_slot = False
        self.service_time = client.service_time

    async def authenticate(self) -> None:
        """Get a slot and a token, so that createRun can be sent at once."""
        if not self._has_slot:
            await self.enter()
        await self._client.authenticate()

    async def send(self, call: Call[Any]) -> Any:
        if call.method != "create_run":
            return await self._client.send(call)
        try:
            return await self._client.send(call)
        except AdfQueueFullError:
            # The queue of one pipeline is no limit of the others.
            raise
        except AdfThrottledError as e:
            self._bucket.hold(time.time() + (e.retry_after or 0))
            raise
        finally:
            self.leave()

    async def enter(self) -> None:
        """Wait until one more start may be sent."""
        await self._slots.acquire()
        self._has_slot = True
        await self._pause(self._bucket.reserve(time.time()))
        while held := self._bucket.held(time.time()):
            await self._pause(held + random.random())  # noqa: S311  only spreads requests in time

    async def rest(self, seconds: float) -> None:
        """Pause, without keeping the slot."""
        self.leave()
        await self._pause(seconds)

    def leave(self) -> None:
        """Give up the slot, so that the next start can be sent."""
        if self._has_slot:
            self._has_slot = False
            self._slots.release()


class StartQueue:
    """The queue of all starts that one identity sends to one subscription. The service's limit counts these starts together."""

    def __init__(self) -> None:
        self._bucket = TokenBucket()
        self._slots = asyncio.Semaphore(STARTS_AT_ONCE)

    @asynccontextmanager
    async def turn(self, client: AsyncAdfClient, pause: PauseFunction) -> AsyncIterator[StartClient]:
        """Wait until one more start may be sent.

        :param pause: waits for some seconds. An error that it raises ends the wait.
        """
        starting = StartClient(client, self._bucket, self._slots, pause)
        try:
            await starting.enter()
            yield starting
        finally:
            starting.leave()


_queues = PerLoop(dict[Hashable, StartQueue])


def start_queue_for(adf: AdfSettings, factory: FactoryRef) -> StartQueue:
    """The event loop's queue for the identity of `adf` and the subscription of `factory`."""
    return _queues.here().setdefault((adf.identity, adf.arm_endpoint, factory.subscription_id), StartQueue())

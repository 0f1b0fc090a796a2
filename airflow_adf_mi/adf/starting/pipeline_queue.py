"""Lets starts wait until the full queue of their pipeline has a place again: for all triggers of an event loop together.

All waits of a factory and a connection share one query in 10 s, which counts the queued runs of their pipelines. `turns` decides
who goes next. The queue begins with the first wait, and ends when no wait is left.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, field

from airflow_adf_mi.adf.api.client import AsyncAdfClient
from airflow_adf_mi.adf.api.shared_client import shared_client
from airflow_adf_mi.adf.config.addresses import FactoryRef
from airflow_adf_mi.adf.config.settings import AdfSettings
from airflow_adf_mi.adf.errors import AdfError
from airflow_adf_mi.adf.event_loop import PerLoop, start_detached
from airflow_adf_mi.adf.models import RunStatus
from airflow_adf_mi.adf.starting.run_list import RETENTION_SECONDS, having, list_runs
from airflow_adf_mi.adf.starting.turns import ROUND_SECONDS, Turns

log = logging.getLogger(__name__)


@dataclass
class FactoryQueue:
    """The starts that wait for pipelines of one factory."""

    adf: AdfSettings
    factory: FactoryRef
    _turns: dict[str, Turns] = field(default_factory=dict)
    _ready: dict[Hashable, asyncio.Future[None]] = field(default_factory=dict)
    _rounds: asyncio.Task[None] | None = None

    async def wait(self, pipeline_name: str, token: Hashable, refused_at: float, *, until: float) -> bool:
        """Wait until the start may be sent. False if `until`, in epoch seconds, comes first.

        :param token: identifies the start. A start that is refused again has the same token.
        :param refused_at: epoch seconds at which the start was refused first.
        """
        now = time.time()
        turns = self._turns.setdefault(pipeline_name.lower(), Turns())
        turns.add(token, refused_at, now=now)
        ready = self._ready[token] = asyncio.get_running_loop().create_future()
        if self._rounds is None or self._rounds.done():
            self._rounds = start_detached(self._go_rounds())
            self._rounds.add_done_callback(self._pass_on)
        log.info(
            "The queue of pipeline %r in %s is full. %d start(s) wait for a place here.",
            pipeline_name,
            self.factory,
            len(turns),
        )
        try:
            async with asyncio.timeout(max(0.0, until - now)):
                await ready
        except TimeoutError:
            return False
        finally:
            turns.remove(token)
            self._ready.pop(token, None)
            if not self._ready and self._rounds is not None:
                self._rounds.cancel()
                self._rounds = None
        return True

    def _pass_on(self, rounds: asyncio.Task[None]) -> None:
        """If the rounds have ended with an error, no start would ever get its turn. So each wait gets the error."""
        error = None if rounds.cancelled() else rounds.exception()
        for ready in self._ready.values():
            if error is not None and not ready.done():
                ready.set_exception(error)

    async def _go_rounds(self) -> None:
        async with shared_client(self.adf) as client:
            while True:
                await asyncio.sleep(ROUND_SECONDS)
                waiting = [name for name, turns in self._turns.items() if len(turns)]
                if not waiting:
                    continue
                queued = await self._queued(client, waiting)
                now = time.time()
                for name in waiting:
                    for token in self._turns[name].next(now, None if queued is None else queued[name]):
                        if not self._ready[token].done():
                            self._ready[token].set_result(None)

    async def _queued(self, client: AsyncAdfClient, names: list[str]) -> Counter[str] | None:
        """How many runs of each pipeline are queued; None if the list cannot be read."""
        now = client.service_time()
        call = list_runs(self.factory, now - RETENTION_SECONDS, now, having("Status", RunStatus.QUEUED))
        try:
            runs = await client.pages(call)
        except AdfError as e:
            log.info("The queued runs of %s could not be counted. %s", self.factory, e)
            return None
        return Counter(run.pipeline_name.lower() for run in runs if run.pipeline_name.lower() in names)


_queues = PerLoop(dict[Hashable, FactoryQueue])


def queue_of(adf: AdfSettings, factory: FactoryRef) -> FactoryQueue:
    """The event loop's queue for the connection and the factory."""
    queues = _queues.here()
    return queues.setdefault((adf, factory), FactoryQueue(adf, factory))

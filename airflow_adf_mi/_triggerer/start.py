"""Starting a run in the triggerer: once, at a pace that the service bears, and through whatever happens to the triggerer."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from dataclasses import replace
from typing import Any

from airflow_adf_mi._triggerer.cancel_on_kill import begin_kill, cancel_now, hold
from airflow_adf_mi._triggerer.xcom_journal import CLEAR_OVERLAP_SECONDS, LATE, ChangedMeanwhile, TriggerJournal
from airflow_adf_mi.adf.api.operations import get_run
from airflow_adf_mi.adf.api.shared_client import shared_client
from airflow_adf_mi.adf.config.settings import AdfSettings, FactoryRef
from airflow_adf_mi.adf.errors import AdfAmbiguousStartError, AdfError, AdfTaskKilled
from airflow_adf_mi.adf.event_loop import mark_seen
from airflow_adf_mi.adf.models import PipelineRun
from airflow_adf_mi.adf.reporting.report import Report, address_of, raise_unless_ended
from airflow_adf_mi.adf.routines import run_routine_async
from airflow_adf_mi.adf.starting.create_run import Start, Started
from airflow_adf_mi.adf.starting.intent import Intent
from airflow_adf_mi.adf.starting.journal import Journal
from airflow_adf_mi.adf.starting.start_or_adopt import SUPERSEDED_CHECK_INTERVAL_SECONDS, StillActive, start_or_adopt
from airflow_adf_mi.adf.starting.start_queue import StartClient, start_queue_for
from airflow_adf_mi.adf.waiting.poller import wait_shared
from airflow_adf_mi.adf.waiting.single_run import Plan

log = logging.getLogger(__name__)

_honoured: set[FactoryRef] = set()
"""Factories that this process has seen to use our keys as run ids, so that "no such run" proves something there."""


class TriggererStart:
    """Starts a run, or goes on with one that was started before, in a task of its own that a kill can wait for.

    :param adf: the connection.
    :param start: what to start.
    :param journal: where it is written down.
    :param cancel_on_kill: cancel the run when the task is killed, and an obsolete one before a new one is started.
    :param supersede_timeout: seconds to wait for an obsolete run to end.
    :param check_interval: seconds between two status checks of it; at most `OBSOLETE_INTERVAL` is used.
    """

    def __init__(
        self,
        adf: AdfSettings,
        start: Start,
        journal: TriggerJournal,
        *,
        cancel_on_kill: bool,
        supersede_timeout: float,
        check_interval: float,
    ) -> None:
        self._start = replace(start, start_key=journal.place.start_key)
        self._adf = adf
        self._journal = journal
        self._cancel_on_kill = cancel_on_kill
        self._supersede_timeout = supersede_timeout
        self._check_interval = min(check_interval, SUPERSEDED_CHECK_INTERVAL_SECONDS)
        self._stopped = asyncio.Event()
        self._doing: asyncio.Task[Started] | None = None

    async def begin(self) -> Started:
        """The run that is there when this returns. Raises the errors of starting."""
        self._doing = hold(self._begin())
        return await asyncio.shield(self._doing)

    def kill(self, ti: Any) -> asyncio.Task[None]:
        """Start nothing more, and see to what has been started. Goes on whatever becomes of the caller."""
        self.stop()
        return hold(self._kill(ti))

    def stop(self) -> None:
        """Start nothing more."""
        self._stopped.set()
        self._journal.is_stopped = True
        if self._doing is not None and not self._journal.is_sending:
            self._doing.cancel()

    async def _kill(self, ti: Any) -> None:
        was_sending = self._journal.is_sending
        if self._doing is not None:
            await asyncio.wait([self._doing])
            # Whoever waited for it has been cancelled.
            mark_seen(self._doing)
        wanted = self._start.intent(self._journal.task_try)
        try:
            # This trigger may have come back, after its triggerer was lost, to a run that it had started.
            latest = self._journal.latest if self._journal.is_read else await self._journal.stored(wanted)
        except AdfError as e:
            address = address_of(self._adf, wanted)
            log.error(
                "Whether the killed task has a run could not be learnt. If so, it is %s %s", address.studio_url, e
            )
            return
        if latest is None:
            log.info("The task was killed before its run was started. Nothing was started.")
            return
        address = address_of(self._adf, latest)
        if was_sending and await self._is_replaced():
            # The task was cleared, and its next try began before this start had been written down.
            await cancel_now(self._adf, address, "the task was cleared, and its next try has a run of its own")
            return
        await begin_kill(ti, self._adf, address, cancel=self._cancel_on_kill)

    async def _is_replaced(self) -> bool:
        try:
            return await self._journal.is_taken()
        except AdfError as e:
            log.warning("Whether the next try has a run of its own could not be learnt. %s", e)
            return False

    async def _begin(self) -> Started:
        outlet = start_queue_for(self._adf, self._start.factory)
        async with shared_client(self._adf) as client:
            # Airflow starts the next try of a cleared task before it stops the one before, which may be about to start.
            await self._pause(CLEAR_OVERLAP_SECONDS if self._journal.task_try.try_number > 1 else 0)
            ambiguous: AdfAmbiguousStartError | None = None
            while True:
                try:
                    async with outlet.turn(client, self._pause) as starting:
                        begun = await self._begin_with(starting)
                except ChangedMeanwhile:
                    log.info("Another triggerer has gone on with this task; going on from what it has written.")
                    continue
                except AdfAmbiguousStartError as e:
                    # What was no proof when the look began may be one by now. If not, only the first can tell what was lost.
                    if ambiguous is not None or self._start.factory not in _honoured:
                        raise ambiguous or e from None
                    ambiguous = e
                    continue
                if isinstance(begun, Started):
                    if begun.intent.service_uses_key:
                        _honoured.add(begun.intent.factory)
                    return begun
                await self._let_it_end(begun)

    async def _begin_with(self, client: StartClient) -> Started | StillActive:
        task_try = self._journal.task_try
        wanted = self._start.intent(task_try)
        stored = await self._journal.stored(wanted)
        if stored is None or not stored.task_try.is_try_of(task_try):
            # Whatever is written: if our key is a run's id, that run is ours.
            seen = await _seen(client, wanted)
            if seen is not None:
                stored = self._journal.latest = wanted.started(seen.run_id)
        start = self._start
        if stored is not None and stored.factory in _honoured:
            stored = replace(stored, service_uses_key=True)
            # It may have been sent so much later than it says: only then does it prove something that it is not known.
            start = replace(start, settle=start.settle + LATE)
        routine = start_or_adopt(
            start,
            stored,
            task_try,
            cancel_superseded=self._cancel_on_kill,
            clock=time.time,
            jitter=random.random,
        )
        journal: Journal = self._journal
        return await run_routine_async(routine, client, client.rest, journal)

    async def _let_it_end(self, begun: StillActive) -> None:
        address = address_of(self._adf, begun.intent)
        plan = Plan(check_interval=self._check_interval, deadline=time.time() + self._supersede_timeout)
        log.info("%s is %s; a new run is started once it is over.", address, begun.run.status)
        outcome = await wait_shared(self._adf, address.factory, address.run_id, plan)
        raise_unless_ended(Report(address=address, outcome=outcome), self._supersede_timeout)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopped.wait()
        except TimeoutError:
            return
        raise AdfTaskKilled("The task was killed.")


async def _seen(client: StartClient, wanted: Intent) -> PipelineRun | None:
    try:
        seen: PipelineRun = await client.send(get_run(wanted.factory, wanted.start_key))
    except AdfError:
        # Mostly 404. A look proves nothing by failing, and the rest goes by what is written.
        return None
    return seen

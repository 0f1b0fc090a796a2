"""Starts a run in the triggerer: at a pace that the service accepts, and only once, even if the triggerer is killed.

A triggerer can be killed at any moment, and the trigger then begins again in another process. A trigger can also be cancelled
while createRun is being sent, because a user has marked or cleared its task. And two triggerers can work on one task for some
seconds. In each case, a second run must not be started, and a started run must not be forgotten.

The rules:

- The intent is stored before createRun is sent. `xcom_journal` shows the steps, and what the next trigger does if the triggerer
  is killed between two steps.
- The start runs in an asyncio task of its own. If Airflow stops the trigger (`kill`) while nothing is being sent, the start ends
  at once. Otherwise `kill` waits for the answer, because only the answer shows which run must be cancelled.
- Before a start is sent, the service is asked for a run with the key of this try. If there is such a run, it is adopted.
- If a stored start was never answered, its run is searched for. The start is sent again in two cases only: it is proven that
  nothing was started, or the author of the Dag allowed it.

    run() begins --> pause (from try 2) ----> turn in the queue --> read the intent --> start_or_adopt --> Started
         |                                         ^                                        |
         | kill: stop, wait for the answer         |  the superseded run has ended          | StillActive
         v                                         +----------------------------------------+
    cancel the run if the task is over, or if another try has overwritten the stored start
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from airflow_adf_mi._triggerer.cancel_on_kill import begin_kill, cancel_now, hold
from airflow_adf_mi._triggerer.xcom_journal import CLEAR_OVERLAP_SECONDS, ChangedMeanwhile, TriggerJournal
from airflow_adf_mi.adf.api.operations import get_run
from airflow_adf_mi.adf.api.shared_client import shared_client
from airflow_adf_mi.adf.config.addresses import FactoryRef
from airflow_adf_mi.adf.config.settings import AdfSettings
from airflow_adf_mi.adf.errors import AdfAmbiguousStartError, AdfError, AdfQueueFullError, AdfTaskKilled
from airflow_adf_mi.adf.event_loop import mark_seen
from airflow_adf_mi.adf.models import PipelineRun
from airflow_adf_mi.adf.reporting.report import Report, queue_was_full, raise_if_too_late, raise_unless_ended
from airflow_adf_mi.adf.routines import run_routine_async
from airflow_adf_mi.adf.starting.intent import Intent, Phase
from airflow_adf_mi.adf.starting.journal import Journal
from airflow_adf_mi.adf.starting.pipeline_queue import queue_of
from airflow_adf_mi.adf.starting.start import Start
from airflow_adf_mi.adf.starting.start_or_adopt import start_or_adopt
from airflow_adf_mi.adf.starting.start_queue import StartClient, start_queue_for
from airflow_adf_mi.adf.starting.started import Skipped, Started, StillActive
from airflow_adf_mi.adf.starting.superseded_run import SUPERSEDED_CHECK_INTERVAL_SECONDS
from airflow_adf_mi.adf.timing import REAL_TIME
from airflow_adf_mi.adf.waiting.deadlines import Deadline
from airflow_adf_mi.adf.waiting.poller import wait_shared
from airflow_adf_mi.adf.waiting.single_run import Plan, in_words

log = logging.getLogger(__name__)

SEND_DELAY_SECONDS = 60.0
"""Assumed longest time in seconds between making an intent and sending its request. Airflow must store the intent in between.
Nothing enforces this time. If storing takes longer, `TriggerJournal.save` reads the intent once more before the request."""

_factories_using_keys: set[FactoryRef] = set()
"""Factories that have used our start keys as run ids while this process ran. In these factories, "no run with this id" proves
that nothing was started."""


class RunSkipped(Exception):
    """A run is already there, so that the task is skipped."""

    def __init__(self, skipped: Skipped) -> None:
        super().__init__(skipped.policy)
        self._skipped = skipped

    def to_json(self, adf: AdfSettings) -> dict[str, Any]:
        """What a worker needs to skip the task."""
        address = self._skipped.intent.address(adf)
        return {
            "run_id": address.run_id,
            "studio_url": address.studio_url,
            "reason": f"Skipped, because {self._skipped.policy}: {address} {in_words(self._skipped.run.status)}.",
        }


class TriggererStart:
    """Starts a run, or adopts a run that was started before, in an asyncio task of its own. So `kill` can wait for its end.

    :param adf: the connection.
    :param start: what to start.
    :param journal: where the intent is stored.
    :param cancel_on_kill: cancel the run when the task is killed, and a superseded run before a new run is started.
    :param supersede_timeout: seconds to wait for a superseded run to end.
    :param check_interval: seconds between two status checks of a superseded run. `SUPERSEDED_CHECK_INTERVAL_SECONDS` is the
        most that is used.
    :param began: when the try began, in epoch seconds. `timeout` counts from there while the try waits for a live run.
    :param deadline_from: returns the deadline of a wait from the moment at which it began, in epoch seconds.
    :param execution_deadline: the deadline that the task's `execution_timeout` sets, if the task has one. If a superseded run
        ends after this deadline, no new run is started.
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
        began: float,
        deadline_from: Callable[[float], Deadline],
        execution_deadline: Deadline | None = None,
    ) -> None:
        self._start = replace(start, start_key=journal.start_key)
        self._adf = adf
        self._journal = journal
        self._cancel_on_kill = cancel_on_kill
        self._supersede_timeout = supersede_timeout
        self._check_interval = min(check_interval, SUPERSEDED_CHECK_INTERVAL_SECONDS)
        self._began = began
        self._deadline_from = deadline_from
        self._execution_deadline = execution_deadline
        self._refused_at: float | None = None
        """When a full queue refused a start of this try first, in epoch seconds."""
        self._stopped = asyncio.Event()
        self._doing: asyncio.Task[Started] | None = None

    async def begin(self) -> Started:
        """Start or adopt this try's run, and return it. Raises the errors of starting."""
        self._doing = hold(self._begin())
        return await asyncio.shield(self._doing)

    def kill(self, ti: Any) -> asyncio.Task[None]:
        """Start nothing more, and handle the run that was started. The work continues even if the caller is cancelled."""
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
            # The caller of `begin` was cancelled, so nobody else reads the error of this asyncio task.
            mark_seen(self._doing)
        wanted = self._start.intent(self._journal.task_try)
        try:
            # If an earlier triggerer was lost, it may have started a run, and this trigger may not have read the journal yet.
            latest = self._journal.latest if self._journal.is_read else await self._journal.stored(wanted)
        except AdfTaskKilled as e:
            log.info("%s", e)
            return
        except AdfError as e:
            address = wanted.address(self._adf)
            log.error(
                "The task was killed, and it is not known whether it has a run. If a run is active, cancel it: %s %s",
                address.studio_url,
                e,
            )
            return
        if latest is None or latest.phase is Phase.PREPARED:
            log.info("The task was killed before its run was started. Nothing was started.")
            return
        address = latest.address(self._adf)
        if latest.is_foreign:
            log.info("%s continues, because this task only watches it.", address)
            return
        if was_sending and await self._is_replaced():
            # The task was cleared, and the next try wrote its own intent before it could read the intent of this try.
            why = "the task was cleared, and its next try has a run of its own"
            if self._cancel_on_kill:
                await cancel_now(self._adf, address, why)
            else:
                log.warning(
                    "%s continues, because of cancel_on_kill=False: %s. See %s", address, why, address.studio_url
                )
            return
        await begin_kill(ti, self._adf, address, cancel=self._cancel_on_kill)

    async def _is_replaced(self) -> bool:
        try:
            return await self._journal.is_replaced()
        except AdfError as e:
            log.warning("It is not known whether the next try has a run of its own. %s", e)
            return False

    async def _begin(self) -> Started:
        queue = start_queue_for(self._adf, self._start.factory)
        async with shared_client(self._adf) as client:
            # After a clear, Airflow starts the next try before it stops the previous try. The previous try may be about to start
            # a run, so the next try waits until the previous try is stopped.
            await self._pause(CLEAR_OVERLAP_SECONDS if self._journal.task_try.try_number > 1 else 0)
            ambiguous: AdfAmbiguousStartError | None = None
            while True:
                try:
                    async with queue.turn(client, self._pause) as starting:
                        begun = await self._begin_with(starting)
                except AdfQueueFullError as e:
                    await self._wait_for_turn(e)
                    continue
                except ChangedMeanwhile:
                    log.info("Another triggerer works on this task. Reading the stored intent again.")
                    continue
                except AdfAmbiguousStartError as e:
                    # During the search, another task may have proven that this factory uses our keys as run ids. Then search once
                    # more. If that search fails too, raise the first error, because it describes the lost answer.
                    if ambiguous is not None or self._start.factory not in _factories_using_keys:
                        raise ambiguous or e from None
                    ambiguous = e
                    continue
                if isinstance(begun, Skipped):
                    raise RunSkipped(begun)
                if isinstance(begun, Started):
                    if begun.intent.service_uses_key:
                        _factories_using_keys.add(begun.intent.factory)
                    return begun
                await self._wait_until_ended(begun)
                raise_if_too_late(self._execution_deadline, time.time(), begun.intent.address(self._adf))

    async def _begin_with(self, client: StartClient) -> Started | StillActive | Skipped:
        task_try = self._journal.task_try
        wanted = self._start.intent(task_try)
        stored = await self._journal.stored(wanted)
        is_own = stored is not None and stored.task_try.is_try_of(task_try)
        if stored is None or not is_own or stored.phase is Phase.PREPARED:
            # While this process was suspended, another triggerer may have started a run with the key of this try. This process
            # may then have overwritten the intent of that start. So ask the service for such a run.
            unsent = stored if stored is not None and is_own else wanted
            seen = await _seen(client, unsent)
            if seen is not None:
                stored = self._journal.latest = unsent.started(seen.run_id)
        if is_own and stored is not None and self._refused_at is None:
            self._refused_at = stored.first_refused_at
        start = replace(
            self._start,
            service_uses_key=self._start.factory in _factories_using_keys,
            first_refused_at=self._refused_at,
        )
        if stored is not None and stored.factory in _factories_using_keys:
            stored = replace(stored, service_uses_key=True)
        if stored is not None and stored.phase is Phase.SENDING:
            # createRun may have been sent up to SEND_DELAY_SECONDS after the intent was made. Before that time has passed, "no
            # run with this key" proves nothing. So the search lasts SEND_DELAY_SECONDS longer.
            start = replace(start, settle=start.settle + SEND_DELAY_SECONDS)
        routine = start_or_adopt(
            start,
            stored,
            task_try,
            cancel_superseded=self._cancel_on_kill,
            timing=REAL_TIME,
        )
        journal: Journal = self._journal
        return await run_routine_async(routine, client, client.rest, journal)

    async def _wait_for_turn(self, refusal: AdfQueueFullError) -> None:
        self._refused_at = self._refused_at or time.time()
        log.info("The task waits for a place in the queue of pipeline %r. %s", self._start.pipeline_name, refusal)
        queue, deadline = queue_of(self._adf, self._start.factory), self._deadline_from(self._refused_at)
        is_turn = await queue.wait(
            self._start.pipeline_name, self._journal.start_key, self._refused_at, until=deadline.at
        )
        if not is_turn:
            raise queue_was_full(self._start.pipeline_name, self._start.factory, deadline.reason) from refusal

    async def _wait_until_ended(self, begun: StillActive) -> None:
        address = begun.intent.address(self._adf)
        plan = Plan(check_interval=self._check_interval, deadline=time.time() + self._supersede_timeout)
        if begun.waits_for_any:
            # All waits of this try for runs that are already there end at one moment.
            deadline = self._deadline_from(self._began)
            plan = replace(plan, deadline=deadline.at, deadline_reason=deadline.reason)
        log.info("%s is %s. A new run starts when it has ended.", address, begun.run.status)
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
        # In most cases the run does not exist (404). Other errors prove nothing. In both cases the stored intent decides.
        return None
    return seen

"""Sends the requests that `poll_plan` decides on, for all waits of an event loop: one poller for each factory and connection.

A poller begins with the first wait for a run of its factory, and ends when no wait is left.

    a trigger                          the poller                          the service
    ---------------------------------  ----------------------------------  -------------
    wait_shared(run) -- add(wait) -->  asks `poll_plan` what to send
                                       sends up to 8 requests at a time -->  run, or list
         <-- wait.update(state) -----  gives each answer to its waits   <--
    logs changes in its own log
    at its deadline: poll_last()  -----------------------------------------> run
    remove(wait)

What can go wrong, and the rule for it:

- A trigger may be cancelled at any moment. So no request belongs to a trigger: the poller runs in an asyncio task and a context
  of its own, and a cancelled wait is only removed.
- Log lines of the poller would appear in the log of the Airflow task that came first. So each wait logs for itself, in
  `wait_shared`, what has changed.
- An outage concerns all waits, but each run is polled at its own time. So an error that concerns all runs is given to all waits
  at once, and each wait logs it once.
- A run may end between its last poll and the deadline. So a wait whose deadline has passed polls its run once more.

Airflow's own shared streams could share the requests as well. They are not used, because a wait has three more needs. A wait must
know the last state of its run, end at its own deadline, and log in its own task's context (docs/waiting.md).
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from airflow_adf_mi.adf.api.client import AsyncAdfClient
from airflow_adf_mi.adf.api.operations import get_run, query_runs
from airflow_adf_mi.adf.api.shared_client import shared_client
from airflow_adf_mi.adf.config.addresses import FactoryRef
from airflow_adf_mi.adf.config.settings import AdfSettings
from airflow_adf_mi.adf.errors import AdfError
from airflow_adf_mi.adf.event_loop import PerLoop, start_detached
from airflow_adf_mi.adf.models import PipelineRun, RunStatus
from airflow_adf_mi.adf.retrying import is_refusal
from airflow_adf_mi.adf.times import moment
from airflow_adf_mi.adf.waiting.late_run import LateWatch
from airflow_adf_mi.adf.waiting.poll_plan import PollPlan, PollRun, Sleep
from airflow_adf_mi.adf.waiting.run_list import ListQuery
from airflow_adf_mi.adf.waiting.single_run import Outcome, Plan, TimedOut, WaitState, log_changes, next_state

log = logging.getLogger(__name__)

clock = time.monotonic
"""The clock of the poll plan. A change of the machine's clock must neither delay requests nor send them early."""
POLLS_AT_ONCE = 8
"""Requests in flight at the same time."""
LAST_POLL_SECONDS = 5.0
"""The poll at a deadline may take at most this many seconds."""
LAST_POLLS_SECONDS = 60.0
"""If many waits have the same deadline, their polls at the deadline are queued. One of these polls, with its time in the queue,
may take at most this many seconds. The cancel that follows must come before Airflow's own timeout of the trigger."""
_ENDED = [{"operand": "Status", "operator": "In", "values": sorted(RunStatus.TERMINAL)}]


@dataclass(eq=False)
class Wait:
    """What one trigger waits for, and what is known of it."""

    run_id: str
    interval: float
    state: WaitState = field(default_factory=WaitState)
    outcome: Outcome | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def update(self, state: WaitState, outcome: Outcome | None) -> None:
        if outcome is not None or state != self.state:
            self.state, self.outcome = state, outcome or self.outcome
            self.changed.set()


class Poller:
    """Polls the runs of one factory for all their waits."""

    def __init__(self, client: AsyncAdfClient, factory: FactoryRef) -> None:
        self._client = client
        self._factory = factory
        self._poll_plan = PollPlan(jitter=random.random())  # noqa: S311  only spreads requests in time
        self._waits: dict[str, set[Wait]] = {}
        self._wake = asyncio.Event()
        self._requests: set[asyncio.Task[None]] = set()
        self._last_poll_slots = asyncio.Semaphore(POLLS_AT_ONCE)
        self._shared_error: AdfError | None = None

    def add(self, wait: Wait, not_ended_before: float | None) -> None:
        """Add the run of `wait` to the runs that are polled.

        :param not_ended_before: epoch seconds; the run is known not to have ended before this moment.
        """
        self._waits.setdefault(wait.run_id, set()).add(wait)
        known = None if not_ended_before is None else clock() - (time.time() - not_ended_before)
        self._poll_plan.add(wait.run_id, interval=wait.interval, not_ended_before=known, now=clock())
        if self._shared_error is not None:
            wait.update(replace(wait.state, error=self._shared_error), None)
        self._wake.set()

    def times(self) -> tuple[float, float]:
        """The epoch seconds by our clock, and by the service's clock as its last answer shows it."""
        return time.time(), self._client.service_time()

    def remove(self, wait: Wait) -> None:
        waits = self._waits.get(wait.run_id, set())
        waits.discard(wait)
        if not waits:
            self._waits.pop(wait.run_id, None)
            self._poll_plan.remove(wait.run_id)

    async def run(self) -> None:
        """Send requests until cancelled."""
        try:
            while True:
                self._wake.clear()
                service_now = self._client.service_time() if self._client.knows_service_time() else None
                action = self._poll_plan.next(clock(), service_now, self._client.remaining_reads())
                if isinstance(action, Sleep):
                    await self._sleep(action.seconds)
                    continue
                while len(self._requests) >= POLLS_AT_ONCE:
                    await asyncio.wait(self._requests, return_when=asyncio.FIRST_COMPLETED)
                request = asyncio.get_running_loop().create_task(
                    self._query_list(action) if isinstance(action, ListQuery) else self._poll(action)
                )
                self._requests.add(request)
                request.add_done_callback(self._on_answer)
        finally:
            for request in self._requests:
                request.cancel()

    async def _sleep(self, seconds: float) -> None:
        # A new wait, or an answer, may change which request comes next.
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return

    def _on_answer(self, request: asyncio.Task[None]) -> None:
        self._requests.discard(request)
        self._wake.set()
        if not request.cancelled() and (defect := request.exception()) is not None:
            log.error("Defect while polling runs of %s: %r", self._factory, defect)

    async def poll_last(self, wait: Wait, plan: Plan) -> Outcome:
        """The outcome of a wait whose deadline has passed. The run may have ended after its last poll, so it is polled once
        more.
        """
        late = TimedOut(run=wait.state.run, error=wait.state.error, deadline_reason=plan.deadline_reason)
        try:
            async with asyncio.timeout(LAST_POLLS_SECONDS), self._last_poll_slots, asyncio.timeout(LAST_POLL_SECONDS):
                seen = await self._get_run(wait.run_id)
        except TimeoutError:
            return late
        # `refused_since` is a moment of another clock, and it no longer matters whether a refusal lasts.
        _, outcome = next_state(replace(wait.state, refused_since=None), seen, time.time(), plan)
        return outcome or late

    async def _get_run(self, run_id: str) -> PipelineRun | AdfError:
        try:
            return await self._client.send(get_run(self._factory, run_id))
        except AdfError as e:
            return e

    async def _poll(self, action: PollRun) -> None:
        seen = await self._get_run(action.run_id)
        self._deliver(self._poll_plan.poll_answered(action, seen, clock()), action.run_id)

    async def _query_list(self, action: ListQuery) -> None:
        after, before = moment(action.after), moment(action.before)
        try:
            items = await self._client.pages(query_runs(self._factory, after, before, filters=_ENDED))
        except AdfError as e:
            log.warning("The query for ended runs of %s failed and will be repeated. %s", self._factory, e)
            self._deliver(self._poll_plan.list_failed(e, clock()))
        except BaseException:  # a defect, or the end of this poller
            self._poll_plan.list_query_lost(clock())
            raise
        else:
            self._deliver(self._poll_plan.list_answered(action, items, clock()))

    def _deliver(self, outcomes: dict[str, Outcome], also: str | None = None) -> None:
        """Give each outcome to the waits for its run.
        :param also: the id of one more run. Its waits get what is known of the run, even if it has no outcome yet.
        """
        self._share_error()
        for run_id in {*outcomes, *([also] if also is not None else [])}:
            if run_id in self._poll_plan:
                seen = self._poll_plan.state_of(run_id)
                if self._shared_error is not None and not (seen.run is not None and seen.run.is_terminal):
                    seen = replace(seen, error=self._shared_error)
                for wait in self._waits.get(run_id, ()):
                    wait.update(seen, outcomes.get(run_id))
            if run_id in outcomes:
                self._poll_plan.remove(run_id)

    def _share_error(self) -> None:
        """Give all waits the error when polls begin to fail or to be refused, and None when polls work again."""
        error = self._poll_plan.error
        before, after = (None if each is None else is_refusal(each) for each in (self._shared_error, error))
        if before == after:
            return
        self._shared_error = error
        for waits in self._waits.values():
            for wait in waits:
                wait.update(replace(wait.state, error=error), None)


@dataclass
class _Shared:
    poller: Poller
    running: asyncio.Task[None]
    users: int = 0


_pollers = PerLoop(dict[tuple[AdfSettings, FactoryRef], _Shared])


@asynccontextmanager
async def shared_poller(settings: AdfSettings, factory: FactoryRef) -> AsyncIterator[Poller]:
    """The running loop's poller of `factory` for `settings`. It begins with its first user and ends with its last."""
    pollers = _pollers.here()
    async with shared_client(settings) as client:
        shared = pollers.get((settings, factory))
        if shared is None:
            poller = Poller(client, factory)
            # Without a context of its own, the poller's log lines would appear in the log of the Airflow task that came first.
            shared = pollers[settings, factory] = _Shared(poller, start_detached(poller.run()))
        shared.users += 1
        try:
            yield shared.poller
        finally:
            shared.users -= 1
            if shared.users == 0:
                del pollers[settings, factory]
                shared.running.cancel()


async def wait_shared(
    settings: AdfSettings,
    factory: FactoryRef,
    run_id: str,
    plan: Plan,
    *,
    not_ended_before: float | None = None,
    late: LateWatch | None = None,
) -> Outcome:
    """Wait for a run together with all other waits of its factory. Logs changes in the caller's context.

    :param not_ended_before: epoch seconds; the run is known not to have ended before this moment. None: nothing is known, so
        the run is polled as soon as possible.
    :param late: notices that the run is late.
    """
    wait = Wait(run_id=run_id, interval=plan.check_interval)
    async with shared_poller(settings, factory) as poller:
        before = wait.state
        poller.add(wait, not_ended_before)
        try:
            while wait.outcome is None:
                left = None if plan.deadline is None else max(0.0, plan.deadline - time.time())
                check_in = None if late is None else late.seconds_left(wait.state.run, *poller.times())
                is_check_first = check_in is not None and (left is None or check_in < left)
                try:
                    async with asyncio.timeout(check_in if is_check_first else left):
                        await wait.changed.wait()
                except TimeoutError:
                    if not is_check_first:
                        raise
                wait.changed.clear()
                log_changes(run_id, before, wait.state)
                before = wait.state
                if late is not None and wait.outcome is None:
                    late.check(wait.state.run, *poller.times())
            return wait.outcome
        except TimeoutError:
            last = wait.outcome or await poller.poll_last(wait, plan)
            # Another wait's poll, or the list, may have shown the outcome during the last poll.
            return wait.outcome or last
        finally:
            poller.remove(wait)

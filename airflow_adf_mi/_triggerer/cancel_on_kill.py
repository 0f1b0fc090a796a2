"""Decides in a triggerer what happens to the run of a deferred task after Airflow has killed its trigger.

The run must be cancelled if a user has marked the task as failed or succeeded, and must be left alone in all other cases. Three
things make this hard. Airflow 3.3.2 calls `on_kill` not only after such a mark, but also after a clear, and when another
triggerer has taken the trigger over. Airflow interrupts `on_kill` after about a second. And if a user marks a whole Dag run,
hundreds of triggers are killed at once, while Airflow answers one request of a triggerer at a time.

The rules: ask Airflow for the task's state first, and cancel only if the task is over. Do the work in asyncio tasks to which this
module keeps references, so that the work continues after `on_kill` was interrupted. Ask once for all killed triggers of a Dag
run. Repeat a cancel that the service does not accept, for 10 minutes. Send at most 16 cancels at a time.

    on_kill --> wait 0.3 s for other kills --> GetTaskStates of the Dag run --> state
       |                                            ^         |                  |
       | interrupted after 1 s: nothing is lost     +---------+                  +-- failed, success, ...: cancel
                                               no answer: again, for 10 min      +-- deferred: leave the run alone
                                                                                 +-- none: leave the run alone

If the state is "deferred", another triggerer has taken the trigger over, or the task was cleared and is already deferred again.
If there is no state, the task was cleared. After a clear, the next try of a durable task ends the superseded run before it starts
another run (`adf/starting/start_or_adopt`). `start` handles a kill that comes while a run is being started.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
import time
from collections.abc import Coroutine, Mapping
from typing import Any, TypeAlias, TypeVar

from airflow_adf_mi._airflow.task_instance import OVER, state_of
from airflow_adf_mi.adf.api.operations import Call
from airflow_adf_mi.adf.api.shared_client import shared_client
from airflow_adf_mi.adf.cancelling import cancelling
from airflow_adf_mi.adf.config.addresses import RunAddress
from airflow_adf_mi.adf.config.settings import AdfSettings
from airflow_adf_mi.adf.errors import AdfError
from airflow_adf_mi.adf.event_loop import PerLoop, mark_seen, start_detached
from airflow_adf_mi.adf.retrying import backoff
from airflow_adf_mi.adf.routines import SendsAsync, run_routine_async
from airflow_adf_mi.adf.timing import REAL_TIME

T = TypeVar("T")
Question: TypeAlias = tuple[str, str, str | None]
"""Whose states are asked for: a Dag, a Dag run, and a task. None in place of the task: all tasks of the Dag run."""

log = logging.getLogger(__name__)

GATHER = 0.3
"""Seconds for which kills of one Dag run are gathered, so that Airflow is asked once for all of them."""
KILL_PATIENCE_SECONDS = 600.0
"""If Airflow does not answer, it is asked again for this many seconds. If a cancel is not accepted, it is sent again for as
long."""
KILLS_AT_ONCE = 16
"""At most this many cancels are sent at the same time. If hundreds of tasks are killed, their cancels must not use up the
service's limit in one burst."""


class _Kills:
    """The kills that are handled on one event loop."""

    def __init__(self) -> None:
        self.held: set[asyncio.Task[Any]] = set()
        self.asked: dict[Question, asyncio.Task[Mapping[str, Mapping[str, Any]]]] = {}
        self.pace = asyncio.Semaphore(KILLS_AT_ONCE)

    def hold(self, task: asyncio.Task[T]) -> asyncio.Task[T]:
        """Keep a reference to `task` until it is done. Otherwise Python may delete the task before it is done."""
        self.held.add(task)
        task.add_done_callback(self.held.discard)
        return task


_kills = PerLoop(_Kills)


def hold(coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Run `coroutine` in an asyncio task of its own, which continues if the caller is cancelled."""
    return _kills.here().hold(asyncio.get_running_loop().create_task(coroutine))


def begin_kill(ti: Any, settings: AdfSettings, address: RunAddress, *, cancel: bool) -> asyncio.Task[None]:
    """Cancel an owned run if its task is over; if `cancel` is False, only log that the run was left running.

    The work continues if the caller is cancelled.
    """
    return hold(_cancel_if_over(ti, settings, address, cancel=cancel))


async def _cancel_if_over(ti: Any, settings: AdfSettings, address: RunAddress, *, cancel: bool) -> None:
    try:
        state = await _state(ti)
    except Exception as e:  # noqa: BLE001  whatever Airflow fails with, a run that may continue must be reported
        log.error(
            "%s may continue, because Airflow did not report whether its task is over. "
            "If the task is over, cancel the run: %s %s",
            address,
            address.studio_url,
            e,
        )
        return
    if state not in OVER:
        # The task was cleared, or another triggerer has taken it over.
        log.info("%s continues, because its task is not over (state: %s).", address, state or "cleared")
        return
    if not cancel:
        log.warning("%s was left running, because of cancel_on_kill=False. See %s", address, address.studio_url)
        return
    await cancel_now(settings, address, f"the task was marked {state}")


async def cancel_now(settings: AdfSettings, address: RunAddress, why: str) -> None:
    """Cancel a run, and log it. A cancel that is not accepted is sent again for `KILL_PATIENCE_SECONDS`."""
    routine = cancelling(address.factory, address.run_id, timing=REAL_TIME, patience=KILL_PATIENCE_SECONDS)
    try:
        async with shared_client(settings) as client:
            cancel = await run_routine_async(routine, _Paced(client), asyncio.sleep)
    except AdfError as e:
        log.error("%s could not be cancelled (%s), and may continue. See %s %s", address, why, address.studio_url, e)
        return
    log.info("%s %s: %s.", address, cancel, why)


class _Paced:
    """A client for cancels. At most `KILLS_AT_ONCE` requests are in flight, and a cancel that pauses is not counted."""

    def __init__(self, client: SendsAsync) -> None:
        self._client = client
        self.authenticate = client.authenticate
        self.service_time = client.service_time

    async def send(self, call: Call[Any]) -> Any:
        async with _kills.here().pace:
            return await self._client.send(call)


async def _state(ti: Any) -> str | None:
    """Return the task's state. If Airflow does not answer, ask again for `KILL_PATIENCE_SECONDS`."""
    until = time.monotonic() + KILL_PATIENCE_SECONDS
    failures = 0
    while True:
        try:
            return state_of(await asyncio.shield(_states(ti)), ti)
        except Exception as e:
            failures += 1
            if time.monotonic() > until:
                raise
            pause = backoff(failures, None, random.random())  # noqa: S311  only spreads requests in time
            log.warning("Airflow did not report the state of task %s. Asking again in %.0f s. %s", ti.task_id, pause, e)
            await asyncio.sleep(pause)


def _states(ti: Any) -> asyncio.Task[Mapping[str, Mapping[str, Any]]]:
    """Ask for the states of a whole Dag run, once for all callers within `GATHER` seconds. Airflow answers one request at a time.

    In Airflow's answer, the task `it_1` and the instance 1 of a mapped task `it` have the same name. So for a task with such a
    name, ask for the state of this task only.
    """
    may_be_confused = ti.map_index >= 0 or re.search(r"_\d+$", ti.task_id) is not None
    kills, key = _kills.here(), (ti.dag_id, ti.run_id, ti.task_id if may_be_confused else None)
    if key not in kills.asked:
        kills.asked[key] = kills.hold(start_detached(_ask(kills, key)))
        # If nobody waits for the answer any longer, its error does not matter.
        kills.asked[key].add_done_callback(mark_seen)
    return kills.asked[key]


async def _ask(kills: _Kills, key: Question) -> Mapping[str, Mapping[str, Any]]:
    from airflow.sdk.execution_time.comms import GetTaskStates, TaskStatesResult
    from airflow.sdk.execution_time.task_runner import SUPERVISOR_COMMS

    await asyncio.sleep(GATHER)
    # Later callers ask again, because the state may change after this request.
    del kills.asked[key]
    answer = await SUPERVISOR_COMMS.asend(
        GetTaskStates(dag_id=key[0], run_ids=[key[1]], task_ids=None if key[2] is None else [key[2]])
    )
    if not isinstance(answer, TaskStatesResult):
        raise TypeError(f"Airflow answered {answer!r}")
    return answer.task_states

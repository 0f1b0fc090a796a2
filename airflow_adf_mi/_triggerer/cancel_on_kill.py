"""What a triggerer does about the run of a deferred task whose trigger Airflow has killed.

The run must be cancelled if a user has marked the task as failed or succeeded, and must be left alone in all other cases. Three
things make this hard. Airflow 3.3.2 calls `on_kill` not only after a mark, but also after a clear, and when another triggerer has
taken the trigger over. It interrupts `on_kill` after about a second. And a mark of a Dag run kills hundreds of triggers at once,
while Airflow answers a triggerer one question at a time.

The rules: ask Airflow for the task's state first, and cancel only if the task is over. Do the work in asyncio tasks that this
module holds, so that it continues after `on_kill` was interrupted. Ask once for all killed triggers of a Dag run. Send the
cancel again until the service accepts it, 16 at a time.

    on_kill --> wait 0.3 s for other kills --> GetTaskStates of the Dag run --> state
       |                                            ^         |                  |
       | interrupted after 1 s: nothing is lost     +---------+                  +-- failed, success, ...: cancel
                                               no answer: again, for 10 min      +-- deferred: taken over, or cleared
                                                                                 +-- none: the task was cleared

A clear is not handled here, because its next try may already be deferred: that try cancels the superseded run before it starts
another (`adf/starting/start_or_adopt`). A run that was being started when the kill came is handled by `start`.
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
from airflow_adf_mi.adf.api.shared_client import shared_client
from airflow_adf_mi.adf.cancelling import cancelling
from airflow_adf_mi.adf.config.addresses import RunAddress
from airflow_adf_mi.adf.config.settings import AdfSettings
from airflow_adf_mi.adf.errors import AdfError
from airflow_adf_mi.adf.event_loop import PerLoop, mark_seen, start_detached
from airflow_adf_mi.adf.retrying import backoff
from airflow_adf_mi.adf.routines import run_routine_async
from airflow_adf_mi.adf.timing import REAL_TIME

T = TypeVar("T")
Question: TypeAlias = tuple[str, str, str | None]
"""Dag, Dag run, and task, or None for all tasks."""

log = logging.getLogger(__name__)

GATHER = 0.3
"""Seconds for which kills of one Dag run are gathered, to ask one question for all of them."""
KILL_PATIENCE_SECONDS = 600.0
"""Seconds for which Airflow is asked again for a state, and for which a cancel that was not accepted is sent again."""
KILLS_AT_ONCE = 16
"""Cancels under way at the same time, so that a mass kill does not use up the service's limit in one burst."""


class _Kills:
    """The kills that one event loop works on."""

    def __init__(self) -> None:
        self.held: set[asyncio.Task[Any]] = set()
        self.asked: dict[Question, asyncio.Task[Mapping[str, Mapping[str, Any]]]] = {}
        self.pace = asyncio.Semaphore(KILLS_AT_ONCE)

    def hold(self, task: asyncio.Task[T]) -> asyncio.Task[T]:
        """Hold `task` until it is done, so that nobody else needs to."""
        self.held.add(task)
        task.add_done_callback(self.held.discard)
        return task


_kills = PerLoop(_Kills)


def hold(coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Run `coroutine` in an asyncio task of its own, which continues if the caller is cancelled."""
    return _kills.here().hold(asyncio.get_running_loop().create_task(coroutine))


def begin_kill(ti: Any, settings: AdfSettings, address: RunAddress, *, cancel: bool) -> asyncio.Task[None]:
    """Cancel an owned run if its task is over, or log that it was left running. Continues if the caller is cancelled."""
    return hold(_cancel_if_over(ti, settings, address, cancel=cancel))


async def _cancel_if_over(ti: Any, settings: AdfSettings, address: RunAddress, *, cancel: bool) -> None:
    try:
        state = await _state(ti)
    except Exception as e:  # noqa: BLE001  whatever Airflow fails with, a run that may continue must be reported
        log.error(
            "%s may continue: it is not known whether its task is over. See %s %s", address, address.studio_url, e
        )
        return
    if state not in OVER:
        # The task was cleared, or another triggerer has taken it over.
        log.info("%s continues: the task is %s, not over.", address, state or "cleared")
        return
    if not cancel:
        log.warning("%s was left running, because of cancel_on_kill=False. See %s", address, address.studio_url)
        return
    await cancel_now(settings, address, f"the task was marked {state}")


async def cancel_now(settings: AdfSettings, address: RunAddress, why: str) -> None:
    """Cancel a run, and log it. A cancel that is not accepted is sent again for `KILL_PATIENCE_SECONDS`."""
    routine = cancelling(address.factory, address.run_id, timing=REAL_TIME, patience=KILL_PATIENCE_SECONDS)
    try:
        async with _kills.here().pace, shared_client(settings) as client:
            cancel = await run_routine_async(routine, client, asyncio.sleep)
    except AdfError as e:
        log.error("%s could not be cancelled (%s), and may continue. See %s %s", address, why, address.studio_url, e)
        return
    log.info("%s %s: %s.", address, cancel, why)


async def _state(ti: Any) -> str | None:
    """The task's state. Airflow is asked again while it does not answer."""
    until = time.monotonic() + KILL_PATIENCE_SECONDS
    failures = 0
    while True:
        try:
            return state_of(await asyncio.shield(_states(ti)), ti)
        except Exception as e:
            failures += 1
            if time.monotonic() > until:
                raise
            pause = backoff(failures, None, random.random())  # noqa: S311  spreads, and hides nothing
            log.warning(
                "Airflow did not answer for the state of task %s. Will ask again in %.0f s. %s", ti.task_id, pause, e
            )
            await asyncio.sleep(pause)


def _states(ti: Any) -> asyncio.Task[Mapping[str, Mapping[str, Any]]]:
    """One question about a whole Dag run, for all callers within `GATHER` seconds, because Airflow answers one at a time.

    In its answer, the task `it_1` and the second instance of a mapped task `it` have the same name. So the question for such a
    task names the task.
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
    # Later callers ask again, because the state may have changed after this question.
    del kills.asked[key]
    answer = await SUPERVISOR_COMMS.asend(
        GetTaskStates(dag_id=key[0], run_ids=[key[1]], task_ids=None if key[2] is None else [key[2]])
    )
    if not isinstance(answer, TaskStatesResult):
        raise TypeError(f"Airflow answered {answer!r}")
    return answer.task_states

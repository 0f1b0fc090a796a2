"""What a triggerer does about the run of a deferred task whose trigger Airflow has killed.

Airflow 3.3.2 calls a trigger's on_kill when its task was marked, but also when the task was cleared or another triggerer
took the trigger over; and it interrupts on_kill after about a second. So the work is done by tasks that this module
holds, which ask for the task's state first, all of a Dag run's at once, and go on until the service has accepted.
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
from airflow_adf_mi.adf.config.settings import AdfSettings
from airflow_adf_mi.adf.errors import AdfError
from airflow_adf_mi.adf.event_loop import PerLoop, mark_seen, start_detached
from airflow_adf_mi.adf.reporting.report import RunAddress
from airflow_adf_mi.adf.retrying import backoff
from airflow_adf_mi.adf.routines import run_routine_async

T = TypeVar("T")
Question: TypeAlias = tuple[str, str, str | None]
"""Dag, Dag run, and task, or None for all tasks."""

log = logging.getLogger(__name__)

GATHER = 0.3
"""Seconds for which kills of a Dag run are gathered, to be asked about at once."""
KILL_PATIENCE_SECONDS = 600.0
"""Seconds for which a state that cannot be learnt is asked for again, and a cancel that is not accepted sent again."""
KILLS_AT_ONCE = 16
"""Cancels under way at the same time, so that a mass kill does not use up the service's limit in one burst."""


class _Kills:
    """What one event loop has under way."""

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
    """Run `coroutine` in a task of its own, which goes on whatever becomes of the caller."""
    return _kills.here().hold(asyncio.get_running_loop().create_task(coroutine))


def begin_kill(ti: Any, settings: AdfSettings, address: RunAddress, *, cancel: bool) -> asyncio.Task[None]:
    """Cancel an owned run if its task is over, or say that it was left running. Goes on whatever becomes of the caller."""
    return hold(_cancel_if_over(ti, settings, address, cancel=cancel))


async def _cancel_if_over(ti: Any, settings: AdfSettings, address: RunAddress, *, cancel: bool) -> None:
    try:
        state = await _state(ti)
    except Exception as e:  # noqa: BLE001  whatever Airflow fails with, a run that may go on must be told of
        log.error(
            "%s may go on: whether its task is over could not be learnt. See %s %s", address, address.studio_url, e
        )
        return
    if state not in OVER:
        # It was cleared, or another triggerer has taken it over.
        log.info("%s goes on: the task is %s, not over.", address, state or "cleared")
        return
    if not cancel:
        log.warning("%s was left running, as cancel_on_kill=False says. See %s", address, address.studio_url)
        return
    await cancel_now(settings, address, f"the task was marked {state}")


async def cancel_now(settings: AdfSettings, address: RunAddress, why: str) -> None:
    """Cancel a run and say so; what is not accepted is sent again for `PATIENCE` seconds."""
    routine = cancelling(
        address.factory, address.run_id, clock=time.time, jitter=random.random, patience=KILL_PATIENCE_SECONDS
    )
    try:
        async with _kills.here().pace, shared_client(settings) as client:
            cancel = await run_routine_async(routine, client, asyncio.sleep)
    except AdfError as e:
        log.error("%s could not be cancelled (%s), and may go on. See %s %s", address, why, address.studio_url, e)
        return
    log.info("%s %s: %s.", address, cancel, why)


async def _state(ti: Any) -> str | None:
    """The task's state; while Airflow does not tell, asked for again."""
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
            log.warning("The state of task %s could not be learnt. Will ask again in %.0f s. %s", ti.task_id, pause, e)
            await asyncio.sleep(pause)


def _states(ti: Any) -> asyncio.Task[Mapping[str, Mapping[str, Any]]]:
    """One question about a whole Dag run, for all that ask within `GATHER` seconds: Airflow answers one at a time.

    In its answer, the task `it_1` and the second instance of a mapped task `it` have the same name: those are asked about by
    their task.
    """
    may_be_confused = ti.map_index >= 0 or re.search(r"_\d+$", ti.task_id) is not None
    kills, key = _kills.here(), (ti.dag_id, ti.run_id, ti.task_id if may_be_confused else None)
    if key not in kills.asked:
        kills.asked[key] = kills.hold(start_detached(_ask(kills, key)))
        # If nobody waits for the answer any more, its error is of no interest.
        kills.asked[key].add_done_callback(mark_seen)
    return kills.asked[key]


async def _ask(kills: _Kills, key: Question) -> Mapping[str, Mapping[str, Any]]:
    from airflow.sdk.execution_time.comms import GetTaskStates, TaskStatesResult
    from airflow.sdk.execution_time.task_runner import SUPERVISOR_COMMS

    await asyncio.sleep(GATHER)
    # Whoever comes from now on asks anew: the state may have changed since this question.
    del kills.asked[key]
    answer = await SUPERVISOR_COMMS.asend(
        GetTaskStates(dag_id=key[0], run_ids=[key[1]], task_ids=None if key[2] is None else [key[2]])
    )
    if not isinstance(answer, TaskStatesResult):
        raise TypeError(f"Airflow answered {answer!r}")
    return answer.task_states

"""Finds out in a triggerer whether the task of a trigger was cleared. Such a trigger rests.

The problem: a user may clear a deferred task together with its upstream tasks. The task then has no state until the upstream
tasks have run again. Airflow 3.1 to 3.3 keep its trigger for all that time. If the trigger fires, Airflow drops the event, and
builds the trigger again a second later. So the trigger of a cleared task must not start a run, because its upstream tasks have
not run again. It must not record for the next try that its try failed, because that record would make the clear a retry. And it
must not fire every second.

The rules: a trigger asks for the state of its task in three cases. If the task has no state, the trigger waits until Airflow ends
it. Airflow ends it when the next try begins, or when the task is over because an upstream task has failed (`cancel_on_kill`).

    the trigger ...                                                        asks
    ---------------------------------------------------------------------  ----------------------------------------
    was built again, after it had fired in this process                    before it does anything
    is about to send a start                                               if its try began `ASK_AFTER_SECONDS` ago
    is about to record that its try failed                                 always

Airflow answers one request of a triggerer at a time. So one question is asked for all triggers of a task that ask within
`GATHER` seconds. If Airflow does not answer, the trigger continues.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, TypeAlias

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_adf_mi._airflow.task_instance import has_no_state
from airflow_adf_mi._airflow.xcoms import patiently
from airflow_adf_mi._triggerer.cancel_on_kill import GATHER
from airflow_adf_mi.adf.errors import AdfError
from airflow_adf_mi.adf.event_loop import PerLoop, mark_seen, start_detached

log = logging.getLogger(__name__)

States: TypeAlias = Mapping[str, Mapping[str, Any]]
"""Airflow's answer: the states of tasks, by Dag run."""
ASK_AFTER_SECONDS = 30.0
"""A start is sent without a question if its try began less than this many seconds ago. Most starts are."""
MOST_RUNS_ASKED = 100
"""At most this many Dag runs are named in one question, because their ids are a part of its URL."""
MOST_FIRED = 10_000
"""At most this many triggers that have fired are remembered. Airflow builds a trigger again within seconds."""


class TaskCleared(Exception):
    """The task of a trigger was cleared, and its next try has not begun. So the trigger must rest."""


class _Asked:
    """What the triggers of one event loop have asked, and which of them have fired."""

    def __init__(self) -> None:
        self.fired: dict[int, None] = {}
        self.run_ids: dict[tuple[str, str], set[str]] = {}
        self.answers: dict[tuple[str, str], asyncio.Task[States]] = {}
        self.held: set[asyncio.Task[States]] = set()
        """Questions that are not answered yet. Python may delete a task to which nothing refers."""


_asked = PerLoop(_Asked)


async def fired_once(trigger: BaseTrigger, make: Callable[[], Awaitable[TriggerEvent]]) -> TriggerEvent:
    """Make the event that the trigger fires. If its task was cleared, never return: the trigger rests until Airflow ends it.

    :param make: makes the event. It may raise `TaskCleared`.
    """
    fired = _asked.here().fired
    try:
        if trigger.trigger_id in fired:
            # Perhaps Airflow has dropped the event, and has built the trigger again.
            await raise_if_cleared(trigger.task_instance)
        event = await make()
    except TaskCleared:
        log.info("The task was cleared, so its trigger does nothing until the next try begins.")
        await asyncio.Event().wait()
        raise
    if trigger.trigger_id is not None:
        fired[trigger.trigger_id] = None
        if len(fired) > MOST_FIRED:
            del fired[next(iter(fired))]
    return event


async def raise_if_cleared(ti: Any) -> None:
    """Raise `TaskCleared` if the task was cleared, and its next try has not begun.

    :param ti: the task instance; None in `dag.test()`, where nobody clears a task.
    """
    if ti is None:
        return
    try:
        states = await asyncio.shield(_states(ti))
    except AdfError as e:
        log.warning("It is not known whether the task was cleared. Its trigger continues. %s", e)
        return
    if has_no_state(states, ti):
        raise TaskCleared


def _states(ti: Any) -> asyncio.Task[States]:
    asked, key = _asked.here(), (ti.dag_id, ti.task_id)
    asked.run_ids.setdefault(key, set()).add(ti.run_id)
    if key not in asked.answers:
        question = asked.answers[key] = start_detached(_ask(asked, key))
        asked.held.add(question)
        question.add_done_callback(asked.held.discard)
        question.add_done_callback(mark_seen)
    return asked.answers[key]


async def _ask(asked: _Asked, key: tuple[str, str]) -> States:
    await asyncio.sleep(GATHER)
    # Triggers that come later ask again, because a state may change after this question.
    del asked.answers[key]
    run_ids = sorted(asked.run_ids.pop(key))
    states: dict[str, Mapping[str, Any]] = {}
    for first in range(0, len(run_ids), MOST_RUNS_ASKED):
        send = partial(_send, *key, run_ids[first : first + MOST_RUNS_ASKED])
        states |= await patiently(send, f"report the state of task {key[1]}")
    return states


async def _send(dag_id: str, task_id: str, run_ids: list[str]) -> States:
    from airflow.sdk.execution_time.comms import GetTaskStates, TaskStatesResult
    from airflow.sdk.execution_time.task_runner import SUPERVISOR_COMMS

    answer = await SUPERVISOR_COMMS.asend(GetTaskStates(dag_id=dag_id, task_ids=[task_id], run_ids=run_ids))
    if not isinstance(answer, TaskStatesResult):
        raise TypeError(f"Airflow answered {answer!r}")
    return answer.task_states

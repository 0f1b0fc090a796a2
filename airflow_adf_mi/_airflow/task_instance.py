"""What Airflow says of a task instance: which try it is, whether it is over, and whether another try follows."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_adf_mi.adf.starting.intent import TaskTry

if TYPE_CHECKING:
    from airflow.sdk import Context

log = logging.getLogger(__name__)

RUN_ID_KEY = "run_id"
"""XCom of the run's id, pushed as soon as it is known; by it a mapped task's siblings know what is not theirs."""
OVER = frozenset({"failed", "success", "skipped", "removed", "upstream_failed"})
"""Task states in which a task is over."""
STOPPED = OVER | {"restarting"}
"""Task states that somebody gives a running task to stop it; the last by clearing it."""
STATE_WAIT = 2.0
"""Seconds to wait for Airflow's word on the task's state while the process is being killed."""


def task_try_of(context: Context) -> TaskTry:
    """Which try this is, as Airflow counts."""
    ti: Any = context["ti"]
    dag_run: Any = context["dag_run"]
    return TaskTry(
        try_number=ti.try_number, max_tries=ti.max_tries, clear_number=getattr(dag_run, "clear_number", 0) or 0
    )


def is_last_try(context: Context) -> bool:
    """Whether Airflow makes no other try of this task by itself."""
    ti: Any = context["ti"]
    return bool(ti.try_number > ti.max_tries)


def will_be_retried(context: Context) -> bool:
    """Whether a kill of this process is not meant for the task, and tries are left: another try will take its run over.

    So it is when the worker itself is told to go (an evicted pod, a spot machine, a restart), when Airflow has lost sight of
    it and gone on to the next try, and when Airflow's API is down for so long that the worker gives up. Airflow tells a
    worker of a mark or clear through that API, so where that does not answer, this is none.

    Asked in a thread of its own, since the kill may have interrupted the main thread within another question to Airflow,
    and then there is no answer until it goes on.
    """
    if is_last_try(context):
        return False
    ti: Any = context["ti"]
    answers: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    threading.Thread(target=lambda: answers.put(_state(ti)), name="adf-task-state", daemon=True).start()
    try:
        return answers.get(timeout=STATE_WAIT) not in STOPPED
    except queue.Empty:
        return True


_UNKNOWN = "unknown"


def _state(ti: Any) -> str | None:
    from airflow.sdk.execution_time.comms import GetTaskStates, TaskStatesResult
    from airflow.sdk.execution_time.task_runner import SUPERVISOR_COMMS

    try:
        answer = SUPERVISOR_COMMS.send(
            GetTaskStates(dag_id=ti.dag_id, run_ids=[ti.run_id], task_ids=[ti.task_id], map_index=ti.map_index)
        )
    except Exception as e:  # noqa: BLE001  whatever goes wrong, the state is not known
        log.debug("the task's state could not be learnt: %s", e)
        return _UNKNOWN
    return state_of(answer.task_states, ti) if isinstance(answer, TaskStatesResult) else _UNKNOWN


def state_of(states: Mapping[str, Mapping[str, Any]], ti: Any) -> str | None:
    """The state of `ti` in Airflow's answer about a Dag run, where a mapped task's key ends with its index."""
    key = ti.task_id if ti.map_index < 0 else f"{ti.task_id}_{ti.map_index}"
    return states.get(ti.run_id, {}).get(key)

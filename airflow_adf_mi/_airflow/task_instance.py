"""What Airflow reports about a task instance: which try it is, whether it has ended, and whether another try follows."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_adf_mi._airflow.names import conf
from airflow_adf_mi.adf.starting.intent import TaskTry
from airflow_adf_mi.adf.starting.try_keys import TryKeys

if TYPE_CHECKING:
    from airflow.sdk import Context

log = logging.getLogger(__name__)

RUN_ID_KEY = "run_id"
"""XCom of the run's id, pushed as soon as the id is known. It shows the other instances of a mapped task whose run that is."""
LATE_RUN_KEY = "adf_late_run"
"""XCom of the warning that the run is late."""
OVER = frozenset({"failed", "success", "skipped", "removed", "upstream_failed"})
"""States in which a task has ended."""
STOPPED = OVER | {"restarting"}
"""States that a user sets to stop a running task. A clear sets "restarting"."""
STATE_WAIT_SECONDS = 2.0
"""Seconds that a killed process waits for Airflow's answer about the task's state."""


def task_try_of(context: Context) -> TaskTry:
    """Identify this try by Airflow's counts."""
    ti: Any = context["ti"]
    dag_run: Any = context["dag_run"]
    return TaskTry(
        try_number=ti.try_number, max_tries=ti.max_tries, clear_number=getattr(dag_run, "clear_number", 0) or 0
    )


def start_of_try(context: Context) -> float:
    """When the try began, in epoch seconds. On Airflow 3.1, this is when the task resumed from its last deferral."""
    ti: Any = context["ti"]
    return float(ti.start_date.timestamp())


def try_keys_of(context: Context, retries: int, retry_delay: float) -> TryKeys:
    """The start keys of this task's tries, which every try can compute.

    :param retries: the task's `retries`.
    :param retry_delay: the task's `retry_delay`, in seconds.
    """
    ti: Any = context["ti"]
    dag_run: Any = context["dag_run"]
    began = getattr(dag_run, "start_date", None)
    return TryKeys(
        # Airflow has no id of its own. Two deployments have different addresses.
        deployment=conf.get("api", "base_url", fallback="") or "",
        dag_id=ti.dag_id,
        dag_run_id=ti.run_id,
        task_id=ti.task_id,
        map_index=ti.map_index,
        now=task_try_of(context),
        retries=retries,
        previous_ended_by=ti.start_date.timestamp() - retry_delay,
        dag_run_began=None if began is None else began.timestamp(),
    )


def is_last_try(context: Context) -> bool:
    """Whether Airflow makes no further try of this task by itself."""
    ti: Any = context["ti"]
    return bool(ti.try_number > ti.max_tries)


def will_be_retried(context: Context) -> bool:
    """Whether a kill of this process concerns only the worker, and tries are left. Then another try will adopt the run.

    True when the worker is evicted or restarted, and when Airflow has lost contact with it and begun the next try. Also true when
    Airflow's API is down so long that the worker gives up: marks and clears reach a worker through that API. So if the
    API does not answer, the kill was neither a mark nor a clear.

    The question is asked in a thread of its own. The kill may have interrupted the main thread during another question to
    Airflow, and that connection gives no further answer until the main thread continues.
    """
    if is_last_try(context):
        return False
    ti: Any = context["ti"]
    answers: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    threading.Thread(target=lambda: answers.put(_state(ti)), name="adf-task-state", daemon=True).start()
    try:
        return answers.get(timeout=STATE_WAIT_SECONDS) not in STOPPED
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
    except Exception as e:  # noqa: BLE001  after any error the state is unknown
        log.debug("The state of the task could not be read. %s", e)
        return _UNKNOWN
    return state_of(answer.task_states, ti) if isinstance(answer, TaskStatesResult) else _UNKNOWN


def state_of(states: Mapping[str, Mapping[str, Any]], ti: Any) -> str | None:
    """The state of `ti` in Airflow's answer about a Dag run; None if the answer has none."""
    return states.get(ti.run_id, {}).get(_name_of(ti))


def has_no_state(states: Mapping[str, Mapping[str, Any]], ti: Any) -> bool:
    """Whether Airflow's answer shows `ti` without a state: it was cleared, and its next try has not begun."""
    of_run = states.get(ti.run_id, {})
    return _name_of(ti) in of_run and of_run[_name_of(ti)] is None


def _name_of(ti: Any) -> str:
    """The name of `ti` in Airflow's answer. The name of a mapped instance ends with its index."""
    return ti.task_id if ti.map_index < 0 else f"{ti.task_id}_{ti.map_index}"

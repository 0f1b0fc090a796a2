"""Whether a killed process leaves its run to a retry, depending on Airflow's answer or its absence."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import pytest
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import TaskStatesResult

from airflow_adf_mi._airflow import task_instance


@dataclass
class TaskInstance:
    try_number: int = 1
    max_tries: int = 1
    map_index: int = -1
    dag_id: str = "dag"
    run_id: str = "run1"
    task_id: str = "it"


class Supervisor:
    """Answers with a state. An exception is raised instead. An event delays the answer until it is set."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def send(self, _message: Any) -> Any:
        if isinstance(self.answer, threading.Event):
            self.answer.wait(10)
            return None
        if isinstance(self.answer, Exception):
            raise self.answer
        return TaskStatesResult(task_states={"run1": {"it": self.answer}})


@pytest.mark.parametrize(
    ("answer", "left"),
    [
        ("running", True),
        ("failed", False),
        ("success", False),
        ("restarting", False),
        ("skipped", False),
        ("up_for_retry", True),
        ("queued", True),
        (None, True),
        (RuntimeError("the API server is down"), True),
    ],
)
def test_run_is_left_to_the_retry_only_if_the_task_continues(
    answer: Any, left: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", Supervisor(answer), raising=False)
    context: Any = {"ti": TaskInstance()}
    assert task_instance.will_be_retried(context) is left


@pytest.mark.timeout(60)
def test_run_is_left_to_the_retry_if_airflow_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_instance, "STATE_WAIT_SECONDS", 0.05)  # instead of seconds
    silence = threading.Event()
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", Supervisor(silence), raising=False)
    context: Any = {"ti": TaskInstance()}
    assert task_instance.will_be_retried(context)
    assert not silence.is_set(), "the killed process does not wait for the answer"
    silence.set()


def test_last_try_does_not_leave_its_run() -> None:
    context: Any = {"ti": TaskInstance(try_number=2)}
    assert not task_instance.will_be_retried(context)

"""What Airflow reports about a task instance: the keys of its tries, and whether a killed process leaves its run to a retry."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import TaskStatesResult

from airflow_adf_mi._airflow import task_instance
from airflow_adf_mi.adf.starting.intent import TaskTry
from airflow_adf_mi.adf.starting.start_key import digest_key
from airflow_adf_mi.adf.starting.try_keys import TryKeys


@dataclass
class TaskInstance:
    try_number: int = 1
    max_tries: int = 1
    map_index: int = -1
    dag_id: str = "dag"
    run_id: str = "run1"
    task_id: str = "it"
    start_date: datetime = datetime(2026, 11, 1, 12, 30, tzinfo=UTC)


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


def keys_of(ti: TaskInstance | None = None, **dag_run: Any) -> TryKeys:
    context: Any = {"ti": ti or TaskInstance(), "dag_run": SimpleNamespace(**dag_run)}
    return task_instance.try_keys_of(context, retries=1, retry_delay=300.0)


@pytest.mark.parametrize("address", ["https://airflow.example.org", "https://airflow.example.org/second", ""])
def test_key_contains_the_address_of_the_deployment(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """So two deployments never adopt, or cancel, the runs of each other."""
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", address)
    assert keys_of().key(2, 1) == digest_key(address, "dag", "run1", "it", -1, 2, 1)


def test_deployment_without_an_address_has_keys_too() -> None:
    assert keys_of().deployment == ""


def test_key_contains_the_map_index() -> None:
    keys = keys_of(TaskInstance(map_index=3))
    assert keys.key(1) == digest_key("", "dag", "run1", "it", 3, 1, 0)


def test_keys_know_the_counts_of_airflow() -> None:
    keys = keys_of(TaskInstance(try_number=3, max_tries=4), clear_number=2)
    assert keys.now == TaskTry(try_number=3, max_tries=4, clear_number=2)
    assert keys.retries == 1


def test_try_before_had_ended_a_retry_delay_before_this_try() -> None:
    ended_by = datetime(2026, 11, 1, 12, 25, tzinfo=UTC)
    assert keys_of().previous_ended_by == ended_by.timestamp()


@pytest.mark.parametrize("began", [datetime(2026, 11, 1, 12, tzinfo=UTC), None])
def test_begin_of_the_dag_run_is_known_if_airflow_reports_it(began: datetime | None) -> None:
    """If it is not known, no run is adopted, because the run may be of a deleted Dag run with the same name."""
    assert keys_of(start_date=began).dag_run_began == (began and began.timestamp())

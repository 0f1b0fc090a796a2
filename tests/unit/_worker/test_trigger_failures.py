"""The count of failed triggers: for one try, and bounded."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_adf_mi._worker.trigger_failures import (
    MOST_TRIGGER_FAILURES,
    TRIGGER_FAILURES_KEY,
    failures_of,
    record_trigger_failure,
)
from airflow_adf_mi.adf.errors import AdfError
from tests.support.minors import needs
from tests.support.tasks import Task

NOW = {"try_number": 2, "max_tries": 3}


def test_pauses_grow_to_a_minute_and_the_seventh_failure_has_none() -> None:
    task = Task()
    pauses = [record_trigger_failure(task.context) for _ in range(MOST_TRIGGER_FAILURES + 1)]
    assert pauses == [5, 10, 20, 40, 60, 60, None]


def test_count_is_kept_after_a_clear_of_another_task_and_reset_by_a_retry() -> None:
    task = Task()
    assert record_trigger_failure(task.context) == 5
    task.clear_number += 1
    assert record_trigger_failure(task.context) == 10
    task.retry()
    assert record_trigger_failure(task.context) == 5


@pytest.mark.parametrize(
    ("stored", "failures"),
    [
        ({**NOW, "failures": 4}, 4),
        ({**NOW, "failures": 4, "later": "member"}, 4),
        ({**NOW, "try_number": 1, "failures": 4}, 0),
        ({**NOW, "max_tries": 4, "failures": 4}, 0),
        ({**NOW, "failures": "4"}, 0),
        (NOW, 0),
        ("what another program stored", 0),
        (None, 0),
    ],
)
def test_count_is_read_only_for_the_same_try(stored: Any, failures: int) -> None:
    assert failures_of(stored, NOW) == failures


@needs("TASK_STATE_STORE")
def test_failing_store_raises_an_error_with_a_next_step() -> None:
    task = Task(store_works=False)
    with pytest.raises(
        AdfError, match=r"A retry adopts it, unless the task has durable=False\. the API server is down"
    ):
        record_trigger_failure(task.context)


@needs("TASK_STATE_STORE")
def test_store_that_does_not_take_the_count_does_not_end_the_wait(caplog: pytest.LogCaptureFixture) -> None:
    class ReadOnly(Task):
        def set(self, key: str, value: Any, **_: Any) -> None:
            raise RuntimeError("the API server is down")

    assert record_trigger_failure(ReadOnly().context) == 5
    assert "so this failure is not counted. the API server is down" in caplog.text


def test_key_is_pinned() -> None:
    assert TRIGGER_FAILURES_KEY == "airflow_adf_mi.trigger_failures"

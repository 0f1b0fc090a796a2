"""What happens to tasks that the Azure provider has deferred when their Dag moves to this package (docs/moving-over.md)."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from airflow_adf_mi import AdfAmbiguousStartError, AdfError
from airflow_adf_mi._airflow import features
from airflow_adf_mi.adf.starting import earlier_tries
from tests.support.minors import TaskDeferred, needs
from tests.support.provider_tasks import Both, Instance, both, execute, fired, resumed

__all__ = ["both"]  # a fixture

EVENT = {"status": "success", "message": "The pipeline run r1 has Succeeded.", "run_id": "r1"}


def deferred_by_provider(both: Both) -> tuple[Instance, str]:
    """A task instance that the provider has deferred, and the id of its run, which is still active."""
    instance = Instance()
    with pytest.raises(TaskDeferred):
        execute(both.operator(False, "Slow", deferrable=True), instance)
    (run_id,) = both.started()
    return instance, run_id


def test_task_that_the_provider_deferred_ends_with_its_run(both: Both) -> None:
    instance, run_id = deferred_by_provider(both)
    both.emulator.clock.advance(4000)
    summary = both.operator(True, "Slow").resume_execution("execute_complete", {"event": EVENT}, instance.context)
    assert (summary["run_id"], summary["status"]) == (run_id, "Succeeded")
    assert both.started() == [run_id]


@pytest.mark.parametrize("durable", [True, False])
def test_task_that_the_provider_deferred_continues_to_wait_for_its_run(durable: bool, both: Both) -> None:
    instance, run_id = deferred_by_provider(both)
    task = both.operator(True, "Slow", deferrable=True, durable=durable)
    with pytest.raises(TaskDeferred) as deferred:
        task.resume_execution("execute_complete", {"event": EVENT}, instance.context)
    assert deferred.value.trigger.serialize()[1]["run_id"] == run_id
    both.emulator.clock.advance(4000)
    event = fired(deferred.value)
    summary = task.resume_execution("execute_complete", {"event": event}, instance.context)
    assert (summary["run_id"], summary["status"]) == (run_id, "Succeeded")
    assert both.started() == [run_id]


def test_task_that_the_provider_deferred_waits_on_a_worker_unless_deferrable(both: Both) -> None:
    instance, run_id = deferred_by_provider(both)
    threading.Timer(0.5, both.emulator.clock.advance, [4000]).start()
    summary = both.operator(True, "Slow").resume_execution("execute_complete", {"event": EVENT}, instance.context)
    assert (summary["run_id"], summary["status"]) == (run_id, "Succeeded")
    assert both.started() == [run_id]


def retry_of_adopted(both: Both) -> Callable[[], str]:
    """A task whose first try has adopted the active run of the provider. Returns the retry, which returns the id of its run."""
    instance, _ = deferred_by_provider(both)
    arguments = {"deferrable": True, "retries": 1}
    with pytest.raises(TaskDeferred):
        both.operator(True, "Slow", **arguments).resume_execution(
            "execute_complete", {"event": EVENT}, instance.context
        )

    def retry() -> str:
        instance.try_number = 2
        instance.xcoms.clear()
        with pytest.raises(TaskDeferred) as deferred:
            execute(both.operator(True, "Slow", **arguments), instance)
        return str(deferred.value.trigger.serialize()[1]["run_id"])

    return retry


@needs("TASK_STATE_STORE")
def test_retry_adopts_the_run_of_a_task_that_the_provider_deferred(both: Both) -> None:
    retry = retry_of_adopted(both)
    (run_id,) = both.started()
    assert retry() == run_id
    assert both.started() == [run_id]


@pytest.fixture
def no_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Airflow 3.1 and 3.2."""
    monkeypatch.setattr(features, "TASK_STATE_STORE", False)
    monkeypatch.setattr(earlier_tries, "LATE_SEARCH_SECONDS", 0.1)  # instead of 15


@pytest.mark.usefixtures("no_store")
def test_retry_without_a_store_fails_instead_of_adopting_the_run_of_the_provider(both: Both) -> None:
    retry = retry_of_adopted(both)
    (run_id,) = both.started()
    with pytest.raises(AdfAmbiguousStartError, match=run_id):
        retry()
    assert both.started() == [run_id]


@pytest.mark.usefixtures("no_store")
def test_retry_without_a_store_starts_another_run_where_the_factory_shows_start_keys(both: Both) -> None:
    retry = retry_of_adopted(both)
    execute(both.operator(True, "Load"), Instance())
    assert retry() == both.started()[-1]
    assert len(both.started()) == 3


def test_sensor_that_the_provider_deferred_fails_with_an_explanation(both: Both) -> None:
    with pytest.raises(AdfError, match="Another class deferred this task"):
        resumed(both.sensor(True, "r1"), EVENT)

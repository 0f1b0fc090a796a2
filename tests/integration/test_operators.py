"""What the operator does from try to try, and what it does when Airflow fails after a run has started."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_adf_mi._airflow import features
from airflow_adf_mi._worker.attempt import Attempt
from airflow_adf_mi._worker.task_journal import STATE_KEY
from airflow_adf_mi._worker.trigger_failures import TRIGGER_FAILURES_KEY
from airflow_adf_mi._worker.try_deadlines import TryDeadlines
from airflow_adf_mi.adf.config.addresses import RunAddress
from airflow_adf_mi.adf.config.settings import AdfSettings
from airflow_adf_mi.adf.models import PipelineRun
from airflow_adf_mi.adf.reporting.report import Report
from airflow_adf_mi.adf.starting.intent import Phase
from airflow_adf_mi.adf.waiting.deadlines import TIMEOUT_SLACK_SECONDS
from airflow_adf_mi.adf.waiting.single_run import Ended, TimedOut
from airflow_adf_mi.emulator import Emulator
from airflow_adf_mi.emulator.pipelines.script import Script
from airflow_adf_mi.exceptions import (
    AdfAmbiguousStartError,
    AdfConfigurationError,
    AdfError,
    AdfRunFailed,
    AdfRunTimedOut,
    AdfTaskKilled,
)
from airflow_adf_mi.operators import AdfRunPipelineOperator
from tests.support.explained_tasks import fired
from tests.support.minors import AirflowTaskTimeout, TaskDeferred, needs
from tests.support.tasks import Make, Task, execute, runs


def deferred(it: AdfRunPipelineOperator, task: Task) -> TaskDeferred:
    with pytest.raises(TaskDeferred) as e:
        execute(it, task)
    return e.value


def never_cancelled(pipeline: str) -> Script:
    """The pipeline's runs last for an hour, and take an hour to be cancelled."""
    return Script.from_json(
        {"pipelines": {pipeline: {"cancel_seconds": 3600}}, "activities": {f"{pipeline}/Copy": {"seconds": 3600}}}
    )


def cancelled(emulator: Emulator) -> list[str]:
    return [str(r.run_id) for r in emulator.books.of("cancelRun", status=200)]


@pytest.mark.parametrize("waits", [True, False])
def test_retry_accepts_a_succeeded_run_and_a_clear_starts_a_new_one(
    waits: bool, operator: Make, emulator: Emulator
) -> None:
    task = Task()
    it = operator("Load", wait_for_termination=waits)
    first = execute(it, task)
    assert first["adopted"] is False
    assert task.xcoms["run_id"] == first["run_id"]
    task.retry()
    again = execute(it, task)
    assert (again["run_id"], again["adopted"]) == (first["run_id"], True)
    assert task.xcoms["run_id"] == first["run_id"]
    task.clear()
    assert execute(it, task)["run_id"] != first["run_id"]
    assert len(runs(emulator)) == 2


def test_retry_after_a_failed_run_starts_another(operator: Make, emulator: Emulator) -> None:
    task = Task()
    for _ in range(2):
        with pytest.raises(AdfRunFailed):
            execute(operator("Broken"), task)
        assert task.intent.try_failed
        task.retry()
    assert len(runs(emulator)) == 2


def test_durable_false_starts_a_run_in_each_try_and_stores_nothing(operator: Make, emulator: Emulator) -> None:
    task = Task(store_works=False)
    it = operator("Load", durable=False)
    execute(it, task)
    task.retry()
    execute(it, task)
    assert len(runs(emulator)) == 2


@pytest.mark.parametrize("own_ids", [False, True])
def test_failed_run_of_a_lost_start_fails_the_task(own_ids: bool, operator: Make, emulator: Emulator) -> None:
    emulator.state().switches.run_id_from_request_id = not own_ids
    emulator.add_fault("createRun", effect="after", hang_seconds=0.5, status=504)
    with pytest.raises(AdfRunFailed, match="no such table"):
        execute(operator("Broken", start_settle=1), Task())
    assert len(runs(emulator)) == 1


def test_kill_before_the_try_begins_starts_nothing(operator: Make, emulator: Emulator) -> None:
    it = operator("Slow")
    it.on_kill()
    with pytest.raises(AdfTaskKilled, match="Nothing was started"):
        execute(it, Task())
    assert emulator.books.count("createRun") == 0


@needs("TASK_STATE_STORE")
def test_kill_while_the_intent_is_stored_starts_nothing(operator: Make, emulator: Emulator) -> None:
    task, it = Task(), operator("Slow")
    keep = task.set

    def kill_while_sending(key: str, value: Any, **how_long: Any) -> None:
        keep(key, value, **how_long)
        if value["phase"] == Phase.SENDING.value:
            it.on_kill()

    task.set = kill_while_sending  # type: ignore[method-assign]  # of our fake Airflow
    with pytest.raises(AdfTaskKilled, match="Nothing was started"):
        execute(it, task)
    assert emulator.books.count("createRun") == 0
    assert task.intent.phase is Phase.PREPARED


@needs("TASK_STATE_STORE")
def test_kill_during_the_search_for_a_lost_start_keeps_its_intent(operator: Make, emulator: Emulator) -> None:
    task, it = Task(), operator("Slow", wait_for_termination=False)
    first = execute(it, task)["run_id"]
    # As after the death of the process before the answer came.
    task.set(STATE_KEY, replace(task.intent, phase=Phase.SENDING, run_id=None).to_json())
    task.retry()
    keep = task.set

    def kill_while_storing(key: str, value: Any, **how_long: Any) -> None:
        keep(key, value, **how_long)
        it.on_kill()

    task.set = kill_while_storing  # type: ignore[method-assign]  # of our fake Airflow
    with pytest.raises(AdfTaskKilled):
        execute(it, task)
    assert task.intent.phase is Phase.SENDING
    task.set = keep  # type: ignore[method-assign]  # as above
    assert cancelled(emulator) == [first]
    assert len(runs(emulator)) == 1


@pytest.mark.parametrize("deferrable", [False, True])
def test_kill_right_after_the_start_neither_returns_nor_defers(
    deferrable: bool, operator: Make, emulator: Emulator
) -> None:
    task = Task(try_number=2, max_tries=1)
    it = operator("Slow", deferrable=deferrable, wait_for_termination=deferrable)
    push = task.xcom_push

    def kill_while_pushing(key: str, value: Any) -> None:
        push(key, value)
        if key == "run_id":
            it.on_kill()

    task.xcom_push = kill_while_pushing  # type: ignore[method-assign]  # of our fake Airflow
    with pytest.raises(AdfTaskKilled, match="was cancelled"):
        execute(it, task)
    assert len(cancelled(emulator)) == 1


@needs("TASK_STATE_STORE")
def test_clear_of_another_task_does_not_supersede_the_run_of_a_failed_try(operator: Make, emulator: Emulator) -> None:
    task = Task()
    it = operator("Slow", deferrable=True, cancel_on_timeout=False)
    first = deferred(it, task).trigger.run_id
    task.clear_number += 1
    with pytest.raises(AdfRunTimedOut):
        it.resume_execution("__fail__", {"error": "Trigger timeout"}, task.context)
    task.retry()
    assert deferred(it, task).trigger.run_id == first
    assert cancelled(emulator) == []


@needs("TASK_STATE_STORE")
def test_airflows_deferral_timeout_finds_the_run_without_its_xcom(operator: Make, emulator: Emulator) -> None:
    task = Task(xcoms_work=False)
    it = operator("Slow", deferrable=True)
    deferred(it, task)
    with pytest.raises(AdfRunTimedOut, match="requested"):
        it.resume_execution("__fail__", {"error": "Trigger timeout"}, task.context)
    assert len(cancelled(emulator)) == 1


def test_deferrable_retry_adopts_a_live_run(operator: Make, emulator: Emulator) -> None:
    task = Task()
    it = operator("Slow", deferrable=True)
    first = deferred(it, task)
    task.retry()
    again = deferred(it, task)
    assert again.trigger.run_id == first.trigger.run_id
    assert again.trigger.adopted
    assert len(runs(emulator)) == 1


def test_airflows_timeout_of_a_deferral_is_later_than_our_deadline(operator: Make) -> None:
    it = deferred(operator("Slow", deferrable=True, timeout=100), Task())
    assert it.timeout is not None
    assert abs(it.timeout.total_seconds() - TIMEOUT_SLACK_SECONDS - 100) < 5
    it = deferred(operator("Slow", deferrable=True, execution_timeout=timedelta(seconds=50)), Task())
    assert it.timeout is not None
    assert abs(it.timeout.total_seconds() - TIMEOUT_SLACK_SECONDS - 50) < 5


@pytest.mark.parametrize(
    ("deferrable", "left"), [(False, 18), (True, 20)], ids=["a tenth earlier on a worker", "exactly if deferred"]
)
def test_execution_timeout_leaves_a_worker_time_to_cancel(deferrable: bool, left: float, operator: Make) -> None:
    it = operator("Slow", deferrable=deferrable, execution_timeout=timedelta(seconds=20))
    deadline = TryDeadlines(it, time.time).of_wait(time.time())
    assert abs(deadline.at - time.time() - left) < 0.9


@pytest.mark.parametrize("timeout", [600.0, 20.0])
def test_execution_timeout_of_a_deferred_task_counts_from_the_beginning_of_the_try(
    timeout: float, operator: Make
) -> None:
    """A try that resumes after a deferral, for example after the end of a superseded run, gets no new execution_timeout."""
    began = datetime.now(UTC) - timedelta(seconds=30)
    it = operator("Slow", deferrable=True, timeout=timeout, execution_timeout=timedelta(seconds=60))
    trigger = deferred(it, Task(start_date=began)).trigger
    assert trigger.deadline is not None
    assert abs(trigger.deadline - began.timestamp() - (60 if timeout == 600 else 50)) < 5


def test_clear_of_a_deferred_task_waits_for_the_superseded_run_in_the_triggerer(
    operator: Make, emulator: Emulator
) -> None:
    emulator.state().script = never_cancelled("Slow")
    task = Task()
    it = operator("Slow", deferrable=True)
    first = deferred(it, task).trigger.run_id
    task.clear()
    waiting = deferred(it, task)
    assert waiting.method_name == "execute_after"
    assert waiting.trigger.run_id == first
    assert cancelled(emulator) == [first]
    assert len(runs(emulator)) == 1


def test_superseded_run_that_does_not_end_in_time_fails_the_deferred_task(
    operator: Make, settings: AdfSettings, emulator: Emulator
) -> None:
    address = RunAddress(run_id="r1", factory=settings.factory(), studio_url="https://adf.azure.com/r1")
    event = Report(address=address, outcome=TimedOut()).to_json()
    with pytest.raises(AdfError, match=r"is still of unknown status after 600 s \(supersede_timeout\)"):
        operator("Load", deferrable=True).execute_after(Task().context, event)
    assert runs(emulator) == []


def test_deferred_task_with_no_time_left_starts_no_run_after_a_superseded_run(
    operator: Make, settings: AdfSettings, emulator: Emulator
) -> None:
    address = RunAddress(run_id="r1", factory=settings.factory(), studio_url="https://adf.azure.com/r1")
    run = PipelineRun.from_wire({"runId": "r1", "pipelineName": "Load", "status": "Cancelled"})
    event = Report(address=address, outcome=Ended(run=run)).to_json()
    it = operator("Load", deferrable=True, execution_timeout=timedelta(seconds=300))
    task = Task(start_date=datetime.now(UTC) - timedelta(seconds=400))
    with pytest.raises(AdfError, match="This try's execution_timeout of 300 s was over before it could start a run"):
        it.execute_after(task.context, event)
    assert runs(emulator) == []
    task.start_date = datetime.now(UTC) - timedelta(seconds=200)
    with pytest.raises(TaskDeferred):
        it.execute_after(task.context, event)
    assert len(runs(emulator)) == 1


def test_blocking_task_with_no_time_left_starts_no_run_after_a_superseded_run(
    operator: Make, emulator: Emulator
) -> None:
    emulator.state().script = never_cancelled("Slow")
    task = Task()
    execute(operator("Slow", wait_for_termination=False), task)
    task.clear()
    with pytest.raises(AdfError, match="This try's execution_timeout of 1 s was over before it could start a run"):
        execute(operator("Slow", execution_timeout=timedelta(seconds=1)), task)
    assert len(runs(emulator)) == 1


def test_wait_for_a_superseded_run_ends_with_the_execution_timeout(operator: Make, emulator: Emulator) -> None:
    emulator.state().script = never_cancelled("Slow")
    task = Task()
    deferred(operator("Slow", deferrable=True), task)
    task.clear()
    waiting = deferred(operator("Slow", deferrable=True, execution_timeout=timedelta(seconds=300)), task)
    assert waiting.method_name == "execute_after"
    assert abs(waiting.trigger.deadline - task.start_date.timestamp() - 300) < 1


@pytest.mark.parametrize(
    ("execution_timeout", "reason"),
    [(None, "timeout of 3000 s"), (3600, "timeout of 3000 s"), (2500, "execution_timeout")],
)
def test_kept_deadline_is_named_by_the_argument_that_set_it(
    execution_timeout: float | None, reason: str, operator: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_adf_mi._worker.trigger_failures.FIRST_PAUSE_SECONDS", 0.001)  # instead of seconds
    limit = None if execution_timeout is None else timedelta(seconds=execution_timeout)
    it = operator("Slow", deferrable=True, timeout=3000, execution_timeout=limit)
    task = Task()
    first = deferred(it, task).trigger
    real = time.time
    monkeypatch.setattr("time.time", lambda: real() + 1000)
    with pytest.raises(TaskDeferred) as again:
        it.resume_execution("__fail__", {"error": "Trigger failure"}, task.context)
    assert again.value.trigger.deadline == first.deadline
    assert again.value.trigger.deadline_reason.startswith(reason)


def test_timeout_counts_from_the_first_start_of_the_try_also_if_its_answer_was_lost(
    operator: Make, emulator: Emulator
) -> None:
    lost = emulator.add_fault("createRun", effect="after", drop=True)
    task = Task()
    trigger = deferred(operator("Slow", deferrable=True, timeout=100), task).trigger
    assert lost.consumed
    assert trigger.adopted
    assert task.intent.sent_at is not None
    assert trigger.deadline == task.intent.deadline == task.intent.sent_at + 100


@needs("TASK_STATE_STORE")
@pytest.mark.parametrize("phase", [Phase.STARTED, Phase.SENDING])
def test_timeout_of_an_adopted_run_counts_from_the_adoption(phase: Phase, operator: Make, emulator: Emulator) -> None:
    """An earlier try sent the start. Its moment and its deadline are not those of this try."""
    task = Task()
    it = operator("Slow", deferrable=True, timeout=100)
    deferred(it, task)
    known = replace(task.intent, phase=phase, sent_at=time.time() - 500, deadline=time.time() - 400)
    task.set(STATE_KEY, (known if phase is Phase.STARTED else replace(known, run_id=None)).to_json())
    task.retry()
    before = time.time()
    trigger = deferred(it, task).trigger
    assert trigger.deadline >= before + 100
    # From now on, the deadline of this try stays the same.
    assert deferred(it, task).trigger.deadline == trigger.deadline
    assert len(runs(emulator)) == 1


def test_clear_waits_for_the_superseded_run_on_the_worker(operator: Make, emulator: Emulator) -> None:
    task = Task()
    first = execute(operator("Slow", wait_for_termination=False), task)["run_id"]
    task.clear()
    second = execute(operator("Slow", wait_for_termination=False), task)["run_id"]
    assert runs(emulator) == [first, second]
    statuses = emulator.call(lambda: [run.status for run in emulator.state().runs.values()])
    assert statuses[0] == "Cancelled"


def test_superseded_run_that_does_not_end_in_time_lets_nothing_start(operator: Make, emulator: Emulator) -> None:
    emulator.state().script = never_cancelled("Slow")
    task = Task()
    execute(operator("Slow", wait_for_termination=False), task)
    task.clear()
    for _ in range(2):
        with pytest.raises(AdfError, match=r"is still Canceling after 0\.5 s"):
            execute(operator("Slow", supersede_timeout=0.5), task)
        task.retry()
    assert len(runs(emulator)) == 1


def test_superseded_run_that_must_not_be_cancelled_is_waited_for(operator: Make, emulator: Emulator) -> None:
    task = Task()
    it = operator("Load", wait_for_termination=False, cancel_on_kill=False)
    first = execute(it, task)["run_id"]
    task.clear()
    assert execute(it, task)["run_id"] != first
    assert cancelled(emulator) == []


@needs("TASK_STATE_STORE")
def test_nothing_is_started_if_the_state_store_cannot_be_read(operator: Make, emulator: Emulator) -> None:
    with pytest.raises(AdfError, match="no other run was started now"):
        execute(operator("Load"), Task(store_works=False))
    assert emulator.books.requests == []


@needs("TASK_STATE_STORE")
def test_nothing_is_started_if_the_state_store_cannot_be_written(operator: Make, emulator: Emulator) -> None:
    task = Task()

    def fail(key: str, value: Any, **how_long: Any) -> None:
        raise RuntimeError("the API server is down")

    task.set = fail  # type: ignore[method-assign]  # of our fake Airflow
    with pytest.raises(AdfError, match="nothing was started"):
        execute(operator("Load"), task)
    assert emulator.books.requests == []


@needs("TASK_STATE_STORE")
def test_state_store_that_fails_after_the_start_does_not_end_the_wait(operator: Make, emulator: Emulator) -> None:
    task = Task()
    keep = task.set

    def fail_once_started(key: str, value: Any, **how_long: Any) -> None:
        task.store_works = value["phase"] != Phase.STARTED.value
        keep(key, value, **how_long)

    task.set = fail_once_started  # type: ignore[method-assign]  # of our fake Airflow
    assert execute(operator("Load"), task)["status"] == "Succeeded"
    # A retry finds the run by the key that was stored before the request.
    task.store_works = True
    task.retry()
    assert execute(operator("Load"), task)["adopted"]
    assert len(runs(emulator)) == 1


def test_correlation_parameter_carries_the_start_key(operator: Make, emulator: Emulator) -> None:
    task = Task()
    execute(operator("Load", correlation_parameter="day"), task)
    (run,) = emulator.call(lambda: list(emulator.state().runs.values()))
    assert run.values["day"] == task.intent.start_key


@pytest.mark.parametrize(
    "arguments",
    [
        {"correlation_parameter": "day", "parameters": {"day": "1"}},
        {"correlation_parameter": "day", "reference_pipeline_run_id": "r1"},
    ],
)
def test_contradicting_correlation_parameter_is_refused(arguments: Any, operator: Make, emulator: Emulator) -> None:
    with pytest.raises(AdfConfigurationError, match="correlation_parameter"):
        execute(operator("Load", **arguments), Task())
    assert emulator.books.requests == []


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"on_ambiguous_start": "perhaps"}, "on_ambiguous_start"),
        ({"start_settle": 0}, "start_settle"),
        ({"supersede_timeout": -1}, "supersede_timeout"),
    ],
)
def test_bad_arguments_are_refused_when_the_dag_is_parsed(arguments: Any, text: str, operator: Make) -> None:
    with pytest.raises(AdfConfigurationError, match=text):
        operator("Load", **arguments)


@needs("TASK_STATE_STORE")
def test_xcom_that_cannot_be_pushed_does_not_orphan_the_run(operator: Make, emulator: Emulator) -> None:
    result = execute(operator("Load"), Task(xcoms_work=False))
    assert result["status"] == "Succeeded"
    assert runs(emulator) == [result["run_id"]]


@pytest.mark.parametrize("cancels", [True, False])
def test_execution_timeout_cancels_as_timeout_does(cancels: bool, operator: Make, emulator: Emulator) -> None:
    """Our deadline comes before Airflow's, so that cancel_on_timeout decides."""
    it = operator("Slow", execution_timeout=timedelta(seconds=1), cancel_on_timeout=cancels)
    with pytest.raises(AdfRunTimedOut):
        execute(it, Task())
    it.on_kill()
    assert len(cancelled(emulator)) == (1 if cancels else 0)


@pytest.mark.parametrize(
    ("arguments", "limit"),
    [
        ({"timeout": 0.5}, "timeout of 0.5 s"),
        ({"timeout": 60, "execution_timeout": timedelta(seconds=1)}, "execution_timeout of 1 s"),
    ],
)
def test_error_of_a_timeout_names_the_argument_and_its_seconds(
    arguments: dict[str, Any], limit: str, operator: Make, emulator: Emulator
) -> None:
    # On a busy machine, the first status check may be the only one.
    with pytest.raises(AdfRunTimedOut, match=f"did not end within its {limit}. It was (Queued|InProgress) at the last"):
        execute(operator("Slow", **arguments), Task())
    assert len(cancelled(emulator)) == 1


@pytest.mark.parametrize("on_kill", [True, False])
@pytest.mark.parametrize("cancels", [True, False])
def test_execution_timeout_of_airflow_during_a_wait_follows_cancel_on_timeout(
    cancels: bool, on_kill: bool, operator: Make, emulator: Emulator
) -> None:
    task = Task()
    it = operator("Slow", cancel_on_timeout=cancels, cancel_on_kill=on_kill)
    attempt = Attempt(it, task.context)
    with contextlib.suppress(AirflowTaskTimeout), attempt._owning(None) as owned_run:
        attempt._begin(owned_run, None)
        # Airflow's alarm raises it.
        raise AirflowTaskTimeout
    attempt.kill()
    assert len(cancelled(emulator)) == (1 if cancels else 0)


@pytest.mark.parametrize("has_store", [True, False])
@pytest.mark.parametrize("waits", [True, False], ids=["while it waits", "before it waits"])
@pytest.mark.parametrize("on_kill", [True, False])
def test_execution_timeout_during_the_wait_for_a_superseded_run_follows_cancel_on_kill(
    has_store: bool, waits: bool, on_kill: bool, operator: Make, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "TASK_STATE_STORE", has_store and features.TASK_STATE_STORE)
    emulator.state().script = never_cancelled("Slow")
    task = Task()
    it = operator("Slow", cancel_on_timeout=not on_kill, cancel_on_kill=on_kill, wait_for_termination=False)
    first = execute(it, task)["run_id"]
    task.clear()
    attempt = Attempt(it, task.context, is_first_part=True)
    stored = attempt._stored()
    with contextlib.suppress(AirflowTaskTimeout), attempt._owning(stored or attempt._possible()) as owned_run:
        if waits:
            attempt._begin(owned_run, stored)
        # Airflow's alarm raises it.
        raise AirflowTaskTimeout
    assert set(cancelled(emulator)) == ({first} if on_kill else set())


@pytest.mark.parametrize("cancels", [True, False])
def test_execution_timeout_before_a_retry_has_adopted_its_run_follows_cancel_on_timeout(
    cancels: bool, operator: Make, emulator: Emulator
) -> None:
    task = Task()
    it = operator("Slow", cancel_on_timeout=cancels, cancel_on_kill=not cancels, wait_for_termination=False)
    first = execute(it, task)["run_id"]
    task.retry()
    attempt = Attempt(it, task.context, is_first_part=True)
    with contextlib.suppress(AirflowTaskTimeout), attempt._owning(attempt._stored() or attempt._possible()):
        raise AirflowTaskTimeout
    assert cancelled(emulator) == ([first] if cancels else [])


@pytest.mark.parametrize("cancels", [True, False])
def test_airflows_timeout_of_a_deferral_follows_cancel_on_timeout(
    cancels: bool, operator: Make, emulator: Emulator
) -> None:
    task = Task()
    it = operator("Slow", deferrable=True, cancel_on_timeout=cancels, timeout=600)
    deferred(it, task)
    text = f"within its timeout of 600 s.*{'requested' if cancels else 'left running'}"
    with pytest.raises(AdfRunTimedOut, match=text):
        it.resume_execution("__fail__", {"error": "Trigger timeout"}, task.context)
    assert len(cancelled(emulator)) == (1 if cancels else 0)


@pytest.mark.parametrize(
    ("durable", "text"),
    [
        (True, "neither its stored intent nor its XCom run_id names a run"),
        (False, "is not in this task's XCom run_id, and with durable=False there is no other record"),
    ],
)
def test_timeout_without_a_known_run_is_an_error_that_cancels_nothing(
    durable: bool, text: str, operator: Make, emulator: Emulator
) -> None:
    it = operator("Slow", durable=durable)
    with pytest.raises(AdfError, match=text):
        it.resume_execution("__fail__", {"error": "Trigger timeout"}, Task().context)
    assert emulator.books.requests == []


@needs("TASK_STATE_STORE")
def test_timeout_of_a_start_whose_run_could_not_be_recorded_names_its_key(operator: Make, emulator: Emulator) -> None:
    task = Task()
    it = operator("Slow", deferrable=True)
    deferred(it, task)
    # As if neither the store nor the XComs had been available after createRun.
    task.set(STATE_KEY, replace(task.intent, phase=Phase.SENDING, run_id=None).to_json())
    task.xcoms.clear()
    with pytest.raises(AdfError, match=rf"has sent a start .*\(start key {task.intent.start_key}\).*A retry searches"):
        it.resume_execution("__fail__", {"error": "Trigger timeout"}, task.context)
    assert cancelled(emulator) == []


@needs("TASK_STATE_STORE")
@pytest.mark.parametrize("error", ["Trigger timeout", "Trigger failure"])
def test_lost_wait_for_a_superseded_run_names_it_and_says_that_nothing_was_started(
    error: str, operator: Make, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_adf_mi._worker.trigger_failures.MOST_TRIGGER_FAILURES", 0)
    emulator.state().script = never_cancelled("Slow")
    task = Task()
    it = operator("Slow", deferrable=True, cancel_on_kill=False)
    first = deferred(it, task).trigger.run_id
    task.clear()
    deferred(it, task)
    text = f"has waited for the end of run {first} of an earlier try. It has started no run of pipeline 'Slow'"
    with pytest.raises(AdfError, match=text):
        it.resume_execution("__fail__", {"error": error}, task.context)
    assert cancelled(emulator) == []


@pytest.mark.parametrize("durable", [True, False])
def test_error_of_a_failed_trigger_says_what_a_retry_does(
    durable: bool, operator: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_adf_mi._worker.trigger_failures.MOST_TRIGGER_FAILURES", 0)
    task = Task()
    it = operator("Slow", deferrable=True, durable=durable)
    deferred(it, task)
    text = "A retry waits for it again" if durable else "Because of durable=False, a retry starts another run"
    with pytest.raises(AdfError, match=text) as e:
        it.resume_execution("__fail__", {"error": "Trigger failure"}, task.context)
    assert "with durable=True" not in str(e.value)


@needs("TASK_STATE_STORE")
def test_store_that_cannot_be_read_at_airflows_timeout_cancels_nothing(operator: Make, emulator: Emulator) -> None:
    task = Task()
    it = operator("Slow", deferrable=True)
    deferred(it, task)
    task.store_works = False
    with pytest.raises(AdfError, match="A run that was started is not affected"):
        it.resume_execution("__fail__", {"error": "Trigger timeout"}, task.context)
    assert cancelled(emulator) == []


@needs("TASK_STATE_STORE")
def test_failed_trigger_is_followed_by_another_for_the_same_run(
    operator: Make, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_adf_mi._worker.trigger_failures.FIRST_PAUSE_SECONDS", 0.001)  # instead of seconds
    task = Task()
    it = operator("Slow", deferrable=True)
    first = deferred(it, task).trigger
    for number in range(1, 7):
        with pytest.raises(TaskDeferred) as again:
            it.resume_execution("__fail__", {"error": "Trigger failure"}, task.context)
        assert again.value.trigger.run_id == first.run_id
        assert again.value.trigger.deadline == first.deadline  # the wait has the same deadline
        assert task.get(TRIGGER_FAILURES_KEY)["failures"] == number
    with pytest.raises(AdfError, match=f"{first.run_id} of pipeline 'Slow'"):
        it.resume_execution("__fail__", {"error": "Trigger failure"}, task.context)
    assert cancelled(emulator) == []
    assert len(runs(emulator)) == 1
    # The retry begins its own count.
    task.retry()
    assert deferred(it, task).trigger.run_id == first.run_id
    with pytest.raises(TaskDeferred):
        it.resume_execution("__fail__", {"error": "Trigger failure"}, task.context)
    assert task.get(TRIGGER_FAILURES_KEY)["failures"] == 1


def test_failed_trigger_without_a_journal_names_the_run(operator: Make, emulator: Emulator) -> None:
    task = Task()
    it = operator("Slow", deferrable=True, durable=False)
    first = deferred(it, task).trigger
    with pytest.raises(AdfError, match=first.run_id):
        it.resume_execution("__fail__", {"error": "Trigger failure"}, task.context)
    assert cancelled(emulator) == []


def test_kill_while_earlier_runs_cannot_be_checked_without_a_store_cancels_the_last_one(
    operator: Make, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Airflow 3.1 and 3.2."""
    monkeypatch.setattr(features, "TASK_STATE_STORE", False)
    task = Task()
    first = execute(operator("Slow", wait_for_termination=False), task)["run_id"]
    task.retry()
    it = operator("Slow")
    down = emulator.add_fault("getRun", times=None, status=503)

    def kill() -> None:
        while not down.consumed:
            time.sleep(0.01)
        it.on_kill()

    killing = threading.Thread(target=kill)
    killing.start()
    with pytest.raises(AdfTaskKilled):
        execute(it, task)
    killing.join()
    assert cancelled(emulator) == [first]


def test_kill_before_an_earlier_run_is_adopted_without_a_store_cancels_that_run(
    operator: Make, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Airflow 3.1 and 3.2."""
    monkeypatch.setattr(features, "TASK_STATE_STORE", False)
    task = Task()
    first = execute(operator("Slow", wait_for_termination=False), task)["run_id"]
    task.retry()
    it = operator("Slow")
    push = task.xcom_push

    def kill_while_claiming(key: str, value: Any) -> None:
        it.on_kill()
        push(key, value)

    task.xcom_push = kill_while_claiming  # type: ignore[method-assign]  # of our fake Airflow
    with pytest.raises(AdfTaskKilled, match="was cancelled"):
        execute(it, task)
    assert cancelled(emulator) == [first]
    assert len(runs(emulator)) == 1


@needs("TASK_STATE_STORE")
def test_list_that_leaves_out_just_the_run_of_a_lost_start_leads_to_a_second_one(
    operator: Make, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page on starts says so ("Where the promise ends")."""
    monkeypatch.setattr("airflow_adf_mi.adf.starting.create_run.LATE_SEARCH_SECONDS", 0.1)
    emulator.state().switches.run_id_from_request_id = False
    hidden = emulator.add_fault("createRun", effect="after", drop=True, unlisted=True)
    task = Task(max_tries=2)
    it = operator(
        "Load",
        correlation_parameter="day",
        on_ambiguous_start="start_if_list_is_fresh",
        start_settle=0.1,
        wait_for_termination=False,
    )
    with pytest.raises(AdfAmbiguousStartError, match="The run list does not show that it is up to date"):
        execute(it, task)
    assert hidden.consumed
    assert len(runs(emulator)) == 1
    # A minute later, somebody has started another pipeline.
    task.set(STATE_KEY, replace(task.intent, sent_at=time.time() - 60).to_json())
    emulator.call(lambda: emulator.state().create_run("Slow", {}))
    task.retry()
    execute(it, task)
    assert emulator.call(lambda: [run.pipeline for run in emulator.state().runs.values()]) == ["Load", "Slow", "Load"]


@needs("TASK_STATE_STORE")
def test_retry_after_an_update_from_an_airflow_without_a_store_starts_another_run(
    operator: Make, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the page "Versions" says that active tasks should end before the update."""
    task, it = Task(), operator("Slow", wait_for_termination=False)
    with monkeypatch.context() as older:
        older.setattr(features, "TASK_STATE_STORE", False)
        first = execute(it, task)
    task.retry()
    second = execute(it, task)
    assert not second["adopted"]
    assert runs(emulator) == [first["run_id"], second["run_id"]]
    assert cancelled(emulator) == []


def test_log_of_a_task_in_triggerer_mode_says_why_a_worker_runs_it(
    operator: Make,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As on Airflow 3.1 and 3.2."""
    monkeypatch.setattr(features, "TEMPLATED_TRIGGERS", False)
    execute(operator("Load", start_from_trigger=True), Task())
    logged = caplog.text + capsys.readouterr().out
    why = "this version of Airflow renders no templates in a triggerer; Airflow 3.3 does."
    assert f"start_from_trigger=True, but this try runs on a worker: {why}" in logged


@pytest.mark.parametrize("resumed_with", ["execute_complete", "__fail__"])
def test_retry_that_airflow_resumes_with_the_event_of_the_failed_try_starts_its_own_run(
    resumed_with: str, operator: Make, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Airflow 3.1.0 does. It also keeps the XComs of the failed try."""
    monkeypatch.setattr(features, "TASK_STATE_STORE", False)
    task = Task()
    trigger = deferred(operator("Broken", deferrable=True), task).trigger
    event = asyncio.run(fired(trigger))
    arguments = {"event": event} if resumed_with == "execute_complete" else {"error": "Trigger failure"}
    with pytest.raises(AdfRunFailed):
        operator("Broken", deferrable=True).resume_execution("execute_complete", {"event": event}, task.context)
    xcoms = dict(task.xcoms)
    task.retry()
    task.xcoms.update(xcoms)
    with pytest.raises(TaskDeferred):
        operator("Broken", deferrable=True).resume_execution(resumed_with, arguments, task.context)
    assert len(runs(emulator)) == 2


def test_retry_that_airflow_resumes_so_fails_with_the_old_error_if_nothing_is_stored(
    operator: Make, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Airflow 3.1.0 does."""
    monkeypatch.setattr(features, "TASK_STATE_STORE", False)
    task = Task()
    event = asyncio.run(fired(deferred(operator("Broken", deferrable=True, durable=False), task).trigger))
    task.retry()
    with pytest.raises(AdfRunFailed, match="no such table"):
        operator("Broken", deferrable=True, durable=False).resume_execution(
            "execute_complete", {"event": event}, task.context
        )
    assert len(runs(emulator)) == 1


@needs("TASK_STATE_STORE")
def test_kill_at_the_beginning_of_a_retry_cancels_the_run_of_the_previous_try(
    operator: Make, emulator: Emulator
) -> None:
    task = Task()
    execute(operator("Slow", wait_for_termination=False), task)
    task.retry()
    attempt = Attempt(operator("Slow"), task.context)
    with attempt._owning(task.intent):  # as if the signal came during the first status check
        attempt.kill()
    assert len(cancelled(emulator)) == 1


@needs("TASK_STATE_STORE")
def test_intent_of_another_version_leads_to_the_run(operator: Make, emulator: Emulator) -> None:
    task = Task()
    first = execute(operator("Slow", wait_for_termination=False), task)["run_id"]
    task.set(STATE_KEY, {"version": 99, "run_id": first, "start_key": str(uuid.uuid4())})
    task.retry()
    again = execute(operator("Slow", wait_for_termination=False), task)
    assert (again["run_id"], again["adopted"]) == (first, True)

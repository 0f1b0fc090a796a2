"""What a worker does for a task in triggerer mode: it ends the try, or continues it after a failed trigger."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.listeners import hookimpl
from airflow.sdk import DAG
from airflow.sdk.definitions.retry_policy import RetryPolicy
from airflow.sdk.exceptions import TaskDeferred
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import TaskStatesResult
from airflow.sdk.listener import get_listener_manager

from airflow_adf_mi._triggerer.eligibility import may_end_in_triggerer
from airflow_adf_mi._triggerer.finish import LINK_KEY
from airflow_adf_mi._triggerer.start_key import task_try_key_of
from airflow_adf_mi._triggerer.stored_start import KEPT_BY_WORKER, StoredStart
from airflow_adf_mi._triggerer.xcom_journal import INTENT_KEY
from airflow_adf_mi._worker.resumed_attempt import ResumedAttempt
from airflow_adf_mi._worker.task_journal import STATE_KEY
from airflow_adf_mi._worker.trigger_failures import MOST_TRIGGER_FAILURES
from airflow_adf_mi.adf import errors
from airflow_adf_mi.adf.api import operations
from airflow_adf_mi.adf.api.client import AdfClient
from airflow_adf_mi.adf.config.addresses import RunAddress
from airflow_adf_mi.adf.config.settings import AdfSettings
from airflow_adf_mi.adf.error_json import error_to_json
from airflow_adf_mi.adf.models import PipelineRun, RunStatus
from airflow_adf_mi.adf.reporting.report import Report
from airflow_adf_mi.adf.starting.intent import Intent, Phase, TaskTry
from airflow_adf_mi.adf.starting.start import Start
from airflow_adf_mi.adf.waiting.single_run import Ended
from airflow_adf_mi.emulator import Emulator
from airflow_adf_mi.exceptions import (
    AdfAmbiguousStartError,
    AdfConfigurationError,
    AdfError,
    AdfRunFailed,
    AdfRunTimedOut,
    AdfTaskKilled,
    AdfThrottledError,
)
from airflow_adf_mi.operators import AdfRunPipelineOperator
from airflow_adf_mi.retry import AdfRetryPolicy
from airflow_adf_mi.triggers.start_and_wait import AdfStartPipelineTrigger
from tests.support.minors import AirflowTaskTimeout
from tests.support.tasks import Task, execute
from tests.support.triggerer import BEGAN

Make = Callable[..., AdfRunPipelineOperator]


@pytest.fixture
def operator(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Make:
    given = {"conn_type": "azure_data_factory_mi", "extra": emulator.connection_extra()}
    monkeypatch.setenv("AIRFLOW_CONN_ADF", json.dumps(given))

    def make(**arguments: Any) -> AdfRunPipelineOperator:
        with DAG("dag", schedule=None, start_date=BEGAN):
            return AdfRunPipelineOperator(
                **{
                    "task_id": "it",
                    "azure_data_factory_conn_id": "adf",
                    "pipeline_name": "Load",
                    "start_from_trigger": True,
                    **arguments,
                }
            )

    return make


def retry_in_triggerer(task: Task) -> None:
    """Begin a retry and keep its XComs. Airflow deletes them only if a try begins on a worker."""
    xcoms = dict(task.xcoms)
    task.retry()
    task.xcoms |= xcoms


def break_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_ADF", json.dumps({"conn_type": "azure_data_factory_mi", "extra": {}}))


class Unusable(RetryPolicy):
    """A policy that returns no decision."""

    def evaluate(self, *_: Any, **__: Any) -> Any:
        return None


def started(settings: AdfSettings, task: Task, pipeline: str = "Load") -> str:
    """Start a run and store its intent, as the task's trigger does."""
    key = task_try_key_of(task.context).start_key
    intent = Start(factory=settings.factory(), pipeline_name=pipeline, start_key=key).intent(now(task))
    task.xcoms[INTENT_KEY] = replace(intent, phase=Phase.SENDING, sent_at=time.time()).to_json()
    with AdfClient(settings) as client:
        task.xcoms["run_id"] = client.send(operations.create_run(settings.factory(), pipeline, None, request_id=key))
    return key


def now(task: Task) -> TaskTry:
    """The current try, as its trigger knows it."""
    return TaskTry(try_number=task.try_number)


def stored_start(task: Task) -> StoredStart:
    start = StoredStart.from_json(task.xcoms[INTENT_KEY])
    assert start is not None
    return start


def record_failure(task: Task) -> None:
    """Store what a trigger stores when it hands a try over to a worker."""
    recorded = stored_start(task).recording(now(task), failed=True)
    assert recorded is not None
    task.xcoms[INTENT_KEY] = recorded.to_json()


def report(settings: AdfSettings, run_id: str, status: str) -> dict[str, Any]:
    factory = settings.factory()
    url = settings.run_address(factory, run_id).studio_url
    address = RunAddress(run_id=run_id, factory=factory, studio_url=url, pipeline_name="Load")
    run = PipelineRun.from_wire({"runId": run_id, "pipelineName": "Load", "status": status})
    return dict(json.loads(json.dumps(Report(address=address, outcome=Ended(run=run)).to_json())))


def test_success_that_ends_on_a_worker_is_recorded_as_no_failure(
    operator: Make, settings: AdfSettings, emulator: Emulator
) -> None:
    task = Task()
    run_id = started(settings, task)
    # The trigger does not know how the worker will end the try.
    record_failure(task)
    event = report(settings, run_id, RunStatus.SUCCEEDED)
    assert operator().execute_complete(task.context, event)["run_id"] == run_id
    assert run_id in task.xcoms[LINK_KEY]
    # The next try then counts as cleared.
    assert Intent.from_json(task.xcoms[INTENT_KEY]).try_failed is False


@pytest.mark.parametrize("tries_left", [True, False])
def test_failure_is_recorded_as_retried_only_if_a_retry_follows(
    tries_left: bool, operator: Make, settings: AdfSettings
) -> None:
    task = Task(max_tries=int(tries_left))
    run_id = started(settings, task)
    with pytest.raises(AdfRunFailed):
        operator().execute_complete(task.context, report(settings, run_id, RunStatus.FAILED))
    kept = Intent.from_json(task.xcoms[INTENT_KEY])
    assert (kept.start_key, kept.try_failed, kept.task_try.try_number) == (run_id, tries_left, 1)
    # A retry on a worker knows it too, in case the Dag is changed.
    assert (STATE_KEY in task.kept) is tries_left


def test_intent_of_the_trigger_is_kept_when_the_start_fails(operator: Make, settings: AdfSettings) -> None:
    task = Task()
    run_id = started(settings, task)
    task.xcoms[INTENT_KEY] |= {"sent_at": 123.0}
    lost = AdfAmbiguousStartError("lost", request_id=run_id)
    with pytest.raises(AdfAmbiguousStartError):
        operator().execute_complete(task.context, {"not_started": error_to_json(lost)})
    kept = Intent.from_json(task.xcoms[INTENT_KEY])
    assert (kept.sent_at, kept.phase, kept.try_failed) == (123.0, Phase.SENDING, True)


def test_failed_start_fails_the_task_with_its_error(operator: Make) -> None:
    task = Task()
    event = {"not_started": error_to_json(AdfThrottledError("too many", status=429))}
    with pytest.raises(AdfThrottledError, match="too many"):
        operator().execute_complete(task.context, event)
    assert INTENT_KEY not in task.xcoms


def test_run_from_before_a_clear_is_not_recorded_for_the_try_that_failed(operator: Make, settings: AdfSettings) -> None:
    task = Task()
    started(settings, task)
    before = dict(task.xcoms[INTENT_KEY])
    task.try_number = 2
    task.max_tries = 9
    event = {"not_started": error_to_json(AdfError("the older run is still there"))}
    with pytest.raises(AdfError, match="still there"):
        operator().execute_complete(task.context, event)
    assert task.xcoms[INTENT_KEY] == before


def test_try_that_began_on_a_worker_ends_there(operator: Make, settings: AdfSettings, emulator: Emulator) -> None:
    """Airflow had an earlier version of the Dag, or the Dag is run by dag.test()."""
    task = Task()
    it = operator(pipeline_name="Slow", deferrable=True)
    with pytest.raises(TaskDeferred):
        AdfRunPipelineOperator.execute.__wrapped__(it, task.context)  # type: ignore[attr-defined]  # Airflow's
    with pytest.raises(AdfRunFailed):
        it.execute_complete(task.context, report(settings, task.xcoms["run_id"], RunStatus.FAILED))
    assert task.intent.try_failed
    assert INTENT_KEY not in task.xcoms


def test_summary_of_a_run_that_is_not_waited_for_is_returned(operator: Make, settings: AdfSettings) -> None:
    task = Task()
    run_id = started(settings, task)
    record_failure(task)
    summary = {"run_id": run_id, "status": None, "studio_url": "https://adf.azure.com/"}
    made = operator(wait_for_termination=False)
    assert made.execute_complete(task.context, {"started": summary}) == summary
    assert task.xcoms[LINK_KEY] == "https://adf.azure.com/"
    assert Intent.from_json(task.xcoms[INTENT_KEY]).try_failed is False, "the next try counts as cleared"


def test_failed_trigger_is_started_again_with_the_arguments_of_the_dag(
    operator: Make, settings: AdfSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_adf_mi._worker.trigger_failures.FIRST_PAUSE_SECONDS", 0.001)  # instead of seconds
    task = Task()
    started(settings, task)
    plain = operator(parameters={"password": "{{ conn.adf.password }}"})
    rendered = plain.prepare_for_execution()
    rendered.parameters = {"password": "hunter2"}
    for _ in range(MOST_TRIGGER_FAILURES):
        with pytest.raises(TaskDeferred) as deferral:
            rendered.resume_execution("__fail__", {"error": "Trigger failure"}, task.context)
        trigger = deferral.value.trigger
        assert isinstance(trigger, AdfStartPipelineTrigger)
        assert trigger.parameters == {"password": "{{ conn.adf.password }}"}
        assert deferral.value.method_name == "execute_complete"
    with pytest.raises(AdfError, match="failed 7 times"):
        rendered.resume_execution("__fail__", {"error": "Trigger failure"}, task.context)
    # Another try begins its own count.
    task.retry()
    with pytest.raises(TaskDeferred):
        rendered.resume_execution("__fail__", {"error": "Trigger failure"}, task.context)


def test_worker_killed_in_the_pause_after_a_failed_trigger_leaves_a_retry(
    operator: Make, settings: AdfSettings, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = Task(max_tries=3)
    started(settings, task, "Slow")
    made = operator(pipeline_name="Slow")
    running = SimpleNamespace(send=lambda _: TaskStatesResult(task_states={"run1": {"it": "running"}}))
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", running, raising=False)
    # As a signal of the machine sets it. Airflow still shows the task as running.
    made.is_killed = True
    with pytest.raises(AdfTaskKilled):
        made.resume_execution("__fail__", {"error": "Trigger failure"}, task.context)
    assert emulator.books.count("cancelRun") == 0
    assert stored_start(task).last_failed_try == 1, "the next try counts as a retry"
    # If the worker is not lost, the try after the new trigger counts as cleared again.
    made.is_killed = False
    monkeypatch.setattr("airflow_adf_mi._worker.trigger_failures.FIRST_PAUSE_SECONDS", 0.001)  # instead of seconds
    with pytest.raises(TaskDeferred):
        made.resume_execution("__fail__", {"error": "Trigger failure"}, task.context)
    assert stored_start(task).last_failed_try is None


def test_retry_whose_trigger_fails_at_first_still_counts_as_a_retry(
    operator: Make, settings: AdfSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run of the previous try has failed, so the retry must not adopt it."""
    monkeypatch.setattr("airflow_adf_mi._worker.trigger_failures.FIRST_PAUSE_SECONDS", 0.001)  # instead of seconds
    task = Task(max_tries=3)
    run_id = started(settings, task)
    with pytest.raises(AdfRunFailed):
        operator().execute_complete(task.context, report(settings, run_id, RunStatus.FAILED))
    retry_in_triggerer(task)
    made = operator()
    with pytest.raises(TaskDeferred):
        made.resume_execution("__fail__", {"error": "Trigger failure"}, task.context)
    known = stored_start(task).recall(now(task))
    assert known is not None
    assert (known.task_try.try_number, known.try_failed, known.start_key) == (1, True, run_id)


def test_failed_last_try_without_a_connection_is_followed_by_a_clear(
    operator: Make, settings: AdfSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = Task(max_tries=0)
    started(settings, task)
    # Its trigger recorded a failure, because it does not know that this is the last try.
    record_failure(task)
    break_connection(monkeypatch)
    unusable = AdfConfigurationError("subscription_id is missing")
    with pytest.raises(AdfConfigurationError):
        operator().execute_complete(task.context, {"not_started": error_to_json(unusable)})
    assert stored_start(task).last_failed_try != 1


def test_result_that_airflow_refuses_leaves_the_run_to_the_retry(operator: Make, settings: AdfSettings) -> None:
    task = Task(max_tries=3)
    run_id = started(settings, task)
    push = task.xcom_push

    def push_no_result(key: str, value: Any) -> None:
        if key == "return_value":
            raise RuntimeError("413: the result is too large")
        push(key, value)

    task.xcom_push = push_no_result  # type: ignore[method-assign]  # Airflow's API, which fails
    with pytest.raises(RuntimeError, match="413"):
        operator().execute_complete(task.context, report(settings, run_id, RunStatus.SUCCEEDED))
    assert stored_start(task).last_failed_try == 1


def test_kill_in_the_pause_after_a_failed_trigger_cancels_the_run(
    operator: Make, settings: AdfSettings, emulator: Emulator
) -> None:
    task = Task(max_tries=0)
    run_id = started(settings, task, "Slow")
    attempt = ResumedAttempt(operator(pipeline_name="Slow"), task.context)
    with attempt._owning(attempt._started_in_triggerer()) as owned_run:
        attempt.kill()
        with pytest.raises(errors.AdfTaskKilled):
            owned_run.rest(60)
    assert [r.run_id for r in emulator.books.of("cancelRun", status=200)] == [run_id]


def test_airflows_timeout_cancels_the_run_that_the_trigger_started(
    operator: Make, settings: AdfSettings, emulator: Emulator
) -> None:
    task = Task()
    run_id = started(settings, task, "Slow")
    with pytest.raises(AdfError, match=run_id):
        operator(pipeline_name="Slow", timeout=0.001).resume_execution(
            "__fail__", {"error": "Trigger timeout"}, task.context
        )
    assert [r.run_id for r in emulator.books.of("cancelRun", status=200)] == [run_id]


@pytest.mark.parametrize("on_kill", [True, False])
@pytest.mark.parametrize("is_clear", [True, False])
def test_execution_timeout_in_the_pause_after_a_failed_trigger_cancels_as_its_run_requires(
    is_clear: bool, on_kill: bool, operator: Make, settings: AdfSettings, emulator: Emulator
) -> None:
    """cancel_on_kill decides about a superseded run, and cancel_on_timeout about another."""
    task = Task()
    run_id = started(settings, task, "Slow")
    if is_clear:
        xcoms = dict(task.xcoms)
        task.clear()
        task.xcoms |= xcoms
    it = operator(pipeline_name="Slow", cancel_on_kill=on_kill, cancel_on_timeout=not on_kill)
    attempt = ResumedAttempt(it, task.context)
    with contextlib.suppress(AirflowTaskTimeout), attempt._owning(attempt._started_in_triggerer()):
        raise AirflowTaskTimeout
    cancels = on_kill if is_clear else not on_kill
    assert [r.run_id for r in emulator.books.of("cancelRun", status=200)] == ([run_id] if cancels else [])


@pytest.mark.parametrize("durable", [True, False])
def test_error_of_a_trigger_that_keeps_failing_says_what_a_retry_does(
    durable: bool, operator: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_adf_mi._worker.trigger_failures.MOST_TRIGGER_FAILURES", 0)
    text = "a retry adopts it" if durable else "a retry starts another, because of durable=False"
    with pytest.raises(AdfError, match=text):
        operator(durable=durable).resume_execution("__fail__", {"error": "Trigger failure"}, Task().context)


def test_failed_status_check_at_airflows_timeout_cancels_nothing(
    operator: Make, settings: AdfSettings, emulator: Emulator
) -> None:
    task = Task(start_date=datetime.now(UTC) - timedelta(hours=2))
    started(settings, task, "Slow")
    fault = emulator.add_fault("getRun", times=None, status=503)
    with pytest.raises(TaskDeferred):
        operator(pipeline_name="Slow", timeout=3600).resume_execution(
            "__fail__", {"error": "Trigger timeout"}, task.context
        )
    assert fault.consumed
    assert emulator.books.count("cancelRun") == 0


@pytest.mark.parametrize("is_over", [False, True])
def test_airflows_timeout_does_not_shorten_the_wait_for_a_run_that_started_late(
    is_over: bool, operator: Make, settings: AdfSettings, emulator: Emulator
) -> None:
    """The triggerer had no capacity for hours. Airflow's timeout and execution_timeout count from before that."""
    handed_over = datetime.now(UTC) - timedelta(hours=2)
    task = Task(start_date=handed_over)
    run_id = started(settings, task, "Slow")
    late = operator(pipeline_name="Slow", timeout=3600, execution_timeout=timedelta(hours=1 if is_over else 3))
    with pytest.raises(AdfError if is_over else TaskDeferred) as ended:
        late.resume_execution("__fail__", {"error": "Trigger timeout"}, task.context)
    assert [r.run_id for r in emulator.books.of("cancelRun", status=200)] == ([run_id] if is_over else [])
    if isinstance(ended.value, TaskDeferred):
        assert ended.value.trigger.try_began_at == handed_over.timestamp()
        assert timedelta(minutes=55) < ended.value.timeout < timedelta(minutes=65)


@pytest.mark.parametrize("sent_before", [60, 5000])
def test_airflows_timeout_leaves_a_run_the_time_since_its_createrun(
    sent_before: float, operator: Make, settings: AdfSettings, emulator: Emulator
) -> None:
    task = Task(start_date=datetime.now(UTC) - timedelta(hours=2))
    run_id = started(settings, task, "Slow")
    task.xcoms[INTENT_KEY]["sent_at"] -= sent_before
    late = operator(pipeline_name="Slow", timeout=3600)
    with pytest.raises(TaskDeferred if sent_before < 3600 else AdfRunTimedOut):
        late.resume_execution("__fail__", {"error": "Trigger timeout"}, task.context)
    assert [r.run_id for r in emulator.books.of("cancelRun", status=200)] == [run_id] * (sent_before > 3600)


def test_retry_without_a_usable_connection_still_counts_as_a_retry(
    operator: Make, settings: AdfSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = Task(max_tries=3)
    run_id = started(settings, task)
    with pytest.raises(AdfRunFailed):
        operator().execute_complete(task.context, report(settings, run_id, RunStatus.FAILED))
    retry_in_triggerer(task)
    break_connection(monkeypatch)
    unusable = AdfConfigurationError("subscription_id is missing")
    with pytest.raises(AdfConfigurationError):
        operator().execute_complete(task.context, {"not_started": error_to_json(unusable)})
    assert stored_start(task).last_failed_try == 2


def test_try_whose_connection_became_unusable_leaves_its_run_to_a_retry(
    operator: Make, settings: AdfSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a restart, neither the triggerer nor the worker can use the connection."""
    task = Task(max_tries=3)
    run_id = started(settings, task)
    break_connection(monkeypatch)
    unusable = AdfConfigurationError("subscription_id is missing")
    with pytest.raises(AdfConfigurationError):
        operator().execute_complete(task.context, {"not_started": error_to_json(unusable)})
    assert (stored_start(task).last_failed_try, stored_start(task).intent.start_key) == (1, run_id)
    # A retry on a worker knows it too, in case the Dag is changed.
    assert task.intent.start_key == run_id


def test_timeout_of_a_try_that_started_nothing_does_not_return_the_previous_run(
    operator: Make, settings: AdfSettings, emulator: Emulator
) -> None:
    """The task was cleared, and no triggerer began the new try. What succeeded before the clear is not its result."""
    task = Task()
    started(settings, task)
    xcoms = dict(task.xcoms)
    task.clear()
    task.xcoms |= xcoms
    with pytest.raises(AdfError, match="This try started nothing"):
        operator().resume_execution("__fail__", {"error": "Trigger timeout"}, task.context)
    assert emulator.books.of("cancelRun") == []


def test_trigger_that_is_started_again_keeps_the_start_of_its_try(
    operator: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_adf_mi._worker.trigger_failures.FIRST_PAUSE_SECONDS", 0.001)  # instead of seconds
    began = datetime.now(UTC) - timedelta(minutes=50)
    task = Task(start_date=began)
    it = operator(execution_timeout=timedelta(hours=1))
    with pytest.raises(TaskDeferred) as deferral:
        it.resume_execution("__fail__", {"error": "Trigger failure"}, task.context)
    assert deferral.value.trigger.try_began_at == began.timestamp()
    assert timedelta(minutes=9) < deferral.value.timeout < timedelta(minutes=11)


@pytest.mark.parametrize("durable", [True, False])
@pytest.mark.parametrize("event", [{"for_a_worker": True}, None], ids=["event", "failure"])
def test_task_that_was_edited_adopts_its_run_on_a_worker(
    event: dict[str, Any] | None,
    durable: bool,
    operator: Make,
    settings: AdfSettings,
    emulator: Emulator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Within one try nothing is started twice, whatever `durable` is."""
    monkeypatch.setattr("airflow_adf_mi._worker.trigger_failures.FIRST_PAUSE_SECONDS", 0.001)  # instead of seconds
    task = Task(max_tries=0)
    run_id = started(settings, task, "Slow")
    it = operator(pipeline_name="Slow", start_from_trigger=False, deferrable=True, durable=durable)
    method, kwargs = (
        ("__fail__", {"error": "Trigger failure"}) if event is None else ("execute_complete", {"event": event})
    )
    with pytest.raises(TaskDeferred) as deferral:
        it.resume_execution(method, kwargs, task.context)
    assert deferral.value.trigger.run_id == run_id
    assert len(emulator.books.of("createRun")) == 1
    if durable:
        # From now on it is a usual task, and its journal is the task state store.
        assert task.intent.run_id == run_id
        assert task.xcoms[INTENT_KEY] == KEPT_BY_WORKER
    it.on_kill()
    assert [r.run_id for r in emulator.books.of("cancelRun", status=200)] == [run_id]


def test_task_whose_dag_was_changed_before_its_retry_starts_another_run(
    operator: Make, settings: AdfSettings, emulator: Emulator
) -> None:
    task = Task(max_tries=3)
    run_id = started(settings, task)
    with pytest.raises(AdfRunFailed):
        operator().execute_complete(task.context, report(settings, run_id, RunStatus.FAILED))
    emulator.call(lambda: setattr(emulator.state().runs[run_id], "status", "Failed"))
    retry_in_triggerer(task)
    it = operator(start_from_trigger=False, deferrable=False, check_interval=0.2)
    assert it.execute_complete(task.context, {"for_a_worker": True})["adopted"] is False
    assert len(emulator.books.of("createRun")) == 2


def test_failure_that_a_retry_policy_does_not_retry_is_followed_by_a_clear(
    operator: Make, settings: AdfSettings
) -> None:
    unusable = {"not_started": error_to_json(AdfConfigurationError("no such pipeline"))}
    first = Task()
    started(settings, first)
    for policy, retried in ((None, True), (AdfRetryPolicy(), False), (Unusable(), True)):
        task = Task(max_tries=3, xcoms=dict(first.xcoms))
        with pytest.raises(AdfConfigurationError):
            operator(retry_policy=policy).execute_complete(task.context, unusable)
        assert (stored_start(task).last_failed_try == 1) is retried


def test_task_whose_dag_was_changed_is_left_to_a_retry_if_it_cannot_connect(
    operator: Make, settings: AdfSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = Task(max_tries=3)
    started(settings, task)
    break_connection(monkeypatch)
    with pytest.raises(AdfConfigurationError):
        operator(start_from_trigger=False).execute_complete(task.context, {"for_a_worker": True})
    assert stored_start(task).last_failed_try == 1


def test_task_whose_dag_was_changed_before_its_start_starts_on_a_worker(operator: Make, emulator: Emulator) -> None:
    it = operator(start_from_trigger=False, deferrable=False, check_interval=0.2)
    task = Task()
    assert it.execute_complete(task.context, {"for_a_worker": True})["status"] == "Succeeded"
    assert len(emulator.books.of("createRun")) == 1


def test_task_ends_on_a_worker_if_there_are_listeners_of_success(operator: Make) -> None:
    class Listener:
        @hookimpl
        def on_task_instance_success(self, previous_state: Any, task_instance: Any) -> None:
            raise AssertionError("never called")

    class Other:
        @hookimpl
        def on_task_instance_failed(self, previous_state: Any, task_instance: Any, error: Any) -> None:
            raise AssertionError("never called")

    it = operator(start_from_trigger=False)
    manager: Any = get_listener_manager()
    other, listener = Other(), Listener()
    manager.add_listener(other)
    try:
        assert may_end_in_triggerer(it)
        manager.add_listener(listener)
        assert not may_end_in_triggerer(it)
    finally:
        manager.pm.unregister(other)
        manager.pm.unregister(listener)


@pytest.fixture
def by_template(operator: Make) -> Make:
    """Make a task that a worker runs, because a template needs a worker. In the rendered task, the template is gone."""

    def make(**arguments: Any) -> AdfRunPipelineOperator:
        plain = operator(
            pipeline_name="Slow", deferrable=True, parameters={"day": "{{ ti.xcom_pull('other') }}"}, **arguments
        )
        assert plain.why_on_worker() is not None
        rendered: AdfRunPipelineOperator = plain.prepare_for_execution()
        rendered.parameters = {"day": "1"}
        assert rendered.why_on_worker() is None
        return rendered

    return make


def begin_on_worker(it: AdfRunPipelineOperator, task: Task) -> str:
    with pytest.raises(TaskDeferred):
        execute(it, task)
    return str(task.xcoms["run_id"])


@pytest.mark.parametrize(
    ("store", "eligible"),
    [
        ("not used", True),
        ("not used", False),
        ("does not answer", True),
        ("does not answer", False),
        # An eligible task without an intent looks like one whose trigger was never loaded.
        ("lost the intent", False),
    ],
)
def test_trigger_failure_of_a_try_that_began_on_a_worker_starts_nothing(
    store: str, eligible: bool, by_template: Make, operator: Make, emulator: Emulator
) -> None:
    """If the task state store does not show where the try began, the Dag's task and the XComs decide."""
    task = Task(max_tries=3)
    make = operator if eligible else by_template
    it = make(durable=store != "not used", **({"pipeline_name": "Slow", "deferrable": True} if eligible else {}))
    run_id = begin_on_worker(it, task)
    task.store_works = store != "does not answer"
    if store == "lost the intent":
        task.kept.clear()
    with pytest.raises(AdfError, match="could not be read" if store == "does not answer" else run_id):
        it.resume_execution("__fail__", {"error": "Trigger failure"}, task.context)
    assert emulator.call(lambda: list(emulator.state().runs)) == [run_id]
    assert emulator.books.count("cancelRun") == 0


def test_deferral_timeout_of_a_try_that_began_on_a_worker_cancels_its_run(
    by_template: Make, emulator: Emulator
) -> None:
    task = Task()
    it = by_template(durable=False)
    run_id = begin_on_worker(it, task)
    with pytest.raises(AdfRunTimedOut, match=run_id):
        it.resume_execution("__fail__", {"error": "Trigger timeout"}, task.context)
    assert emulator.books.count("cancelRun") == 1


def test_log_of_a_worker_gives_the_template_that_needs_it(
    by_template: Make, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    begin_on_worker(by_template(), Task())
    logged = caplog.text + capsys.readouterr().out
    assert "this try runs on a worker: the triggerer would render parameters differently" in logged

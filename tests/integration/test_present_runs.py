"""Runs that are already there, on a worker, deferred, and in triggerer mode: they are watched, and never cancelled."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk import DAG

from airflow_adf_mi._triggerer import start as triggerer_start
from airflow_adf_mi._triggerer.finish import LINK_KEY
from airflow_adf_mi._triggerer.stored_start import StoredStart
from airflow_adf_mi._worker.resumed_attempt import resume
from airflow_adf_mi.adf import errors
from airflow_adf_mi.adf.api import operations
from airflow_adf_mi.adf.api.client import AdfClient
from airflow_adf_mi.adf.config.settings import AdfSettings
from airflow_adf_mi.adf.errors import AdfTaskKilled
from airflow_adf_mi.adf.starting.intent import TaskTry
from airflow_adf_mi.adf.starting.start import Start
from airflow_adf_mi.emulator import Emulator
from airflow_adf_mi.exceptions import AdfConfigurationError, AdfError, AdfRunFailed, AdfRunTimedOut
from airflow_adf_mi.operators import AdfRunPipelineOperator
from airflow_adf_mi.triggers.start_and_wait import NOT_STARTED, SKIPPED
from tests.support.explained_tasks import fired
from tests.support.fired import fire
from tests.support.minors import AirflowSkipException, TaskDeferred, needs
from tests.support.tasks import Make, Task, execute, runs
from tests.support.triggerer import BEGAN, Airflow, use_airflow
from tests.support.waiting import until

__all__ = ["use_airflow"]
pytestmark = pytest.mark.usefixtures("nothing_left")
HOUR = timedelta(hours=1)


@pytest.fixture
def outside(settings: AdfSettings) -> Callable[[str], str]:
    """Starts a run as somebody else."""

    def start(pipeline: str) -> str:
        with AdfClient(settings) as client:
            call = operations.create_run(settings.factory(), pipeline, None, request_id=f"foreign-{time.time_ns()}")
            return client.send(call)

    return start


def ended(emulator: Emulator) -> None:
    emulator.clock.advance(60)


def deferred(act: Callable[[], Any]) -> TaskDeferred:
    with pytest.raises(TaskDeferred) as e:
        act()
    return e.value


@pytest.mark.parametrize("policy", ["adopt", "skip", "fail", "wait"])
def test_policy_for_a_live_run(policy: str, operator: Make, outside: Callable[[str], str], emulator: Emulator) -> None:
    theirs = outside("Slow")
    task, it = Task(), operator("Slow", on_live_run=policy, deferrable=True)
    if policy == "adopt":
        trigger: Any = deferred(lambda: execute(it, task)).trigger
        assert (trigger.run_id, trigger.owns_run, trigger.cancel_on_timeout) == (theirs, False, False)
    elif policy == "wait":
        waiting = deferred(lambda: execute(it, task))
        trigger = waiting.trigger
        assert (trigger.run_id, trigger.owns_run, waiting.method_name) == (theirs, False, "execute_after")
        assert trigger.deadline > time.time() + 100_000
    elif policy == "skip":
        with pytest.raises(AirflowSkipException, match=f"Skipped, because on_live_run is 'skip': Run {theirs}"):
            execute(it, task)
        assert task.xcoms["run_id"] == theirs
        assert any(theirs in str(link) for link in task.xcoms.values())
    else:
        with pytest.raises(AdfError, match=f"Run {theirs} of pipeline 'Slow'.*on_live_run is 'fail'"):
            execute(it, task)
    assert runs(emulator) == [theirs]


@pytest.mark.parametrize("ignores_case", [False, True])
@pytest.mark.parametrize("policy", ["wait", "fail"])
def test_policy_holds_although_the_author_spells_the_name_in_another_case(
    policy: str, ignores_case: bool, operator: Make, outside: Callable[[str], str], emulator: Emulator
) -> None:
    emulator.state().switches.filter_ignores_case = ignores_case
    theirs = outside("Slow")
    it = operator("SLOW", on_live_run=policy, deferrable=True)
    if policy == "wait":
        waiting: Any = deferred(lambda: execute(it, Task()))
        assert (waiting.trigger.run_id, waiting.method_name) == (theirs, "execute_after")
    else:
        with pytest.raises(AdfError, match=f"Run {theirs} .*on_live_run is 'fail'"):
            execute(it, Task())
    assert runs(emulator) == [theirs]


@pytest.mark.parametrize("pool", ["default_pool", "loads"])
def test_log_of_a_start_says_once_what_the_pool_must_be(
    pool: str,
    operator: Make,
    outside: Callable[[str], str],
    emulator: Emulator,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("airflow_adf_mi._worker.trigger_failures.FIRST_PAUSE_SECONDS", 0.0)
    outside("Slow")
    task, it = Task(), operator("Slow", on_live_run="wait", deferrable=True, pool=pool)
    trigger: Any = deferred(lambda: execute(it, task)).trigger
    emulator.clock.advance(3601)
    event = asyncio.run(fired(trigger))
    deferred(lambda: it.resume_execution("execute_after", {"event": event}, task.context))
    deferred(lambda: it.resume_execution("__fail__", {"error": "Trigger failure"}, task.context))
    log = capsys.readouterr().out
    assert log.count("unless they share a pool with one slot and include_deferred") == 1
    assert log.count(f"This task is in the pool '{pool}'.") == 1


def test_start_beside_an_equal_run_names_both(
    operator: Make, outside: Callable[[str], str], emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    theirs = outside("Slow")
    deferred(
        lambda: execute(
            operator("Slow", on_succeeded_run="skip", succeeded_within=HOUR, deferrable=True),
            Task(),
        )
    )
    (line,) = (line for line in caplog.messages if "are active, too" in line)
    assert all(run_id in line for run_id in runs(emulator))
    assert len({theirs, *runs(emulator)}) == 2


def test_task_that_waited_for_a_live_run_starts_its_own(
    operator: Make, outside: Callable[[str], str], emulator: Emulator
) -> None:
    theirs = outside("Slow")
    task, it = Task(), operator("Slow", on_live_run="wait", deferrable=True)
    trigger: Any = deferred(lambda: execute(it, task)).trigger
    emulator.clock.advance(3601)
    event = asyncio.run(fired(trigger))
    again: Any = deferred(lambda: it.resume_execution("execute_after", {"event": event}, task.context)).trigger
    assert again.run_id != theirs
    assert again.owns_run is True


def test_accepted_run_is_the_result_of_the_task(
    operator: Make, outside: Callable[[str], str], emulator: Emulator
) -> None:
    theirs = outside("Load")
    ended(emulator)
    result = execute(operator("Load", on_succeeded_run="accept", succeeded_within=HOUR), Task())
    assert (result["run_id"], result["adopted"], result["status"]) == (theirs, True, "Succeeded")
    assert runs(emulator) == [theirs]


def test_skip_for_a_succeeded_run_is_no_failure_of_the_try(
    operator: Make, outside: Callable[[str], str], emulator: Emulator
) -> None:
    outside("Load")
    ended(emulator)
    task = Task()
    with pytest.raises(AirflowSkipException):
        execute(operator("Load", on_succeeded_run="skip", succeeded_within=HOUR), task)
    assert task.kept == {}
    task.clear()
    assert execute(operator("Load"), task)["adopted"] is False


def test_kill_never_cancels_a_foreign_run(operator: Make, outside: Callable[[str], str], emulator: Emulator) -> None:
    theirs = outside("Slow")
    task, it = Task(), operator("Slow", on_live_run="adopt")

    def kill() -> None:
        while "run_id" not in task.xcoms:
            time.sleep(0.01)
        it.on_kill()

    killing = threading.Thread(target=kill)
    killing.start()
    with pytest.raises(AdfTaskKilled, match=f"Run {theirs} of .* continues, because this task only watches it"):
        execute(it, task)
    killing.join()
    assert emulator.books.of("cancelRun") == []


async def test_kill_of_a_deferred_task_says_that_the_foreign_run_continues(
    operator: Make, outside: Callable[[str], str], emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    theirs = outside("Slow")
    it = operator("Slow", on_live_run="adopt", deferrable=True)
    trigger: Any = (await asyncio.to_thread(deferred, lambda: execute(it, Task()))).trigger
    caplog.set_level("INFO", logger="airflow_adf_mi")
    looked = len(emulator.books.of("getRun", run_id=theirs))
    waiting = asyncio.create_task(fired(trigger))
    await until(lambda: len(emulator.books.of("getRun", run_id=theirs)) > looked)
    waiting.cancel("__airflow_user_action__")
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await trigger.on_kill()
    assert f"Run {theirs} of pipeline 'Slow'" in caplog.text
    assert caplog.text.count("continues, because this task only watches it") == 1
    assert emulator.books.of("cancelRun") == []


def test_kill_of_a_retry_never_cancels_a_foreign_run(
    operator: Make, outside: Callable[[str], str], emulator: Emulator
) -> None:
    theirs = outside("Slow")
    task = Task()
    deferred(lambda: execute(operator("Slow", on_live_run="adopt", deferrable=True), task))
    task.retry()
    it = operator("Slow", on_live_run="adopt", deferrable=True)
    it.is_killed = True
    with pytest.raises(AdfTaskKilled):
        execute(it, task)
    # Without a task state store, the retry does not remember their run, and cancels by the key of its own start.
    assert emulator.books.of("cancelRun", run_id=theirs) == []
    assert runs(emulator) == [theirs]


@pytest.mark.parametrize("late", ["ours", "airflow's"])
def test_timeout_never_cancels_a_foreign_run(
    late: str, operator: Make, outside: Callable[[str], str], emulator: Emulator
) -> None:
    outside("Slow")
    if late == "ours":
        with pytest.raises(AdfRunTimedOut):
            execute(operator("Slow", on_live_run="adopt", timeout=0.5), Task())
    else:
        task, it = Task(), operator("Slow", on_live_run="adopt", deferrable=True)
        deferred(lambda: execute(it, task))
        with pytest.raises(AdfRunTimedOut):
            it.resume_execution("__fail__", {"error": "Trigger timeout"}, task.context)
    assert emulator.books.of("cancelRun") == []


@needs("TASK_STATE_STORE")
@pytest.mark.parametrize("earlier", [False, True], ids=["nothing stored", "an earlier run stored"])
def test_airflows_timeout_leaves_a_foreign_run_that_could_not_be_recorded(
    earlier: bool, operator: Make, outside: Callable[[str], str], emulator: Emulator
) -> None:
    task, it = Task(), operator("Slow", on_live_run="adopt", deferrable=True)
    if earlier:
        execute(operator("Slow", wait_for_termination=False), task)
        emulator.clock.advance(3601)
        task.clear()
    theirs = outside("Slow")
    keep = task.set

    def fail(key: str, value: Any, **_options: Any) -> None:
        raise RuntimeError("the API server is down")

    task.set = fail  # type: ignore[method-assign]  # of our fake Airflow
    trigger: Any = deferred(lambda: execute(it, task)).trigger
    assert (trigger.run_id, trigger.owns_run) == (theirs, False)
    task.set = keep  # type: ignore[method-assign]  # as above
    with pytest.raises(AdfRunTimedOut, match="It was left running"):
        it.resume_execution("__fail__", {"error": "Trigger timeout"}, task.context)
    assert emulator.books.of("cancelRun") == []


def test_airflows_timeout_cancels_the_run_of_a_task_that_stores_nothing(operator: Make, emulator: Emulator) -> None:
    task, it = Task(store_works=False), operator("Slow", durable=False, deferrable=True)
    trigger: Any = deferred(lambda: execute(it, task)).trigger
    with pytest.raises(AdfRunTimedOut, match="Its cancellation was requested"):
        it.resume_execution("__fail__", {"error": "Trigger timeout"}, task.context)
    assert [record.run_id for record in emulator.books.of("cancelRun", status=200)] == [trigger.run_id]


@needs("TASK_STATE_STORE")
def test_airflows_timeout_of_a_wait_for_a_live_run_says_that_nothing_was_started(
    operator: Make, outside: Callable[[str], str], emulator: Emulator
) -> None:
    outside("Slow")
    task, it = Task(), operator("Slow", on_live_run="wait", deferrable=True)
    deferred(lambda: execute(it, task))
    text = (
        r"the end of a run that was already there \(on_live_run is 'wait'\)\. It has started no run of pipeline 'Slow'"
    )
    with pytest.raises(AdfError, match=text):
        it.resume_execution("__fail__", {"error": "Trigger timeout"}, task.context)
    assert emulator.books.of("cancelRun") == []


def test_failed_foreign_run_fails_the_task(operator: Make, outside: Callable[[str], str], emulator: Emulator) -> None:
    emulator.call(lambda: emulator.state().script)
    outside("Broken")
    task, it = Task(), operator("Broken", on_live_run="adopt")
    with pytest.raises(AdfRunFailed, match="no such table"):
        execute(it, task)


def test_waits_for_live_runs_end_at_one_moment_also_if_the_try_seems_to_begin_later(
    outside: Callable[[str], str], operator: Make, emulator: Emulator
) -> None:
    """On Airflow 3.1, a try seems to begin when its task resumes."""
    outside("Slow")
    task, it = Task(), operator("Slow", on_live_run="wait", deferrable=True, timeout=3600)
    first = deferred(lambda: execute(it, task))
    emulator.clock.advance(3601)
    outside("Slow")
    event = asyncio.run(fired(first.trigger))
    task.start_date += timedelta(seconds=600)
    kwargs = {"event": event, **(first.kwargs or {})}
    again = deferred(lambda: it.resume_execution("execute_after", kwargs, task.context))
    assert again.method_name == "execute_after"
    assert trigger_of(again).deadline == trigger_of(first).deadline
    assert again.kwargs == first.kwargs


def trigger_of(waiting: TaskDeferred) -> Any:
    return waiting.trigger


def test_wait_for_live_runs_ends_at_the_timeout_with_an_error_that_names_it(
    operator: Make, outside: Callable[[str], str], emulator: Emulator
) -> None:
    theirs = outside("Slow")
    task, it = Task(), operator("Slow", on_live_run="wait", deferrable=True, timeout=1)
    event = asyncio.run(fired(deferred(lambda: execute(it, task)).trigger))
    message = rf"Run {theirs} .* is still active, and on_live_run is 'wait'\. .*\(timeout of 1 s\)"
    with pytest.raises(AdfError, match=message):
        it.resume_execution("execute_after", {"event": event}, task.context)
    assert runs(emulator) == [theirs]


def test_failed_trigger_of_a_wait_for_a_live_run_is_started_again(
    operator: Make, outside: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_adf_mi._worker.trigger_failures.FIRST_PAUSE_SECONDS", 0.0)
    theirs = outside("Slow")
    task, it = Task(), operator("Slow", on_live_run="wait", deferrable=True)
    deferred(lambda: execute(it, task))
    again: Any = deferred(lambda: it.resume_execution("__fail__", {"error": "Trigger failure"}, task.context)).trigger
    assert again.run_id == theirs


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"on_live_run": "stop"}, "on_live_run is 'stop'"),
        ({"on_succeeded_run": "accept"}, "belong together"),
        ({"on_succeeded_run": "accept", "succeeded_within": timedelta(0)}, "succeeded_within is"),
        ({"on_live_run": "adopt", "durable": False}, "need durable=True"),
        ({"on_live_run": "adopt", "reference_pipeline_run_id": "r0"}, "compares parameters"),
        ({"retry_from_failure": "perhaps"}, "retry_from_failure is 'perhaps'"),
        ({"retry_from_failure": True, "durable": False}, "needs durable=True"),
        ({"retry_from_failure": True, "reference_pipeline_run_id": "r0"}, "can continue only one run"),
        ({"check_parameters": "no"}, "check_parameters is 'no'"),
    ],
    ids=str,
)
def test_wrong_arguments_are_refused_when_the_dag_file_is_parsed(
    wrong: dict[str, Any], message: str, operator: Make
) -> None:
    with pytest.raises(AdfConfigurationError, match=message):
        operator("Load", **wrong)


@pytest.fixture
def in_triggerer(
    use_airflow: Callable[[Airflow], Airflow], emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Airflow]:
    given = {"conn_type": "azure_data_factory_mi", "extra": emulator.connection_extra()}
    monkeypatch.setenv("AIRFLOW_CONN_ADF", json.dumps(given))

    def make(pipeline: str, **arguments: Any) -> Airflow:
        with DAG("dag", schedule=None, start_date=BEGAN) as dag:
            AdfRunPipelineOperator(
                task_id="it",
                azure_data_factory_conn_id="adf",
                pipeline_name=pipeline,
                start_from_trigger=True,
                check_interval=0.2,
                **arguments,
            )
        return use_airflow(Airflow(dag, task_id="it"))

    return make


@needs("TEMPLATED_TRIGGERS")
async def test_skip_in_triggerer_mode_is_made_by_a_worker(
    in_triggerer: Callable[..., Airflow], outside: Callable[[str], str], operator: Make, settings: AdfSettings
) -> None:
    theirs = outside("Slow")
    event = await fire(in_triggerer("Slow", on_live_run="skip"))
    payload = json.loads(json.dumps(event.payload))
    task, it = Task(try_number=2, max_tries=3), operator("Slow", start_from_trigger=True, on_live_run="skip")
    earlier = Start(factory=settings.factory(), pipeline_name="Slow").intent(TaskTry(try_number=1)).started("r0")
    task.xcoms["adf_intent"] = stored = StoredStart(intent=replace(earlier, try_failed=True)).to_json()
    with pytest.raises(AirflowSkipException, match=f"Skipped, because on_live_run is 'skip': Run {theirs}"):
        resume(it, task.context, payload).complete(payload)
    assert task.xcoms["run_id"] == theirs
    # A skip is no failure, so a later try is no retry.
    assert task.xcoms["adf_intent"] == stored


@needs("TEMPLATED_TRIGGERS")
async def test_airflows_timeout_in_triggerer_mode_never_cancels_a_foreign_run(
    outside: Callable[[str], str], operator: Make, settings: AdfSettings, emulator: Emulator
) -> None:
    theirs = outside("Slow")
    task, it = Task(), operator("Slow", start_from_trigger=True, on_live_run="adopt", timeout=0.1)
    known = Start(factory=settings.factory(), pipeline_name="Slow").intent(TaskTry(try_number=1)).started(theirs)
    task.xcoms |= {"adf_intent": StoredStart(intent=replace(known, is_foreign=True)).to_json(), "run_id": theirs}
    await asyncio.sleep(0.2)
    with pytest.raises(errors.AdfRunTimedOut):
        await asyncio.to_thread(resume(it, task.context).on_deferral_timeout)
    assert emulator.books.of("cancelRun") == []


@needs("TEMPLATED_TRIGGERS")
async def test_kill_in_triggerer_mode_never_cancels_a_foreign_run(
    in_triggerer: Callable[..., Airflow], outside: Callable[[str], str], emulator: Emulator
) -> None:
    theirs = outside("Slow")
    airflow = in_triggerer("Slow", on_live_run="adopt")
    trigger = airflow.trigger()
    waiting = asyncio.create_task(fire(airflow, trigger))
    await until(lambda: airflow.xcoms.get("run_id") == theirs)
    await asyncio.sleep(0.2)
    airflow.state = "failed"
    waiting.cancel("__airflow_user_action__")
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await trigger.on_kill()
    assert emulator.books.of("cancelRun") == []
    assert runs(emulator) == [theirs]


@needs("TEMPLATED_TRIGGERS")
async def test_wait_in_triggerer_mode_lasts_until_the_run_has_ended(
    in_triggerer: Callable[..., Airflow], outside: Callable[[str], str], emulator: Emulator
) -> None:
    theirs = outside("Slow")
    airflow = in_triggerer("Slow", on_live_run="wait", supersede_timeout=0.2)
    waiting = asyncio.create_task(fire(airflow))
    # The limit of a wait for a superseded run is no limit here.
    await asyncio.sleep(1.5)
    assert (runs(emulator), waiting.done()) == ([theirs], False)
    emulator.clock.advance(3601)
    await until(lambda: len(runs(emulator)) == 2)
    emulator.clock.advance(3601)
    await waiting
    result = airflow.xcoms["return_value"]
    assert (result["run_id"], result["adopted"]) == (runs(emulator)[1], False)
    assert emulator.books.of("cancelRun") == []


@needs("TEMPLATED_TRIGGERS")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"on_live_run": "fail"}, "Run {theirs} of pipeline 'Slow' .* on_live_run is 'fail'"),
        ({"on_live_run": "wait", "timeout": 1}, "Run {theirs} .* is still active, and on_live_run is 'wait'"),
    ],
    ids=["fail", "wait"],
)
async def test_try_in_triggerer_mode_that_may_not_start_names_the_run(
    arguments: dict[str, Any],
    message: str,
    in_triggerer: Callable[..., Airflow],
    outside: Callable[[str], str],
    operator: Make,
    emulator: Emulator,
) -> None:
    theirs = outside("Slow")
    event = await fire(in_triggerer("Slow", **arguments))
    payload = json.loads(json.dumps(event.payload))
    assert NOT_STARTED in payload
    task, it = Task(), operator("Slow", start_from_trigger=True, **arguments)
    with pytest.raises(errors.AdfError, match=message.format(theirs=theirs)):
        resume(it, task.context, payload).complete(payload)
    assert runs(emulator) == [theirs]


@needs("TEMPLATED_TRIGGERS")
async def test_accepted_run_is_the_result_of_the_task_in_triggerer_mode(
    in_triggerer: Callable[..., Airflow], outside: Callable[[str], str], emulator: Emulator
) -> None:
    theirs = outside("Load")
    ended(emulator)
    airflow = in_triggerer("Load", on_succeeded_run="accept", succeeded_within=HOUR)
    await fire(airflow)
    result = airflow.xcoms["return_value"]
    assert (result["run_id"], result["adopted"], result["status"]) == (theirs, True, "Succeeded")
    assert runs(emulator) == [theirs]


@needs("TEMPLATED_TRIGGERS")
@pytest.mark.parametrize("policy", ["skip", "adopt"])
async def test_results_of_an_earlier_run_are_deleted_if_a_foreign_run_takes_its_place(
    policy: str,
    in_triggerer: Callable[..., Airflow],
    outside: Callable[[str], str],
    emulator: Emulator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(triggerer_start, "CLEAR_OVERLAP_SECONDS", 0.05)
    outside("Slow")
    old = {"rows": 5, "return_value": {}, LINK_KEY: "https://old"}
    airflow = in_triggerer("Slow", on_live_run=policy, outputs={"rows": "Copy.rowsCopied"}, cancel_on_kill=False)
    airflow.xcoms |= old
    airflow.next_try()
    waiting = asyncio.create_task(fire(airflow))
    await until(lambda: not old.keys() & airflow.xcoms.keys())
    if policy == "skip":
        assert SKIPPED in (await waiting).payload
    else:
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting


@needs("TEMPLATED_TRIGGERS")
async def test_start_in_triggerer_mode_names_an_equal_run_and_says_once_that_no_pool_limits_it(
    in_triggerer: Callable[..., Airflow],
    outside: Callable[[str], str],
    emulator: Emulator,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    theirs = outside("Slow")
    airflow = in_triggerer("Slow", on_succeeded_run="accept", succeeded_within=HOUR)
    for looks in (1, 2):
        waiting = asyncio.create_task(fire(airflow))
        await until(lambda: caplog.text.count("are active, too") == looks)  # noqa: B023  called at once
        # The triggerer is stopped, and another one continues.
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    (ours,) = set(runs(emulator)) - {theirs}
    for line in caplog.messages:
        assert "are active, too" not in line or (ours in line and theirs in line)
    assert caplog.text.count("so no pool limits it") == 1
    assert emulator.books.of("cancelRun") == []

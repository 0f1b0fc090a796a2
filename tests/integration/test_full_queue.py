"""A start that the full queue of its pipeline refuses waits for its turn: on a worker, deferred, and in triggerer mode."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from airflow.sdk import DAG

from airflow_adf_mi._airflow import features
from airflow_adf_mi._triggerer.stored_start import StoredStart
from airflow_adf_mi._triggerer.xcom_journal import INTENT_KEY
from airflow_adf_mi._worker import queue_wait
from airflow_adf_mi._worker.resumed_attempt import resume
from airflow_adf_mi._worker.task_journal import STATE_KEY
from airflow_adf_mi.adf.api import shared_client
from airflow_adf_mi.adf.config.settings import AdfSettings
from airflow_adf_mi.adf.error_json import error_from_json
from airflow_adf_mi.adf.errors import AdfConfigurationError, AdfError, AdfQueueFullError, AdfTaskKilled
from airflow_adf_mi.adf.starting import pipeline_queue, turns
from airflow_adf_mi.adf.starting.intent import Intent, Phase
from airflow_adf_mi.adf.starting.pipeline_queue import FactoryQueue
from airflow_adf_mi.emulator import Emulator
from airflow_adf_mi.operators import AdfRunPipelineOperator
from airflow_adf_mi.triggers.queue import AdfPipelineQueueTrigger
from tests.support.fired import fire
from tests.support.minors import TaskDeferred, needs
from tests.support.tasks import Make, Task, execute, runs
from tests.support.triggerer import BEGAN, Airflow, use_airflow
from tests.support.waiting import PATIENCE, until

__all__ = ["use_airflow"]
pytestmark = pytest.mark.usefixtures("nothing_left")

DAY = 86_400.0


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_wait, "PAUSE_SECONDS", 0.2)
    monkeypatch.setattr(pipeline_queue, "ROUND_SECONDS", 0.05)
    monkeypatch.setattr(turns, "UNDER_WAY_SECONDS", 1.0)
    monkeypatch.setattr(turns, "COUNTED_SECONDS", 1.0)
    monkeypatch.setattr(turns, "MOST_QUEUED", 1)


@pytest.fixture
def full(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Emulator:
    """The only place of pipeline Slow is taken, and one more run is queued."""

    def fill() -> None:
        state = emulator.state()
        state.switches.most_queued = 1
        for name in ("Slow", "Other"):
            # Other tests use the same definitions.
            monkeypatch.setitem(cast("dict[str, Any]", state._definition(name).properties), "concurrency", 1)

    emulator.call(fill)
    for _ in range(2):
        start_outside(emulator)
    return emulator


def start_outside(emulator: Emulator) -> str:
    return str(emulator.call(lambda: emulator.state().create_run("Slow", {})))


def refusals(emulator: Emulator) -> int:
    return int(emulator.books.count("createRun", full_queue=True))


def free_a_place(emulator: Emulator) -> None:
    emulator.clock.advance(3601)


def deferred(act: Callable[[], Any]) -> TaskDeferred:
    with pytest.raises(TaskDeferred) as e:
        act()
    return e.value


async def turn(trigger: Any) -> dict[str, Any]:
    (event,) = [event async for event in trigger.run()]
    await closed()
    return dict(json.loads(json.dumps(event.payload)))


async def closed() -> None:
    """Wait until the shared client is closed. The end of an event loop would cancel that."""
    await asyncio.sleep(0.05)
    await asyncio.gather(*shared_client._closing)


@pytest.mark.parametrize("status", [400, 429])
def test_blocking_task_keeps_its_slot_until_a_place_is_free(
    status: int, operator: Make, full: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    full.call(lambda: setattr(full.state().switches, "full_queue_status", status))
    task, it = Task(), operator("Slow", wait_for_termination=False)

    def free_later() -> None:
        while refusals(full) < 3:
            time.sleep(0.01)
        assert "run_id" not in task.xcoms
        free_a_place(full)

    freeing = threading.Thread(target=free_later)
    freeing.start()
    done = execute(it, task)
    freeing.join()
    assert task.xcoms["run_id"] == done["run_id"]
    assert len(runs(full)) == 3
    assert capsys.readouterr().out.count("keeps its worker slot. With deferrable=True") == 1


def test_deferrable_task_waits_in_the_triggerer_and_keeps_its_place(operator: Make, full: Emulator) -> None:
    task, it = Task(), operator("Slow", deferrable=True, timeout=DAY)
    before = time.time()
    first = deferred(lambda: execute(it, task))
    assert isinstance(first.trigger, AdfPipelineQueueTrigger)
    assert first.method_name == "execute_in_turn"
    assert "run_id" not in task.xcoms
    assert task.intent.phase is Phase.PREPARED
    refused_at = first.trigger.refused_at
    assert before <= refused_at <= time.time()
    assert first.trigger.deadline == pytest.approx(refused_at + DAY, abs=1)

    assert first.kwargs == {"waiting_since": task.start_date.timestamp()}
    # Let go, but somebody else is faster. On Airflow 3.1, the try seems to begin when the task resumes.
    task.start_date += timedelta(seconds=600)
    kwargs = {"event": {"is_turn": True, "refused_at": refused_at}, **(first.kwargs or {})}
    again = deferred(lambda: it.resume_execution("execute_in_turn", kwargs, task.context))
    assert again.kwargs == first.kwargs
    assert isinstance(again.trigger, AdfPipelineQueueTrigger)
    assert (again.trigger.refused_at, again.trigger.deadline) == (refused_at, first.trigger.deadline)

    assert task.intent.first_refused_at == refused_at

    free_a_place(full)
    assert asyncio.run(turn(again.trigger)) == {"is_turn": True, "refused_at": refused_at}
    event = {"is_turn": True, "refused_at": refused_at - 100}
    waiting = deferred(lambda: it.resume_execution("execute_in_turn", {"event": event}, task.context))
    assert waiting.method_name == "execute_complete"
    # The wait for a place counts.
    assert waiting.trigger.deadline == pytest.approx(refused_at - 100 + DAY, abs=1)
    assert len(runs(full)) == 3
    assert refusals(full) == 2


def test_deadline_ends_the_wait_with_an_error_that_names_the_queue(operator: Make, full: Emulator) -> None:
    task, it = Task(), operator("Slow", deferrable=True, timeout=0.3)
    event = asyncio.run(turn(deferred(lambda: execute(it, task)).trigger))
    assert event["is_turn"] is False
    with pytest.raises(AdfQueueFullError) as late:
        it.resume_execution("execute_in_turn", {"event": event}, task.context)
    assert str(late.value).startswith(
        "Pipeline 'Slow' in factory 'adf-test' (resource group 'rg-test') was not started: its queue was full until the deadline "
        "(timeout of 0.3 s)."
    )
    assert task.intent.try_failed
    task.retry()
    free_a_place(full)
    execute(operator("Slow", wait_for_termination=False), task)
    assert len(runs(full)) == 3


def test_deadline_of_a_blocking_task(operator: Make, full: Emulator) -> None:
    with pytest.raises(AdfQueueFullError, match=r"its queue was full until the deadline \(timeout of 0.5 s\)"):
        execute(operator("Slow", timeout=0.5), Task())


def test_airflows_own_timeout_of_the_wait_names_the_queue(operator: Make, full: Emulator) -> None:
    task, it = Task(), operator("Slow", deferrable=True)
    deferred(lambda: execute(it, task))
    with pytest.raises(AdfQueueFullError, match="its queue was full"):
        it.resume_execution("__fail__", {"error": "Trigger timeout"}, task.context)


def test_error_of_airflows_own_timeout_names_the_limit_that_passed(operator: Make, full: Emulator) -> None:
    """The timeout counts from the first refusal. From now, execution_timeout would pass earlier."""
    limits = {"timeout": 3600, "execution_timeout": timedelta(seconds=5400)}
    task, it = Task(start_date=datetime.now(UTC) - timedelta(seconds=3610)), operator("Slow", deferrable=True, **limits)
    deferred(lambda: execute(it, task))
    long_ago = replace(task.intent, first_refused_at=time.time() - 3605)
    (task.set if features.TASK_STATE_STORE else task.xcom_push)(STATE_KEY, long_ago.to_json())
    with pytest.raises(AdfQueueFullError, match=r"\(timeout of 3600 s\)"):
        it.resume_execution("__fail__", {"error": "Trigger timeout"}, task.context)


@pytest.mark.usefixtures("no_pause")
def test_failed_trigger_of_the_wait_is_started_again_with_the_same_place(operator: Make, full: Emulator) -> None:
    task, it = Task(), operator("Slow", deferrable=True)
    first: Any = deferred(lambda: execute(it, task)).trigger
    again: Any = deferred(lambda: it.resume_execution("__fail__", {"error": "Trigger failure"}, task.context)).trigger
    assert (again.refused_at, again.deadline) == (first.refused_at, pytest.approx(first.deadline, abs=1))


@needs("TASK_STATE_STORE")
def test_error_of_a_trigger_that_keeps_failing_names_the_queue(
    operator: Make, full: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_adf_mi._worker.trigger_failures.MOST_TRIGGER_FAILURES", 0)
    task, it = Task(), operator("Slow", deferrable=True)
    deferred(lambda: execute(it, task))
    text = "has waited for a place in the full queue of the pipeline. It has started no run of pipeline 'Slow'"
    with pytest.raises(AdfError, match=text):
        it.resume_execution("__fail__", {"error": "Trigger failure"}, task.context)


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_adf_mi._worker.trigger_failures.FIRST_PAUSE_SECONDS", 0.0)


def test_kill_while_waiting_cancels_nothing_and_pushes_no_id(
    operator: Make, full: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_wait, "PAUSE_SECONDS", 20)
    task, it = Task(), operator("Slow")

    def kill() -> None:
        while not full.books.count("createRun", full_queue=True):
            time.sleep(0.01)
        time.sleep(0.2)
        it.on_kill()

    killing = threading.Thread(target=kill)
    killing.start()
    with pytest.raises(AdfTaskKilled, match=r"Nothing was started\."):
        execute(it, task)
    killing.join()
    assert full.books.of("cancelRun") == []
    assert "run_id" not in task.xcoms


def test_clear_while_waiting_starts_one_run(operator: Make, full: Emulator) -> None:
    task = Task()
    deferred(lambda: execute(operator("Slow", deferrable=True), task))
    task.clear()
    free_a_place(full)
    execute(operator("Slow", wait_for_termination=False), task)
    assert len(runs(full)) == 3
    assert full.books.of("cancelRun") == []


def test_without_durable_the_place_is_kept_too(operator: Make, full: Emulator) -> None:
    task, it = Task(store_works=False), operator("Slow", deferrable=True, durable=False)
    trigger: Any = deferred(lambda: execute(it, task)).trigger
    event = {"is_turn": True, "refused_at": trigger.refused_at - 100}
    again: Any = deferred(lambda: it.resume_execution("execute_in_turn", {"event": event}, task.context)).trigger
    assert again.refused_at == trigger.refused_at - 100


def test_starts_go_in_the_order_of_their_refusal_and_other_pipelines_do_not_wait(
    settings: AdfSettings, full: Emulator
) -> None:
    async def scene() -> list[int]:
        queue, order = FactoryQueue(settings, settings.factory()), list[int]()

        async def one(number: int) -> None:
            assert await queue.wait("Slow", number, refused_at=float(number), until=time.time() + 20)
            order.append(number)

        async with asyncio.TaskGroup() as group:
            for number in (2, 0, 1):
                group.create_task(one(number))
            await asyncio.sleep(0.2)
            assert order == []
            # Nothing is queued for the other pipeline.
            assert await queue.wait("Other", "x", refused_at=9.0, until=time.time() + 20)
            assert order == []
            free_a_place(full)
        await closed()
        return order

    assert asyncio.run(scene()) == [0, 1, 2]
    assert refusals(full) == 0


def test_wait_ends_if_the_run_list_cannot_be_read(settings: AdfSettings, full: Emulator) -> None:
    full.add_fault("queryRuns", times=1, status=503)

    async def scene() -> bool:
        is_turn = await FactoryQueue(settings, settings.factory()).wait("Slow", 1, 0.0, until=time.time() + 20)
        await closed()
        return is_turn

    assert asyncio.run(scene()) is True


def test_waits_get_the_error_that_ends_their_rounds(settings: AdfSettings, full: Emulator) -> None:
    """Such as a ca_bundle that only workers have."""
    wrong = replace(settings, ca_bundle="/nowhere/ca.pem")

    async def scene() -> None:
        async with asyncio.timeout(PATIENCE):
            await FactoryQueue(wrong, settings.factory()).wait("Slow", 1, 0.0, until=time.time() + 600)

    with pytest.raises(AdfConfigurationError, match="ca_bundle"):
        asyncio.run(scene())


@pytest.fixture
def in_triggerer(
    use_airflow: Callable[[Airflow], Airflow], full: Emulator, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Airflow]:
    given = {"conn_type": "azure_data_factory_mi", "extra": full.connection_extra()}
    monkeypatch.setenv("AIRFLOW_CONN_ADF", json.dumps(given))

    def make(**arguments: Any) -> Airflow:
        with DAG("dag", schedule=None, start_date=BEGAN) as dag:
            AdfRunPipelineOperator(
                task_id="it",
                azure_data_factory_conn_id="adf",
                pipeline_name="Slow",
                start_from_trigger=True,
                check_interval=0.2,
                wait_for_termination=False,
                **arguments,
            )
        return use_airflow(Airflow(dag, task_id="it"))

    return make


def stored_intent(airflow: Airflow) -> Intent:
    start = StoredStart.from_json(airflow.xcoms[INTENT_KEY])
    assert start is not None
    return start.intent


@needs("TEMPLATED_TRIGGERS")
async def test_trigger_waits_for_its_turn_and_starts(in_triggerer: Callable[..., Airflow], full: Emulator) -> None:
    airflow = in_triggerer()
    waiting = asyncio.create_task(fire(airflow))
    await until(lambda: INTENT_KEY in airflow.xcoms and stored_intent(airflow).phase is Phase.PREPARED)
    assert "run_id" not in airflow.xcoms
    stored = stored_intent(airflow)
    assert (stored.phase, stored.run_id) == (Phase.PREPARED, None)
    assert stored.first_refused_at is not None
    free_a_place(full)
    await waiting
    assert len(runs(full)) == 3
    assert airflow.xcoms["run_id"] in runs(full)


@needs("TEMPLATED_TRIGGERS")
async def test_trigger_whose_deadline_passes_names_the_queue(in_triggerer: Callable[..., Airflow]) -> None:
    event = await fire(in_triggerer(timeout=0.5))
    error = error_from_json(event.payload["not_started"])
    assert isinstance(error, AdfQueueFullError)
    assert "its queue was full until the deadline (timeout of 0.5 s)" in str(error)


@needs("TEMPLATED_TRIGGERS")
async def test_airflows_timeout_of_a_trigger_that_waits_names_the_queue(
    in_triggerer: Callable[..., Airflow], operator: Make, full: Emulator
) -> None:
    airflow = in_triggerer(timeout=DAY)
    waiting = asyncio.create_task(fire(airflow))
    await until(lambda: refusals(full) > 0 and stored_intent(airflow).first_refused_at is not None)
    waiting.cancel()
    task, it = Task(), operator("Slow", start_from_trigger=True, timeout=DAY)
    task.xcoms |= airflow.xcoms
    with pytest.raises(AdfQueueFullError, match=r"its queue was full until the deadline \(timeout of 86400 s\)"):
        await asyncio.to_thread(resume(it, task.context).on_deferral_timeout)


@needs("TEMPLATED_TRIGGERS")
async def test_kill_of_a_trigger_that_waits_cancels_nothing(
    in_triggerer: Callable[..., Airflow], full: Emulator
) -> None:
    airflow = in_triggerer()
    trigger = airflow.trigger()
    waiting = asyncio.create_task(fire(airflow, trigger))
    await until(lambda: refusals(full))
    waiting.cancel("__airflow_user_action__")
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await trigger.on_kill()
    assert full.books.of("cancelRun") == []
    assert "run_id" not in airflow.xcoms

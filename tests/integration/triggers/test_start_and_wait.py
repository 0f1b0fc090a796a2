"""Tasks in triggerer mode, with real HTTP to the emulator, and Airflow's own serialization and rendering."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

import jinja2
import pytest
from airflow.sdk import DAG, BaseHook
from airflow.sdk.exceptions import AirflowRuntimeError
from airflow.triggers.base import TaskSuccessEvent

from airflow_adf_mi._airflow import connection_cache, xcoms
from airflow_adf_mi._airflow.arguments import build_start
from airflow_adf_mi._triggerer import cancel_on_kill, finish, xcom_journal
from airflow_adf_mi._triggerer import start as triggerer_start
from airflow_adf_mi._triggerer.finish import LINK_KEY
from airflow_adf_mi._triggerer.start_key import task_try_key_of
from airflow_adf_mi._triggerer.stored_start import StoredStart
from airflow_adf_mi._triggerer.xcom_journal import INTENT_KEY, ChangedMeanwhile, TriggerJournal
from airflow_adf_mi.adf.api import operations
from airflow_adf_mi.adf.api.client import AdfClient
from airflow_adf_mi.adf.api.recovery import Recovery
from airflow_adf_mi.adf.config.settings import AdfSettings
from airflow_adf_mi.adf.error_json import error_from_json
from airflow_adf_mi.adf.errors import (
    AdfAmbiguousStartError,
    AdfConfigurationError,
    AdfError,
    AdfNotFoundError,
    AdfPermissionError,
    AdfRunFailed,
    AdfRunTimedOut,
    AdfTaskKilled,
)
from airflow_adf_mi.adf.reporting.report import Report, conclude, error_of
from airflow_adf_mi.adf.starting import start_queue
from airflow_adf_mi.adf.starting.intent import Intent, Phase, TaskTry
from airflow_adf_mi.adf.starting.start import Start
from airflow_adf_mi.adf.starting.start_queue import STARTS_AT_ONCE
from airflow_adf_mi.emulator import Emulator, Switches
from airflow_adf_mi.emulator.pipelines.script import Script
from airflow_adf_mi.operators import AdfRunPipelineOperator
from airflow_adf_mi.triggers.start_and_wait import FOR_A_WORKER, AdfStartPipelineTrigger
from airflow_adf_mi.triggers.wait import USER_ACTION
from tests.support.fired import fire
from tests.support.triggerer import BEGAN, Airflow, use_airflow
from tests.support.waiting import PATIENCE, until

__all__ = ["use_airflow"]
Make: TypeAlias = Callable[..., Airflow]
pytestmark = pytest.mark.usefixtures("nothing_left")


@pytest.fixture(autouse=True)
def _process(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A triggerer with a connection, which has seen no factory yet."""
    given = {"conn_type": "azure_data_factory_mi", "extra": emulator.connection_extra()}
    monkeypatch.setenv("AIRFLOW_CONN_ADF", json.dumps(given))
    for module in (triggerer_start, xcom_journal):
        monkeypatch.setattr(module, "CLEAR_OVERLAP_SECONDS", 0.05)
    triggerer_start._factories_using_keys.clear()
    yield
    triggerer_start._factories_using_keys.clear()


@pytest.fixture
def task(use_airflow: Callable[[Airflow], Airflow]) -> Make:
    def make(**arguments: Any) -> Airflow:
        with DAG("dag", schedule=None, start_date=BEGAN) as dag:
            AdfRunPipelineOperator(
                **{
                    "task_id": "it",
                    "azure_data_factory_conn_id": "adf",
                    "pipeline_name": "Load",
                    "check_interval": 0.2,
                    "start_from_trigger": True,
                    **arguments,
                }
            )
        return use_airflow(Airflow(dag, task_id=next(iter(dag.task_dict))))

    return make


def runs(emulator: Emulator) -> list[str]:
    return emulator.call(lambda: list(emulator.state().runs))


def cancelled(emulator: Emulator) -> list[str]:
    return [str(r.run_id) for r in emulator.books.of("cancelRun", status=200)]


async def begin(airflow: Airflow, emulator: Emulator, count: int = 1) -> asyncio.Task[Any]:
    """Run a trigger until it waits for its run, the `count`-th of all."""
    waiting = asyncio.get_running_loop().create_task(fire(airflow))
    await until(lambda: waiting.done() or (len(runs(emulator)) >= count and airflow.xcoms.get("run_id")))
    assert not waiting.done(), waiting.result()
    await asyncio.sleep(0.1)
    return waiting


async def killed(waiting: asyncio.Task[Any], message: str | None = None) -> None:
    """End a trigger as a triggerer does; with `USER_ACTION` as message if a user acted on its task."""
    waiting.cancel(message)
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def lost(waiting: asyncio.Task[Any]) -> None:
    """End a trigger, and all that it does in the background, as a kill of the triggerer does."""
    held = set(cancel_on_kill._kills.here().held)
    for task in held:
        task.cancel()
    await asyncio.wait([*held, waiting])


async def settled() -> None:
    while held := cancel_on_kill._kills.here().held:
        await asyncio.wait(set(held))


@pytest.fixture
def in_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """The search for a lost start takes seconds instead of minutes."""
    monkeypatch.setattr("airflow_adf_mi.adf.starting.create_run.LATE_SEARCH_SECONDS", 0.5)
    monkeypatch.setattr("airflow_adf_mi.adf.starting.create_run.SEARCH_PAUSE_SECONDS", 0.5)
    monkeypatch.setattr(triggerer_start, "SEND_DELAY_SECONDS", 0.5)


def context_of(airflow: Airflow) -> Any:
    return airflow.trigger()._context


def start_of_task(airflow: Airflow, settings: AdfSettings) -> Start:
    trigger = airflow.trigger()
    return build_start(trigger, settings, parameters=trigger.parameters)


def key_of(airflow: Airflow) -> str:
    """The key of the start that the present try makes."""
    return task_try_key_of(context_of(airflow)).start_key


def sending_of(airflow: Airflow, settings: AdfSettings, **members: Any) -> Intent:
    """The intent that the present try stores before it sends createRun."""
    wanted = start_of_task(airflow, settings).intent(TaskTry(try_number=airflow.try_number))
    return replace(wanted, **{"start_key": key_of(airflow), "phase": Phase.SENDING, "sent_at": time.time(), **members})


def stored_start(airflow: Airflow) -> StoredStart:
    start = StoredStart.from_json(airflow.xcoms[INTENT_KEY])
    assert start is not None
    return start


def record_no_failure(airflow: Airflow) -> None:
    """Store what a worker stores if it ends a try without a failure, or starts the trigger again."""
    recorded = stored_start(airflow).recording(TaskTry(try_number=airflow.try_number), failed=False)
    assert recorded is not None
    airflow.xcoms[INTENT_KEY] = recorded.to_json()


async def failure(airflow: Airflow) -> AdfError:
    """The error with which the task fails on the worker that ends it."""
    event = await fire(airflow)
    assert not isinstance(event, TaskSuccessEvent)
    payload = json.loads(json.dumps(event.payload))
    if "not_started" in payload:
        return error_from_json(payload["not_started"])
    error = error_of(Report.from_json(payload))
    assert error is not None
    return error


async def test_task_starts_waits_and_ends_in_triggerer_mode(
    task: Make, emulator: Emulator, settings: AdfSettings
) -> None:
    airflow = task(parameters={"day": "{{ ds }}"})
    event = await fire(airflow)
    assert isinstance(event, TaskSuccessEvent)
    (run,) = runs(emulator)
    with AdfClient(settings) as client:
        seen = client.send(operations.get_run(settings.factory(), run))
    assert seen.parameters == {"day": "2026-11-01"}
    assert airflow.xcoms["run_id"] == run
    assert airflow.xcoms["return_value"]["status"] == "Succeeded"
    assert event.xcoms is not None
    assert run in str(event.xcoms[LINK_KEY])


WITH_OUR_KEY = [f"GetXCom {INTENT_KEY}", f"SetXCom {INTENT_KEY}", "SetXCom run_id"]
WITH_OWN_IDS = [f"GetXCom {INTENT_KEY}", f"SetXCom {INTENT_KEY}", f"SetXCom {INTENT_KEY}", "SetXCom run_id"]
RESULT = ["SetXCom return_value"]
LEFT_BY_A_RUN = ["DeleteXCom return_value", f"DeleteXCom {LINK_KEY}"]


def replacing(start: list[str]) -> list[str]:
    """The questions of a start that replaces a run: `run_id` is deleted before it, the results after it."""
    return [start[0], "DeleteXCom run_id", *start[1:], *LEFT_BY_A_RUN]


@pytest.mark.parametrize(("own_ids", "start"), [(False, WITH_OUR_KEY), (True, WITH_OWN_IDS)], ids=["key", "own ids"])
async def test_start_sends_at_most_four_requests_to_airflow(
    own_ids: bool, start: list[str], task: Make, emulator: Emulator
) -> None:
    emulator.state().switches.run_id_from_request_id = not own_ids
    airflow = task()
    await fire(airflow)
    assert airflow.questions == start + RESULT
    assert len(start) <= 4
    # A clear replaces that run.
    airflow.next_try()
    airflow.asked = []
    await fire(airflow)
    assert airflow.questions == replacing(start) + RESULT
    assert airflow.xcoms["run_id"] == runs(emulator)[1]


@pytest.mark.parametrize("own_ids", [False, True], ids=["key", "own ids"])
async def test_continued_trigger_sends_two_requests_to_airflow(own_ids: bool, task: Make, emulator: Emulator) -> None:
    """The intent and the run id. To ask whether the run id was pushed before would be as expensive as to push it."""
    emulator.state().switches.run_id_from_request_id = not own_ids
    airflow = task(pipeline_name="Slow")
    await killed(await begin(airflow, emulator))
    emulator.clock.advance(4000)
    triggerer_start._factories_using_keys.clear()
    airflow.asked = []
    await fire(airflow)
    assert airflow.questions == [f"GetXCom {INTENT_KEY}", "SetXCom run_id", *RESULT]


async def test_task_without_wait_for_termination_ends_after_the_start(task: Make, emulator: Emulator) -> None:
    airflow = task(pipeline_name="Slow", wait_for_termination=False)
    assert isinstance(await fire(airflow), TaskSuccessEvent)
    assert [airflow.xcoms["return_value"]["run_id"]] == runs(emulator)
    assert cancelled(emulator) == []


async def test_do_xcom_push_false_pushes_no_result_and_no_link(task: Make) -> None:
    airflow = task(do_xcom_push=False)
    assert isinstance(await fire(airflow), TaskSuccessEvent)
    assert list(airflow.xcoms) == [INTENT_KEY, "run_id"]


async def test_tasks_with_outputs_and_failed_tasks_end_on_a_worker(task: Make, emulator: Emulator) -> None:
    event = await fire(task(outputs={"rows": "Copy.rowsCopied"}))
    assert conclude(Report.from_json(event.payload))["status"] == "Succeeded"
    error = await failure(task(task_id="other", pipeline_name="Broken"))
    assert isinstance(error, AdfRunFailed)
    assert "no such table" in str(error)
    assert error.error_code == "2200"


@pytest.mark.parametrize(
    ("arguments", "kind", "text"),
    [
        ({"pipeline_name": "Laod"}, AdfNotFoundError, "'Load'"),
        ({"pipeline_name": "{{ params.name }}"}, AdfConfigurationError, "pipeline_name"),
        ({"outputs": "{{ params.name }}"}, AdfConfigurationError, "outputs"),
        ({"azure_data_factory_conn_id": "nowhere"}, AdfConfigurationError, "nowhere"),
    ],
    ids=str,
)
async def test_bad_argument_starts_nothing_and_is_named(
    arguments: dict[str, Any], kind: type[AdfError], text: str, task: Make, emulator: Emulator
) -> None:
    error = await failure(task(**{"params": {"name": "a/b"}, **arguments}))
    assert isinstance(error, kind)
    assert text in str(error)
    assert runs(emulator) == []


async def test_undefined_name_in_a_template_is_an_error_as_on_a_worker(task: Make, emulator: Emulator) -> None:
    with pytest.raises(jinja2.UndefinedError):
        await fire(task(parameters={"day": "{{ dag_run.conf.nothing }}"}))
    assert runs(emulator) == []


async def test_triggerer_lost_while_waiting_keeps_the_run(task: Make, emulator: Emulator) -> None:
    airflow = task(pipeline_name="Slow")
    await killed(await begin(airflow, emulator))
    (run,) = runs(emulator)
    emulator.clock.advance(4000)
    assert isinstance(await fire(airflow), TaskSuccessEvent)
    assert runs(emulator) == [run]
    assert cancelled(emulator) == []
    assert airflow.xcoms["return_value"]["run_id"] == run


async def test_triggerer_lost_between_the_start_and_its_answer_finds_the_run(task: Make, emulator: Emulator) -> None:
    emulator.add_fault("createRun", effect="after", hang_seconds=1)
    airflow = task()
    starting = asyncio.get_running_loop().create_task(fire(airflow))
    await until(lambda: runs(emulator))
    assert stored_start(airflow).intent.phase is Phase.SENDING
    assert "run_id" not in airflow.xcoms, "the run is not known to exist"
    await lost(starting)
    assert isinstance(await fire(airflow), TaskSuccessEvent)
    assert [airflow.xcoms["run_id"]] == runs(emulator)


QUESTIONS = [
    (own_ids, is_clear, number)
    for own_ids, start in ((False, WITH_OUR_KEY), (True, WITH_OWN_IDS))
    for is_clear in (False, True)
    for number in range(len(start) + is_clear)
]


@pytest.mark.parametrize("is_done", [False, True], ids=["before it is done", "after it is done"])
@pytest.mark.parametrize(
    ("own_ids", "is_clear", "number"), QUESTIONS, ids=lambda value: str(int(value)) if isinstance(value, bool) else None
)
async def test_triggerer_lost_at_any_request_to_airflow_starts_one_run(
    own_ids: bool, is_clear: bool, number: int, is_done: bool, task: Make, emulator: Emulator, in_seconds: None
) -> None:
    """A new process continues. It knows only what Airflow has stored."""
    emulator.state().switches.run_id_from_request_id = not own_ids
    airflow = task(start_settle=0.5)
    if is_clear:
        await fire(airflow)
        airflow.next_try()
    before = runs(emulator)
    airflow.asked, airflow.silent_at, airflow.silent_is_done = [], number, is_done
    starting = asyncio.get_running_loop().create_task(fire(airflow))
    await until(lambda: airflow.is_silent)
    # Before the start, `run_id` may still name the run that is replaced.
    assert airflow.xcoms.get("run_id") in (None, *runs(emulator))
    is_sending = INTENT_KEY in airflow.xcoms and stored_start(airflow).intent.task_try.try_number == airflow.try_number
    assert not is_sending or not before or airflow.xcoms.get("run_id") not in before, "that run is superseded"
    sent = emulator.books.count("createRun")
    await lost(starting)
    triggerer_start._factories_using_keys.clear()
    airflow.silent_at, airflow.asked = None, []
    if is_sending and sent == len(before) and not stored_start(airflow).intent.service_uses_key:
        # The intent was stored, and nothing was sent. Nothing proves that, so nothing is sent again.
        assert isinstance(await failure(airflow), AdfAmbiguousStartError)
        assert runs(emulator) == before
        return
    assert isinstance(await fire(airflow), TaskSuccessEvent)
    assert emulator.books.count("createRun") == len(before) + 1, "exactly one start"
    (run,) = [run for run in runs(emulator) if run not in before]
    assert airflow.xcoms["run_id"] == airflow.xcoms["return_value"]["run_id"] == run


@pytest.mark.parametrize("is_prepared", [False, True])
async def test_run_without_a_valid_intent_is_found_before_a_start(
    is_prepared: bool, task: Make, emulator: Emulator
) -> None:
    airflow = task(pipeline_name="Slow")
    await killed(await begin(airflow, emulator))
    # A triggerer that was stopped for long, and then continued, has overwritten it.
    if is_prepared:
        prepared = replace(stored_start(airflow).intent, phase=Phase.PREPARED, sent_at=None)
        airflow.xcoms[INTENT_KEY] = prepared.to_json()
    else:
        del airflow.xcoms[INTENT_KEY]
    emulator.clock.advance(4000)
    await fire(airflow)
    assert len(runs(emulator)) == 1
    assert len(emulator.books.of("createRun")) == 1


async def test_triggerer_lost_while_its_run_fails_reports_that_run(task: Make, emulator: Emulator) -> None:
    airflow = task(pipeline_name="Broken", check_interval=60)
    await killed(await begin(airflow, emulator))
    emulator.clock.advance(60)
    assert isinstance(await failure(airflow), AdfRunFailed)
    assert len(runs(emulator)) == 1
    assert len(emulator.books.of("createRun")) == 1


async def test_triggerer_lost_before_createrun_left_makes_no_blind_start(
    task: Make,
    use_airflow: Callable[[Airflow], Airflow],
    emulator: Emulator,
    settings: AdfSettings,
    monkeypatch: pytest.MonkeyPatch,
    in_seconds: None,
) -> None:
    monkeypatch.setattr(triggerer_start, "SEND_DELAY_SECONDS", 5.0)
    airflow = task(start_settle=0.5)
    wrote_at = emulator.clock.now()
    airflow.xcoms[INTENT_KEY] = sending_of(airflow, settings).to_json()
    error = await failure(airflow)
    assert isinstance(error, AdfAmbiguousStartError)
    assert runs(emulator) == []
    assert "run_id" not in airflow.xcoms
    # If this triggerer has seen that the service uses our keys as run ids, there is proof, although the list shows nothing yet.
    emulator.state().switches.list_lag_seconds = 3600
    await fire(task(task_id="other"))
    use_airflow(airflow)
    assert isinstance(await fire(airflow), TaskSuccessEvent)
    assert len(runs(emulator)) == 2
    # Not earlier, because the request may have left late in that time.
    assert emulator.books.of("createRun")[-1].time >= wrote_at + 5


async def test_similar_run_of_another_task_is_not_adopted_where_our_keys_are_run_ids(
    task: Make, use_airflow: Callable[[Airflow], Airflow], emulator: Emulator, settings: AdfSettings, in_seconds: None
) -> None:
    """An earlier start of this triggerer has proven that the service uses our keys. So a run with another id is not ours."""
    await fire(task(task_id="other", pipeline_name="Slow", wait_for_termination=False))
    airflow = task(start_settle=1)
    own_key = key_of(airflow)
    emulator.add_fault("createRun", drop=True)
    with AdfClient(settings) as client:
        starting = asyncio.get_running_loop().create_task(fire(airflow))
        await until(lambda: emulator.books.of("createRun")[-1].run_id is None)
        operation = operations.create_run(settings.factory(), "Load", None, request_id=str(uuid.uuid4()))
        similar = await asyncio.to_thread(client.send, operation)
        await starting
    assert airflow.xcoms["run_id"] == own_key
    assert similar != own_key
    assert own_key in runs(emulator)


async def test_late_answer_to_a_start_that_was_replaced_pushes_no_run_id(
    task: Make, emulator: Emulator, settings: AdfSettings
) -> None:
    """The task was cleared while createRun was under way, and the next try has started its own run meanwhile."""
    airflow = task(pipeline_name="Slow")
    journal = TriggerJournal(context_of(airflow), durable=True)
    wanted = start_of_task(airflow, settings).intent(journal.task_try)
    sending = replace(wanted, start_key=key_of(airflow), phase=Phase.SENDING, sent_at=time.time())
    assert await journal.stored(wanted) is None
    await journal.save(sending)
    journal.is_stopped = True
    newer = replace(sending, start_key=str(uuid.uuid4()), task_try=TaskTry(try_number=2)).started("newer")
    airflow.xcoms |= {INTENT_KEY: newer.to_json(), "run_id": "newer"}
    await journal.save_best_effort(sending.started(sending.start_key))
    assert airflow.xcoms["run_id"] == "newer"
    assert airflow.xcoms[INTENT_KEY] == newer.to_json()
    assert await journal.is_replaced(), "so the run of this try is cancelled"


async def test_late_failure_does_not_overwrite_the_start_of_another_try(
    task: Make, emulator: Emulator, settings: AdfSettings
) -> None:
    """This triggerer was suspended while it waited, and another one has continued the task."""
    airflow = task(pipeline_name="Slow")
    now = 0.0
    journal = TriggerJournal(context_of(airflow), durable=True, clock=lambda: now)
    wanted = start_of_task(airflow, settings).intent(journal.task_try)
    sending = replace(wanted, start_key=key_of(airflow), phase=Phase.SENDING, sent_at=time.time())
    assert await journal.stored(wanted) is None
    await journal.save(sending)
    await journal.save_best_effort(sending.started(sending.start_key))
    now = 3600.0
    newer = replace(sending, task_try=TaskTry(try_number=2)).started("newer").to_json()
    airflow.xcoms[INTENT_KEY] = newer
    await journal.hand_over()
    assert airflow.xcoms[INTENT_KEY] == newer


async def test_proof_in_the_intent_is_used_only_after_the_send_delay(
    task: Make, emulator: Emulator, settings: AdfSettings, monkeypatch: pytest.MonkeyPatch, in_seconds: None
) -> None:
    """The intent records for a new process that the service used the key of an earlier run as its id."""
    monkeypatch.setattr(triggerer_start, "SEND_DELAY_SECONDS", 5.0)
    airflow = task(start_settle=0.5)
    wrote_at = emulator.clock.now()
    airflow.xcoms[INTENT_KEY] = sending_of(airflow, settings, service_uses_key=True).to_json()
    assert isinstance(await fire(airflow), TaskSuccessEvent)
    (sent,) = emulator.books.of("createRun")
    assert sent.time >= wrote_at + 5


async def test_service_with_its_own_run_ids(task: Make, emulator: Emulator) -> None:
    emulator.state().switches.run_id_from_request_id = False
    airflow = task(pipeline_name="Slow")
    await killed(await begin(airflow, emulator))
    (run,) = runs(emulator)
    assert airflow.xcoms["run_id"] == run
    emulator.clock.advance(4000)
    assert isinstance(await fire(airflow), TaskSuccessEvent)
    assert runs(emulator) == [run]
    # A cleared try does not adopt that run.
    airflow.next_try()
    await killed(await begin(airflow, emulator, 2))
    assert len(runs(emulator)) == 2


@pytest.mark.parametrize("own_ids", [False, True])
async def test_retry_accepts_a_succeeded_run_and_a_clear_starts_a_new_one(
    own_ids: bool, task: Make, emulator: Emulator
) -> None:
    emulator.state().switches.run_id_from_request_id = not own_ids
    # Its outputs are read on a worker, where that may fail.
    airflow = task(outputs={"rows": "Copy.rowsCopied"})
    await fire(airflow)
    airflow.next_try()
    event = await fire(airflow)
    (first,) = runs(emulator)
    assert conclude(Report.from_json(event.payload))["adopted"] is True
    # The worker that ends the try with success records that, so the next try counts as cleared.
    record_no_failure(airflow)
    airflow.next_try()
    event = await fire(airflow)
    assert len(runs(emulator)) == 2
    assert airflow.xcoms["run_id"] != first
    assert conclude(Report.from_json(event.payload))["adopted"] is False


async def test_clear_after_success_starts_a_new_run(task: Make, emulator: Emulator) -> None:
    airflow = task()
    await fire(airflow)
    airflow.next_try()
    await fire(airflow)
    assert len(runs(emulator)) == 2
    assert airflow.xcoms["return_value"]["adopted"] is False


async def test_retry_that_adopts_a_run_keeps_it_after_its_triggerer_is_lost(task: Make, emulator: Emulator) -> None:
    airflow = task(pipeline_name="Slow", timeout=0.5, cancel_on_timeout=False)
    await failure(airflow)
    airflow.next_try()
    await failure(airflow)
    # The same try begins again in another triggerer. The try after it is a clear.
    await failure(airflow)
    assert len(runs(emulator)) == 1
    record_no_failure(airflow)
    airflow.next_try()
    await failure(airflow)
    assert len(runs(emulator)) == 2
    assert cancelled(emulator) == runs(emulator)[:1]


async def test_clear_after_a_lost_handover_event_starts_a_new_run(task: Make, emulator: Emulator) -> None:
    airflow = task(pipeline_name="Slow", timeout=0.5, cancel_on_timeout=False)
    await failure(airflow)
    (run,) = runs(emulator)
    assert stored_start(airflow).last_failed_try == 1
    # The triggerer is lost before Airflow gets the event, so the try continues.
    again = task(pipeline_name="Slow")
    again.xcoms = airflow.xcoms
    waiting = await begin(again, emulator)
    await until(lambda: stored_start(again).last_failed_try is None)
    await killed(waiting)
    again.next_try()
    await killed(await begin(again, emulator, 2))
    assert cancelled(emulator) == [run]


async def denied(_conn_id: str) -> Any:
    raise PermissionError("the secrets backend denies access")


@pytest.mark.parametrize("what", ["variable", "connection", "denied"])
@pytest.mark.parametrize("adopted", [False, True])
async def test_retry_adopts_the_run_of_a_try_that_failed_to_render_or_connect(
    what: str, adopted: bool, task: Make, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For example, a secrets backend may not answer a triggerer that takes the task over."""
    arguments = {"pipeline_name": "Slow", "parameters": {"day": "{{ var.value.day }}"}}
    monkeypatch.setenv("AIRFLOW_VAR_DAY", "monday")
    airflow = task(**arguments, timeout=0.5, cancel_on_timeout=False)
    if adopted:
        await failure(airflow)
        airflow.next_try()
    ours = task(**arguments)
    ours.xcoms, ours.try_number = airflow.xcoms, airflow.try_number
    await killed(await begin(ours, emulator))
    (run,) = runs(emulator)
    with monkeypatch.context() as outage:
        connection_cache._known.clear()
        if what == "variable":
            outage.delenv("AIRFLOW_VAR_DAY")
            with pytest.raises(AirflowRuntimeError):
                await fire(ours)
        elif what == "denied":
            outage.setattr(BaseHook, "aget_connection", denied)
            with pytest.raises(PermissionError):
                await fire(ours)
        else:
            outage.setenv("AIRFLOW_CONN_ADF", json.dumps({"conn_type": "azure_data_factory_mi", "extra": {}}))
            assert "not_started" in (await fire(ours)).payload
    assert stored_start(ours).last_failed_try == ours.try_number
    connection_cache._known.clear()
    ours.next_try()
    emulator.clock.advance(4000)
    assert isinstance(await fire(ours), TaskSuccessEvent)
    assert (runs(emulator), cancelled(emulator)) == ([run], [])


async def test_retry_after_a_failure_starts_another_run(task: Make, emulator: Emulator) -> None:
    airflow = task(pipeline_name="Broken")
    await failure(airflow)
    airflow.next_try()
    await failure(airflow)
    assert len(runs(emulator)) == 2


async def test_retry_adopts_a_live_run(task: Make, emulator: Emulator) -> None:
    airflow = task(pipeline_name="Slow", timeout=0.5, cancel_on_timeout=False)
    assert isinstance(await failure(airflow), AdfRunTimedOut)
    (run,) = runs(emulator)
    airflow.next_try()
    emulator.clock.advance(4000)
    await fire(airflow)
    assert runs(emulator) == [run]


def questions(airflow: Airflow) -> int:
    """How often the state of the task was asked for."""
    return airflow.questions.count("GetTaskStates")


async def resting(airflow: Airflow, trigger: AdfStartPipelineTrigger | None = None) -> asyncio.Task[Any]:
    """Run a trigger until it has asked for the state of its task, and rests."""
    task = asyncio.get_running_loop().create_task(fire(airflow, trigger))
    await until(lambda: questions(airflow) or task.done())
    await asyncio.sleep(0.1)
    assert not task.done(), task
    return task


async def test_clear_while_upstream_tasks_run_again_is_no_retry(task: Make, emulator: Emulator) -> None:
    """Airflow drops the event of the trigger. So a record that the try failed would be about a try that no worker has ended."""
    airflow = task(outputs={"rows": "Copy.rowsCopied"})
    airflow.state = None
    await killed(await resting(airflow))
    airflow.next_try()
    airflow.state = "deferred"
    await fire(airflow)
    assert len(runs(emulator)) == 2


@pytest.mark.parametrize(
    ("age", "state", "is_started"), [(60, None, False), (60, "deferred", True), (60, "failed", True), (0, None, True)]
)
async def test_start_that_goes_out_late_asks_for_the_state_of_its_task(
    age: float, state: str | None, is_started: bool, task: Make, emulator: Emulator
) -> None:
    airflow = task(wait_for_termination=False)
    airflow.state = state
    trigger = airflow.trigger()
    trigger.timeout_after -= timedelta(seconds=age)  # type: ignore[attr-defined]  # as Airflow does
    if is_started:
        await fire(airflow, trigger)
    else:
        await killed(await resting(airflow, trigger))
    assert questions(airflow) == (1 if age else 0)
    assert len(runs(emulator)) == int(is_started)


async def test_run_is_cancelled_if_an_upstream_task_fails_after_the_clear(task: Make, emulator: Emulator) -> None:
    airflow = task(pipeline_name="Slow", timeout=1, cancel_on_timeout=False)
    airflow.state = None
    rests = await resting(airflow)
    assert cancelled(emulator) == []
    airflow.state = "upstream_failed"
    await killed(rests, USER_ACTION)
    await settled()
    assert cancelled(emulator) == runs(emulator)


async def test_timeout_cancels_the_run(task: Make, emulator: Emulator) -> None:
    error = await failure(task(pipeline_name="Slow", timeout=0.5))
    assert isinstance(error, AdfRunTimedOut)
    assert cancelled(emulator) == runs(emulator)


async def test_timeout_counts_from_the_start_of_the_run(
    task: Make, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    airflow = task(pipeline_name="Slow", timeout=4)
    late = airflow.trigger()
    # A busy triggerer begins long after the scheduler has deferred the task.
    late.timeout_after -= timedelta(seconds=60)  # type: ignore[attr-defined]  # Airflow's
    waiting = asyncio.get_running_loop().create_task(fire(airflow, late))
    await until(lambda: runs(emulator))
    await asyncio.sleep(0.5)
    assert not waiting.done()
    assert cancelled(emulator) == []
    event = await waiting
    assert isinstance(error_of(Report.from_json(event.payload)), AdfRunTimedOut)


async def test_execution_timeout_cancels_before_airflow_ends_the_trigger(task: Make, emulator: Emulator) -> None:
    async with asyncio.timeout(PATIENCE):
        error = await failure(task(pipeline_name="Slow", execution_timeout=timedelta(seconds=2)))
    assert isinstance(error, AdfRunTimedOut)
    assert "did not end within its execution_timeout of 2 s." in str(error)
    assert cancelled(emulator) == runs(emulator)


async def test_changed_parameters_replace_the_run(task: Make, emulator: Emulator) -> None:
    arguments: dict[str, Any] = {"timeout": 0.5, "cancel_on_timeout": False}
    airflow = task(pipeline_name="Slow", parameters={"day": "{{ ti.try_number }}"}, **arguments)
    await failure(airflow)
    airflow.next_try()
    await failure(airflow)
    first, second = runs(emulator)
    assert cancelled(emulator) == [first]
    assert airflow.xcoms["run_id"] == second


async def test_changed_pipeline_replaces_the_run(task: Make, emulator: Emulator) -> None:
    airflow = task(pipeline_name="Slow")
    await killed(await begin(airflow, emulator))
    changed = task(pipeline_name="Other")
    changed.xcoms = airflow.xcoms
    changed.next_try()
    await fire(changed)
    assert cancelled(emulator) == runs(emulator)[:1]
    assert len(runs(emulator)) == 2


async def test_durable_false_starts_one_run_in_each_try(task: Make, emulator: Emulator) -> None:
    airflow = task(durable=False)
    await fire(airflow)
    await fire(airflow)
    assert len(runs(emulator)) == 1
    airflow.next_try()
    await fire(airflow)
    assert len(runs(emulator)) == 2


@pytest.mark.parametrize(
    ("state", "cancels"), [("failed", 1), ("success", 1), ("deferred", 0), (None, 0), ("up_for_retry", 0)], ids=str
)
async def test_kill_cancels_only_if_the_task_has_ended(
    state: str, cancels: int, task: Make, emulator: Emulator
) -> None:
    airflow = task(pipeline_name="Slow")
    waiting = await begin(airflow, emulator)
    airflow.state = state
    await killed(waiting, USER_ACTION)
    await settled()
    assert cancelled(emulator) == runs(emulator)[:cancels]


async def test_kill_with_cancel_on_kill_false_leaves_the_run(task: Make, emulator: Emulator) -> None:
    airflow = task(pipeline_name="Slow", cancel_on_kill=False)
    waiting = await begin(airflow, emulator)
    airflow.state = "failed"
    await killed(waiting, USER_ACTION)
    await settled()
    assert cancelled(emulator) == []


@pytest.mark.parametrize("own_ids", [False, True])
async def test_kill_between_the_start_and_its_answer_cancels_the_run(
    own_ids: bool, task: Make, emulator: Emulator
) -> None:
    emulator.state().switches.run_id_from_request_id = not own_ids
    emulator.add_fault("createRun", effect="after", hang_seconds=0.5)
    airflow = task(pipeline_name="Slow")
    starting = asyncio.get_running_loop().create_task(fire(airflow))
    await until(lambda: runs(emulator))
    airflow.state = "failed"
    await killed(starting, USER_ACTION)
    await settled()
    assert cancelled(emulator) == runs(emulator) != []


@pytest.mark.parametrize("asked", [0, 1])
async def test_kill_of_a_trigger_that_just_continued_cancels_the_run(
    asked: int, task: Make, emulator: Emulator
) -> None:
    """Its triggerer was lost. The next one has not yet asked what was started, or waits for that answer."""
    airflow = task(pipeline_name="Slow")
    await killed(await begin(airflow, emulator))
    airflow.state, airflow.delay, airflow.asked = "failed", 0.2, []
    continuing = asyncio.get_running_loop().create_task(fire(airflow))
    await until(lambda: len(airflow.asked) >= asked)
    await asyncio.sleep(0)
    await killed(continuing, USER_ACTION)
    await settled()
    assert cancelled(emulator) == runs(emulator) != []


async def test_trigger_with_no_time_left_starts_no_run_after_a_superseded_run(task: Make, emulator: Emulator) -> None:
    airflow = task(pipeline_name="Slow")
    await killed(await begin(airflow, emulator))
    airflow.next_try()
    airflow.dag.get_task("it").execution_timeout = timedelta(seconds=0.2)
    error = await failure(airflow)
    assert "This try's execution_timeout of 0.2 s was over before it could start a run" in str(error)
    assert len(runs(emulator)) == 1
    assert cancelled(emulator) == runs(emulator)


async def test_start_of_a_newer_try_is_left_alone(task: Make, emulator: Emulator, settings: AdfSettings) -> None:
    """This triggerer was suspended while the task was cleared."""
    airflow = task(pipeline_name="Slow")
    journal = TriggerJournal(context_of(airflow), durable=True)
    newer = replace(sending_of(airflow, settings), task_try=TaskTry(try_number=2))
    airflow.xcoms[INTENT_KEY] = newer.to_json()
    with pytest.raises(AdfTaskKilled, match="A newer try of this task has begun"):
        await journal.stored(start_of_task(airflow, settings).intent(journal.task_try))
    error = await failure(airflow)
    assert "A newer try of this task has begun" in str(error)
    assert runs(emulator) == []


async def test_superseded_run_that_does_not_end_lets_nothing_start(task: Make, emulator: Emulator) -> None:
    airflow = task(pipeline_name="Slow", supersede_timeout=0.3, cancel_on_kill=False)
    await killed(await begin(airflow, emulator))
    airflow.next_try()
    assert "Two runs of one task must not overlap" in str(await failure(airflow))
    # The intent still holds the run, and no other try gets its id.
    assert stored_start(airflow).intent.task_try.try_number == 1
    assert "run_id" not in airflow.xcoms
    airflow.next_try()
    assert "Two runs of one task must not overlap" in str(await failure(airflow))
    assert len(runs(emulator)) == 1


async def test_kill_before_the_start_starts_nothing(task: Make, emulator: Emulator) -> None:
    airflow = task(pipeline_name="Slow")
    airflow.delay = 0.2
    starting = asyncio.get_running_loop().create_task(fire(airflow))
    await until(lambda: f"SetXCom {INTENT_KEY}" in airflow.questions)
    airflow.state = "failed"
    await killed(starting, USER_ACTION)
    await settled()
    assert runs(emulator) == []
    assert emulator.books.of("createRun") == []


async def test_clear_replaces_a_live_run(task: Make, emulator: Emulator) -> None:
    airflow = task(pipeline_name="Slow")
    waiting = await begin(airflow, emulator)
    airflow.next_try()
    again = await begin(airflow, emulator, 2)
    await asyncio.wait([waiting])
    first, second = runs(emulator)
    assert cancelled(emulator) == [first]
    assert airflow.xcoms["run_id"] == second
    await killed(again)


@pytest.mark.parametrize("cancel_on_kill", [True, False])
async def test_start_that_a_clear_overtakes_is_cancelled_if_cancel_on_kill_is_true(
    cancel_on_kill: bool, task: Make, emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    emulator.add_fault("createRun", effect="after", hang_seconds=1)
    airflow = task(pipeline_name="Slow", cancel_on_kill=cancel_on_kill)
    starting = asyncio.get_running_loop().create_task(fire(airflow))
    await until(lambda: runs(emulator))
    # The next try has not seen this start, and has stored its own intent.
    airflow.xcoms[INTENT_KEY] = replace(stored_start(airflow).intent, start_key="another").to_json()
    await killed(starting, USER_ACTION)
    await settled()
    (run,) = runs(emulator)
    assert cancelled(emulator) == ([run] if cancel_on_kill else [])
    assert ("continues, because of cancel_on_kill=False: the task was cleared" in caplog.text) is not cancel_on_kill


async def test_two_triggerers_start_one_run(task: Make, emulator: Emulator, settings: AdfSettings) -> None:
    """The first reads the stored intent, and stops for long. A second one takes over. Then the first continues."""
    airflow = task(pipeline_name="Slow", start_settle=1)
    journal = TriggerJournal(context_of(airflow), durable=True, clock=iter([0.0, 60.0, 60.0, 60.0]).__next__)
    wanted = start_of_task(airflow, settings).intent(journal.task_try)
    assert await journal.stored(wanted) is None
    other = await begin(airflow, emulator)
    with pytest.raises(ChangedMeanwhile):
        await journal.save(replace(wanted, phase=Phase.SENDING))
    await killed(other)


async def test_answer_that_is_read_late_is_as_old_as_its_request(
    task: Make, emulator: Emulator, settings: AdfSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event loop was blocked. Meanwhile the task was cleared, and its next try has stored its own intent."""
    airflow = task()
    now = 0.0
    ask = airflow.asend

    async def late(message: Any) -> Any:
        nonlocal now
        answer = await ask(message)
        now += 13.0
        return answer

    monkeypatch.setattr(airflow, "asend", late)
    journal = TriggerJournal(context_of(airflow), durable=True, clock=lambda: now)
    wanted = start_of_task(airflow, settings).intent(journal.task_try)
    assert await journal.stored(wanted) is None
    airflow.xcoms[INTENT_KEY] = {"of": "the next try"}
    with pytest.raises(ChangedMeanwhile):
        await journal.save(replace(wanted, phase=Phase.SENDING))
    assert airflow.xcoms[INTENT_KEY] == {"of": "the next try"}


async def test_start_whose_intent_was_stored_late_is_checked_again_before_createrun(
    task: Make, emulator: Emulator, settings: AdfSettings
) -> None:
    """The supervisor was busy. Meanwhile the task was cleared, and its next try has stored its own intent."""
    airflow = task()
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        airflow.xcoms[INTENT_KEY] = {"of": "the next try"}

    clock = iter([0.0, 0.0, 60.0, 60.0, 60.0]).__next__
    journal = TriggerJournal(context_of(airflow), durable=True, clock=clock, pause=pause)
    wanted = start_of_task(airflow, settings).intent(journal.task_try)
    await journal.stored(wanted)
    with pytest.raises(ChangedMeanwhile):
        await journal.save(replace(wanted, phase=Phase.SENDING))
    assert pauses == [xcom_journal.CLEAR_OVERLAP_SECONDS]
    assert not journal.is_sending


@pytest.mark.usefixtures("in_seconds")
async def test_start_long_after_its_try_began_keeps_the_moment_of_createrun(task: Make, emulator: Emulator) -> None:
    """That moment is needed to find the run in the list, if the service makes its own run ids."""
    emulator.state().switches.run_id_from_request_id = False
    emulator.add_fault("createRun", effect="after", hang_seconds=1)
    airflow = task(start_settle=1)
    late = airflow.trigger()
    late.timeout_after -= timedelta(hours=1)  # type: ignore[attr-defined]  # Airflow's
    starting = asyncio.get_running_loop().create_task(fire(airflow, late))
    await until(lambda: runs(emulator))
    await lost(starting)
    again = airflow.trigger()
    again.timeout_after -= timedelta(hours=1)  # type: ignore[attr-defined]  # as above
    assert isinstance(await fire(airflow, again), TaskSuccessEvent)
    assert len(runs(emulator)) == 1


async def test_results_of_the_previous_run_are_deleted_after_a_clear_started_another(
    task: Make, emulator: Emulator, settings: AdfSettings
) -> None:
    airflow = task(pipeline_name="Slow", outputs={"rows": "Copy.rowsCopied"}, start_settle=0.1)
    old = {"rows": 5, "return_value": {}, LINK_KEY: "https://old"}
    airflow.xcoms |= {INTENT_KEY: sending_of(airflow, settings, sent_at=1.0).to_json(), "run_id": "of-before", **old}
    airflow.next_try()
    waiting = await begin(airflow, emulator)
    await until(lambda: not old.keys() & airflow.xcoms.keys())
    assert [airflow.xcoms["run_id"]] == runs(emulator)
    await killed(waiting)


async def test_run_id_does_not_name_the_previous_run_while_a_clear_starts_another(
    task: Make, emulator: Emulator
) -> None:
    airflow = task(pipeline_name="Slow")
    await killed(await begin(airflow, emulator))
    emulator.add_fault("createRun", effect="after", hang_seconds=1)
    airflow.next_try()
    starting = asyncio.get_running_loop().create_task(fire(airflow))
    await until(lambda: len(runs(emulator)) == 2)
    assert "run_id" not in airflow.xcoms
    await until(lambda: airflow.xcoms.get("run_id"))
    assert airflow.xcoms["run_id"] == runs(emulator)[1]
    await killed(starting)


async def test_run_that_a_worker_has_started_before_the_dag_was_edited_is_superseded(
    task: Make, emulator: Emulator, settings: AdfSettings
) -> None:
    """A trigger has no access to the task state store of workers. It knows only the XCom `run_id`."""
    airflow = task(pipeline_name="Slow")
    with AdfClient(settings) as client:
        run = client.send(operations.create_run(settings.factory(), "Slow", None, request_id=str(uuid.uuid4())))
    airflow.xcoms["run_id"] = run
    airflow.next_try()
    waiting = await begin(airflow, emulator, 2)
    await until(lambda: airflow.xcoms.get("run_id") != run)
    assert cancelled(emulator) == [run]
    await killed(waiting)


async def test_run_that_a_worker_has_started_is_superseded_by_a_late_start(
    task: Make, emulator: Emulator, settings: AdfSettings
) -> None:
    """The start waited for its turn, so the trigger reads again what is stored."""
    airflow = task()
    airflow.xcoms["run_id"] = "of-a-worker"
    airflow.next_try()
    clock = iter([0.0, 60.0, 60.0, 60.0]).__next__
    journal = TriggerJournal(context_of(airflow), durable=True, clock=clock)
    wanted = start_of_task(airflow, settings).intent(journal.task_try)
    older = await journal.stored(wanted)
    assert older is not None
    assert older.start_key == "of-a-worker"
    await journal.save(replace(wanted, phase=Phase.SENDING))
    assert list(airflow.xcoms) == [INTENT_KEY]


async def test_run_id_never_names_a_failed_run_of_a_lost_start(
    task: Make, emulator: Emulator, settings: AdfSettings
) -> None:
    """The retry finds the failed run of the lost start, and starts another run."""
    airflow = task(pipeline_name="Broken")
    intent = sending_of(airflow, settings, try_failed=True)
    with AdfClient(settings) as client:
        client.send(operations.create_run(settings.factory(), "Broken", None, request_id=intent.start_key))
    emulator.clock.advance(60)
    airflow.xcoms[INTENT_KEY] = intent.to_json()
    airflow.next_try()
    await failure(airflow)
    first, second = runs(emulator)
    assert first == intent.start_key
    named = [
        message.value
        for message in airflow.asked
        if getattr(message, "key", "") == "run_id" and "Set" in type(message).__name__
    ]
    assert named == [second]


async def test_run_id_without_an_intent_is_kept_by_a_try_that_fails(task: Make, emulator: Emulator) -> None:
    airflow = task(pipeline_name="Slow", supersede_timeout=0.3, cancel_on_kill=False)
    await killed(await begin(airflow, emulator))
    del airflow.xcoms[INTENT_KEY]
    for _ in range(2):
        assert [airflow.xcoms.get("run_id")] == runs(emulator)
        airflow.next_try()
        assert "Two runs of one task must not overlap" in str(await failure(airflow))


async def test_run_of_an_unreadable_intent_is_searched_for(task: Make, emulator: Emulator) -> None:
    airflow = task(pipeline_name="Slow")
    await killed(await begin(airflow, emulator))
    airflow.xcoms |= {INTENT_KEY: {"version": 99, "of": "another version"}}
    del airflow.xcoms["run_id"]
    emulator.clock.advance(4000)
    assert isinstance(await fire(airflow), TaskSuccessEvent)
    assert [airflow.xcoms["run_id"]] == runs(emulator)
    assert stored_start(airflow).is_of(TaskTry(try_number=1))


async def test_run_in_the_factory_of_an_earlier_dag_version_is_cancelled(
    task: Make, emulator: Emulator, settings: AdfSettings
) -> None:
    airflow = task(pipeline_name="Slow")
    await killed(await begin(airflow, emulator))
    edited = task(pipeline_name="Slow", factory_name="not-there")
    edited.xcoms = airflow.xcoms
    edited.next_try()
    assert isinstance(await failure(edited), AdfNotFoundError)
    assert cancelled(emulator) == runs(emulator) != []


@pytest.mark.usefixtures("in_seconds")
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ({"status": 403, "code": "AuthorizationFailed"}, "AuthorizationFailed"),
        ({"drop": True, "effect": "before"}, "got no usable answer"),
    ],
    ids=["refused", "lost"],
)
async def test_results_of_the_previous_run_are_deleted_if_a_clear_starts_nothing(
    fault: dict[str, Any], error: str, task: Make, emulator: Emulator, settings: AdfSettings
) -> None:
    emulator.state().switches.run_id_from_request_id = False
    emulator.add_fault("createRun", **fault)
    airflow = task(outputs={"rows": "Copy.rowsCopied"}, start_settle=0.1)
    old = {"run_id": "of-before", "rows": 5, "return_value": {}, LINK_KEY: "https://old"}
    airflow.xcoms |= {INTENT_KEY: sending_of(airflow, settings, sent_at=1.0).to_json(), **old}
    airflow.next_try()
    assert error in str(await failure(airflow))
    assert not old.keys() & airflow.xcoms.keys()


async def test_task_of_an_edited_dag_continues_on_a_worker(task: Make, emulator: Emulator) -> None:
    airflow = task(pipeline_name="Slow")
    await killed(await begin(airflow, emulator))
    trigger = airflow.trigger()
    # Airflow gives no context if the newest version of the Dag does not start the task in the triggerer.
    trigger._context = None
    event = await fire(airflow, trigger)
    assert event.payload == {FOR_A_WORKER: True}
    # A kill still finds the run.
    airflow.state = "failed"
    await trigger.on_kill()
    await settled()
    assert cancelled(emulator) == runs(emulator) != []


async def test_airflows_timeout_is_not_a_kill(task: Make, emulator: Emulator) -> None:
    airflow = task(pipeline_name="Slow", cancel_on_timeout=False)
    trigger = airflow.trigger()
    waiting = asyncio.get_running_loop().create_task(fire(airflow, trigger))
    await until(lambda: airflow.xcoms.get("run_id") and runs(emulator))
    trigger.timeout_after = datetime.now(UTC) - timedelta(seconds=1)  # type: ignore[attr-defined]  # Airflow's
    airflow.state = "failed"
    await killed(waiting, USER_ACTION)
    await settled()
    assert cancelled(emulator) == []


async def test_kill_while_airflow_does_not_answer_logs_the_run_that_may_continue(
    task: Make, emulator: Emulator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(xcoms, "PAUSES", (0.01,))
    airflow = task(pipeline_name="Slow")
    await killed(await begin(airflow, emulator))
    airflow.failures, airflow.delay, airflow.asked = 9, 0.1, []
    continuing = asyncio.get_running_loop().create_task(fire(airflow))
    await until(lambda: airflow.asked)
    await killed(continuing, USER_ACTION)
    await settled()
    (run,) = runs(emulator)
    assert any("it is not known" in r.message and run in r.message for r in caplog.records if r.levelname == "ERROR")


async def test_reason_of_a_refusal_is_kept_although_airflow_fails(
    task: Make, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(xcoms, "PAUSES", (0.01,))
    refused = emulator.add_fault("createRun", status=403, code="AuthorizationFailed", hang_seconds=1)
    airflow = task()
    starting = asyncio.get_running_loop().create_task(failure(airflow))
    await until(lambda: refused.consumed)
    airflow.failures = 2
    assert isinstance(await starting, AdfPermissionError)
    # The next try knows that nothing was started.
    airflow.next_try()
    assert isinstance(await fire(airflow), TaskSuccessEvent)
    assert len(runs(emulator)) == 1


async def test_request_to_airflow_is_repeated_if_it_fails_for_a_moment(
    task: Make, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(xcoms, "PAUSES", (0.01, 0.01, 0.01))
    airflow = task()
    airflow.failures = 3
    assert isinstance(await fire(airflow), TaskSuccessEvent)
    assert len(runs(emulator)) == 1


async def test_nothing_is_started_if_airflow_fails_for_long(
    task: Make, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(xcoms, "PAUSES", (0.01,))
    airflow = task()
    airflow.failures = 2
    assert f"could not read XCom {INTENT_KEY}" in str(await failure(airflow))
    assert runs(emulator) == []


async def test_result_that_airflow_refuses_is_pushed_by_a_worker(
    task: Make, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(xcoms, "PAUSES", (0.01,))
    airflow = task(pipeline_name="Slow")
    waiting = await begin(airflow, emulator)
    airflow.failures = 2
    (run,) = runs(emulator)
    emulator.clock.advance(4000)
    event = await waiting
    assert conclude(Report.from_json(event.payload))["run_id"] == run


async def test_throttled_start_delays_all_others(task: Make, emulator: Emulator) -> None:
    emulator.add_fault("createRun", status=429, headers={"Retry-After": "1"})
    first = asyncio.get_running_loop().create_task(fire(task()))
    await until(lambda: emulator.books.of("createRun", status=429))
    await asyncio.sleep(0.1)
    await asyncio.gather(first, fire(task(task_id="other")))
    refused, *others = (record.time for record in emulator.books.of("createRun"))
    assert len(others) == len(runs(emulator)) == 2
    assert min(others) >= refused + 1


async def test_few_starts_are_in_flight_at_once(task: Make, emulator: Emulator) -> None:
    emulator.add_fault("createRun", effect="after", hang_seconds=600, times=STARTS_AT_ONCE)
    starting = [asyncio.get_running_loop().create_task(fire(task(task_id=f"it{n}"))) for n in range(30)]
    await until(lambda: len(runs(emulator)) >= STARTS_AT_ONCE)
    await asyncio.sleep(0.3)
    assert len(runs(emulator)) == STARTS_AT_ONCE
    await asyncio.to_thread(emulator.refuse_connections, 0.05)  # ends the requests that hang
    await asyncio.gather(*starting)
    assert len(runs(emulator)) == 30


async def test_search_for_a_lost_start_does_not_delay_other_starts(
    task: Make, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(start_queue, "STARTS_AT_ONCE", 1)
    # Neither its answer nor its run is available for a while.
    emulator.state().switches.run_id_from_request_id = False
    emulator.add_fault("createRun", drop=True)
    first = asyncio.get_running_loop().create_task(failure(task(pipeline_name="Other", start_settle=600)))
    await until(lambda: emulator.books.of("createRun"))
    try:
        async with asyncio.timeout(PATIENCE):
            await fire(task(task_id="other"))
        assert not first.done()
    finally:
        first.cancel()
        await asyncio.wait([first])


async def test_search_for_a_start_of_a_lost_triggerer_does_not_delay_other_starts(
    task: Make, emulator: Emulator, settings: AdfSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(start_queue, "STARTS_AT_ONCE", 1)
    lost_start = task(pipeline_name="Other", start_settle=600)
    lost_start.xcoms[INTENT_KEY] = sending_of(lost_start, settings).to_json()
    searching = asyncio.get_running_loop().create_task(failure(lost_start))
    await until(lambda: emulator.books.of("queryRuns"))
    try:
        async with asyncio.timeout(PATIENCE):
            await fire(task(task_id="quick"))
        assert not searching.done()
    finally:
        searching.cancel()
        await asyncio.wait([searching])


async def test_connection_is_read_once_for_all_tasks(
    task: Make, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    real = BaseHook.aget_connection

    async def counted(conn_id: str) -> Any:
        read.append(conn_id)
        return await real(conn_id)

    monkeypatch.setattr(BaseHook, "aget_connection", counted)
    airflow = task()
    await asyncio.gather(*(fire(airflow) for _ in range(5)))
    assert read == ["adf"]


async def test_link_of_a_long_run_is_pushed_while_it_runs(
    task: Make, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finish, "LINK_AFTER", 0.1)
    airflow = task(pipeline_name="Slow")
    waiting = await begin(airflow, emulator)
    await until(lambda: runs(emulator)[0] in airflow.xcoms.get(LINK_KEY, ""))
    await killed(waiting)


async def test_repr_of_a_trigger_shows_no_parameters() -> None:
    made = AdfStartPipelineTrigger(
        azure_data_factory_conn_id="adf",
        pipeline_name="Load",
        parameters={"password": "hunter2"},
        timeout=1,
        check_interval=1,
        start_settle=1,
        supersede_timeout=1,
        timeout_slack=1,
    )
    assert "hunter2" not in repr(made)


@pytest.fixture
def fails_once(emulator: Emulator) -> Callable[..., None]:
    """The first run of a pipeline fails at once. Later runs take some seconds, and succeed."""

    def script(seconds: float = 1) -> None:
        failed = {"seconds": 0, "outcome": "Failed", "error": {"errorCode": "2200", "message": "no such table"}}
        given = {
            "activities": {"Load/Copy": {"seconds": seconds}},
            "runs": [{"pipeline": "Load", "times": 1, "activities": {"Copy": failed}}],
        }
        emulator.state().script = Script.from_json(given)

    return script


def groups(emulator: Emulator) -> list[str]:
    """The group of each run."""
    return emulator.call(lambda: [run.group_id for run in emulator.state().runs.values()])


@pytest.mark.parametrize(
    ("how", "is_clear", "continues"),
    [
        ("never", False, False),
        ("retry", False, True),
        ("always", False, True),
        ("retry", True, False),
        ("always", True, True),
    ],
)
async def test_failed_run_is_continued_as_the_author_says(
    how: str, is_clear: bool, continues: bool, task: Make, emulator: Emulator, fails_once: Callable[..., None]
) -> None:
    fails_once()
    airflow = task(retry_from_failure=how)
    assert isinstance(await failure(airflow), AdfRunFailed)
    if is_clear:
        record_no_failure(airflow)
    airflow.next_try()
    assert isinstance(await fire(airflow), TaskSuccessEvent)
    first, second = runs(emulator)
    assert groups(emulator) == [first, first if continues else second]
    assert airflow.xcoms["run_id"] == airflow.xcoms["return_value"]["run_id"] == second
    assert stored_start(airflow).intent.rerun_of == (first if continues else None)


@pytest.mark.parametrize(
    "switches",
    [{}, {"rerun_id_from_request_id": False}, {"run_id_from_request_id": False}],
    ids=["keys", "own-rerun-ids", "own-ids"],
)
async def test_rerun_whose_answer_was_lost_with_its_triggerer_is_adopted(
    switches: dict[str, Any],
    task: Make,
    emulator: Emulator,
    fails_once: Callable[..., None],
    in_seconds: None,
) -> None:
    fails_once()
    emulator.state().switches = Switches(**switches)
    airflow = task(retry_from_failure="retry", start_settle=0.5)
    await failure(airflow)
    airflow.next_try()
    emulator.add_fault("createRun", effect="after", hang_seconds=1)
    starting = asyncio.get_running_loop().create_task(fire(airflow))
    await until(lambda: len(runs(emulator)) == 2)
    assert stored_start(airflow).intent.phase is Phase.SENDING
    await lost(starting)
    assert isinstance(await fire(airflow), TaskSuccessEvent)
    first, second = runs(emulator)
    assert (groups(emulator), airflow.xcoms["run_id"]) == ([first, first], second)


async def test_rerun_that_somebody_began_first_is_adopted_if_the_service_refuses_ours(
    task: Make, emulator: Emulator, fails_once: Callable[..., None]
) -> None:
    fails_once()
    emulator.state().switches.recovery_of_superseded = "refuse"
    airflow = task(retry_from_failure="retry")
    await failure(airflow)
    (first,) = runs(emulator)
    airflow.next_try()
    late = emulator.add_fault("createRun", hang_seconds=1)
    waiting = asyncio.get_running_loop().create_task(fire(airflow))
    await until(lambda: late.consumed == 1)
    theirs = emulator.call(
        lambda: emulator.state().create_run(
            "Load", None, reference_run_id=first, is_recovery=True, start_from_failure=True
        )
    )
    assert isinstance(await waiting, TaskSuccessEvent)
    assert (runs(emulator), airflow.xcoms["run_id"], cancelled(emulator)) == ([first, theirs], theirs, [])


async def test_clear_after_a_lost_rerun_waits_for_a_rerun_that_somebody_began(
    task: Make, emulator: Emulator, settings: AdfSettings, fails_once: Callable[..., None], in_seconds: None
) -> None:
    fails_once(3600)
    emulator.state().switches.run_id_from_request_id = False
    airflow = task(retry_from_failure="retry", start_settle=0.5)
    await failure(airflow)
    (first,) = runs(emulator)
    airflow.next_try()
    emulator.add_fault("createRun", drop=True)
    assert isinstance(await failure(airflow), AdfAmbiguousStartError)
    record_no_failure(airflow)
    airflow.next_try()
    studio = Recovery(reference_pipeline_run_id=first, is_recovery=True, start_from_failure=True)
    with AdfClient(settings) as client:
        call = operations.create_run(settings.factory(), "Load", None, request_id=str(uuid.uuid4()), recovery=studio)
        theirs = await asyncio.to_thread(client.send, call)
    waiting = asyncio.get_running_loop().create_task(fire(airflow))
    polls = emulator.books.count("getRun")
    await until(lambda: waiting.done() or emulator.books.count("getRun") > polls + 3)
    assert (runs(emulator), cancelled(emulator)) == ([first, theirs], [])
    emulator.clock.advance(4000)
    await until(lambda: waiting.done() or len(runs(emulator)) == 3)
    emulator.clock.advance(4000)
    assert isinstance(await waiting, TaskSuccessEvent)
    assert cancelled(emulator) == []
    assert groups(emulator) == [first, first, airflow.xcoms["run_id"]]

"""`warn_after` on a worker, in a deferred task, and in triggerer mode. The emulator's clock makes runs late."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.triggers.base import TaskSuccessEvent, TriggerEvent

from airflow_adf_mi._airflow import features
from airflow_adf_mi._airflow.task_instance import LATE_RUN_KEY
from airflow_adf_mi._triggerer.xcom_journal import INTENT_KEY
from airflow_adf_mi.adf.reporting.report import Report, conclude
from airflow_adf_mi.emulator import Emulator
from airflow_adf_mi.emulator.pipelines.script import Script
from airflow_adf_mi.operators import AdfRunPipelineOperator
from airflow_adf_mi.triggers import AdfPipelineRunTrigger
from tests.conftest import SAMPLE_SCRIPT
from tests.support.fired import fire
from tests.support.minors import TaskDeferred, needs
from tests.support.tasks import Make, Task, execute, runs
from tests.support.triggerer import BEGAN, Airflow, use_airflow
from tests.support.waiting import until

__all__ = ["use_airflow"]
pytestmark = pytest.mark.usefixtures("nothing_left")
TI = SimpleNamespace(dag_id="dag", run_id="run1", task_id="it", map_index=-1, try_number=1)
LATE = "has been active for"


@dataclass
class Watched(Task):
    """A task instance during which hours pass: when the run has started, and when its warning was pushed."""

    emulator: Emulator = field(kw_only=True)
    late_by: float = 1000
    """Seconds that pass when the run has started."""
    until_the_end: float = 4000

    def xcom_push(self, key: str, value: Any) -> None:
        if key == "run_id":
            self.emulator.clock.advance(self.late_by)
        if key == LATE_RUN_KEY:
            self.emulator.clock.advance(self.until_the_end)
        super().xcom_push(key, value)


@pytest.fixture
def five_earlier_runs(emulator: Emulator) -> None:
    """Five runs of the pipeline "Slow" took 100 s each. The next one takes an hour."""
    short = {"pipeline": "Slow", "times": 5, "activities": {"Copy": {"seconds": 100}}}
    emulator.set_script(Script.from_json({**SAMPLE_SCRIPT, "runs": [short]}))
    emulator.call(lambda: [emulator.state().create_run("Slow", None) for _ in range(5)])
    emulator.clock.advance(200)


def test_late_run_on_a_worker_is_reported_once(
    operator: Make, emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    task = Watched(emulator=emulator)
    result = execute(operator("Slow", warn_after=600), task)
    late = task.xcoms[LATE_RUN_KEY]
    assert result["status"] == "Succeeded"
    assert (late["run_id"], late["pipeline_name"], late["try_number"]) == (result["run_id"], "Slow", 1)
    assert 900 < late["active_seconds"] < 1200
    assert caplog.text.count(LATE) == 1
    assert f"Run {result['run_id']} of pipeline 'Slow'" in caplog.text
    assert "warn_after is 600 s. The run continues. See https://" in caplog.text
    assert emulator.books.count("queryRuns") == 0


def test_run_that_is_not_late_is_not_reported(
    operator: Make, emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    task = Watched(emulator=emulator, late_by=4000)
    execute(operator("Slow", warn_after=600), task)
    execute(operator("Load", warn_after=600), Task())
    assert LATE_RUN_KEY not in task.xcoms
    assert LATE not in caplog.text


def test_xcom_that_airflow_refuses_does_not_end_the_wait(
    operator: Make, emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    task = Watched(emulator=emulator, xcoms_work=False)
    assert execute(operator("Slow", warn_after=600), task)["status"] == "Succeeded"
    assert "A part of the warning of a late run failed. RuntimeError: the API server is down" in caplog.text
    assert caplog.text.count(LATE) == 1


@pytest.mark.usefixtures("five_earlier_runs")
def test_usual_duration_costs_one_list_query(
    operator: Make, emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    task = Watched(emulator=emulator)
    execute(operator("Slow", warn_after="usual"), task)
    assert 155 < task.xcoms[LATE_RUN_KEY]["limit_seconds"] < 170
    assert "90% of its last 5 successful runs took at most 10" in caplog.text
    assert emulator.books.count("queryRuns") == 1


def test_unreadable_list_is_one_line_and_no_warning(
    operator: Make, emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    emulator.add_fault("queryRuns", status=403)
    task = Watched(emulator=emulator, late_by=4000)
    assert execute(operator("Slow", warn_after="usual"), task)["status"] == "Succeeded"
    assert caplog.text.count("could not be listed") == 1
    assert LATE not in caplog.text


def stored(deferral: TaskDeferred) -> dict[str, Any]:
    """The arguments of a trigger, as Airflow's database returns them."""
    _, arguments = deferral.trigger.serialize()
    return dict(json.loads(json.dumps(arguments)))


def trigger(arguments: dict[str, Any], ti: Any = TI) -> AdfPipelineRunTrigger:
    made = AdfPipelineRunTrigger(**arguments)
    made.task_instance = ti
    return made


async def fired(waiting: AdfPipelineRunTrigger) -> TriggerEvent:
    (event,) = [event async for event in waiting.run()]
    return event


async def ended(waiting: AdfPipelineRunTrigger) -> Report:
    return Report.from_json(json.loads(json.dumps((await fired(waiting)).payload)))


async def stopped(waiting: asyncio.Task[Any]) -> None:
    waiting.cancel()
    await asyncio.wait([waiting])


async def deferred(it: AdfRunPipelineOperator, task: Task) -> dict[str, Any]:
    with pytest.raises(TaskDeferred) as e:
        await asyncio.to_thread(execute, it, task)
    return stored(e.value)


@pytest.fixture
def airflow(use_airflow: Callable[[Airflow], Airflow]) -> Airflow:
    with DAG("dag", schedule=None, start_date=BEGAN) as dag:
        return use_airflow(Airflow(dag))


@needs("ASYNC_XCOMS")
@pytest.mark.usefixtures("five_earlier_runs")
async def test_late_run_of_a_deferred_task_is_reported_once_by_all_its_triggers(
    operator: Make, emulator: Emulator, airflow: Airflow, caplog: pytest.LogCaptureFixture
) -> None:
    arguments = await deferred(operator("Slow", warn_after="usual", deferrable=True), Task())
    assert 155 < arguments["warn_after"] < 170
    first = asyncio.create_task(fired(trigger(arguments)))
    await until(lambda: emulator.books.count("getRun"))
    assert LATE_RUN_KEY not in airflow.xcoms
    emulator.clock.advance(1000)
    await until(lambda: LATE_RUN_KEY in airflow.xcoms)
    assert airflow.xcoms[LATE_RUN_KEY]["active_seconds"] > 900
    assert "90% of its last 5" in airflow.xcoms[LATE_RUN_KEY]["limit_reason"]
    await stopped(first)
    second = asyncio.create_task(fired(trigger(arguments)))
    await until(lambda: airflow.questions.count(f"GetXCom {LATE_RUN_KEY}") == 2)
    emulator.clock.advance(4000)
    assert isinstance(await second, TaskSuccessEvent)
    assert caplog.text.count(LATE) == 1
    assert airflow.questions.count(f"SetXCom {LATE_RUN_KEY}") == 1
    assert emulator.books.count("queryRuns") == 1, "the limit is stored with the trigger"


@pytest.mark.parametrize("has_task", [True, False])
async def test_trigger_without_xcoms_logs_only(
    has_task: bool,
    operator: Make,
    emulator: Emulator,
    airflow: Airflow,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if has_task:
        monkeypatch.setattr(features, "ASYNC_XCOMS", False, raising=False)
    arguments = await deferred(operator("Slow", warn_after=600, deferrable=True, outputs={"n": "Copy.x"}), Task())
    waiting = asyncio.create_task(ended(trigger(arguments, TI if has_task else None)))
    emulator.clock.advance(1000)
    await until(lambda: LATE in caplog.text)
    emulator.clock.advance(4000)
    assert conclude(await waiting)["status"] == "Succeeded"
    assert caplog.text.count(LATE) == 1
    assert airflow.questions == []


async def test_trigger_that_an_older_version_stored_warns_of_nothing(
    operator: Make, emulator: Emulator, airflow: Airflow, caplog: pytest.LogCaptureFixture
) -> None:
    arguments = await deferred(operator("Slow", deferrable=True), Task())
    older = {
        name: value for name, value in arguments.items() if name not in ("warn_after", "warn_reason", "waits_since")
    }
    emulator.clock.advance(4000)
    assert conclude(await ended(trigger(older, None)))["status"] == "Succeeded"
    assert LATE not in caplog.text


@needs("ASYNC_XCOMS")
async def test_failing_airflow_delays_neither_the_end_of_the_run_nor_the_warning(
    operator: Make,
    emulator: Emulator,
    airflow: Airflow,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("airflow_adf_mi._airflow.xcoms.PAUSES", (0.01,))
    monkeypatch.setattr("airflow_adf_mi._triggerer.late_run.PUSH_SECONDS", 0.1)
    arguments = await deferred(operator("Slow", warn_after=600, deferrable=True, outputs={"n": "Copy.x"}), Task())
    airflow.failures = 2
    airflow.silent_at = 2
    waiting = asyncio.create_task(ended(trigger(arguments)))
    emulator.clock.advance(1000)
    await until(lambda: airflow.is_silent)
    assert caplog.text.count(LATE) == 1
    emulator.clock.advance(4000)
    assert conclude(await waiting)["status"] == "Succeeded"


@pytest.fixture
def in_triggerer_mode(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, use_airflow: Callable[[Airflow], Airflow]
) -> Callable[..., Airflow]:
    given = {"conn_type": "azure_data_factory_mi", "extra": emulator.connection_extra()}
    monkeypatch.setenv("AIRFLOW_CONN_ADF", json.dumps(given))
    for module in ("start", "xcom_journal"):
        monkeypatch.setattr(f"airflow_adf_mi._triggerer.{module}.CLEAR_OVERLAP_SECONDS", 0.05)

    def make(**arguments: Any) -> Airflow:
        with DAG("dag", schedule=None, start_date=BEGAN) as dag:
            AdfRunPipelineOperator(
                task_id="it",
                azure_data_factory_conn_id="adf",
                pipeline_name="Slow",
                check_interval=0.2,
                start_from_trigger=True,
                **arguments,
            )
        return use_airflow(Airflow(dag))

    return make


@needs("TEMPLATED_TRIGGERS")
@pytest.mark.usefixtures("five_earlier_runs")
@pytest.mark.parametrize(("warn_after", "queries"), [(600, 0), ("usual", 1)])
async def test_late_run_in_triggerer_mode_is_reported_once_in_each_try(
    warn_after: Any,
    queries: int,
    in_triggerer_mode: Callable[..., Airflow],
    emulator: Emulator,
    caplog: pytest.LogCaptureFixture,
) -> None:
    airflow = in_triggerer_mode(warn_after=warn_after)
    first = asyncio.create_task(fire(airflow))
    await until(lambda: airflow.xcoms.get("run_id"))
    assert emulator.books.count("queryRuns") <= queries
    emulator.clock.advance(1000)
    await until(lambda: LATE_RUN_KEY in airflow.xcoms)
    assert airflow.xcoms[LATE_RUN_KEY]["run_id"] == runs(emulator)[-1]
    await stopped(first)
    asked = f"GetXCom {LATE_RUN_KEY}"
    second = asyncio.create_task(fire(airflow))
    await until(lambda: airflow.questions.count(asked) == 2)
    emulator.clock.advance(4000)
    assert isinstance(await second, TaskSuccessEvent)
    assert caplog.text.count(LATE) == 1
    assert emulator.books.count("queryRuns") <= 2 * queries


@needs("TEMPLATED_TRIGGERS")
async def test_new_run_of_a_cleared_task_deletes_the_warning_of_the_earlier_run(
    in_triggerer_mode: Callable[..., Airflow], emulator: Emulator
) -> None:
    airflow = in_triggerer_mode(warn_after=600)
    first = asyncio.create_task(fire(airflow))
    await until(lambda: airflow.xcoms.get("run_id"))
    emulator.clock.advance(1000)
    await until(lambda: LATE_RUN_KEY in airflow.xcoms)
    emulator.clock.advance(4000)
    await first
    airflow.next_try()
    second = asyncio.create_task(fire(airflow))
    await until(lambda: len(runs(emulator)) == 2 and airflow.xcoms.get("run_id") == runs(emulator)[-1])
    await until(lambda: LATE_RUN_KEY not in airflow.xcoms)
    emulator.clock.advance(4000)
    await second


@needs("TEMPLATED_TRIGGERS")
async def test_late_run_is_reported_again_by_the_next_try_that_adopts_it(
    in_triggerer_mode: Callable[..., Airflow], emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    airflow = in_triggerer_mode(warn_after=600)
    first = asyncio.create_task(fire(airflow))
    await until(lambda: airflow.xcoms.get("run_id"))
    emulator.clock.advance(1000)
    await until(lambda: LATE_RUN_KEY in airflow.xcoms)
    await stopped(first)
    # As a worker records it.
    airflow.xcoms[INTENT_KEY]["try_failed"] = True
    airflow.next_try()
    second = asyncio.create_task(fire(airflow))
    await until(lambda: airflow.xcoms[LATE_RUN_KEY]["try_number"] == 2)
    emulator.clock.advance(4000)
    assert isinstance(await second, TaskSuccessEvent)
    assert len(runs(emulator)) == 1
    assert caplog.text.count(LATE) == 2


@needs("TEMPLATED_TRIGGERS")
async def test_nothing_is_read_for_a_run_that_has_already_ended(
    in_triggerer_mode: Callable[..., Airflow], emulator: Emulator
) -> None:
    airflow = in_triggerer_mode(warn_after="usual")
    first = asyncio.create_task(fire(airflow))
    await until(lambda: emulator.books.count("queryRuns") == 1 and emulator.books.count("getRun"))
    await stopped(first)
    emulator.clock.advance(4000)
    assert isinstance(await fire(airflow), TaskSuccessEvent)
    assert emulator.books.count("queryRuns") == 1


@needs("ASYNC_XCOMS")
async def test_xcom_of_a_run_that_ends_during_its_warning_is_pushed(
    operator: Make, emulator: Emulator, airflow: Airflow
) -> None:
    arguments = await deferred(operator("Slow", warn_after=600, deferrable=True, outputs={"n": "Copy.x"}), Task())
    airflow.delay = 0.5
    waiting = asyncio.create_task(ended(trigger(arguments)))
    emulator.clock.advance(1000)
    await until(lambda: airflow.questions)
    emulator.clock.advance(4000)
    assert conclude(await waiting)["status"] == "Succeeded"
    assert LATE_RUN_KEY in airflow.xcoms

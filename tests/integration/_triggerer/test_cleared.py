"""A trigger whose task was cleared, while its upstream tasks run again, rests until its next try begins."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import GetTaskStates, TaskStatesResult

from airflow_adf_mi._triggerer import cleared
from airflow_adf_mi._triggerer.cleared import (
    MOST_FIRED,
    TaskCleared,
    fired_once,
    raise_if_cleared,
)
from airflow_adf_mi.adf.api import operations
from airflow_adf_mi.adf.api.client import AdfClient
from airflow_adf_mi.adf.config.settings import AdfSettings
from airflow_adf_mi.emulator import Emulator
from airflow_adf_mi.triggers.queue import AdfPipelineQueueTrigger
from airflow_adf_mi.triggers.wait import AdfPipelineRunTrigger
from tests.support.waiting import until

pytestmark = pytest.mark.usefixtures("nothing_left")
RUN_ID = "0cc3f4c2-0000-4000-8000-000000000001"


@dataclass
class Supervisor:
    """Airflow's answers about the states of tasks, by Dag run."""

    states: dict[str, dict[str, Any]]
    is_down: bool = False
    asked: list[Any] = field(default_factory=list)

    async def asend(self, message: Any) -> Any:
        self.asked.append(message)
        if self.is_down:
            raise RuntimeError("the API server is down")
        return TaskStatesResult(task_states={run_id: self.states.get(run_id, {}) for run_id in message.run_ids})


@dataclass
class TaskInstance:
    """What a trigger knows of its task."""

    dag_id: str = "dag"
    run_id: str = "run1"
    task_id: str = "it"
    map_index: int = -1
    try_number: int = 1


@pytest.fixture
def supervisor(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Supervisor]:
    def make(states: dict[str, dict[str, Any]], *, is_down: bool = False) -> Supervisor:
        made = Supervisor(states, is_down)
        monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", made, raising=False)
        return made

    return make


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests to Airflow are repeated after milliseconds."""
    monkeypatch.setattr("airflow_adf_mi._airflow.xcoms.PAUSES", (0.01,) * 4)


async def resting(coroutine: Any, asked: Callable[[], int]) -> asyncio.Task[Any]:
    """Run a trigger until it has asked once more for the state of its task, and rests."""
    before = asked()
    task: asyncio.Task[Any] = asyncio.get_running_loop().create_task(coroutine)
    await until(lambda: asked() > before or task.done())
    await asyncio.sleep(0.1)
    assert not task.done(), task
    return task


async def ended(task: asyncio.Task[Any], message: str | None = None) -> None:
    task.cancel(message)
    with pytest.raises(asyncio.CancelledError):
        await task


async def events_of(trigger: Any) -> list[Any]:
    return [event async for event in trigger.run()]


def wait_trigger(settings: AdfSettings) -> AdfPipelineRunTrigger:
    return AdfPipelineRunTrigger(
        settings=settings.to_json(),
        resource_group_name="rg-test",
        factory_name="adf-test",
        run_id=RUN_ID,
        check_interval=0.2,
        owns_run=True,
    )


def queue_trigger(settings: AdfSettings) -> AdfPipelineQueueTrigger:
    return AdfPipelineQueueTrigger(
        settings=settings.to_json(),
        resource_group_name="rg-test",
        factory_name="adf-test",
        pipeline_name="Load",
        refused_at=0,
        deadline=0,
    )


@pytest.mark.parametrize("make", [wait_trigger, queue_trigger])
async def test_trigger_that_is_built_again_after_it_fired_rests(
    make: Callable[[AdfSettings], Any], settings: AdfSettings, emulator: Emulator, supervisor: Callable[..., Supervisor]
) -> None:
    with AdfClient(settings) as client:
        client.send(operations.create_run(settings.factory(), "Load", None, request_id=RUN_ID))
    airflow = supervisor({"run1": {"it": "deferred"}})

    def built() -> Any:
        trigger = make(settings)
        trigger.trigger_id, trigger.task_instance = 7, TaskInstance()
        return trigger

    assert len(await events_of(built())) == 1
    assert airflow.asked == [], "the first event needs no question"
    assert len(await events_of(built())) == 1, "another triggerer had the task meanwhile"
    airflow.states["run1"]["it"] = None
    requests = len(emulator.books.requests)
    again = await resting(events_of(built()), lambda: len(airflow.asked))
    assert len(emulator.books.requests) == requests
    await ended(again)


async def test_question_names_the_task_and_its_dag_run(supervisor: Callable[..., Supervisor]) -> None:
    airflow = supervisor({"run1": {"it_3": None, "it_4": "deferred"}})
    with pytest.raises(TaskCleared):
        await raise_if_cleared(TaskInstance(map_index=3))
    await raise_if_cleared(TaskInstance(map_index=4))
    await raise_if_cleared(TaskInstance(map_index=5))
    assert airflow.asked == 3 * [GetTaskStates(dag_id="dag", task_ids=["it"], run_ids=["run1"])]
    await raise_if_cleared(None)
    assert len(airflow.asked) == 3, "dag.test() has no task instance"


async def test_one_question_is_asked_for_many_triggers(supervisor: Callable[..., Supervisor]) -> None:
    number = 201
    airflow = supervisor({f"run{i}": {"it": None if i % 2 else "deferred"} for i in range(number)})
    asking = [raise_if_cleared(TaskInstance(run_id=f"run{i}")) for i in range(number)]
    answers = await asyncio.gather(*asking, return_exceptions=True)
    assert [isinstance(answer, TaskCleared) for answer in answers] == [bool(i % 2) for i in range(number)]
    assert [len(question.run_ids) for question in airflow.asked] == [100, 100, 1], "the ids are a part of the URL"


@pytest.mark.usefixtures("impatient")
async def test_trigger_goes_on_if_airflow_does_not_answer(supervisor: Callable[..., Supervisor]) -> None:
    airflow = supervisor({}, is_down=True)
    await raise_if_cleared(TaskInstance())
    assert len(airflow.asked) == 5


async def test_only_the_last_triggers_that_fired_are_remembered(supervisor: Callable[..., Supervisor]) -> None:
    airflow = supervisor({})

    async def fire(number: int) -> None:
        trigger = AdfPipelineRunTrigger.__new__(AdfPipelineRunTrigger)
        trigger.trigger_id, trigger.task_instance = number, TaskInstance()  # type: ignore[assignment]  # as Airflow does

        async def event() -> Any:
            return number

        assert await fired_once(trigger, event) == number  # type: ignore[comparison-overlap]  # no matter what is fired

    for number in range(MOST_FIRED + 1):
        await fire(number)
    assert airflow.asked == []
    await fire(0)
    assert airflow.asked == [], "forgotten"
    await fire(MOST_FIRED)
    assert len(airflow.asked) == 1
    assert len(cleared._asked.here().fired) == MOST_FIRED

"""What a killed trigger does with its run, depending on the state of the task in Airflow."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.jobs import triggerer_job_runner
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import GetTaskStates, TaskStatesResult

from airflow_adf_mi._airflow import features
from airflow_adf_mi.adf.api import operations
from airflow_adf_mi.adf.api.client import AdfClient
from airflow_adf_mi.adf.config.settings import AdfSettings
from airflow_adf_mi.emulator import Emulator
from airflow_adf_mi.triggers.wait import USER_ACTION, AdfPipelineRunTrigger
from tests.support.minors import needs
from tests.support.waiting import until

pytestmark = pytest.mark.usefixtures("nothing_left")


@dataclass
class Supervisor:
    """Airflow's answers to requests for the states of tasks."""

    states: dict[str, Any]
    failures: int = 0
    asked: list[Any] = field(default_factory=list)

    async def asend(self, message: Any) -> Any:
        self.asked.append(message)
        await asyncio.sleep(0.05)
        if self.failures:
            self.failures -= 1
            raise RuntimeError("the API server is down")
        return TaskStatesResult(task_states={"run1": self.states})


@dataclass
class TaskInstance:
    """What a trigger knows of its task."""

    dag_id: str = "dag"
    run_id: str = "run1"
    task_id: str = "it"
    map_index: int = -1


@pytest.fixture
def supervisor(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Supervisor]:
    def make(failures: int = 0, **states: Any) -> Supervisor:
        made = Supervisor(states, failures)
        monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", made, raising=False)
        return made

    return make


def start(settings: AdfSettings) -> str:
    key = "0cc3f4c2-0000-4000-8000-00000000000{}"
    with AdfClient(settings) as client:
        return client.send(operations.create_run(settings.factory(), "Slow", None, request_id=key.format(1)))


def trigger(settings: AdfSettings, run_id: str, map_index: int = -1, **arguments: Any) -> AdfPipelineRunTrigger:
    made = AdfPipelineRunTrigger(
        **{
            "settings": settings.to_json(),
            "resource_group_name": "rg-test",
            "factory_name": "adf-test",
            "run_id": run_id,
            "check_interval": 60,
            "owns_run": True,
            **arguments,
        }
    )
    made.task_instance = TaskInstance(map_index=map_index)  # type: ignore[assignment]  # as much of one as is used
    return made


@pytest.mark.parametrize("state", ["failed", "success", "skipped", "removed", "upstream_failed"])
async def test_run_of_a_task_that_has_ended_is_cancelled(
    state: str, supervisor: Any, settings: AdfSettings, emulator: Emulator
) -> None:
    supervisor(it=state)
    await trigger(settings, await asyncio.to_thread(start, settings)).on_kill()
    assert emulator.books.count("cancelRun", status=200) == 1


@pytest.mark.parametrize("state", ["deferred", "running", "queued", "scheduled", "up_for_retry", None])
async def test_run_of_a_task_that_continues_or_was_cleared_is_kept(
    state: str | None, supervisor: Any, settings: AdfSettings, emulator: Emulator
) -> None:
    supervisor(it=state)
    await trigger(settings, await asyncio.to_thread(start, settings)).on_kill()
    assert emulator.books.count("cancelRun") == 0


@pytest.mark.parametrize(("map_index", "cancels"), [(0, 0), (1, 1)])
async def test_state_of_a_mapped_task_is_read_by_its_index(
    map_index: int, cancels: int, supervisor: Any, settings: AdfSettings, emulator: Emulator
) -> None:
    supervisor(it_0="deferred", it_1="failed")
    await trigger(settings, await asyncio.to_thread(start, settings), map_index=map_index).on_kill()
    assert emulator.books.count("cancelRun") == cancels


async def test_task_whose_id_could_be_a_mapped_instance_is_requested_by_its_id(
    supervisor: Any, settings: AdfSettings
) -> None:
    asked = supervisor(it_1="deferred", other="deferred").asked
    run_id = await asyncio.to_thread(start, settings)
    for task_id in ("it_1", "other"):
        waiting = trigger(settings, run_id)
        waiting.task_instance = TaskInstance(task_id=task_id)  # type: ignore[assignment]  # as above
        await waiting.on_kill()
    assert [message.task_ids for message in asked] == [["it_1"], None]


async def test_watched_run_is_never_cancelled(supervisor: Any, settings: AdfSettings, emulator: Emulator) -> None:
    asked = supervisor(it="failed").asked
    await trigger(settings, await asyncio.to_thread(start, settings), owns_run=False).on_kill()
    assert (asked, emulator.books.count("cancelRun")) == ([], 0)


async def test_cancel_on_kill_false_leaves_the_run(supervisor: Any, settings: AdfSettings, emulator: Emulator) -> None:
    supervisor(it="failed")
    await trigger(settings, await asyncio.to_thread(start, settings), cancel_on_kill=False).on_kill()
    assert emulator.books.count("cancelRun") == 0


async def test_cancel_continues_although_airflow_interrupts_on_kill(
    supervisor: Any, settings: AdfSettings, emulator: Emulator
) -> None:
    """Airflow 3.3.2 interrupts on_kill after about a second."""
    supervisor(it="failed")
    killing = asyncio.create_task(trigger(settings, await asyncio.to_thread(start, settings)).on_kill())
    await asyncio.sleep(0.01)
    killing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await killing
    await until(lambda: emulator.books.count("cancelRun", status=200))


@needs("TRIGGER_ON_KILL")
async def test_killed_trigger_cancels_without_a_call_of_on_kill(
    supervisor: Any, settings: AdfSettings, emulator: Emulator
) -> None:
    """When many are killed at once, Airflow 3.3.2 cancels a trigger a second time before it has called on_kill."""
    supervisor(it="failed")
    waiting = trigger(settings, await asyncio.to_thread(start, settings))
    running = asyncio.ensure_future(anext(waiting.run()))
    await asyncio.sleep(0.1)
    running.cancel(USER_ACTION)
    with pytest.raises(asyncio.CancelledError):
        await running
    await until(lambda: emulator.books.count("cancelRun", status=200))
    await waiting.on_kill()
    assert emulator.books.count("cancelRun", status=200) == 1


@pytest.mark.parametrize(
    ("state", "cancels"), [("failed", 1), ("success", 1), ("deferred", 0), ("scheduled", 0), (None, 0)]
)
@pytest.mark.parametrize("message", [(), ("EOF - shutting down",)], ids=["none", "shutdown"])
async def test_state_decides_where_airflow_never_shows_a_users_action(
    state: str | None,
    cancels: int,
    message: tuple[str, ...],
    supervisor: Any,
    settings: AdfSettings,
    emulator: Emulator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As on Airflow 3.1 and 3.2."""
    monkeypatch.setattr(features, "TRIGGER_ON_KILL", False)
    airflow = supervisor(it=state)
    running = asyncio.ensure_future(anext(trigger(settings, await asyncio.to_thread(start, settings)).run()))
    await asyncio.sleep(0.1)
    running.cancel(*message)
    with pytest.raises(asyncio.CancelledError):
        await running
    await until(lambda: airflow.asked and emulator.books.count("cancelRun", status=200) >= cancels)
    await asyncio.sleep(0.2)
    assert emulator.books.count("cancelRun") == cancels


async def test_trigger_that_airflow_ends_late_is_not_killed(
    supervisor: Any, settings: AdfSettings, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After Airflow's timeout, a worker decides about the run."""
    monkeypatch.setattr(features, "TRIGGER_ON_KILL", False)
    asked = supervisor(it="failed").asked
    waiting = trigger(settings, await asyncio.to_thread(start, settings))
    waiting.timeout_after = datetime.now(UTC) - timedelta(seconds=1)  # type: ignore[attr-defined]  # Airflow's triggerer sets it
    running = asyncio.ensure_future(anext(waiting.run()))
    await asyncio.sleep(0.1)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await asyncio.sleep(0.5)
    assert (asked, emulator.books.count("cancelRun")) == ([], 0)


@needs("TRIGGER_ON_KILL")
async def test_trigger_of_a_triggerer_that_shuts_down_requests_and_cancels_nothing(
    supervisor: Any, settings: AdfSettings, emulator: Emulator
) -> None:
    asked = supervisor(it="failed").asked
    running = asyncio.ensure_future(anext(trigger(settings, await asyncio.to_thread(start, settings)).run()))
    await asyncio.sleep(0.1)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await asyncio.sleep(0.5)
    assert (asked, emulator.books.count("cancelRun")) == ([], 0)


@needs("TRIGGER_ON_KILL")
def test_message_of_a_users_action_is_the_one_of_airflow() -> None:
    assert triggerer_job_runner._USER_ACTION_CANCEL_MSG == USER_ACTION  # the value in the installed Airflow


async def test_request_for_the_state_is_repeated_if_it_fails(
    supervisor: Any, settings: AdfSettings, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_adf_mi.adf.retrying.FIRST_BACKOFF_SECONDS", 0.01)  # instead of seconds
    asked = supervisor(failures=2, it="failed").asked
    await trigger(settings, await asyncio.to_thread(start, settings)).on_kill()
    assert len(asked) == 3
    assert emulator.books.count("cancelRun", status=200) == 1


async def test_run_that_may_continue_is_logged_if_the_state_stays_unknown(
    supervisor: Any, settings: AdfSettings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("airflow_adf_mi.adf.retrying.FIRST_BACKOFF_SECONDS", 0.01)  # instead of seconds
    monkeypatch.setattr("airflow_adf_mi._triggerer.cancel_on_kill.KILL_PATIENCE_SECONDS", 0.05)  # instead of minutes
    supervisor(failures=10**6, it="failed")
    await trigger(settings, await asyncio.to_thread(start, settings)).on_kill()
    assert "may continue, because Airflow did not report whether its task is over" in caplog.text


async def test_cancel_that_is_not_accepted_is_sent_again(
    supervisor: Any, settings: AdfSettings, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_adf_mi.adf.retrying.FIRST_BACKOFF_SECONDS", 0.01)  # instead of seconds
    supervisor(it="failed")
    emulator.add_fault("cancelRun", status=429, times=3)
    await trigger(settings, await asyncio.to_thread(start, settings)).on_kill()
    assert [r.status for r in emulator.books.of("cancelRun")] == [429, 429, 429, 200]


async def test_mass_kill_sends_one_request_for_each_dag_run(
    supervisor: Any, settings: AdfSettings, emulator: Emulator
) -> None:
    run_id = await asyncio.to_thread(start, settings)
    asked = supervisor(**{f"it_{n}": "failed" for n in range(50)}).asked
    await asyncio.gather(*(trigger(settings, run_id, map_index=n).on_kill() for n in range(50)))
    assert asked == [GetTaskStates(dag_id="dag", run_ids=["run1"], task_ids=["it"])]
    assert emulator.books.count("cancelRun") == 50

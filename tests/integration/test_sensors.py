"""What the sensor stores between processes, and that all its modes have the same outcome."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from airflow.sdk import DAG, BaseOperator, BaseSensorOperator
from airflow.sdk.bases.sensor import PokeReturnValue

from airflow_adf_mi._airflow import features
from airflow_adf_mi._worker.trigger_failures import MOST_TRIGGER_FAILURES
from airflow_adf_mi.adf.api import operations
from airflow_adf_mi.adf.api.client import AdfClient
from airflow_adf_mi.adf.config.settings import AdfSettings
from airflow_adf_mi.adf.errors import AdfUnavailableError
from airflow_adf_mi.adf.waiting.deadlines import TIMEOUT_SLACK_SECONDS
from airflow_adf_mi.adf.waiting.single_run import REFUSAL_GRACE_SECONDS
from airflow_adf_mi.emulator import Emulator
from airflow_adf_mi.exceptions import AdfConfigurationError, AdfError, AdfNotFoundError, AdfRunFailed
from airflow_adf_mi.sensors import REFUSED_SINCE_KEY, AdfPipelineRunSensor
from tests.support.minors import (
    AirflowRescheduleException,
    AirflowSensorTimeout,
    AirflowSkipException,
    TaskDeferralTimeout,
    TaskDeferred,
    needs,
)
from tests.support.tasks import Task


class TaskInstance:
    """The members of a task instance that the sensor uses."""

    task_id = "it"
    map_index = -1

    def __init__(self, try_number: int = 1, max_tries: int = 1) -> None:
        self.try_number = try_number
        self.max_tries = max_tries
        self.pushed: dict[str, Any] = {}
        self.began = time.time()
        """When the first process of a rescheduled sensor began."""
        self.start_date = datetime.now(UTC)

    def get_first_reschedule_date(self, _context: Any) -> datetime:
        return datetime.fromtimestamp(self.began, UTC)

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed[key] = value


class Store:
    """Airflow's task state store, which outlives processes, tries and clears."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}
        self.works = True

    def get(self, key: str, default: Any) -> Any:
        self._check()
        return json.loads(self.kept[key]) if key in self.kept else default

    def set(self, key: str, value: Any) -> None:
        self._check()
        self.kept[key] = json.dumps(value)

    def delete(self, key: str) -> None:
        self._check()
        self.kept.pop(key, None)

    def _check(self) -> None:
        if not self.works:
            raise RuntimeError("the API server is down")


@pytest.fixture
def connection(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> str:
    stored = {"conn_type": "azure_data_factory_mi", "extra": emulator.connection_extra()}
    monkeypatch.setenv("AIRFLOW_CONN_ADF_HERE", json.dumps(stored))
    return "adf_here"


def sensor(connection: str, run_id: str, **arguments: Any) -> AdfPipelineRunSensor:
    """A sensor as a new process makes it."""
    with DAG("d"):
        return AdfPipelineRunSensor(
            task_id="it",
            run_id=run_id,
            azure_data_factory_conn_id=connection,
            **{"mode": "reschedule", "deferrable": False, **arguments},
        )


def context(store: Store, **ti: int) -> Any:
    return {"ti": TaskInstance(**ti), "task_state_store": store}


def start(settings: AdfSettings, pipeline: str) -> str:
    with AdfClient(settings) as client:
        return client.send(operations.create_run(settings.factory(), pipeline, None, request_id=str(uuid.uuid4())))


def refused_for_long(store: Store, **ti: int) -> None:
    """Change the store as if the status checks of that try had been refused for longer than the grace period."""
    stored = json.loads(store.kept[REFUSED_SINCE_KEY])
    assert stored["since"] == pytest.approx(time.time(), abs=30)
    store.kept[REFUSED_SINCE_KEY] = json.dumps({**stored, "since": stored["since"] - REFUSAL_GRACE_SECONDS, **ti})


def test_rescheduled_sensor_without_a_store_waits_on(connection: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Airflow 3.1 and 3.2: each status check of a rescheduled sensor begins its own grace period."""
    monkeypatch.setattr(features, "TASK_STATE_STORE", False)
    store = Store()
    assert sensor(connection, "nope").poke(context(store)) is False
    assert store.kept == {}


@pytest.mark.parametrize(("waited", "expected"), [(3500, AirflowRescheduleException), (3700, AirflowSensorTimeout)])
def test_rescheduled_sensor_without_a_store_waits_until_its_timeout(
    waited: float, expected: type[Exception], connection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Airflow 3.1 and 3.2, although each status check is refused."""
    monkeypatch.setattr(features, "TASK_STATE_STORE", False)
    here = context(Store())
    here["ti"].began = time.time() - waited
    with pytest.raises(expected):
        executed(sensor(connection, "nope", timeout=3600), here)


@needs("TASK_STATE_STORE")
def test_rescheduled_sensor_continues_the_grace_period_of_a_refusal(connection: str) -> None:
    store = Store()
    assert sensor(connection, "nope").poke(context(store)) is False
    refused_for_long(store)
    with pytest.raises(AdfNotFoundError, match="the wait gave up"):
        sensor(connection, "nope").poke(context(store))
    assert store.kept == {}


@needs("TASK_STATE_STORE")
def test_rescheduled_sensor_continues_the_grace_period_of_unreadable_answers(
    connection: str, emulator: Emulator
) -> None:
    store = Store()
    emulator.add_fault("getRun", times=2, status=200, text=json.dumps({"runId": "r1"}))
    assert sensor(connection, "r1").poke(context(store)) is False
    refused_for_long(store)
    with pytest.raises(AdfUnavailableError, match="the answers could not be read"):
        sensor(connection, "r1").poke(context(store))
    assert store.kept == {}


@needs("TASK_STATE_STORE")
@pytest.mark.parametrize("ti", [{"try_number": 2}, {"try_number": 2, "max_tries": 2}, {"max_tries": 3}])
def test_grace_period_of_another_try_is_not_continued(ti: dict[str, int], connection: str) -> None:
    """This holds for the previous try of a retry, and for a try before a clear."""
    store = Store()
    assert sensor(connection, "nope").poke(context(store)) is False
    refused_for_long(store)
    assert sensor(connection, "nope").poke(context(store, **ti)) is False
    refused_for_long(store)
    with pytest.raises(AdfNotFoundError):
        sensor(connection, "nope").poke(context(store, **ti))


@needs("TASK_STATE_STORE")
def test_grace_period_is_deleted_after_a_successful_status_check(
    connection: str, settings: AdfSettings, emulator: Emulator
) -> None:
    store = Store()
    run_id = start(settings, "Slow")
    emulator.add_fault("getRun", status=403)
    assert sensor(connection, run_id).poke(context(store)) is False
    assert REFUSED_SINCE_KEY in store.kept
    assert sensor(connection, run_id).poke(context(store)) is False
    assert store.kept == {}


def test_failing_state_store_does_not_end_the_wait(connection: str, settings: AdfSettings, emulator: Emulator) -> None:
    store = Store()
    run_id = start(settings, "Load")
    emulator.add_fault("getRun", status=403)
    assert sensor(connection, run_id).poke(context(store)) is False
    store.works = False
    emulator.clock.advance(60)
    waiting = sensor(connection, run_id)
    emulator.add_fault("getRun", status=403)
    assert waiting.poke(context(store)) is False
    ended = waiting.poke(context(store))
    assert isinstance(ended, PokeReturnValue)
    assert (ended.xcom_value or {})["status"] == "Succeeded"


def test_sensor_in_poke_mode_does_not_use_the_state_store(connection: str) -> None:
    waiting = sensor(connection, "nope", mode="poke")
    for _ in range(2):
        assert waiting.poke({"ti": TaskInstance()}) is False  # type: ignore[typeddict-item]  # there is no store in it


def test_connection_that_cannot_be_used_here_ends_the_sensor_at_once(
    connection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IDENTITY_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(AdfConfigurationError, match="IDENTITY_ENDPOINT is set"):
        sensor(connection, "r1").poke(context(Store()))


RULES: list[tuple[str, dict[str, bool], type[Exception]]] = [
    ("failed", {}, AdfRunFailed),
    ("failed", {"soft_fail": True}, AdfRunFailed),
    ("failed", {"never_fail": True}, AirflowSkipException),
    ("timed out", {}, AirflowSensorTimeout),
    ("timed out", {"soft_fail": True}, AirflowSkipException),
    ("timed out", {"never_fail": True}, AirflowSkipException),
    ("refused", {}, AdfNotFoundError),
    ("refused", {"soft_fail": True}, AdfNotFoundError),
    ("refused", {"never_fail": True}, AirflowSkipException),
]


@pytest.mark.parametrize(("what", "arguments", "expected"), RULES, ids=str)
@pytest.mark.parametrize("deferrable", [False, True])
def test_soft_fail_and_never_fail_have_the_same_effect_in_all_modes(
    deferrable: bool,
    what: str,
    arguments: dict[str, bool],
    expected: type[Exception],
    connection: str,
    settings: AdfSettings,
    request: pytest.FixtureRequest,
) -> None:
    run_id = {"failed": "Broken", "timed out": "Slow", "refused": ""}[what]
    run_id = start(settings, run_id) if run_id else "nope"
    waiting = sensor(
        connection,
        run_id,
        mode="poke",
        deferrable=deferrable,
        poke_interval=0.2,
        timeout=1 if what == "timed out" else 100_000,
        **arguments,
    )
    if what == "refused":
        request.getfixturevalue("minutes_pass")
    here: Any = context(Store())
    with pytest.raises(expected) as ended:
        executed(waiting, here)
    assert type(ended.value) is expected
    # Airflow shows the link while the sensor still waits.
    (link,) = here["ti"].pushed.values()
    assert f"/pipelineruns/{run_id}" in link


def test_never_fail_skips_after_a_deferral_where_airflow_does_not_know_it_there(
    connection: str, settings: AdfSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in Airflow 3.1.0."""
    monkeypatch.setattr(BaseSensorOperator, "resume_execution", BaseOperator.resume_execution)
    for never_fail, expected in ((True, AirflowSkipException), (False, AdfRunFailed)):
        active = start(settings, "Slow")
        waiting = sensor(connection, active, mode="poke", deferrable=True, poke_interval=0.2, never_fail=never_fail)
        with pytest.raises(TaskDeferred) as deferred:
            AdfPipelineRunSensor.execute.__wrapped__(waiting, context(Store()))  # type: ignore[attr-defined]  # without Airflow's guard
        trigger: Any = deferred.value.trigger
        trigger.run_id = start(settings, "Broken")
        event = asyncio.run(fired(trigger))
        with pytest.raises(expected, match="no such table"):
            waiting.resume_execution("execute_complete", {"event": event}, context(Store()))


@pytest.mark.parametrize("pipeline", ["Load", "Broken"])
def test_run_that_has_already_ended_is_not_deferred(
    pipeline: str, connection: str, settings: AdfSettings, emulator: Emulator
) -> None:
    run_id = start(settings, pipeline)
    emulator.clock.advance(60)
    waiting = sensor(connection, run_id, mode="poke", deferrable=True)
    if pipeline == "Broken":
        with pytest.raises(AdfRunFailed, match="no such table"):
            AdfPipelineRunSensor.execute.__wrapped__(waiting, context(Store()))  # type: ignore[attr-defined]  # without Airflow's guard
    else:
        result = AdfPipelineRunSensor.execute.__wrapped__(waiting, context(Store()))  # type: ignore[attr-defined]  # as above
        assert result["status"] == "Succeeded"


def test_run_that_was_seen_active_is_not_checked_again_at_once(connection: str, settings: AdfSettings) -> None:
    waiting = sensor(connection, start(settings, "Slow"), deferrable=True)
    before = time.time()
    with pytest.raises(TaskDeferred) as deferred:
        AdfPipelineRunSensor.execute.__wrapped__(waiting, context(Store()))  # type: ignore[attr-defined]  # as above
    trigger: Any = deferred.value.trigger
    assert before <= trigger.not_ended_before <= time.time()


def test_status_check_that_fails_before_a_deferral_is_left_to_the_triggerer(
    connection: str, settings: AdfSettings, emulator: Emulator
) -> None:
    waiting = sensor(connection, start(settings, "Load"), deferrable=True)
    emulator.clock.advance(60)
    emulator.add_fault("getRun", times=1, status=503)
    with pytest.raises(TaskDeferred) as deferred:
        AdfPipelineRunSensor.execute.__wrapped__(waiting, context(Store()))  # type: ignore[attr-defined]  # as above
    trigger: Any = deferred.value.trigger
    assert trigger.not_ended_before is None


FAILED_TRIGGER = ("__fail__", {"error": "Trigger failure"})
"""How Airflow resumes a task whose trigger cannot be loaded."""
SKIPS_OR_NOT = [
    ({}, AdfError),
    ({"soft_fail": True}, AdfError),
    ({"never_fail": True}, AirflowSkipException),
]


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_adf_mi._worker.trigger_failures.FIRST_PAUSE_SECONDS", 0.0)


def deferred(waiting: AdfPipelineRunSensor, task: Task) -> TaskDeferred:
    with pytest.raises(TaskDeferred) as e:
        AdfPipelineRunSensor.execute.__wrapped__(waiting, task.context)  # type: ignore[attr-defined]  # without Airflow's guard
    return e.value


@pytest.mark.usefixtures("no_pause")
@pytest.mark.parametrize("arguments", [{}, {"soft_fail": True}, {"never_fail": True}], ids=str)
def test_sensor_waits_again_after_its_trigger_failed(
    arguments: dict[str, bool], connection: str, settings: AdfSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id, task = start(settings, "Slow"), Task()
    waiting = sensor(connection, run_id, mode="poke", deferrable=True, timeout=3000, **arguments)
    first = deferred(waiting, task)
    for _ in range(MOST_TRIGGER_FAILURES):
        with pytest.raises(TaskDeferred) as again:
            waiting.resume_execution(*FAILED_TRIGGER, task.context)
    assert again.value.method_name == "execute_complete"
    before, after = (it.trigger.serialize()[1] for it in (first, again.value))
    assert after | {"not_ended_before": None} == before | {"not_ended_before": None}
    log = capsys.readouterr().out
    assert log.count(f"The trigger that waited for Run {run_id} in") == MOST_TRIGGER_FAILURES
    assert "The run is not affected. Will wait again in 0 s. Trigger failure" in log


def test_pauses_after_failed_triggers_grow(
    connection: str, settings: AdfSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("airflow_adf_mi._worker.trigger_failures.FIRST_PAUSE_SECONDS", 5.0)
    waiting, task = sensor(connection, start(settings, "Slow"), deferrable=True), Task()
    deferred(waiting, task)
    monkeypatch.setattr("airflow_adf_mi.sensors.time.sleep", pauses.append)
    for _ in range(3):
        with pytest.raises(TaskDeferred):
            waiting.resume_execution(*FAILED_TRIGGER, task.context)
    assert pauses == [5, 10, 20]


@pytest.mark.usefixtures("no_pause")
@pytest.mark.parametrize("pipeline", ["Load", "Broken"])
def test_run_that_ended_while_the_trigger_failed_is_not_deferred_again(
    pipeline: str, connection: str, settings: AdfSettings, emulator: Emulator
) -> None:
    run_id, task = start(settings, pipeline), Task()
    waiting = sensor(connection, run_id, mode="poke", deferrable=True, soft_fail=True)
    emulator.clock.advance(60)
    if pipeline == "Load":
        assert waiting.resume_execution(*FAILED_TRIGGER, task.context)["status"] == "Succeeded"
    else:
        with pytest.raises(AdfRunFailed, match="no such table"):
            waiting.resume_execution(*FAILED_TRIGGER, task.context)


@pytest.mark.usefixtures("no_pause")
@pytest.mark.parametrize(("arguments", "expected"), SKIPS_OR_NOT, ids=str)
def test_seventh_failure_of_a_trigger_fails_the_sensor(
    arguments: dict[str, bool], expected: type[Exception], connection: str, settings: AdfSettings
) -> None:
    run_id, task = start(settings, "Slow"), Task()
    waiting = sensor(connection, run_id, deferrable=True, **arguments)
    deferred(waiting, task)
    for _ in range(MOST_TRIGGER_FAILURES):
        with pytest.raises(TaskDeferred):
            waiting.resume_execution(*FAILED_TRIGGER, task.context)
    with pytest.raises(expected) as ended:
        waiting.resume_execution(*FAILED_TRIGGER, task.context)
    assert type(ended.value) is expected
    assert "The trigger of this sensor failed 7 times (Trigger failure)." in str(ended.value)
    assert f"Run {run_id} in" in str(ended.value)
    assert "is not affected. A retry of this sensor waits for that run again" in str(ended.value)
    # A retry begins to count again.
    task.retry()
    with pytest.raises(TaskDeferred):
        waiting.resume_execution(*FAILED_TRIGGER, task.context)


@needs("TASK_STATE_STORE")
@pytest.mark.parametrize(("arguments", "expected"), SKIPS_OR_NOT, ids=str)
def test_trigger_failure_that_cannot_be_counted_fails_the_sensor(
    arguments: dict[str, bool], expected: type[Exception], connection: str
) -> None:
    waiting = sensor(connection, "r1", deferrable=True, **arguments)
    with pytest.raises(
        expected, match=r"could not be read\. Run r1 in .* is not affected.*the API server is down"
    ) as ended:
        waiting.resume_execution(*FAILED_TRIGGER, Task(store_works=False).context)
    assert type(ended.value) is expected


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, AirflowSensorTimeout),
        ({"soft_fail": True}, AirflowSkipException),
        ({"never_fail": True}, AirflowSkipException),
    ],
    ids=str,
)
@pytest.mark.parametrize("is_old", [False, True])
def test_timeout_of_the_deferral_is_a_timeout_of_the_sensor(
    is_old: bool,
    arguments: dict[str, bool],
    expected: type[Exception],
    connection: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Airflow's own timeout passes if no triggerer has capacity for the trigger."""
    if is_old:
        if not arguments:
            expected = TaskDeferralTimeout
        # As in Airflow 3.1.0, which has no rules for a sensor there.
        monkeypatch.setattr(BaseSensorOperator, "resume_execution", BaseOperator.resume_execution)
    task = Task()
    waiting = sensor(connection, "r1", deferrable=True, **arguments)
    with pytest.raises(expected) as ended:
        waiting.resume_execution("__fail__", {"error": "Trigger timeout"}, task.context)
    assert type(ended.value) is expected
    assert task.kept == {}


def test_timeout_of_a_deferrable_sensor_counts_from_the_start_of_its_try(
    connection: str, settings: AdfSettings
) -> None:
    waiting = sensor(connection, start(settings, "Slow"), deferrable=True, timeout=3000)
    task = Task(start_date=datetime.now(UTC) - timedelta(seconds=1000))
    waits = deferred(waiting, task)
    trigger: Any = waits.trigger
    assert trigger.deadline == pytest.approx(task.start_date.timestamp() + 3000)
    assert waits.timeout is not None
    assert waits.timeout.total_seconds() == pytest.approx(2000 + TIMEOUT_SLACK_SECONDS, abs=60)


@pytest.mark.usefixtures("no_pause")
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, AirflowSensorTimeout),
        ({"soft_fail": True}, AirflowSkipException),
        ({"never_fail": True}, AirflowSkipException),
    ],
    ids=str,
)
@pytest.mark.parametrize("trigger_failed", [False, True])
def test_sensor_with_no_time_left_is_not_deferred(
    trigger_failed: bool,
    arguments: dict[str, bool],
    expected: type[Exception],
    connection: str,
    settings: AdfSettings,
) -> None:
    waiting = sensor(connection, start(settings, "Slow"), deferrable=True, timeout=3000, **arguments)
    task = Task(start_date=datetime.now(UTC) - timedelta(seconds=3001))
    without_guard: Any = AdfPipelineRunSensor.execute
    act: Callable[[], Any] = (
        partial(waiting.resume_execution, *FAILED_TRIGGER, task.context)
        if trigger_failed
        else partial(without_guard.__wrapped__, waiting, task.context)
    )
    with pytest.raises(expected, match=r"did not end within its timeout of 3000 s\. It was \w+ at the last") as ended:
        act()
    assert type(ended.value) is expected


def executed(waiting: AdfPipelineRunSensor, here: Any) -> Any:
    """The result of the sensor. A deferral is resumed with the event of its trigger."""
    try:
        return AdfPipelineRunSensor.execute.__wrapped__(waiting, here)  # type: ignore[attr-defined]  # without Airflow's guard
    except TaskDeferred as deferred:
        event = asyncio.run(fired(deferred.trigger))
    return waiting.resume_execution("execute_complete", {"event": json.loads(json.dumps(event))}, here)


async def fired(trigger: Any) -> Any:
    (event,) = [event async for event in trigger.run()]
    return event.payload

"""The trigger on an event loop: what it reports, what it survives, and that it never blocks the loop."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from typing import Any

import pytest

from airflow_adf_mi.adf.api import operations
from airflow_adf_mi.adf.api.client import AdfClient
from airflow_adf_mi.adf.config.settings import AdfSettings
from airflow_adf_mi.adf.errors import AdfConfigurationError, AdfNotFoundError, AdfRunTimedOut
from airflow_adf_mi.adf.reporting.report import Report, conclude
from airflow_adf_mi.adf.waiting.poll_plan import FEW_RUNS
from airflow_adf_mi.emulator import Emulator
from airflow_adf_mi.triggers import AdfPipelineRunTrigger
from tests.support.waiting import PATIENCE, until

pytestmark = pytest.mark.usefixtures("nothing_left")


def start(settings: AdfSettings, pipeline: str) -> str:
    with AdfClient(settings) as client:
        return client.send(operations.create_run(settings.factory(), pipeline, None, request_id=str(uuid.uuid4())))


def trigger(settings: AdfSettings, run_id: str, **arguments: Any) -> AdfPipelineRunTrigger:
    made = AdfPipelineRunTrigger(
        **{
            "settings": settings.to_json(),
            "resource_group_name": "rg-test",
            "factory_name": "adf-test",
            "run_id": run_id,
            "pipeline_name": "Load",
            "check_interval": 0.2,
            "owns_run": True,
            **arguments,
        }
    )
    # As Airflow's database returns it.
    path, stored = made.serialize()
    assert path == "airflow_adf_mi.triggers.AdfPipelineRunTrigger"
    return AdfPipelineRunTrigger(**json.loads(json.dumps(stored)))


def has_ended(emulator: Emulator, run_id: str) -> bool:
    """Whether a run has ended in the emulator."""

    def ended() -> bool:
        factory = emulator.state("adf-test")
        factory.settle()
        return factory.runs[run_id].status not in ("Queued", "InProgress")

    return emulator.call(ended)


async def fire(waiting: AdfPipelineRunTrigger) -> Report:
    events = [event.payload async for event in waiting.run()]
    assert len(events) == 1
    return Report.from_json(json.loads(json.dumps(events[0])))


async def test_run_that_ends_is_reported(settings: AdfSettings) -> None:
    report = await fire(trigger(settings, await asyncio.to_thread(start, settings, "Load")))
    assert conclude(report)["status"] == "Succeeded"


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 429},
        {"status": 500},
        {"status": 503},
        {"drop": True},
        {"status": 404},
        {"status": 401},
        {"status": 403},
        {"status": 200, "text": "<html>proxy</html>"},
        {"status": 200, "text": ""},
    ],
    ids=str,
)
async def test_failed_status_check_neither_cancels_nor_fails_the_run(
    fault: dict[str, Any], settings: AdfSettings, emulator: Emulator
) -> None:
    run_id = await asyncio.to_thread(start, settings, "Load")
    emulator.add_fault("getRun", times=2 if fault.get("status") == 401 else 1, **fault)
    report = await fire(trigger(settings, run_id))
    assert conclude(report)["status"] == "Succeeded"
    assert emulator.books.count("cancelRun") == 0


async def test_failing_list_is_not_logged_as_a_failed_status_check(
    settings: AdfSettings, emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    run_ids = [await asyncio.to_thread(start, settings, "Slow") for _ in range(FEW_RUNS + 1)]
    failing = emulator.add_fault("queryRuns", status=500, times=1)
    with caplog.at_level("INFO"):
        waits = [asyncio.create_task(fire(trigger(settings, run_id))) for run_id in run_ids]
        # The runs end only now, because the list is queried only while there are more than a few waits.
        await until(lambda: failing.consumed == 1)
        emulator.clock.advance(4000)
        await asyncio.gather(*waits)
    assert caplog.text.count("The query for ended runs of factory 'adf-test'") == 1
    assert "Status check of run" not in caplog.text


async def test_each_wait_logs_once_that_status_checks_fail_and_that_they_work_again(
    settings: AdfSettings, emulator: Emulator, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This includes a wait that begins meanwhile, and waits whose own status check failed."""
    monkeypatch.setattr("airflow_adf_mi.adf.retrying.FIRST_BACKOFF_SECONDS", 0.01)  # instead of seconds
    run_ids = [await asyncio.to_thread(start, settings, "Slow") for _ in range(3)]
    with caplog.at_level("INFO"):
        waits = [asyncio.create_task(fire(trigger(settings, run_id))) for run_id in run_ids[:2]]
        await until(lambda: caplog.text.count("is InProgress") == 2)
        failing = emulator.add_fault("getRun", status=429, headers={"Retry-After": "3"}, times=None)
        await until(lambda: failing.consumed > 0 and "Status check of run" in caplog.text)
        waits.append(asyncio.create_task(fire(trigger(settings, run_ids[2]))))
        await until(lambda: f"Status check of run {run_ids[2]} failed" in caplog.text)
        assert emulator.books.count("getRun", run_id=run_ids[2]) == 0, "its own status check need not fail"
        emulator.call(emulator.faults.clear)
        await until(lambda: f"Run {run_ids[2]} is InProgress" in caplog.text)
    for wait in waits:
        wait.cancel()
    await asyncio.wait(waits)
    assert failing.consumed > 0
    for run_id in run_ids:
        assert caplog.text.count(f"Status check of run {run_id} failed; the run itself is not affected") == 1
        assert caplog.text.count(f"Status checks work again (run {run_id}).") == 1


async def test_outage_that_becomes_a_refusal_is_logged(
    settings: AdfSettings, emulator: Emulator, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_adf_mi.adf.retrying.FIRST_BACKOFF_SECONDS", 0.01)  # instead of seconds
    run_ids = [await asyncio.to_thread(start, settings, "Slow") for _ in range(2)]
    faults = [emulator.add_fault("getRun", status=503, times=2), emulator.add_fault("getRun", status=403, times=None)]
    waits = [asyncio.create_task(fire(trigger(settings, run_id))) for run_id in run_ids]
    await until(
        lambda: all(
            f"Status check of run {run_id} failed; the run itself is not affected." in caplog.text for run_id in run_ids
        )
    )
    await until(lambda: caplog.text.count("403") >= 2)
    for wait in waits:
        wait.cancel()
    await asyncio.wait(waits)
    assert [fault.consumed > 0 for fault in faults] == [True, True]
    assert caplog.text.count("Status check of run") == 4


async def test_clock_that_is_set_back_does_not_delay_a_wait(
    settings: AdfSettings, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = [
        asyncio.create_task(fire(trigger(settings, await asyncio.to_thread(start, settings, "Load"))))
        for _ in range(FEW_RUNS + 1)
    ]
    await until(lambda: emulator.books.count("getRun") > FEW_RUNS)
    real = time.time
    monkeypatch.setattr("time.time", lambda: real() - 3600)
    async with asyncio.timeout(PATIENCE):
        reports = await asyncio.gather(*waits)
    assert {conclude(report)["status"] for report in reports} == {"Succeeded"}


@pytest.mark.parametrize(("cancels", "owns"), [(True, True), (False, True), (True, False)])
async def test_deadline_cancels_only_an_owned_run_and_only_with_cancel_on_timeout(
    cancels: bool, owns: bool, settings: AdfSettings, emulator: Emulator
) -> None:
    run_id = await asyncio.to_thread(start, settings, "Slow")
    waiting = trigger(
        settings,
        run_id,
        deadline=time.time() + 0.5,
        deadline_reason="timeout of 9 s",
        cancel_on_timeout=cancels,
        owns_run=owns,
    )
    report = await fire(waiting)
    text = f"within its timeout of 9 s.*{'requested' if cancels and owns else 'left running'}"
    with pytest.raises(AdfRunTimedOut, match=text):
        conclude(report)
    assert emulator.books.count("cancelRun", status=200) == (1 if cancels and owns else 0)


async def test_identity_that_this_machine_cannot_give_ends_the_wait_at_once(
    settings: AdfSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IDENTITY_ENDPOINT", "http://127.0.0.1:9")
    report = await asyncio.wait_for(fire(trigger(settings, "r1")), 20)
    with pytest.raises(
        AdfConfigurationError, match=r"the connection cannot be used on this machine.*IDENTITY_ENDPOINT is set"
    ):
        conclude(report)


async def test_silent_identity_endpoint_does_not_delay_the_deadline(
    settings: AdfSettings, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_adf_mi.adf.waiting.poller.LAST_POLL_SECONDS", 0.2)
    silent = emulator.add_fault("token", hang_seconds=8, times=1)
    report = await fire(trigger(settings, "r1", deadline=time.time() + 1, owns_run=False))
    assert silent.consumed == 1
    assert [record.status for record in emulator.books.tokens] != [200], "the trigger did not wait for the endpoint"
    with pytest.raises(AdfRunTimedOut, match="No status check succeeded"):
        conclude(report)


@pytest.mark.usefixtures("minutes_pass")
async def test_unknown_run_ends_the_wait_after_the_grace_period(settings: AdfSettings) -> None:
    report = await fire(trigger(settings, "nope"))
    with pytest.raises(AdfNotFoundError, match="the wait gave up"):
        conclude(report)


async def test_many_triggers_share_one_token_and_never_block_the_loop(
    settings: AdfSettings, emulator: Emulator
) -> None:
    run_ids = [await asyncio.to_thread(start, settings, "Load") for _ in range(5)]
    # Imports and connections, which each process makes once, are not measured.
    await fire(trigger(settings, run_ids[0]))
    longest = 0.0

    async def beat() -> None:
        nonlocal longest
        while True:
            # Processor time of this thread, so that other processes do not count.
            before = time.thread_time()
            await asyncio.sleep(0.005)
            longest = max(longest, time.thread_time() - before)

    heart = asyncio.create_task(beat())
    reports = await asyncio.gather(*(fire(trigger(settings, run_id)) for run_id in run_ids * 10))
    heart.cancel()
    assert {conclude(report)["status"] for report in reports} == {"Succeeded"}
    assert len(emulator.books.tokens) == 1
    assert longest < 0.5


async def test_many_waits_share_the_list(settings: AdfSettings, emulator: Emulator) -> None:
    keys = await asyncio.gather(*(asyncio.to_thread(start, settings, "Load") for _ in range(20)))
    began = time.time() - 1
    reports = await asyncio.gather(
        *(fire(trigger(settings, run_id, not_ended_before=began, check_interval=1)) for run_id in keys)
    )
    took = time.time() - began
    assert {conclude(report)["status"] for report in reports} == {"Succeeded"}
    assert sorted(conclude(report)["run_id"] for report in reports) == sorted(keys)
    # Without the list, they would send 20 polls a second.
    assert emulator.books.count("queryRuns") <= 3 + took
    assert emulator.books.count("getRun") <= 10 + 2 * took


async def test_cancelled_wait_does_not_disturb_others(settings: AdfSettings, emulator: Emulator) -> None:
    slow, quick = await asyncio.to_thread(start, settings, "Slow"), await asyncio.to_thread(start, settings, "Load")
    leaving = asyncio.create_task(fire(trigger(settings, slow)))
    staying = asyncio.create_task(fire(trigger(settings, quick)))
    await asyncio.sleep(0)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert conclude(await staying)["status"] == "Succeeded"


async def test_two_waits_for_one_run_both_end_with_it(settings: AdfSettings) -> None:
    run_id = await asyncio.to_thread(start, settings, "Load")
    reports = await asyncio.gather(*(fire(trigger(settings, run_id)) for _ in range(2)))
    assert [conclude(report)["run_id"] for report in reports] == [run_id, run_id]


async def test_stopped_trigger_cancels_nothing(settings: AdfSettings, emulator: Emulator) -> None:
    """A restart of the triggerer stops triggers in this way."""
    run_id = await asyncio.to_thread(start, settings, "Slow")
    running = asyncio.create_task(fire(trigger(settings, run_id)))
    await until(lambda: emulator.books.count("getRun"))
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert emulator.books.count("cancelRun") == 0


async def test_kill_outside_of_a_triggerer_cancels_nothing(settings: AdfSettings, emulator: Emulator) -> None:
    """There is no task whose state would show that it has ended."""
    run_id = await asyncio.to_thread(start, settings, "Slow")
    await trigger(settings, run_id).on_kill()
    await trigger(settings, run_id, owns_run=False).on_kill()
    assert emulator.books.count("cancelRun") == 0


async def test_end_that_the_list_shows_during_the_last_status_check_counts(
    settings: AdfSettings, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_adf_mi.adf.waiting.poller.LAST_POLL_SECONDS", 600.0)
    slow = [await asyncio.to_thread(start, settings, "Slow") for _ in range(FEW_RUNS + 1)]
    run_id = await asyncio.to_thread(start, settings, "Load")
    silent = emulator.add_fault("getRun", run_id=run_id, hang_seconds=600, times=None)
    others = [asyncio.create_task(fire(trigger(settings, other))) for other in slow]
    last = asyncio.create_task(fire(trigger(settings, run_id, deadline=time.time(), cancel_on_timeout=False)))
    await until(lambda: silent.consumed > 0)
    await until(lambda: has_ended(emulator, run_id))
    asked = emulator.books.count("queryRuns")
    # The last query but one was answered after the run's end, and its answer was read.
    await until(lambda: emulator.books.count("queryRuns") >= asked + 3)
    assert not last.done()
    await asyncio.to_thread(emulator.refuse_connections, 0.05)  # ends the status check that hangs
    assert conclude(await last)["status"] == "Succeeded"
    for other in others:
        other.cancel()
    await asyncio.wait(others)


async def test_many_last_status_checks_of_a_silent_service_end_in_time(
    settings: AdfSettings, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "airflow_adf_mi.adf.waiting.poller.LAST_POLL_SECONDS", 1.0
    )  # 40 of them, 8 at a time, would be 5 s
    monkeypatch.setattr("airflow_adf_mi.adf.waiting.poller.LAST_POLLS_SECONDS", 0.5)
    silent = emulator.add_fault("getRun", hang_seconds=3, times=None)
    waits = [trigger(settings, f"r{n}", deadline=time.time(), owns_run=False) for n in range(40)]
    reports = await asyncio.gather(*map(fire, waits))
    assert 0 < silent.consumed < 40, "for some, no time was left for a status check"
    for report in reports:
        with pytest.raises(AdfRunTimedOut):
            conclude(report)

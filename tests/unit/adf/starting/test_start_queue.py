"""The start queue of a triggerer: few starts at a time, including those that continue after a pause."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from airflow_adf_mi.adf.api.operations import Call, create_run
from airflow_adf_mi.adf.config.addresses import FactoryRef
from airflow_adf_mi.adf.errors import AdfQueueFullError, AdfThrottledError
from airflow_adf_mi.adf.starting import start_queue
from airflow_adf_mi.adf.starting.start_queue import StartQueue

FACTORY = FactoryRef(subscription_id="s", resource_group_name="rg", factory_name="adf")
START = create_run(FACTORY, "Load", None, request_id="k")


class Service:
    """A client that needs some turns of the event loop for each answer, and counts the starts in flight."""

    def __init__(self) -> None:
        self.in_flight = 0
        self.most = 0
        self.tokens = 0
        self.refuses = 0

    async def authenticate(self) -> None:
        self.tokens += 1

    def service_time(self) -> float:
        return time.time()

    async def send(self, call: Call[Any]) -> str:
        assert call is START
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        for _ in range(5):
            await asyncio.sleep(0)
        self.in_flight -= 1
        if self.refuses:
            self.refuses -= 1
            raise AdfThrottledError("429", status=429, retry_after=600)
        return "run"


async def no_pause(_seconds: float) -> None:
    await asyncio.sleep(0)


async def test_start_waits_for_its_turn_again_after_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start_queue, "STARTS_AT_ONCE", 2)
    service, queue = Service(), StartQueue()

    async def start() -> None:
        async with queue.turn(service, no_pause) as client:  # type: ignore[arg-type]  # as much of a client as is used
            await client.rest(1)
            await client.authenticate()
            await client.send(START)

    await asyncio.gather(*(start() for _ in range(10)))
    assert service.most == 2
    assert service.tokens == 10


async def test_place_in_the_queue_is_free_once_the_start_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start_queue, "STARTS_AT_ONCE", 1)
    service, queue = Service(), StartQueue()
    async with queue.turn(service, no_pause) as client, asyncio.timeout(5):  # type: ignore[arg-type]  # as above
        await client.authenticate()
        assert await client.send(START) == "run"
        async with queue.turn(service, no_pause) as other:  # type: ignore[arg-type]  # as above
            assert await other.send(START) == "run"


async def test_next_start_is_not_sent_while_all_starts_are_delayed() -> None:
    service, queue = Service(), StartQueue()
    service.refuses = 1
    pauses: list[float] = []

    class Stopped(Exception):
        pass

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 1:
            async with queue.turn(service, no_pause) as other:  # type: ignore[arg-type]  # as above
                with pytest.raises(AdfThrottledError):
                    await other.send(START)
        if seconds > 100:
            raise Stopped

    with pytest.raises(Stopped):
        async with queue.turn(service, pause):  # type: ignore[arg-type]  # as above
            pass
    assert pauses == [0, pytest.approx(600, abs=2)]


async def test_full_queue_of_one_pipeline_delays_no_other_start() -> None:
    class Full(Service):
        async def send(self, call: Call[Any]) -> str:
            raise AdfQueueFullError("full", status=429, retry_after=600)

    queue = StartQueue()
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    async with queue.turn(Full(), no_pause) as client:  # type: ignore[arg-type]  # as much of a client as is used
        with pytest.raises(AdfQueueFullError):
            await client.send(START)
    async with queue.turn(Service(), pause) as other:  # type: ignore[arg-type]  # as above
        assert await other.send(START) == "run"
    assert pauses == [0]

"""Fixtures for the tests against an emulator."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from airflow_adf_mi._triggerer import cancel_on_kill
from airflow_adf_mi.adf.api import shared_client
from tests.support.tasks import operator

__all__ = ["operator"]  # a fixture


@pytest.fixture
def minutes_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clocks run a hundred times as fast, so that minutes of a grace period or of repetitions take seconds."""
    began, real = time.time(), time.time
    monkeypatch.setattr("time.time", lambda: began + (real() - began) * 100)
    monkeypatch.setattr("airflow_adf_mi.adf.waiting.poller.clock", lambda: (real() - began) * 100)


@pytest.fixture
async def nothing_left() -> AsyncIterator[None]:
    """Wait for what continues after the end of a trigger, as in a running triggerer: kills, and the closing of clients."""
    yield
    while left := {*cancel_on_kill._kills.here().held, *shared_client._closing}:
        await asyncio.wait(left, timeout=10)
        await asyncio.sleep(0)

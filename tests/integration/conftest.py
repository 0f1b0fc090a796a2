"""Fixtures for the tests against an emulator."""

from __future__ import annotations

import time

import pytest


@pytest.fixture
def minutes_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that runs a hundred times as fast stands for the minutes of a grace or of patience."""
    began, real = time.time(), time.time
    monkeypatch.setattr("time.time", lambda: began + (real() - began) * 100)

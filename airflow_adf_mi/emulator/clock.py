"""Clocks for the emulator: one that a test moves, and one that flows by itself."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Epoch seconds."""

    def now(self) -> float: ...

    def advance(self, seconds: float) -> None: ...


class ManualClock:
    """A clock that stands still until `advance` moves it."""

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self._now = start

    def now(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        if seconds < 0:
            raise ValueError("time does not run backwards")
        self._now += seconds


class FlowingClock:
    """A clock that flows `speed` times as fast as real time. `advance` makes it jump ahead."""

    def __init__(self, speed: float = 1.0) -> None:
        if speed <= 0:
            raise ValueError("speed must be positive")
        self._speed = speed
        self._origin = time.time()
        self._began = time.monotonic()
        self._jumped = 0.0

    def now(self) -> float:
        return self._origin + (time.monotonic() - self._began) * self._speed + self._jumped

    def advance(self, seconds: float) -> None:
        if seconds < 0:
            raise ValueError("time does not run backwards")
        self._jumped += seconds

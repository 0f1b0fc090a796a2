"""The clock and the random numbers that routines use. Tests pass their own, so that no test waits."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass


def epoch_seconds() -> float:
    """The time of this machine. Looked up at each call, so that a test's replacement of `time.time` applies."""
    return time.time()


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Where a routine takes the time and its jitter from. The defaults are those of this machine."""

    clock: Callable[[], float] = epoch_seconds
    """Returns epoch seconds."""
    jitter: Callable[[], float] = random.random
    """Returns a number in [0, 1), which spreads many waits."""


REAL_TIME = Timing()

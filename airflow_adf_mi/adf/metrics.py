"""Counters and timers of what the core does. Where they go is set from outside; without that, nowhere."""

from __future__ import annotations

from typing import Protocol

STARTS = "adf.starts"
ADOPTIONS = "adf.adoptions"
AMBIGUOUS_STARTS = "adf.ambiguous_starts"
REQUESTS = "adf.requests"
THROTTLED = "adf.throttled"
ENDED = "adf.ended"
RUN_DURATION = "adf.run_duration"
DETECTION_LAG = "adf.detection_lag"
NAMES = (STARTS, ADOPTIONS, AMBIGUOUS_STARTS, REQUESTS, THROTTLED, ENDED, RUN_DURATION, DETECTION_LAG)


class Sink(Protocol):
    def count(self, name: str, tags: dict[str, str]) -> None: ...
    def time(self, name: str, seconds: float, tags: dict[str, str]) -> None: ...


_sinks: list[Sink] = []


def send_to(sink: Sink) -> None:
    """Send all that follows to `sink`, and nowhere else."""
    _sinks[:] = [sink]


def count(name: str, **tags: str) -> None:
    """It happened once more."""
    for sink in _sinks:
        sink.count(name, tags)


def time(name: str, seconds: float, **tags: str) -> None:
    """It took so long."""
    for sink in _sinks:
        sink.time(name, max(0.0, seconds), tags)

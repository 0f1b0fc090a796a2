"""Counters and timers of the core. A sink from outside receives them; without a sink, they are dropped."""

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
OVERLAPS = "adf.overlaps"
LATE_RUNS = "adf.late_runs"
NAMES = (
    *(STARTS, ADOPTIONS, AMBIGUOUS_STARTS, OVERLAPS, LATE_RUNS),
    *(REQUESTS, THROTTLED, ENDED, RUN_DURATION, DETECTION_LAG),
)


class Sink(Protocol):
    def count(self, name: str, tags: dict[str, str]) -> None: ...
    def time(self, name: str, seconds: float, tags: dict[str, str]) -> None: ...


_sinks: list[Sink] = []


def send_to(sink: Sink) -> None:
    """Send all further counts and times to `sink` only."""
    _sinks[:] = [sink]


def count(name: str, **tags: str) -> None:
    """Add one to the counter `name`."""
    for sink in _sinks:
        sink.count(name, tags)


def time(name: str, seconds: float, **tags: str) -> None:
    """Record a duration in seconds."""
    for sink in _sinks:
        sink.time(name, max(0.0, seconds), tags)

"""Compares what happened with what was expected. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from tests.chaos.row import Expected

_CLOCK_STEP = 0.05
"""Seconds by which the emulator's two recorded times of one event may differ."""


@dataclass(frozen=True, kw_only=True)
class SeenRun:
    """A run in the emulator's books, with times of its clock."""

    run_id: str
    status: str
    created: float
    ended: float | None = None
    cancelled: float | None = None


@dataclass(frozen=True, kw_only=True)
class Observed:
    """The end state of a case."""

    runs: Sequence[SeenRun] = ()
    """The runs in the order of their start."""
    tasks: Sequence[str | None] = ()
    log: str = ""
    acted: float | None = None
    """When the case was marked, cleared or killed."""
    may_overlap: bool = False
    """Whether several task instances have parallel runs."""
    unused_faults: Sequence[str] = ()
    problems: Sequence[str] = field(default=())
    """Errors during the case, such as a wait that timed out."""


def problems(expected: Expected, observed: Observed) -> list[str]:
    """Why the case is not as expected; empty if it is."""
    found = list(observed.problems)
    statuses = tuple(run.status for run in observed.runs)
    cancels = [run for run in observed.runs if run.cancelled is not None]
    if len(observed.runs) != expected.runs:
        found.append(f"{len(observed.runs)} runs, expected {expected.runs}")
    if len(cancels) != expected.cancels:
        found.append(f"{len(cancels)} cancels, expected {expected.cancels}")
    if statuses != expected.adf:
        found.append(f"runs {counted(statuses)}, expected {counted(expected.adf)}")
    others = [str(state) for state in observed.tasks if expected.task and state != expected.task]
    if others or not observed.tasks:
        found.append(f"task {counted(others)}, expected {expected.task}")
    if expected.error and expected.error not in observed.log:
        found.append(f"the log lacks {expected.error!r}")
    if observed.acted is not None:
        late = [run.cancelled - observed.acted for run in cancels if run.cancelled is not None]
        found += [
            f"cancelled after {s:.1f} s, expected {expected.cancel_within:.0f}"
            for s in late
            if s > expected.cancel_within
        ]
    if not observed.may_overlap:
        found += overlaps(observed.runs)
    found += [f"fault not used up: {fault}" for fault in observed.unused_faults]
    return found


def counted(texts: Iterable[str]) -> str:
    """Each text once with its count, in the order of first occurrence."""
    return " ".join(text if number == 1 else f"{text} x{number}" for text, number in Counter(texts).items()) or "none"


def overlaps(runs: Sequence[SeenRun]) -> list[str]:
    """Pairs of runs of one task that overlapped: the later one began before the earlier one had ended."""
    return [
        f"runs {earlier.run_id} and {later.run_id} overlap"
        for earlier, later in pairwise(runs)
        if earlier.ended is None or later.created < earlier.ended - _CLOCK_STEP
    ]

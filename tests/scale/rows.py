"""The rows of the proof, in stages: the rows of a stage run at the same time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.scale import cancelled, exact, full_queue, kills, present_runs, reruns
from tests.scale.backfill import Backfill
from tests.scale.row import Row
from tests.scale.world import World


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Rows that run at the same time, and what is done meanwhile."""

    name: str
    rows: Sequence[Row]
    act: Callable[[World, Sequence[Backfill]], None] | None = None
    """Called in the main thread, because processes end with the thread that started them."""


def stages() -> list[Stage]:
    quiet = [*reruns.rows(), *present_runs.rows(), *cancelled.rows(), *exact.rows()]
    return [
        Stage(name="full queue", rows=full_queue.rows()),
        Stage(name="parts killed", rows=kills.window_rows(), act=kills.kill_parts),
        Stage(name="killed while starting", rows=kills.starting_rows(), act=kills.kill_the_starting),
        Stage(name="reruns, policies, cancels, two Dags at once", rows=quiet),
    ]

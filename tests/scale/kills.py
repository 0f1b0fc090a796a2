"""Rows in which parts of Airflow are killed."""

from __future__ import annotations

import time
from collections.abc import Sequence

from tests.scale.backfill import Backfill
from tests.scale.row import MODES, Row, window
from tests.scale.stack import TRIGGERERS
from tests.scale.verdict import cancel_problems, run_problems, task_problems
from tests.scale.world import World

KILLS = (("triggerer", 0.1, 5.0), ("worker-1", 0.25, 5.0), ("scheduler", 0.45, 5.0), ("redis", 0.65, 20.0))
"""What is killed, at which share of all runs, and for how many seconds it is gone."""


def window_rows(windows: int = 200) -> list[Row]:
    return [
        Row(
            run="windows",
            mode=mode,
            windows=windows,
            concurrency=5,
            seconds=5,
            expected="one Succeeded run for each window, no overlap, no cancel, every window success",
            check=one_run_each,
        )
        for mode in MODES
    ]


def starting_rows() -> list[Row]:
    return [
        Row(
            run="killed-starting",
            mode=mode,
            windows=4,
            expected="one Succeeded run for each window, every window success",
            before=lose_one_start,
            check=one_run_each,
        )
        for mode in MODES
    ]


def one_run_each(backfill: Backfill) -> list[str]:
    windows = [window(number) for number in range(backfill.row.windows)]
    return [
        *run_problems(backfill.runs_by_window(), windows),
        *task_problems(backfill.tasks(), windows),
        *cancel_problems(backfill.runs()),
    ]


def lose_one_start(backfill: Backfill) -> None:
    """Hold one createRun back for ever: no run is started by it."""
    backfill.faults.append(
        backfill.world.emulator.add_fault("createRun", pipeline=backfill.row.name, hang_seconds=300, drop=True)
    )


def kill_parts(world: World, backfills: Sequence[Backfill]) -> None:
    """Kill the parts of Airflow one after the other, while the backfills run."""
    total = sum(backfill.row.windows for backfill in backfills)

    def share() -> float:
        return sum(backfill.succeeded() for backfill in backfills) / total

    for part, moment, seconds in KILLS:
        while share() < moment:
            time.sleep(0.5)
            world.check()
        print(f"{time.strftime('%H:%M:%S')} {part} is killed, and gone for {seconds:.0f} s", flush=True)
        world.airflow.kill_part(part)
        time.sleep(seconds)
        world.airflow.start_part(part)


def kill_the_starting(world: World, backfills: Sequence[Backfill]) -> None:
    """Kill what holds the intent of the start that is held back: its worker, or the triggerers."""
    parts = {part for backfill in backfills for part in _parts_of(backfill)}
    for part in sorted(parts):
        world.airflow.kill_part(part)
    time.sleep(5)
    for part in sorted(parts):
        world.airflow.start_part(part)


def _parts_of(backfill: Backfill) -> tuple[str, ...]:
    """Wait until one start is held back, and the other runs are there: the parts that may hold its intent."""
    backfill.until(lambda: any(fault.consumed for fault in backfill.faults), "a start to be held back", 300)
    backfill.until(lambda: len(backfill.runs()) == backfill.row.windows - 1, "the other runs", 300)
    if backfill.row.mode == "triggerer-mode":
        return TRIGGERERS
    started = backfill.runs_by_window()
    (held,) = [task for task in backfill.tasks() if task.window not in started]
    if held.pid is None:
        raise RuntimeError(f"the task of {backfill.row.name} has no process")
    return (backfill.world.airflow.worker_of(held.pid),)

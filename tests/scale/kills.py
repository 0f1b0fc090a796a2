"""Rows in which parts of Airflow are killed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

from airflow_adf_mi.emulator.gateway.faults import Fault
from tests.scale.backfill import Backfill
from tests.scale.row import MODES, Row, window
from tests.scale.stack import TRIGGERERS
from tests.scale.verdict import cancel_problems, run_problems, task_problems
from tests.scale.world import World

KILLS = (("triggerer", 0.1, 5.0), ("worker-1", 0.25, 5.0), ("scheduler", 0.4, 5.0), ("redis", 0.55, 20.0))
"""What is killed, at which share of all runs, and for how many seconds it is gone."""
EVIDENCE = 3
"""Windows that show that the factory uses start keys as run ids, before a start is lost."""
HELD_SECONDS = 300.0
MOST_SECONDS_UNTIL_KILL = 25.0
"""After 30 s without an answer, the task would search for its run by itself."""


def window_rows(windows: int = 200) -> list[Row]:
    return [
        Row(
            run="windows",
            mode=mode,
            windows=windows,
            concurrency=5,
            seconds=5,
            expected="one Succeeded run for each window, no overlap, no cancel, every window success",
            check=one_run_each_in_spite_of_kills,
        )
        for mode in MODES
    ]


def starting_rows() -> list[Row]:
    return [
        Row(
            run="killed-starting",
            mode=mode,
            windows=EVIDENCE,
            expected="one Succeeded run for each window, every window success",
            story=wait_for_the_held_window,
            check=one_run_each_although_killed,
        )
        for mode in MODES
    ]


def one_run_each(backfill: Backfill, windows: int) -> list[str]:
    wanted = [window(number) for number in range(windows)]
    return [
        *run_problems(backfill.runs_by_window(), wanted),
        *task_problems(backfill.tasks(), wanted),
        *cancel_problems(backfill.runs()),
    ]


def one_run_each_in_spite_of_kills(backfill: Backfill) -> list[str]:
    retried = sum(1 for task in backfill.tasks() if task.try_number > 1)
    backfill.notes.append(f"{retried} retried")
    # A blocking task runs on the worker that is killed, so at least one must have been retried.
    unharmed = ["no task was retried, so the kill of the worker hit none"] if backfill.row.mode == "blocking" else []
    return [*one_run_each(backfill, backfill.row.windows), *([] if retried else unharmed)]


def kill_parts(world: World, backfills: Sequence[Backfill]) -> None:
    """Kill the parts of Airflow one after the other, while the backfills run."""
    total = sum(backfill.row.windows for backfill in backfills)

    def has_reached(share: float) -> bool:
        return sum(backfill.succeeded() for backfill in backfills) >= share * total

    for part, share, seconds in KILLS:
        world.until(partial(has_reached, share), f"{share:.0%} of the runs to succeed", 3600)
        left = [backfill.row.windows - backfill.succeeded() for backfill in backfills]
        print(f"{time.strftime('%H:%M:%S')} {part} is killed for {seconds:.0f} s; windows left: {left}", flush=True)
        world.airflow.kill_part(part)
        time.sleep(seconds)
        world.airflow.start_part(part)
        for backfill, number in zip(backfills, left, strict=True):
            if number == 0:
                backfill.problems.append(f"all windows had succeeded before the kill of {part}")


def kill_the_starting(world: World, backfills: Sequence[Backfill]) -> None:
    """For one row after the other, hold a start back, and kill what holds its intent: its worker, or the triggerers."""
    for backfill in backfills:
        backfill.until(backfill.is_ready.is_set, "the first windows", 600)
        fault = world.emulator.add_fault("createRun", pipeline=backfill.row.name, hang_seconds=HELD_SECONDS, drop=True)
        backfill.create(EVIDENCE, EVIDENCE)
        backfill.until(partial(_is_consumed, fault), "a start to be held back", 300)
        held_at = time.monotonic()
        parts = _parts_of(backfill)
        for part in parts:
            world.airflow.kill_part(part)
        if time.monotonic() - held_at > MOST_SECONDS_UNTIL_KILL:
            backfill.problems.append("the kill came too late")
        if len(backfill.runs()) != EVIDENCE:
            backfill.problems.append("the start that was held back started a run")
        time.sleep(5)
        for part in parts:
            world.airflow.start_part(part)


def wait_for_the_held_window(backfill: Backfill) -> None:
    backfill.wait_end()
    backfill.is_ready.set()
    backfill.until(lambda: len(backfill.tasks()) > EVIDENCE, "the window whose start is held back", 1800)


def one_run_each_although_killed(backfill: Backfill) -> list[str]:
    (held,) = [task for task in backfill.tasks() if task.window == window(EVIDENCE)]
    backfill.notes.append(f"try {held.try_number}")
    # A triggerer that is killed uses up no try, but a worker does.
    was_retried = held.try_number > 1
    wrong = was_retried if backfill.row.mode == "triggerer-mode" else not was_retried
    return [*one_run_each(backfill, EVIDENCE + 1), *([f"the task ended in try {held.try_number}"] if wrong else [])]


def _is_consumed(fault: Fault) -> bool:
    return fault.consumed > 0


def _parts_of(backfill: Backfill) -> Sequence[str]:
    if backfill.row.mode == "triggerer-mode":
        return TRIGGERERS
    (held,) = [task for task in backfill.tasks() if task.window == window(EVIDENCE)]
    if held.pid is None:
        raise RuntimeError(f"the task of {backfill.row.name} has no process")
    return (backfill.world.airflow.worker_of(held.pid),)

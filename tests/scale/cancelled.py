"""A backfill that is cancelled half-way, and ten of its windows that are repeated as docs/backfills.md says.

The repetition is cancelled, too, while runs are active. Their Dag runs are marked as failed and repeated at once, so the tasks
must end the runs of before, and must not overlap with them.
"""

from __future__ import annotations

import time

from tests.chaos.verdict import counted
from tests.scale.backfill import Backfill
from tests.scale.row import MODES, Row, window
from tests.scale.verdict import cancel_problems, overlap_problems, run_problems, task_problems
from tests.support.stack import ENDED

WINDOWS = 40
HALF = 12
"""How many windows have succeeded when the backfill is cancelled."""
QUIET_FROM = 60.0
"""Seconds after the cancel from which on no run may begin."""
SUCCEEDED, NOT_BEGUN, CLEARED = 3, 7, 3
"""How many of the ten repeated windows had succeeded, and had not begun. Of the latter, somebody has cleared some."""


def rows() -> list[Row]:
    return [
        Row(
            run="cancelled",
            mode=mode,
            windows=WINDOWS,
            at_once=4,
            # Long enough to be active still when a busy machine marks its Dag run as failed.
            seconds=40,
            expected=f"no new run after {QUIET_FROM:.0f} s, running ones end; ten windows repeated: one Succeeded run each",
            story=cancel_and_repeat,
            check=ended_once,
        )
        for mode in MODES
    ]


def cancel_and_repeat(backfill: Backfill) -> None:
    backfill.until(lambda: backfill.succeeded() >= HALF, f"{HALF} windows", 900)
    at = _cancel(backfill)
    backfill.until(lambda: all(t.dag_run_state in ENDED for t in backfill.tasks()), "the Dag runs to end", 300)
    backfill.until(lambda: backfill.world.emulator.clock.now() > at + 1.5 * QUIET_FROM, "the quiet time", 300)
    runs = backfill.runs()
    backfill.problems += [
        f"run {run.run_id} began late after the cancel" for run in runs if run.created > at + QUIET_FROM
    ]
    backfill.problems += [f"run {run.run_id} ended as {run.status}" for run in runs if run.status != "Succeeded"]
    backfill.problems += cancel_problems(runs)
    _clear_some(backfill)
    begun = len(backfill.runs_by_window())
    backfill.repeated = range(begun - SUCCEEDED, begun + NOT_BEGUN)
    backfill.runs_before = len(runs)
    _repeat(backfill, "success", "queued")
    backfill.until(lambda: sum(1 for run in backfill.runs() if not run.is_over) >= 2, "two runs of the repetition", 300)
    _cancel(backfill)
    _repeat(backfill, "running")


def _cancel(backfill: Backfill) -> float:
    """Cancel the unfinished backfill. Returns when this was."""
    found = backfill.ask("GET", f"backfills?dag_id={backfill.row.name}")["backfills"]
    (unfinished,) = [made for made in found if made["completed_at"] is None]
    backfill.ask("PUT", f"backfills/{unfinished['id']}/cancel")
    return backfill.world.emulator.clock.now()


def _clear_some(backfill: Backfill) -> None:
    """Clear Dag runs that the cancel has ended. They stay queued, and never begin."""
    name, begun = backfill.row.name, backfill.runs_by_window()
    cleared = [task for task in backfill.tasks() if task.window not in begun][:CLEARED]
    for task in cleared:
        backfill.ask("POST", f"dags/{name}/dagRuns/{task.dag_run_id}/clear", {"dry_run": False, "only_failed": False})
    time.sleep(10)
    wanted = {task.dag_run_id for task in cleared}
    states = [task.dag_run_state for task in backfill.tasks() if task.dag_run_id in wanted]
    if states != ["queued"] * CLEARED:
        backfill.problems.append(f"cleared Dag runs are {counted(states)}, expected queued")


def _repeat(backfill: Backfill, *states: str) -> None:
    """Mark the Dag runs as failed that are in these states, and make another backfill: the guide's commands."""
    windows = _repeated(backfill)
    for task in backfill.tasks():
        if task.window in windows and task.dag_run_state in states:
            path = f"dags/{backfill.row.name}/dagRuns/{task.dag_run_id}"
            backfill.ask("PATCH", path, {"state": "failed"})
    backfill.create(backfill.repeated[0], backfill.repeated[-1], "--reprocess-behavior", "failed")


def ended_once(backfill: Backfill) -> list[str]:
    repeated, runs = _repeated(backfill), backfill.runs()
    since = [run for run in runs[backfill.runs_before :] if run.status == "Succeeded"]
    others = {one: of for one, of in backfill.runs_by_window().items() if one not in repeated}
    cancelled = sum(1 for run in runs if run.status == "Cancelled")
    return [
        *run_problems(others, list(others)),
        *overlap_problems(backfill.runs_by_window()),
        *task_problems(backfill.tasks(), [*others, *repeated]),
        *([] if cancelled else ["no run was active when its Dag run was marked as failed"]),
        *(
            f"window {one} has {number} Succeeded runs since it was repeated, expected 1"
            for one in repeated
            if (number := sum(1 for run in since if run.values["windowStart"] == one)) != 1
        ),
    ]


def _repeated(backfill: Backfill) -> list[str]:
    return [window(number) for number in backfill.repeated]

"""A backfill that is cancelled half-way, and ten of its windows that are run again as docs/backfills.md says."""

from __future__ import annotations

import time

from tests.scale.backfill import Backfill
from tests.scale.row import MODES, Row, window
from tests.scale.verdict import cancel_problems, run_problems, task_problems
from tests.support.stack import ENDED

WINDOWS, AGAIN = 40, 10
HALF = 12
"""How many windows have succeeded when the backfill is cancelled."""
QUIET_FROM = 60.0
"""Seconds after the cancel from which on no run may begin."""


def rows() -> list[Row]:
    return [
        Row(
            run="cancelled",
            mode=mode,
            windows=WINDOWS,
            at_once=4,
            seconds=4,
            expected=f"no new run after {QUIET_FROM:.0f} s, running ones end; {AGAIN} windows run again: one Succeeded run each",
            story=cancel_and_run_again,
            check=ended_once,
        )
        for mode in MODES
    ]


def cancel_and_run_again(backfill: Backfill) -> None:
    name = backfill.row.name
    backfill.until(lambda: backfill.succeeded() >= HALF, f"{HALF} windows", 900)
    (made,) = backfill.ask("GET", f"backfills?dag_id={name}")["backfills"]
    backfill.ask("PUT", f"backfills/{made['id']}/cancel")
    at = backfill.world.emulator.clock.now()
    backfill.until(lambda: all(t.dag_run_state in ENDED for t in backfill.tasks()), "the Dag runs to end", 300)
    backfill.until(lambda: backfill.world.emulator.clock.now() > at + 1.5 * QUIET_FROM, "the quiet time", 300)
    backfill.problems += [
        f"run {run.run_id} began {run.created - at:.0f} s after the cancel"
        for run in backfill.runs()
        if run.created > at + QUIET_FROM
    ]
    backfill.problems += cancel_problems(backfill.runs())
    _run_again(backfill)


def _run_again(backfill: Backfill) -> None:
    """Run the last windows again. Three of them were cleared by somebody before, which has no effect."""
    name = backfill.row.name
    again = [task for task in backfill.tasks() if task.window in _again()]
    for task in again[:3]:
        backfill.ask("POST", f"dags/{name}/dagRuns/{task.dag_run_id}/clear", {"dry_run": False, "only_failed": False})
    time.sleep(10)
    stuck = [task for task in backfill.tasks() if task.dag_run_state == "queued"]
    backfill.notes.append(f"{len(stuck)} cleared windows stayed queued")
    for task in again:
        backfill.ask("PATCH", f"dags/{name}/dagRuns/{task.dag_run_id}", {"state": "failed"})
    backfill.create(WINDOWS - AGAIN, WINDOWS - 1, "--reprocess-behavior", "failed")


def ended_once(backfill: Backfill) -> list[str]:
    by_window = backfill.runs_by_window()
    started = [one for one in by_window if one not in _again()]
    return [
        *run_problems(by_window, [*started, *_again()]),
        *task_problems(backfill.tasks(), [*started, *_again()]),
        *cancel_problems(backfill.runs()),
    ]


def _again() -> list[str]:
    return [window(number) for number in range(WINDOWS - AGAIN, WINDOWS)]

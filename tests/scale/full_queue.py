"""More windows than Data Factory's queue takes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

from tests.scale.backfill import Backfill
from tests.scale.gauge import Sample
from tests.scale.row import OTHER, Mode, Row, other_dag_id, window
from tests.scale.verdict import cancel_problems, run_problems, task_problems

WINDOWS = 300
MOST_SLOTS = 4
LEAST_WAITING = LEAST_REFUSED = 150
MOST_DELAY = 2.0
"""Seconds by which a start of another pipeline may be later than without the full queue."""
BEFORE, MEANWHILE = 4, 8
"""Starts of the other pipeline that are measured."""
HELD_SECONDS = 300.0
"""How long the first run lasts, so that the starts of all windows are sent while the queue is full."""

MODES: tuple[Mode, ...] = ("deferrable", "triggerer-mode")


def rows() -> list[Row]:
    return [
        Row(
            run="full-queue",
            mode=mode,
            windows=WINDOWS,
            concurrency=1,
            seconds=3,
            script=[{"times": 1, "activities": {"Load": {"seconds": HELD_SECONDS}}}],
            more_seconds=HELD_SECONDS,
            measures_other=True,
            expected=_expected(mode),
            before=measure_others,
            story=start_others,
            check=waited_out,
        )
        for mode in MODES
    ]


def _expected(mode: Mode) -> str:
    slots = f"; at most {MOST_SLOTS} worker slots" if mode == "deferrable" else ""
    return f"all succeed; {LEAST_WAITING} wait at once{slots}; another pipeline at most {MOST_DELAY:.0f} s later"


def measure_others(backfill: Backfill) -> None:
    """Start the other pipeline several times before the queue is full."""
    for _ in range(BEFORE):
        backfill.others.append(start_other(backfill))


def start_others(backfill: Backfill) -> None:
    """Start the other pipeline several times while the queue is full."""
    backfill.until(lambda: most_waiting(backfill.samples()) >= LEAST_WAITING, f"{LEAST_WAITING} tasks to wait", 1800)
    for _ in range(MEANWHILE):
        backfill.others.append(start_other(backfill))
        time.sleep(5)


def start_other(backfill: Backfill) -> float:
    """Start the other pipeline by a Dag run of its own: seconds from the start of its task until its run began."""
    airflow, dag_id, emulator = backfill.world.airflow, other_dag_id(backfill.row), backfill.world.emulator
    before = len(backfill.other_runs())
    dag_run_id = airflow.trigger(dag_id, logical_date=window(24 + len(backfill.others)))
    at_work = ("running", "deferred", "success")
    backfill.until(lambda: airflow.task_state(dag_id, dag_run_id, "load") in at_work, f"the task of {dag_id}", 300)
    began = emulator.clock.now()
    backfill.until(lambda: len(backfill.other_runs()) > before, f"a run of {OTHER}", 300)
    return max(0.0, backfill.other_runs()[-1].created - began)


def most_waiting(samples: Sequence[Sample]) -> int:
    return max((sample.waiting for sample in samples), default=0)


def most_running(samples: Sequence[Sample], windows: int) -> int:
    """The most worker slots in use, from the moment at which every task has been refused or accepted once."""
    ended = ("success", "failed")
    everyone = [sum(s.states.get(state, 0) for state in ("deferred", *ended)) == windows for s in samples]
    first = everyone.index(True) if True in everyone else len(samples)
    return max((sample.running for sample in samples[first:]), default=windows)


def waited_out(backfill: Backfill) -> list[str]:
    windows = [window(number) for number in range(WINDOWS)]
    samples = backfill.samples()
    waiting, running, refused = most_waiting(samples), most_running(samples, WINDOWS), backfill.refusals()
    usual, others = backfill.others[:BEFORE], backfill.others[BEFORE:]
    delay = max(others) - statistics.median(usual)
    backfill.notes += [
        f"{waiting} waited at once",
        f"{refused} refused",
        f"{running} slots",
        f"another pipeline at most {delay:.1f} s later",
    ]
    problems = [
        *run_problems(backfill.runs_by_window(), windows),
        *task_problems(backfill.tasks(), windows),
        *cancel_problems(backfill.runs()),
    ]
    if waiting < LEAST_WAITING or refused < LEAST_REFUSED:
        problems.append(f"only {waiting} tasks waited at once, and {refused} starts were refused")
    if backfill.row.mode == "deferrable" and running > MOST_SLOTS:
        problems.append(f"{running} worker slots were in use, expected at most {MOST_SLOTS}")
    if delay > MOST_DELAY:
        problems.append(f"a start of another pipeline was {delay:.1f} s later, expected at most {MOST_DELAY:.0f} s")
    return problems

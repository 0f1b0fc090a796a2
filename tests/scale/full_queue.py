"""More windows than Data Factory's queue takes."""

from __future__ import annotations

import statistics
import time

from tests.scale.backfill import Backfill, Other
from tests.scale.row import OTHER, Mode, Row, other_dag_id, window
from tests.scale.verdict import cancel_problems, run_problems, task_problems

WINDOWS = 300
FULL = 90
"""So many runs are queued while the queue of 100 counts as full. A place that gets free is taken some seconds later."""
MOST_SLOTS = 4
LEAST_WAITING = LEAST_REFUSED = 150
MOST_DELAY = 2.0
"""Seconds by which a start of another pipeline may be later than without the full queue."""
BEFORE, MEANWHILE = 4, 8
"""Starts of the other pipeline that are measured."""
HELD_SECONDS = 360.0
"""How long the first run lasts, so that the starts of all windows are sent, and others measured, while the queue is full."""

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
    """Start the other pipeline several times while the queue is full.

    Before that, all windows of the stage must have sent their starts: they keep the machine busy.
    """
    backfill.until(lambda: all(map(is_full, backfill.stage)), "all windows to send their starts", 1800)
    for _ in range(MEANWHILE):
        queued = sum(1 for run in backfill.runs() if run.status == "Queued")
        if queued < FULL:
            backfill.problems.append(f"only {queued} runs were queued when another pipeline was started")
        backfill.others.append(start_other(backfill))
        time.sleep(5)


def is_full(backfill: Backfill) -> bool:
    return bool(backfill.problems) or first_full(backfill) is not None


def first_full(backfill: Backfill) -> int | None:
    """The number of the first sample in which every task has been refused or accepted once; None before that."""
    if backfill.refusals() < LEAST_REFUSED or backfill.start_keys() < WINDOWS:
        return None
    for number, sample in enumerate(backfill.samples()):
        answered = sum(sample.states.get(state, 0) for state in ("deferred", "success", "failed"))
        if answered == WINDOWS and sample.live_runs > FULL:
            return number
    return None


def start_other(backfill: Backfill) -> Other:
    """Start the other pipeline by a Dag run of its own."""
    world, dag_id = backfill.world, other_dag_id(backfill.row)
    before, asked = len(backfill.other_runs()), world.emulator.clock.now()
    dag_run_id = world.airflow.trigger(dag_id, logical_date=window(24 + len(backfill.others)))
    handed_over: list[float] = []

    def is_handed_over() -> bool:
        found = world.gauge.handed_over_at(dag_id, dag_run_id)
        handed_over.extend([] if found is None else [found])
        return bool(handed_over)

    backfill.until(is_handed_over, f"the task of {dag_id}", 300)
    backfill.until(lambda: len(backfill.other_runs()) > before, f"a run of {OTHER}", 300)
    created = backfill.other_runs()[-1].created
    return Other(seconds=created - handed_over[0], in_airflow=handed_over[0] - asked)


def waited_out(backfill: Backfill) -> list[str]:
    windows = [window(number) for number in range(WINDOWS)]
    first, samples = first_full(backfill), backfill.samples()
    meanwhile = samples[first:] if first is not None else []
    waiting = max((sample.waiting for sample in meanwhile), default=0)
    slots = max((sample.slots for sample in meanwhile), default=WINDOWS)
    usual, others = backfill.others[:BEFORE], backfill.others[BEFORE:]
    delay = max(other.seconds for other in others) - statistics.median(other.seconds for other in usual)
    in_airflow = max(other.in_airflow for other in others)
    backfill.notes += [
        f"{waiting} waited at once",
        f"{backfill.refusals()} refused",
        f"{slots} slots",
        f"another pipeline at most {delay:.1f} s later (after up to {in_airflow:.1f} s in Airflow)",
    ]
    problems = [
        *run_problems(backfill.runs_by_window(), windows),
        *task_problems(backfill.tasks(), windows),
        *cancel_problems(backfill.runs()),
    ]
    if waiting < LEAST_WAITING:
        problems.append(f"only {waiting} tasks waited at once, expected {LEAST_WAITING}")
    if backfill.row.mode == "deferrable" and slots > MOST_SLOTS:
        problems.append(f"{slots} worker slots were in use, expected at most {MOST_SLOTS}")
    if delay > MOST_DELAY:
        problems.append(f"a start of another pipeline was {delay:.1f} s later, expected at most {MOST_DELAY:.0f} s")
    return problems

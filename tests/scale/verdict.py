"""What is not as expected of a backfill. Pure functions over what was seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from airflow_adf_mi.emulator.pipelines.runs import Run
from tests.chaos.verdict import SeenRun, counted, overlaps
from tests.scale.gauge import Task

SUCCEEDED = ("Succeeded",)


def run_problems(
    runs: Mapping[str, Sequence[Run]], windows: Sequence[str], statuses: tuple[str, ...] = SUCCEEDED
) -> list[str]:
    """Windows whose runs do not have these statuses, in the order of their start; and runs of one window that overlap."""
    found = []
    for one in windows:
        seen = tuple(run.status for run in runs.get(one, ()))
        if seen != statuses:
            found.append(f"window {one} has the runs {counted(seen)}, expected {counted(statuses)}")
    return [*found, *overlap_problems(runs)]


def overlap_problems(runs: Mapping[str, Sequence[Run]]) -> list[str]:
    """Runs of one window that overlap."""
    return [
        f"window {one}: {text}" for one, several in runs.items() for text in overlaps([_seen(run) for run in several])
    ]


def task_problems(tasks: Sequence[Task], windows: Sequence[str], *expected: str) -> list[str]:
    """Windows with a task in another state than these, or without a task. By default, the state is success."""
    wanted = expected or ("success",)
    states: dict[str, set[str | None]] = {}
    for task in tasks:
        states.setdefault(task.window, set()).add(task.state)
    return [
        f"the task of window {one} is {', '.join(map(str, found)) or 'not there'}, expected {' or '.join(wanted)}"
        for one in windows
        if not (found := states.get(one, set())) or not found <= set(wanted)
    ]


def cancel_problems(runs: Sequence[Run]) -> list[str]:
    """Runs for which a cancel was asked."""
    return [f"run {run.run_id} was cancelled" for run in runs if run.cancelled_at is not None]


def _seen(run: Run) -> SeenRun:
    return SeenRun(
        run_id=run.run_id, status=run.status, created=run.created, ended=run.ended, cancelled=run.cancelled_at
    )

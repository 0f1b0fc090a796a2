"""Windows that somebody else has loaded, or is loading."""

from __future__ import annotations

from collections.abc import Sequence

from airflow_adf_mi.emulator.pipelines.runs import Run
from tests.scale.backfill import Backfill
from tests.scale.row import MODES, Mode, Row, window
from tests.scale.verdict import cancel_problems, run_problems, task_problems

LOADED, LIVE, NEW = 30, 5, 5
MARKED = LOADED
"""The window whose task is marked failed while the run of somebody else is active."""
LIVE_SECONDS = 400.0


def rows() -> list[Row]:
    return [_row(mode, "accept" if mode == "blocking" else "skip") for mode in MODES]


def _row(mode: Mode, policy: str) -> Row:
    live = [window(number) for number in range(LOADED, LOADED + LIVE)]
    return Row(
        run=f"loaded-before-{policy}",
        mode=mode,
        windows=LOADED + LIVE + NEW,
        script=[{"when": {"windowStart": one}, "activities": {"Load": {"seconds": LIVE_SECONDS}}} for one in live],
        more_seconds=LIVE_SECONDS,
        task={"on_live_run": "adopt", "on_succeeded_run": policy, "succeeded_within": 86400 * 30},
        expected=f"no further run of the {LOADED} loaded windows ({policy}) and the {LIVE} live ones, which are never cancelled",
        before=run_elsewhere,
        story=mark_one,
        check=left_alone,
    )


def run_elsewhere(backfill: Backfill) -> None:
    """Start the runs of somebody else. Those that are to be loaded have ended when this returns."""
    factory, name = backfill.factory(), backfill.row.name

    def start(numbers: range) -> None:
        for number in numbers:
            values = {"windowStart": window(number), "windowEnd": window(number + 1)}
            factory.create_run(name, values)

    emulator = backfill.world.emulator
    emulator.call(lambda: start(range(LOADED)))
    backfill.until(lambda: backfill.succeeded() == LOADED, "the windows to be loaded", 120)
    emulator.call(lambda: start(range(LOADED, LOADED + LIVE)))


def mark_one(backfill: Backfill) -> None:
    """Mark the task failed that waits for one of the runs of somebody else. All five runs must be active until then."""
    live = {window(number) for number in range(LOADED, LOADED + LIVE)}
    airflow, name = backfill.world.airflow, backfill.row.name

    def adopted() -> bool:
        theirs = {one: runs[0].run_id for one, runs in backfill.runs_by_window().items() if one in live}
        tasks = [task for task in backfill.tasks() if task.window in live]
        return len(tasks) == LIVE and all(
            airflow.xcom(name, task.dag_run_id, "load", "run_id") == theirs[task.window] for task in tasks
        )

    backfill.until(adopted, "the active runs to be adopted", 2 * LIVE_SECONDS)
    if any(runs[0].is_over for one, runs in backfill.runs_by_window().items() if one in live):
        raise RuntimeError("a run of somebody else had ended when its task looked: the machine is too slow")
    (task,) = [task for task in backfill.tasks() if task.window == window(MARKED)]
    airflow.mark(name, task.dag_run_id, "load", "failed")


def left_alone(backfill: Backfill) -> Sequence[str]:
    loaded, new = range(LOADED), range(LOADED + LIVE, backfill.row.windows)
    live = [number for number in range(LOADED, LOADED + LIVE) if number != MARKED]
    backfill.until(lambda: all(run.is_over for run in backfill.runs()), "all runs to end", LIVE_SECONDS)
    runs: list[Run] = backfill.runs()
    on_succeeded = "skipped" if backfill.row.task["on_succeeded_run"] == "skip" else "success"
    tasks = backfill.tasks()
    return [
        *run_problems(backfill.runs_by_window(), [window(number) for number in range(backfill.row.windows)]),
        *task_problems(tasks, [window(n) for n in loaded], on_succeeded),
        *task_problems(tasks, [window(n) for n in live]),
        *task_problems(tasks, [window(n) for n in new]),
        *task_problems(tasks, [window(MARKED)], "failed"),
        *cancel_problems(runs),
    ]

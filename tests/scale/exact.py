"""Two Dags that need the same windows at the same time, with the two ways to be exact that docs/backfills.md names."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from airflow_adf_mi.emulator.pipelines.runs import Run
from tests.scale.backfill import Backfill
from tests.scale.row import MODES, Mode, Row, window
from tests.scale.verdict import cancel_problems, run_problems, task_problems

POOL = "adf_one_slot"
WINDOWS = 10
POOL_MODES: tuple[Mode, ...] = ("blocking", "deferrable")
"""A task with a pool is never in triggerer mode (docs/triggerer-mode.md)."""
LAG = 7.0
"""Seconds by which the list is behind where the pool is what makes the tasks exact. That is longer than a run lasts. With a fresh
list, even tasks that do not wait for their own run in the list would find each other's runs."""


def rows() -> list[Row]:
    policies = {"on_live_run": "adopt", "on_succeeded_run": "accept", "succeeded_within": 86400 * 30}
    return [
        *(
            Row(
                run="two-dags-one-slot",
                mode=mode,
                windows=WINDOWS,
                has_twin=True,
                seconds=2,
                switches={"list_lag_seconds": LAG},
                task={**policies, "pool": f"{POOL}_{mode}"},
                expected="one run for each window, which both Dags use, although the list lags",
                before=make_pool,
                check=shared,
            )
            for mode in POOL_MODES
        ),
        *(
            Row(
                run="two-dags-wait",
                mode=mode,
                windows=WINDOWS,
                has_twin=True,
                seconds=2,
                concurrency=1,
                task={"on_live_run": "wait", "check_interval": 2},
                expected="two runs for each window, and never two of them in progress; some starts waited",
                check=one_after_the_other,
            )
            for mode in MODES
        ),
    ]


def make_pool(backfill: Backfill) -> None:
    backfill.ask("POST", "pools", {"name": backfill.row.task["pool"], "slots": 1, "include_deferred": True})


def shared(backfill: Backfill) -> list[str]:
    windows = [window(number) for number in range(WINDOWS)]
    return [
        *run_problems(backfill.runs_by_window(), windows),
        *task_problems(backfill.tasks(), windows),
        *cancel_problems(backfill.runs()),
    ]


def one_after_the_other(backfill: Backfill) -> list[str]:
    windows = [window(number) for number in range(WINDOWS)]
    runs = sorted(backfill.runs(), key=lambda run: run.started or 0.0)
    waited = starts_that_waited(runs)
    backfill.notes.append(f"{waited} starts waited for earlier runs")
    return [
        *([] if waited else ["no start waited for the earlier runs, as if on_live_run were 'start'"]),
        *(
            f"runs {one.run_id} and {other.run_id} were in progress at the same time"
            for one, other in pairwise(runs)
            if one.ended is None or other.started is None or other.started < one.ended
        ),
        *([] if len(runs) == 2 * WINDOWS else [f"{len(runs)} runs, expected {2 * WINDOWS}"]),
        *task_problems(backfill.tasks(), windows),
        *cancel_problems(runs),
    ]


def starts_that_waited(runs: Sequence[Run]) -> int:
    """How many runs, besides the first, were started when every earlier run had ended.

    With `on_live_run="start"` it is none: all starts are sent at once, and queue behind the first run.
    """
    in_order = sorted(runs, key=lambda run: run.created)
    return sum(
        all(earlier.ended is not None and earlier.ended <= run.created for earlier in in_order[:at])
        for at, run in enumerate(in_order)
        if at
    )

"""Runs that somebody else has started, and what a task does about them. They are never cancelled."""

from __future__ import annotations

from dataclasses import replace

from airflow_adf_mi._airflow import features
from tests.chaos.case import Case
from tests.chaos.row import LONG, Expected, Row
from tests.chaos.rows_backfill import ALL_MODES
from tests.chaos.rows_start import AMBIGUOUS

LEFT_ALONE = Expected(adf=("InProgress",), task="failed")
THEIRS_THEN_OURS = Expected(runs=2, adf=("Succeeded", "Succeeded"))
# Without a store, a retry takes any similar run for one that it may have started itself, as long as the list shows no start key.
AMBIGUOUS_ON_A_RETRY = replace(LEFT_ALONE, error=AMBIGUOUS)


def marked(case: Case) -> None:
    case.wait_adopted()
    case.mark("failed")


def cleared(case: Case) -> None:
    case.wait_adopted()
    case.clear()


def killed(case: Case) -> None:
    case.wait_adopted()
    case.kill(supervisor=True)


def killed_while_it_waits(case: Case) -> None:
    case.wait_state("running")
    # The first status check is by the look for active runs, before the wait.
    case.until(lambda: case.status_checks() > 1, "the wait for the run of somebody else")
    case.kill(supervisor=True)


def rows() -> list[Row]:
    found = []
    for mode in ALL_MODES:
        found += [
            Row(
                name=f"present-adopted-{mode}",
                fault="a run of somebody else is active and is adopted",
                mode=mode,
                foreign=True,
                seconds=45,
                task={"on_live_run": "adopt"},
                subset=mode == "deferrable",
            ),
            Row(
                name=f"present-marked-{mode}",
                fault="marked failed while it waits for an adopted run of somebody else",
                mode=mode,
                foreign=True,
                seconds=LONG,
                task={"on_live_run": "adopt"},
                story=marked,
                expected=LEFT_ALONE,
            ),
            Row(
                name=f"present-cleared-{mode}",
                fault="cleared while it waits for an adopted run of somebody else",
                mode=mode,
                foreign=True,
                seconds=75,
                task={"on_live_run": "adopt"},
                story=cleared,
            ),
            Row(
                name=f"present-timed-out-{mode}",
                fault="the timeout passes while it waits for an adopted run of somebody else",
                mode=mode,
                foreign=True,
                seconds=LONG,
                task={"on_live_run": "adopt", "timeout": 15, "retries": 0},
                expected=replace(LEFT_ALONE, error="timeout of 15 s"),
            ),
            Row(
                name=f"present-waited-for-{mode}",
                fault="a run of somebody else is active and is waited for",
                mode=mode,
                foreign=True,
                first=({"seconds": 30},),
                seconds=5,
                task={"on_live_run": "wait"},
                expected=THEIRS_THEN_OURS,
            ),
            Row(
                name=f"present-skipped-{mode}",
                fault="a run of somebody else is active, and the task is skipped",
                mode=mode,
                foreign=True,
                seconds=LONG,
                task={"on_live_run": "skip"},
                expected=replace(LEFT_ALONE, task="skipped"),
                subset=mode == "blocking",
            ),
            Row(
                name=f"present-refused-{mode}",
                fault="a run of somebody else is active, and the task fails",
                mode=mode,
                foreign=True,
                seconds=LONG,
                task={"on_live_run": "fail", "retries": 0},
                expected=replace(LEFT_ALONE, error="on_live_run is 'fail'"),
            ),
        ]
    return [
        *found,
        Row(
            name="present-killed-blocking",
            fault="worker killed -9 while it waits for an adopted run of somebody else",
            mode="blocking",
            foreign=True,
            seconds=90 if features.TASK_STATE_STORE else LONG,
            task={"on_live_run": "adopt"},
            story=killed,
            expected=Expected() if features.TASK_STATE_STORE else AMBIGUOUS_ON_A_RETRY,
        ),
        Row(
            name="present-waited-for-killed-blocking",
            fault="worker killed -9 while it waits for a run of somebody else to end",
            mode="blocking",
            foreign=True,
            first=({"seconds": 90 if features.TASK_STATE_STORE else LONG},),
            seconds=5,
            task={"on_live_run": "wait"},
            story=killed_while_it_waits,
            expected=THEIRS_THEN_OURS if features.TASK_STATE_STORE else AMBIGUOUS_ON_A_RETRY,
        ),
    ]

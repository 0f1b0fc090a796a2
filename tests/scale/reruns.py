"""Windows that fail once in their second activity, and are continued from there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from tests.scale.backfill import Backfill
from tests.scale.row import MODES, Row, window
from tests.scale.verdict import cancel_problems, run_problems, task_problems

FAILED: Mapping[str, Any] = {"outcome": "Failed", "seconds": 2, "error": {"errorCode": "2200", "message": "no table"}}
FIRST, SECOND = "Extract", "Load"


def rows(windows: int = 20) -> list[Row]:
    return [
        Row(
            run="failed-once",
            mode=mode,
            windows=windows,
            activities=(FIRST, SECOND),
            script=[
                {"when": {"windowStart": window(number)}, "times": 1, "activities": {SECOND: FAILED}}
                for number in range(windows)
            ],
            task={"retry_from_failure": "retry"},
            expected="continued in the same group; only the activity that had failed runs again",
            check=continued,
        )
        for mode in MODES
    ]


def continued(backfill: Backfill) -> list[str]:
    windows = [window(number) for number in range(backfill.row.windows)]
    by_window, runs = backfill.runs_by_window(), backfill.runs()
    ran = Counter(each.name for run in runs for each in run.activities)
    wanted = {FIRST: len(windows), SECOND: 2 * len(windows)}
    backfill.notes.append(f"activities run: {dict(ran)}")
    return [
        *run_problems(by_window, windows, ("Failed", "Succeeded")),
        *task_problems(backfill.tasks(), windows),
        *cancel_problems(runs),
        *[
            f"the runs of window {one} are not one group"
            for one, of in by_window.items()
            if len({r.group_id for r in of}) > 1
        ],
        *([] if ran == wanted else [f"the activities that ran are {dict(ran)}, expected {wanted}"]),
    ]

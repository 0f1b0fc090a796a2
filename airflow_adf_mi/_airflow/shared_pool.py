"""The line in the log of a start that names the pool which would make `on_live_run` and `on_succeeded_run` exact.

Two tasks that read the run list at the same time may both start a run. A pool with one slot prevents this, if it includes
deferred tasks. A task knows only the name of its pool: Airflow shows the slots and `include_deferred` to no worker and no
triggerer. So the line says what the pool must be.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_adf_mi.adf.starting.start import Start
    from airflow_adf_mi.adf.starting.started import Started

IN_TRIGGERER_MODE = "This task starts in a triggerer, so no pool limits it. With a pool, a worker runs it."


def mention_pool(log: logging.Logger, start: Start, started: Started, pool: str) -> None:
    """Log the line, if this try has started a run. A part of the try that continues with that run does not repeat the line.

    :param pool: a sentence about the pool of the task.
    """
    if start.present_runs and not started.adopted:
        log.info(
            "on_live_run and on_succeeded_run have read the run list before the start. Two tasks at once may both start a run, "
            "unless they share a pool with one slot and include_deferred (docs/backfills.md). %s",
            pool,
        )


def in_pool(name: str) -> str:
    """The sentence about the pool of a task on a worker."""
    return f"This task is in the pool {name!r}. It cannot see the settings of its pool."

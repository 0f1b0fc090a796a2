"""Counts of tasks and runs over time, sampled from Airflow's database and the emulator."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC
from typing import Any

import sqlalchemy

from tests.support.sampler import Sampler

_COUNTS = sqlalchemy.text(
    "SELECT dag_id, coalesce(state, 'none') AS state, count(*) AS number FROM task_instance GROUP BY dag_id, state"
)
_TASKS = sqlalchemy.text(
    "SELECT dr.data_interval_start AS start, dr.run_id, dr.state AS dag_run_state, ti.state, ti.try_number, ti.pid "
    "FROM dag_run dr LEFT JOIN task_instance ti ON ti.dag_id = dr.dag_id AND ti.run_id = dr.run_id "
    "WHERE dr.dag_id = :dag_id"
)
_HANDED_OVER = sqlalchemy.text(
    # A trigger has no time for this. The scheduler makes it seconds before it commits, so that triggerers can see it.
    "SELECT CASE WHEN pid IS NOT NULL THEN start_date WHEN trigger_id IS NOT NULL THEN clock_timestamp() END "
    "FROM task_instance WHERE dag_id = :dag_id AND run_id = :run_id"
)


@dataclass(frozen=True, kw_only=True)
class Task:
    """The task of one window."""

    window: str
    dag_run_id: str
    dag_run_state: str
    state: str | None
    try_number: int
    pid: int | None


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The tasks of a Dag at one moment."""

    time: float
    states: Mapping[str, int]
    live_runs: int
    """Active runs of the pipeline, also those in its queue."""

    @property
    def slots(self) -> int:
        """Slots of workers in use, or about to be: a worker has a queued task for some seconds before it runs."""
        return self.states.get("running", 0) + self.states.get("queued", 0)

    @property
    def waiting(self) -> int:
        """Tasks that wait without a worker and without a run."""
        return max(0, self.states.get("deferred", 0) - self.live_runs)


class Gauge(Sampler):
    """:param live_runs: the number of active runs by Dag id."""

    def __init__(self, url: str, live_runs: Callable[[], Mapping[str, int]]) -> None:
        super().__init__(url)
        self._live_runs = live_runs
        self.samples: dict[str, list[Sample]] = {}

    def tasks(self, dag_id: str) -> list[Task]:
        """The tasks of all windows, oldest window first."""
        with self._engine.connect() as connection:
            found = [_task(row) for row in connection.execute(_TASKS, {"dag_id": dag_id}).mappings()]
        return sorted(found, key=lambda task: task.window)

    def handed_over_at(self, dag_id: str, run_id: str) -> float | None:
        """When a worker began with the task of a Dag run, or now if it has been handed to the triggerers. None before that."""
        with self._engine.connect() as connection:
            found = connection.execute(_HANDED_OVER, {"dag_id": dag_id, "run_id": run_id}).scalar()
        return None if found is None else float(found.timestamp())

    def sample(self) -> None:
        states: dict[str, dict[str, int]] = {}
        with self._engine.connect() as connection:
            for dag_id, state, number in connection.execute(_COUNTS):
                states.setdefault(dag_id, {})[state] = number
        live, now = self._live_runs(), time.time()
        for dag_id, counts in states.items():
            sample = Sample(time=now, states=counts, live_runs=live.get(dag_id, 0))
            self.samples.setdefault(dag_id, []).append(sample)


def _task(row: Any) -> Task:
    return Task(
        window="" if row["start"] is None else row["start"].astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        dag_run_id=row["run_id"],
        dag_run_state=row["dag_run_state"],
        state=row["state"],
        try_number=row["try_number"] or 0,
        pid=row["pid"],
    )

"""Task instances and Dag runs in Airflow's database, read for all cases together.

Otherwise, dozens of cases would send two requests a second each, and would be most of the API server's load.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy

from tests.support.sampler import Sampler

_INSTANCES = sqlalchemy.text(
    "SELECT ti.dag_id, ti.run_id, ti.task_id, ti.map_index, ti.state, ti.try_number, ti.pid, t.triggerer_id "
    "FROM task_instance ti LEFT JOIN trigger t ON t.id = ti.trigger_id"
)
_RUNS = sqlalchemy.text("SELECT dag_id, run_id, state FROM dag_run")


@dataclass(frozen=True, kw_only=True)
class Instance:
    """The state of a task instance."""

    task_id: str
    map_index: int
    state: str | None
    try_number: int
    pid: int | None
    triggerer_id: int | None
    """The id of the triggerer job that runs its trigger."""


class Board(Sampler):
    """The last state of each task instance and Dag run."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._instances: Mapping[tuple[str, str], list[Instance]] = {}
        self._runs: Mapping[tuple[str, str], str] = {}

    def instances(self, dag_id: str, run_id: str, task_id: str = "it") -> list[Instance]:
        found = self._instances.get((dag_id, run_id), [])
        return sorted((i for i in found if i.task_id == task_id), key=lambda i: i.map_index)

    def dag_run_state(self, dag_id: str, run_id: str) -> str | None:
        return self._runs.get((dag_id, run_id))

    def sample(self) -> None:
        instances: dict[tuple[str, str], list[Instance]] = {}
        with self._engine.connect() as connection:
            for row in connection.execute(_INSTANCES).mappings():
                values: dict[str, Any] = dict(row)
                key = values.pop("dag_id"), values.pop("run_id")
                instances.setdefault(key, []).append(Instance(**values))
            runs = {(dag_id, run_id): state for dag_id, run_id, state in connection.execute(_RUNS)}
        self._instances, self._runs = instances, runs

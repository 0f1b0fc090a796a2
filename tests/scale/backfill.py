"""The backfill of a row: what its story can do with it, and what can be seen of it."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from airflow_adf_mi.emulator.pipelines.runs import Run
from airflow_adf_mi.emulator.service.state import FactoryState
from tests.scale.gauge import Sample, Task
from tests.scale.row import OTHER, Row, window
from tests.scale.world import World
from tests.support.processes import run_to_end
from tests.support.stack import BIN, ENDED

QUIET = 5.0
"""Seconds after the end in which nothing more must happen."""


@dataclass(frozen=True, kw_only=True)
class Other:
    """A start of the other pipeline: seconds until Airflow handed its task over, and from there until its run began."""

    in_airflow: float
    seconds: float


class Backfill:
    """A row that was started."""

    def __init__(self, row: Row, world: World) -> None:
        self.row = row
        self.world = world
        self.stage: Sequence[Backfill] = [self]
        """The rows that run at the same time, with this one."""
        self.problems: list[str] = []
        self.notes: list[str] = []
        """What the table also says."""
        self.is_ready = threading.Event()
        """Whether its story waits for what another thread does."""
        self.others: list[Other] = []
        self.repeated = range(0)
        """The windows that are run again."""
        self.runs_before = 0
        """How many runs there were before."""
        self.began = self.ended = time.monotonic()

    def prepare(self) -> None:
        """Do what must be done before any row of the stage begins. Errors are added to `problems`."""
        try:
            if self.row.before is not None:
                self.row.before(self)
        except Exception as e:  # noqa: BLE001  other rows must continue
            self.problems.append(f"{type(e).__name__}: {e}")

    def run(self) -> None:
        """Run it to its end, if it could be prepared. Errors are added to `problems`."""
        if self.problems:
            return
        try:
            self.began = self.ended = time.monotonic()
            self.create(0, self.row.windows - 1)
            if self.row.story is not None:
                self.row.story(self)
            self.wait_end()
            self.problems += self.row.check(self)
        except Exception as e:  # noqa: BLE001  other rows must continue
            self.problems.append(f"{type(e).__name__}: {e}")

    def create(self, first: int, last: int, *options: str) -> None:
        """Make the backfill of these windows with Airflow's command."""
        for dag_id in self.row.dag_ids:
            self.world.until(partial(self._is_parsed, dag_id), f"Dag {dag_id}", 300)
        dates = ("--from-date", window(first), "--to-date", window(last))
        for dag_id in self.row.dag_ids:
            command = [str(BIN / "airflow"), "backfill", "create", "--dag-id", dag_id, *dates]
            command += ["--max-active-runs", str(self.row.at_once), *options]
            # A Dag has one unfinished backfill at a time, and Airflow needs a moment to see that one is finished.
            self.until(partial(self._is_made, command), "the backfill to be made", 120)

    def wait_end(self) -> None:
        left = self.began + self.row.patience - time.monotonic()
        self.until(self._has_ended, "the Dag runs to end", max(left, 5))
        self.ended = time.monotonic()
        time.sleep(QUIET)

    def until(self, is_true: Any, what: str, seconds: float) -> None:
        self.world.until(is_true, f"{what}: {self.row.name}", seconds)

    # What can be seen.

    def factory(self) -> FactoryState:
        return self.world.emulator.state(self.row.name)

    def runs(self) -> list[Run]:
        """All runs of its pipeline, in the order of their start."""
        return self._runs(self.row.name)

    def other_runs(self) -> list[Run]:
        return self._runs(OTHER)

    def runs_by_window(self) -> dict[str, list[Run]]:
        found: dict[str, list[Run]] = {}
        for run in self.runs():
            found.setdefault(str(run.values["windowStart"]), []).append(run)
        return found

    def succeeded(self) -> int:
        return sum(1 for run in self.runs() if run.status == "Succeeded")

    def tasks(self) -> list[Task]:
        return [task for dag_id in self.row.dag_ids for task in self.world.gauge.tasks(dag_id)]

    def samples(self) -> Sequence[Sample]:
        return self.world.gauge.samples.get(self.row.name, [])

    def refusals(self) -> int:
        """How many starts were refused because the queue was full."""
        books = self.world.emulator.books
        return self.world.emulator.call(lambda: books.count("createRun", pipeline=self.row.name, full_queue=True))

    def start_keys(self) -> int:
        """How many start keys have been sent. Each task has at least one of its own."""
        books = self.world.emulator.books
        return self.world.emulator.call(
            lambda: len({record.client_request_id for record in books.of("createRun", pipeline=self.row.name)})
        )

    def seen(self) -> str:
        """What happened, for the table."""
        runs, tasks = Counter(run.status for run in self.runs()), Counter(str(task.state) for task in self.tasks())
        counts = [f"{number} {text}" for counter in (runs, tasks) for text, number in sorted(counter.items())]
        return ", ".join([*counts, *self.notes])

    # Actions.

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        options = {} if body is None else {"json": body}
        return self.world.airflow.ask(method, f"/api/v2/{path}", **options).raise_for_status().json()

    def _is_made(self, command: Sequence[str]) -> bool:
        done = run_to_end(command, env=self.world.airflow.env, timeout=300)
        if done.returncode != 0 and "AlreadyRunningBackfill" not in (printed := done.stdout + done.stderr):
            raise RuntimeError(f"airflow backfill create failed:\n{printed[-2000:]}")
        return done.returncode == 0

    def _is_parsed(self, dag_id: str) -> bool:
        return bool(self.world.airflow.ask("GET", f"/api/v2/dags/{dag_id}").status_code == 200)

    def _runs(self, pipeline: str) -> list[Run]:
        def read() -> list[Run]:
            factory = self.factory()
            factory.settle()
            return sorted(
                (run for run in factory.runs.values() if run.pipeline == pipeline), key=lambda run: run.created
            )

        return self.world.emulator.call(read)

    def _has_ended(self) -> bool:
        tasks = self.tasks()
        return len(tasks) >= self.row.windows * len(self.row.dag_ids) and all(
            task.dag_run_state in ENDED for task in tasks
        )

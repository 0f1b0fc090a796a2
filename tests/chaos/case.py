"""A running case: what its story can do with it, and see of it."""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import psutil

from airflow_adf_mi.emulator.gateway.faults import Fault
from airflow_adf_mi.emulator.pipelines.runs import Run
from tests.chaos.board import Instance
from tests.chaos.row import Row
from tests.chaos.verdict import Observed, SeenRun, counted
from tests.support.stack import ENDED, TASK_ENDED

if TYPE_CHECKING:
    from airflow_adf_mi.emulator import Emulator
    from tests.chaos.world import World

QUIET = 4.0
"""Seconds after the end of a case in which nothing more must happen."""


class Case:
    """A row that was started."""

    def __init__(self, row: Row, world: World) -> None:
        self.row = row
        self.world = world
        self.run_id = ""
        self.acted: float | None = None
        self.problems: list[str] = []
        self.faults: list[Fault] = []
        self.began = self.ended = time.monotonic()

    @property
    def emulator(self) -> Emulator:
        return self.world.emulator_of(self.row)

    def start(self) -> None:
        """Add the faults, and start the Dag run."""
        self.began = time.monotonic()
        for fault in self.row.faults:
            self.add_fault(**fault)
        # Airflow may be busy for minutes, and the run of somebody else must not end before the task begins.
        self.world.airflow.wait_for_dag(self.row.dag_id)
        is_watched = self.row.mode == "sensor"
        outside = self._start_outside() if is_watched or self.row.foreign else ""
        conf = {"run_id": outside} if is_watched else {}
        self.run_id = self.world.airflow.trigger(self.row.dag_id, conf=conf)

    def finish(self) -> None:
        """Run the story, and wait for the end. Errors are added to `problems`."""
        try:
            if not self.run_id:
                raise RuntimeError("it was never started")
            if self.row.story is not None:
                self.row.story(self)
            self.wait_end()
        except Exception as e:  # noqa: BLE001  other cases must continue
            self.problems.append(f"{type(e).__name__}: {e}")
        self.ended = time.monotonic()

    def wait_end(self) -> None:
        """Wait until tasks and runs have ended, and then for a while in which nothing more must happen."""
        left = self.began + self.row.patience - time.monotonic()
        self.until(self._has_ended, "the tasks to end", max(left, 5))
        with suppress(TimeoutError):
            # If they do not end so, the verdict reports it.
            self.until(self._runs_are_as_expected, "the runs to be as expected", 20 + self.cancel_seconds)
        # A wrong rule would cancel a run that must stay active within this time.
        is_left = "InProgress" in self.row.expected.adf
        time.sleep(self.row.expected.cancel_within if is_left else QUIET)

    @property
    def cancel_seconds(self) -> float:
        return float(self.row.script.get("cancel_seconds", 0))

    def observed(self) -> Observed:
        runs = self.runs()
        problems = list(self.problems)
        if self.row.check is not None:
            try:
                self.row.check(self)
            except Exception as e:  # noqa: BLE001  as above
                problems.append(str(e) or type(e).__name__)
        return Observed(
            runs=[
                SeenRun(run_id=r.run_id, status=r.status, created=r.created, ended=r.ended, cancelled=r.cancelled_at)
                for r in runs
            ],
            tasks=[i.state for i in self.instances()],
            log=self.log() if self.row.expected.error else "",
            acted=self.acted,
            may_overlap=self.row.mapped > 1,
            unused_faults=[f"{f.operation} {f.consumed} of {f.times}" for f in self.faults if not self._is_used(f)],
            problems=problems,
        )

    # The state of the case.

    def runs(self) -> list[Run]:
        """The pipeline's runs, in the order of their start."""

        def read() -> list[Run]:
            factory = self.emulator.state(self.row.name)
            factory.settle()
            return sorted(factory.runs.values(), key=lambda run: run.created)

        return self.emulator.call(read)

    def status_checks(self) -> int:
        """The number of successful status checks of its runs."""
        return self.emulator.call(lambda: self.emulator.books.count("getRun", pipeline=self.row.name, status=200))

    def instances(self) -> list[Instance]:
        return self.world.board.instances(self.row.dag_id, self.run_id)

    def instance(self) -> Instance:
        """The first instance of its task. Raises if it does not exist yet."""
        return self.instances()[0]

    def extra(self) -> Instance:
        """The instance of the other task. Raises if it does not exist yet."""
        return self.world.board.instances(self.row.dag_id, self.run_id, "extra")[0]

    def log(self, try_number: int = 0, map_index: int | None = None) -> str:
        """The log of a try; by default, of the last one."""
        instance = self.instance() if map_index is None else self.instances()[map_index]
        number = try_number or instance.try_number
        return self.world.airflow.log(self.row.dag_id, self.run_id, "it", number, instance.map_index)

    def xcom(self, key: str, map_index: int = -1) -> Any:
        return self.world.airflow.xcom(self.row.dag_id, self.run_id, "it", key, map_index)

    # Waiting.

    def until(self, is_true: Callable[[], bool], what: str, seconds: float = 90) -> None:
        end = time.monotonic() + seconds
        while not is_true():
            if self.world.is_over:
                raise RuntimeError("the suite was stopped")
            if time.monotonic() > end:
                self.world.board.check()
                states = counted(str(i.state) for i in self.instances())
                raise TimeoutError(f"waited {seconds:.0f} s for {what}; task {states}, {len(self.runs())} runs")
            time.sleep(0.25)

    def wait_state(self, *states: str, seconds: float = 90) -> None:
        """Wait until all instances of its task are in one of these states."""
        self.until(lambda: self._all_in(states), f"the task to be {' or '.join(states)}", seconds)

    def wait_waiting(self, run_count: int = 1) -> None:
        """Wait until the task has started its run, and has checked its status."""
        before = self.status_checks() if run_count > 1 else 0
        self.until(lambda: len(self.runs()) >= run_count, f"{run_count} runs")
        if self.row.mode != "no-wait":
            self._wait_waiting_state()
            self._wait_status_check(before)

    def wait_adopted(self) -> None:
        """Wait until the task has adopted the run of somebody else, and then has checked its status while it waits.

        The adoption checks the status, too. In deferrable mode, a worker adopts the run before any trigger waits for it.
        """
        (theirs,) = self.runs()
        self.until(lambda: self.xcom("run_id") == theirs.run_id, "the adopted run's id")
        self._wait_waiting_state()
        self._wait_status_check(self.status_checks())

    def wait_quiet(self, seconds: float) -> None:
        """Wait until no process has sent a status check for some seconds."""
        seen, since = self.status_checks(), time.monotonic()

        def is_quiet() -> bool:
            nonlocal seen, since
            if self.status_checks() != seen:
                seen, since = self.status_checks(), time.monotonic()
            return time.monotonic() - since > seconds

        self.until(is_quiet, f"{seconds:.0f} s without a status check")

    def wait_fault(self, number: int = 0) -> Fault:
        """Wait until the fault has affected a request."""
        fault = self.faults[number]
        self.until(lambda: fault.consumed > 0, f"the fault of {fault.operation}")
        return fault

    def wait_all_over(self, state: str) -> None:
        """Wait until its task and all its runs have ended."""
        self.wait_state(state, seconds=150)
        self.wait_dag_run_end()
        self.until(lambda: all(run.is_over for run in self.runs()), "the runs to end")

    def wait_dag_run_end(self) -> None:
        self.until(lambda: self.world.board.dag_run_state(self.row.dag_id, self.run_id) in ENDED, "the Dag run to end")

    # Actions. They record when they happened.

    def add_fault(self, operation: str, **members: Any) -> Fault:
        """Add a fault for requests about its pipeline, or for token requests of its identity."""
        where: Mapping[str, Any] = {"pipeline": self.row.name}
        if operation == "token":
            where = {"identity": self.world.identity(self.row).client_id}
        emulator = self.world.emulator if operation == "token" else self.emulator
        fault = emulator.add_fault(operation, **where, **members)
        self.faults.append(fault)
        return fault

    def act(self) -> None:
        """Record the moment from which the time until the cancel counts."""
        self.acted = self.emulator.clock.now()

    def mark(self, state: str) -> None:
        self.act()
        for instance in self.instances():
            self.world.airflow.mark(self.row.dag_id, self.run_id, "it", state, instance.map_index)
        self.world.board.sample()

    def mark_dag_run(self, state: str) -> None:
        self.act()
        self._ask("PATCH", f"dagRuns/{self.run_id}", {"state": state})

    def make_dag_run_again(self) -> None:
        """Delete the Dag run, and make another one with the same id."""
        self.act()
        self._ask("DELETE", f"dagRuns/{self.run_id}")
        self.run_id = self.world.airflow.trigger(self.row.dag_id, run_id=self.run_id)

    def clear(
        self,
        *,
        task_id: str = "it",
        upstream: bool = False,
        downstream: bool = False,
        latest: bool = False,
        map_index: int | None = None,
    ) -> None:
        """Clear the task, or another one of its Dag run, as the UI does."""
        self.act()
        task: str | list[Any] = task_id if map_index is None else [task_id, map_index]
        options = {
            "include_upstream": upstream,
            "include_downstream": downstream,
            "run_on_latest_version": latest,
        }
        self.world.airflow.clear(self.row.dag_id, self.run_id, task, **options)
        self.world.board.sample()

    def clear_dag_run(self) -> None:
        self.act()
        self._ask("POST", f"dagRuns/{self.run_id}/clear", {"dry_run": False, "only_failed": False})

    def kill(self, number: signal.Signals = signal.SIGKILL, *, supervisor: bool = False, process: bool = True) -> None:
        """Send a signal to the task's process, its supervisor, or both (the supervisor first)."""
        for each in self.pids(supervisor=supervisor, process=process):
            os.kill(each, number)

    def pids(self, *, supervisor: bool, process: bool) -> list[int]:
        """The process ids of the task's supervisor and its process."""
        pid = self.instance().pid
        if pid is None:
            raise RuntimeError("the task has no process")
        return [psutil.Process(pid).ppid()] * supervisor + [pid] * process

    def edit(self, **arguments: Any) -> None:
        """Change the task's arguments in the Dag file. Returns once Airflow has parsed it."""
        self.world.edit(self.row, arguments)

    # Helpers.

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> None:
        options = {} if body is None else {"json": dict(body)}
        self.world.airflow.ask(method, f"/api/v2/dags/{self.row.dag_id}/{path}", **options).raise_for_status()
        self.world.board.sample()

    def _start_outside(self) -> str:
        key = str(uuid.uuid4())
        state = self.emulator.state(self.row.name)
        return self.emulator.call(lambda: state.create_run(self.row.name, None, client_request_id=key))

    def _wait_waiting_state(self) -> None:
        """Wait until the task has the state in which it waits for a run."""
        self.wait_state("running" if self.row.waits_on_worker else "deferred")

    def _wait_status_check(self, before: int) -> None:
        """Wait until there are more than `before` status checks."""
        self.until(lambda: self.status_checks() > before, "a status check")

    def _all_in(self, states: Iterable[str]) -> bool:
        found = self.instances()
        return len(found) >= self.row.task_count and all(i.state in set(states) for i in found)

    def _has_ended(self) -> bool:
        return self._all_in(TASK_ENDED) and self.world.board.dag_run_state(self.row.dag_id, self.run_id) in ENDED

    def _runs_are_as_expected(self) -> bool:
        return tuple(run.status for run in self.runs()) == self.row.expected.adf

    def _is_used(self, fault: Fault) -> bool:
        return fault.consumed >= (1 if self.row.loose or fault.times is None else fault.times)

"""What a task costs Airflow from end to end: real processes, on PostgreSQL, with the provider's operator and with ours."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import psutil

from airflow_adf_mi.emulator import Emulator
from airflow_adf_mi.emulator.pipelines.script import Script
from bench.world import SPEC, environment_for
from tests.support.stack import RealAirflow

FEW = 12
SECONDS = 20.0
MANY = 500
MANY_SECONDS = 30.0
NAMES = ("provider", "deferrable", "triggerer-mode")

# Each Dag has its own file: Airflow 3.3.2 parses the file of a task that ends in the triggerer, in case it has callbacks.
DAG = """
from airflow.sdk import DAG
from airflow_adf_mi.operators import AdfRunPipelineOperator as Ours
from airflow.providers.microsoft.azure.operators.data_factory import AzureDataFactoryRunPipelineOperator as Theirs

theirs = dict(azure_data_factory_conn_id="adf_bench", resource_group_name="rg-emulator", factory_name="adf-bench")
ours = dict(azure_data_factory_conn_id="adf_ours")
kinds = {{
    "provider": (Theirs, dict(deferrable=True, **theirs)),
    "deferrable": (Ours, dict(deferrable=True, **ours)),
    "triggerer-mode": (Ours, dict(start_from_trigger=True, **ours)),
}}
operator, arguments = kinds["{name}"]
with DAG("{name}-{count}", schedule=None, max_active_tasks=1000):
    for n in range({count}):
        operator(task_id=f"it{{n}}", pipeline_name="Load", check_interval={interval}, **arguments)
"""


@dataclass(frozen=True)
class EndToEnd:
    """The results of a Dag run of several tasks."""

    cpu_a_task: float
    wall: float


@dataclass(frozen=True)
class Burst:
    """The results of a Dag run of many tasks in triggerer mode."""

    wall: float
    throttled: int
    runs: int
    not_succeeded: int
    latest_heartbeat: float


@contextmanager
def running() -> Iterator[Stack]:
    """An Airflow with these Dags, each of which has run once."""
    folder = Path(tempfile.mkdtemp(prefix="adf-bench-"))
    folder.chmod(0o755)
    (folder / "dags").mkdir()
    for name, count, interval in [*((name, n, 5) for name in NAMES for n in (1, FEW)), ("triggerer-mode", MANY, 10)]:
        text = DAG.format(name=name, count=count, interval=interval)
        (folder / "dags" / f"bench_{name}_{count}.py").write_text(text)
    try:
        with Emulator(SPEC) as emulator:
            environment = {
                **environment_for(emulator),
                "AIRFLOW__CORE__PARALLELISM": "32",
                "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": "1000",
                # The measurement leaves out parsing.
                "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3600",
                "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "3600",
            }
            airflow = RealAirflow(folder / "airflow", folder / "dags", environment, postgres=True)
            with airflow:
                stack = Stack(airflow, emulator)
                for name in NAMES:
                    stack.run(f"{name}-1", 1, 2.0)
                yield stack
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Stack:
    """Dag runs on an Airflow that has already run each Dag."""

    def __init__(self, airflow: RealAirflow, emulator: Emulator) -> None:
        self._airflow = airflow
        self._emulator = emulator

    def few(self, name: str, times: int) -> EndToEnd:
        """Medians of some Dag runs of `FEW` tasks."""
        idle = self._idle()
        found = []
        for _ in range(times):
            cpu, wall = self.run(f"{name}-{FEW}", FEW, SECONDS)
            found.append((max(0.0, cpu - idle * wall) / FEW, wall))
        return EndToEnd(median(cpu for cpu, _ in found), median(wall for _, wall in found))

    def many(self) -> Burst:
        """One Dag run of `MANY` tasks in triggerer mode, with the service's limits enforced."""
        state = self._emulator.state()
        before = len(state.runs)
        refused = self._throttled()
        self._emulator.limits.enforced = True
        beats: list[float] = []
        try:
            _, wall = self.run(f"triggerer-mode-{MANY}", MANY, MANY_SECONDS, beats=beats, patience=600)
        finally:
            self._emulator.limits.enforced = False
        return Burst(
            wall=wall,
            throttled=self._throttled() - refused,
            runs=len(state.runs) - before,
            not_succeeded=sum(run.status != "Succeeded" for run in state.runs.values()),
            latest_heartbeat=max(beats, default=0.0),
        )

    def run(
        self, dag_id: str, count: int, seconds: float, *, beats: list[float] | None = None, patience: float = 240
    ) -> tuple[float, float]:
        """(CPU seconds of all of Airflow's processes, seconds until all tasks had ended) of one Dag run."""
        script = {"pipelines": {"Load": {"queued_seconds": 0}}, "activities": {"Load/Copy": {"seconds": seconds}}}
        self._emulator.set_script(Script.from_json(script))
        before, began = self._cpu(), time.monotonic()
        run_id = self._airflow.trigger(dag_id)
        end = began + patience
        while self._airflow.state(dag_id, run_id) not in ("success", "failed"):
            if time.monotonic() > end:
                raise TimeoutError(f"{dag_id} did not end in {patience:.0f} s")
            if beats is not None:
                beats.append(self._age_of_heartbeat())
            time.sleep(0.5)
        wall = time.monotonic() - began
        bad = [ti for ti in self._airflow.task_instances(dag_id, run_id) if ti["state"] != "success"]
        if bad:
            raise RuntimeError(f"{dag_id}: {len(bad)} of {count} tasks did not succeed; see {self._airflow.home}")
        # A child process that has ended is counted once its parent has noticed.
        time.sleep(2)
        return self._cpu() - before, wall

    def _idle(self) -> float:
        """CPU seconds a second of an idle Airflow."""
        before, began = self._cpu(), time.monotonic()
        time.sleep(20)
        return (self._cpu() - before) / (time.monotonic() - began)

    def _cpu(self) -> float:
        """CPU seconds of all processes, with those of their children that have ended."""
        used = 0.0
        for process in self._airflow.processes.values():
            parent = psutil.Process(process.pid)
            for each in [parent, *parent.children(recursive=True)]:
                try:
                    times = each.cpu_times()
                except psutil.NoSuchProcess:
                    continue
                used += times.user + times.system + times.children_user + times.children_system
        return used

    def _age_of_heartbeat(self) -> float:
        health = self._airflow.ask("GET", "/api/v2/monitor/health").json()
        at = datetime.fromisoformat(health["triggerer"]["latest_triggerer_heartbeat"])
        return (datetime.now(UTC) - at).total_seconds()

    def _throttled(self) -> int:
        return len(self._emulator.books.of("createRun", status=429))

"""The processes of the chaos suite: two emulators and one Airflow, and actions that affect all of Airflow."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow_adf_mi.emulator import Emulator, FactorySpec
from airflow_adf_mi.emulator.identity.tokens import SYSTEM_ASSIGNED, USER_ASSIGNED, ManagedIdentity
from airflow_adf_mi.emulator.pipelines.script import Script
from airflow_adf_mi.emulator.service.state import Switches
from tests.chaos.board import Board
from tests.chaos.row import CORRELATION, Row, dag_spec
from tests.conftest import activity, factory_of
from tests.support.stack import RealAirflow

HERE = Path(__file__).parent
SILENT_SECONDS = 60.0
"""Airflow calls its scheduler unhealthy after 30 s without a heartbeat. On a busy machine, that may pass by itself."""
PLAIN_FILE, OWN_FILE = "rows", "row_"
SETTINGS = {
    "core__parallelism": "40",
    "core__max_active_tasks_per_dag": "1000",
    "dag_processor__min_file_process_interval": "30",
    "scheduler__task_instance_heartbeat_timeout": "20",
    "scheduler__task_instance_heartbeat_timeout_detection_interval": "5",
    "scheduler__max_tis_per_query": "64",
    "triggerer__job_heartbeat_sec": "2",
    "triggerer__triggerer_health_check_threshold": "15",
    "logging__logging_level": "INFO",
}


@dataclass(frozen=True, kw_only=True)
class Guests:
    """What other tests add to a world that they share with the cases."""

    factories: Sequence[FactorySpec] = ()
    script: Mapping[str, Any] = field(default_factory=dict)
    dags: Mapping[str, Path] = field(default_factory=dict)
    """Folders of Dag files, by name."""
    connections: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Fields of connections to the emulator, by connection id."""


class World:
    """Everything that cases share.

    :param rows: the cases that will run, for which Dags, pipelines, factories and identities are made.
    :param guests: what other tests add that use the same processes.
    """

    def __init__(self, home: Path, rows: Sequence[Row], *, postgres: bool = True, guests: Guests | None = None) -> None:
        guests = guests or Guests()
        self.rows = list(rows)
        self._dags = home / "dags"
        self._dags.mkdir(parents=True)
        self.import_block = home / "import-block"
        self._identities = {row.name: _identity(number) for number, row in enumerate(rows) if row.own_identity}
        identities = [SYSTEM_ASSIGNED, USER_ASSIGNED, *self._identities.values()]
        first, second = ([row for row in rows if row.own_port is own] for own in (False, True))
        specs = [*guests.factories, *_factories(first)]
        self.emulator = Emulator(*specs, script=_script(first, guests.script), identities=identities)
        self.second = Emulator(
            *_factories(second), script=_script(second, {}), identities=identities, tokens=self.emulator.tokens
        )
        for row in rows:
            self.emulator_of(row).state(row.name).switches = Switches(**row.switches)
        self._home = home
        self._postgres = postgres
        self._guests = guests
        self._numbers = itertools.count(2)
        self._ask_health_at = 0.0
        self._healthy_at = float("inf")
        self.is_over = False

    @contextmanager
    def running(self) -> Iterator[None]:
        self._write_dags()
        with self.emulator, self.second:
            environment = self._environment()
            airflow = RealAirflow(self._home / "airflow", self._dags, environment, postgres=self._postgres)
            airflow.process_environment["triggerer"] = {
                "PYTHONPATH": os.pathsep.join([str(HERE / "import_block"), str(HERE.parent.parent)]),
                "ADF_CHAOS_IMPORT_BLOCK": str(self.import_block),
            }
            self.airflow = airflow
            self.board = Board(airflow.database_url)
            try:
                with airflow, self.board:
                    yield
            finally:
                # Threads of cases that still wait must end.
                self.is_over = True

    def emulator_of(self, row: Row) -> Emulator:
        return self.second if row.own_port else self.emulator

    def identity(self, row: Row) -> ManagedIdentity:
        return self._identities[row.name]

    def _write_dags(self) -> None:
        """Write one file for most rows, because Airflow starts a process for each file, and one for each edited row."""
        own = [row for row in self.rows if row.is_edited]
        self._write(PLAIN_FILE, [row for row in self.rows if row not in own], {})
        for row in own:
            self._write(OWN_FILE + row.name, [row], {})
        for name, folder in self._guests.dags.items():
            shutil.copytree(folder, self._dags / name, ignore=shutil.ignore_patterns("__pycache__"))

    def edit(self, row: Row, arguments: Mapping[str, Any]) -> None:
        """Write the row's Dag file again. Returns once Airflow has parsed it."""
        before = self._dag_version(row)
        self._write(OWN_FILE + row.name, [row], arguments)
        self.airflow.wait_until(lambda: self._dag_version(row) != before, f"{row.dag_id} to be parsed again", 90)

    def _write(self, name: str, rows: Sequence[Row], arguments: Mapping[str, Any]) -> None:
        specs = [dag_spec(row) for row in rows]
        for spec in specs:
            spec["task"] |= arguments
        (self._dags / f"{name}.json").write_text(json.dumps(specs))
        shutil.copyfile(HERE / "dag_file.py", self._dags / f"{name}.py")

    def _dag_version(self, row: Row) -> Any:
        answer = self.airflow.ask("GET", f"/api/v2/dags/{row.dag_id}")
        return answer.json().get("last_parsed_time")

    def _environment(self) -> dict[str, str]:
        extras: dict[str, dict[str, str]] = {}
        for row in self.rows:
            fields = {"managed_identity_client_id": self.identity(row).client_id} if row.own_identity else {}
            extras[row.conn_id] = self.emulator_of(row).connection_extra(**fields)
        for conn_id, guest in self._guests.connections.items():
            extras[conn_id] = self.emulator.connection_extra(**guest)
        connections = {
            f"AIRFLOW_CONN_{name.upper()}": json.dumps({"conn_type": "azure_data_factory_mi", "extra": extra})
            for name, extra in extras.items()
        }
        settings = {f"AIRFLOW__{name.upper()}": value for name, value in SETTINGS.items()}
        return {**self.emulator.identity_environment("imds"), **connections, **settings}

    def make_extra_task_fail(self, row: Row) -> None:
        (self._dags / f"{row.dag_id}.fail").touch()

    def make_extra_task_end(self, row: Row) -> None:
        (self._dags / f"{row.dag_id}.end").touch()

    # Actions on Airflow's processes. Call them in the main thread, because processes end with the thread that started them.

    def triggerer(self) -> str:
        """The name of the running triggerer."""
        (name,) = [name for name in self.airflow.processes if name.startswith("triggerer")]
        return name

    def keep_scheduler(self) -> None:
        """Start the scheduler again if it has ended by itself, or schedules nothing any more, as a deployment does.

        Airflow 3.1.8's scheduler ends with a StaleDataError if a Dag run is deleted, or its Dag edited, at a bad moment. Before
        its process ends, it waits for the tasks of its workers, perhaps for half an hour.
        """
        scheduler = self.airflow.processes["scheduler"]
        try:
            scheduler.check()
            if not self._is_silent():
                return
            why = f"It has sent no heartbeat for {SILENT_SECONDS:.0f} s."
        except RuntimeError as e:
            why = str(e).splitlines()[0]
        print(f"Airflow's scheduler is started again. {why}", flush=True)
        # Its workers end with it.
        scheduler.kill()
        self.airflow.start_process("scheduler", "--skip-serve-logs")

    def _is_silent(self) -> bool:
        """Whether the scheduler has been unhealthy for `SILENT_SECONDS`. Asks Airflow every few seconds."""
        now = time.monotonic()
        if now >= self._ask_health_at:
            self._ask_health_at = now + 5
            if self.airflow.are_healthy("scheduler"):
                self._healthy_at = now
        is_silent = now - self._healthy_at > SILENT_SECONDS
        if is_silent:
            self._healthy_at = now
        return is_silent

    def kill_triggerer(self, name: str) -> None:
        """Kill supervisor and runner at once, without any notification."""
        self.airflow.processes.pop(name).kill()

    def start_triggerer(self) -> None:
        self.airflow.start_process("triggerer", "--skip-serve-logs", name=f"triggerer-{next(self._numbers)}")


def _factories(rows: Sequence[Row]) -> list[FactorySpec]:
    """A factory for each row, and a default one. All pipelines declare the correlation parameter, and a number."""
    names = [row.name for row in rows]
    pipeline = {
        "activities": [activity("Copy")],
        "parameters": {CORRELATION: {"type": "string", "defaultValue": ""}, "rows": {"type": "int", "defaultValue": 0}},
    }
    return [
        # A row may publish another definition of its own pipeline.
        FactorySpec(source=factory_of(**{name: deepcopy(pipeline)}), factory_name=name)
        for name in ["adf-default", *names]
    ]


def _script(rows: Sequence[Row], guests: Mapping[str, Any]) -> Script:
    pipelines = {row.name: {"queued_seconds": 0.2, "cancel_seconds": 1, **row.script} for row in rows}
    activities = {f"{row.name}/Copy": {"seconds": row.seconds} for row in rows}
    first_runs = [
        {"pipeline": row.name, "times": 1, "activities": {"Copy": dict(first)}} for row in rows for first in row.first
    ]
    document: dict[str, Any] = {
        **guests,
        "pipelines": {**guests.get("pipelines", {}), **pipelines},
        "activities": {**guests.get("activities", {}), **activities},
        "runs": [*guests.get("runs", []), *first_runs],
    }
    return Script.from_json(document)


def _identity(number: int) -> ManagedIdentity:
    return ManagedIdentity(
        client_id=f"00000000-0000-4000-8000-0000000d{number:04d}",
        object_id=str(uuid.uuid4()),
        resource_id=f"{SYSTEM_ASSIGNED.resource_id}-{number}",
    )

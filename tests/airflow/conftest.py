"""One emulator and one real Airflow for all tests of this folder, which run side by side on them."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from airflow_adf_mi.emulator import Emulator, FactorySpec
from airflow_adf_mi.emulator.runs import Run
from airflow_adf_mi.emulator.script import Script
from airflow_adf_mi.emulator.tokens import USER_ASSIGNED
from tests.conftest import activity, factory_of
from tests.examples import DAGS, FACTORY, SCRIPT
from tests.stack import RealAirflow

# A pipeline of its own for each case, so that faults and runs are told apart: name -> seconds that a run takes.
SECONDS = {
    "faults_429": 15,
    "faults_503": 15,
    "faults_drop": 15,
    "faults_404": 15,
    "faults_401": 15,
    "faults_403": 15,
    "blocking_faults": 15,
    "one_404": 8,
    "failing": 3,
    "failing_blocking": 3,
    "identity": 5,
    "lost_answer": 5,
    "sensed": 10,
    "sensed_failing": 5,
    "mapped": 5,
}
LONG = 1800.0


@dataclass
class World:
    """The emulator, the Airflow that talks to it, and the Dag runs that were started."""

    emulator: Emulator
    airflow: RealAirflow
    started: dict[str, tuple[str, str]] = field(default_factory=dict)

    def start(self, name: str, case: str, pipeline: str = "", run_id: str = "") -> tuple[str, str]:
        """Start a Dag run of a case; its Dag id and run id."""
        dag_id = f"case_{case}"
        conf = {"pipeline": pipeline, "run_id": run_id}
        self.started[name] = dag_id, self.airflow.trigger(dag_id, conf=conf)
        return self.started[name]

    def runs(self, pipeline: str) -> list[Run]:
        """The emulator's runs of a pipeline."""

        def look() -> list[Run]:
            factory = self.emulator.state("adf-test")
            factory.settle()
            return [run for run in factory.runs.values() if run.pipeline == pipeline]

        return self.emulator.call(look)

    def run(self, pipeline: str) -> Run:
        """The pipeline's only run."""
        (run,) = self.runs(pipeline)
        return run

    def start_outside(self, pipeline: str) -> str:
        """A run that no task of Airflow started."""
        key = str(uuid.uuid4())
        return self.emulator.call(
            lambda: self.emulator.state("adf-test").create_run(pipeline, None, client_request_id=key)
        )


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    script = json.loads(SCRIPT.read_text())
    script["activities"] |= {f"{name}/Copy": {"seconds": seconds} for name, seconds in SECONDS.items()}
    for name in ("failing", "failing_blocking", "sensed_failing"):
        script["activities"][f"{name}/Copy"] |= {"outcome": "Failed", "error": {"message": "no such table: sales"}}
    long = [f"long_{name}" for name in LONG_CASES]
    script["activities"] |= {f"{name}/Copy": {"seconds": LONG} for name in long}
    cases = factory_of(**{name: [activity("Copy")] for name in [*SECONDS, *long]})
    specs = [FactorySpec(source=FACTORY), FactorySpec(source=cases, factory_name="adf-test")]
    home = tmp_path_factory.mktemp("airflow")
    dags = home / "dags"
    shutil.copytree(DAGS, dags / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(Path(__file__).parent / "dags", dags / "cases", ignore=shutil.ignore_patterns("__pycache__"))
    with Emulator(*specs, script=Script.from_json(script)) as emulator:
        test = emulator.connection_extra(factory_name="adf-test")
        connections = {
            "AZURE_DATA_FACTORY_DEFAULT": emulator.connection_extra(),
            "ADF_TEST": test,
            "ADF_IDENTITY": test | {"managed_identity_client_id": USER_ASSIGNED.client_id},
        }
        environment = {
            **emulator.identity_environment("imds"),
            **{f"AIRFLOW_CONN_{name}": _connection(extra) for name, extra in connections.items()},
        }
        with RealAirflow(home / "home", dags, environment, postgres=True) as airflow:
            yield World(emulator, airflow)
        assert [fault for fault in emulator.faults.unconsumed() if fault.operation != "getRun"] == []


LONG_CASES = (
    "marked_failed",
    "marked_success",
    "marked_keep",
    "marked_blocking",
    "marked_sensor",
    "timeout_deferrable",
    "timeout_blocking",
    "timeout_deferrable_keep",
    "timeout_blocking_keep",
    "sensor_timeout",
    "link",
    "no_wait",
)


def _connection(extra: dict[str, Any]) -> str:
    return json.dumps({"conn_type": "azure_data_factory_mi", "extra": extra})

"""One emulator and one real Airflow for all tests of this folder. Their Dag runs run in parallel."""

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
from airflow_adf_mi.emulator.identity.tokens import SYSTEM_ASSIGNED, USER_ASSIGNED, ManagedIdentity
from airflow_adf_mi.emulator.pipelines.runs import Run
from airflow_adf_mi.emulator.pipelines.script import Script
from tests.conftest import activity, factory_of
from tests.support import explained
from tests.support.examples import DAGS, FACTORY, SCRIPT
from tests.support.stack import RealAirflow

LEAST_SECONDS = 12
"""Seconds that an activity lasts at least. Airflow can fail a try that resumes before the scheduler has handled the executor's
event of its deferral (seen on 3.2.2 and 3.3.2). On a busy machine, LocalExecutor needs some seconds for that."""
# Each case has its own pipeline, so that faults and runs are distinguished: name -> seconds that a run takes.
SECONDS = {
    "blocking_faults": 15,
    "one_404": 15,
    "failing": LEAST_SECONDS,
    "failing_blocking": LEAST_SECONDS,
    "identity": LEAST_SECONDS,
    "lost_answer": 15,
    # These last longer, because they begin before their sensors.
    "sensed": 45,
    "sensed_failing": 45,
    "mapped": LEAST_SECONDS,
    "required": LEAST_SECONDS,
    "required_mapped": LEAST_SECONDS,
}
LONG = 1800.0
RECIPES = ("RecipeByVariable", "RecipeInADagRunOfItsOwn")
"""Pipelines whose second activity fails once."""


@dataclass
class World:
    """The emulator, the Airflow that talks to it, and the Dag runs that were started."""

    emulator: Emulator
    airflow: RealAirflow
    started: dict[str, tuple[str, str]] = field(default_factory=dict)
    explained: dict[str, tuple[str, str]] = field(default_factory=dict)
    outside: dict[str, str] = field(default_factory=dict)
    """Runs that no task of Airflow started, by case."""

    def start(self, name: str, case: str, pipeline: str = "", run_id: str = "") -> tuple[str, str]:
        """Start a Dag run of a case. Returns its Dag id and run id."""
        dag_id = f"case_{case}"
        conf = {"pipeline": pipeline, "run_id": run_id}
        self.started[name] = dag_id, self.airflow.trigger(dag_id, conf=conf)
        return self.started[name]

    def explain(self, name: str, case: str, pipeline: str, connection: str = "adf_test") -> None:
        """Start a Dag run of `dags/explained.py`."""
        dag_id = f"explained_{case}"
        conf = {"pipeline": pipeline, "connection": connection}
        self.explained[name] = dag_id, self.airflow.trigger(dag_id, conf=conf)

    def runs(self, pipeline: str) -> list[Run]:
        """The emulator's runs of a pipeline."""

        def read() -> list[Run]:
            factory = self.emulator.state("adf-test")
            factory.settle()
            return [run for run in factory.runs.values() if run.pipeline == pipeline]

        return self.emulator.call(read)

    def run(self, pipeline: str) -> Run:
        """The pipeline's only run."""
        (run,) = self.runs(pipeline)
        return run

    def start_outside(self, pipeline: str) -> str:
        """Start a run outside of Airflow. Returns its id."""
        key = str(uuid.uuid4())
        return self.emulator.call(
            lambda: self.emulator.state("adf-test").create_run(pipeline, None, client_request_id=key)
        )


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    script = json.loads(SCRIPT.read_text())
    script["defaults"]["seconds"] = LEAST_SECONDS
    for entry in script["activities"].values():
        entry["seconds"] = max(entry["seconds"], LEAST_SECONDS)
    script["activities"] |= {f"{name}/Copy": {"seconds": seconds} for name, seconds in SECONDS.items()}
    for name in ("failing", "failing_blocking", "sensed_failing"):
        script["activities"][f"{name}/Copy"] |= {"outcome": "Failed", "error": {"message": "no such table: sales"}}
    long = [f"long_{name}" for name in LONG_CASES]
    script["activities"] |= {f"{name}/Copy": {"seconds": LONG} for name in long}
    recipes = {name: [activity("Extract"), activity("Load", "Copy", "Extract")] for name in RECIPES}
    failing = {"Load": {"seconds": LEAST_SECONDS, "outcome": "Failed", "error": {"message": "no such table: sales"}}}
    script["runs"] += [{"pipeline": name, "times": 1, "activities": failing} for name in RECIPES]
    cases = factory_of(**{name: [activity("Copy")] for name in [*SECONDS, *long]}, **recipes, **explained.PIPELINES)
    script["activities"] |= {name: {"seconds": LEAST_SECONDS, **entry} for name, entry in explained.ACTIVITIES.items()}
    specs = [FactorySpec(source=FACTORY), FactorySpec(source=cases, factory_name="adf-test")]
    home = tmp_path_factory.mktemp("airflow")
    dags = home / "dags"
    shutil.copytree(DAGS, dags / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(Path(__file__).parent / "dags", dags / "cases", ignore=shutil.ignore_patterns("__pycache__"))
    identities = (SYSTEM_ASSIGNED, USER_ASSIGNED, *WITHOUT.values())
    with Emulator(*specs, script=Script.from_json(script), identities=identities) as emulator:
        emulator.tokens.denied = {identity.client_id: {action} for action, identity in WITHOUT.items()}
        test = emulator.connection_extra(factory_name="adf-test")
        connections = {
            "AZURE_DATA_FACTORY_DEFAULT": emulator.connection_extra(),
            "ADF_TEST": test,
            "ADF_IDENTITY": test | {"managed_identity_client_id": USER_ASSIGNED.client_id},
            "ADF_TYPO": test | {"factory_name": "adf-tset"},
            "ADF_UNASSIGNED": test | {"managed_identity_client_id": "00000000-0000-4000-8000-00000000c0ff"},
            **{
                f"ADF_WITHOUT_{number}": test | {"managed_identity_client_id": identity.client_id}
                for number, identity in enumerate(WITHOUT.values())
            },
        }
        environment = {
            **emulator.identity_environment("imds"),
            **{f"AIRFLOW_CONN_{name}": _connection(extra) for name, extra in connections.items()},
        }
        with RealAirflow(home / "home", dags, environment, postgres=True) as airflow:
            made = World(emulator, airflow)
            start_slow_cases(made)
            yield made
        assert [fault for fault in emulator.faults.unconsumed() if fault.operation != "getRun"] == []


def _identity(number: int) -> ManagedIdentity:
    return ManagedIdentity(
        client_id=f"00000000-0000-4000-8000-0000000ac{number:03}",
        object_id=f"00000000-0000-4000-8000-0000000ab{number:03}",
        resource_id=USER_ASSIGNED.resource_id + str(number),
    )


WITHOUT = {
    action: _identity(number)
    for number, action in enumerate(
        (
            "pipelines/createrun/action",
            "pipelineruns/read",
            "pipelineruns/cancel/action",
            "pipelineruns/queryactivityruns/action",
            "querypipelineruns/action",
            "nothing",
        )
    )
}
"""Identities that each lack one permission. The last one gets no token."""


def connection_without(action: str) -> str:
    """The id of the connection whose identity lacks this permission."""
    return f"adf_without_{list(WITHOUT).index(action)}"


EXPLAINED_MODES = ("blocking", "deferrable", "triggerer_mode")
STARTED_IN = ("blocking", "triggerer_mode")
"""A run is started on a worker (deferrable or not) or in the triggerer."""
RETRY_AFTER = {"Retry-After": "7"}


def start_slow_cases(world: World) -> None:
    """Start the cases that fail after five minutes, while all other tests run."""
    emulator = world.emulator
    emulator.add_fault(
        "createRun", pipeline="ExplainThrottled", times=None, status=429, code="TooManyRequests", headers=RETRY_AFTER
    )
    # The request never arrives, and the identity must not search for its run.
    emulator.add_fault("createRun", pipeline="ExplainFind", times=len(STARTED_IN), drop=True)
    no_token = WITHOUT["nothing"].client_id
    emulator.add_fault("token", identity=no_token, times=None, status=503)
    for mode in STARTED_IN:
        world.explain(f"throttled_start_{mode}", mode, "ExplainThrottled")
        find, nothing = connection_without("querypipelineruns/action"), connection_without("nothing")
        world.explain(f"missing_role_to_find_{mode}", mode, "ExplainFind", find)
        world.explain(f"identity_endpoint_down_{mode}", mode, "ExplainCopy", nothing)
    for mode in EXPLAINED_MODES:
        read, cancel = connection_without("pipelineruns/read"), connection_without("pipelineruns/cancel/action")
        world.explain(f"missing_role_to_watch_{mode}", mode, "ExplainSlow", read)
        world.explain(f"missing_role_to_cancel_{mode}", f"{mode}_timeout", "ExplainSlow", cancel)


@pytest.fixture(scope="session")
def explaining(world: World) -> World:
    """All other failures, started in parallel."""
    for mode in EXPLAINED_MODES:
        camel = camel_of(mode)
        world.explain(f"timeout_{mode}", f"{mode}_timeout", "ExplainSlow")
        world.explain(f"cancelled_outside_{mode}", mode, f"ExplainCancelled{camel}")
        world.explain(f"failed_copy_{mode}", mode, "ExplainCopy")
        world.explain(f"failed_child_of_a_child_{mode}", mode, "ExplainParent")
        world.explain(f"failed_iteration_{mode}", mode, "ExplainLoop")
        explain = connection_without("pipelineruns/queryactivityruns/action")
        world.explain(f"missing_role_to_explain_{mode}", mode, "ExplainGrandchild", explain)
        world.explain(f"outputs_{mode}", f"{mode}_outputs", "ExplainOutputs")
        world.explain(f"policy_user_{mode}", f"{mode}_policy", f"ExplainUser{camel}")
        world.explain(f"policy_system_{mode}", f"{mode}_policy", f"ExplainSystem{camel}")
    for mode in STARTED_IN:
        world.explain(
            f"missing_role_to_start_{mode}", mode, "ExplainCopy", connection_without("pipelines/createrun/action")
        )
        world.explain(f"wrong_factory_{mode}", mode, "ExplainCopy", "adf_typo")
        world.explain(f"misspelt_pipeline_{mode}", mode, "ExplianCopy")
        world.explain(f"unassigned_identity_{mode}", mode, "ExplainCopy", "adf_unassigned")
    return world


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


def camel_of(mode: str) -> str:
    """The form of a mode in the names of pipelines."""
    return mode.title().replace("_", "")


def _connection(extra: dict[str, Any]) -> str:
    return json.dumps({"conn_type": "azure_data_factory_mi", "extra": extra})

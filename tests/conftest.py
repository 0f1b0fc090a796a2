"""Fixtures for all tests: an emulator for each test, settings that point to it, and a reference folder if there is one."""

from __future__ import annotations

import gc
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from airflow_adf_mi.adf.auth.credential import forget_credentials
from airflow_adf_mi.adf.config.settings import AdfSettings
from airflow_adf_mi.adf.connection_fields import settings_from_connection
from airflow_adf_mi.emulator import Emulator, FactorySpec
from airflow_adf_mi.emulator.gateway.faults import Fault
from airflow_adf_mi.emulator.pipelines.definitions import FactoryDefinition, PipelineDefinition
from airflow_adf_mi.emulator.pipelines.script import Script
from tests.support.processes import raise_on_signals

ROOT = Path(__file__).parent.parent

# Before anything imports Airflow. Settings of an Airflow on this machine do not apply, and each process of pytest-xdist has its
# own home, because Airflow writes a configuration file there.
for _name in list(os.environ):
    if _name.startswith(("AIRFLOW__", "AIRFLOW_CONN_", "AIRFLOW_VAR_")):
        del os.environ[_name]
os.environ["AIRFLOW_HOME"] = str(ROOT / ".airflow" / os.environ.get("PYTEST_XDIST_WORKER", "main"))
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
# The tests' servers are on the loopback interface, and need no proxy.
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"

# The same examples on every machine and every day, however slow it is. `make explore` searches for others.
_profile = partial(
    hypothesis.settings.register_profile,
    database=None,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
_profile("fixed", derandomize=True)
_profile("explore", derandomize=False)
hypothesis.settings.load_profile("fixed")

# Modules whose tests are all about a feature that an older Airflow lacks.
_OF_FEATURES = {
    "RETRY_POLICIES": ["unit/test_retry.py"],
    # `make bench` needs the newest Airflow. The page "Move from the Azure provider" is about the newest provider.
    "TASK_STATE_STORE": ["integration/test_bench.py", "contract/test_moving_over.py"],
    "TEMPLATED_TRIGGERS": [
        "integration/_airflow/test_stats.py",
        "integration/_triggerer/test_eligibility.py",
        "integration/_worker/test_resumed_attempt.py",
        "integration/triggers/test_start_and_wait.py",
    ],
}

# Modules whose tests read the sources of the package. `make matrix` has only the installed package.
_OF_SOURCES = ("test_distributed_page.py", "test_docs_site.py", "test_layout.py", "test_prose.py", "test_tables.py")

_IDENTITY_PREFIXES = ("AZURE_", "MSI_", "IDENTITY_", "IMDS_")


def pytest_configure() -> None:
    """SIGTERM, and SIGINT even in a script's background job, end the tests like Ctrl-C: fixtures stop what they started."""
    raise_on_signals()


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave out modules whose feature this Airflow lacks, or whose sources are not there. They could not even be imported."""
    from airflow_adf_mi._airflow import features

    if collection_path.name in _OF_SOURCES and not (ROOT / "airflow_adf_mi").exists():
        return True
    path = (
        collection_path.relative_to(ROOT / "tests").as_posix() if collection_path.is_relative_to(ROOT / "tests") else ""
    )
    needed = [name for name, paths in _OF_FEATURES.items() if path in paths]
    return True if any(not getattr(features, name) for name in needed) else None


@pytest.fixture(autouse=True)
def garbage_kept_until_the_end() -> Iterator[None]:
    """Python collects no garbage inside a test, but between tests.

    Some tests nest values until Python's limit. A finalizer that ran down there would fail, and would leave a socket open.
    """
    gc.disable()
    yield
    gc.enable()


@pytest.fixture(autouse=True)
def nothing_kept() -> None:
    """No test knows the pipelines and runs of another test."""
    from airflow_adf_mi.adf.api.shown_runs import forget_shown_runs
    from airflow_adf_mi.adf.starting.published_pipeline import forget_definitions

    forget_definitions()
    forget_shown_runs()


def reference(folder: str) -> Path:
    """A folder of reference material beside the checkout, or above it; the test is skipped where it is missing."""
    for parent in ROOT.parents:
        path = parent / "shared" / "reference" / folder
        if path.is_dir():
            return path
    pytest.skip(f"no reference material ({folder}) beside the checkout")


def factory_of(**pipelines: list[dict[str, Any]] | dict[str, Any]) -> FactoryDefinition:
    """A factory whose pipelines are given by their activities, or by all their properties."""
    definitions = {}
    for name, given in pipelines.items():
        properties = {"activities": given} if isinstance(given, list) else given
        definitions[name] = PipelineDefinition(name, properties)
    return FactoryDefinition(pipelines=definitions)


def activity(name: str, kind: str = "Copy", *after: str, **properties: Any) -> dict[str, Any]:
    """An activity that runs once those in `after` have succeeded ("name:Failed" for another condition)."""
    dependencies = [[*entry.split(":"), "Succeeded"][:2] for entry in after]
    return {
        "name": name,
        "type": kind,
        "dependsOn": [{"activity": a, "dependencyConditions": [c]} for a, c in dependencies],
        "typeProperties": properties,
    }


SAMPLE = factory_of(
    **{
        name: {
            "activities": [activity("Copy")],
            "parameters": {"day": {"type": "string", "defaultValue": "2026-01-01"}},
        }
        for name in ("Load", "Broken", "Slow", "Other")
    }
)
SAMPLE_SCRIPT: Mapping[str, Any] = {
    "defaults": {"seconds": 0.1},
    "pipelines": {name: {"queued_seconds": 0.05, "cancel_seconds": 0.1} for name in SAMPLE.pipelines},
    "activities": {
        "Broken/Copy": {"outcome": "Failed", "error": {"errorCode": "2200", "message": "no such table"}},
        "Slow/Copy": {"seconds": 3600},
    },
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if unstable := [item.nodeid for item in items if " at 0x" in item.nodeid]:
        raise pytest.UsageError(f"Names of tests with an address, which differs in each process: {unstable}")
    for item in items:
        if item.get_closest_marker("airflow"):
            # They wait for real processes, which takes long on a busy machine.
            item.add_marker(pytest.mark.timeout(900))


@pytest.fixture(autouse=True)
def _clean_identity_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A test sees no identity of the machine that runs it, and none of an earlier test."""
    for name in list(os.environ):
        if name.startswith(_IDENTITY_PREFIXES):
            monkeypatch.delenv(name)
    forget_credentials()  # otherwise they stay after a test and its emulator
    yield
    forget_credentials()


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """An emulator for this test, with the identities of its machine; every scripted fault must be used up."""
    spec = FactorySpec(source=SAMPLE, factory_name="adf-test", resource_group_name="rg-test")
    with Emulator(spec, script=Script.from_json(SAMPLE_SCRIPT)) as running:
        for name, value in running.identity_environment("imds").items():
            monkeypatch.setenv(name, value)
        yield running
        assert unused_faults(running) == []


def unused_faults(emulator: Emulator) -> list[Fault]:
    """The faults that no request has met. On a busy machine, a client may give up before its request is read, so wait a bit."""
    until = time.monotonic() + 10
    while (left := emulator.call(emulator.faults.unconsumed)) and time.monotonic() < until:
        time.sleep(0.02)
    return left


@pytest.fixture
def make_settings(emulator: Emulator) -> Callable[..., AdfSettings]:
    """Settings of a connection to the emulator, with further fields."""

    def make(**fields: str) -> AdfSettings:
        extra = json.dumps(emulator.connection_extra(**fields))
        return settings_from_connection(conn_id="test", conn_type="azure_data_factory_mi", extra=extra)

    return make


@pytest.fixture
def settings(make_settings: Callable[..., AdfSettings]) -> AdfSettings:
    return make_settings()

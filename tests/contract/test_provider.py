"""The public interface: provider info, entry point, names, imports, and the stored form of triggers."""

from __future__ import annotations

import importlib
import json
import os
import runpy
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from importlib.metadata import entry_points
from importlib.resources import files
from pathlib import Path
from typing import Any
from uuid import UUID

import jsonschema
import pytest
from airflow.sdk import DAG

import airflow_adf_mi
from airflow_adf_mi import emulator
from airflow_adf_mi._airflow.task_instance import LATE_RUN_KEY, RUN_ID_KEY
from airflow_adf_mi._triggerer.stored_start import StoredStart
from airflow_adf_mi._triggerer.xcom_journal import INTENT_KEY
from airflow_adf_mi._worker.task_journal import STATE_KEY
from airflow_adf_mi.adf.api.recovery import Recovery
from airflow_adf_mi.adf.config.settings import CHOICES, CLOUDS, AdfSettings
from airflow_adf_mi.adf.connection_fields import FIELDS
from airflow_adf_mi.adf.errors import AdfConfigurationError
from airflow_adf_mi.adf.models import ActivityRun, PipelineRun
from airflow_adf_mi.adf.reporting.outputs import RESERVED_KEYS
from airflow_adf_mi.adf.starting.intent import TaskTry
from airflow_adf_mi.operators import AdfRunPipelineOperator
from airflow_adf_mi.provider_info import get_provider_info
from airflow_adf_mi.sensors import AdfPipelineRunSensor
from airflow_adf_mi.triggers import AdfPipelineQueueTrigger, AdfPipelineRunTrigger, AdfStartPipelineTrigger
from tests.conftest import ROOT, reference
from tests.support.minors import needs

SETTINGS = AdfSettings(subscription_id="11111111-1111-4111-8111-111111111111")
WAITS = "airflow_adf_mi.triggers.AdfPipelineRunTrigger"
STARTS = "airflow_adf_mi.triggers.AdfStartPipelineTrigger"
PUBLIC_NAMES = [
    "AdfAmbiguousStartError",
    "AdfAsyncHook",
    "AdfAuthenticationError",
    "AdfCertificateError",
    "AdfConfigurationError",
    "AdfError",
    "AdfHook",
    "AdfNotFoundError",
    "AdfPermissionError",
    "AdfPipelineRunLink",
    "AdfPipelineRunSensor",
    "AdfPipelineRunTrigger",
    "AdfQueueFullError",
    "AdfRequestError",
    "AdfRetryPolicy",
    "AdfRunCancelled",
    "AdfRunError",
    "AdfRunFailed",
    "AdfRunPipelineOperator",
    "AdfRunTimedOut",
    "AdfTaskKilled",
    "AdfThrottledError",
    "AdfUnavailableError",
    "Recovery",
    "__version__",
    "forget_credentials",
    "partition_parameters",
    "window_parameters",
]
PUBLIC_NAMES_OF_THE_EMULATOR = [
    "Emulator",
    "EmulatorClient",
    "FactorySpec",
    "Fault",
    "FlowingClock",
    "ManagedIdentity",
    "ManualClock",
    "Switches",
]


def test_provider_info_is_valid_by_airflows_schema() -> None:
    schema = json.loads(files("airflow").joinpath("provider_info.schema.json").read_text())
    jsonschema.validate(get_provider_info(), schema)


def test_entry_point_is_registered() -> None:
    found = [e for e in entry_points(group="apache_airflow_provider") if e.dist and e.dist.name == "airflow-adf-mi"]
    assert [e.load() for e in found] == [get_provider_info]


def test_every_name_in_the_provider_info_exists() -> None:
    info = get_provider_info()
    modules = [
        m for kind in ("hooks", "operators", "sensors", "triggers") for e in info[kind] for m in e["python-modules"]
    ]
    for module in modules:
        importlib.import_module(module)
    names = [*info["extra-links"], *(c["hook-class-name"] for c in info["connection-types"])]
    for name in names:
        module, _, attribute = name.rpartition(".")
        assert getattr(importlib.import_module(module), attribute)


def test_form_has_exactly_the_fields_that_are_read() -> None:
    (connection,) = get_provider_info()["connection-types"]
    form = connection["conn-fields"]
    assert tuple(form) == FIELDS
    assert form["identity"]["schema"]["enum"] == list(CHOICES)
    assert form["cloud_environment"]["schema"]["enum"] == list(CLOUDS)


def test_airflow_lists_the_provider() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "airflow", "providers", "get", "airflow-adf-mi", "--full", "--output", "json"],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert "azure_data_factory_mi" in shown.stdout


def test_public_names_are_pinned() -> None:
    """Names may be added here. To remove one would break Dags."""
    assert airflow_adf_mi.__all__ == PUBLIC_NAMES
    for name in airflow_adf_mi.__all__:
        assert getattr(airflow_adf_mi, name)
    assert emulator.__all__ == PUBLIC_NAMES_OF_THE_EMULATOR
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = airflow_adf_mi.Nothing


@needs("TASK_STATE_STORE")
def test_operators_and_sensors_import_no_azure_package() -> None:
    code = """
import sys
import airflow_adf_mi.operators, airflow_adf_mi.sensors
print([m for m in sys.modules if m.split(".")[0] in ("azure", "aiohttp", "msal", "requests")])
"""
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert shown.stdout.splitlines()[-1] == "[]"


@needs("TASK_STATE_STORE")
def test_import_of_the_triggers_package_imports_no_trigger() -> None:
    code = """
import sys
import airflow_adf_mi.triggers
print([m for m in sys.modules if m.split(".")[0] in ("airflow", "azure", "aiohttp") or m.startswith("airflow_adf_mi.t")])
"""
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.splitlines() == ["['airflow_adf_mi.triggers']"]


@pytest.mark.parametrize(("path", "kind"), [(WAITS, AdfPipelineRunTrigger), (STARTS, AdfStartPipelineTrigger)])
def test_stored_paths_of_triggers_can_be_imported(path: str, kind: type) -> None:
    """Users' databases contain these paths, so they never change, even if the classes are moved."""
    module, _, name = path.rpartition(".")
    assert getattr(importlib.import_module(module), name) is kind


def test_stored_form_of_the_start_trigger_is_pinned() -> None:
    """Serialized Dags contain these, so they never change."""
    made = AdfStartPipelineTrigger(
        azure_data_factory_conn_id="adf",
        pipeline_name="Load",
        timeout=60,
        check_interval=5,
        start_settle=120,
        supersede_timeout=600,
        timeout_slack=600,
    )
    assert made.serialize() == (
        STARTS,
        {
            "azure_data_factory_conn_id": "adf",
            "pipeline_name": "Load",
            "resource_group_name": None,
            "factory_name": None,
            "parameters": None,
            "reference_pipeline_run_id": None,
            "is_recovery": None,
            "start_activity_name": None,
            "start_from_failure": None,
            "outputs": None,
            "wait_for_termination": True,
            "timeout": 60,
            "check_interval": 5,
            "cancel_on_kill": True,
            "cancel_on_timeout": True,
            "durable": True,
            "on_ambiguous_start": "fail",
            "correlation_parameter": None,
            "check_parameters": True,
            "retry_from_failure": "never",
            "on_live_run": "start",
            "on_succeeded_run": "start",
            "succeeded_within": None,
            "start_settle": 120,
            "supersede_timeout": 600,
            "activity_log": "off",
            "warn_after": None,
            "timeout_slack": 600,
            "execution_timeout": None,
            "push_result": True,
            "try_began_at": None,
        },
    )


def test_stored_form_of_the_queue_trigger_is_pinned() -> None:
    made = AdfPipelineQueueTrigger(
        settings=SETTINGS.to_json(),
        resource_group_name="rg",
        factory_name="adf",
        pipeline_name="Load",
        refused_at=1.5,
        deadline=2.5,
    )
    path, arguments = made.serialize()
    assert path == "airflow_adf_mi.triggers.AdfPipelineQueueTrigger"
    assert arguments == {
        "settings": SETTINGS.to_json(),
        "resource_group_name": "rg",
        "factory_name": "adf",
        "pipeline_name": "Load",
        "refused_at": 1.5,
        "deadline": 2.5,
    }


def test_stored_form_of_the_wait_trigger_is_pinned() -> None:
    """Deferred tasks in users' databases contain these. Arguments may only be added, with defaults."""
    made = AdfPipelineRunTrigger(
        settings=SETTINGS.to_json(),
        resource_group_name="rg",
        factory_name="adf",
        run_id="r1",
        check_interval=60,
        owns_run=True,
    )
    assert made.serialize() == (
        WAITS,
        {
            "settings": {
                "subscription_id": "11111111-1111-4111-8111-111111111111",
                "identity": {
                    "kind": "managed_identity",
                    "client_id": None,
                    "object_id": None,
                    "resource_id": None,
                    "tenant_id": None,
                },
                "cloud": "AzurePublicCloud",
                "resource_group_name": None,
                "factory_name": None,
                "ca_bundle": None,
                "arm_endpoint": "https://management.azure.com",
                "arm_scope": "https://management.azure.com/.default",
            },
            "resource_group_name": "rg",
            "factory_name": "adf",
            "run_id": "r1",
            "pipeline_name": None,
            "check_interval": 60,
            "deadline": None,
            "deadline_reason": None,
            "owns_run": True,
            "cancel_on_kill": True,
            "cancel_on_timeout": True,
            "adopted": False,
            "activity_log": "off",
            "not_ended_before": None,
            "end_task_on_success": False,
            "push_result": True,
            "warn_after": None,
            "warn_reason": None,
            "waits_since": None,
        },
    )


def test_stored_form_of_a_start_in_triggerer_mode_is_pinned() -> None:
    """No output may have the name of its key, and the key in the task state store is another one."""
    assert INTENT_KEY == "adf_intent"
    assert STATE_KEY == "airflow_adf_mi.intent"
    assert {INTENT_KEY, LATE_RUN_KEY, RUN_ID_KEY} <= RESERVED_KEYS
    stored = {
        "version": 1,
        "start_key": "e922ccfb-ef78-84b0-867c-0f02f0c0923a",
        "factory": {"subscription_id": "s", "resource_group_name": "rg", "factory_name": "adf"},
        "pipeline_name": "Load",
        "fingerprint": "f",
        "task_try": {"try_number": 1, "max_tries": 0, "clear_number": 0},
        "phase": "started",
        "sent_at": 50.0,
        "run_id": "r1",
        "service_uses_key": False,
        "previous_run_ids": ["r0"],
        "try_failed": True,
        "deadline": None,
        "not_adopted_yet": False,
        "first_refused_at": None,
        "is_foreign": False,
        "rerun_of": None,
        "run_group_id": None,
        "failed_retry": 2,
    }
    start = StoredStart.from_json(stored)
    assert start is not None
    assert start.to_json() == stored
    assert start.is_retried_by(TaskTry(try_number=3))


def test_operator_accepts_the_providers_arguments() -> None:
    """So it is enough to change the import and the class name to move over."""
    import inspect

    from airflow.providers.microsoft.azure.operators.data_factory import AzureDataFactoryRunPipelineOperator

    theirs = set(inspect.signature(AzureDataFactoryRunPipelineOperator.__init__).parameters)
    ours = set(inspect.signature(AdfRunPipelineOperator.__init__).parameters)
    assert theirs - ours <= {"self", "kwargs", "dag_id"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pipeline_name": "a/b"}, "pipeline_name"),
        ({"pipeline_name": "P", "timeout": 0}, "timeout is 0"),
        ({"pipeline_name": "P", "timeout": 1e14}, "a year"),
        ({"pipeline_name": "P", "timeout": timedelta(days=366)}, "a year"),
        ({"pipeline_name": "P", "check_interval": -1}, "check_interval is -1"),
        ({"pipeline_name": "P", "check_interval": float("nan")}, "check_interval"),
        ({"pipeline_name": "P", "parameters": ["day"]}, "must be a mapping"),
        ({"pipeline_name": "P", "parameters": {"day": UUID(int=1)}}, "parameter 'day' cannot be sent"),
        ({"pipeline_name": "P", "parameters": {"a": "{{ ds }}", "b": {1, 2}}}, "parameter 'b' cannot be sent"),
        ({"pipeline_name": "P", "parameters": {"a": [{"b": float("nan")}]}}, "parameter 'a' cannot be sent"),
        ({"pipeline_name": "P", "parameters": {7: "{{ ds }}"}}, "the name 7, which is not text"),
        (
            {"pipeline_name": "P", "activity_log": "loud"},
            "activity_log is 'loud'; it must be 'live', 'summary' or 'off'",
        ),
        (
            {"pipeline_name": "P", "warn_after": "often"},
            "warn_after is 'often'; it must be a positive number of seconds",
        ),
        ({"pipeline_name": "P", "warn_after": True}, "warn_after is True; it must be a positive number of seconds"),
        ({"pipeline_name": "P", "warn_after": 0}, "warn_after is 0; it must be a positive number of seconds"),
        ({"pipeline_name": "P", "warn_after": timedelta(days=366)}, "a year"),
        ({"pipeline_name": "P", "warn_after": 60, "wait_for_termination": False}, "needs wait_for_termination=True"),
        ({"pipeline_name": "P", "correlation_parameter": 7}, "correlation_parameter is 7"),
        ({"pipeline_name": "P", "durable": "False"}, "durable is 'False'; it must be True or False"),
        ({"pipeline_name": "P", "is_recovery": True}, "without reference_pipeline_run_id"),
    ],
)
def test_bad_argument_is_refused_when_the_dag_is_parsed(arguments: dict[str, Any], message: str) -> None:
    with DAG("d"), pytest.raises(AdfConfigurationError, match=message):
        AdfRunPipelineOperator(task_id="t", **arguments)


@pytest.mark.parametrize("arguments", [{"poke_interval": 0}, {"timeout": 0}, {"timeout": 1e9}, {"poke_interval": 1e9}])
def test_sensor_refuses_intervals_and_timeouts_that_are_not_usable(arguments: dict[str, Any]) -> None:
    with DAG("d"), pytest.raises(AdfConfigurationError, match=r"positive number of seconds|a year"):
        AdfPipelineRunSensor(task_id="t", run_id="r1", **arguments)


@pytest.mark.parametrize("run_id", ["", "a b", "../x", None, "None", "nan", ["r1"]])
def test_sensor_refuses_what_is_not_a_run_id(run_id: Any) -> None:
    with DAG("d"), pytest.raises(AdfConfigurationError, match="run_id is "):
        AdfPipelineRunSensor(task_id="t", run_id=run_id)


DAG_FILES = [*sorted((ROOT / "dags").glob("*.py")), *sorted((ROOT / "tests" / "airflow" / "dags").glob("*.py"))]


@pytest.mark.parametrize("path", DAG_FILES, ids=lambda path: path.stem)
def test_dag_file_can_be_imported(path: Path) -> None:
    """A broken Dag file fails here within seconds, instead of minutes in real Airflow processes."""
    assert runpy.run_path(str(path))["__doc__"]


def test_templates_are_checked_only_after_rendering() -> None:
    with DAG("d", params={"a": 1}) as dag:
        before = AdfRunPipelineOperator(
            task_id="before",
            pipeline_name="{{ params.pipeline }}",
            parameters="{{ params.parameters }}",
            is_recovery="{{ ti.try_number > 1 }}",
        )
        AdfRunPipelineOperator(
            task_id="t",
            pipeline_name="P",
            parameters={"a": before.output, "b": [{"c": dag.param("a")}], "d": {"{{ ds }}"}, "e": ("{{ ds }}", 1)},
        )
        AdfPipelineRunSensor(task_id="s", run_id="{{ ti.xcom_pull('before') }}")
        AdfPipelineRunSensor(task_id="s2", run_id=before.output["run_id"])  # type: ignore[index]  # Airflow's __getitem__ is not typed


@pytest.mark.parametrize("native", [True, False])
def test_template_of_none_counts_as_not_given_and_native_numbers_as_names(native: bool) -> None:
    with DAG("d", render_template_as_native_obj=native):
        it = AdfRunPipelineOperator(
            task_id="t",
            pipeline_name="{{ year }}",
            resource_group_name="{{ nothing }}",
            factory_name="{{ year }}",
            parameters="{{ nothing }}",
            reference_pipeline_run_id="{{ nothing }}",
            is_recovery="{{ nothing }}",
        )
    it.render_template_fields({"year": "2024", "nothing": None})  # type: ignore[typeddict-unknown-key]  # as much as the templates use
    start = it.start_of(replace(SETTINGS, resource_group_name="rg", factory_name="adf"))
    assert start.pipeline_name == "2024"
    assert (start.factory.resource_group_name, start.factory.factory_name) == ("rg", "2024")
    assert (start.parameters, start.recovery) == (None, Recovery())


def test_every_recorded_run_can_be_read() -> None:
    read = 0
    for path in reference("recordings").glob("*.json"):
        for run in _found(json.loads(path.read_text()), "runGroupId"):
            model = PipelineRun.from_wire(run)
            assert model.run_id == run["runId"]
            assert model.status == run["status"]
            assert model.started_at is not None
            assert (model.ended_at is None) is (run["runEnd"] is None)
            read += 1
    assert read >= 5


def test_every_example_of_the_specification_can_be_read() -> None:
    folder = reference("openapi") / "examples"
    runs = _found(json.loads((folder / "PipelineRuns_QueryByFactory.json").read_text()), "runStart")
    activities = _found(json.loads((folder / "ActivityRuns_QueryByPipelineRun.json").read_text()), "activityRunId")
    assert [PipelineRun.from_wire(run).pipeline_name for run in runs]
    assert {ActivityRun.from_wire(a).activity_type for a in activities} == {"ForEach", "Copy"}


def _found(document: Any, key: str) -> list[dict[str, Any]]:
    """All objects in `document` that have `key`."""
    if isinstance(document, list):
        return [found for item in document for found in _found(item, key)]
    if isinstance(document, dict):
        return [document] if key in document else [found for item in document.values() for found in _found(item, key)]
    return []


def test_wheel_works_in_a_clean_environment(tmp_path: Any) -> None:
    uv = next((str(p) for p in (ROOT / ".tools" / "bin" / "uv",) if p.exists()), None)
    if uv is None:
        pytest.skip("needs the uv that `make` installs")

    def run(*command: str) -> str:
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=280, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run(uv, "build", "--wheel", "--out-dir", str(tmp_path), "--quiet")
    (wheel,) = tmp_path.glob("*.whl")
    locked = tmp_path / "locked.txt"
    locked.write_text(
        run(uv, "export", "--frozen", "--no-default-groups", "--no-emit-project", "--no-hashes", "--quiet")
    )
    run(uv, "venv", "--quiet", str(tmp_path / "venv"))
    python = str(tmp_path / "venv" / "bin" / "python")
    run(uv, "pip", "install", "--quiet", "--python", python, "--constraint", str(locked), str(wheel))
    code = """
import importlib.metadata as m
import airflow_adf_mi, airflow_adf_mi.emulator
from airflow_adf_mi import AdfHook, AdfRunPipelineOperator, AdfPipelineRunSensor
found = [e for e in m.entry_points(group="apache_airflow_provider") if e.dist.name == "airflow-adf-mi"]
print(airflow_adf_mi.__file__, m.version("airflow-adf-mi"), [e.load()()["package-name"] for e in found])
"""
    done = subprocess.run(
        [python, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": ""},
        check=True,
    )
    assert str(tmp_path) in done.stdout
    assert f"{airflow_adf_mi.__version__} ['airflow-adf-mi']" in done.stdout

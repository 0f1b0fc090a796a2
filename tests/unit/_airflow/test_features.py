"""What this Airflow has, what an older one gets instead, and the private names of Airflow that this package uses."""

from __future__ import annotations

import importlib
import subprocess
import sys
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG

import airflow_adf_mi
from airflow_adf_mi._airflow import features
from airflow_adf_mi._airflow.try_store import XComStore, store_of
from airflow_adf_mi._triggerer.eligibility import may_end_in_triggerer, why_end_on_worker
from airflow_adf_mi.adf.errors import AdfConfigurationError
from airflow_adf_mi.hooks import AdfHook
from airflow_adf_mi.operators import AdfRunPipelineOperator
from airflow_adf_mi.provider_info import connection_type
from airflow_adf_mi.retry import AdfRetryPolicy
from tests.support.minors import needs
from tests.support.tasks import Task

MINOR = ".".join(version("apache-airflow").split(".")[:2])
OF_MINOR = {
    "3.1": set(),
    "3.2": {"PARTITIONED_DAG_RUNS"},
    "3.3": {
        *("TASK_STATE_STORE", "TRIGGER_ON_KILL", "TEMPLATED_TRIGGERS", "ASYNC_XCOMS", "RETRY_POLICIES"),
        *("PARTITIONED_DAG_RUNS", "PARTITION_DATES"),
    },
}
PRIVATE = [
    ("airflow.sdk.execution_time.comms", "GetTaskStates", {"3.1", "3.2", "3.3"}),
    ("airflow.sdk.execution_time.comms", "TaskStatesResult", {"3.1", "3.2", "3.3"}),
    ("airflow.sdk.execution_time.comms", "DeleteXCom", {"3.1", "3.2", "3.3"}),
    ("airflow.sdk.execution_time.task_runner", "main", {"3.1", "3.2", "3.3"}),
    ("airflow.sdk.execution_time.xcom", "XCom", {"3.1", "3.2", "3.3"}),
    ("airflow.sdk.bases.xcom", "BaseXCom", {"3.1", "3.2", "3.3"}),
    ("airflow.sdk.definitions._internal.templater", "SandboxedEnvironment", {"3.1", "3.2", "3.3"}),
    ("airflow.sdk.definitions._internal.abstractoperator", "DEFAULT_QUEUE", {"3.1", "3.2", "3.3"}),
    ("airflow.sdk.definitions._internal.types", "is_arg_set", {"3.2", "3.3"}),
    ("airflow.sdk.definitions.retry_policy", "RetryAction", {"3.3"}),
]
"""Module, name, and the minors that have it."""


def test_features_are_those_of_the_minor() -> None:
    assert {name for name in features.PROBES if getattr(features, name)} == OF_MINOR[MINOR]


@pytest.mark.parametrize(
    ("module", "name", "minors"), PRIVATE, ids=lambda value: value if isinstance(value, str) else ""
)
def test_private_name_of_airflow_is_in_exactly_these_minors(module: str, name: str, minors: set[str]) -> None:
    try:
        found = hasattr(importlib.import_module(module), name)
    except ImportError:
        found = False
    assert found == (MINOR in minors)


@pytest.mark.parametrize(
    ("found", "refused"), [("2.11.2", True), ("3.0.6", True), ("3.1.0", False), ("3.2.2", False), ("3.10.0b1", False)]
)
def test_older_airflow_is_refused_in_one_sentence(found: str, refused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(airflow_adf_mi, "version", lambda _name: found)
    if not refused:
        airflow_adf_mi._check_airflow()
        return
    with pytest.raises(ImportError) as raised:
        airflow_adf_mi._check_airflow()
    assert str(raised.value) == f"airflow-adf-mi needs Airflow 3.1 or later, and this is Airflow {found}."


def test_store_outlives_a_try_or_is_made_of_xcoms(monkeypatch: pytest.MonkeyPatch) -> None:
    task = Task()
    monkeypatch.setattr(features, "TASK_STATE_STORE", True)
    assert store_of(task.context) is task
    monkeypatch.setattr(features, "TASK_STATE_STORE", False)
    store = store_of(task.context)
    assert isinstance(store, XComStore)
    assert store.get("it", 7) == 7
    store.set("it", {"is": "kept"})
    assert store.get("it", 7) == {"is": "kept"}
    task.retry()
    assert store.get("it", 7) == 7


def test_unknown_feature_is_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'TASK_STATE_STORES'"):
        features.TASK_STATE_STORES  # noqa: B018  reading it is the test


def test_dag_file_with_a_retry_policy_imports_no_trigger() -> None:
    code = """
import sys
from airflow.sdk import DAG
before = "airflow.triggers.base" in sys.modules
import airflow_adf_mi.operators, airflow_adf_mi.retry
print(before, "airflow.triggers.base" in sys.modules)
"""
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert shown[-2] == shown[-1]


def test_retry_policy_says_which_airflow_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "RETRY_POLICIES", False)
    with pytest.raises(AdfConfigurationError, match=r"AdfRetryPolicy needs Airflow 3\.3 or later.*Remove the policy"):
        AdfRetryPolicy()


def test_task_in_triggerer_mode_runs_on_a_worker_where_triggers_have_no_templates(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(features, "TEMPLATED_TRIGGERS", False)
    with DAG("dag"):
        task = AdfRunPipelineOperator(task_id="it", pipeline_name="Load", start_from_trigger=True)
    assert task.start_from_trigger is False
    assert task.start_trigger_args is None
    assert task.why_on_worker() == "this version of Airflow renders no templates in a triggerer; Airflow 3.3 does"


@needs("ASYNC_XCOMS")
def test_task_ends_on_a_worker_where_triggers_cannot_push_xcoms(monkeypatch: pytest.MonkeyPatch) -> None:
    with DAG("dag"):
        task = AdfRunPipelineOperator(task_id="it", pipeline_name="Load")
    monkeypatch.setattr(features, "ASYNC_XCOMS", False)
    assert not may_end_in_triggerer(task)
    monkeypatch.setattr(features, "ASYNC_XCOMS", True)
    assert may_end_in_triggerer(task) == (why_end_on_worker(task) is None)


def test_form_of_airflow_3_1_has_the_fields_of_the_declared_form(monkeypatch: pytest.MonkeyPatch) -> None:
    made: dict[str, Any] = {}

    class Field:
        def __init__(self, label: str, *, validators: list[Any], description: str, default: str | None) -> None:
            made[label] = (validators[0], description, default)

    _stand_in(monkeypatch, "wtforms", StringField=Field)
    _stand_in(monkeypatch, "wtforms.validators", Optional=lambda: "optional", any_of=lambda values: ("one of", values))
    widgets = AdfHook.get_connection_form_widgets()
    declared = connection_type()["conn-fields"]
    assert list(widgets) == list(declared)
    assert made["Identity"] == (
        ("one of", ["managed_identity", "workload_identity", "developer"]),
        declared["identity"]["description"],
        "managed_identity",
    )
    assert made["Resource group"] == ("optional", "A task may name another one.", None)
    assert AdfHook.get_ui_field_behaviour() == {
        "hidden_fields": ["host", "schema", "login", "password", "port", "extra"],
        "relabeling": {},
        "placeholders": {},
    }


def _stand_in(monkeypatch: pytest.MonkeyPatch, name: str, **members: Any) -> None:
    monkeypatch.setitem(sys.modules, name, SimpleNamespace(**members))

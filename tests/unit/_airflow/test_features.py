"""What this Airflow has, what an older one gets instead, and the private names of Airflow that this package uses."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
import warnings
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import airflow.sdk
import pytest
from airflow.sdk import DAG
from airflow.sdk.api.datamodels._generated import TIRunContext

import airflow_adf_mi
from airflow_adf_mi._airflow import features
from airflow_adf_mi._airflow.try_store import TaskStateStore, XComStore, store_of
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
ALL, SINCE_3_2, SINCE_3_3 = {"3.1", "3.2", "3.3"}, {"3.2", "3.3"}, {"3.3"}
PRIVATE = [
    # The two homes of a name (`names`).
    ("airflow.sdk.configuration", "conf", SINCE_3_2),
    ("airflow.configuration", "conf", ALL),
    ("airflow.sdk.exceptions", "AirflowException", ALL),
    *(
        (module, name, minors)
        for module, minors in (("airflow.sdk.exceptions", SINCE_3_2), ("airflow.exceptions", ALL))
        for name in (
            *("AirflowNotFoundException", "AirflowSensorTimeout", "AirflowSkipException", "AirflowTaskTimeout"),
            *("TaskDeferralError", "TaskDeferralTimeout"),
        )
    ),
    ("airflow.exceptions", "AirflowException", ALL),
    ("airflow.sdk.observability", "stats", SINCE_3_2),
    ("airflow.observability", "stats", SINCE_3_2),
    ("airflow.stats", "Stats", ALL),
    ("airflow.sdk", "listener", SINCE_3_2),
    ("airflow.listeners", "listener", ALL),
    # Features.
    ("airflow.sdk", "RetryDecision", SINCE_3_3),
    ("airflow.sdk", "RetryPolicy", SINCE_3_3),
    ("airflow.sdk.definitions.retry_policy", "RetryAction", SINCE_3_3),
    ("airflow.sdk", "NEVER_EXPIRE", SINCE_3_3),
    # What has no public name.
    ("airflow.sdk.execution_time.comms", "GetTaskStates", ALL),
    ("airflow.sdk.execution_time.comms", "TaskStatesResult", ALL),
    ("airflow.sdk.execution_time.comms", "DeleteXCom", ALL),
    ("airflow.sdk.execution_time.task_runner", "SUPERVISOR_COMMS", ALL),
    ("airflow.sdk.execution_time.xcom", "XCom", ALL),
    ("airflow.sdk.bases.xcom", "BaseXCom", ALL),
    ("airflow.sdk.definitions._internal.templater", "SandboxedEnvironment", ALL),
    ("airflow.sdk.definitions._internal.abstractoperator", "DEFAULT_QUEUE", ALL),
    ("airflow.sdk.definitions._internal.types", "is_arg_set", SINCE_3_2),
    ("airflow.models.connection", "Connection", ALL),
]
"""Each name that the package imports and that is not public (`is_public`): module, name, and the minors that have it."""
MEMBERS = [
    ("airflow.sdk.observability.stats", "incr", SINCE_3_3),
    ("airflow.observability.stats", "incr", SINCE_3_3),
    ("airflow.sdk.observability.stats", "Stats", SINCE_3_2),
    ("airflow.observability.stats", "Stats", SINCE_3_2),
    ("airflow.sdk.listener", "get_listener_manager", SINCE_3_2),
    ("airflow.listeners.listener", "get_listener_manager", ALL),
]
"""What the package reads from the modules among these names."""


def is_public(module: str, name: str) -> bool:
    """Whether Airflow promises to keep a name: all that `airflow.sdk` exports, and what triggers are made of.

    Providers are other packages, with versions of their own. Everything else may move in a minor, even documented modules of
    `airflow.sdk`: `names` has names that came to `airflow.sdk.exceptions` and `airflow.sdk.configuration` with Airflow 3.2.
    """
    return (
        (module, name) == ("airflow", "sdk")
        or (module == "airflow.sdk" and name in airflow.sdk.__all__)
        or module == "airflow.triggers.base"
        or module.startswith("airflow.providers.")
    )


def imports_of(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """The modules and names that a program imports when it runs, and not only for type checks."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for other in node.orelse:
                yield from imports_of(ast.Module([other], []))
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.module or "", alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (tuple(alias.name.rpartition(".")[::2]) for alias in node.names)  # type: ignore[misc]  # a pair
        else:
            yield from imports_of(node)


def has(module: str, name: str) -> bool:
    """Whether a module has a name. `SUPERVISOR_COMMS` is only declared, because a task's process sets it when it begins."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some old homes are deprecated
        try:
            found = importlib.import_module(module)
            if hasattr(found, name) or name in getattr(found, "__annotations__", {}):
                return True
            importlib.import_module(f"{module}.{name}")
        except ImportError:
            return False
    return True


def test_features_are_those_of_the_minor() -> None:
    assert {name for name in features.PROBES if getattr(features, name)} == OF_MINOR[MINOR]


@pytest.mark.parametrize(
    ("module", "name", "minors"), [*PRIVATE, *MEMBERS], ids=lambda value: value if isinstance(value, str) else ""
)
def test_private_name_of_airflow_is_in_exactly_these_minors(module: str, name: str, minors: set[str]) -> None:
    assert has(module, name) == (MINOR in minors)


def test_private_names_are_those_that_the_package_imports() -> None:
    imported = {
        (module, name)
        for file in Path(airflow_adf_mi.__file__).parent.rglob("*.py")
        for module, name in imports_of(ast.parse(file.read_text()))
        if f"{module}.{name}".startswith("airflow.")
    }
    private = {(module, name) for module, name in imported if not is_public(module, name)}
    pinned = {(module, name) for module, name, _ in PRIVATE if not is_public(module, name)}
    assert private == pinned


def test_begin_of_a_try_outlives_a_deferral_in_exactly_these_minors() -> None:
    """Airflow's answer to a task that resumes has the begin of the try. `execution_timeout` of a deferred task counts from it."""
    assert ("start_date" in TIRunContext.model_fields) == (MINOR in SINCE_3_2)


@needs("TEMPLATED_TRIGGERS")
def test_task_that_is_mapped_shows_it() -> None:
    """In an attribute that Airflow 3.1 and 3.2 need not have: there, no task starts in the triggerer, so nobody asks."""
    with DAG("dag"):
        plain = AdfRunPipelineOperator(task_id="plain", pipeline_name="Load")
        mapped: Any = AdfRunPipelineOperator.partial(task_id="mapped").expand(pipeline_name=["Load"])
    assert not getattr(plain, "_BaseOperator__from_mapped")  # noqa: B009  Python would change the name in this form only
    assert getattr(mapped.unmap({"pipeline_name": "Load"}), "_BaseOperator__from_mapped")  # noqa: B009  as above


@needs("ASYNC_XCOMS")
def test_task_shows_the_callables_around_its_execution() -> None:
    """In attributes that are asked for only where the triggerer may end a task."""
    with DAG("dag"):
        task = AdfRunPipelineOperator(task_id="it", pipeline_name="Load", pre_execute=print, post_execute=print)
    assert (task._pre_execute_hook, task._post_execute_hook) == (print, print)


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
    assert isinstance(store_of(task.context), TaskStateStore)
    monkeypatch.setattr(features, "TASK_STATE_STORE", False)
    store = store_of(task.context)
    assert isinstance(store, XComStore)
    assert store.get("it", 7) == 7
    store.set("it", {"is": "kept"})
    assert store.get("it", 7) == {"is": "kept"}
    task.retry()
    assert store.get("it", 7) == 7


@needs("TASK_STATE_STORE")
def test_what_a_task_stores_never_expires() -> None:
    """Airflow compares the retention by identity."""
    task = Task()
    store_of(task.context).set("it", 7)
    assert task.retentions["it"] is airflow.sdk.NEVER_EXPIRE  # type: ignore[attr-defined]  # Airflow's stubs lack it


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

"""Which features this Airflow has. The other modules ask here. `names` has the names with two homes.

A minor release of Airflow may lack a feature that this package uses. Each name below stands for one such feature. It is True if
Airflow has the feature itself, whatever its version. `docs/versions.md` shows what each minor does without a feature.

Few questions are asked elsewhere. The package's `__init__` compares Airflow's version, to refuse Airflow 3.0 before anything else
is imported. `connections` explains an ImportError of Airflow 3.1.0. A member that an object of Airflow may lack is read with a
default. `_openlineage/run_record` asks for the OpenLineage provider, which is another package, with versions of its own.

A feature is searched for when its name is first used, because the search may import modules that a Dag file does not need.
"""

from __future__ import annotations

from importlib.util import find_spec

TASK_STATE_STORE: bool
"""A store that outlives retries and clears. Without it, starts are found by start keys that every try can compute
(`adf/starting/try_keys`)."""
TRIGGER_ON_KILL: bool
"""Airflow calls `on_kill` of a trigger. The message of a cancel shows whether a user acted on the task. Without this feature, the
state of the task decides what a cancelled trigger does with its run."""
TEMPLATED_TRIGGERS: bool
"""Airflow renders templates in a triggerer, which triggerer mode needs. Without it, a worker runs the task."""
ASYNC_XCOMS: bool
"""A trigger can read and push XComs. Without it, a worker ends each task, because the task's result is an XCom."""
RETRY_POLICIES: bool
"""A task can have a retry policy."""
PARTITIONED_DAG_RUNS: bool
"""A Dag run can have a partition key. Without this feature, `partition_parameters` is refused."""
PARTITION_DATES: bool
"""A Dag run also has the moment at which its partition begins. Without it, that moment must be read from the partition key."""


def _task_state_store() -> bool:
    from airflow.sdk import Context

    return "task_state_store" in Context.__annotations__


def _trigger_on_kill() -> bool:
    from airflow.triggers.base import BaseTrigger

    return hasattr(BaseTrigger, "on_kill")


def _templated_triggers() -> bool:
    from airflow.triggers.base import BaseTrigger

    return hasattr(BaseTrigger, "render_template_fields")


def _async_xcoms() -> bool:
    from airflow.sdk.execution_time.xcom import XCom

    return hasattr(XCom, "aset") and hasattr(XCom, "aget_one")


def _retry_policies() -> bool:
    return find_spec("airflow.sdk.definitions.retry_policy") is not None


def _partitioned_dag_runs() -> bool:
    import airflow.sdk

    return "CronPartitionTimetable" in airflow.sdk.__all__


def _partition_dates() -> bool:
    from airflow.sdk import Context

    return "partition_date" in Context.__annotations__


PROBES = {
    "TASK_STATE_STORE": _task_state_store,
    "TRIGGER_ON_KILL": _trigger_on_kill,
    "TEMPLATED_TRIGGERS": _templated_triggers,
    "ASYNC_XCOMS": _async_xcoms,
    "RETRY_POLICIES": _retry_policies,
    "PARTITIONED_DAG_RUNS": _partitioned_dag_runs,
    "PARTITION_DATES": _partition_dates,
}
"""How each feature is searched for."""


def __getattr__(name: str) -> bool:
    if name not in PROBES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = PROBES[name]()
    return found

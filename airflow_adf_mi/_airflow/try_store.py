"""Where a task keeps its state: Airflow's task state store, or XComs where Airflow has no such store.

The task state store outlives retries and clears, and is deleted with the Dag run. Airflow deletes XComs of a task when its next
try begins, but keeps them while the task is deferred. So state in XComs lasts for one try.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk.execution_time.xcom import XCom

from airflow_adf_mi._airflow import features
from airflow_adf_mi._airflow.xcoms import xcom_address

if TYPE_CHECKING:
    from airflow.sdk import Context

STORE = "Airflow's task state store" if features.TASK_STATE_STORE else "the task's XComs"
"""What the store is, for logs and errors."""


class TaskStateStore:
    """Airflow's task state store. What is stored here never expires.

    Airflow's own default is that an entry expires after 30 days. But a clear may come later than that, and must know what was
    started.

    :param accessor: the store in the task's context.
    """

    def __init__(self, accessor: Any) -> None:
        self._accessor = accessor

    def get(self, key: str, default: Any = None) -> Any:
        return self._accessor.get(key, default)

    def set(self, key: str, value: Any) -> None:
        # Only an Airflow that has the store has this name.
        from airflow.sdk import NEVER_EXPIRE  # type: ignore[attr-defined]  # Airflow's stubs lack it

        self._accessor.set(key, value, retention=NEVER_EXPIRE)

    def delete(self, key: str) -> None:
        self._accessor.delete(key)


class XComStore:
    """The methods of Airflow's task state store, with XComs.

    :param ti: the task instance.
    """

    def __init__(self, ti: Any) -> None:
        self._ti = ti

    def get(self, key: str, default: Any = None) -> Any:
        value = self._ti.xcom_pull(task_ids=self._ti.task_id, key=key, map_indexes=self._ti.map_index)
        return default if value is None else value

    def set(self, key: str, value: Any) -> None:
        self._ti.xcom_push(key=key, value=value)

    def delete(self, key: str) -> None:
        XCom.delete(key, **xcom_address(self._ti))


def store_of(context: Context) -> TaskStateStore | XComStore:
    """The store of the task instance in `context`."""
    return TaskStateStore(context["task_state_store"]) if features.TASK_STATE_STORE else XComStore(context["ti"])

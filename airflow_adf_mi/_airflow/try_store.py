"""Where a task keeps its state: Airflow's task state store, or XComs where Airflow has no such store.

The task state store outlives retries and clears. Airflow deletes XComs of a task when its next try begins, but keeps them while
the task is deferred. So state in XComs lasts for one try.
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


def store_of(context: Context) -> Any:
    """The store of the task instance in `context`, with the methods `get`, `set` and `delete`."""
    return context["task_state_store"] if features.TASK_STATE_STORE else XComStore(context["ti"])

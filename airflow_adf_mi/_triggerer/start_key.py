"""Start keys of tasks in triggerer mode: digests that identify the task and the try that they belong to. Pure.

Every process computes the same key for the same try. So a trigger that begins again, after its triggerer was killed, can ask the
service for a run with this key, even if the stored intent was lost or overwritten.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_adf_mi.adf.starting.start_key import digest_key

if TYPE_CHECKING:
    from airflow.sdk import Context


@dataclass(frozen=True, kw_only=True)
class TaskTryKey:
    """Everything that identifies a try of a task, and so makes its key."""

    dag_id: str
    dag_run_id: str
    task_id: str
    map_index: int = -1
    ti_id: str
    """Airflow's id of the task instance. It is different for each try. If a Dag run is deleted and created again, the ids
    differ, so that the new Dag run does not find the runs of the deleted Dag run."""
    try_number: int

    @property
    def start_key(self) -> str:
        """The key of the start that this try makes: a GUID."""
        return digest_key(self.dag_id, self.dag_run_id, self.task_id, self.map_index, self.ti_id, self.try_number)

    def has_key(self, text: object) -> bool:
        """Whether `text` is this try's key, in upper or lower case."""
        return isinstance(text, str) and text.lower() == self.start_key


def task_try_key_of(context: Context) -> TaskTryKey:
    """The try that Airflow made `context` for."""
    ti: Any = context["ti"]
    return TaskTryKey(
        dag_id=ti.dag_id,
        dag_run_id=ti.run_id,
        task_id=ti.task_id,
        map_index=ti.map_index,
        ti_id=str(ti.id),
        try_number=ti.try_number,
    )

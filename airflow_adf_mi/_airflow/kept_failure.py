"""The XCom that keeps why a task failed. A callback that runs outside of the task's process reads it.

Airflow runs a Dag's callbacks, and the callbacks of a task whose worker was lost, in the Dag processor. There the exception of
the task does not exist, but XComs can be read.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow_adf_mi._airflow.names import (
    AirflowRescheduleException,
    AirflowSkipException,
    AirflowTaskTimeout,
    mask_known_secrets,
)
from airflow_adf_mi.adf.errors import AdfTaskKilled
from airflow_adf_mi.adf.reporting.failure_record import FailureRecord

if TYPE_CHECKING:
    from airflow.sdk import Context

FAILURE_KEY = "adf_failure"


@contextmanager
def keeping_failure(task: Any, context: Context) -> Iterator[None]:
    """Push why the task failed, if it fails here. The error itself is raised in any case.

    A killed process pushes nothing: it has a few seconds left, which it needs for its run.
    """
    try:
        yield
    except (AdfTaskKilled, AirflowSkipException, AirflowRescheduleException):
        raise
    except (Exception, AirflowTaskTimeout) as e:
        _keep(task, context, e)
        raise


def record_of(error: BaseException, *, ti: Any, task: Any) -> FailureRecord:
    """The record of an error that a task raised.

    :param ti: the task instance, or None.
    :param task: the operator or sensor, or None.
    """
    return FailureRecord.of(
        error,
        try_number=getattr(ti, "try_number", None),
        pipeline_name=getattr(task, "pipeline_name", None),
        run_id=getattr(task, "run_id", None),
        mask=mask_known_secrets,
    )


def _keep(task: Any, context: Context, error: BaseException) -> None:
    try:
        ti: Any = context["ti"]
        ti.xcom_push(key=FAILURE_KEY, value=record_of(error, ti=ti, task=task).to_json())
    except Exception as e:  # noqa: BLE001  the task's own error must reach Airflow
        task.log.warning(
            "The cause of this failure could not be pushed as the XCom %s. An alert that is sent by another process lacks it. %s",
            FAILURE_KEY,
            e,
        )

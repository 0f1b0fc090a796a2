"""The button of a task that opens its run in ADF Studio."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import BaseOperatorLink
from airflow.sdk.execution_time.xcom import XCom

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator, Context
    from airflow.sdk.types import TaskInstanceKey


class AdfPipelineRunLink(BaseOperatorLink):
    """
    Opens the run in ADF Studio of the connection's cloud.

    Airflow shows the value that is stored under the link's XCom key. A task stores the address as soon as the run is known,
    so the link works while the task runs or is deferred. In triggerer mode, the link appears after about a minute.
    """

    name = "ADF Studio run"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """
        Return the stored address, or "" if the task has no run.

        :param operator: the task.
        :param ti_key: the task instance.
        """
        return XCom.get_value(ti_key=ti_key, key=self.xcom_key) or ""

    @classmethod
    def store(cls, context: Context, studio_url: str) -> None:
        """
        Store the address that the link of this task instance opens.

        :param context: the task's context.
        :param studio_url: the page of the run.
        """
        context["ti"].xcom_push(key=cls().xcom_key, value=studio_url)

"""Dags of which the tests read what a user is told: one task each; pipeline and connection come with the Dag run."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Param

from airflow_adf_mi import AdfRetryPolicy
from airflow_adf_mi.operators import AdfRunPipelineOperator


def explained(name: str, **arguments: Any) -> None:
    """A Dag `explained_<name>`."""
    params = {"pipeline": Param("", type="string"), "connection": Param("adf_test", type="string")}
    with DAG(f"explained_{name}", schedule=None, catchup=False, params=params):
        AdfRunPipelineOperator(
            task_id="it",
            pipeline_name="{{ params.pipeline }}",
            azure_data_factory_conn_id="{{ params.connection }}",
            check_interval=2,
            **arguments,
        )


for mode, deferrable in (("blocking", False), ("deferrable", True)):
    explained(mode, deferrable=deferrable)
    explained(f"{mode}_timeout", deferrable=deferrable, timeout=6)
    explained(f"{mode}_outputs", deferrable=deferrable, outputs={"rows": "CopySales.rowsCopied"}, activity_log="live")
    explained(
        f"{mode}_policy",
        deferrable=deferrable,
        retries=1,
        retry_delay=timedelta(seconds=1),
        retry_policy=AdfRetryPolicy(),
    )

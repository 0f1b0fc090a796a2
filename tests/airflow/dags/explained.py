"""Dags whose logs are tested. Each has one task, and the Dag run contains pipeline and connection."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Param

from airflow_adf_mi import AdfRetryPolicy
from airflow_adf_mi._airflow import features
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


MODES: dict[str, dict[str, Any]] = {
    "blocking": {"deferrable": False},
    "deferrable": {"deferrable": True},
    "triggerer_mode": {"start_from_trigger": True},
}

for mode, how in MODES.items():
    explained(mode, **how)
    # Not shorter, because of the defect of Airflow that `LEAST_SECONDS` in `conftest.py` describes.
    explained(f"{mode}_timeout", **how, timeout=15)
    explained(f"{mode}_outputs", **how, outputs={"rows": "CopySales.rowsCopied"}, activity_log="live")
    explained(
        f"{mode}_policy",
        **how,
        retries=1,
        retry_delay=timedelta(seconds=1),
        **({"retry_policy": AdfRetryPolicy()} if features.RETRY_POLICIES else {}),
    )

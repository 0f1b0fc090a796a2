"""Dags for tests of lineage and metrics. Each has one task, and the Dag run contains the pipeline."""

from __future__ import annotations

from airflow.sdk import DAG, Param

from airflow_adf_mi.operators import AdfRunPipelineOperator

for mode, deferrable in (("blocking", False), ("deferrable", True)):
    with DAG(f"observed_{mode}", schedule=None, catchup=False, params={"pipeline": Param("", type="string")}):
        AdfRunPipelineOperator(
            task_id="it",
            pipeline_name="{{ params.pipeline }}",
            azure_data_factory_conn_id="adf_test",
            parameters={"key": "{{ conn.adf_secret.password }}", "password": "planted"},
            check_interval=2,
            deferrable=deferrable,
        )

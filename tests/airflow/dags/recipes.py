"""The recipes of docs/backfills.md to continue a failed run, for pipelines whose second activity fails once."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, Param

from airflow_adf_mi import AdfRunPipelineOperator

ARGUMENTS: dict[str, Any] = {"azure_data_factory_conn_id": "adf_test", "check_interval": 2, "deferrable": True}

with DAG("recipe_by_variable", schedule=None, catchup=False):
    AdfRunPipelineOperator(
        task_id="load",
        pipeline_name="RecipeByVariable",
        retry_from_failure="{{ 'always' if var.value.get('adf_continue', 'no') == 'yes' else 'retry' }}",
        **ARGUMENTS,
    )

with DAG("recipe_fails", schedule=None, catchup=False):
    AdfRunPipelineOperator(task_id="load", pipeline_name="RecipeInADagRunOfItsOwn", **ARGUMENTS)

with DAG(
    "recipe_in_a_dag_run_of_its_own", schedule=None, catchup=False, params={"run_to_continue": Param(type="string")}
):
    AdfRunPipelineOperator(
        task_id="continue",
        pipeline_name="RecipeInADagRunOfItsOwn",
        reference_pipeline_run_id="{{ params.run_to_continue }}",
        is_recovery=True,
        start_from_failure=True,
        **ARGUMENTS,
    )

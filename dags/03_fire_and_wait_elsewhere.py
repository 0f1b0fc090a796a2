"""Start a run, do something else, and wait for the run in another task."""

from __future__ import annotations

import pendulum
from airflow.sdk import DAG, task

from airflow_adf_mi.operators import AdfRunPipelineOperator
from airflow_adf_mi.sensors import AdfPipelineRunSensor

EXPECTED = {
    "start_bulk_copy": {"state": "success", "status": "Succeeded", "activities": 5},
    "meanwhile": {"state": "success"},
    "bulk_copy_ended": {"state": "success", "status": "Succeeded", "activities": 5},
}

with DAG(
    "adf_03_fire_and_wait_elsewhere",
    description=__doc__,
    schedule=None,
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    tags=["adf"],
):
    start_bulk_copy = AdfRunPipelineOperator(
        task_id="start_bulk_copy",
        pipeline_name="BulkCopyTables",
        parameters={"schema": "sales"},
        wait_for_termination=False,
    )

    @task
    def meanwhile() -> None:
        """Stands for work that does not depend on the copy."""
        print("The copy continues by itself.")

    bulk_copy_ended = AdfPipelineRunSensor(
        task_id="bulk_copy_ended",
        run_id=start_bulk_copy.output["run_id"],
        deferrable=True,
        poke_interval=5,
        timeout=60 * 60,
    )

    start_bulk_copy >> meanwhile() >> bulk_copy_ended

"""A retry that continues the failed run: the activities that have succeeded do not run again."""

from __future__ import annotations

from datetime import timedelta

import pendulum
from airflow.sdk import DAG

from airflow_adf_mi.operators import AdfRunPipelineOperator

# The second run has only the activity that had failed.
EXPECTED = {"refresh_reports": {"state": "success", "status": "Succeeded", "activities": 1}}

with DAG(
    "adf_07_rerun_what_failed",
    description=__doc__,
    schedule=None,
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    tags=["adf"],
):
    AdfRunPipelineOperator(
        task_id="refresh_reports",
        pipeline_name="RefreshReports",
        retry_from_failure="retry",
        retries=1,
        retry_delay=timedelta(seconds=5),
        deferrable=True,
        check_interval=5,
    )

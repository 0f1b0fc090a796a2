"""Run one pipeline, with parameters from the data interval.

The task is deferrable: while the run is active, the task waits in the triggerer and uses no worker. A Dag run without a
logical date (started by an asset, or by the API with null) has no data interval. Then the task fails and starts nothing.
"""

from __future__ import annotations

import pendulum
from airflow.sdk import DAG
from airflow.timetables.interval import CronDataIntervalTimetable

from airflow_adf_mi import AdfRunPipelineOperator, window_parameters

EXPECTED = {"copy_sales": {"state": "success", "status": "Succeeded", "activities": 4, "window_hours": 24}}

with DAG(
    "adf_01_data_interval",
    description=__doc__,
    # With schedule="@daily", Airflow 3 starts and ends the interval at the same moment, so nothing would be copied.
    schedule=CronDataIntervalTimetable("@daily", timezone="UTC"),
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    tags=["adf"],
):
    AdfRunPipelineOperator(
        task_id="copy_sales",
        pipeline_name="CopySalesDelta",
        parameters=window_parameters(start="window_start", end="window_end"),
        deferrable=True,
        check_interval=5,
        timeout=2 * 60 * 60,
    )

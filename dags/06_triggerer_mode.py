"""Triggerer mode: the task starts, waits and ends in the triggerer, and uses no worker slot.

This suits many runs at a time that only have to be started and waited for. If a triggerer cannot run a task, a worker runs it,
and the task's log gives the reason (docs/triggerer-mode.md).
"""

from __future__ import annotations

import pendulum
from airflow.sdk import DAG
from airflow.timetables.interval import CronDataIntervalTimetable

from airflow_adf_mi import AdfRunPipelineOperator, window_parameters

REGIONS = ("emea", "apac")
EXPECTED = {
    "copy_emea": {"state": "success", "status": "Succeeded", "activities": 4, "window_hours": 24},
    "copy_apac": {"state": "success", "status": "Succeeded", "activities": 4, "window_hours": 24},
}

with DAG(
    "adf_06_triggerer_mode",
    description=__doc__,
    # With schedule="@daily", Airflow 3 starts and ends the interval at the same moment, so nothing would be copied.
    schedule=CronDataIntervalTimetable("@daily", timezone="UTC"),
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    tags=["adf"],
):
    for region in REGIONS:
        AdfRunPipelineOperator(
            task_id=f"copy_{region}",
            pipeline_name="CopySalesDelta",
            parameters={**window_parameters(start="window_start", end="window_end"), "region": region},
            start_from_trigger=True,
            check_interval=5,
            timeout=2 * 60 * 60,
        )

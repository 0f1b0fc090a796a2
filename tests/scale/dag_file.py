"""The Dag file of the proof: it makes a Dag from each entry of the JSON file with the same name."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import DAG
from airflow.timetables.interval import CronDataIntervalTimetable

from airflow_adf_mi import AdfRunPipelineOperator, window_parameters

SECONDS = ("retry_delay", "succeeded_within")


def make_dag(spec: dict[str, Any]) -> DAG:
    """Make a Dag with one window an hour. Its days are over, so that Airflow schedules none of them by itself."""
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    with DAG(
        spec["dag_id"],
        schedule=CronDataIntervalTimetable("0 * * * *", timezone="UTC"),
        start_date=begin,
        end_date=begin + timedelta(days=30),
        catchup=False,
        max_active_runs=1000,
        max_active_tasks=1000,
    ) as dag:
        arguments: dict[str, Any] = {k: timedelta(seconds=v) if k in SECONDS else v for k, v in spec["task"].items()}
        AdfRunPipelineOperator(
            task_id="load", parameters=window_parameters(start="windowStart", end="windowEnd"), **arguments
        )
    return dag


for case in json.loads(Path(__file__).with_suffix(".json").read_text()):
    globals()[case["dag_id"]] = make_dag(case)

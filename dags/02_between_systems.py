"""A pipeline between tasks of two other systems: one decides what to load, the other uses the result of the run."""

from __future__ import annotations

from typing import Any

import pendulum
from airflow.sdk import DAG, task

from airflow_adf_mi.operators import AdfRunPipelineOperator

EXPECTED = {
    "choose_window": {"state": "success"},
    "nightly_load": {"state": "success", "status": "Succeeded", "activities": 2},
    "report": {"state": "success"},
}

with DAG(
    "adf_02_between_systems",
    description=__doc__,
    schedule=None,
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    tags=["adf"],
):

    @task
    def choose_window() -> dict[str, str]:
        """Stands for a system that has new data, such as a queue or a table of deliveries."""
        return {"window_start": "2026-01-01T00:00:00Z", "window_end": "2026-01-02T00:00:00Z"}

    nightly_load = AdfRunPipelineOperator(
        task_id="nightly_load",
        pipeline_name="NightlyLoad",
        parameters=choose_window(),
        deferrable=True,
        check_interval=5,
    )

    @task
    def report(run: dict[str, Any]) -> str:
        """Stands for a system that gets the result. `run` is the summary that the operator returns."""
        return f"{run['pipeline_name']} {run['status']} after {run['duration_seconds']:.0f} s: {run['studio_url']}"

    report(nightly_load.output)

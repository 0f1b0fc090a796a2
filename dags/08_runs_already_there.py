"""Tasks that need the same load. The first one starts it. The others use the run that is already there."""

from __future__ import annotations

from datetime import timedelta

import pendulum
from airflow.sdk import DAG

from airflow_adf_mi.operators import AdfRunPipelineOperator

PARAMETERS = {"region": "latam", "window_start": "2026-01-01T00:00:00Z", "window_end": "2026-01-02T00:00:00Z"}

EXPECTED = {
    "load": {"state": "success", "status": "Succeeded", "activities": 4},
    "use_what_is_loaded": {"state": "success", "status": "Succeeded", "activities": 4},
    "load_what_is_missing": {"state": "skipped", "status": "Succeeded", "activities": 4},
}

with DAG(
    "adf_08_runs_already_there",
    description=__doc__,
    schedule=None,
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    default_args={"deferrable": True, "check_interval": 5},
    tags=["adf"],
):
    # If somebody else is loading this window, the task waits for that run.
    load = AdfRunPipelineOperator(
        task_id="load",
        pipeline_name="CopySalesDelta",
        parameters=PARAMETERS,
        on_live_run="adopt",
    )

    # The window is loaded. So the task succeeds, with the summary of the run of `load`.
    use_what_is_loaded = AdfRunPipelineOperator(
        task_id="use_what_is_loaded",
        pipeline_name="CopySalesDelta",
        parameters=PARAMETERS,
        on_succeeded_run="accept",
        succeeded_within=timedelta(days=30),
    )

    # The window is loaded. So the task is skipped.
    load_what_is_missing = AdfRunPipelineOperator(
        task_id="load_what_is_missing",
        pipeline_name="CopySalesDelta",
        parameters=PARAMETERS,
        on_succeeded_run="skip",
        succeeded_within=timedelta(days=30),
    )

    load >> [use_what_is_loaded, load_what_is_missing]

"""One task that starts a run for each region, all at the same time. For a list of factories, map `factory_name`."""

from __future__ import annotations

import pendulum
from airflow.sdk import DAG

from airflow_adf_mi.operators import AdfRunPipelineOperator

REGIONS = ("emea", "apac", "amer")

EXPECTED = {"copy_region": {"state": "success", "status": "Succeeded", "activities": 4, "instances": 3}}

with DAG(
    "adf_04_mapped_over_regions",
    description=__doc__,
    schedule=None,
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    tags=["adf"],
):
    AdfRunPipelineOperator.partial(
        task_id="copy_region",
        pipeline_name="CopySalesDelta",
        deferrable=True,
        check_interval=5,
    ).expand(
        parameters=[
            {"region": region, "window_start": "2026-01-01T00:00:00Z", "window_end": "2026-01-02T00:00:00Z"}
            for region in REGIONS
        ]
    )

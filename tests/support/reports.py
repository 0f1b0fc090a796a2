"""The failure of an activity, as reports contain it."""

from __future__ import annotations

from airflow_adf_mi.adf.activity_failures import ActivityFailure

FAILURE = ActivityFailure(
    activity_name="Copy",
    activity_type="Copy",
    status="Failed",
    pipeline_name="Inner",
    pipeline_run_id="r2",
    studio_url="https://studio/r2",
    error_code="2200",
    failure_type="SystemError",
    message="no table",
)

"""From rendered arguments to a `Start`: for the operator on a worker, and for the trigger in triggerer mode."""

from __future__ import annotations

from typing import Any

from airflow_adf_mi._airflow.task import StartArguments
from airflow_adf_mi.adf.api.recovery import Recovery
from airflow_adf_mi.adf.config.policies import PresentRuns
from airflow_adf_mi.adf.config.settings import AdfSettings
from airflow_adf_mi.adf.config.validation import check_retry_from_failure, is_given, required_text
from airflow_adf_mi.adf.starting.start import Start


def build_start(given: StartArguments, settings: AdfSettings, *, parameters: Any, key: str | None = None) -> Start:
    """Build the start from the rendered arguments of `given`. Raises `AdfConfigurationError` if they are not valid."""
    return Start(
        factory=settings.factory(given.resource_group_name, given.factory_name),
        pipeline_name=required_text("pipeline_name", given.pipeline_name),
        parameters=parameters if is_given(parameters) else None,
        recovery=Recovery.from_arguments(**recovery_arguments(given)),
        correlation_parameter=given.correlation_parameter,
        settle=given.start_settle,
        on_ambiguous=given.on_ambiguous_start,
        check_parameters=given.check_parameters,
        present_runs=PresentRuns(
            on_live_run=given.on_live_run,
            on_succeeded_run=given.on_succeeded_run,
            succeeded_within=given.succeeded_within,
        ),
        retry_from_failure=check_retry_from_failure(given.retry_from_failure),
        start_key=key,
    )


def recovery_arguments(given: StartArguments) -> dict[str, Any]:
    """The arguments of `Recovery.from_arguments`."""
    names = ("reference_pipeline_run_id", "is_recovery", "start_activity_name", "start_from_failure")
    return {name: getattr(given, name) for name in names}

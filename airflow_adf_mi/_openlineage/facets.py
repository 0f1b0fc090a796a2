"""The lineage of a task, for the OpenLineage provider. Imported only when the provider asks, because it is optional.

The provider itself adds the job's type, the Dag run as parent, and the error of a failed task.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.openlineage.extractors import OperatorLineage
from attr import define
from openlineage.client.event_v2 import InputDataset, OutputDataset
from openlineage.client.facet_v2 import JobFacet, RunFacet, external_query_run, output_statistics_output_dataset

from airflow_adf_mi.adf.reporting.datasets import DataSet, namespace_of

if TYPE_CHECKING:
    from airflow_adf_mi._airflow.task import PipelineTask
    from airflow_adf_mi._openlineage.run_record import RunRecord
    from airflow_adf_mi.adf.activity_failures import ActivityFailure

JOB_FACET = "adf_pipeline"
RUN_FACET = "adf_pipelineRun"


@define
class AdfPipelineJobFacet(JobFacet):
    """The pipeline that the task runs."""

    pipelineName: str | None = None  # noqa: N815  OpenLineage's way of writing
    factoryName: str | None = None  # noqa: N815
    resourceGroupName: str | None = None  # noqa: N815
    subscriptionId: str | None = None  # noqa: N815


@define
class AdfPipelineRunFacet(RunFacet):
    """The pipeline run of a try. Parameters are left out, because they may be secret."""

    runId: str  # noqa: N815
    studioUrl: str  # noqa: N815
    adopted: bool
    """Whether the task found the run and continued with it: as in the summary of the run."""
    pipelineName: str | None = None  # noqa: N815
    runGroupId: str | None = None  # noqa: N815
    status: str | None = None
    startedAt: str | None = None  # noqa: N815
    endedAt: str | None = None  # noqa: N815
    durationSeconds: float | None = None  # noqa: N815
    failedActivities: list[dict[str, Any]] | None = None  # noqa: N815


def at_start(task: PipelineTask) -> OperatorLineage[Any, Any]:
    """The lineage before the run starts: the task's arguments. Reads no connection."""
    facet = AdfPipelineJobFacet(
        pipelineName=_text(task.pipeline_name),
        factoryName=_text(task.factory_name),
        resourceGroupName=_text(task.resource_group_name),
    )
    return OperatorLineage(job_facets={JOB_FACET: facet})


def at_end(task: PipelineTask, record: RunRecord | None) -> OperatorLineage[Any, Any]:
    """The lineage after a success or a failure. If the try failed before it had a run, the same as at the start."""
    if record is None or record.address is None:
        return at_start(task)
    address, run = record.address, record.run
    pipeline = (run.pipeline_name if run else None) or address.pipeline_name
    about_run = AdfPipelineRunFacet(
        runId=address.run_id,
        studioUrl=address.studio_url,
        adopted=record.adopted,
        pipelineName=pipeline,
        runGroupId=run.run_group_id if run else None,
        status=run.status if run else None,
        startedAt=run.started_at.isoformat() if run and run.started_at else None,
        endedAt=run.ended_at.isoformat() if run and run.ended_at else None,
        durationSeconds=run.duration_seconds if run else None,
        failedActivities=[_failure(activity) for activity in record.failures] or None,
    )
    about_job = AdfPipelineJobFacet(
        pipelineName=pipeline,
        factoryName=address.factory.factory_name,
        resourceGroupName=address.factory.resource_group_name,
        subscriptionId=address.factory.subscription_id,
    )
    external = external_query_run.ExternalQueryRunFacet(
        externalQueryId=address.run_id, source=namespace_of(address.factory)
    )
    return OperatorLineage(
        inputs=[InputDataset(data.namespace, data.name) for data in record.data.inputs],
        outputs=[_output(data) for data in record.data.outputs],
        run_facets={RUN_FACET: about_run, "externalQuery": external},
        job_facets={JOB_FACET: about_job},
    )


def _output(data: DataSet) -> OutputDataset:
    if data.rows is None and data.size is None and data.files is None:
        return OutputDataset(data.namespace, data.name)
    statistics = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
        rowCount=data.rows, size=data.size, fileCount=data.files
    )
    return OutputDataset(data.namespace, data.name, outputFacets={"outputStatistics": statistics})


def _failure(activity: ActivityFailure) -> dict[str, Any]:
    """A failed activity as JSON. Credentials in its message are already masked."""
    known = {
        "name": activity.activity_name,
        "type": activity.activity_type,
        "pipelineRunId": activity.pipeline_run_id,
        "errorCode": activity.error_code,
        "failureType": activity.failure_type,
        "message": activity.message,
    }
    return {name: value for name, value in known.items() if value is not None}


def _text(value: object) -> str | None:
    """An argument if it is a text. Other values are known only when the task runs."""
    return value if isinstance(value, str) and value else None

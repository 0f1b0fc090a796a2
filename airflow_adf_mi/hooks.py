"""Airflow's door to the core: from a connection id to settings, clients and the operations."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from airflow_adf_mi._airflow.connections import check_conn_id, no_such_connection, read_connection
from airflow_adf_mi.adf.api import operations
from airflow_adf_mi.adf.api.client import AdfClient
from airflow_adf_mi.adf.api.recovery import Recovery
from airflow_adf_mi.adf.config.validation import check_run_id
from airflow_adf_mi.adf.connection_check import all_well, check, in_a_paragraph
from airflow_adf_mi.adf.connection_fields import CONN_TYPE, DEFAULT_CONN_ID
from airflow_adf_mi.adf.errors import AdfError
from airflow_adf_mi.adf.routines import Routine, run_routine
from airflow_adf_mi.adf.starting.create_run import Start, create_run_once
from airflow_adf_mi.exceptions import airflow_errors

if TYPE_CHECKING:
    from airflow.providers.microsoft.azure.hooks.data_factory import AzureDataFactoryHook
    from azure.mgmt.datafactory import DataFactoryManagementClient

    from airflow_adf_mi.adf.config.settings import AdfSettings, FactoryRef
    from airflow_adf_mi.adf.models import ActivityRun, PipelineRun

READ_RETRIES = 3
"""How often a hook's read is repeated; waits repeat by their own rules."""
RETENTION = timedelta(days=45)
"""How long the service keeps runs (Microsoft's documentation)."""


class AdfHook(BaseHook):
    """
    Talks to Azure Data Factory as the managed identity that a connection names.

    Every method takes the factory from the connection unless it is given, and raises an
    :class:`~airflow_adf_mi.exceptions.AdfError`; arguments that cannot be sent raise
    :class:`~airflow_adf_mi.exceptions.AdfConfigurationError` before anything is sent.

    :param azure_data_factory_conn_id: a connection of type ``azure_data_factory_mi``, or of the Azure provider's type
        ``azure_data_factory`` that holds no secret.
    """

    conn_type: ClassVar[str] = CONN_TYPE
    conn_name_attr: ClassVar[str] = "azure_data_factory_conn_id"
    default_conn_name: ClassVar[str] = DEFAULT_CONN_ID
    hook_name: ClassVar[str] = "Azure Data Factory (managed identity)"

    def __init__(self, azure_data_factory_conn_id: str = DEFAULT_CONN_ID) -> None:
        super().__init__()
        self.azure_data_factory_conn_id = azure_data_factory_conn_id

    @cached_property
    @airflow_errors()
    def settings(self) -> AdfSettings:
        """The connection's fields, checked."""
        conn_id = check_conn_id(self.azure_data_factory_conn_id)
        try:
            connection = self.get_connection(conn_id)
        except AirflowNotFoundException as e:
            raise no_such_connection(conn_id) from e
        return read_connection(connection)

    @airflow_errors()
    def client(self, *, read_retries: int = 0) -> AdfClient:
        """A new client of these settings, to be closed by the caller."""
        return AdfClient(self.settings, read_retries=read_retries)

    @airflow_errors()
    def run_pipeline(
        self,
        pipeline_name: str,
        resource_group_name: str | None = None,
        factory_name: str | None = None,
        *,
        parameters: Mapping[str, Any] | None = None,
        recovery: Recovery = Recovery(),
    ) -> str:
        """
        Start a run and return its id.

        A start that provably did nothing (throttled, connection refused, no token yet, token refused) is sent again for
        some minutes; one whose answer was lost is never sent again, but looked for.

        :param pipeline_name: the pipeline.
        :param resource_group_name: instead of the connection's.
        :param factory_name: instead of the connection's.
        :param parameters: the pipeline's parameters by name: JSON values; dates and the like are sent as ISO 8601 text.
        :param recovery: the run to continue, and from where.
        """
        factory = self.settings.factory(resource_group_name, factory_name)
        routine = start_routine(factory, pipeline_name, parameters, recovery)
        with self.client() as client:
            return run_routine(routine, client, time.sleep)

    @airflow_errors()
    def get_pipeline_run(
        self, run_id: str, resource_group_name: str | None = None, factory_name: str | None = None
    ) -> PipelineRun:
        """
        Return what the service says of a run now.

        :param run_id: the run.
        :param resource_group_name: instead of the connection's.
        :param factory_name: instead of the connection's.
        """
        with self.client(read_retries=READ_RETRIES) as client:
            factory = self.settings.factory(resource_group_name, factory_name)
            return client.send(operations.get_run(factory, check_run_id(run_id)))

    @airflow_errors()
    def cancel_pipeline_run(
        self,
        run_id: str,
        resource_group_name: str | None = None,
        factory_name: str | None = None,
        *,
        recursive: bool = True,
    ) -> bool:
        """
        Cancel a run: True when accepted, False when it had already ended.

        Accepted is not ended: the run is ``Canceling`` for a while and may still end otherwise.

        :param run_id: the run.
        :param resource_group_name: instead of the connection's.
        :param factory_name: instead of the connection's.
        :param recursive: also cancel the runs that it started by ExecutePipeline activities.
        """
        with self.client() as client:
            factory = self.settings.factory(resource_group_name, factory_name)
            return client.send(operations.cancel_run(factory, check_run_id(run_id), recursive=recursive))

    @airflow_errors()
    def query_pipeline_runs(
        self,
        updated_after: datetime,
        updated_before: datetime,
        resource_group_name: str | None = None,
        factory_name: str | None = None,
        *,
        filters: Sequence[Mapping[str, Any]] = (),
        order_by: Sequence[Mapping[str, str]] = (),
    ) -> list[PipelineRun]:
        """
        Return all runs updated in a window, from all pages. The service's list can lag behind :meth:`get_pipeline_run`.

        :param updated_after: begin of the window, with a time zone.
        :param updated_before: end of the window, with a time zone.
        :param resource_group_name: instead of the connection's.
        :param factory_name: instead of the connection's.
        :param filters: ``{"operand": "PipelineName", "operator": "Equals", "values": ["x"]}`` and the like.
        :param order_by: ``{"orderBy": "RunStart", "order": "DESC"}`` and the like.
        """
        factory = self.settings.factory(resource_group_name, factory_name)
        with self.client(read_retries=READ_RETRIES) as client:
            return client.pages(
                operations.query_runs(factory, updated_after, updated_before, filters=filters, order_by=order_by)
            )

    @airflow_errors()
    def query_activity_runs(
        self,
        run_id: str,
        resource_group_name: str | None = None,
        factory_name: str | None = None,
        *,
        updated_after: datetime | None = None,
        updated_before: datetime | None = None,
        filters: Sequence[Mapping[str, Any]] = (),
        order_by: Sequence[Mapping[str, str]] = (),
    ) -> list[ActivityRun]:
        """
        Return the activity runs of a run, from all pages.

        :param run_id: the run. An unknown one has no activities, and the service says no more than that.
        :param resource_group_name: instead of the connection's.
        :param factory_name: instead of the connection's.
        :param updated_after: begin of the window, with a time zone; by default as long ago as runs are kept.
        :param updated_before: end of the window; by default tomorrow, so that clocks that differ do no harm.
        :param filters: as in :meth:`query_pipeline_runs`, with the activity operands.
        :param order_by: as in :meth:`query_pipeline_runs`.
        """
        factory = self.settings.factory(resource_group_name, factory_name)
        window = activity_window(updated_after, updated_before)
        with self.client(read_retries=READ_RETRIES) as client:
            return client.pages(
                operations.query_activity_runs(
                    factory, check_run_id(run_id), *window, filters=filters, order_by=order_by
                )
            )

    @cached_property
    def _official(self) -> AdfClient:
        return self.client(read_retries=READ_RETRIES)

    @airflow_errors()
    def get_conn(self) -> DataFactoryManagementClient:
        """
        Return the official client, authenticated as this connection's identity.

        Its createRun and cancel are sent as azure-core sends them, which may be twice: start runs by :meth:`run_pipeline`.
        """
        return self._official.official

    @airflow_errors()
    def provider_hook(self) -> AzureDataFactoryHook:
        """Return the Azure provider's hook, authenticated as this connection's identity: datasets, linked services..."""
        from airflow.providers.microsoft.azure.hooks.data_factory import AzureDataFactoryHook

        hook = AzureDataFactoryHook(azure_data_factory_conn_id=self.azure_data_factory_conn_id)
        # The attribute in which the provider's get_conn() keeps its client.
        hook._conn = self.get_conn()  # noqa: SLF001  there is no public way in
        return hook

    def test_connection(self) -> tuple[bool, str]:
        """Check, as the identity, all that the command ``airflow-adf-mi check`` does; nothing is started."""
        try:
            findings = check(self.settings, named=repr(self.azure_data_factory_conn_id))
        except AdfError as e:
            return False, str(e)
        return all_well(findings), in_a_paragraph(findings)


def start_routine(
    factory: FactoryRef, pipeline_name: str, parameters: Mapping[str, Any] | None, recovery: Recovery
) -> Routine[str]:
    """The start of a run under a new request id; its run id."""
    start = Start(factory=factory, pipeline_name=pipeline_name, parameters=parameters, recovery=recovery)
    started = yield from create_run_once(start, start.intent(), clock=time.time, jitter=random.random)
    return started.run_id


def activity_window(after: datetime | None, before: datetime | None) -> tuple[datetime, datetime]:
    """The window given, or one that holds all activities the service may still know, whatever the clocks say."""
    now = datetime.now(UTC)
    return now - RETENTION if after is None else after, now + timedelta(days=1) if before is None else before

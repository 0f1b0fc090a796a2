"""The hook for tasks: from a connection id to settings, clients and the operations of Data Factory."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseHook

from airflow_adf_mi._airflow.connections import check_conn_id, read_connection, reported_if_missing
from airflow_adf_mi.adf.api import operations
from airflow_adf_mi.adf.api.client import AdfClient
from airflow_adf_mi.adf.api.recovery import Recovery
from airflow_adf_mi.adf.config.validation import check_flag, check_run_id
from airflow_adf_mi.adf.connection_check import all_well, check, in_a_paragraph
from airflow_adf_mi.adf.connection_fields import CONN_TYPE, DEFAULT_CONN_ID
from airflow_adf_mi.adf.errors import AdfError
from airflow_adf_mi.adf.routines import Routine, run_routine
from airflow_adf_mi.adf.starting.create_run import create_run_once
from airflow_adf_mi.adf.starting.start import Start
from airflow_adf_mi.adf.times import RUN_RETENTION
from airflow_adf_mi.adf.timing import REAL_TIME
from airflow_adf_mi.exceptions import airflow_errors
from airflow_adf_mi.provider_info import connection_type

if TYPE_CHECKING:
    from airflow.providers.microsoft.azure.hooks.data_factory import AzureDataFactoryHook
    from azure.mgmt.datafactory import DataFactoryManagementClient

    from airflow_adf_mi.adf.config.addresses import FactoryRef
    from airflow_adf_mi.adf.config.settings import AdfSettings
    from airflow_adf_mi.adf.models import ActivityRun, PipelineRun

READ_RETRIES = 3
"""How many times a failed read of a hook is repeated. Waits have rules of their own."""


class AdfHook(BaseHook):
    """
    Sends requests to Azure Data Factory with the managed identity of a connection.

    Every method uses the connection's factory unless the arguments name another factory. A method that fails raises an
    :class:`~airflow_adf_mi.exceptions.AdfError`. Invalid arguments raise
    :class:`~airflow_adf_mi.exceptions.AdfConfigurationError` before anything is sent.

    :param azure_data_factory_conn_id: a connection of type ``azure_data_factory_mi``, or a connection of the Azure
        provider's type ``azure_data_factory`` without a secret.
    """

    conn_type: ClassVar[str] = CONN_TYPE
    conn_name_attr: ClassVar[str] = "azure_data_factory_conn_id"
    default_conn_name: ClassVar[str] = DEFAULT_CONN_ID
    hook_name: ClassVar[str] = "Azure Data Factory (managed identity)"

    # Airflow 3.1 reads the connection form from the next two methods. Later versions read it from `provider_info`.

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """The fields of the connection form, for Airflow 3.1."""
        from wtforms import StringField
        from wtforms.validators import Optional, any_of

        widgets = {}
        for name, field in connection_type()["conn-fields"].items():
            schema = field["schema"]
            choices = schema.get("enum")
            widgets[name] = StringField(
                field["label"],
                validators=[any_of(choices) if choices else Optional()],
                description=field["description"],
                default=schema.get("default"),
            )
        return widgets

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Which of Airflow's own fields the connection form hides, for Airflow 3.1."""
        behaviour = connection_type()["ui-field-behaviour"]
        return {name.replace("-", "_"): value for name, value in behaviour.items()}

    def __init__(self, azure_data_factory_conn_id: str = DEFAULT_CONN_ID) -> None:
        super().__init__()
        self.azure_data_factory_conn_id = azure_data_factory_conn_id

    @cached_property
    @airflow_errors()
    def settings(self) -> AdfSettings:
        """The connection's fields, checked."""
        conn_id = check_conn_id(self.azure_data_factory_conn_id)
        with reported_if_missing(conn_id):
            connection = self.get_connection(conn_id)
        return read_connection(connection)

    @airflow_errors()
    def client(self, *, read_retries: int = 0) -> AdfClient:
        """Make a new client with these settings. The caller closes it."""
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
        check_parameters: bool = True,
    ) -> str:
        """
        Start a run and return its id.

        A start that provably did nothing is sent again for some minutes (throttled, connection refused, no token yet, token
        refused). A start whose answer was lost is never sent again: the hook searches for its run.

        :param pipeline_name: the pipeline.
        :param resource_group_name: overrides the connection's resource group.
        :param factory_name: overrides the connection's factory.
        :param parameters: the pipeline's parameters by name. Values are JSON values; dates, times and the like are sent as
            ISO 8601 text.
        :param recovery: the run to continue, and from where.
        :param check_parameters: check the parameters against the published pipeline before the start, and convert text to the
            types that the pipeline declares.
        """
        factory = self.settings.factory(resource_group_name, factory_name)
        routine = start_routine(factory, pipeline_name, parameters, recovery, check_parameters=check_parameters)
        with self.client() as client:
            return run_routine(routine, client, time.sleep)

    @airflow_errors()
    def get_pipeline_run(
        self, run_id: str, resource_group_name: str | None = None, factory_name: str | None = None
    ) -> PipelineRun:
        """
        Return a run as the service reports it now.

        :param run_id: the run.
        :param resource_group_name: overrides the connection's resource group.
        :param factory_name: overrides the connection's factory.
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
        Cancel a run. Returns True if the service accepted the cancel, False if the run had already ended.

        An accepted cancel is not the end of the run. The run is ``Canceling`` for a while, and may still end with another
        status.

        :param run_id: the run.
        :param resource_group_name: overrides the connection's resource group.
        :param factory_name: overrides the connection's factory.
        :param recursive: also cancel the runs that this run started with ExecutePipeline activities.
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
        Return all runs that were updated in a window, from all pages.

        The service's run list can lag behind :meth:`get_pipeline_run`.

        :param updated_after: the beginning of the window, with a time zone.
        :param updated_before: the end of the window, with a time zone.
        :param resource_group_name: overrides the connection's resource group.
        :param factory_name: overrides the connection's factory.
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

        :param run_id: the run. For an unknown run the service returns an empty list, without an error.
        :param resource_group_name: overrides the connection's resource group.
        :param factory_name: overrides the connection's factory.
        :param updated_after: the beginning of the window, with a time zone. The default is 45 days ago, because the service
            keeps runs for 45 days.
        :param updated_before: the end of the window. The default is tomorrow, so that clocks may differ.
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
        Return Azure's own client, authenticated as this connection's identity.

        That client may send createRun and cancel twice, because azure-core repeats requests. Start runs with
        :meth:`run_pipeline`.
        """
        return self._official.official

    @airflow_errors()
    def provider_hook(self) -> AzureDataFactoryHook:
        """Return the Azure provider's hook, authenticated as this connection's identity: for datasets, linked services..."""
        from airflow.providers.microsoft.azure.hooks.data_factory import AzureDataFactoryHook

        hook = AzureDataFactoryHook(azure_data_factory_conn_id=self.azure_data_factory_conn_id)
        # The provider's get_conn() returns the client in this attribute.
        hook._conn = self.get_conn()  # noqa: SLF001  there is no public way in
        return hook

    def test_connection(self) -> tuple[bool, str]:
        """Run the checks of ``airflow-adf-mi check`` as the connection's identity. Nothing is started."""
        try:
            findings = check(self.settings, named=repr(self.azure_data_factory_conn_id))
        except AdfError as e:
            return False, str(e)
        return all_well(findings), in_a_paragraph(findings)


def start_routine(
    factory: FactoryRef,
    pipeline_name: str,
    parameters: Mapping[str, Any] | None,
    recovery: Recovery,
    *,
    check_parameters: bool,
) -> Routine[str]:
    """Start a run under a new start key, and return its run id."""
    start = Start(
        factory=factory,
        pipeline_name=pipeline_name,
        parameters=parameters,
        recovery=recovery,
        check_parameters=check_flag("check_parameters", check_parameters),
    )
    started = yield from create_run_once(start, start.intent(), timing=REAL_TIME)
    return started.run_id


def activity_window(after: datetime | None, before: datetime | None) -> tuple[datetime, datetime]:
    """The given window. By default, a window with all activities that the service may keep, even if clocks differ."""
    now = datetime.now(UTC)
    return now - RUN_RETENTION if after is None else after, now + timedelta(days=1) if before is None else before

"""The hook for triggers that you write yourself. It does not block the triggerer's event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

from airflow.sdk import BaseHook

from airflow_adf_mi._airflow.connections import read_settings
from airflow_adf_mi.adf.api import operations
from airflow_adf_mi.adf.api.client import AsyncAdfClient
from airflow_adf_mi.adf.api.recovery import Recovery
from airflow_adf_mi.adf.config.validation import check_run_id
from airflow_adf_mi.adf.connection_fields import DEFAULT_CONN_ID
from airflow_adf_mi.adf.routines import run_routine_async
from airflow_adf_mi.exceptions import airflow_errors
from airflow_adf_mi.hooks import activity_window, start_routine

if TYPE_CHECKING:
    from airflow_adf_mi.adf.models import ActivityRun, PipelineRun


class AdfAsyncHook(BaseHook):
    """
    The hook for triggers: the operations of :class:`AdfHook`, without blocking the event loop.

    Use it as an async context manager. Entering it reads the connection and opens one client. The triggers of this package
    do not use this hook, because they share their clients.

    :param azure_data_factory_conn_id: a connection, as for :class:`AdfHook`.
    """

    def __init__(self, azure_data_factory_conn_id: str = DEFAULT_CONN_ID) -> None:
        super().__init__()
        self.azure_data_factory_conn_id = azure_data_factory_conn_id

    async def __aenter__(self) -> Self:
        with airflow_errors():
            self.settings = await read_settings(self.azure_data_factory_conn_id)
            self.client = await AsyncAdfClient.open(self.settings)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.close()

    async def run_pipeline(
        self,
        pipeline_name: str,
        resource_group_name: str | None = None,
        factory_name: str | None = None,
        *,
        parameters: Mapping[str, Any] | None = None,
        recovery: Recovery = Recovery(),
        check_parameters: bool = True,
    ) -> str:
        """Like :meth:`AdfHook.run_pipeline`."""
        with airflow_errors():
            factory = self.settings.factory(resource_group_name, factory_name)
            routine = start_routine(factory, pipeline_name, parameters, recovery, check_parameters=check_parameters)
            return await run_routine_async(routine, self.client, asyncio.sleep)

    async def get_pipeline_run(
        self, run_id: str, resource_group_name: str | None = None, factory_name: str | None = None
    ) -> PipelineRun:
        """Like :meth:`AdfHook.get_pipeline_run`."""
        with airflow_errors():
            factory = self.settings.factory(resource_group_name, factory_name)
            return await self.client.send(operations.get_run(factory, check_run_id(run_id)))

    async def cancel_pipeline_run(
        self,
        run_id: str,
        resource_group_name: str | None = None,
        factory_name: str | None = None,
        *,
        recursive: bool = True,
    ) -> bool:
        """Like :meth:`AdfHook.cancel_pipeline_run`."""
        with airflow_errors():
            factory = self.settings.factory(resource_group_name, factory_name)
            return await self.client.send(operations.cancel_run(factory, check_run_id(run_id), recursive=recursive))

    async def query_pipeline_runs(
        self,
        updated_after: datetime,
        updated_before: datetime,
        resource_group_name: str | None = None,
        factory_name: str | None = None,
        *,
        filters: Sequence[Mapping[str, Any]] = (),
        order_by: Sequence[Mapping[str, str]] = (),
    ) -> list[PipelineRun]:
        """Like :meth:`AdfHook.query_pipeline_runs`."""
        with airflow_errors():
            factory = self.settings.factory(resource_group_name, factory_name)
            return await self.client.pages(
                operations.query_runs(factory, updated_after, updated_before, filters=filters, order_by=order_by)
            )

    async def query_activity_runs(
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
        """Like :meth:`AdfHook.query_activity_runs`."""
        with airflow_errors():
            factory = self.settings.factory(resource_group_name, factory_name)
            window = activity_window(updated_after, updated_before)
            return await self.client.pages(
                operations.query_activity_runs(
                    factory, check_run_id(run_id), *window, filters=filters, order_by=order_by
                )
            )

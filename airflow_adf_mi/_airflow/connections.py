"""From a connection id to the checked fields that Airflow has now."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from airflow.sdk import BaseHook

from airflow_adf_mi._airflow.names import AirflowNotFoundException
from airflow_adf_mi.adf.config.validation import required_text
from airflow_adf_mi.adf.connection_fields import CONN_TYPE, settings_from_connection
from airflow_adf_mi.adf.errors import AdfConfigurationError

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from airflow_adf_mi.adf.config.settings import AdfSettings


def check_conn_id(conn_id: object) -> str:
    """Check a connection id, which may come from a template. Raises `AdfConfigurationError` if it is not a text."""
    return required_text("azure_data_factory_conn_id", conn_id)


def no_such_connection(conn_id: str, environ: Mapping[str, str] = os.environ) -> AdfConfigurationError:
    """The error for a connection id that Airflow does not know."""
    variable = f"AIRFLOW_CONN_{conn_id.upper()}"
    if environ.get(variable):
        # The variable may hold a secret, so the error does not quote it.
        return AdfConfigurationError(
            f"Connection {conn_id!r} cannot be read: the environment variable {variable} is set, but Airflow cannot parse "
            f'its text. Write a JSON object such as {{"conn_type": "{CONN_TYPE}", "extra": {{...}}}}, or a URI '
            f"such as {CONN_TYPE.replace('_', '-')}://?... Correct the variable in the environment of Airflow's processes."
        )
    return AdfConfigurationError(
        f"There is no connection {conn_id!r}. Create one of type {CONN_TYPE!r} (in the UI under Admin, Connections, or as "
        f"the environment variable {variable}), or pass another connection's id as azure_data_factory_conn_id."
    )


def read_connection(connection: Connection, instead: Mapping[str, str] | None = None) -> AdfSettings:
    """The settings of an Airflow connection, for tasks, hooks, `airflow-adf-mi check` and the connection's test.

    :param instead: fields that replace the connection's.
    """
    return settings_from_connection(
        conn_id=connection.conn_id,
        conn_type=connection.conn_type or "",
        extra=connection.extra,
        login=connection.login,
        password=connection.password,
        host=connection.host,
        schema=connection.schema,
        port=connection.port,
        instead=instead,
    )


@contextlib.contextmanager
def reported_if_missing(conn_id: str) -> Iterator[None]:
    """Turn Airflow's errors about a connection that does not exist into ours."""
    try:
        yield
    except AirflowNotFoundException as e:
        raise no_such_connection(conn_id) from e
    except ImportError as e:
        # Outside of its own processes, Airflow 3.1.0 asks a supervisor that is not there. It does so if nothing else knows the
        # connection. On an event loop, it always does so. There, `read_settings` cannot say whether the connection exists.
        if e.name != "airflow.sdk.execution_time.task_runner":
            raise
        raise no_such_connection(conn_id) from e


async def read_settings(azure_data_factory_conn_id: str) -> AdfSettings:
    """Read a connection on an event loop, and return its checked fields."""
    conn_id = check_conn_id(azure_data_factory_conn_id)
    try:
        connection = await BaseHook.aget_connection(conn_id)
    except AirflowNotFoundException as e:
        raise no_such_connection(conn_id) from e
    return read_connection(connection)

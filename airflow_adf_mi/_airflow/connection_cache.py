"""Connections in the triggerer: read once a minute for all tasks that use the same connection.

Airflow needs 30 to 90 ms to read a connection, and seconds to read the first one. A triggerer reads one connection at a time.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from airflow_adf_mi._airflow.connections import check_conn_id, read_settings
from airflow_adf_mi.adf.config.settings import AdfSettings
from airflow_adf_mi.adf.event_loop import PerLoop, mark_seen, start_detached

CONNECTION_KEPT_SECONDS = 60.0
"""Seconds for which a connection that was read is used again. A corrected connection takes effect after that time."""


@dataclass
class _Known:
    reading: asyncio.Task[AdfSettings]
    until: float


_known = PerLoop(dict[str, _Known])


async def settings_of(azure_data_factory_conn_id: str) -> AdfSettings:
    """The checked fields of a connection. If reading fails, all callers that wait get the error."""
    conn_id = check_conn_id(azure_data_factory_conn_id)
    of_loop = _known.here()
    known = of_loop.get(conn_id)
    if known is None or known.until < time.monotonic() or (known.reading.done() and known.reading.exception()):
        # Detached and shielded, because no caller owns the reading. All callers may be cancelled before it fails.
        reading = start_detached(read_settings(conn_id))
        reading.add_done_callback(mark_seen)
        known = of_loop[conn_id] = _Known(reading, time.monotonic() + CONNECTION_KEPT_SECONDS)
    return await asyncio.shield(known.reading)

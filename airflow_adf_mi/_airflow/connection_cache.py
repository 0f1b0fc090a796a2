"""Connections in the triggerer: read once for all tasks that want the same one at about the same time.

A look-up takes Airflow 30 to 90 ms, one at a time in a triggerer, and the first one seconds.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from airflow_adf_mi._airflow.connections import check_conn_id, read_settings
from airflow_adf_mi.adf.config.settings import AdfSettings
from airflow_adf_mi.adf.event_loop import PerLoop, mark_seen, start_detached

KEPT = 60.0
"""Seconds for which what was read is used; a corrected connection acts after that."""


@dataclass
class _Known:
    reading: asyncio.Task[AdfSettings]
    until: float


_known = PerLoop(dict[str, _Known])


async def settings_of(azure_data_factory_conn_id: str) -> AdfSettings:
    """The checked fields of a connection. Raises what reading it raises, to all who wait for it."""
    conn_id = check_conn_id(azure_data_factory_conn_id)
    of_loop = _known.here()
    known = of_loop.get(conn_id)
    if known is None or known.until < time.monotonic() or (known.reading.done() and known.reading.exception()):
        # Detached, and shielded: it belongs to nobody who waits for it. All who waited may have gone when it fails.
        reading = start_detached(read_settings(conn_id))
        reading.add_done_callback(mark_seen)
        known = of_loop[conn_id] = _Known(reading, time.monotonic() + KEPT)
    return await asyncio.shield(known.reading)

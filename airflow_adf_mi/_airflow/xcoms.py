"""XComs of a task instance, asked for again while Airflow does not answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias, TypeVar

from airflow.sdk.execution_time.xcom import XCom

from airflow_adf_mi.adf.errors import AdfError

log = logging.getLogger(__name__)

T = TypeVar("T")
Pause: TypeAlias = Callable[[float], Awaitable[object]]
PAUSES = (1.0, 4.0, 10.0, 15.0)
"""Seconds between questions that Airflow fails to answer."""


def address_of(ti: Any) -> dict[str, Any]:
    """Whose XComs: the arguments that Airflow wants for it."""
    return {"dag_id": ti.dag_id, "run_id": ti.run_id, "task_id": ti.task_id, "map_index": ti.map_index}


async def patiently(act: Callable[[], Awaitable[T]], what: str, pause: Pause = asyncio.sleep) -> T:
    """What `act` asks of Airflow; asked again for half a minute where that fails.

    Raises `AdfError`: nothing has been started that is not written down.
    """
    for seconds in PAUSES:
        try:
            return await act()
        except Exception as e:  # noqa: BLE001  whatever Airflow fails with may pass
            log.warning("Airflow did not let %s. Will try again in %.0f s. %s", what, seconds, e)
        await pause(seconds)
    try:
        return await act()
    except Exception as e:
        raise AdfError(f"Airflow did not let {what} in the triggerer, for {sum(PAUSES):.0f} s. {e}") from e


async def read_xcom(ti: Any, key: str) -> Any:
    """An XCom of a task instance; None if it is not there. Raises `AdfError`."""
    return await patiently(lambda: XCom.aget_one(key=key, **address_of(ti)), f"XCom {key} be read")

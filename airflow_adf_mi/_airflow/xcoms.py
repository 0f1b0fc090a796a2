"""XComs of a task instance, with repeated requests while Airflow does not answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias, TypeVar

from airflow.sdk.execution_time.xcom import XCom

from airflow_adf_mi.adf.errors import AdfError

log = logging.getLogger(__name__)

T = TypeVar("T")
AsyncSleep: TypeAlias = Callable[[float], Awaitable[object]]
PAUSES = (1.0, 4.0, 10.0, 15.0)
"""Seconds before each repetition of a request that Airflow failed to answer."""


def xcom_address(ti: Any) -> dict[str, Any]:
    """The arguments by which Airflow finds the XComs of a task instance."""
    return {"dag_id": ti.dag_id, "run_id": ti.run_id, "task_id": ti.task_id, "map_index": ti.map_index}


async def patiently(act: Callable[[], Awaitable[T]], what: str, pause: AsyncSleep = asyncio.sleep) -> T:
    """Send the request of `act` to Airflow, and repeat it for half a minute while it fails.

    After that, raise `AdfError`. The error loses no run, because every start that was sent is recorded.

    :param what: what `act` does, for logs and errors: "read XCom run_id".
    """
    for seconds in PAUSES:
        try:
            return await act()
        except Exception as e:  # noqa: BLE001  any failure of Airflow may be temporary
            log.warning("Airflow could not %s. Trying again in %.0f s. %s", what, seconds, e)
        await pause(seconds)
    try:
        return await act()
    except Exception as e:
        raise AdfError(f"In the triggerer, Airflow could not {what} for {sum(PAUSES):.0f} s. {e}") from e


async def read_xcom(ti: Any, key: str) -> Any:
    """Read an XCom of a task instance; None if it does not exist. Raises `AdfError` if Airflow does not answer."""
    return await patiently(lambda: XCom.aget_one(key=key, **xcom_address(ti)), f"read XCom {key}")

"""Warns of a late run in the triggerer, once in each try, also if the triggerer is restarted meanwhile.

A new trigger cannot know whether the trigger before it has warned. So the XCom of the warning is read before the warning, which
costs one request to Airflow. The requests are sent beside the wait, so that they delay neither the end of the run nor the
deadline. An Airflow whose triggers have no XComs only logs and counts, and repeats the warning after a restart.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from airflow_adf_mi._airflow import features
from airflow_adf_mi._airflow.task_instance import LATE_RUN_KEY
from airflow_adf_mi._airflow.xcoms import patiently, read_xcom, xcom_address
from airflow_adf_mi.adf.errors import AdfError
from airflow_adf_mi.adf.waiting.late_run import LateRun

log = logging.getLogger(__name__)

PUSH_SECONDS = 5.0
"""If the wait ends while the warning is pushed, the push may take this many more seconds."""


@asynccontextmanager
async def warning_of_late_run(ti: Any) -> AsyncIterator[Callable[[LateRun], None]]:
    """Yield the function that a `LateWatch` calls.

    :param ti: the task instance; None in dag.test(), where a trigger has none.
    """
    tasks: list[asyncio.Task[None]] = []

    def begin(late: LateRun) -> None:
        tasks.append(asyncio.get_running_loop().create_task(_warn(ti, late)))

    try:
        yield begin
        if tasks:
            await asyncio.wait(tasks, timeout=PUSH_SECONDS)
    finally:
        for task in tasks:
            task.cancel()


async def _warn(ti: Any, late: LateRun) -> None:
    has_xcoms = ti is not None and features.ASYNC_XCOMS
    if has_xcoms and await _has_warned(ti, late):
        return
    late.announce()
    if not has_xcoms:
        return
    from airflow.sdk.execution_time.xcom import XCom

    value = late.to_json(ti.try_number)
    try:
        await patiently(lambda: XCom.aset(LATE_RUN_KEY, value, **xcom_address(ti)), f"push XCom {LATE_RUN_KEY}")
    except AdfError as e:
        log.warning("The XCom of the late run is missing. %s", e)


async def _has_warned(ti: Any, late: LateRun) -> bool:
    """Whether an earlier trigger of this try has warned of this run."""
    try:
        known = await read_xcom(ti, LATE_RUN_KEY)
    except AdfError as e:
        log.warning("It is not known whether this try has already warned of the late run. %s", e)
        return False
    its = {"run_id": late.address.run_id, "try_number": ti.try_number}
    return isinstance(known, dict) and its.items() <= known.items()

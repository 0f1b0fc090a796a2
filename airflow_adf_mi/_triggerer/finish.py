"""Ends a task in its trigger, after its run has succeeded. So no worker is started for the task."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from airflow.sdk.execution_time.xcom import XCom
from airflow.triggers.base import TaskSuccessEvent, TriggerEvent

from airflow_adf_mi._airflow.xcoms import patiently, xcom_address
from airflow_adf_mi.adf.errors import AdfError
from airflow_adf_mi.links import AdfPipelineRunLink

log = logging.getLogger(__name__)

RETURN_VALUE = "return_value"
LINK_KEY = AdfPipelineRunLink().xcom_key
LINK_AFTER = 60.0
"""Seconds of waiting after which the link is pushed. A task that ends earlier gets its link at the end."""


async def end_in_triggerer(
    ti: Any, result: Mapping[str, Any] | None, *, xcoms: Mapping[str, str] | None = None
) -> TriggerEvent | None:
    """Push the task's result, and make the event that ends the task; None if Airflow does not store the result.

    :param ti: the task instance.
    :param result: what the task returns, or None if nothing is to be pushed.
    :param xcoms: XComs that go with the event. Airflow encodes them twice, and decodes only links twice.
    """
    try:
        if result is not None:
            await patiently(lambda: XCom.aset(RETURN_VALUE, dict(result), **xcom_address(ti)), "push the task's result")
    except AdfError as e:
        log.warning("The task ends on a worker. %s", e)
        return None
    return TaskSuccessEvent(xcoms=None if xcoms is None else dict(xcoms))


@asynccontextmanager
async def linked_later(ti: Any, studio_url: str) -> AsyncIterator[None]:
    """Push the link to the run, if the run lasts longer than `LINK_AFTER` seconds. Each push costs the triggerer up to 90 ms."""
    pushing = asyncio.get_running_loop().create_task(_push_link(ti, studio_url))
    try:
        yield
    finally:
        pushing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await pushing


async def _push_link(ti: Any, studio_url: str) -> None:
    # Spread in time, because many tasks may have started together.
    await asyncio.sleep(LINK_AFTER * (1 + random.random() / 2))  # noqa: S311  only spreads requests in time
    try:
        await patiently(lambda: XCom.aset(LINK_KEY, studio_url, **xcom_address(ti)), "push the link to the run")
    except AdfError as e:
        log.warning("The link to the run is missing. %s", e)

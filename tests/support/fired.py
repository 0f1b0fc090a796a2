"""Runs a trigger until it fires."""

from __future__ import annotations

from typing import Any

from airflow_adf_mi.triggers.start_and_wait import AdfStartPipelineTrigger
from tests.support.triggerer import Airflow


async def fire(airflow: Airflow, trigger: AdfStartPipelineTrigger | None = None) -> Any:
    (event,) = [event async for event in (trigger or airflow.trigger()).run()]
    return event

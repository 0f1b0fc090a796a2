"""Runs pipelines in the emulator without a server."""

from __future__ import annotations

from typing import Any

from airflow_adf_mi.emulator.clock import ManualClock
from airflow_adf_mi.emulator.pipelines.definitions import FactoryDefinition
from airflow_adf_mi.emulator.pipelines.runs import Run
from airflow_adf_mi.emulator.pipelines.script import Script
from airflow_adf_mi.emulator.service.state import FactoryState, Switches
from tests.conftest import factory_of

DAY = 86_400.0


def state(definition: FactoryDefinition, script: dict[str, Any] | None = None, **switches: Any) -> FactoryState:
    return FactoryState(
        definition,
        subscription_id="s",
        resource_group_name="rg",
        factory_name="adf",
        clock=ManualClock(),
        script=Script.from_json(script or {}),
        switches=Switches(**switches),
    )


def run_to_end(factory: FactoryState, pipeline: str = "P", parameters: dict[str, Any] | None = None) -> Run:
    run_id = factory.create_run(pipeline, parameters)
    factory.clock.advance(DAY)
    factory.settle()
    return factory.runs[run_id]


def statuses(run: Run) -> list[tuple[str, str]]:
    return [(entry.name, entry.status) for entry in run.activities]


def walked(*activities: dict[str, Any], **script: Any) -> Run:
    scripted = {f"P/{name}": entry for name, entry in script.items()}
    return run_to_end(state(factory_of(P=list(activities)), {"activities": scripted}))


FAILED = {"outcome": "Failed", "error": {"message": "boom"}}

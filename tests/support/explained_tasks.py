"""Tasks whose runs end in a scripted way."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.triggers.base import BaseTrigger

from airflow_adf_mi.adf.api import shared_client
from airflow_adf_mi.emulator import Emulator, FactorySpec
from airflow_adf_mi.emulator.pipelines.definitions import FactoryDefinition
from airflow_adf_mi.emulator.pipelines.script import Script
from airflow_adf_mi.exceptions import AdfError
from airflow_adf_mi.operators import AdfRunPipelineOperator
from tests.conftest import unused_faults
from tests.support.explained import assert_no_secret
from tests.support.minors import TaskDeferred
from tests.support.tasks import Task, execute


@contextmanager
def emulator_of(factory: FactoryDefinition, script: Script, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """An emulator of this factory, and a connection to it."""
    with Emulator(FactorySpec(source=factory, factory_name="adf-test"), script=script) as running:
        connection = {"conn_type": "azure_data_factory_mi", "extra": running.connection_extra()}
        monkeypatch.setenv("AIRFLOW_CONN_ADF_HERE", json.dumps(connection))
        for name, value in running.identity_environment("imds").items():
            monkeypatch.setenv(name, value)
        yield running
        assert unused_faults(running) == []


def operator(pipeline: str, **arguments: Any) -> AdfRunPipelineOperator:
    with DAG("d"):
        return AdfRunPipelineOperator(
            **{
                "task_id": "it",
                "pipeline_name": pipeline,
                "azure_data_factory_conn_id": "adf_here",
                "check_interval": 0.2,
                "activity_log": "off",
                "retries": 1,  # as `Task.max_tries`
                **arguments,
            }
        )


def run(it: AdfRunPipelineOperator, task: Task | None = None) -> Any:
    """Run a task to its end; if it defers, its trigger runs in between."""
    task = task or Task()
    try:
        return execute(it, task)
    except TaskDeferred as deferral:
        event = asyncio.run(fired(deferral.trigger))
        return it.execute_complete(task.context, json.loads(json.dumps(event)))


async def fired(trigger: BaseTrigger) -> Any:
    (event,) = [event async for event in trigger.run()]
    assert_no_secret(json.dumps(event.payload) + repr(trigger.serialize()))
    # A separate task closes the shared client, and the end of the loop would cancel it.
    await asyncio.gather(*shared_client._closing)
    return event.payload


def error_of(it: AdfRunPipelineOperator, task: Task | None = None) -> AdfError:
    with pytest.raises(AdfError) as e:
        run(it, task)
    return e.value


both = pytest.mark.parametrize("deferrable", [False, True], ids=["blocking", "deferrable"])

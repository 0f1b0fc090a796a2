"""The window of a Dag run reaches the pipeline, and an empty window is logged: on a worker, and in triggerer mode."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import jinja2
import pendulum
import pytest
from airflow.sdk import DAG

from airflow_adf_mi import AdfRunPipelineOperator, partition_parameters, window_parameters
from airflow_adf_mi._airflow import features
from airflow_adf_mi.emulator import Emulator
from tests.support.fired import fire
from tests.support.minors import TaskDeferred, needs
from tests.support.tasks import Make, Task, runs
from tests.support.triggerer import BEGAN, Airflow, use_airflow

__all__ = ["use_airflow"]
pytestmark = pytest.mark.usefixtures("nothing_left")
TEXT = "The window of this task is empty"
START, END = pendulum.datetime(2026, 2, 3), pendulum.datetime(2026, 2, 4)
IN_UTC = {"day": "2026-02-03T00:00:00Z/2026-02-04T00:00:00Z"}


def joined(parameters: dict[str, str]) -> dict[str, str]:
    """The parameters as one, because the pipeline of the tests declares only one."""
    return {"day": "/".join(parameters.values())}


WINDOW = joined(window_parameters(start="from", end="to"))


def parameters_sent(emulator: Emulator) -> list[dict[str, Any]]:
    return emulator.call(lambda: [dict(run.values) for run in emulator.state().runs.values()])


def warnings(log: pytest.LogCaptureFixture | pytest.CaptureFixture[str]) -> list[str]:
    """The lines about an empty window, at level WARNING. Airflow's logger of an operator prints its lines."""
    if isinstance(log, pytest.LogCaptureFixture):
        return [r.getMessage() for r in log.records if r.levelno == logging.WARNING and TEXT in r.getMessage()]
    printed = log.readouterr()
    return [line for line in (printed.out + printed.err).splitlines() if "warning" in line and TEXT in line]


def run_on_worker(it: AdfRunPipelineOperator, start: datetime, end: datetime) -> None:
    """Render and run a task as a worker does: in a copy of the task."""
    context: Any = {**Task().context, "data_interval_start": start, "data_interval_end": end}
    copy = it.prepare_for_execution()
    copy.render_template_fields(context)
    AdfRunPipelineOperator.execute.__wrapped__(copy, context)  # type: ignore[attr-defined]  # Airflow's


def test_worker_hands_on_the_window(operator: Make, emulator: Emulator, capsys: pytest.CaptureFixture[str]) -> None:
    run_on_worker(operator("Load", parameters=WINDOW), START, END)
    assert parameters_sent(emulator) == [IN_UTC]
    assert warnings(capsys) == []


@pytest.mark.parametrize("deferrable", [False, True])
def test_worker_warns_once_that_the_window_is_empty(
    deferrable: bool, operator: Make, emulator: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    it = operator("Load", parameters=WINDOW, deferrable=deferrable)
    if deferrable:
        with pytest.raises(TaskDeferred):
            run_on_worker(it, START, START)
    else:
        run_on_worker(it, START, START)
    assert len(runs(emulator)) == 1
    (warning,) = warnings(capsys)
    assert "starts and ends at 2026-02-03T00:00:00+00:00" in warning


@pytest.fixture
def triggered(
    emulator: Emulator, use_airflow: Callable[[Airflow], Airflow], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Airflow]:
    """A task in triggerer mode with these parameters, in a Dag run with these members."""
    given = {"conn_type": "azure_data_factory_mi", "extra": emulator.connection_extra()}
    monkeypatch.setenv("AIRFLOW_CONN_ADF", json.dumps(given))

    def make(parameters: dict[str, Any], **dag_run: Any) -> Airflow:
        with DAG("dag", schedule=None, start_date=BEGAN) as dag:
            AdfRunPipelineOperator(
                task_id="it",
                azure_data_factory_conn_id="adf",
                pipeline_name="Load",
                parameters=parameters,
                check_interval=0.2,
                start_from_trigger=True,
            )
        return use_airflow(Airflow(dag, dag_run=dag_run))

    return make


@needs("TEMPLATED_TRIGGERS")
async def test_triggerer_hands_on_the_window(
    triggered: Callable[..., Airflow], emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    await fire(triggered(WINDOW, data_interval_start=START, data_interval_end=END))
    assert parameters_sent(emulator) == [IN_UTC]
    assert warnings(caplog) == []


@needs("TEMPLATED_TRIGGERS")
async def test_triggerer_warns_once_that_the_window_is_empty(
    triggered: Callable[..., Airflow], emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    await fire(triggered(WINDOW))
    assert len(runs(emulator)) == 1
    (warning,) = warnings(caplog)
    assert f"starts and ends at {BEGAN.isoformat()}" in warning


NO_INTERVAL = {"logical_date": None, "data_interval_start": None, "data_interval_end": None}
PARTITION = {
    **NO_INTERVAL,
    "partition_key": "2026-02-03T00:00:00",
    "partition_date": datetime(2026, 2, 3, tzinfo=UTC),
}


@needs("TEMPLATED_TRIGGERS")
@pytest.mark.parametrize("key_format", [None, "%Y-%m-%dT%H:%M:%S"])
async def test_triggerer_hands_on_the_partition(
    key_format: str | None, triggered: Callable[..., Airflow], emulator: Emulator
) -> None:
    parameters = partition_parameters(start="from", end="to", length=timedelta(days=1), key_format=key_format)
    await fire(triggered(joined(parameters), **PARTITION))
    assert parameters_sent(emulator) == [IN_UTC]


@needs("TEMPLATED_TRIGGERS")
async def test_triggerer_starts_nothing_without_a_window(triggered: Callable[..., Airflow], emulator: Emulator) -> None:
    with pytest.raises(jinja2.UndefinedError, match="'data_interval_start' is undefined"):
        await fire(triggered(WINDOW, **NO_INTERVAL))
    with pytest.raises(jinja2.UndefinedError, match="this_dag_run_has_no_partition_date"):
        await fire(triggered(partition_parameters(start="from")))
    assert runs(emulator) == []


@needs("TEMPLATED_TRIGGERS")
def test_templates_of_windows_are_rendered_in_the_triggerer() -> None:
    assert features.PARTITION_DATES
    day = timedelta(days=1)
    names = {"start": "from", "end": "to", "last": "until"}
    for parameters in (
        window_parameters(**names, form="'day='yyyy-MM-dd", timezone="Europe/Berlin"),
        partition_parameters(**names, length=day, timezone="Europe/Berlin"),
        partition_parameters(**names, length=day, key_format="%Y%m%d"),
    ):
        with DAG("dag"):
            it = AdfRunPipelineOperator(
                task_id="it", pipeline_name="Load", parameters=parameters, start_from_trigger=True
            )
        assert it.why_on_worker() is None

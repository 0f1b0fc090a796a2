"""When a task is warned that its window is empty, by its templates and the data interval of its Dag run."""

from __future__ import annotations

import logging
from typing import Any

import pendulum
import pytest
from airflow.sdk import DAG

from airflow_adf_mi import AdfRunPipelineOperator, window_parameters
from airflow_adf_mi._airflow.empty_window import empty_window_warning, warn_of_empty_window

NOON = pendulum.datetime(2026, 2, 3, 12)
EMPTY = {"data_interval_start": NOON, "data_interval_end": NOON}
START, END = "{{ data_interval_start.isoformat() }}", "{{ data_interval_end.isoformat() }}"
BOTH = {"from": START, "to": END}


@pytest.mark.parametrize(
    "parameters",
    [
        BOTH,
        window_parameters(start="from", end="to"),
        window_parameters(start="from", last="to", form="yyyy-MM-dd"),
        {"window": {"from": START, "to": [END]}},
        {"window": ("{{ data_interval_start }}/{{ data_interval_end }}",)},
        "{{ {'from': data_interval_start, 'to': dag_run.data_interval_end} }}",
        {"from": "{{ dag_run.data_interval_start }}", "to": END, "rows": 3},
        {"from": "{{ data_interval_start - x }}", "to": END},
        {"from": "{% if data_interval_start %}{{ ds }}{% endif %}", "to": "{{ data_interval_end | ds }}"},
        {"window": "{{ data_interval_start.isoformat() + '/' + data_interval_end.isoformat() }}"},
    ],
    ids=str,
)
def test_task_that_uses_both_ends_of_an_empty_interval_is_warned(parameters: object) -> None:
    warning = empty_window_warning(parameters, EMPTY)
    assert warning is not None
    assert warning.startswith("The window of this task is empty: ")
    assert "starts and ends at 2026-02-03T12:00:00+00:00" in warning
    assert "schedule has no interval" in warning
    assert 'CronDataIntervalTimetable("@daily", timezone="UTC")' in warning
    assert empty_window_warning(parameters, {**EMPTY, "data_interval_end": NOON.add(seconds=1)}) is None


@pytest.mark.parametrize(
    "parameters",
    [
        None,
        {},
        {"from": START},
        {"to": END},
        {"from": START, "to": "{{ ts }}"},
        {"from": "{{ prev_data_interval_end_success }}", "to": END},
        {"from": "{{ data_interval_end - macros.timedelta(days=1) }}", "to": END},
        {"from": "{{ (data_interval_start - macros.timedelta(days=1)).isoformat() }}", "to": END},
        {"from": START, "to": "{{ data_interval_end + macros.dateutil.relativedelta.relativedelta(months=1) }}"},
        {"from": "{{ data_interval_start.subtract(days=1).isoformat() }}", "to": END},
        {"from": "{{ data_interval_start.subtract(seconds=params.length) }}", "to": END},
        {"from": START, "to": "{{ data_interval_end.in_timezone('UTC').add(hours=1) }}"},
        {"from": "{{ macros.ds_add(data_interval_start | ds, -1) }}", "to": END},
        {"from": "data_interval_start", "to": "data_interval_end"},
        {"names": ["start"], "data_interval_start": END},
    ],
    ids=str,
)
def test_task_that_does_not_hand_on_an_empty_window_is_not_warned(parameters: object) -> None:
    assert empty_window_warning(parameters, EMPTY) is None


def test_dag_run_without_a_data_interval_gives_no_warning() -> None:
    assert empty_window_warning(BOTH, {}) is None
    assert empty_window_warning(BOTH, {"data_interval_start": None, "data_interval_end": None}) is None


class Log:
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warning(self, text: str) -> None:
        self.warnings.append(text)


def warned(task: Any, context: Any = EMPTY) -> int:
    to = Log()
    warn_of_empty_window(to, task, context)
    return len(to.warnings)


def test_templates_are_those_of_the_dag_and_not_the_rendered_texts() -> None:
    with DAG("dag") as dag:
        task = AdfRunPipelineOperator(task_id="it", pipeline_name="Load", parameters=BOTH)
    copy = task.prepare_for_execution()
    copy.parameters = {"from": "2026-02-03", "to": "2026-02-03"}
    assert copy.dag is dag
    assert warned(copy) == 1


def one_of(dag: DAG) -> Any:
    """An instance of a mapped task, as Airflow makes it on a worker, with rendered parameters."""
    mapped: Any = dag.get_task("it")
    return mapped.unmap({"pipeline_name": "Load", "parameters": {"from": "2026-02-03"}})


@pytest.mark.parametrize("mapped", ["parameters", "pipeline_name", "all"])
def test_templates_of_a_mapped_task_are_found(mapped: str) -> None:
    with DAG("dag") as dag:
        if mapped == "parameters":
            AdfRunPipelineOperator.partial(task_id="it", pipeline_name="Load").expand(parameters=[BOTH, {}])
        elif mapped == "pipeline_name":
            AdfRunPipelineOperator.partial(task_id="it", parameters=BOTH).expand(pipeline_name=["Load", "Other"])
        else:
            one = {"pipeline_name": "Load", "parameters": BOTH}
            AdfRunPipelineOperator.partial(task_id="it").expand_kwargs([one])
    assert warned(one_of(dag)) == 1


def test_task_that_is_mapped_over_a_result_is_not_warned() -> None:
    with DAG("dag") as dag:
        before = AdfRunPipelineOperator(task_id="before", pipeline_name="Load")
        AdfRunPipelineOperator.partial(task_id="it", pipeline_name="Load").expand(parameters=before.output)
    assert warned(one_of(dag)) == 0


@pytest.mark.parametrize("template", ["{{ data_interval_start }", "{% mine data_interval_start %}"])
def test_what_cannot_be_read_fails_nothing(template: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "airflow_adf_mi"), DAG("dag"):
        task = AdfRunPipelineOperator(task_id="it", pipeline_name="Load", parameters={"from": template, "to": END})
        assert warned(task) == 0
        assert warned(object()) == 0
    assert "It is not known whether the window of the task is empty." in caplog.text

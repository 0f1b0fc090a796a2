"""Every example Dag, in real Airflow processes, ends as its file says."""

from __future__ import annotations

import pytest

from airflow_adf_mi.emulator.control import run_to_json
from tests.airflow.conftest import World
from tests.examples import LOGICAL_DATE, Example, examples, rows

pytestmark = pytest.mark.airflow

EXAMPLES = examples()


@pytest.fixture(scope="session")
def started(world: World) -> dict[str, str]:
    """All examples, started at once."""
    return {e.dag_id: world.airflow.trigger(e.dag_id, logical_date=LOGICAL_DATE) for e in EXAMPLES}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: e.dag_id)
def test_example_ends_as_it_expects(example: Example, world: World, started: dict[str, str]) -> None:
    run_id = started[example.dag_id]
    assert world.airflow.wait_for_run(example.dag_id, run_id) == "success"
    factory = world.emulator.state("adf-sales")
    runs = world.emulator.call(lambda: [run_to_json(factory, run) for run in factory.runs.values()])
    table = rows(example, world.airflow, run_id, runs)
    assert [row for row in table if row.problem] == []


def test_there_are_six_examples() -> None:
    assert len(EXAMPLES) == 6


def test_task_without_a_worker_had_none(world: World, started: dict[str, str]) -> None:
    world.airflow.wait_for_run("adf_06_without_workers", started["adf_06_without_workers"])
    for ti in world.airflow.task_instances("adf_06_without_workers", started["adf_06_without_workers"]):
        # Workers write these when they begin.
        assert (ti["pid"], ti["hostname"] or None) == (None, None)
    run_id = world.airflow.xcom("adf_06_without_workers", started["adf_06_without_workers"], "copy_apac", "run_id")
    (link,) = world.airflow.links("adf_06_without_workers", started["adf_06_without_workers"], "copy_apac").values()
    assert run_id in str(link)
    summary = world.airflow.xcom("adf_06_without_workers", started["adf_06_without_workers"], "copy_apac")
    assert (summary["run_id"], summary["status"]) == (run_id, "Succeeded")


def test_parameters_came_from_the_data_interval(world: World, started: dict[str, str]) -> None:
    world.airflow.wait_for_run("adf_01_data_interval", started["adf_01_data_interval"])
    run_id = world.airflow.xcom("adf_01_data_interval", started["adf_01_data_interval"], "copy_sales", "run_id")
    values = world.emulator.call(lambda: world.emulator.state("adf-sales").runs[run_id].values)
    assert values["window_start"] <= LOGICAL_DATE.replace("Z", "+00:00") <= values["window_end"]
    assert values["region"] == "emea"


def test_downstream_task_used_the_summary(world: World, started: dict[str, str]) -> None:
    world.airflow.wait_for_run("adf_02_between_systems", started["adf_02_between_systems"])
    report = world.airflow.xcom("adf_02_between_systems", started["adf_02_between_systems"], "report")
    assert report.startswith("NightlyLoad Succeeded after ")
    assert "https://adf.azure.com/en/monitoring/pipelineruns/" in report

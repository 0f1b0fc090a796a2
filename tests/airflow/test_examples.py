"""Every example Dag ends in real Airflow processes as its file expects."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta

import pytest

from airflow_adf_mi.emulator.service.control import run_to_json
from tests.airflow.conftest import World
from tests.support.examples import Example, examples, rows
from tests.support.minors import needs

pytestmark = pytest.mark.airflow

EXAMPLES = examples()


@pytest.fixture(scope="session")
def started(world: World, by_hand: dict[str, str], without_a_date: dict[str, str]) -> dict[str, str]:
    """Start all examples, in addition to the Dag runs of `by_hand` and `without_a_date`."""
    return {e.dag_id: e.start(world.airflow) for e in EXAMPLES}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: e.dag_id)
def test_example_ends_as_its_file_expects(example: Example, world: World, started: dict[str, str]) -> None:
    run_id = started[example.dag_id]
    assert world.airflow.wait_for_run(example.dag_id, run_id) == "success"
    factory = world.emulator.state("adf-sales")
    runs = world.emulator.call(lambda: [run_to_json(factory, run) for run in factory.runs.values()])
    table = rows(example, world.airflow, run_id, runs)
    assert [row for row in table if row.problem] == []


def test_there_are_eight_examples() -> None:
    assert len(EXAMPLES) == 8


@needs("TEMPLATED_TRIGGERS")
def test_task_in_triggerer_mode_used_no_worker(world: World, started: dict[str, str]) -> None:
    world.airflow.wait_for_run("adf_06_triggerer_mode", started["adf_06_triggerer_mode"])
    for ti in world.airflow.task_instances("adf_06_triggerer_mode", started["adf_06_triggerer_mode"]):
        # Workers write these when they begin.
        assert (ti["pid"], ti["hostname"] or None) == (None, None)
    run_id = world.airflow.xcom("adf_06_triggerer_mode", started["adf_06_triggerer_mode"], "copy_apac", "run_id")
    (link,) = world.airflow.links("adf_06_triggerer_mode", started["adf_06_triggerer_mode"], "copy_apac").values()
    assert run_id in str(link)
    summary = world.airflow.xcom("adf_06_triggerer_mode", started["adf_06_triggerer_mode"], "copy_apac")
    assert (summary["run_id"], summary["status"]) == (run_id, "Succeeded")


WINDOWS = [
    ("adf_01_data_interval", "copy_sales"),
    ("adf_06_triggerer_mode", "copy_emea"),
    ("adf_06_triggerer_mode", "copy_apac"),
]

USE_WINDOWS = sorted({dag_id for dag_id, _ in WINDOWS})


@pytest.fixture(scope="session")
def by_hand(world: World) -> dict[str, str]:
    """Manual Dag runs, at noon, of the Dags that use a window. Scheduled Dag runs have midnights as logical dates."""
    return {dag_id: world.airflow.trigger(dag_id, logical_date="2026-01-03T12:00:00Z") for dag_id in USE_WINDOWS}


@pytest.fixture(scope="session")
def without_a_date(world: World) -> dict[str, str]:
    """Dag runs without a logical date, like those that assets start."""
    return {dag_id: world.airflow.trigger(dag_id) for dag_id in USE_WINDOWS}


def window(world: World, dag_id: str, dag_run_id: str, task_id: str) -> tuple[datetime, datetime]:
    """The window that a task passed to its run, read after its Dag run has ended."""
    world.airflow.wait_for_run(dag_id, dag_run_id)
    run_id = world.airflow.xcom(dag_id, dag_run_id, task_id, "run_id")
    values = world.emulator.call(lambda: world.emulator.state("adf-sales").runs[run_id].values)
    return datetime.fromisoformat(values["window_start"]), datetime.fromisoformat(values["window_end"])


@pytest.mark.parametrize(("dag_id", "task_id"), WINDOWS)
def test_window_of_a_scheduled_dag_run_is_the_previous_day(
    dag_id: str, task_id: str, world: World, started: dict[str, str]
) -> None:
    start, end = window(world, dag_id, started[dag_id], task_id)
    assert end - start == timedelta(days=1)
    assert start.time() == time(0)
    assert timedelta(0) <= datetime.now(UTC) - end < timedelta(days=1, hours=1), "the window is the last complete day"


@pytest.mark.parametrize(("dag_id", "task_id"), WINDOWS)
def test_window_of_a_manual_dag_run_is_the_previous_day(
    dag_id: str, task_id: str, world: World, by_hand: dict[str, str]
) -> None:
    expected = datetime(2026, 1, 2, tzinfo=UTC), datetime(2026, 1, 3, tzinfo=UTC)
    assert window(world, dag_id, by_hand[dag_id], task_id) == expected


@pytest.mark.parametrize(("dag_id", "task_id"), WINDOWS)
def test_dag_run_without_a_date_fails_and_starts_nothing(
    dag_id: str, task_id: str, world: World, without_a_date: dict[str, str]
) -> None:
    run_id = without_a_date[dag_id]
    assert world.airflow.wait_for_run(dag_id, run_id) == "failed"
    assert "'data_interval_start' is undefined" in world.airflow.log(dag_id, run_id, task_id)
    assert world.airflow.xcom(dag_id, run_id, task_id, "run_id") is None


def test_examples_cause_no_guess_of_the_emulator(world: World, started: dict[str, str]) -> None:
    for dag_id, run_id in started.items():
        world.airflow.wait_for_run(dag_id, run_id)
    runs = world.emulator.call(lambda: list(world.emulator.state("adf-sales").runs.values()))
    assert [guess for run in runs for guess in run.guesses] == []


def test_downstream_task_used_the_summary(world: World, started: dict[str, str]) -> None:
    world.airflow.wait_for_run("adf_02_between_systems", started["adf_02_between_systems"])
    report = world.airflow.xcom("adf_02_between_systems", started["adf_02_between_systems"], "report")
    assert report.startswith("NightlyLoad Succeeded after ")
    assert "https://adf.azure.com/en/monitoring/pipelineruns/" in report

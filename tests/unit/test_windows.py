"""The window that a scheduled task copies: one day in the README, the docs and all our Dags, and never empty."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pendulum
import pytest
from airflow.sdk import DAG

from airflow_adf_mi.operators import AdfRunPipelineOperator
from tests.conftest import ROOT
from tests.demo import print_windows
from tests.support.examples import DAGS, Example, Row, Window, rows
from tests.support.pages import dag_of, dag_on, scheduled

README = ROOT / "README.md"
NOON = pendulum.datetime(2026, 1, 3, 12, tz="UTC")


def windows_of(dag: DAG, run_after: pendulum.DateTime) -> list[tuple[datetime, datetime]]:
    """The windows of its tasks in a Dag run after that moment, by the timetable that the scheduler reads."""
    timetable = scheduled(dag).timetable
    interval = timetable.infer_manual_data_interval(run_after=run_after)
    context: Any = {"data_interval_start": interval.start, "data_interval_end": interval.end}
    found = []
    for task in dag.tasks:
        if isinstance(task, AdfRunPipelineOperator) and "data_interval" in str(task.parameters):
            rendered = task.render_template(task.parameters, context, dag.get_template_env())
            found.append(
                (datetime.fromisoformat(rendered["window_start"]), datetime.fromisoformat(rendered["window_end"]))
            )
    return found


GET_STARTED = ROOT / "docs" / "get-started.md"
PAGES = {"README": dag_on(README), "get-started": dag_on(GET_STARTED)}
SOURCES = {**PAGES, **{path.name: path.read_text() for path in sorted(DAGS.glob("[0-9]*.py"))}}
TAKE_WINDOWS = [
    name for name, source in SOURCES.items() if "data_interval_start" in source or "window_parameters(" in source
]


def test_pages_and_two_dags_use_windows() -> None:
    assert TAKE_WINDOWS == ["README", "get-started", "01_data_interval.py", "06_triggerer_mode.py"]


@pytest.mark.parametrize("name", TAKE_WINDOWS)
def test_window_is_the_last_complete_day(name: str, tmp_path: Path) -> None:
    dag = dag_of(SOURCES[name], tmp_path)
    assert set(windows_of(dag, NOON)) == {
        (pendulum.datetime(2026, 1, 2, tz="UTC"), pendulum.datetime(2026, 1, 3, tz="UTC"))
    }


@pytest.mark.parametrize("name", PAGES)
def test_plain_daily_schedule_has_an_empty_window(name: str, tmp_path: Path) -> None:
    """This shows that the test above can fail. If Airflow changes this, the page about windows is not needed."""
    trapped = re.sub(r"CronDataIntervalTimetable\((.*?),.*?\)", r"\1", PAGES[name])
    assert 'schedule="@daily"' in trapped
    ((start, end),) = windows_of(dag_of(trapped, tmp_path), NOON)
    assert end - start == timedelta(0)


def test_no_other_file_has_a_schedule_without_an_interval() -> None:
    folders = ("dags", "tests", "bench", "docs", "airflow_adf_mi")
    files = [ROOT / "README.md", *(path for folder in folders for path in (ROOT / folder).rglob("*.*"))]
    texts = {path: path.read_text() for path in files if path.suffix in (".py", ".md") and path != Path(__file__)}
    schedules = {
        (path.name, schedule)
        for path, text in texts.items()
        for schedule in re.findall(r"\bschedule=([A-Za-z\"'][^,)\n]*)", text)
    }
    harmless = ("None", "CronDataIntervalTimetable(", "CronPartitionTimetable(")
    with_interval = {each for each in schedules if each[1].startswith(harmless)}
    assert {name for name, _ in with_interval} > {"README.md", "01_data_interval.py", "06_triggerer_mode.py"}
    assert schedules - with_interval == {
        # These show what to avoid.
        ("windows.md", '"@daily"`'),
        ("troubleshooting.md", '"@daily"` is empty.'),
        ("01_data_interval.py", '"@daily"'),
        ("06_triggerer_mode.py", '"@daily"'),
    }


EXPECTED = {"copy": {"state": "success", "status": "Succeeded", "window_hours": 24}}


class Airflow:
    """An Airflow in which the task has succeeded."""

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        return [{"task_id": "copy", "state": "success", "map_index": -1}]

    def xcom(self, *address: Any) -> str:
        return "r"


def row(start: str, end: str) -> Row:
    run = {"runId": "r", "status": "Succeeded", "activities": [], "durationInMs": 1}
    parameters = {"window_start": start, "window_end": end}
    found = rows(Example("it", EXPECTED), Airflow(), "run", [{**run, "parameters": parameters}])  # type: ignore[arg-type]
    return found[0]


def test_demo_shows_windows_and_reports_empty_ones(capsys: pytest.CaptureFixture[str]) -> None:
    day = row("2026-01-02T00:00:00+00:00", "2026-01-03T00:00:00+00:00")
    assert (day.problem, day.window) == (None, Window("2026-01-02T00:00:00+00:00", "2026-01-03T00:00:00+00:00"))
    empty = row("2026-01-03T00:00:00+00:00", "2026-01-03T00:00:00+00:00")
    assert empty.problem == "window_hours: expected 24, got 0.0"
    print_windows([day, empty])
    shown = capsys.readouterr().out.split("\n")
    assert [line.split()[-1] for line in shown if line.startswith("it")] == ["24", "0"]

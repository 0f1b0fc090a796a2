"""The example Dags and the result that each file expects; used by the demo and by the tests."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.support.stack import RealAirflow

ROOT = Path(__file__).parent.parent.parent
DAGS = ROOT / "dags"
FACTORY = DAGS / "factory"
SCRIPT = DAGS / "emulator_script.json"


@dataclass(frozen=True)
class Example:
    """A Dag file, and what it expects: for each task its state, and the status, activities and window of its ADF run."""

    dag_id: str
    expected: Mapping[str, Mapping[str, Any]]

    def start(self, airflow: RealAirflow) -> str:
        """The id of its Dag run: one that Airflow has scheduled where a task takes a window, otherwise one started here."""
        takes_a_window = any("window_hours" in task for task in self.expected.values())
        return airflow.scheduled_run(self.dag_id) if takes_a_window else airflow.trigger(self.dag_id)


@dataclass(frozen=True)
class Window:
    """The window that a run copies, as its parameters give it."""

    start: str
    end: str

    @property
    def hours(self) -> float:
        """Its length. Raises `ValueError` if `start` or `end` is not a time."""
        return (datetime.fromisoformat(self.end) - datetime.fromisoformat(self.start)).total_seconds() / 3600


@dataclass(frozen=True)
class Row:
    """A task instance after the Dag run."""

    dag_id: str
    task_id: str
    state: str | None
    run_id: str | None
    status: str | None
    seconds: float | None
    activities: int | None
    problem: str | None
    window: Window | None = None


def examples() -> list[Example]:
    """Read from the files without importing them, so that Airflow is not needed here."""
    return [_example(path) for path in sorted(DAGS.glob("[0-9]*.py"))]


def _example(path: Path) -> Example:
    tree = ast.parse(path.read_text())
    expected = next(
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) == "EXPECTED"
    )
    return Example(dag_id=f"adf_{path.stem}", expected=expected)


def rows(example: Example, airflow: RealAirflow, dag_run_id: str, runs: list[dict[str, Any]]) -> list[Row]:
    """The tasks of a Dag run, each compared with its expectation; `runs` are the emulator's."""
    by_id = {run["runId"]: run for run in runs}
    instances = airflow.task_instances(example.dag_id, dag_run_id)
    result = []
    for task_id, expected in example.expected.items():
        found = [ti for ti in instances if ti["task_id"] == task_id]
        if len(found) != expected.get("instances", 1):
            problem = f"expected {expected.get('instances', 1)} instances, found {len(found)}"
            result.append(Row(example.dag_id, task_id, None, None, None, None, None, problem))
        for ti in found:
            adf = None
            if "status" in expected:
                adf = by_id.get(_run_id(airflow, example.dag_id, dag_run_id, task_id, ti["map_index"]))
            window = _window(adf) if adf and "window_hours" in expected else None
            got = {
                "state": ti["state"],
                "status": adf["status"] if adf else None,
                "activities": len(adf["activities"]) if adf else None,
                "window_hours": window.hours if window else None,
            }
            wrong = [
                f"{k}: expected {expected[k]}, got {v}" for k, v in got.items() if k in expected and expected[k] != v
            ]
            name = task_id if ti["map_index"] < 0 else f"{task_id}[{ti['map_index']}]"
            result.append(
                Row(
                    example.dag_id,
                    name,
                    got["state"],
                    adf["runId"] if adf else None,
                    got["status"],
                    adf["durationInMs"] / 1000 if adf and adf["durationInMs"] is not None else None,
                    got["activities"],
                    "; ".join(wrong) or None,
                    window,
                )
            )
    unexpected = {ti["task_id"] for ti in instances} - set(example.expected)
    result += [
        Row(example.dag_id, task_id, None, None, None, None, None, "unexpected") for task_id in sorted(unexpected)
    ]
    return result


def _window(run: Mapping[str, Any]) -> Window | None:
    parameters = run["parameters"]
    if not {"window_start", "window_end"} <= set(parameters):
        return None
    return Window(parameters["window_start"], parameters["window_end"])


def _run_id(airflow: RealAirflow, dag_id: str, dag_run_id: str, task_id: str, map_index: int) -> str | None:
    """The run's id: an operator pushes it at once; a sensor has it in its summary."""
    pushed = airflow.xcom(dag_id, dag_run_id, task_id, "run_id", map_index)
    if pushed is None:
        pushed = (airflow.xcom(dag_id, dag_run_id, task_id, map_index=map_index) or {}).get("run_id")
    return pushed if isinstance(pushed, str) else None

"""The cells of `make matrix`, and how their results are read."""

from __future__ import annotations

import sys
from importlib.metadata import metadata, version
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from airflow_adf_mi._airflow import features
from tests.chaos.run import all_rows
from tests.matrix import environments
from tests.matrix.cells import AIRFLOWS, OLDEST, PYTHONS, Cell, cells, project, requirements, resolution
from tests.matrix.run import (
    CHAOS,
    CHAOS_OF_RETRIES,
    IN_AIRFLOW,
    NOT_SUPPORTED,
    RED,
    WITHOUT_AIRFLOW,
    CellRun,
    keep,
    kept,
    parts_of,
    summary_of,
)


def test_each_minor_is_combined_with_each_python() -> None:
    found = cells()
    assert len(found) == len({cell.name for cell in found}) == 1 + (len(AIRFLOWS) - 1) * len(PYTHONS)
    assert {airflow.name for airflow in AIRFLOWS} == {"3.1 lowest", "3.1", "3.2", "3.3"}


def test_pythons_of_the_classifiers_are_in_the_matrix() -> None:
    classifiers = project()["project"]["classifiers"]
    claimed = {
        text.rpartition(" ")[2] for text in classifiers if text.startswith("Programming Language :: Python :: 3.")
    }
    allowed = SpecifierSet(project()["project"]["requires-python"])
    assert claimed == set(PYTHONS) == {python for python in (*PYTHONS, "3.10", "3.15") if f"{python}.0" in allowed}


def test_pythons_of_a_minor_are_those_of_its_metadata() -> None:
    allowed = SpecifierSet(metadata("apache-airflow")["Requires-Python"])
    minor = ".".join(version("apache-airflow").split(".")[:2])
    for airflow in AIRFLOWS:
        if airflow.name.startswith(minor):
            assert set(airflow.pythons) == {python for python in PYTHONS if f"{python}.0" in allowed}


def test_cell_that_airflow_excludes_is_not_supported(tmp_path: Path) -> None:
    run = CellRun(Cell(airflow=AIRFLOWS[1], python="3.14"), (), wheel=tmp_path, commit=None, resume=False)
    run.make()
    assert (run.result.state, run.result.text) == (NOT_SUPPORTED, "Airflow 3.1 does not support Python 3.14")


def test_environment_that_cannot_be_made_is_a_red_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments, "UV", Path("/bin/false"))
    monkeypatch.setattr(environments, "HOME", tmp_path)
    (tmp_path / "python3.12").symlink_to(sys.executable)
    monkeypatch.setenv("PATH", str(tmp_path))
    run = CellRun(Cell(airflow=AIRFLOWS[-1], python="3.12"), (), wheel=Path("wheel"), commit=None, resume=False)
    run.make()
    assert run.result.state == RED
    assert run.result.text.startswith("uv venv ")


def test_oldest_cell_has_the_lower_bounds_of_the_package() -> None:
    cell = Cell(airflow=OLDEST, python="3.11")
    needed = requirements(cell)
    assert needed[0] == "apache-airflow==3.1.0"
    assert not any(text.startswith("apache-airflow>") for text in needed)
    assert "azure-mgmt-datafactory>=9.2,<11" in needed
    options = resolution(cell)
    assert options[:2] == ["--resolution", "lowest-direct"]
    assert "2025-10-06" in options
    assert any(option.startswith("pytest=") for option in options)


def test_newest_airflow_gets_the_newest_packages() -> None:
    assert resolution(Cell(airflow=AIRFLOWS[-1], python="3.11")) == []


@pytest.mark.parametrize(
    ("output", "summary"),
    [
        ("....\n4 passed in 1.23s\n", "4 passed"),
        ("=== 1 failed, 3 passed, 2 skipped in 61.00s (0:01:01) ===\n", "1 failed, 3 passed, 2 skipped"),
        ("2 errors in 0.1s\n", "2 errors"),
        ("row  as expected\n\n148 cases, 0 not as expected\n", "148 cases, 0 not as expected"),
        ("Traceback\n", None),
    ],
)
def test_summary_of_a_test_run_is_read(output: str, summary: str | None) -> None:
    assert summary_of(output) == summary


def test_each_minor_runs_the_chaos_suite_on_one_python() -> None:
    parts = {cell.name: parts_of(cell, (WITHOUT_AIRFLOW, IN_AIRFLOW, CHAOS)) for cell in cells()}
    assert {name for name, chosen in parts.items() if CHAOS in chosen} == {
        f"airflow-{minor}-python-3.11" for minor in ("3.1", "3.2", "3.3")
    }
    assert {name for name, chosen in parts.items() if CHAOS_OF_RETRIES in chosen} == {"airflow-3.1-lowest-python-3.11"}
    assert all(chosen[:2] == (WITHOUT_AIRFLOW, IN_AIRFLOW) for chosen in parts.values())


def test_green_results_of_another_commit_are_not_kept(tmp_path: Path) -> None:
    assert kept(tmp_path, "a1") == {}
    keep(tmp_path, "a1", {"chaos": "chaos: exit status 0"})
    assert kept(tmp_path, "a1") == {"chaos": "chaos: exit status 0"}
    assert kept(tmp_path, "b2") == {}
    keep(tmp_path, None, {"chaos": "chaos: exit status 0"})
    assert kept(tmp_path, None) == {}


@pytest.mark.parametrize("has_store", [True, False])
def test_chaos_rows_of_an_airflow_are_those_that_it_is_promised(
    has_store: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "TASK_STATE_STORE", has_store)
    monkeypatch.setattr(features, "TEMPLATED_TRIGGERS", has_store)
    names = {row.name for row in all_rows()}
    assert ("marked-failed-triggerer-mode" in names) == has_store
    assert ("cleared-cancel-loses-blocking" in names) == has_store
    assert ("dag-run-made-again" in names) == (not has_store)
    assert {"marked-failed-deferrable", "cleared-deferrable", "own-timeout-blocking", "eviction"} <= names

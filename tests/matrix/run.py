"""Builds the wheel, installs it in the environment of a cell, and runs the tests there, without the sources of the package."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from tests.matrix.cells import PRODUCT, ROOT, Cell, project, python_named, requirements, resolution
from tests.support.processes import run_to_end

HOME = ROOT / ".matrix"
UV = ROOT / ".tools" / "bin" / "uv"
GREEN, RED, NOT_RUN, NOT_SUPPORTED = "green", "red", "not run", "not supported by Airflow"


@dataclass(frozen=True, kw_only=True)
class Part:
    """Some of the tests."""

    name: str
    command: tuple[str, ...]
    """A command of the cell's Python."""


# The plugin of anyio is not needed, and some of its versions do not fit to the tests' pytest.
PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:anyio")
WITHOUT_AIRFLOW = Part(
    name="unit, integration, contract",
    command=(*PYTEST, "-n", "2", "--dist", "worksteal", "tests/unit", "tests/integration", "tests/contract"),
)
IN_AIRFLOW = Part(name="real Airflow", command=(*PYTEST, "tests/airflow"))
CHAOS = Part(name="chaos", command=("-m", "tests.chaos"))
SMOKE = Part(
    name="smoke",
    command=(
        *(*PYTEST, "-n", "2", "--dist", "worksteal", "tests/unit", "tests/contract"),
        *("tests/integration/test_operators.py", "tests/integration/test_hooks.py", "tests/integration/triggers"),
    ),
)


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came out for a cell."""

    cell: Cell
    state: str
    text: str


def build_wheel() -> Path:
    """Build the wheel of this checkout."""
    shutil.rmtree(HOME / "wheel", ignore_errors=True)
    must(["build", "--quiet", "--wheel", "--out-dir", str(HOME / "wheel")])
    (wheel,) = (HOME / "wheel").glob("*.whl")
    return wheel


def run_cell(cell: Cell, wheel: Path, parts: tuple[Part, ...]) -> Result:
    """Run the tests of a cell. Prints each part when it has ended."""
    python = python_named(cell.python)
    if python is None:
        return Result(cell=cell, state=NOT_RUN, text=f"no Python {cell.python} on this machine")
    if not is_allowed(cell.python):
        return Result(cell=cell, state=NOT_RUN, text=f"{PRODUCT} does not support Python {cell.python} yet")
    home = HOME / cell.name
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    refused = install(cell, python, wheel, home)
    if refused is not None:
        return refused
    copy_tests(home / "checkout")
    texts, state = [versions(home)], GREEN
    for part in parts:
        began = time.monotonic()
        done = run_to_end(
            [str(home / "venv" / "bin" / "python"), *part.command], cwd=home / "checkout", env=environment(home)
        )
        (home / f"{part.name.replace(', ', '-').replace(' ', '-')}.log").write_text(done.stdout + done.stderr)
        summary = summary_of(done.stdout) or f"exit status {done.returncode}"
        text = f"{part.name}: {summary}, {time.monotonic() - began:.0f} s"
        print(f"{cell.name}: {text}", flush=True)
        texts.append(text)
        if done.returncode != 0:
            state = RED
    return Result(cell=cell, state=state, text="; ".join(texts))


def install(cell: Cell, python: Path, wheel: Path, home: Path) -> Result | None:
    """Make the environment of a cell. Returns a result if it cannot be made."""
    must(["venv", "--quiet", "--python", str(python), str(home / "venv")])
    needed = home / "requirements.txt"
    needed.write_text("\n".join(requirements(cell)) + "\n")
    interpreter = ["--python", str(home / "venv" / "bin" / "python")]
    locked = uv(
        ["pip", "compile", "--quiet", *resolution(cell), *interpreter, str(needed), "-o", str(home / "locked.txt")]
    )
    if locked.returncode != 0:
        is_excluded = re.search(
            r"apache-airflow\S* .*depends on Python|Requires-Python|does not satisfy Python", locked.stderr
        )
        state = NOT_SUPPORTED if is_excluded else RED
        return Result(cell=cell, state=state, text=" ".join(locked.stderr.split())[:300])
    must(["pip", "install", "--quiet", *interpreter, "-r", str(home / "locked.txt")])
    must(["pip", "install", "--quiet", *interpreter, "--no-deps", str(wheel)])
    must(["pip", "check", "--quiet", *interpreter])
    return None


def copy_tests(to: Path) -> None:
    """Copy what belongs to the checkout, without the package: the tests must import the wheel's."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in listed.stdout.split("\0"):
        if name and not name.startswith("airflow_adf_mi/") and (ROOT / name).is_file():
            target = to / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target)


def environment(home: Path) -> dict[str, str]:
    import os

    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "PYTHON", "VIRTUAL_ENV"))
    }
    return {**kept, "AIRFLOW_HOME": str(home / "airflow"), "PATH": f"{home / 'venv' / 'bin'}:{kept.get('PATH', '')}"}


def is_allowed(python: str) -> bool:
    """Whether the package itself may be installed on a Python version."""
    from packaging.specifiers import SpecifierSet

    return SpecifierSet(project()["project"]["requires-python"]).contains(f"{python}.0")


def versions(home: Path) -> str:
    """The versions that matter, as the cell has them."""
    locked = (home / "locked.txt").read_text()
    names = ("apache-airflow", "apache-airflow-providers-microsoft-azure", "azure-identity", "azure-mgmt-datafactory")
    found = [re.search(rf"^{name}==(\S+)", locked, re.MULTILINE) for name in names]
    return " ".join(f"{name.rpartition('-')[2]} {match[1]}" for name, match in zip(names, found, strict=True) if match)


def summary_of(output: str) -> str | None:
    """Pytest's last line, without the time."""
    found = re.findall(r"^(?:=+ )?(\d+ (?:passed|failed|error).*?) in [\d.]+s", output, re.MULTILINE)
    return found[-1] if found else None


def uv(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(UV), *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def must(arguments: list[str]) -> None:
    done = uv(arguments)
    if done.returncode != 0:
        raise RuntimeError(f"uv {' '.join(arguments)} failed: {done.stderr[-2000:]}")

"""Runs the tests of the cells, and keeps what was green."""

from __future__ import annotations

import json
import re
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from tests.matrix.cells import PYTHONS, ROOT, Cell
from tests.matrix.environments import (
    CannotBeMadeError,
    NoPythonError,
    NotSupportedByAirflowError,
    environment,
    home_of,
    make_environment,
    versions,
)
from tests.support.processes import run_to_end, side_by_side

GREEN, RED, NOT_RUN, NOT_SUPPORTED = "green", "red", "not run", "not supported by Airflow"


@dataclass(frozen=True, kw_only=True)
class Part:
    """Some of the tests."""

    name: str
    command: tuple[str, ...]
    """A command of the cell's Python."""
    yields: bool = False
    """Whether it leaves the processor to the tests in real Airflow processes."""


# The plugin of anyio is not needed, and some of its versions do not fit to the tests' pytest.
PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:anyio")
WITHOUT_AIRFLOW = Part(
    name="unit, integration, contract",
    command=(*PYTEST, "-n", "3", "--dist", "worksteal", "tests/unit", "tests/integration", "tests/contract"),
    yields=True,
)
IN_AIRFLOW = Part(name="real Airflow", command=(*PYTEST, "tests/airflow"))
# Status checks that fail are our own code's business, whatever the version of Airflow. `make chaos` has these rows, too.
CHAOS = Part(name="chaos", command=("-m", "tests.chaos", "--without", "status-checks", "--many", "40"))
# Airflow 3.1.0 resumes the retry of a deferred task with the result of the failed try.
CHAOS_OF_RETRIES = Part(name="chaos of retries", command=("-m", "tests.chaos", "--only", "retries-between", "rerun"))
SMOKE = Part(
    name="smoke",
    command=(
        *(*PYTEST, "-n", "2", "--dist", "worksteal", "tests/unit", "tests/contract"),
        *("tests/integration/test_operators.py", "tests/integration/test_hooks.py", "tests/integration/triggers"),
    ),
    yields=True,
)


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came out for a cell."""

    cell: Cell
    state: str
    text: str


class CellRun:
    """The tests of one cell. Two threads share it: one runs what needs real Airflow processes, the other runs the rest."""

    def __init__(self, cell: Cell, parts: tuple[Part, ...], *, wheel: Path, commit: str | None, resume: bool) -> None:
        """:param commit: the commit whose tests run; None if files differ from it.
        :param resume: do not repeat the parts that were green on this commit before.
        """
        self.cell = cell
        self.parts = parts
        self.wheel = wheel
        self.home = home_of(cell)
        self.made: Future[Result | None] = Future()
        """Ends when the environment is there, or with the result of a cell that has none."""
        self.commit = commit
        self.green = kept(self.home, commit) if resume else {}
        self.red: dict[str, str] = {}

    def make(self) -> None:
        """Make the environment, unless results of it are kept."""
        refused = None
        try:
            if not self.green:
                make_environment(self.cell, self.wheel)
        except CannotBeMadeError as error:
            states = {NoPythonError: NOT_RUN, NotSupportedByAirflowError: NOT_SUPPORTED}
            refused = Result(cell=self.cell, state=states.get(type(error), RED), text=str(error))
        self.made.set_result(refused)

    def run(self, part: Part) -> None:
        """Run a part when the environment is there. Prints the result."""
        if part in self.parts and self.made.result() is None and part.name not in self.green:
            self._run(part)

    def _run(self, part: Part) -> None:
        began = time.monotonic()
        command = [str(self.home / "venv" / "bin" / "python"), *part.command]
        if part.yields:
            command = ["nice", "-n", "19", *command]
        done = run_to_end(command, cwd=self.home / "checkout", env=environment(self.home))
        (self.home / f"{part.name.replace(', ', '-').replace(' ', '-')}.log").write_text(done.stdout + done.stderr)
        summary = summary_of(done.stdout) or f"exit status {done.returncode}"
        text = f"{part.name}: {summary}, {time.monotonic() - began:.0f} s"
        print(f"{self.cell.name}: {text}{'' if done.returncode == 0 else ' (red)'}", flush=True)
        if done.returncode == 0:
            self.green[part.name] = text
            keep(self.home, self.commit, self.green)
        else:
            self.red[part.name] = text

    @property
    def result(self) -> Result:
        """What came out, after all parts have run."""
        refused = self.made.result()
        if refused is not None:
            return refused
        ran = {**self.green, **self.red}
        text = "; ".join([versions(self.home), *(ran[part.name] for part in self.parts)])
        return Result(cell=self.cell, state=RED if self.red else GREEN, text=text)


def parts_of(cell: Cell, parts: Sequence[Part]) -> tuple[Part, ...]:
    """Those of the parts that a cell runs. The chaos suite takes long, so it runs with the newest of a minor, on one Python."""
    if cell.airflow.lowest:
        return tuple(CHAOS_OF_RETRIES if part is CHAOS else part for part in parts)
    return tuple(part for part in parts if part is not CHAOS or cell.python == PYTHONS[0])


def run_cells(runs: Sequence[CellRun]) -> list[Result]:
    """Run the tests of all cells: those with real Airflow processes, which mostly wait, beside the rest."""
    stopped = threading.Event()

    def run_all(parts: Sequence[Part], runs: Sequence[CellRun]) -> None:
        for part in parts:
            for run in runs:
                if not stopped.is_set():
                    run.run(part)

    def rest() -> None:
        try:
            for run in runs:
                run.make()
                run_all((WITHOUT_AIRFLOW, SMOKE), [run])
        finally:
            for run in runs:
                run.made.cancel()

    def in_airflow() -> None:
        run_all((IN_AIRFLOW, CHAOS, CHAOS_OF_RETRIES), runs)

    with side_by_side(2, interrupt_children=True) as pool:
        lanes = [pool.submit(rest), pool.submit(in_airflow)]
        try:
            for lane in lanes:
                lane.result()
        except BaseException:
            stopped.set()
            raise
    return [run.result for run in runs]


def keep(home: Path, commit: str | None, green: Mapping[str, str]) -> None:
    """Keep the results of the parts that were green."""
    (home / "green.json").write_text(json.dumps({"commit": commit, "green": dict(green)}))


def kept(home: Path, commit: str | None) -> dict[str, str]:
    """The kept results, if they are from this commit."""
    file = home / "green.json"
    written = json.loads(file.read_text()) if file.exists() else {}
    return written["green"] if commit is not None and written.get("commit") == commit else {}


def commit_of_checkout() -> str | None:
    """None if a file differs from the commit."""
    asked = [
        subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
        for arguments in (["rev-parse", "HEAD"], ["status", "--porcelain"])
    ]
    return None if asked[1] else asked[0]


def summary_of(output: str) -> str | None:
    """The last line of pytest without the time, or of the chaos suite."""
    pytest, chaos = r"(?:=+ )?(\d+ (?:passed|failed|error).*?) in [\d.]+s", r"(\d+ cases, \d+ not as expected)"
    found = ["".join(pair) for pair in re.findall(f"^(?:{pytest}|{chaos})", output, re.MULTILINE)]
    return found[-1] if found else None

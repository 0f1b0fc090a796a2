"""`make mutation`: removes the handling of each fault and each bad input, and checks that a test fails.

The rows are in `tests/mutants`. First every selection of tests must pass in an unchanged copy of the project, because a test
that fails anyway proves nothing. Then each row changes its copy, and its tests must fail.

Importing Airflow takes longer than most tests. So this process imports all foreign modules once, and forks for each row.
"""

from __future__ import annotations

import argparse
import compileall
import importlib
import os
import shlex
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from py_compile import PycInvalidationMode
from typing import Generic, TypeVar

import pytest

from tests.mutants import Mutant, all_mutants
from tests.support.processes import run_program

ROOT = Path(__file__).parent.parent
PACKAGE = Path("airflow_adf_mi")
OUTPUT = "output.txt"
TIMEOUT = 300
"""Seconds for the tests of one row."""
TEST_TIMEOUT = 120
"""Seconds for one test. A test that waits too long fails, and so kills its mutant."""
PRELOADED = (
    "_hypothesis_pytestplugin",
    "aiohttp.web",
    "airflow.models",
    "airflow.sdk.bases.operator",
    "airflow.sdk.execution_time.task_runner",
    "airflow.serialization.serialized_objects",
    "airflow.triggers.base",
    "azure.identity.aio",
    "azure.mgmt.datafactory.aio",
    "azure.mgmt.datafactory.models",
    "cryptography.x509",
    "httpx",
    "hypothesis",
    "pytest_asyncio.plugin",
    "pytest_cov.plugin",
    "requests",
)


T = TypeVar("T")


@dataclass(frozen=True)
class Job(Generic[T]):
    """Tests to run in a copy of the project."""

    about: T
    tests: str
    change: Callable[[Path], Callable[[], object]]
    """Changes the copy, and returns a function that undoes the change."""


class _ExitStatus:
    """A plugin of pytest that keeps the status of the tests, in case pytest itself fails after them.

    A test that is stopped may leave a process or an open file. pytest then raises their warnings from its own end.
    """

    status = 0

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        self.status = int(exitstatus)


@dataclass(frozen=True)
class _Running(Generic[T]):
    about: T
    copy: Path
    undo: Callable[[], object]
    until: float


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="make mutation", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("only", nargs="*", help="only rows with one of these texts in their name, file or tests")
    only = parser.parse_args(arguments).only
    rows = [row for row in all_mutants() if not only or any(text in f"{row}" for text in only)]
    if stale := [row for row in rows if mutated(row.file, row.old, row.new) is None]:
        print("\n".join(f"The code of this row is not in {row.file} exactly once: {row.what}" for row in stale))
        return 1
    began = time.monotonic()
    for name in PRELOADED:
        importlib.import_module(name)
    with tempfile.TemporaryDirectory(prefix="adf-mutation-") as folder:
        copies = [copy_of_project(Path(folder) / str(number)) for number in range(os.cpu_count() or 1)]
        for copy in copies:
            # By the contents of the sources, not by their times: a file that is changed is compiled again.
            compileall.compile_dir(copy, quiet=2, invalidation_mode=PycInvalidationMode.CHECKED_HASH)
        selections = dict.fromkeys(row.tests for row in rows)
        failing = {
            tests
            for tests, code in in_copies((Job(tests, tests, _nothing) for tests in selections), copies)
            if code != 0
        }
        for tests in failing:
            print(f"Fails without any change: {tests}")
        print(
            f"[{time.monotonic() - began:.0f} s] {len(selections) - len(failing)} of {len(selections)} selections pass.",
            flush=True,
        )
        jobs = (Job(row, row.tests, partial(_change, row)) for row in rows if row.tests not in failing)
        verdicts = {}
        for row, code in in_copies(jobs, copies):
            verdicts[row] = _verdict(code)
            print(f"{len(verdicts):3} {verdicts[row]:9} {row.what:45} {row.tests.split()[0]}", flush=True)
    survivors = [row for row in rows if verdicts.get(row) != "killed"]
    for row in survivors:
        print(f"Not killed ({verdicts.get(row, 'not tried')}): {row.what}")
    print(f"{len(rows) - len(survivors)} of {len(rows)} mutants killed in {time.monotonic() - began:.0f} s.")
    return 1 if survivors or not rows else 0


def mutated(file: str, old: str, new: str) -> str | None:
    """The text of a file of the package with one change; None if `old` is not in it exactly once."""
    path = ROOT / PACKAGE / file
    source = path.read_text() if path.is_file() else ""
    return source.replace(old, new) if source.count(old) == 1 else None


def copy_of_project(folder: Path) -> Path:
    for name in ("airflow_adf_mi", "tests", "dags", "bench", "docs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "_build"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, folder)
    return folder


def mutated_copy(folder: Path, file: str, old: str, new: str) -> dict[str, str] | None:
    """A copy of the project in `folder` with one change, and the environment that uses it; None if `mutated` returns None."""
    source = mutated(file, old, new)
    if source is None:
        return None
    (copy_of_project(folder) / PACKAGE / file).write_text(source)
    return {**os.environ, "PYTHONPATH": str(folder)}


def in_copies(jobs: Iterable[Job[T]], copies: Sequence[Path]) -> Iterator[tuple[T, int | None]]:
    """Run the tests of each job, one job at a time in each copy. Yields `about`, and pytest's status or None after a timeout."""
    waiting = iter(jobs)
    free, running = list(copies), dict[int, _Running[T]]()
    while True:
        while free and (job := next(waiting, None)) is not None:
            copy = free.pop()
            undo = job.change(copy)
            running[_fork(copy, job.tests)] = _Running(job.about, copy, undo, time.monotonic() + TIMEOUT)
        if not running:
            return
        time.sleep(0.02)
        for pid, each in list(running.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if not ended and time.monotonic() < each.until:
                continue
            # Including the processes that its tests have started.
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
            if not ended:
                os.waitpid(pid, 0)
            each.undo()
            free.append(each.copy)
            del running[pid]
            yield each.about, os.waitstatus_to_exitcode(status) if ended else None


def _fork(copy: Path, tests: str) -> int:
    """A process, in its own group, that runs `tests` in `copy` and imports nothing of this checkout."""
    pid = os.fork()
    if pid:
        with suppress(ProcessLookupError, PermissionError):
            os.setpgid(pid, pid)  # both processes do so, because either may come first
        return pid
    tests_ended = _ExitStatus()
    try:
        os.setpgid(0, 0)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        output = os.open(copy / OUTPUT, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.chdir(copy)
        os.environ |= {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
        sys.dont_write_bytecode = True
        sys.path[:] = [str(copy), *(entry for entry in sys.path if entry and Path(entry).resolve() != ROOT.resolve())]
        for name in [name for name in sys.modules if name.partition(".")[0] in ("tests", "airflow_adf_mi")]:
            del sys.modules[name]
        importlib.invalidate_caches()
        # pytest cannot rewrite the assertions of modules that are already imported. No test is among them.
        options = ["-x", "-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
        options.append(f"--timeout={TEST_TIMEOUT}")
        os._exit(pytest.main([*options, *shlex.split(tests)], plugins=[tests_ended]))
    except BaseException:  # noqa: BLE001  nothing may run this process's own code in a fork
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(tests_ended.status or 70)


def _nothing(_copy: Path) -> Callable[[], object]:
    return lambda: None


def _change(row: Mutant, copy: Path) -> Callable[[], object]:
    """Apply a row; returns a function that undoes it."""
    path = copy / PACKAGE / row.file
    before = path.read_text()
    path.write_text(before.replace(row.old, row.new))
    return partial(path.write_text, before)


def _verdict(code: int | None) -> str:
    # 1 is "tests failed"; anything else but 0 means that the mutant itself is broken.
    return "HUNG" if code is None else {0: "SURVIVED", 1: "killed"}.get(code, f"BROKEN {code}")


if __name__ == "__main__":
    run_program(main)

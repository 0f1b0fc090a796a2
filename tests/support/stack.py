"""A real Airflow for tests and the demo: API server, scheduler, Dag processor, triggerer and LocalExecutor workers.

Everything listens on free ports of the loopback interface only, writes below one folder (a PostgreSQL server has a second
one), and is stopped by pid.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from tests.support.postgres import Postgres
from tests.support.processes import LOOPBACK, Process, free_port, interrupt_no_more, must_run

BIN = Path(sys.executable).parent
ENDED = frozenset({"success", "failed"})
TASK_ENDED = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})


@dataclass
class RealAirflow:
    """An Airflow in the folder `home`. Use as a context manager.

    :param home: AIRFLOW_HOME; everything is written below it.
    :param dags_folder: where Dags are read from.
    :param environment: further variables, such as connections.
    :param triggerers: how many triggerers to start.
    :param postgres: with its own PostgreSQL server, which can serve many tasks at once; otherwise with SQLite.
    """

    home: Path
    dags_folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    triggerers: int = 1
    postgres: bool = False

    def __post_init__(self) -> None:
        self.port = free_port()
        self.processes: dict[str, Process] = {}
        self.home.mkdir(parents=True, exist_ok=True)
        (self.home / "output").mkdir(exist_ok=True)
        self._database = Postgres(self.home / "output") if self.postgres else None
        self.process_environment: dict[str, dict[str, str]] = {}
        """Further variables for the processes of one command, such as triggerer."""
        self.env = self._env()
        self._http = httpx.Client(base_url=self.url, trust_env=False, timeout=60)

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def database_url(self) -> str:
        return self._database.url if self._database else f"sqlite:///{self._file}?timeout=60"

    @property
    def _file(self) -> Path:
        return self.home / "airflow.db"

    def _env(self) -> dict[str, str]:
        settings = {
            "core__dags_folder": str(self.dags_folder),
            "core__load_examples": "False",
            "core__executor": "LocalExecutor",
            "core__parallelism": "12",
            "core__dags_are_paused_at_creation": "False",
            "core__simple_auth_manager_all_admins": "True",
            "core__execution_api_server_url": f"{self.url}/execution/",
            "core__test_connection": "Enabled",
            "core__fernet_key": "",
            "database__sql_alchemy_conn": self._database.url
            if self._database
            else f"sqlite:///{self._file}?timeout=60",
            "api__host": LOOPBACK,
            "api__port": str(self.port),
            "api__base_url": self.url,
            "api__secret_key": secrets.token_hex(16),
            "api_auth__jwt_secret": secrets.token_hex(32),
            "logging__base_log_folder": str(self.home / "logs"),
            "dag_processor__refresh_interval": "5",
            "dag_processor__min_file_process_interval": "5",
            "scheduler__scheduler_idle_sleep_time": "0.2",
            "scheduler__enable_health_check": "False",
            "usage_data_collection__enabled": "False",
        }
        kept = {
            name: value
            for name, value in os.environ.items()
            # Not the caller's Airflow settings, nor a switch that makes every process compile everything again.
            if not name.startswith(("AIRFLOW", "AZURE_", "MSI_", "IDENTITY_")) and name != "PYTHONDONTWRITEBYTECODE"
        }
        airflow = {f"AIRFLOW__{name.upper()}": value for name, value in settings.items()}
        # NO_PROXY: the processes talk to each other, and to the emulator, without a company's proxy.
        own = {
            "AIRFLOW_HOME": str(self.home),
            "NO_PROXY": f"{LOOPBACK},localhost",
            "no_proxy": f"{LOOPBACK},localhost",
        }
        return {**kept, **airflow, **own, **self.environment}

    def start(self) -> None:
        """Start everything; returns when Dags can run."""
        if self._database is not None:
            self._database.start()
        must_run([str(BIN / "airflow"), "db", "migrate"], env=self.env, timeout=300)
        if self._database is None:
            # So that readers do not wait for SQLite's only writer. The file stores this setting.
            with closing(sqlite3.connect(self._file)) as database:
                database.execute("PRAGMA journal_mode=WAL")
        self.start_api_server()
        self.start_process("scheduler", "--skip-serve-logs")
        for number in range(self.triggerers):
            self.start_process(
                "triggerer", "--skip-serve-logs", name=f"triggerer-{number + 1}" if number else "triggerer"
            )
        self.wait_until(lambda: self.are_healthy("metadatabase"), "Airflow's API server to answer", 180)
        token = self._http.get("/auth/token").raise_for_status().json()["access_token"]
        self._http.headers["Authorization"] = f"Bearer {token}"
        # The first request to the execution API takes longer than a worker waits for it.
        self._http.get("/execution/health").raise_for_status()
        # Last, because a Dag with a schedule runs as soon as it is parsed.
        self.start_process("dag-processor")
        everything = ("metadatabase", "scheduler", "triggerer", "dag_processor")
        self.wait_until(lambda: self.are_healthy(*everything), "Airflow to be healthy", 180)

    def stop(self) -> None:
        """Stop what was started last first; and all of it, even if a second Ctrl-C comes meanwhile."""
        interrupt_no_more()
        with ExitStack() as ending:
            ending.callback(self._http.close)
            if self._database is not None:
                ending.callback(self._database.stop)
            for process in self.processes.values():
                ending.callback(process.stop)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    def wait_for_dag(self, dag_id: str) -> None:
        """Wait for the Dag to be parsed."""
        self.wait_until(lambda: self.ask("GET", f"/api/v2/dags/{dag_id}").status_code == 200, f"Dag {dag_id}", 300)

    def trigger(
        self,
        dag_id: str,
        *,
        conf: Mapping[str, Any] | None = None,
        logical_date: str | None = None,
        run_id: str | None = None,
    ) -> str:
        """Start a Dag run through the REST API; its id. Waits for the Dag to be parsed."""
        self.wait_for_dag(dag_id)
        run_id = run_id or f"test__{uuid.uuid4()}"
        body = {"dag_run_id": run_id, "logical_date": logical_date, "conf": dict(conf or {})}
        # Because the id is given, a repeated request starts no second Dag run: 409 means that it exists.
        answer = self.ask("POST", f"/api/v2/dags/{dag_id}/dagRuns", json=body)
        if answer.status_code != 409:
            answer.raise_for_status()
        return run_id

    def scheduled_run(self, dag_id: str) -> str:
        """The id of the first Dag run that Airflow has started by the Dag's own schedule; waits for it."""
        path = f"/api/v2/dags/{dag_id}/dagRuns"
        query = {"run_type": "scheduled", "order_by": "id", "limit": 1}

        def found() -> list[dict[str, Any]]:
            answer = self.ask("GET", path, params=query)
            return list(answer.json()["dag_runs"]) if answer.status_code == 200 else []

        self.wait_until(lambda: bool(found()), f"Dag {dag_id} to be scheduled", 90)
        return str(found()[0]["dag_run_id"])

    def state(self, dag_id: str, run_id: str) -> str:
        return str(self._get(f"/api/v2/dags/{dag_id}/dagRuns/{run_id}")["state"])

    def wait_for_run(self, dag_id: str, run_id: str, timeout: float = 300) -> str:
        """Wait for a Dag run to end: its state."""
        self.wait_until(lambda: self.state(dag_id, run_id) in ENDED, f"{dag_id} {run_id} to end", timeout)
        return self.state(dag_id, run_id)

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """All task instances of a Dag run; a mapped task has one for each index."""
        found = self._get(f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances?limit=1000")["task_instances"]
        return list(found)

    def task_state(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> str | None:
        for ti in self.task_instances(dag_id, run_id):
            if ti["task_id"] == task_id and ti["map_index"] == map_index:
                return ti["state"]  # type: ignore[no-any-return]  # JSON
        return None

    def wait_for_task(
        self, dag_id: str, run_id: str, task_id: str, *states: str, map_index: int = -1, timeout: float = 300
    ) -> str:
        """Wait for a task instance to be in one of `states`; by default, to have ended."""
        wanted = set(states) or TASK_ENDED
        what = f"{dag_id}.{task_id} to be {' or '.join(sorted(wanted))}"
        self.wait_until(lambda: self.task_state(dag_id, run_id, task_id, map_index) in wanted, what, timeout)
        return str(self.task_state(dag_id, run_id, task_id, map_index))

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str = "return_value", map_index: int = -1) -> Any:
        """An XCom's value; None if it does not exist."""
        answer = self.ask(
            "GET",
            f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/{key}",
            params={"map_index": map_index, "stringify": False},
        )
        return None if answer.status_code == 404 else answer.raise_for_status().json()["value"]

    def links(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> dict[str, str | None]:
        """The task's extra links, by name."""
        found = self._get(f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/links?map_index={map_index}")
        return dict(found["extra_links"])

    def log(self, dag_id: str, run_id: str, task_id: str, try_number: int = 1, map_index: int = -1) -> str:
        """The task's log as the UI shows it, one event a line; errors with their messages."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/{try_number}"
        content = self._get(f"{path}?full_content=true&map_index={map_index}")["content"]
        lines = []
        for entry in content:
            if not isinstance(entry, dict):
                lines.append(str(entry))
                continue
            lines.append(str(entry.get("event", "")))
            lines += [f"{e.get('exc_type')}: {e.get('exc_value')}" for e in entry.get("error_detail") or []]
        return "\n".join(lines)

    def mark(self, dag_id: str, run_id: str, task_id: str, state: str, map_index: int = -1) -> None:
        """What the UI's "Mark as..." does."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}"
        if map_index >= 0:
            path += f"/{map_index}"
        self.ask("PATCH", path, json={"new_state": state}).raise_for_status()

    def clear(self, dag_id: str, run_id: str, task: str | list[Any], **options: Any) -> None:
        """What the UI's "Clear" does.

        :param task: a task id, or a task id and a map index.
        :param options: more members of the request.
        """
        body = {"dry_run": False, "only_failed": False, "reset_dag_runs": True, "task_ids": [task]}
        path = f"/api/v2/dags/{dag_id}/clearTaskInstances"
        self.ask("POST", path, json={**body, "dag_run_id": run_id, **options}).raise_for_status()

    def test_connection(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """What the UI's "Test" button does."""
        return dict(self._http.post("/api/v2/connections/test", json=dict(body)).raise_for_status().json())

    def connection_form(self) -> list[dict[str, Any]]:
        """What the UI builds connection forms from."""
        return list(self._get("/ui/connections/hook_meta"))

    def check(self) -> None:
        """Raises if one of its processes has ended by itself."""
        # Another thread may stop and start parts meanwhile.
        for name, process in list(self.processes.items()):
            try:
                process.check()
            except RuntimeError:
                if self.processes.get(name) is process:
                    raise
        if self._database is not None:
            self._database.check()

    def wait_until(self, is_true: Callable[[], bool], what: str, timeout: float) -> None:
        """Poll; fails at once when one of the processes has died."""
        until = time.monotonic() + timeout
        while not is_true():
            self.check()
            if time.monotonic() > until:
                raise TimeoutError(f"waited {timeout:.0f} s for {what}; see {self.home}/output")
            time.sleep(0.5)

    def _get(self, path: str) -> Any:
        return self.ask("GET", path).raise_for_status().json()

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send a request that may be repeated; repeat it where the API server is down, or answers with a server error."""
        for _ in range(5):
            try:
                answer = self._http.request(method, path, **options)
            except httpx.TransportError as e:
                problem = f"{type(e).__name__}: {e}"
            else:
                if answer.status_code < 500:
                    return answer
                problem = f"{answer.status_code}: {answer.text[:300]}"
            time.sleep(1)
        raise RuntimeError(f"{method} {path} failed five times, lastly with {problem}; see {self.home}/output")

    def start_api_server(self) -> None:
        self.start_process("api-server", "--workers", "1")

    def start_process(self, command: str, *options: str, name: str | None = None) -> Process:
        """Start one of Airflow's commands; `name` distinguishes several processes of one command."""
        name = name or command
        environment = {**self.env, **self.process_environment.get(command, {})}
        program = [str(BIN / "airflow"), command, *options]
        process = Process(name, program, environment, self.home / "output" / f"{name}.log")
        # Before the start, so that it is stopped even if the start is interrupted.
        self.processes[name] = process
        process.start()
        return process

    def are_healthy(self, *parts: str) -> bool:
        """Whether Airflow reports each of these parts as healthy: "metadatabase", "scheduler", "triggerer", "dag_processor"."""
        try:
            health = self._http.get("/api/v2/monitor/health", timeout=10)
        except httpx.HTTPError:
            return False
        if health.status_code != 200:
            return False
        return all((health.json().get(part) or {}).get("status") == "healthy" for part in parts)

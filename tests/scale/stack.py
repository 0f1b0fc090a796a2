"""A distributed Airflow, whose parts can be killed and started again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import psutil

from tests.support.redis import Redis
from tests.support.stack import RealAirflow

WORKERS = ("worker-1", "worker-2")
TRIGGERERS = ("triggerer", "triggerer-2")
SLOTS = 8
"""Tasks that a worker runs at once."""

SETTINGS = {
    "core__executor": "CeleryExecutor",
    "core__parallelism": "64",
    "core__max_active_tasks_per_dag": "1000",
    "celery__worker_concurrency": str(SLOTS),
    # More than the windows of all backfills that run at the same time (docs/backfills.md).
    "scheduler__max_dagruns_per_loop_to_schedule": "800",
    # Shorter than the defaults, so that Airflow notices sooner what was killed.
    "scheduler__task_instance_heartbeat_timeout": "30",
    "scheduler__task_instance_heartbeat_timeout_detection_interval": "5",
    "scheduler__task_queued_timeout": "120",
    "scheduler__task_queued_timeout_check_interval": "20",
    "scheduler__scheduler_health_check_threshold": "20",
    "scheduler__orphaned_tasks_check_interval": "20",
    "triggerer__job_heartbeat_sec": "2",
    "triggerer__triggerer_health_check_threshold": "15",
    "dag_processor__min_file_process_interval": "300",
}


class DistributedAirflow(RealAirflow):
    """Use as a context manager. Processes end with the thread that started them, so kill and start them in the main thread."""

    def __init__(self, home: Path, dags_folder: Path, environment: Mapping[str, str]) -> None:
        self._redis = Redis(home / "redis")
        settings = {f"AIRFLOW__{name.upper()}": value for name, value in SETTINGS.items()}
        broker = {"AIRFLOW__CELERY__BROKER_URL": self._redis.url}
        super().__init__(
            home, dags_folder, {**environment, **settings, **broker}, triggerers=len(TRIGGERERS), postgres=True
        )

    def start(self) -> None:
        self.start_part("redis")
        super().start()
        for name in WORKERS:
            self.start_part(name)

    def start_part(self, name: str) -> None:
        """Start a part that is not running."""
        if name == "redis":
            self.processes[name] = self._redis.process
            self._redis.start()
        elif name in WORKERS:
            # Workers on one machine need different names and files.
            own = ("-H", f"{name}@localhost", "--pid", str(self.home / f"{name}.pid"))
            options = ("--skip-serve-logs", "--without-gossip", "--without-mingle")
            self.start_process("celery", "worker", *options, *own, name=name)
        else:
            self.start_process(name.partition("-")[0], "--skip-serve-logs", name=name)

    def kill_part(self, name: str) -> None:
        """Kill a part and everything that it has started, without any notice."""
        self.processes.pop(name).kill()

    def worker_of(self, pid: int) -> str:
        """The name of the worker that has started this process."""
        above = {process.pid for process in psutil.Process(pid).parents()}
        (name,) = [name for name in WORKERS if name in self.processes and self.processes[name].pid in above]
        return name

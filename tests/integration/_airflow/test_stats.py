"""The counters and timers that Airflow's own stats get."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.observability import stats as core_stats
from airflow.sdk import DAG
from airflow.sdk.observability import stats as sdk_stats

from airflow_adf_mi._airflow.stats import AirflowStats
from airflow_adf_mi.adf import metrics
from airflow_adf_mi.adf.errors import AdfError
from airflow_adf_mi.emulator import Emulator
from airflow_adf_mi.emulator.pipelines.script import Script
from airflow_adf_mi.hooks import AdfHook
from airflow_adf_mi.sensors import AdfPipelineRunSensor
from tests.conftest import ROOT
from tests.support import explained
from tests.support.explained_tasks import both, emulator_of, operator, run
from tests.support.minors import AirflowSensorTimeout
from tests.support.tasks import Task


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    with emulator_of(explained.FACTORY, Script.from_json(explained.SCRIPT), monkeypatch) as running:
        yield running


class Backend:
    """A fake StatsD client."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, dict[str, str]]] = []

    def incr(self, stat: str, count: int = 1, *, tags: dict[str, str] | None = None, **_: Any) -> None:
        assert isinstance(count, int)
        self.seen += [(stat, tags or {})] * count

    def timing(self, stat: str, dt: Any, *, tags: dict[str, str] | None = None) -> None:
        assert dt.total_seconds() >= 0
        self.seen.append((stat, tags or {}))

    def timer(self) -> contextlib.nullcontext[Backend]:
        """Ignore timers of Airflow itself, such as the loading of plugins."""
        return contextlib.nullcontext(self)

    duration = 0.0

    def count(self, stat: str, **tags: str) -> int:
        return sum(name == stat and tags.items() <= seen.items() for name, seen in self.seen)


@pytest.fixture
def backends() -> Iterator[tuple[Backend, Backend]]:
    """The backends of the task SDK and of Airflow's core."""
    both = Backend(), Backend()
    for stats, backend in zip((sdk_stats, core_stats), both, strict=True):
        stats.initialize(factory=lambda backend=backend: backend, export_legacy_names=False)
    yield both
    for stats in (sdk_stats, core_stats):
        stats.initialize(factory=Backend, export_legacy_names=False)


@both
def test_starts_requests_ends_and_adoptions_are_counted(
    deferrable: bool, emulator: Emulator, backends: tuple[Backend, Backend]
) -> None:
    task = Task()
    emulator.add_fault("getRun", status=429)
    run(operator("ExplainOutputs", deferrable=deferrable), task)
    worker, triggerer = backends
    waiting = triggerer if deferrable else worker
    assert worker.count(metrics.STARTS) == 1
    assert worker.count(metrics.REQUESTS, operation="pipelines.create_run", outcome="answered") == 1
    assert waiting.count(metrics.REQUESTS, operation="pipeline_runs.get", outcome="AdfThrottledError") == 1
    assert waiting.count(metrics.THROTTLED, operation="pipeline_runs.get") == 1
    assert waiting.count(metrics.ENDED, outcome="Succeeded") == 1
    assert waiting.count(metrics.DETECTION_LAG) == waiting.count(metrics.RUN_DURATION, status="Succeeded") == 1
    task.retry()
    run(operator("ExplainOutputs"), task)
    assert (worker.count(metrics.STARTS), worker.count(metrics.ADOPTIONS)) == (1, 1)


@pytest.mark.usefixtures("emulator")
def test_timeout_is_counted(backends: tuple[Backend, Backend]) -> None:
    with pytest.raises(AdfError):
        run(operator("ExplainSlow", timeout=0.5))
    assert backends[0].count(metrics.ENDED, outcome="timed_out") == 1


@pytest.mark.usefixtures("minutes_pass")
def test_ambiguous_start_is_counted(emulator: Emulator, backends: tuple[Backend, Backend]) -> None:
    emulator.add_fault("createRun", drop=True)
    with pytest.raises(AdfError, match="no usable answer"):
        run(operator("ExplainCopy"))
    assert backends[0].count(metrics.AMBIGUOUS_STARTS) == 1


def test_failing_backend_does_not_fail_a_run(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def incr(self, *_: Any, **__: Any) -> None:
            raise OSError("no route")

        timing = incr

    sink = AirflowStats(Broken())
    with caplog.at_level("DEBUG"):
        sink.count("a", {})
        sink.time("a", 1, {})
    assert [f"a could not be {what}: no route" in caplog.text for what in ("counted", "timed")] == [True, True]


def test_requests_and_ends_of_a_sensor_are_counted(emulator: Emulator, backends: tuple[Backend, Backend]) -> None:
    run_id = run(operator("ExplainOutputs"))["run_id"]
    with DAG("d"):
        it: Any = AdfPipelineRunSensor(task_id="watch", run_id=run_id, azure_data_factory_conn_id="adf_here")
    # As in a new process of the sensor.
    metrics.send_to(AirflowStats(Backend()))
    before = backends[0].count(metrics.REQUESTS)
    assert it.poke(Task().context)
    assert backends[0].count(metrics.ENDED, outcome="Succeeded") == 2
    assert backends[0].count(metrics.REQUESTS) == before + 1


def test_timeout_of_a_sensor_before_its_deferral_is_counted(
    emulator: Emulator, backends: tuple[Backend, Backend]
) -> None:
    with DAG("d"):
        it: Any = AdfPipelineRunSensor(
            task_id="watch", run_id="r1", azure_data_factory_conn_id="adf_here", deferrable=True, timeout=60
        )
    metrics.send_to(AirflowStats(Backend()))
    with pytest.raises(AirflowSensorTimeout):
        type(it).execute.__wrapped__(it, Task(start_date=datetime.now(UTC) - timedelta(seconds=61)).context)
    assert backends[0].count(metrics.ENDED, outcome="timed_out") == 1


def test_cancel_of_a_run_that_has_ended_is_counted(emulator: Emulator, backends: tuple[Backend, Backend]) -> None:
    result = run(operator("ExplainOutputs"))
    assert not AdfHook("adf_here").cancel_pipeline_run(result["run_id"])
    assert backends[0].count(metrics.REQUESTS, operation="pipeline_runs.cancel", outcome="answered") == 1


def test_docs_name_all_metrics() -> None:
    docs = (ROOT / "docs" / "metrics.md").read_text()
    assert [name for name in metrics.NAMES if f"| `{name}` |" not in docs] == []

"""OpenLineage events and StatsD metrics of real Airflow processes."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from airflow_adf_mi.emulator import Emulator, FactorySpec
from airflow_adf_mi.emulator.pipelines.script import Script
from tests.support.explained import assert_no_secret
from tests.support.lineage import FACTORY, HERE, SCRIPT, names
from tests.support.openlineage import check_event
from tests.support.processes import LOOPBACK
from tests.support.stack import RealAirflow

pytestmark = pytest.mark.airflow

MODES = ("blocking", "deferrable")
# Airflow 3.3.2 can fail a try that resumes before the scheduler has handled the event of its deferral.
SECONDS = 12


@dataclass
class StatsD:
    """A StatsD server that keeps the metrics it gets, until its socket is closed."""

    lines: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((LOOPBACK, 0))
        self.socket.settimeout(0.2)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._receive)
        self._thread.start()

    def _receive(self) -> None:
        while not self._over.is_set():
            try:
                self.lines.append(self.socket.recv(65536).decode())
            except TimeoutError:
                continue

    def close(self) -> None:
        self._over.set()
        self._thread.join()
        self.socket.close()

    def seen(self, start: str) -> bool:
        return any(line.startswith(start) for line in self.lines)


@dataclass
class Observed:
    """A real Airflow that sends events and metrics, and what it has sent."""

    airflow: RealAirflow
    events_file: Path
    statsd: StatsD
    runs: dict[tuple[str, str], str] = field(default_factory=dict)

    def events(self, mode: str, pipeline: str) -> list[dict[str, Any]]:
        """The events of the task of a Dag run, in their order."""
        text = self.events_file.read_text() if self.events_file.exists() else ""
        whole = text[: text.rfind("\n") + 1]
        all_of_it = [json.loads(line) for line in whole.splitlines()]
        run_id = self.runs[mode, pipeline]
        return [
            event
            for event in all_of_it
            if event["job"]["name"] == f"observed_{mode}.it"
            and event["run"]["facets"]["airflow"]["dagRun"]["run_id"] == run_id
        ]


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    """A separate Airflow, whose tasks start more slowly than those of the other tests."""
    home = tmp_path_factory.mktemp("observed")
    events = home / "events"
    slow = {name: {"seconds": SECONDS, **entry} for name, entry in SCRIPT["activities"].items()}
    script = Script.from_json({**SCRIPT, "activities": slow})
    statsd = StatsD()
    try:
        with Emulator(FactorySpec(source=FACTORY, factory_name="adf-test"), script=script) as emulator:
            connection = {"conn_type": "azure_data_factory_mi", "extra": emulator.connection_extra()}
            transport = {"type": "file", "log_file_path": str(events), "append": True}
            environment = {
                **emulator.identity_environment("imds"),
                "AIRFLOW_CONN_ADF_TEST": json.dumps(connection),
                "AIRFLOW_CONN_ADF_SECRET": json.dumps({"conn_type": "generic", "password": "planted-in-a-connection"}),
                "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(transport),
                # By default, the provider gives an event up after 10 s, which is too soon on a busy machine.
                "AIRFLOW__OPENLINEAGE__EXECUTION_TIMEOUT": "80",
                "AIRFLOW__METRICS__STATSD_ON": "True",
                "AIRFLOW__METRICS__STATSD_HOST": LOOPBACK,
                "AIRFLOW__METRICS__STATSD_PORT": str(statsd.socket.getsockname()[1]),
                "AIRFLOW__METRICS__STATSD_INFLUXDB_ENABLED": "True",
            }
            dags = Path(__file__).parent / "observed" / "dags"
            with RealAirflow(home / "home", dags, environment) as airflow:
                found = Observed(airflow, events, statsd)
                for mode in MODES:
                    for pipeline in ("Load", "Broken"):
                        conf = {"pipeline": pipeline}
                        found.runs[mode, pipeline] = airflow.trigger(f"observed_{mode}", conf=conf)
                yield found
    finally:
        statsd.close()


def ended(observed: Observed, mode: str, pipeline: str, state: str) -> list[dict[str, Any]]:
    """Wait for the expected end of a case. Returns its events, which are valid and without a secret."""
    case = f"observed_{mode}", observed.runs[mode, pipeline]
    assert observed.airflow.wait_for_task(*case, "it", timeout=300) == state
    # Airflow 3.3.2 shows a task's state before it calls the listeners.
    until(
        lambda: any(event["eventType"] in ("COMPLETE", "FAIL") for event in observed.events(mode, pipeline)),
        lambda: f"no event of an end among {[event['eventType'] for event in observed.events(mode, pipeline)]}",
        seconds=240,
    )
    events = observed.events(mode, pipeline)
    for event in events:
        check_event(event)
        assert_no_secret(json.dumps(event))
        parent = event["run"]["facets"]["parent"]
        assert parent["job"]["name"] == f"observed_{mode}"
    return events


@pytest.mark.parametrize("mode", MODES)
def test_lineage_of_a_success(mode: str, observed: Observed) -> None:
    events = ended(observed, mode, "Load", "success")
    assert (events[0]["eventType"], events[-1]["eventType"]) == ("START", "COMPLETE")
    assert events[0]["job"]["facets"]["adf_pipeline"]["pipelineName"] == "Load"
    assert names(events[-1]["inputs"]) == [(HERE, "Lake"), (HERE, "Sales")]
    assert names(events[-1]["outputs"]) == [(HERE, "Lake"), (HERE, "Mart")]
    facet = events[-1]["run"]["facets"]["adf_pipelineRun"]
    xcom = observed.airflow.xcom(f"observed_{mode}", observed.runs[mode, "Load"], "it")
    assert (facet["runId"], facet["status"], facet["studioUrl"]) == (xcom["run_id"], "Succeeded", xcom["studio_url"])


@pytest.mark.parametrize("mode", MODES)
def test_lineage_of_a_failure(mode: str, observed: Observed) -> None:
    events = ended(observed, mode, "Broken", "failed")
    assert (events[0]["eventType"], events[-1]["eventType"]) == ("START", "FAIL")
    facets = events[-1]["run"]["facets"]
    assert "failed after" in facets["errorMessage"]["message"]
    assert facets["adf_pipelineRun"]["failedActivities"][0]["errorCode"] == "2200"
    assert names(events[-1]["inputs"]) == [(HERE, "Sales")]


def test_metrics_are_sent_to_statsd(observed: Observed) -> None:
    for (mode, pipeline), run_id in observed.runs.items():
        observed.airflow.wait_for_task(f"observed_{mode}", run_id, "it", timeout=300)
        assert pipeline
    starts = [
        "airflow.adf.starts",
        "airflow.adf.requests,operation=pipelines.create_run,outcome=answered",
        "airflow.adf.requests,operation=pipeline_runs.get,outcome=answered",
        "airflow.adf.ended,outcome=Succeeded",
        "airflow.adf.ended,outcome=Failed",
        "airflow.adf.run_duration,status=Succeeded",
        "airflow.adf.detection_lag",
    ]
    until(lambda: all(observed.statsd.seen(start) for start in starts), lambda: missing(observed, starts))


def missing(observed: Observed, starts: list[str]) -> str:
    ours = sorted({line for line in observed.statsd.lines if line.startswith("airflow.adf.")})
    return f"{[start for start in starts if not observed.statsd.seen(start)]} is not in {ours}"


def until(is_true: Callable[[], bool], what: Callable[[], str], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < end, what()
        time.sleep(0.2)

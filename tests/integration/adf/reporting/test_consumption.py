"""What a run consumed, in the task's summary and in Airflow's metrics, without a further request."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from airflow_adf_mi.adf import metrics
from airflow_adf_mi.emulator import Emulator
from airflow_adf_mi.emulator.pipelines.script import Script
from tests.conftest import activity, factory_of
from tests.support.explained_tasks import both, emulator_of, error_of, operator, run
from tests.support.tasks import Task

FACTORY = factory_of(
    Load=[
        activity("CopyOld"),
        activity("Each", "ForEach", items=[], activities=[activity("CopyTable")]),
        activity("Web", "WebActivity"),
    ],
    Broken=[activity("CopyOld"), activity("Copy", "Copy", "CopyOld")],
)
# One activity has the older form, the iterations have the newer one, and one activity has a form that nobody knows.
OLD = {"billingReference": '{"activityType":"DataMovement","billableDuration":[{"Managed":11.733333333333336}]}'}


def new(duration: float) -> dict[str, Any]:
    used = {"meterType": "AzureIR", "duration": duration, "unit": "DIUHours"}
    return {"rowsCopied": 1, "billingReference": {"activityType": "DataMovement", "billableDuration": [used]}}


SCRIPT = {
    "defaults": {"seconds": 0.1},
    "pipelines": {name: {"queued_seconds": 0} for name in ("Load", "Broken")},
    "activities": {
        "Load/CopyOld": {"output": OLD},
        "Load/Each": {"iterations": 2},
        "Load/CopyTable": {"outputs_by_iteration": [new(0.0667), new(0.1333)]},
        "Load/Web": {"output": {"billingReference": {"activityType": "ExternalActivity"}}},
        "Broken/CopyOld": {"output": OLD},
        "Broken/Copy": {"outcome": "Failed", "output": new(0.0667)},
    },
}
# 11.733333333333336 with 9 decimals, and 0.0667 + 0.1333 = 0.2 hours of data integration units.
CONSUMED = [
    {"activity_type": "DataMovement", "meter": "AzureIR", "unit": "DIUHours", "duration": 0.2},
    {"activity_type": "DataMovement", "meter": "Managed", "unit": None, "duration": 11.733333333},
]


class Counted:
    """A sink that keeps what was consumed."""

    def __init__(self) -> None:
        self.consumed: list[tuple[dict[str, str], int]] = []

    def count(self, name: str, tags: dict[str, str], amount: int = 1) -> None:
        if name == metrics.CONSUMPTION:
            self.consumed.append((tags, amount))

    def time(self, name: str, seconds: float, tags: dict[str, str]) -> None:
        pass


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    with emulator_of(FACTORY, Script.from_json(SCRIPT), monkeypatch) as running:
        yield running


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counted]:
    """Keeps the metrics of both kinds of processes."""
    sink = Counted()
    for process in ("stats_of_tasks", "stats_of_triggerers"):
        monkeypatch.setattr(f"airflow_adf_mi._airflow.stats.{process}", lambda: Backend(sink))
    yield sink
    metrics._sinks.clear()


class Backend:
    """Airflow's own stats, which pass on to the sink."""

    def __init__(self, sink: Counted) -> None:
        self._sink = sink

    def incr(self, name: str, count: int = 1, *, tags: dict[str, str]) -> None:
        self._sink.count(name, tags, count)

    def timing(self, *_: Any, **__: Any) -> None:
        pass


@both
@pytest.mark.parametrize("mode", ["live", "summary"])
def test_summary_has_what_the_run_consumed(
    mode: str, deferrable: bool, emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    result = run(operator("Load", deferrable=deferrable, activity_log=mode))
    assert result["consumption"] == CONSUMED
    left_out = "1 entries of billingReference cannot be read, such as one of activity 'Web'."
    assert any(left_out in message for message in caplog.messages)
    if mode == "summary":
        assert emulator.books.count("queryActivityRuns") == 1


@both
def test_without_an_activity_log_nothing_is_read_for_it(deferrable: bool, emulator: Emulator) -> None:
    result = run(operator("Load", deferrable=deferrable, activity_log="off", outputs={"rows": "CopyTable.rowsCopied"}))
    assert result["consumption"] is None
    # The query for the outputs. It lists only some activities, so their sum would be a wrong number.
    assert emulator.books.count("queryActivityRuns") == 1


@pytest.mark.usefixtures("emulator")
def test_run_that_a_retry_finds_at_its_end_has_no_known_consumption() -> None:
    task = Task()
    run(operator("Load", activity_log="summary"), task)
    task.retry()
    again = run(operator("Load", activity_log="summary"), task)
    assert (again["adopted"], again["consumption"]) == (True, None)


@both
@pytest.mark.usefixtures("emulator")
def test_consumption_is_counted_once_also_for_a_run_that_failed(deferrable: bool, counted: Counted) -> None:
    error_of(operator("Broken", deferrable=deferrable, activity_log="summary"))
    # 0.0667 x 3600 = 240.12, and 11.733333333 x 3600 = 42,240 seconds of a meter.
    assert counted.consumed == [
        ({"activity_type": "DataMovement", "meter": "AzureIR", "unit": "DIUHours"}, 240),
        ({"activity_type": "DataMovement", "meter": "Managed", "unit": "unknown"}, 42240),
    ]

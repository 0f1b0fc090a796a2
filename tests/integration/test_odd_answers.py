"""Odd answers over HTTP: invalid times, lists that never end, and answers that stay unreadable for minutes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_adf_mi.adf.api import operations as calls
from airflow_adf_mi.adf.api.client import MOST_PAGES_LISTED, AdfClient, AsyncAdfClient
from airflow_adf_mi.adf.config.addresses import RunAddress
from airflow_adf_mi.adf.config.settings import AdfSettings
from airflow_adf_mi.adf.errors import AdfAmbiguousStartError, AdfRunTimedOut, AdfUnavailableError
from airflow_adf_mi.adf.reporting.conclude import reporting
from airflow_adf_mi.adf.reporting.outputs import parse_outputs, reading_outputs
from airflow_adf_mi.adf.reporting.report import conclude
from airflow_adf_mi.adf.routines import Routine, run_routine
from airflow_adf_mi.adf.starting.create_run import create_run_once
from airflow_adf_mi.adf.starting.start import Start
from airflow_adf_mi.adf.timing import Timing
from airflow_adf_mi.adf.waiting.single_run import REFUSAL_GRACE_SECONDS, Ended, GaveUp, Plan, has_grace
from airflow_adf_mi.emulator import Emulator
from tests.support.clients import create
from tests.support.minors import needs_version_10

NOW = datetime.now(UTC)
WINDOW = NOW - timedelta(days=1), NOW + timedelta(days=1)
US_TIME = "11/28/2026 1:00:00 AM"


class Wait:
    """Runs routines with the blocking client, on a clock that only pauses advance."""

    def __init__(self, settings: AdfSettings) -> None:
        self.settings = settings
        self.now = 1_000_000.0

    def drive(self, routine: Routine[Any]) -> Any:
        with AdfClient(self.settings) as client:
            return run_routine(routine, client, self.pause)

    def pause(self, seconds: float) -> None:
        self.now += seconds

    def report(self, run_id: str, timeout: float) -> Any:
        factory = self.settings.factory()
        address = RunAddress(run_id=run_id, factory=factory, studio_url="https://studio", pipeline_name="Load")
        plan = Plan(check_interval=60, deadline=self.now + timeout)
        wait = reporting(
            address, plan, cancel_on_timeout=True, timing=Timing(clock=lambda: self.now, jitter=lambda: 0.5)
        )
        return self.drive(wait)


def both_clients(settings: AdfSettings) -> list[Callable[[Any], Any]]:
    """The `pages` methods of both clients; or `send` for calls that have no pages."""

    def blocking(call: Any) -> Any:
        with AdfClient(settings) as client:
            return client.send(call) if call.listing else client.pages(call)

    def on_loop(call: Any) -> Any:
        async def ask() -> Any:
            async with await AsyncAdfClient.open(settings) as client:
                return await client.send(call) if call.listing else await client.pages(call)

        return asyncio.run(ask())

    return [blocking, on_loop]


def test_time_in_another_format_neither_hides_an_end_nor_fails_a_list(
    settings: AdfSettings, emulator: Emulator
) -> None:
    row = {"runId": "r", "status": "Succeeded", "lastUpdated": US_TIME, "runStart": "soon"}
    emulator.add_fault("getRun", status=200, text=json.dumps(row))
    report = Wait(settings).report("r", timeout=3600)
    assert isinstance(report.outcome, Ended)
    assert report.outcome.run.last_updated == datetime(2026, 11, 28, 1, tzinfo=UTC)
    assert conclude(report)["started_at"] is None
    emulator.add_fault("queryRuns", times=2, status=200, text=json.dumps({"value": [row, None, {**row, "runId": "s"}]}))
    for pages in both_clients(settings):
        assert [run.run_id for run in pages(calls.query_runs(settings.factory(), *WINDOW))] == ["r", "s"]


def test_answer_about_another_run_is_not_the_end_of_a_run(settings: AdfSettings, emulator: Emulator) -> None:
    emulator.add_fault("getRun", status=200, text=json.dumps({"runId": "other", "status": "Failed"}))
    emulator.add_fault("getRun", status=200, text=json.dumps({"runId": "R", "status": "Succeeded"}))
    report = Wait(settings).report("r", timeout=3600)
    assert (report.outcome.run.status, report.is_success) == ("Succeeded", True)


UNREADABLE = [
    {"runId": "r"},
    {"status": "Succeeded"},
    {"runId": "r", "status": 3},
    "<html>",
    "[" * 100_000,
    '{"runId": "r", "sta',
    f'{{"runId": "r", "status": {"1" * 5000}}}',
]


@pytest.mark.parametrize("kind", ["text/html", "application/json"])
@pytest.mark.parametrize("odd", UNREADABLE, ids=lambda odd: str(odd)[:30])
def test_answers_that_stay_unreadable_end_the_wait_after_the_grace_period(
    odd: Any, kind: str, settings: AdfSettings, emulator: Emulator
) -> None:
    text = odd if isinstance(odd, str) else json.dumps(odd)
    emulator.add_fault("getRun", times=None, status=200, text=text, headers={"Content-Type": kind})
    wait = Wait(settings)
    began = wait.now
    report = wait.report("r", timeout=10 * REFUSAL_GRACE_SECONDS)
    assert isinstance(report.outcome, GaveUp)
    assert REFUSAL_GRACE_SECONDS <= wait.now - began < REFUSAL_GRACE_SECONDS + 120
    with pytest.raises(AdfUnavailableError, match=r"the answers could not be read\. The run itself"):
        conclude(report)
    assert emulator.books.count("cancelRun") == 0


def test_overdue_run_that_has_ended_unreadably_is_not_reported_as_cancelled(
    settings: AdfSettings, emulator: Emulator
) -> None:
    with AdfClient(settings) as client:
        run_id = client.send(create(settings))
    emulator.clock.advance(60)
    emulator.add_fault("getRun", times=None, status=200, text=json.dumps({"runId": run_id}))
    report = Wait(settings).report(run_id, timeout=REFUSAL_GRACE_SECONDS / 2)
    with pytest.raises(AdfRunTimedOut) as late:
        conclude(report)
    assert "it had already ended. No status check showed how it ended" in str(late.value)
    assert "requested" not in str(late.value)
    assert emulator.books.count("cancelRun") == 1


def test_outputs_of_a_run_with_a_start_in_the_year_1_are_read(settings: AdfSettings, emulator: Emulator) -> None:
    run = {"runId": "r", "status": "Succeeded", "runStart": "0001-01-01T00:00:00Z", "runEnd": "9999-12-31T23:59:59Z"}
    activity = {"activityRunId": "a", "activityName": "Copy", "status": "Succeeded", "output": {"rowsCopied": 3}}
    emulator.add_fault("getRun", status=200, text=json.dumps({**run, "durationInMs": -(10**400)}))
    emulator.add_fault("queryActivityRuns", status=200, text=json.dumps({"value": [activity]}))
    wait = Wait(settings)
    report = wait.report("r", timeout=60)
    summary = conclude(report)
    assert (summary["started_at"], summary["ended_at"], summary["duration_seconds"]) == (None, None, None)
    wanted = parse_outputs({"rows": "Copy.rowsCopied"})
    found = wait.drive(
        reading_outputs(wanted, report.outcome.run, settings.factory(), timing=Timing(clock=lambda: wait.now))
    )
    assert found.values == {"rows": 3}


SAME_TOKEN = {"continuationToken": "same"}


def test_lists_of_runs_and_activities_end_if_the_service_repeats_a_token(
    settings: AdfSettings, emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    row = {"runId": "r", "status": "InProgress", "activityRunId": "a", "activityName": "Copy"}
    page = json.dumps({"value": [row], **SAME_TOKEN})
    for operation in ("queryRuns", "queryActivityRuns"):
        emulator.add_fault(operation, times=4, status=200, text=page)
    for pages in both_clients(settings):
        assert len(pages(calls.query_runs(settings.factory(), *WINDOW))) == 1
        assert len(pages(calls.query_activity_runs(settings.factory(), "r", *WINDOW))) == 1
    assert len([m for m in caplog.messages if "names a page that was already read" in m]) == 4


@pytest.mark.parametrize("count", [1, MOST_PAGES_LISTED])
def test_endless_lists_of_the_official_client_end(
    count: int, settings: AdfSettings, emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    """In one case, all pages have the same link. In the other, each empty page has another link."""
    operations = {
        "listFactories": (calls.list_factories(settings.subscription_id), "id"),
        "listPipelines": (calls.list_pipelines(settings.factory()), "name"),
    }
    for operation, (call, member) in operations.items():
        emulator.faults.clear()
        path = f"{emulator.arm_endpoint}{_path(settings, operation)}?api-version=2018-06-01"
        for number in range(count):
            page = {"value": [{member: "x"}, None, {}], "nextLink": f"{path}&page={number}"}
            emulator.add_fault(operation, times=2 if count == 1 else 1, status=200, text=json.dumps(page))
        client = both_clients(settings)[operation == "listFactories"]
        assert client(call) == ["x"]
        assert "to the end: " in caplog.text


def _path(settings: AdfSettings, operation: str) -> str:
    provider = "/providers/Microsoft.DataFactory/factories"
    if operation == "listFactories":
        return f"/subscriptions/{settings.subscription_id}{provider}"
    return f"{settings.factory().resource_id}/pipelines"


@pytest.mark.parametrize("endless", [False, True])
def test_search_for_a_lost_start_ends_although_the_list_is_endless(
    endless: bool, settings: AdfSettings, emulator: Emulator
) -> None:
    """If the list is endless, no similar run is adopted, because the unread part may contain another one."""
    wait = Wait(settings)
    emulator.state().switches.run_id_from_request_id = False
    emulator.add_fault("createRun", effect="after", drop=True)
    if endless:
        emulator.add_fault("queryRuns", times=None, status=200, text=json.dumps({"value": [], **SAME_TOKEN}))
    routine = _started(settings, wait)
    if endless:
        with pytest.raises(AdfAmbiguousStartError, match="could not be read to the end"):
            wait.drive(routine)
    else:
        assert [wait.drive(routine).run_id] == list(emulator.state().runs)
    assert emulator.books.count("createRun") == 1
    assert wait.now - 1_000_000 < 150


def _started(settings: AdfSettings, wait: Wait) -> Routine[Any]:
    order = Start(factory=settings.factory(), pipeline_name="Load")
    return create_run_once(order, order.intent(), timing=Timing(clock=lambda: wait.now, jitter=lambda: 0.5))


@pytest.mark.parametrize("text", ["[" * 100_000, "9" * 5000, json.dumps({"runId": "x" * 100_000}), '{"runId": 1e400}'])
def test_unreadable_answer_to_createrun_never_starts_a_second_run(
    text: str, settings: AdfSettings, emulator: Emulator
) -> None:
    emulator.add_fault("createRun", effect="after", status=200, text=text)
    wait = Wait(settings)
    assert [wait.drive(_started(settings, wait)).run_id] == list(emulator.state().runs)
    assert emulator.books.count("createRun") == 1


@pytest.mark.parametrize("depth", [100, 900])
def test_deeply_nested_answer_is_read(depth: int, settings: AdfSettings, emulator: Emulator) -> None:
    nested = '{"a":' * depth + "1" + "}" * depth
    row = f'{{"runId": "r", "status": "Succeeded", "new": {nested}}}'
    emulator.add_fault("getRun", status=200, text=row)
    report = Wait(settings).report("r", timeout=60)
    assert isinstance(report.outcome, Ended)


@pytest.mark.parametrize("status", [200, 403, pytest.param(502, marks=needs_version_10)])
@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br"])
def test_answer_that_cannot_be_decompressed_is_not_usable(
    status: int, encoding: str, settings: AdfSettings, emulator: Emulator
) -> None:
    """A broken proxy may declare a page as compressed although it is not. Even so, an outage is tolerated."""
    headers = {"Content-Encoding": encoding}
    for ask in both_clients(settings):
        emulator.add_fault("queryRuns", status=status, text="<html>no gzip</html>", headers=headers)
        with pytest.raises(AdfUnavailableError) as refused:
            ask(calls.query_runs(settings.factory(), *WINDOW))
        assert status != 502 or not has_grace(refused.value)
    # The blocking client does not get the status of an answer that it cannot decompress.
    assert status == 502 or has_grace(refused.value)

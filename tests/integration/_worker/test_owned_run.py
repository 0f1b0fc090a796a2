"""The run that a worker owns, and the kill that may come at any moment, in a separate process as in Airflow."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from airflow_adf_mi._worker import owned_run
from airflow_adf_mi._worker.owned_run import OwnedRun
from airflow_adf_mi.adf.config.settings import AdfSettings
from airflow_adf_mi.adf.errors import AdfRunTimedOut, AdfTaskKilled
from airflow_adf_mi.adf.reporting.report import conclude
from airflow_adf_mi.adf.routines import Routine
from airflow_adf_mi.adf.starting.create_run import create_run_once
from airflow_adf_mi.adf.starting.intent import Intent
from airflow_adf_mi.adf.starting.journal import NoJournal
from airflow_adf_mi.adf.starting.start import Start
from airflow_adf_mi.adf.starting.started import Started
from airflow_adf_mi.adf.timing import REAL_TIME
from airflow_adf_mi.adf.waiting.single_run import Plan
from airflow_adf_mi.emulator import Emulator
from tests.conftest import ROOT

KEY = "0cc3f4c2-0000-4000-8000-000000000001"

# A worker: starts a run, waits for it, and cancels it when it gets SIGTERM. `hold` is what the main thread holds.
WORKER = """
import json, signal, sys, time
from dataclasses import replace
from airflow_adf_mi._worker.owned_run import OwnedRun
from airflow_adf_mi.adf.errors import AdfTaskKilled
from airflow_adf_mi.adf.config.settings import AdfSettings
from airflow_adf_mi.adf.starting.create_run import create_run_once
from airflow_adf_mi.adf.starting.start import Start
from airflow_adf_mi.adf.timing import REAL_TIME
from airflow_adf_mi.adf.waiting.single_run import Plan

order = json.loads(sys.argv[1])
settings = AdfSettings.from_json(order["settings"])
start = Start(factory=settings.factory(), pipeline_name=order["pipeline"])
begin = create_run_once(start, replace(start, start_key=order["key"]).intent(), timing=REAL_TIME)
with OwnedRun(settings, cancel_on_kill=order["cancel_on_kill"]) as owned:
    signal.signal(signal.SIGTERM, lambda *_: owned.kill())
    try:
        print("starting", flush=True)
        owned.begin(begin)
        if order["hold"] == "token lock, token refused":
            owned._credential.forget_token(owned._credential.last_token(settings.arm_scope).token)
        if str(order["hold"]).startswith("token lock"):
            with owned._credential._lock:
                print("started", flush=True)
                sys.stdin.read()
        else:
            print("started", flush=True)
        print(owned.wait(Plan(check_interval=60), cancel_on_timeout=True).outcome, flush=True)
    except AdfTaskKilled as e:
        print(f"killed: {e}", flush=True)
"""


def worker(settings: AdfSettings, **order: Any) -> subprocess.Popen[str]:
    full = {
        "settings": settings.to_json(),
        "pipeline": "Slow",
        "key": KEY,
        "cancel_on_kill": True,
        "hold": None,
        **order,
    }
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, json.dumps(full)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def kill(process: subprocess.Popen[str]) -> str:
    """Send SIGTERM. Returns the last line of the output."""
    process.send_signal(signal.SIGTERM)
    return end(process)


def end(process: subprocess.Popen[str]) -> str:
    """Wait for the end of the process. Returns the last line of its output."""
    assert process.stdin is not None
    process.stdin.close()  # the main thread may wait for this
    last_line = line(process)
    process.wait(60)
    assert process.stdout is not None
    process.stdout.close()
    return last_line


@pytest.mark.parametrize("hold", [None, "token lock", "token lock, token refused"])
@pytest.mark.timeout(120)
def test_killed_worker_cancels_its_run_in_time(hold: str | None, settings: AdfSettings, emulator: Emulator) -> None:
    process = worker(settings, hold=hold)
    assert [line(process), line(process)] == ["starting", "started"]
    process.send_signal(signal.SIGTERM)
    # Airflow kills the process 5 s after the signal. So the cancel must not wait for what the main thread holds until `end`.
    for _ in range(1200):
        if emulator.books.count("cancelRun", status=200):
            break
        time.sleep(0.05)
    assert emulator.books.count("cancelRun", status=200) == 1
    assert owned_run.HANDLER_WAIT_SECONDS + owned_run.CANCEL_WAIT_SECONDS < owned_run.KILL_WAIT_SECONDS < 5
    last_line = end(process)
    # The kill ended the wait, or an earlier status check saw the cancelled run.
    assert "was cancelled" in last_line or "status='Cancelled'" in last_line
    assert emulator.books.count("cancelRun") == 1


def test_kill_whose_token_is_refused_cancels_with_a_new_token(
    settings: AdfSettings, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process, because here no status check of the wait replaces the token first."""
    for name in ("HANDLER_WAIT_SECONDS", "KILL_WAIT_SECONDS", "CANCEL_WAIT_SECONDS"):
        monkeypatch.setattr(owned_run, name, 60.0)  # a busy machine may be slow
    with OwnedRun(settings, cancel_on_kill=True) as owned:
        owned.begin(begin(settings, "Slow"))
        emulator.call(emulator.tokens.revoke)
        owned.kill()
    assert [record.status for record in emulator.books.of("cancelRun")] == [401, 200]


def test_worker_killed_during_createrun_cancels_the_run_after_its_answer(
    settings: AdfSettings, emulator: Emulator
) -> None:
    emulator.add_fault("createRun", effect="after", hang_seconds=1)
    process = worker(settings)
    assert line(process) == "starting"
    while not emulator.state().runs:
        time.sleep(0.05)
    last_line = kill(process)
    assert "was cancelled" in last_line
    assert emulator.books.count("cancelRun", status=200) == 1


def test_killed_worker_that_must_not_cancel_reports_the_address_of_its_run(
    settings: AdfSettings, emulator: Emulator
) -> None:
    process = worker(settings, cancel_on_kill=False)
    assert [line(process), line(process)] == ["starting", "started"]
    last_line = kill(process)
    assert "was left running" in last_line
    assert f"/pipelineruns/{KEY}" in last_line
    assert emulator.books.count("cancelRun") == 0


def test_cancel_that_is_not_accepted_does_not_delay_the_end_of_the_process(
    settings: AdfSettings, emulator: Emulator
) -> None:
    emulator.add_fault("cancelRun", times=None, status=503)
    process = worker(settings)
    assert [line(process), line(process)] == ["starting", "started"]
    last_line = kill(process)
    assert "could not be cancelled and may continue" in last_line
    # The process gives up by itself, because the service never accepts the cancel.
    assert emulator.books.count("cancelRun", status=200) == 0


def begin(settings: AdfSettings, pipeline: str) -> Routine[Started]:
    start = Start(factory=settings.factory(), pipeline_name=pipeline)
    return create_run_once(start, replace(start, start_key=KEY).intent(), timing=REAL_TIME)


def test_blocking_wait_returns_the_summary_of_the_run(settings: AdfSettings) -> None:
    with OwnedRun(settings, cancel_on_kill=True) as owned:
        begun = owned.begin(begin(settings, "Load"))
        report = owned.wait(Plan(check_interval=0.2), cancel_on_timeout=True)
        owned.kill()  # too late: nothing is left to cancel
    assert conclude(report)["run_id"] == begun.intent.run_id


def test_blocking_wait_cancels_at_its_deadline(settings: AdfSettings, emulator: Emulator) -> None:
    with OwnedRun(settings, cancel_on_kill=True) as owned:
        owned.begin(begin(settings, "Slow"))
        report = owned.wait(Plan(check_interval=0.2, deadline=time.time() + 0.5), cancel_on_timeout=True)
    with pytest.raises(AdfRunTimedOut, match="requested"):
        conclude(report)
    assert emulator.books.count("cancelRun", status=200) == 1


def test_kill_before_the_start_starts_nothing(settings: AdfSettings, emulator: Emulator) -> None:
    with OwnedRun(settings, cancel_on_kill=True) as owned:
        owned.kill()
        with pytest.raises(AdfTaskKilled, match="Nothing was started"):
            owned.begin(begin(settings, "Slow"))
    assert emulator.books.requests == []


def test_kill_before_the_start_keeps_the_intent_of_an_earlier_try(settings: AdfSettings, emulator: Emulator) -> None:
    """The intent of a start that was not sent must not replace the intent of one that was."""
    saved: list[Intent] = []

    class Kept(NoJournal):
        def save(self, intent: Intent) -> None:
            saved.append(intent)

    earlier = replace(Start(factory=settings.factory(), pipeline_name="Slow"), start_key=KEY).intent().started(KEY)
    with OwnedRun(settings, cancel_on_kill=False, journal=Kept(), known=earlier) as owned:
        owned.kill()
        with pytest.raises(AdfTaskKilled):
            owned.begin(begin(settings, "Slow"))
    assert saved == []
    assert emulator.books.count("createRun") == 0


def test_killed_worker_whose_task_will_be_retried_leaves_its_run(settings: AdfSettings, emulator: Emulator) -> None:
    with OwnedRun(settings, cancel_on_kill=True, will_be_retried=lambda: True) as owned:
        owned.begin(begin(settings, "Slow"))
        owned.kill()
        with pytest.raises(AdfTaskKilled, match="the next try adopts it"):
            owned.wait(Plan(check_interval=60), cancel_on_timeout=True)
    assert emulator.books.count("cancelRun") == 0


@pytest.mark.parametrize(
    ("interrupt", "reason"),
    [
        (OwnedRun.kill, "The task was killed."),
        (
            lambda owned: owned.on_execution_timeout(cancel=True, is_superseded=lambda _: False),
            "execution_timeout has passed.",
        ),
    ],
    ids=["killed", "execution_timeout"],
)
def test_log_gives_the_reason_of_a_cancel(
    interrupt: Callable[[OwnedRun], None], reason: str, settings: AdfSettings, caplog: pytest.LogCaptureFixture
) -> None:
    with OwnedRun(settings, cancel_on_kill=True) as owned:
        owned.begin(begin(settings, "Slow"))
        interrupt(owned)
    for _ in range(200):
        # The canceller's thread logs after it has given its result.
        if any(message.startswith(reason) for message in caplog.messages):
            return
        time.sleep(0.05)
    raise AssertionError(caplog.messages)


def test_wait_without_a_start_is_an_error(settings: AdfSettings) -> None:
    with OwnedRun(settings, cancel_on_kill=True) as owned, pytest.raises(ValueError, match="before begin"):
        owned.wait(Plan(check_interval=1), cancel_on_timeout=True)


def test_kill_takes_no_lock_of_airflow_or_logging() -> None:
    """The signal handler itself imports and logs nothing. The canceller's thread does."""
    source = Path(owned_run.__file__).read_text()
    body = source.split("    def kill(self)")[1].split("    def ")[0]
    assert "log." not in body
    assert "import " not in body

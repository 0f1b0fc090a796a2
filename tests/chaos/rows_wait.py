"""Faults of the wait: status checks that fail, and sensors, which own nothing."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from tests.chaos.case import Case
from tests.chaos.row import LONG, Expected, Mode, Row

MODES: tuple[Mode, ...] = ("blocking", "deferrable", "triggerer-mode", "sensor")
TWO_MINUTES = 120.0
FAULTS: Mapping[str, Mapping[str, Any]] = {
    "429": {"status": 429, "headers": {"Retry-After": "5"}},
    "500": {"status": 500},
    "503": {"status": 503},
    "drop": {"drop": True},
    "404": {"status": 404, "code": "NotFound"},
    "401": {"status": 401, "code": "InvalidAuthenticationToken"},
}


def status_checks_fail(case: Case, fault: Mapping[str, Any]) -> None:
    """Add the fault once the run exists."""
    case.until(lambda: len(case.runs()) == 1, "the run")
    case.add_fault("getRun", times=None, seconds=TWO_MINUTES, **fault)


def identity_endpoint_down(case: Case) -> None:
    """The token that the task already has is refused too. A deferred task's trigger and a sensor have none yet."""
    case.until(lambda: len(case.runs()) == 1, "the run")
    case.add_fault("token", times=None, seconds=TWO_MINUTES, status=500)
    if case.row.mode in ("blocking", "triggerer-mode"):
        case.add_fault("getRun", times=None, seconds=TWO_MINUTES, **FAULTS["401"])


def sensor_killed(case: Case) -> None:
    case.wait_waiting()
    case.kill()


def sensor_marked(case: Case) -> None:
    case.wait_waiting()
    case.mark("failed")


def sensor_cleared(case: Case) -> None:
    case.wait_waiting()
    case.clear()


def rows() -> list[Row]:
    found = [
        Row(
            name=f"status-checks-{kind}-{mode}",
            fault=f"status checks fail for 2 minutes ({kind})",
            mode=mode,
            story=partial(status_checks_fail, fault=FAULTS[kind]),
            loose=True,
            task={"deferrable": True}
            if (mode, kind) in {("sensor", "429"), ("sensor", "503"), ("sensor", "404")}
            else {},
            patience=400,
            subset=(kind, mode) in {("503", "deferrable"), ("drop", "blocking"), ("404", "deferrable")},
        )
        for kind in FAULTS
        for mode in MODES
    ]
    found += [
        Row(
            name=f"status-checks-identity-{mode}",
            fault="status checks fail for 2 minutes (identity endpoint down)",
            mode=mode,
            story=identity_endpoint_down,
            own_identity=True,
            loose=True,
            patience=400,
            subset=mode == "blocking",
        )
        for mode in MODES
    ]
    still_running = Expected(adf=("InProgress",), task="failed")
    found += [
        Row(
            name="sensor-killed", fault="sensor killed -9", mode="sensor", story=sensor_killed, seconds=90, subset=True
        ),
    ]
    for how, deferrable in (("deferrable", True), ("blocking", False)):
        found += [
            Row(
                name=f"sensor-marked-{how}",
                fault="sensor marked failed",
                mode="sensor",
                task={"deferrable": deferrable},
                story=sensor_marked,
                seconds=LONG,
                expected=still_running,
                subset=deferrable,
            ),
            Row(
                name=f"sensor-cleared-{how}",
                fault="sensor cleared",
                mode="sensor",
                task={"deferrable": deferrable},
                story=sensor_cleared,
                seconds=90,
                subset=deferrable,
            ),
            Row(
                name=f"sensor-timeout-{how}",
                fault="sensor timed out",
                mode="sensor",
                task={"deferrable": deferrable, "timeout": 8, "retries": 0},
                seconds=LONG,
                expected=still_running,
                subset=deferrable,
            ),
        ]
    return found

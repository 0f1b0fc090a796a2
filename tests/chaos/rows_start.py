"""Faults of the start: the answer is lost, or the request never arrives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_adf_mi._airflow import features
from airflow_adf_mi.emulator.service.state import Switches
from tests.chaos.case import Case
from tests.chaos.row import CORRELATION, LIST_LAGS, LONG, NO_PROOF, OWN_IDS, Expected, Mode, Row

LOST: Mapping[str, Mapping[str, Any]] = {
    "drop": {"drop": True},
    "500": {"status": 500},
    "503": {"status": 503, "headers": {"Retry-After": "1"}},
    "504": {"status": 504},
    # This is longer than the client waits.
    "read-timeout": {"hang_seconds": 45, "drop": True},
}
MODES: tuple[Mode, ...] = ("blocking", "deferrable")
START_MODES: tuple[Mode, ...] = (*MODES, "triggerer-mode", "no-wait")
AMBIGUOUS = "AdfAmbiguousStartError"
LOST_ANSWER = {"operation": "createRun", "effect": "after", "drop": True}


def close_the_port(case: Case) -> None:
    """Close the port while the task gets its token, so that its next connection is refused."""
    case.wait_fault()
    case.emulator.refuse_connections(20)


def list_catches_up(case: Case) -> None:
    """Let the list show the run between the first try, which could not find it, and the second."""
    case.wait_state("up_for_retry", seconds=120)
    assert AMBIGUOUS in case.log(1), "the first try was not ambiguous"
    state = case.emulator.state(case.row.name)
    case.emulator.call(lambda: setattr(state, "switches", Switches(**OWN_IDS)))


def own_run_or_ambiguous(case: Case) -> None:
    """Check that each mapped instance has its own run, or failed with an ambiguous start."""
    seen: set[str] = set()
    for instance in case.instances():
        if instance.state != "success":
            assert AMBIGUOUS in case.log(map_index=instance.map_index), (
                "it has neither its own run nor an ambiguous start"
            )
            continue
        run_id = case.xcom("run_id", instance.map_index)
        assert run_id not in seen, f"two instances took run {run_id}"
        seen.add(run_id)


def rows() -> list[Row]:
    found = [
        Row(
            name=f"lost-{kind}-{mode}",
            fault=f"createRun's answer lost after the run started ({kind})",
            mode=mode,
            faults=({"operation": "createRun", "effect": "after", **fault},),
            expected=Expected(adf=("Succeeded",)),
            seconds=8 if mode != "no-wait" else 3,
            subset=(kind, mode) in {("drop", "deferrable"), ("503", "blocking"), ("500", "no-wait")},
        )
        for kind, fault in LOST.items()
        for mode in START_MODES
    ]
    for mode in START_MODES:
        found += [
            Row(
                name=f"refused-{mode}",
                fault="createRun never arrived (connect refused for 20 s)",
                mode=mode,
                own_identity=True,
                own_port=True,
                faults=({"operation": "token", "hang_seconds": 4},),
                story=close_the_port,
                subset=mode == "blocking",
            ),
            Row(
                name=f"throttled-{mode}",
                fault="createRun never arrived (429 with Retry-After twice)",
                mode=mode,
                faults=({"operation": "createRun", "times": 2, "status": 429, "headers": {"Retry-After": "2"}},),
                seconds=5,
                subset=mode == "deferrable",
            ),
            Row(
                name=f"lost-own-ids-{mode}",
                fault="answer lost, and the service makes its own run ids",
                mode=mode,
                switches=OWN_IDS,
                faults=(LOST_ANSWER,),
                seconds=30,
                subset=mode == "deferrable",
            ),
            Row(
                name=f"lost-list-lags-{mode}",
                fault="answer lost, and the list lags 10 minutes",
                mode=mode,
                switches=LIST_LAGS,
                faults=(LOST_ANSWER,),
                seconds=8,
                subset=mode == "deferrable",
            ),
            Row(
                name=f"lost-no-proof-{mode}",
                fault="answer lost, own run ids and a list that lags; the list catches up before the retry",
                mode=mode,
                switches=NO_PROOF,
                faults=(LOST_ANSWER,),
                seconds=60,
                task={"retry_delay": 15},
                story=list_catches_up,
                # Without a store, the retry cannot tell its own run from a similar one.
                expected=(Expected() if features.TASK_STATE_STORE else Expected(task="failed", error=AMBIGUOUS)),
                subset=mode == "deferrable",
            ),
            Row(
                name=f"lost-no-proof-last-try-{mode}",
                fault="answer lost, own run ids and a list that lags; no try left",
                mode=mode,
                switches=NO_PROOF,
                faults=(LOST_ANSWER,),
                seconds=LONG,
                task={"retries": 0},
                expected=Expected(adf=("InProgress",), task="failed", error=AMBIGUOUS),
            ),
            Row(
                name=f"lost-correlated-{mode}",
                fault="answer lost, own run ids, and a correlation parameter",
                mode=mode,
                switches=OWN_IDS,
                faults=(LOST_ANSWER,),
                task={"correlation_parameter": CORRELATION, "start_settle": 120},
                seconds=15,
            ),
            Row(
                name=f"unknown-may-start-{mode}",
                fault="request dropped, no proof, and on_ambiguous_start='start'",
                mode=mode,
                switches=NO_PROOF,
                faults=({"operation": "createRun", "drop": True},),
                task={"on_ambiguous_start": "start"},
                seconds=8,
            ),
        ]
    found += [
        Row(
            name=f"lost-mapped-{mode}",
            fault="two mapped tasks with equal parameters, one answer lost, own run ids",
            mode=mode,
            mapped=2,
            switches=OWN_IDS,
            faults=(LOST_ANSWER,),
            seconds=45,
            expected=Expected(runs=2, adf=("Succeeded", "Succeeded"), task=""),
            check=own_run_or_ambiguous,
            subset=mode == "deferrable",
        )
        for mode in MODES
    ]
    return found

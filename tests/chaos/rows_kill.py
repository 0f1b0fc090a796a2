"""Kills of task processes and their supervisors, at moments at which a request is delayed."""

from __future__ import annotations

import signal
from functools import partial

from airflow_adf_mi._airflow import features
from tests.chaos.case import Case
from tests.chaos.row import LONG, OWN_IDS, Expected, Mode, Row
from tests.chaos.rows_start import AMBIGUOUS, MODES

WHO = {"process": False, "supervisor": True}
WORKER_MODES: tuple[Mode, ...] = (*MODES, "no-wait")


def killed_at_fault(case: Case, *, supervisor: bool) -> None:
    """Kill it while the request with the fault is delayed."""
    case.wait_fault()
    case.kill(supervisor=supervisor)


def killed_waiting(case: Case, *, supervisor: bool) -> None:
    case.wait_waiting()
    case.kill(supervisor=supervisor)


def killed_alone(case: Case) -> None:
    """Kill the supervisor only. Its task may continue for a while without it."""
    case.wait_waiting()
    case.kill(supervisor=True, process=False)


def killed_before_result(case: Case, *, supervisor: bool) -> None:
    """Kill it while the answer that shows the run's success is delayed."""
    case.wait_waiting()
    case.until(lambda: case.runs()[0].status == "Succeeded", "the run to succeed")
    case.add_fault("getRun", effect="after", hang_seconds=60, drop=True)
    case.wait_fault()
    case.kill(supervisor=supervisor)


def evicted(case: Case) -> None:
    case.wait_waiting()
    case.act()
    case.kill(signal.SIGTERM, supervisor=True, process=False)


def rows() -> list[Row]:
    found: list[Row] = []
    for who, supervisor in WHO.items():
        at_fault, waiting, result = (
            partial(story, supervisor=supervisor) for story in (killed_at_fault, killed_waiting, killed_before_result)
        )
        for mode in WORKER_MODES:
            found += [
                Row(
                    name=f"kill-prepared-{mode}-{who}",
                    fault=f"{who} killed -9 in phase prepared",
                    mode=mode,
                    own_identity=True,
                    faults=({"operation": "token", "hang_seconds": 100, "drop": True},),
                    story=at_fault,
                    seconds=5,
                    subset=(mode, who) == ("deferrable", "process"),
                ),
                Row(
                    name=f"kill-sent-{mode}-{who}",
                    fault=f"{who} killed -9 after createRun before anything is stored",
                    mode=mode,
                    faults=({"operation": "createRun", "effect": "after", "hang_seconds": 100, "drop": True},),
                    story=at_fault,
                    # A run that is not waited for must still be active to be adopted.
                    seconds=LONG if mode == "no-wait" else 60,
                    expected=Expected(adf=("InProgress" if mode == "no-wait" else "Succeeded",)),
                    subset=(mode, who) == ("deferrable", "supervisor"),
                ),
                Row(
                    name=f"kill-sending-{mode}-{who}",
                    fault=f"{who} killed -9 in phase sending before the request left; own run ids, nothing listed",
                    mode=mode,
                    switches=OWN_IDS,
                    faults=({"operation": "createRun", "hang_seconds": 100, "drop": True},),
                    story=at_fault,
                    # Without a store, a try knows no intent. It starts a run, because the list has no similar one.
                    expected=(
                        Expected(runs=0, adf=(), task="failed", error=AMBIGUOUS)
                        if features.TASK_STATE_STORE
                        else Expected()
                    ),
                    subset=(mode, who) == ("blocking", "process"),
                ),
            ]
        found += [
            Row(
                name=f"kill-waiting-{who}",
                fault=f"{who} killed -9 while waiting",
                mode="blocking",
                story=waiting,
                seconds=60,
                subset=supervisor,
            ),
            Row(
                name=f"kill-result-{who}",
                fault=f"{who} killed -9 before the result is stored",
                mode="blocking",
                story=result,
                task={"check_interval": 6},
                subset=not supervisor,
            ),
        ]
    return [
        *found,
        Row(
            name="kill-waiting-supervisor-alone",
            fault="supervisor killed -9 while waiting, and its task left alone",
            mode="blocking",
            story=killed_alone,
            seconds=60,
        ),
        Row(
            name="eviction",
            fault="supervisor of a blocking worker gets SIGTERM, tries left",
            mode="blocking",
            story=evicted,
            seconds=45,
            subset=True,
        ),
        Row(
            name="eviction-last-try",
            fault="supervisor of a blocking worker gets SIGTERM, last try",
            mode="blocking",
            story=evicted,
            # An Airflow without the store does not pass the signal on either, so the task continues.
            seconds=LONG if features.TASK_STATE_STORE else 45,
            task={"retries": 0},
            expected=(
                Expected(cancels=1, adf=("Cancelled",), task="failed") if features.TASK_STATE_STORE else Expected()
            ),
        ),
    ]

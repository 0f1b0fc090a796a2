"""Full queues, reruns from the failed activities, and checks of parameters, with what may go wrong beside them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.chaos.case import Case
from tests.chaos.row import LONG, Expected, Mode, Row
from tests.chaos.rows_start import MODES, START_MODES

ALL_MODES: tuple[Mode, ...] = (*MODES, "triggerer-mode")
FULL_QUEUE: Mapping[str, Any] = {
    "operation": "createRun",
    "status": 400,
    "code": "BadRequest",
    "message": "Pipeline execution throttled. If the concurrency value is set for a pipeline, a maximum of 100 runs will be "
    "queued for execution.",
}

FAILED: Mapping[str, Any] = {
    "outcome": "Failed",
    "error": {"errorCode": "2200", "message": "no such table"},
    "seconds": 3,
}


def wait_in_queue(case: Case) -> None:
    """Wait until the task waits for a place."""
    case.wait_fault()
    case.wait_state("running" if case.row.mode == "blocking" else "deferred")
    assert case.xcom("run_id") is None, "an id was pushed, although there is no run"


def marked_in_queue(case: Case) -> None:
    wait_in_queue(case)
    case.mark("failed")


def cleared_in_queue(case: Case) -> None:
    wait_in_queue(case)
    case.clear()


def killed_in_queue(case: Case) -> None:
    wait_in_queue(case)
    case.kill(supervisor=True)


def timed_out_in_queue(case: Case) -> None:
    assert case.runs() == [], "a run was started"


def in_one_group(case: Case) -> None:
    first, second = case.runs()[:2]
    assert second.group_id == first.run_id, "the second run does not continue the first"


def all_in_one_group(case: Case) -> None:
    assert len({run.group_id for run in case.runs()}) == 1, "a run does not continue the run before it"


def cleared_after_failure(case: Case) -> None:
    case.wait_all_over("failed")
    case.clear()


def rerun_killed(case: Case) -> None:
    """Kill the worker while the rerun is active."""
    case.until(lambda: len(case.runs()) == 2, "the rerun")
    case.wait_waiting(run_count=2)
    case.kill(supervisor=True)


def rerun_lost(case: Case) -> None:
    """Lose the answer to the second createRun."""
    case.until(lambda: any(run.is_over for run in case.runs()), "the first run to fail")
    case.add_fault("createRun", effect="after", drop=True)


def rerun_cleared(case: Case) -> None:
    case.until(lambda: len(case.runs()) == 2, "the rerun")
    case.wait_waiting(run_count=2)
    case.clear()


def from_the_beginning(case: Case) -> None:
    in_one_group(case)
    third = case.runs()[2]
    assert third.group_id == third.run_id, "the run after the clear does not begin from the beginning"


def definition_gone(case: Case) -> None:
    """Kill the worker, and let the retry find no definition."""
    case.wait_waiting()
    pipelines: Any = case.emulator.state(case.row.name).definition.pipelines
    case.emulator.call(lambda: pipelines.pop(case.row.name))
    case.kill(supervisor=True)


def type_changed(case: Case) -> None:
    """Kill the worker, and publish the pipeline with another type."""
    case.wait_waiting()

    def publish() -> None:
        definition: Any = case.emulator.state(case.row.name).definition.pipeline(case.row.name)
        definition.properties["parameters"] = {"rows": {"type": "Object"}}

    case.emulator.call(publish)
    case.kill(supervisor=True)


def rows() -> list[Row]:
    found = [
        Row(
            name=f"queue-full-{mode}",
            fault="the queue of the pipeline is full, twice",
            mode=mode,
            faults=({**FULL_QUEUE, "times": 2},),
            seconds=5,
            task={"retries": 0},
            patience=300,
            subset=mode == "deferrable",
        )
        for mode in START_MODES
    ]
    for mode in ALL_MODES:
        found += [
            Row(
                name=f"queue-full-marked-{mode}",
                fault="marked failed while the queue of the pipeline is full",
                mode=mode,
                faults=({**FULL_QUEUE, "times": None},),
                loose=True,
                story=marked_in_queue,
                expected=Expected(runs=0, adf=(), task="failed"),
            ),
            Row(
                name=f"queue-full-cleared-{mode}",
                fault="cleared while the queue of the pipeline is full",
                mode=mode,
                faults=({**FULL_QUEUE, "times": 2},),
                seconds=5,
                story=cleared_in_queue,
                patience=300,
            ),
            Row(
                name=f"queue-full-too-long-{mode}",
                fault="the queue of the pipeline is full until the timeout",
                mode=mode,
                faults=({**FULL_QUEUE, "times": None},),
                loose=True,
                task={"timeout": 15, "retries": 0},
                check=timed_out_in_queue,
                expected=Expected(runs=0, adf=(), task="failed", error="its queue was full until the deadline"),
            ),
            Row(
                name=f"rerun-{mode}",
                fault="the run fails, and the retry continues it",
                mode=mode,
                first=(FAILED,),
                seconds=5,
                task={"retry_from_failure": "retry"},
                check=in_one_group,
                expected=Expected(runs=2, adf=("Failed", "Succeeded")),
                subset=mode == "blocking",
            ),
            Row(
                name=f"rerun-twice-{mode}",
                fault="the run and its rerun fail, and the next retry continues the rerun",
                mode=mode,
                first=(FAILED, FAILED),
                seconds=5,
                task={"retry_from_failure": "retry", "retries": 2},
                check=all_in_one_group,
                expected=Expected(runs=3, adf=("Failed", "Failed", "Succeeded")),
            ),
            Row(
                name=f"rerun-after-clear-{mode}",
                fault="the last try fails, and a clear continues its run",
                mode=mode,
                first=(FAILED,),
                seconds=5,
                task={"retry_from_failure": "always", "retries": 0},
                story=cleared_after_failure,
                check=in_one_group,
                expected=Expected(runs=2, adf=("Failed", "Succeeded")),
            ),
            Row(
                name=f"rerun-lost-{mode}",
                fault="the run fails, and the answer to the rerun is lost",
                mode=mode,
                first=(FAILED,),
                seconds=5,
                task={"retry_from_failure": "retry", "retry_delay": 10},
                story=rerun_lost,
                check=in_one_group,
                expected=Expected(runs=2, adf=("Failed", "Succeeded")),
            ),
            Row(
                name=f"rerun-cleared-{mode}",
                fault="cleared while the rerun is active",
                mode=mode,
                first=(FAILED, {"seconds": LONG}),
                seconds=5,
                task={"retry_from_failure": "retry"},
                story=rerun_cleared,
                check=from_the_beginning,
                expected=Expected(runs=3, cancels=1, adf=("Failed", "Cancelled", "Succeeded")),
            ),
        ]
    found += [
        Row(
            name="queue-full-killed-blocking",
            fault="worker killed -9 while the queue of the pipeline is full",
            mode="blocking",
            faults=({**FULL_QUEUE, "times": 2},),
            seconds=5,
            story=killed_in_queue,
            patience=300,
        ),
        Row(
            name="rerun-killed-blocking",
            fault="worker killed -9 while the rerun is active",
            mode="blocking",
            first=(FAILED, {"seconds": 40}),
            task={"retry_from_failure": "retry", "retries": 2},
            story=rerun_killed,
            check=in_one_group,
            expected=Expected(runs=2, adf=("Failed", "Succeeded")),
        ),
        Row(
            name="definition-gone-blocking",
            fault="worker killed -9, and the pipeline's definition is gone at the retry",
            mode="blocking",
            seconds=40,
            task={"parameters": {"rows": "5"}},
            story=definition_gone,
        ),
        Row(
            name="type-changed-blocking",
            fault="worker killed -9, and the type of a parameter changed before the retry",
            mode="blocking",
            seconds=40,
            task={"parameters": {"rows": "5"}},
            story=type_changed,
        ),
    ]
    return found

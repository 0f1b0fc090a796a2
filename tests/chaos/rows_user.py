"""What users and timeouts do to a task: marked, cleared, timed out."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from airflow_adf_mi._airflow import features
from tests.chaos.case import Case
from tests.chaos.row import CORRELATION, LONG, Expected, Mode, Row

MODES: tuple[Mode, ...] = ("blocking", "deferrable", "triggerer-mode")
START_MODES: tuple[Mode, ...] = (*MODES, "no-wait")
DEFERRED_MODES: tuple[Mode, ...] = ("deferrable", "triggerer-mode")
MAPPED_MODES: tuple[Mode, ...] = ("blocking", "deferrable")
"""Mapped tasks never start in the triggerer."""
FIRST_IS_LONG: tuple[Mapping[str, Any], ...] = ({"seconds": LONG},)
FIRST_FAILS: tuple[Mapping[str, Any], ...] = ({"seconds": 3, "outcome": "Failed", "error": {"message": "so be it"}},)
SHORT_LIVED = 240.0
"""Lifetime in seconds of a token that is renewed at its next use, because azure-identity requires 5 minutes."""
ONE_NEW_RUN = Expected(runs=2, cancels=1, adf=("Cancelled", "Succeeded"))
ONE_MORE_RUN = Expected(runs=2, adf=("Succeeded", "Succeeded"))


def marked(case: Case, state: str) -> None:
    case.wait_waiting()
    case.mark(state)


def dag_run_marked(case: Case, state: str) -> None:
    case.wait_waiting()
    case.mark_dag_run(state)


def cleared(case: Case) -> None:
    case.wait_waiting()
    case.clear()


def cleared_with_upstream(case: Case) -> None:
    """Clear the task and its upstream task. Until the upstream task has run again, the old trigger must do nothing."""
    case.wait_waiting()
    case.clear(upstream=True)
    if case.runs()[0].is_over:
        raise RuntimeError("the run ended before the clear")
    case.until(lambda: case.runs()[0].is_over, "the run to end")
    case.wait_quiet(8)
    if len(case.runs()) > 1:
        raise RuntimeError("a run began before the upstream task had run again")
    case.world.make_extra_task_end(case.row)


def cleared_with_failing_upstream(case: Case) -> None:
    case.wait_waiting()
    case.clear(upstream=True)
    case.until(lambda: case.extra().state == "running", "extra")
    case.world.make_extra_task_fail(case.row)
    case.until(lambda: case.extra().state == "failed", "extra")
    case.act()


def cleared_and_killed(case: Case) -> None:
    """Kill process and supervisor before they are notified of the clear. Airflow does not change `max_tries` then."""
    case.wait_waiting()
    pids = case.pids(supervisor=True, process=True)
    case.clear()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def cleared_with_dag_run(case: Case) -> None:
    case.wait_waiting()
    case.clear_dag_run()


def other_task_fails(case: Case) -> None:
    case.wait_waiting()
    case.world.make_extra_task_fail(case.row)
    case.until(lambda: case.extra().state == "failed", "extra")
    case.act()


def dag_run_times_out(case: Case) -> None:
    case.wait_waiting()
    case.until(
        lambda: case.world.board.dag_run_state(case.row.dag_id, case.run_id) == "failed", "the Dag run's timeout"
    )
    case.act()


def cleared_after(case: Case, state: str, *, downstream: bool = False, map_index: int | None = None) -> None:
    case.wait_all_over(state)
    case.clear(downstream=downstream, map_index=map_index)


def dag_run_cleared_after_success(case: Case) -> None:
    case.wait_all_over("success")
    case.clear_dag_run()


def cleared_while_left_alone(case: Case) -> None:
    """Clear the task after it has ended, while its run is still active."""
    case.wait_dag_run_end()
    case.clear()


def retries_edited_and_cleared(case: Case) -> None:
    case.wait_waiting()
    case.edit(retries=0)
    case.clear(latest=True)


def killed_with_other_parameters_next(case: Case) -> None:
    case.wait_waiting()
    case.kill()


def other_task_cleared(case: Case) -> None:
    """Clear another task of the Dag run. Then the try fails by itself, and its run is still active."""
    case.wait_waiting()
    case.world.make_extra_task_fail(case.row)
    case.until(lambda: case.extra().state == "failed", "extra")
    case.clear(task_id="extra")


def retries_edited(case: Case) -> None:
    """Edit `retries` while the first try waits. Then the try fails by itself, and its run is still active."""
    case.wait_waiting()
    case.edit(retries=3)


def dag_run_made_again(case: Case) -> None:
    """Airflow deletes only Dag runs that have ended. This one has ended, because its task does not wait for the run."""
    case.wait_dag_run_end()
    began = case.runs()[0].created
    case.until(lambda: case.emulator.clock.now() > began + 5, "the run to be some seconds old")
    case.make_dag_run_again()


def dag_run_made_again_after_success(case: Case) -> None:
    case.wait_all_over("success")
    case.make_dag_run_again()


def marked_in_token_lock(case: Case) -> None:
    """The main thread renews its token, and the endpoint does not answer. The old token is still valid."""
    lifetimes = case.world.emulator.tokens.lifetimes
    client_id = case.world.identity(case.row).client_id
    lifetimes[client_id] = SHORT_LIVED
    case.wait_waiting()
    del lifetimes[client_id]
    _mark_during_token_request(case)


def marked_in_token_lock_after_401(case: Case) -> None:
    """The main thread requests another token because one was refused, and the endpoint does not answer."""
    case.wait_waiting()
    case.add_fault("getRun", status=401, code="InvalidAuthenticationToken")
    _mark_during_token_request(case)


def _mark_during_token_request(case: Case) -> None:
    silence = case.add_fault("token", hang_seconds=60, drop=True)
    case.until(lambda: silence.consumed > 0, "a token request of the task")
    case.mark("failed")


def rows() -> list[Row]:
    return [row for mode in MODES for row in [*_ended_by_user(mode), *_timed_out(mode), *_cleared(mode)]] + _others()


def _ended_by_user(mode: Mode) -> list[Row]:
    def row(name: str, fault: str, state: str, **more: Any) -> Row:
        expected = Expected(cancels=1, adf=("Cancelled",), task=state)
        return Row(name=f"{name}-{mode}", fault=f"{fault} ({mode})", mode=mode, seconds=LONG, expected=expected, **more)

    return [
        row("marked-failed", "task marked failed", "failed", story=partial(marked, state="failed"), subset=True),
        row("marked-success", "task marked succeeded", "success", story=partial(marked, state="success")),
        row(
            "dag-run-failed",
            "Dag run marked failed",
            "failed",
            story=partial(dag_run_marked, state="failed"),
            subset=mode == "deferrable",
        ),
        row(
            "dag-run-success",
            "Dag run marked success",
            "success",
            story=partial(dag_run_marked, state="success"),
            subset=mode == "deferrable",
        ),
        row(
            "fail-fast",
            "fail_fast: another task fails",
            "failed" if mode == "blocking" else "skipped",
            story=other_task_fails,
            dag={"fail_fast": True},
            extra_task="fails",
            subset=mode == "deferrable",
        ),
    ]


def _timed_out(mode: Mode) -> list[Row]:
    cancelled = Expected(cancels=1, adf=("Cancelled",), task="failed", error="AdfRunTimedOut")
    return [
        Row(
            name=f"dagrun-timeout-{mode}",
            fault="dagrun_timeout",
            mode=mode,
            seconds=LONG,
            dag={"dagrun_timeout": 75},
            story=dag_run_times_out,
            expected=Expected(cancels=1, adf=("Cancelled",), task="skipped"),
            subset=mode == "deferrable",
        ),
        Row(
            name=f"execution-timeout-{mode}",
            fault="execution_timeout",
            mode=mode,
            seconds=LONG,
            task={"execution_timeout": 20, "retries": 0},
            expected=Expected(cancels=1, adf=("Cancelled",), task="failed"),
            subset=mode == "deferrable",
        ),
        Row(
            name=f"own-timeout-{mode}",
            fault="own timeout",
            mode=mode,
            seconds=LONG,
            task={"timeout": 10, "retries": 0},
            expected=cancelled,
            subset=mode == "blocking",
        ),
    ]


def _cleared(mode: Mode) -> list[Row]:
    return [
        Row(
            name=f"cleared-{mode}",
            fault=f"cleared while {mode}",
            mode=mode,
            first=FIRST_IS_LONG,
            seconds=5,
            story=cleared,
            expected=ONE_NEW_RUN,
            subset=mode == "blocking",
        ),
        Row(
            name=f"cleared-slow-cancel-{mode}",
            fault=f"cleared while {mode}, and the cancel takes 60 s",
            mode=mode,
            first=FIRST_IS_LONG,
            seconds=5,
            script={"cancel_seconds": 60},
            story=cleared,
            expected=ONE_NEW_RUN,
            patience=360,
            subset=mode == "deferrable",
        ),
        Row(
            name=f"dag-run-cleared-{mode}",
            fault=f"whole Dag run cleared while {mode}",
            mode=mode,
            first=FIRST_IS_LONG,
            seconds=5,
            story=cleared_with_dag_run,
            expected=ONE_NEW_RUN,
        ),
        Row(
            name=f"cleared-cancel-loses-{mode}",
            fault=f"cleared while {mode}, and the cancel loses to success",
            mode=mode,
            first=({"seconds": 45},),
            seconds=5,
            script={"cancel": "loses"},
            story=cleared,
            # Without a store, the next try may accept the run instead, if it begins before the clear shows in its counts.
            needs_store=mode == "blocking",
            expected=Expected(runs=2, cancels=1, adf=("Succeeded", "Succeeded")),
            subset=mode == "blocking",
        ),
        Row(
            name=f"cleared-keep-{mode}",
            fault=f"cleared while {mode} with cancel_on_kill=False",
            mode=mode,
            first=({"seconds": 60},),
            seconds=5,
            task={"cancel_on_kill": False},
            story=cleared,
            expected=ONE_MORE_RUN,
            subset=mode == "blocking",
        ),
        Row(
            name=f"edited-retries-keep-{mode}",
            fault=f"cleared while {mode} with cancel_on_kill=False, after retries was edited 1 to 0",
            mode=mode,
            first=({"seconds": 60},),
            seconds=5,
            task={"cancel_on_kill": False},
            story=retries_edited_and_cleared,
            expected=ONE_MORE_RUN,
        ),
        Row(
            name=f"edited-retries-{mode}",
            fault=f"cleared while {mode} after retries was edited 1 to 0",
            mode=mode,
            first=FIRST_IS_LONG,
            seconds=5,
            story=retries_edited_and_cleared,
            expected=ONE_NEW_RUN,
            subset=mode == "blocking",
        ),
        Row(
            name=f"retried-{mode}",
            fault="the run failed, tries left",
            mode=mode,
            first=FIRST_FAILS,
            seconds=5,
            expected=Expected(runs=2, adf=("Failed", "Succeeded")),
        ),
    ]


def _others() -> list[Row]:
    found: list[Row] = []
    for mode in START_MODES:
        found += [
            Row(
                name=f"cleared-after-success-{mode}",
                fault="cleared after success",
                mode=mode,
                seconds=4,
                story=partial(cleared_after, state="success"),
                expected=ONE_MORE_RUN,
                subset=mode == "deferrable",
            ),
            Row(
                name=f"dag-run-cleared-after-success-{mode}",
                fault="whole Dag run cleared after success",
                mode=mode,
                seconds=4,
                story=dag_run_cleared_after_success,
                expected=ONE_MORE_RUN,
                subset=mode == "blocking",
            ),
        ]
    found += [
        Row(
            name=f"cleared-after-failure-{mode}",
            fault="cleared after failure",
            mode=mode,
            first=FIRST_FAILS,
            seconds=4,
            task={"retries": 0},
            story=partial(cleared_after, state="failed"),
            expected=Expected(runs=2, adf=("Failed", "Succeeded")),
            subset=mode == "blocking",
        )
        for mode in MODES
    ]
    found += [
        Row(
            name=f"cleared-after-timeout-{mode}",
            fault="cleared after a timeout that left the run active",
            mode=mode,
            first=FIRST_IS_LONG,
            seconds=4,
            task={"retries": 0, "timeout": 10, "cancel_on_timeout": False},
            story=cleared_while_left_alone,
            expected=Expected(runs=2, cancels=1, adf=("Cancelled", "Succeeded"), cancel_within=45),
        )
        for mode in MODES
    ]
    late = {"timeout": 40, "cancel_on_timeout": False, "retry_delay": 2}
    found += [
        Row(
            name=f"other-task-cleared-{mode}",
            fault="another task of the Dag run cleared; the try then times out, and its run is left active",
            mode=mode,
            first=({"seconds": 75},),
            seconds=5,
            task=late,
            extra_task="fails",
            story=other_task_cleared,
            # The other task fails again, and with it the Dag run.
            subset=mode == "blocking",
        )
        for mode in MODES
    ]
    found += [
        Row(
            name=f"edited-retries-between-tries-{mode}",
            fault="retries edited 1 to 3 between two tries; the first one timed out, and its run is left active",
            mode=mode,
            first=({"seconds": 75},),
            seconds=5,
            task=late,
            story=retries_edited,
            # Without a store, nobody can tell this from a clear.
            expected=Expected() if features.TASK_STATE_STORE else replace(ONE_NEW_RUN, cancel_within=90),
        )
        for mode in MODES
    ]
    found += [
        Row(
            name="dag-run-made-again",
            fault="Dag run deleted while its run is active, and made again with the same id",
            mode="no-wait",
            first=FIRST_IS_LONG,
            seconds=5,
            story=dag_run_made_again,
            # The random keys of a store are deleted with the Dag run, so the old run is neither found nor accepted.
            only_without_store=True,
            expected=replace(ONE_NEW_RUN, cancel_within=60),
        )
    ]
    found += [
        Row(
            name=f"dag-run-made-again-after-success-{mode}",
            fault="Dag run deleted after success, and made again with the same id",
            mode=mode,
            seconds=4,
            story=dag_run_made_again_after_success,
            expected=ONE_MORE_RUN,
            subset=mode == "deferrable",
        )
        for mode in MODES
    ]
    found += [
        Row(
            name=f"cleared-mapped-{mode}",
            fault="one of two mapped instances cleared after success",
            mode=mode,
            mapped=2,
            seconds=5,
            story=partial(cleared_after, state="success", map_index=0),
            expected=Expected(runs=3, adf=("Succeeded",) * 3),
        )
        for mode in MAPPED_MODES
    ]
    for mode in DEFERRED_MODES:
        found += [
            Row(
                name=f"cleared-with-upstream-{mode}",
                fault="cleared with upstream while deferred, and the run ends before the upstream task",
                mode=mode,
                first=({"seconds": 60},),
                seconds=5,
                patience=360,
                # The try of a task with outputs ends on a worker.
                task={"outputs": {"rows": "Copy.rowsCopied"}},
                extra_task="upstream",
                story=cleared_with_upstream,
                expected=ONE_MORE_RUN,
                subset=mode == "triggerer-mode",
            ),
            Row(
                name=f"cleared-with-failing-upstream-{mode}",
                fault="cleared with upstream while deferred, and the upstream task fails",
                mode=mode,
                seconds=LONG,
                extra_task="upstream",
                story=cleared_with_failing_upstream,
                expected=Expected(cancels=1, adf=("Cancelled",), task="upstream_failed"),
            ),
        ]
    return [
        *found,
        Row(
            name="cleared-with-downstream",
            fault="cleared with downstream after success",
            mode="deferrable",
            seconds=4,
            extra_task="downstream",
            story=partial(cleared_after, state="success", downstream=True),
            expected=ONE_MORE_RUN,
        ),
        Row(
            name="cleared-and-killed",
            fault="cleared while blocking, and its process killed -9 before it is notified",
            mode="blocking",
            first=FIRST_IS_LONG if features.TASK_STATE_STORE else ({"seconds": 90},),
            seconds=5,
            story=cleared_and_killed,
            # Without a store, the clear of a running task does not show in its counts: the next try adopts the run.
            expected=(
                Expected(runs=2, cancels=1, adf=("Cancelled", "Succeeded"), cancel_within=90)
                if features.TASK_STATE_STORE
                else Expected()
            ),
        ),
        Row(
            name="cleared-no-wait",
            fault="cleared while the run that is not waited for is active",
            mode="no-wait",
            first=FIRST_IS_LONG,
            seconds=5,
            story=cleared_while_left_alone,
            # No process of the first try is left to cancel it. The second try cancels it when it begins.
            expected=Expected(runs=2, cancels=1, adf=("Cancelled", "Succeeded"), cancel_within=45),
        ),
        Row(
            name="parameters-changed",
            fault="parameters changed between tries: killed while waiting",
            mode="blocking",
            first=FIRST_IS_LONG,
            seconds=5,
            task={"parameters": {CORRELATION: "{{ ti.try_number }}"}},
            story=killed_with_other_parameters_next,
            expected=ONE_NEW_RUN,
            subset=True,
        ),
        *(
            Row(
                name=name,
                fault=f"SIGTERM while the main thread holds the token lock{more}",
                mode="blocking",
                own_identity=True,
                seconds=LONG,
                story=story,
                expected=Expected(cancels=1, adf=("Cancelled",), task="failed"),
                subset=True,
            )
            for name, more, story in (
                ("sigterm-in-token-lock", "", marked_in_token_lock),
                ("sigterm-in-token-lock-401", ", after a 401", marked_in_token_lock_after_401),
            )
        ),
    ]

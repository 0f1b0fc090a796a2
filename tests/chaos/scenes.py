"""Faults of Airflow's own processes: one at a time, each with all its cases."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import sqlalchemy

from airflow_adf_mi._triggerer.stored_start import StoredStart
from airflow_adf_mi._triggerer.xcom_journal import INTENT_KEY
from tests.chaos.case import Case
from tests.chaos.row import HOUR, LONG, OWN_IDS, Expected, Mode, Row
from tests.chaos.rows_backfill import FULL_QUEUE
from tests.chaos.rows_start import AMBIGUOUS
from tests.chaos.world import World

Scene = Callable[[World, Sequence[Case]], None]

_LOCK_XCOMS = sqlalchemy.text("LOCK TABLE xcom IN EXCLUSIVE MODE")
"""With this lock, writers wait, and readers do not."""
_WAITING = sqlalchemy.text("SELECT count(*) FROM pg_locks WHERE relation = 'xcom'::regclass AND NOT granted")


@contextmanager
def xcoms_locked(world: World) -> Iterator[Callable[[], bool]]:
    """Let no process write an XCom meanwhile. Yields a function that returns whether a process waits to write one."""
    engine = sqlalchemy.create_engine(world.airflow.database_url)
    try:
        with engine.connect() as holder, engine.connect() as observer:
            holder.execute(_LOCK_XCOMS)
            yield lambda: bool(observer.execute(_WAITING).scalar())
            holder.rollback()
    finally:
        engine.dispose()


def import_blocked(world: World, cases: Sequence[Case]) -> None:
    """Deploy without the trigger's module: the triggerer starts again, and fails every trigger for a minute."""
    world.import_block.touch()
    world.kill_triggerer(world.triggerer())
    world.start_triggerer()
    for case in cases:
        case.start()
        if case.row.mode != "triggerer-mode":
            case.until(lambda case=case: len(case.runs()) == 1, "the run")  # type: ignore[misc]  # mypy types no default
    time.sleep(60)
    world.import_block.unlink()
    # A triggerer does not remember failed imports, so the next trigger finds the module.


def triggerer_killed(world: World, cases: Sequence[Case]) -> None:
    """Kill and restart the triggerer. Meanwhile, an hour passes on the clock of the second emulator."""
    _start(cases)
    world.kill_triggerer(world.triggerer())
    world.second.call(lambda: world.second.clock.advance(HOUR))
    time.sleep(5)
    world.start_triggerer()


def triggerer_killed_starting(world: World, cases: Sequence[Case]) -> None:
    """Kill and restart the triggerer while the faults of the cases delay their starts."""
    for case in cases:
        case.start()
    for case in cases:
        case.wait_fault()
    world.kill_triggerer(world.triggerer())
    time.sleep(5)
    world.start_triggerer()


def triggerer_killed_waiting(world: World, cases: Sequence[Case]) -> None:
    """Kill and restart the triggerer while starts wait for a place in a full queue."""
    for case in cases:
        case.start()
    for case in cases:
        case.wait_fault()
        # Without the stored refusal, the start would be in doubt.
        case.until(partial(refusal_is_stored, case), "the refusal to be stored")
    world.kill_triggerer(world.triggerer())
    time.sleep(5)
    world.start_triggerer()


def refusal_is_stored(case: Case) -> bool:
    if case.row.mode != "triggerer-mode":
        return all(instance.state == "deferred" for instance in case.instances())
    start = StoredStart.from_json(case.xcom(INTENT_KEY))
    return start is not None and start.intent.first_refused_at is not None


def triggerer_killed_storing(world: World, cases: Sequence[Case]) -> None:
    """Kill and restart the triggerer while it stores the intents of its starts, before createRun."""
    with xcoms_locked(world) as is_waiting:
        for case in cases:
            case.start()
        cases[0].until(is_waiting, "the triggerer to store an intent")
        # A createRun that did not wait for its intent would have its answer by now.
        time.sleep(5)
        sent = [case.row.name for case in cases if case.runs()]
        world.kill_triggerer(world.triggerer())
    time.sleep(5)
    world.start_triggerer()
    assert not sent, f"started before the intent was stored: {sent}"


def triggerer_killed_naming(world: World, cases: Sequence[Case]) -> None:
    """Kill and restart the triggerer while it stores the answer to createRun, before the XCom `run_id`."""
    for case in cases:
        case.start()
    for case in cases:
        case.wait_fault()
    # The intents are stored. The faults delay the answers until nothing more can be stored.
    with xcoms_locked(world) as is_waiting:
        cases[0].until(is_waiting, "the triggerer to store an answer")
        named = [case.row.name for case in cases if case.xcom("run_id") is not None]
        world.kill_triggerer(world.triggerer())
    time.sleep(5)
    world.start_triggerer()
    assert not named, f"run_id was pushed before the kill: {named}"


def triggerer_lost(world: World, cases: Sequence[Case]) -> None:
    """Start a second triggerer, and kill the one that has the triggers."""
    _start(cases)
    old = world.triggerer()
    world.start_triggerer()
    time.sleep(15)
    world.kill_triggerer(old)


def triggerer_stopped(world: World, cases: Sequence[Case]) -> None:
    """Start a second triggerer, and stop the one that has the triggers until the other has them. Then it continues."""
    _start(cases)
    old = world.triggerer()
    world.start_triggerer()
    before = {case: case.instance().triggerer_id for case in cases}
    time.sleep(15)
    sleeper = world.airflow.processes[old]
    sleeper.signal(signal.SIGSTOP)
    try:
        for case in cases:
            case.until(lambda case=case: case.instance().triggerer_id != before[case], "the takeover", 90)  # type: ignore[misc]  # as above
    finally:
        sleeper.signal(signal.SIGCONT)
    time.sleep(10)
    sleeper.stop()
    del world.airflow.processes[old]


def api_server_down(world: World, cases: Sequence[Case]) -> None:
    _start(cases)
    world.airflow.processes.pop("api-server").stop()
    time.sleep(30)
    world.airflow.start_api_server()


def sigterm_in_supervisor_call(world: World, cases: Sequence[Case]) -> None:
    """Stop the API server while the run id is stored, and send SIGTERM to the task."""
    (case,) = cases
    case.start()
    case.wait_fault()
    server = world.airflow.processes["api-server"]
    server.signal(signal.SIGSTOP)
    try:
        # Now the answer to createRun arrives, and the task calls its supervisor, which waits for the API server.
        time.sleep(5)
        case.act()
        case.kill(signal.SIGTERM)
        case.until(lambda: case.runs()[0].cancelled_at is not None, "the cancel", 15)
    finally:
        server.signal(signal.SIGCONT)


def many_marked(world: World, cases: Sequence[Case]) -> None:
    """Mark a Dag run with many deferred tasks as failed, while the service enforces its limits."""
    (case,) = cases
    case.start()
    case.until(lambda: len(case.runs()) == case.row.mapped, "the runs", case.row.patience)
    case.wait_state("deferred", seconds=120)
    # A trigger that no triggerer has begun yet is not notified.
    case.until(lambda: all(i.triggerer_id is not None for i in case.instances()), "the triggers to be taken", 60)
    time.sleep(5)
    case.emulator.limits.enforced = True
    try:
        case.mark_dag_run("failed")
        case.until(lambda: all(run.cancelled_at for run in case.runs()), "the cancels", 90)
    finally:
        case.emulator.limits.enforced = False


SCENES: Mapping[str, Scene] = {
    "API server down": api_server_down,
    "SIGTERM in a supervisor call": sigterm_in_supervisor_call,
    "import blocked": import_blocked,
    "triggerer killed": triggerer_killed,
    "triggerer killed while starting": triggerer_killed_starting,
    "triggerer killed while storing an intent": triggerer_killed_storing,
    "triggerer killed while waiting for a place": triggerer_killed_waiting,
    "triggerer killed before run_id": triggerer_killed_naming,
    "triggerer lost": triggerer_lost,
    "triggerer stopped": triggerer_stopped,
    "many marked": many_marked,
}
"""They run in this order. Each leaves one running triggerer."""


QUEUE_MODES: tuple[Mode, ...] = ("deferrable", "triggerer-mode")
KINDS: Sequence[tuple[str, str, Mapping[str, Any]]] = (("", "", {}), ("own-ids-", "; own run ids", OWN_IDS))
"""Whether the service uses the start key as the run id."""


def run_is_named(case: Case) -> None:
    """Check that the XCom `run_id` is the id of the last run, or missing if there is no run."""
    runs = [run.run_id for run in case.runs()]
    named = case.xcom("run_id")
    assert named == (runs[-1] if runs else None), f"run_id is {named}, the runs are {runs}"


def rows(many: int) -> list[Row]:
    found = [
        Row(
            name="import-blocked",
            fault="trigger class cannot be imported for 60 s",
            mode="deferrable",
            scene="import blocked",
            seconds=90,
            # Airflow 3.3.2 can fail a try that resumes within seconds: it takes the executor's event of the process that
            # deferred for one of the process that resumed. That uses up tries, but no runs.
            task={"retries": 5},
            patience=400,
            subset=True,
        ),
        Row(
            name="import-blocked-triggerer-mode",
            fault="trigger class cannot be imported for 60 s (nothing is started yet)",
            mode="triggerer-mode",
            scene="import blocked",
            seconds=20,
            task={"retries": 5},
            patience=400,
        ),
        Row(
            name="kill-prepared-triggerer-mode",
            fault="triggerer killed -9 in phase prepared",
            mode="triggerer-mode",
            check=run_is_named,
            scene="triggerer killed while starting",
            own_identity=True,
            faults=({"operation": "token", "hang_seconds": 100, "drop": True},),
            seconds=5,
        ),
        Row(
            name="kill-sent-triggerer-mode",
            fault="triggerer killed -9 after createRun before its answer",
            mode="triggerer-mode",
            check=run_is_named,
            scene="triggerer killed while starting",
            faults=({"operation": "createRun", "effect": "after", "hang_seconds": 100, "drop": True},),
            seconds=60,
            subset=True,
        ),
        Row(
            name="kill-sent-own-ids-triggerer-mode",
            fault="triggerer killed -9 after createRun before its answer; own run ids",
            mode="triggerer-mode",
            check=run_is_named,
            scene="triggerer killed while starting",
            switches=OWN_IDS,
            faults=({"operation": "createRun", "effect": "after", "hang_seconds": 100, "drop": True},),
            seconds=120,
        ),
        Row(
            name="kill-sent-failed-triggerer-mode",
            fault="triggerer killed -9 after createRun before its answer; the run fails meanwhile, no try left",
            mode="triggerer-mode",
            check=run_is_named,
            scene="triggerer killed while starting",
            faults=({"operation": "createRun", "effect": "after", "hang_seconds": 100, "drop": True},),
            first=({"seconds": 20, "outcome": "Failed", "error": {"message": "so be it"}},),
            task={"retries": 0},
            expected=Expected(adf=("Failed",), task="failed", error="so be it"),
        ),
        Row(
            name="kill-sending-triggerer-mode",
            fault="triggerer killed -9 in phase sending before the request left; own run ids, nothing listed",
            mode="triggerer-mode",
            check=run_is_named,
            scene="triggerer killed while starting",
            switches=OWN_IDS,
            faults=({"operation": "createRun", "hang_seconds": 100, "drop": True},),
            expected=Expected(runs=0, adf=(), task="failed", error=AMBIGUOUS),
            subset=True,
        ),
        *(
            Row(
                name=f"kill-storing-{kind}triggerer-mode",
                fault=f"triggerer killed -9 while the intent is stored, before createRun{suffix}",
                mode="triggerer-mode",
                check=run_is_named,
                scene="triggerer killed while storing an intent",
                switches=switches,
                seconds=5,
            )
            for kind, suffix, switches in KINDS
        ),
        *(
            Row(
                name=f"kill-naming-{kind}triggerer-mode",
                fault=f"triggerer killed -9 after createRun's answer, before run_id{suffix}",
                mode="triggerer-mode",
                check=run_is_named,
                scene="triggerer killed before run_id",
                switches=switches,
                faults=({"operation": "createRun", "effect": "after", "hang_seconds": 15},),
                seconds=90,
                subset=bool(switches),
            )
            for kind, suffix, switches in KINDS
        ),
        Row(
            name="ended-an-hour-ago-triggerer-mode",
            fault="the run ended while no triggerer ran for an hour",
            mode="triggerer-mode",
            scene="triggerer killed",
            own_port=True,
            seconds=LONG,
        ),
        *(
            Row(
                name=f"queue-full-triggerer-killed-{mode}",
                fault="triggerer killed -9 while the queue of the pipeline is full",
                mode=mode,
                scene="triggerer killed while waiting for a place",
                faults=({**FULL_QUEUE, "times": 2},),
                seconds=5,
                task={"retries": 0},
                patience=300,
            )
            for mode in QUEUE_MODES
        ),
        Row(
            name="sigterm-in-supervisor-call",
            fault="SIGTERM inside a supervisor call",
            mode="blocking",
            scene="SIGTERM in a supervisor call",
            faults=({"operation": "createRun", "effect": "after", "hang_seconds": 3},),
            seconds=LONG,
            task={"retries": 0},
            expected=Expected(cancels=1, adf=("Cancelled",), task="failed"),
            subset=True,
        ),
        Row(
            name="ended-an-hour-ago",
            fault="the run ended while no triggerer ran for an hour",
            mode="deferrable",
            scene="triggerer killed",
            own_port=True,
            seconds=LONG,
            subset=True,
        ),
        Row(
            name="failed-an-hour-ago",
            fault="the run failed while no triggerer ran for an hour",
            mode="deferrable",
            scene="triggerer killed",
            own_port=True,
            first=({"seconds": LONG, "outcome": "Failed", "error": {"message": "so be it"}},),
            task={"retries": 0},
            expected=Expected(adf=("Failed",), task="failed", error="so be it"),
        ),
        Row(
            name="many-marked",
            fault=f"Dag run with {many} deferred tasks marked failed",
            mode="deferrable",
            scene="many marked",
            mapped=many,
            seconds=LONG,
            patience=60 + 5.0 * many,
            expected=Expected(runs=many, cancels=many, adf=("Cancelled",) * many, task="failed", cancel_within=60),
            subset=True,
        ),
    ]
    for scene, fault in (
        ("triggerer killed", "triggerer killed -9 while waiting, restarted"),
        ("triggerer lost", "two triggerers, one killed for good"),
        ("triggerer stopped", "two triggerers, one stopped until the other took over, then continued"),
        ("API server down", "API server down for 30 s while waiting"),
    ):
        name = scene.lower().replace(" ", "-")
        found.append(
            Row(name=f"{name}-deferrable", fault=fault, mode="deferrable", scene=scene, seconds=60, subset=True)
        )
        found.append(
            Row(
                name=f"{name}-triggerer-mode",
                fault=f"{fault} (triggerer-mode)",
                mode="triggerer-mode",
                check=run_is_named,
                scene=scene,
                seconds=60,
                subset=scene == "triggerer stopped",
            )
        )
        found.append(
            Row(
                name=f"{name}-sensor",
                fault=f"{fault} (sensor)",
                mode="sensor",
                task={"deferrable": True},
                scene=scene,
                seconds=60,
            )
        )
    found.append(
        Row(
            name="api-server-down-blocking",
            fault="API server down for 30 s while waiting",
            mode="blocking",
            scene="API server down",
            seconds=60,
            # Meanwhile the scheduler gets no heartbeats, and uses up tries that cannot even begin.
            task={"retries": 3, "retry_delay": 10},
        )
    )
    return found


def _start(cases: Sequence[Case]) -> None:
    for case in cases:
        case.start()
    for case in cases:
        case.wait_waiting()

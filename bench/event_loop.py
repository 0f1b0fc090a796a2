"""For how long answers of the service can block the event loop: thousands of failures, hostile text, a large page."""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow_adf_mi.adf.api.operations import query_activity_runs
from airflow_adf_mi.adf.api.shared_client import shared_client
from airflow_adf_mi.adf.config.settings import AdfSettings
from airflow_adf_mi.adf.connection_fields import settings_from_connection
from airflow_adf_mi.adf.models import ActivityRun
from airflow_adf_mi.emulator import Emulator, FactorySpec
from airflow_adf_mi.emulator.pipelines.definitions import FactoryDefinition, PipelineDefinition
from airflow_adf_mi.emulator.pipelines.script import Script
from airflow_adf_mi.emulator.service.state import Switches
from airflow_adf_mi.triggers import AdfPipelineRunTrigger
from bench.world import COPY, environment_for
from tests.support.processes import run_to_end

ITERATIONS = 5_000
MESSAGE = (
    "ErrorCode=SqlOperationFailed,'Type=System.Data.SqlClient.SqlException,Message=Cannot open the table. " * 20
)[:1500]
LOOKUP = 4_000_000
"""The most bytes of a Lookup's output (Microsoft's documentation)."""
ROWS = 100
"""Entries of a page, as others have observed it."""
HOSTILE = (
    "code=",
    "eyJ",
    "eyJaaaaa.",
    "-eyJ",
    "://:",
    "pwd=a;",
    "pwd=%25",
    'name":"',
    "authorization: a ",
    "<a:",
    "\\",
    "Bearer+",
)


@dataclass(frozen=True)
class Cost:
    """Seconds of processor time: the total, and the most between two turns of the event loop."""

    cpu: float
    longest_block: float
    note: str = ""


def _inside_a_loop(count: int, **script: Any) -> tuple[FactoryDefinition, Script]:
    loop = {
        "name": "Each",
        "type": "ForEach",
        "dependsOn": [],
        "typeProperties": {"items": {"value": "@x", "type": "Expression"}, "activities": [COPY]},
    }
    factory = FactoryDefinition(pipelines={"Load": PipelineDefinition("Load", {"activities": [loop]})})
    activities = {"Load/Each": {"iterations": count}, "Load/Copy": {"seconds": 0, **script}}
    return factory, Script.from_json({"pipelines": {"Load": {"queued_seconds": 0}}, "activities": activities})


def explain() -> Cost:
    """A trigger's report about a loop whose iterations all failed."""
    failed = {"outcome": "Failed", "error": {"message": MESSAGE}}
    return _measured("explain", *_inside_a_loop(ITERATIONS, **failed), page_size=ITERATIONS // 20 + 1)


def large_page() -> Cost:
    """A full page, with the largest output of a Lookup."""
    table = [{f"column{n}": f"value {row} {n}" for n in range(10)} for row in range(LOOKUP // 270)]
    outputs = [{"firstRow": {}, "value": table}, *({"errors": [MESSAGE]} for _ in range(ROWS - 2))]
    return _measured("page", *_inside_a_loop(ROWS - 1, outputs_by_iteration=outputs), page_size=ROWS)


def hostile_text() -> Cost:
    """Messages of activities, each a megabyte of one hostile text."""
    longest, began = 0.0, time.process_time()
    for piece in HOSTILE:
        before = time.process_time()
        ActivityRun.from_wire({"error": {"message": piece * (1_000_000 // len(piece))}})
        longest = max(longest, time.process_time() - before)
    return Cost(time.process_time() - began, longest, f"{len(HOSTILE)} texts")


def _measured(act: str, factory: FactoryDefinition, script: Script, *, page_size: int) -> Cost:
    spec = FactorySpec(source=factory, factory_name="adf-bench")
    with Emulator(spec, script=script, switches=Switches(page_size=page_size)) as emulator:
        run_id = emulator.call(lambda: emulator.state().create_run("Load", None))
        emulator.clock.advance(600)
        order = {"act": act, "extra": emulator.connection_extra(), "run_id": run_id}
        done = run_to_end(
            [sys.executable, "-m", "bench.event_loop"],
            text_in=json.dumps(order),
            env=environment_for(emulator),
            cwd=Path(__file__).parent.parent,
        )
    if done.returncode != 0:
        raise RuntimeError(done.stderr[-3000:])
    return Cost(**json.loads(done.stdout.splitlines()[-1]))


async def _beaten(act: Callable[[], Awaitable[str]]) -> Cost:
    """What `act` costs in processor time, so that other processes of the machine do not count.

    Nor does Python's garbage collector, which visits all objects of the process, whichever code started it.
    """
    longest = collected = 0.0
    collecting: float | None = None

    def collector(phase: str, _info: Mapping[str, int]) -> None:
        nonlocal collected, collecting
        if phase == "start":
            collecting = time.process_time()
        elif collecting is not None:
            collected, collecting = collected + time.process_time() - collecting, None

    def worked() -> float:
        # A collection that another thread has just ended may still count as running when the loop continues.
        began_collecting = collecting
        return (time.process_time() if began_collecting is None else began_collecting) - collected

    async def beat() -> None:
        nonlocal longest
        while True:
            before = worked()
            await asyncio.sleep(0.001)
            longest = max(longest, worked() - before)

    gc.callbacks.append(collector)
    heart = asyncio.create_task(beat())
    await asyncio.sleep(0.01)
    longest, began = 0.0, time.process_time()
    note = await act()
    cpu = time.process_time() - began
    await asyncio.sleep(0.01)
    heart.cancel()
    gc.callbacks.remove(collector)
    return Cost(cpu, longest, f"{note}, {collected * 1000:.0f} ms of the garbage collector")


async def _child(order: Mapping[str, Any]) -> Cost:
    settings = settings_from_connection(
        conn_id="bench", conn_type="azure_data_factory_mi", extra=json.dumps(order["extra"])
    )
    async with shared_client(settings) as client:
        # A running triggerer already has a token, a connection, and the modules that are imported for them.
        now, day = datetime.now(UTC), timedelta(days=1)
        query = query_activity_runs(settings.factory(), order["run_id"], now - day, now + day)
        if order["act"] == "page":
            await client.send(query_activity_runs(settings.factory(), "warm", now - day, now + day))

            async def act() -> str:
                return f"{len((await client.send(query)).items)} rows"

        else:
            await _trigger(settings, "warm-up", deadline=time.time()).report()

            async def act() -> str:
                report = await _trigger(settings, order["run_id"]).report()
                explanation = report.explanation
                return (
                    "nothing" if explanation is None else f"{len(explanation.activities) + explanation.more} failures"
                )

        return await _beaten(act)


def _trigger(settings: AdfSettings, run_id: str, *, deadline: float | None = None) -> AdfPipelineRunTrigger:
    return AdfPipelineRunTrigger(
        settings=settings.to_json(),
        resource_group_name=str(settings.resource_group_name),
        factory_name=str(settings.factory_name),
        run_id=run_id,
        check_interval=10,
        deadline=deadline,
        owns_run=False,
        activity_log="summary",
    )


if __name__ == "__main__":
    print(json.dumps(asdict(asyncio.run(_child(json.loads(sys.stdin.read()))))))

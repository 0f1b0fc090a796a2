"""Waits for 2,000 runs at a time, for ten real minutes: does memory grow, do sessions stay open, is the event loop blocked?

`make soak`, or python -m bench.soak [minutes].
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import sys
import time
import uuid
import warnings
from dataclasses import asdict
from typing import Any

import psutil

from airflow_adf_mi.adf.api.operations import create_run
from airflow_adf_mi.adf.api.shared_client import shared_client
from airflow_adf_mi.adf.config.settings import AdfSettings
from airflow_adf_mi.adf.connection_fields import settings_from_connection
from airflow_adf_mi.emulator import Emulator
from airflow_adf_mi.emulator.pipelines.script import Script
from airflow_adf_mi.triggers import AdfPipelineRunTrigger
from bench.heart import BEAT, BLOCK, Block, Heart
from bench.world import SPEC, environment_for
from tests.support.processes import run_program, run_to_end

WAITS = 2_000
SECONDS = 60.0


async def soak(settings: AdfSettings, minutes: float, core: int) -> dict[str, Any]:
    """Run `WAITS` triggers at a time, each for a run of `SECONDS`."""
    until = time.monotonic() + minutes * 60
    ended = 0
    memory: list[float] = []
    objects: list[int] = []
    me = psutil.Process()
    heart = Heart(core)

    async def one(number: int) -> None:
        nonlocal ended
        await asyncio.sleep(SECONDS * number / WAITS)
        while time.monotonic() < until:
            async with shared_client(settings) as client:
                run_id = await client.send(create_run(settings.factory(), "Load", None, request_id=str(uuid.uuid4())))
            trigger = AdfPipelineRunTrigger(
                settings=settings.to_json(),
                resource_group_name=str(settings.resource_group_name),
                factory_name=str(settings.factory_name),
                run_id=run_id,
                check_interval=10,
                owns_run=True,
                not_ended_before=time.time(),
            )
            async for event in trigger.run():
                if event.payload["run"]["status"] != "Succeeded":
                    raise RuntimeError(str(event.payload))
                ended += 1

    async def weigh() -> None:
        while time.monotonic() < until:
            await asyncio.sleep(15)
            memory.append(me.memory_info().rss / 1e6)
            if len(memory) % 4 == 1:
                objects.append(len(gc.get_objects()))

    beating, weighing = asyncio.create_task(heart.beat()), asyncio.create_task(weigh())
    await asyncio.gather(*(one(number) for number in range(WAITS)))
    weighing.cancel()
    # So that blocks at the very end are recorded as well.
    await asyncio.sleep(1)
    beating.cancel()
    await asyncio.sleep(BEAT)
    return {
        "ended": ended,
        "memory": memory,
        "objects": objects,
        "blocks": [asdict(block) for block in heart.blocks()],
        "tasks_left": len(asyncio.all_tasks()) - 1,
    }


def child(minutes: float, core: int) -> None:
    logging.disable(logging.INFO)
    warnings.simplefilter("error", ResourceWarning)
    os.sched_setaffinity(0, {core})
    extra = os.environ["ADF_SOAK_EXTRA"]
    settings = settings_from_connection(conn_id="soak", conn_type="azure_data_factory_mi", extra=extra)
    print(json.dumps(asyncio.run(soak(settings, minutes, core))), flush=True)


def halves(series: list[float]) -> tuple[float, float]:
    """The mean of the first half and of the second."""
    middle = (len(series) + 1) // 2
    first, second = series[:middle], series[middle:] or series
    return sum(first) / len(first), sum(second) / len(second)


def main() -> int:
    if sys.argv[1:2] == ["--child"]:
        child(float(sys.argv[2]), int(sys.argv[3]))
        return 0
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    # The loop has a core of its own, so that it is never late because of the service, which is another process.
    *others, core = sorted(os.sched_getaffinity(0))
    if not others:
        print("This needs two cores; on one core, the service makes the loop late.", file=sys.stderr)
        return 1
    os.sched_setaffinity(0, others)
    script = Script.from_json(
        {"pipelines": {"Load": {"queued_seconds": 0}}, "activities": {"Load/Copy": {"seconds": SECONDS}}}
    )
    with Emulator(SPEC, script=script) as emulator:
        print(f"Waiting for {WAITS:,} runs at a time, for {minutes:g} minutes...", flush=True)
        environment = {**environment_for(emulator), "ADF_SOAK_EXTRA": json.dumps(emulator.connection_extra())}
        command = [sys.executable, "-m", "bench.soak", "--child", str(minutes), str(core)]
        done = run_to_end(command, env=environment)
    if done.returncode != 0:
        print(done.stderr[-3000:], file=sys.stderr)
        return 1
    result = json.loads(done.stdout.splitlines()[-1])
    memory = result["memory"]
    # The first two minutes, in which everything is created, do not count.
    before, after = halves(memory[8:] or memory)
    objects = [round(mean / 1000) for mean in halves(result["objects"][2:] or result["objects"])]
    print("megabytes every 15 s:", *(round(each) for each in memory))
    unclosed = [line for line in done.stderr.splitlines() if "nclosed" in line or "never retrieved" in line]
    blocks = [Block(**each) for each in result["blocks"]]
    by_code = sum(block.by_code > BLOCK for block in blocks)
    print(
        f"{minutes:g} minutes, {WAITS:,} waits at a time: {result['ended']:,} runs ended; memory {before:.0f} MB, then "
        f"{after:.0f} MB ({(after / before - 1) * 100:+.1f} %), {objects[0]},000 objects, then {objects[1]},000; {len(unclosed)} "
        f"sessions left open, {result['tasks_left']} tasks left; {by_code} times the event loop was blocked for over "
        f"{BLOCK * 1000:.0f} ms by code, and {len(blocks) - by_code} times by Python's garbage collector or the machine"
    )
    for block in blocks[:5]:
        print(block)
    return 0


if __name__ == "__main__":
    run_program(main)

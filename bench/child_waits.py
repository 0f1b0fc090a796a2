"""A process that waits for many runs, as a triggerer would: with our triggers, or with the Azure provider's.

Reads an order as JSON from standard input, and prints what the waits cost.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import resource
import sys
import time
from pathlib import Path
from typing import Any


def our_trigger(order: dict[str, Any], run_id: str) -> Any:
    from airflow_adf_mi.triggers import AdfPipelineRunTrigger

    return AdfPipelineRunTrigger(
        settings=order["settings"],
        resource_group_name=order["resource_group_name"],
        factory_name=order["factory_name"],
        run_id=run_id,
        check_interval=order["interval"],
        owns_run=True,
        not_ended_before=order["began"],
        activity_log=order["activity_log"],
    )


def providers_trigger(order: dict[str, Any], run_id: str) -> Any:
    from airflow.providers.microsoft.azure.triggers.data_factory import AzureDataFactoryTrigger

    return AzureDataFactoryTrigger(
        run_id=run_id,
        azure_data_factory_conn_id="adf_bench",
        end_time=time.time() + 100_000,
        resource_group_name=order["resource_group_name"],
        factory_name=order["factory_name"],
        check_interval=order["interval"],
    )


async def wait_for_all(order: dict[str, Any]) -> dict[str, Any]:
    make = our_trigger if order["who"] == "ours" else providers_trigger
    known: dict[str, float] = {}
    longest = 0.0

    async def wait(run_id: str) -> None:
        async for event in make(order, run_id).run():
            known[run_id] = time.time()
            status = event.payload.get("status") or event.payload["run"]["status"]
            if status.lower() not in ("success", "succeeded"):
                raise RuntimeError(f"unexpected event {event.payload}")

    async def beat() -> None:
        nonlocal longest
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.01)
            longest = max(longest, time.perf_counter() - before - 0.01)

    # A running triggerer has already loaded this.
    make(order, "warm")
    heart = asyncio.create_task(beat())
    began = cpu()
    await asyncio.gather(*(wait(run_id) for run_id in order["run_ids"]))
    heart.cancel()
    return {"known": known, "cpu": cpu() - began, "longest_block": longest}


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def peak_rss() -> int:
    """In bytes. Not the figure of getrusage, which a process inherits from the one that started it."""
    kilobytes = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    if kilobytes is None:
        raise RuntimeError("this system does not report how much memory a process has used")
    return int(kilobytes[1]) * 1024


def main() -> None:
    order = json.loads(sys.stdin.read())
    logging.disable(logging.INFO)
    print("ready", flush=True)
    result = asyncio.run(wait_for_all(order))
    result["peak_rss"] = peak_rss()
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()

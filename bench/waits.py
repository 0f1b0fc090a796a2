"""What it costs to wait for many runs, and how late their ends are known: the provider's triggers and ours, on one emulator."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

from airflow_adf_mi.adf.connection_fields import settings_from_connection
from airflow_adf_mi.emulator import Emulator
from airflow_adf_mi.emulator.pipelines.script import Script
from airflow_adf_mi.emulator.service.state import Switches
from bench.world import SPEC, environment_for
from tests.support.processes import run_to_end


@dataclass(frozen=True)
class Load:
    """Runs of `seconds`, begun within `spread` seconds of each other, and waited for at an interval.

    `activity_log` is the operator's default, or "off". Meanwhile, `foreign` runs of other people end in the same factory. The
    service's clock is `ahead` of ours. With `limited`, the service refuses requests beyond its documented limits.
    """

    runs: int
    seconds: float = 60.0
    spread: float = 10.0
    interval: float = 10.0
    switches: Switches = field(default_factory=Switches)
    foreign: int = 0
    ahead: float = 0.0
    limited: bool = False
    activity_log: str = "summary"

    @property
    def most_seconds(self) -> float:
        return self.seconds + self.spread


@dataclass(frozen=True)
class Cost:
    """The results of a load."""

    requests: int
    tokens: int
    cpu: float
    peak_rss: int
    lag_median: float
    lag_max: float
    longest_block: float
    wall: float
    lost: int
    refused: int


def measure(who: str, load: Load) -> Cost:
    """Run the load once, and wait in a separate process."""
    script = Script.from_json(
        {
            "pipelines": {"Load": {"queued_seconds": 0}},
            "runs": [
                {
                    "pipeline": "Load",
                    "times": 1,
                    "activities": {"Copy": {"seconds": load.seconds + load.spread * n / load.runs}},
                }
                for n in range(load.runs)
            ]
            + [
                {
                    "pipeline": "Load",
                    "times": 1,
                    "activities": {"Copy": {"seconds": load.most_seconds * n / load.foreign}},
                }
                for n in range(load.foreign)
            ],
        }
    )
    with Emulator(SPEC, script=script, switches=replace(load.switches)) as emulator:
        extra = emulator.connection_extra()
        settings = settings_from_connection(conn_id="bench", conn_type="azure_data_factory_mi", extra=json.dumps(extra))
        environment = environment_for(emulator)
        factory = emulator.state()
        began = time.time()
        emulator.clock.advance(load.ahead)
        emulator.limits.enforced = load.limited
        run_ids = emulator.call(lambda: [factory.create_run("Load", None) for _ in range(load.runs)])
        emulator.call(lambda: [factory.create_run("Load", None) for _ in range(load.foreign)])
        if load.switches.list_frozen_at is not None:
            factory.switches.list_frozen_at = emulator.clock.now()
        order = {
            "who": who,
            "settings": settings.to_json(),
            "resource_group_name": extra["resource_group_name"],
            "factory_name": extra["factory_name"],
            "run_ids": run_ids,
            "interval": load.interval,
            "began": began,
            "activity_log": load.activity_log,
        }
        command = [sys.executable, "-m", "bench.child_waits"]
        done = run_to_end(
            command,
            text_in=json.dumps(order),
            env=environment,
            cwd=Path(__file__).parent.parent,
        )
        if done.returncode != 0:
            raise RuntimeError(done.stderr[-3000:])
        result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        wall = time.time() - began
        ends = emulator.call(lambda: {run.run_id: run.ended for run in factory.runs.values()})
        lags = [known + load.ahead - (ends[run_id] or 0) for run_id, known in result["known"].items()]
        return Cost(
            requests=len(emulator.books.requests),
            tokens=len(emulator.books.tokens),
            cpu=result["cpu"],
            peak_rss=result["peak_rss"],
            lag_median=median(lags),
            lag_max=max(lags),
            longest_block=result["longest_block"],
            wall=wall,
            lost=len(set(run_ids) - set(result["known"])),
            refused=sum(record.status == 429 for record in emulator.books.requests),
        )

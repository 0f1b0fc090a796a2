"""`make bench`: what tasks cost with the Azure provider and with this package; saved as bench/RESULTS.md.

--quick   once instead of three times, and without the large loads
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median

from airflow_adf_mi.adf.reporting.activity_log import QUERIES_PER_MINUTE
from airflow_adf_mi.emulator.service.state import Switches
from bench import airflow_tasks, event_loop, execute, imports, simulation, waits
from bench.waits import Cost, Load
from tests.support.processes import run_program

HERE = Path(__file__).parent
RESULTS = HERE / "RESULTS.md"
THOUSAND = Load(runs=1000)
WITHOUT_LOG = replace(THOUSAND, activity_log="off")
FROZEN = Load(runs=1000, switches=Switches(list_frozen_at=0.0))
AMONG_OTHERS = Load(runs=1000, switches=Switches(list_lag_seconds=600.0), foreign=1000, ahead=90.0, limited=True)
TEN_THOUSAND = Load(runs=10_000, seconds=120.0, spread=120.0, limited=True)
TEN_THOUSAND_FROZEN = replace(TEN_THOUSAND, switches=Switches(list_frozen_at=0.0))
FROZEN_BOUND = 100.0
"""Seconds: max(60, 1,000 runs / 10 status checks a second), docs/waiting.md."""
PACKAGES = (
    "apache-airflow",
    "apache-airflow-providers-microsoft-azure",
    "azure-mgmt-datafactory",
    "azure-identity",
    "airflow-adf-mi",
)
WHO = ("provider", "ours")


@dataclass(frozen=True)
class Row:
    """One figure of this package; with the provider's, if there is one."""

    what: str
    ours: float
    target: float
    shape: str
    theirs: float | None = None

    @property
    def is_met(self) -> bool:
        return self.ours <= self.target

    def cells(self) -> list[str]:
        theirs = "" if self.theirs is None else self.shape.format(self.theirs)
        ratio = f"{self.theirs / self.ours:,.1f}" if self.theirs is not None and self.ours > 0 else ""
        met = "yes" if self.is_met else "**no**"
        return [self.what, theirs, self.shape.format(self.ours), ratio, self.shape.format(self.target), met]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="make bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args(arguments).quick
    times = 1 if quick else 3
    rows = [*_processes(5), *_event_loop(), *_thousand(times), *_without_log(times), *_frozen(), *_among_others()]
    if not quick:
        rows += [
            *_ten_thousand(median(row.ours for row in rows if row.what.startswith("1,000 runs: CPU"))),
            *_ten_thousand_frozen(),
        ]
    rows += _airflow(times, burst=not quick)
    simulated = [simulation.a_day()[1], simulation.an_hour()[1]]
    simulation.plot(simulation.requests_against_waits(), HERE / "requests.svg")
    text = report(rows, times, simulated)
    RESULTS.write_text(text)
    print(text)
    return 0 if all(row.is_met for row in rows) else 1


def report(rows: Sequence[Row], times: int, simulated: Sequence[str]) -> str:
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    lines = [
        "# What tasks cost",
        "",
        f"`make bench`, {datetime.now(UTC):%Y-%m-%d}; medians of {times}, of 5 for imports and processes, one run for what takes",
        f"minutes. {machine}. {versions}.",
        "",
        'At its end, a wait logs the activities of its run. Tasks do this by default (`activity_log="summary"`). Waits of rows',
        f'with `activity_log="off"` do not. In a minute, the activities of at most {QUERIES_PER_MINUTE} runs of a factory are',
        "logged.",
        "",
        "Both packages meet the same emulator in the same run. CPU and memory of waits are measured in the process that waits.",
        "This process loads only the parts of Airflow that triggers need. A lag is the time from a run's end to its trigger's",
        "event.",
        "",
        "| what | provider | this package | ratio | target | met |",
        "|---|---|---|---|---|---|",
        *(f"| {' | '.join(row.cells())} |" for row in rows),
        "",
        "## Simulated",
        "",
        "The rules of waiting on a virtual clock, with the service's documented read limit for one identity enforced:",
        "",
        *(f"- {text}." for text in simulated),
        "",
        "![Requests against waits](requests.svg)",
    ]
    return "\n".join(lines) + "\n"


def _processes(times: int) -> list[Row]:
    imported = {who: imports.measure(who, times) for who in WHO}
    executed = {who: execute.measure(who, times) for who in execute.MAKE}
    theirs, ours, unchecked, usual = (executed[who] for who in ("provider", "ours", "unchecked", "usual"))
    what = "task process that has deferred"
    return [
        Row(
            "import of the operator, over airflow.sdk: CPU",
            imported["ours"][0],
            0.05,
            "{:.3f} s",
            imported["provider"][0],
        ),
        Row(
            "import of the operator, over airflow.sdk: memory",
            imported["ours"][1],
            3,
            "{:.1f} MB",
            imported["provider"][1],
        ),
        Row(f"{what}: CPU", ours.cpu, theirs.cpu, "{:.2f} s", theirs.cpu),
        Row(f"{what}: memory", ours.megabytes, theirs.megabytes, "{:.1f} MB", theirs.megabytes),
        # The parameters are checked with one request for the pipeline's definition.
        Row(f"{what}: requests", ours.requests, unchecked.requests + 1, "{:,.0f}", theirs.requests),
        Row(
            f"{what}, check_parameters=False: requests", unchecked.requests, theirs.requests, "{:,.0f}", theirs.requests
        ),
        Row(f"{what}, check_parameters=False: CPU", unchecked.cpu, theirs.cpu, "{:.2f} s", theirs.cpu),
        # The durations of earlier runs come from one list query.
        Row(f'{what}, warn_after="usual": requests', usual.requests, ours.requests + 1, "{:,.0f}", theirs.requests),
        Row(f'{what}, warn_after="usual": CPU', usual.cpu, theirs.cpu, "{:.2f} s", theirs.cpu),
    ]


def _thousand(times: int) -> list[Row]:
    costs = {who: [_measured(who, THOUSAND) for _ in range(times)] for who in WHO}

    def row(what: str, read: Callable[[Cost], float], target: float, shape: str) -> Row:
        theirs, ours = (median(map(read, costs[who])) for who in WHO)
        return Row(f"1,000 runs: {what}", ours, target, shape, theirs)

    return [
        row("requests", lambda c: c.requests, 150 + QUERIES_PER_MINUTE, "{:,.0f}"),
        row("token requests", lambda c: c.tokens, 1, "{:,.0f}"),
        row("CPU", lambda c: c.cpu, 2, "{:.1f} s"),
        row("peak memory", lambda c: c.peak_rss / 1e6, 200, "{:.0f} MB"),
        row("lag, median", lambda c: c.lag_median, 5, "{:.1f} s"),
        row("lag, most", lambda c: c.lag_max, 11, "{:.1f} s"),
        row("lost", lambda c: c.lost, 0, "{:.0f}"),
    ]


def _without_log(times: int) -> list[Row]:
    costs = [_measured("ours", WITHOUT_LOG) for _ in range(times)]
    what = '1,000 runs, activity_log="off"'
    return [
        Row(f"{what}: requests", median(cost.requests for cost in costs), 150, "{:,.0f}"),
        Row(f"{what}: CPU", median(cost.cpu for cost in costs), 2, "{:.1f} s"),
        Row(f"{what}: lag, median", median(cost.lag_median for cost in costs), 5, "{:.1f} s"),
        Row(f"{what}: lag, most", median(cost.lag_max for cost in costs), 11, "{:.1f} s"),
        Row(f"{what}: lost", max(cost.lost for cost in costs), 0, "{:.0f}"),
    ]


def _event_loop() -> list[Row]:
    """The most milliseconds for which other waits were blocked, and the total processor time."""
    print("ours: the event loop...", file=sys.stderr, flush=True)
    explained, read, masked = event_loop.explain(), event_loop.large_page(), event_loop.hostile_text()
    rows = []
    for what, cost, cpu in (
        (f"explain a ForEach of {event_loop.ITERATIONS:,} failed iterations", explained, 3.0),
        (f"redact {len(event_loop.HOSTILE)} hostile texts of 1 MB", masked, 0.5),
        ("read a page of 100 rows with a Lookup's largest output", read, 1.0),
    ):
        rows += [
            Row(f"{what}: CPU", cost.cpu, cpu, "{:.2f} s"),
            Row(f"{what}: event loop blocked, most", cost.longest_block * 1000, 50, "{:.0f} ms"),
        ]
    return rows


def _frozen() -> list[Row]:
    cost = _measured("ours", FROZEN)
    return [
        Row("1,000 runs, list that shows nothing: lag, most", cost.lag_max, FROZEN_BOUND, "{:.0f} s"),
        Row("1,000 runs, list that shows nothing: requests", cost.requests, 2500, "{:,.0f}"),
        Row("1,000 runs, list that shows nothing: lost", cost.lost, 0, "{:.0f}"),
    ]


def _among_others() -> list[Row]:
    cost = _measured("ours", AMONG_OTHERS)
    what = "1,000 runs among others, list 10 min late, clock 90 s off"
    return [
        Row(f"{what}: lag, most", cost.lag_max, FROZEN_BOUND, "{:.0f} s"),
        Row(f"{what}: beyond the service's limits", cost.refused, 0, "{:.0f}"),
        Row(f"{what}: lost", cost.lost, 0, "{:.0f}"),
    ]


def _ten_thousand(cpu_of_thousand: float) -> list[Row]:
    load = TEN_THOUSAND
    cost = _measured("ours", load)
    intervals = cost.wall / load.interval
    completions = load.runs / intervals
    longer = load.most_seconds / THOUSAND.most_seconds
    return [
        Row("10,000 runs: requests an interval", cost.requests / intervals, 12 + completions / 100, "{:.0f}"),
        Row("10,000 runs: share of one core", cost.cpu / cost.wall, 0.15, "{:.0%}"),
        Row(
            f"10,000 runs: CPU (target: ten times the CPU of 1,000 runs, times {longer:.1f} for the longer wait)",
            cost.cpu,
            10 * cpu_of_thousand * longer,
            "{:.1f} s",
        ),
        Row("10,000 runs: beyond the service's limits", cost.refused, 0, "{:.0f}"),
        Row("10,000 runs: lost", cost.lost, 0, "{:.0f}"),
    ]


def _ten_thousand_frozen() -> list[Row]:
    cost = _measured("ours", TEN_THOUSAND_FROZEN)
    return [
        Row("10,000 runs, list that shows nothing: lag, most", cost.lag_max, 1000, "{:.0f} s"),
        Row("10,000 runs, list that shows nothing: beyond the service's limits", cost.refused, 0, "{:.0f}"),
        Row("10,000 runs, list that shows nothing: lost", cost.lost, 0, "{:.0f}"),
    ]


def _airflow(times: int, *, burst: bool) -> list[Row]:
    print("Airflow end to end...", file=sys.stderr, flush=True)
    with airflow_tasks.running() as stack:
        theirs, deferrable, triggerer_mode = (stack.few(name, times) for name in airflow_tasks.NAMES)
        what = f"Airflow end to end, {airflow_tasks.FEW} tasks of {airflow_tasks.SECONDS:.0f} s"
        rows = [
            Row(f"{what}, deferrable: CPU a task", deferrable.cpu_a_task, 1.8, "{:.2f} s", theirs.cpu_a_task),
            Row(f"{what}, deferrable: wall", deferrable.wall, theirs.wall, "{:.0f} s", theirs.wall),
            Row(f"{what}, triggerer mode: CPU a task", triggerer_mode.cpu_a_task, 0.3, "{:.2f} s", theirs.cpu_a_task),
            Row(f"{what}, triggerer mode: wall", triggerer_mode.wall, 30, "{:.0f} s", theirs.wall),
        ]
        if burst:
            many = stack.many()
            what = f"{airflow_tasks.MANY} tasks in triggerer mode of {airflow_tasks.MANY_SECONDS:.0f} s"
            rows += [
                Row(f"{what}: wall", many.wall, 240, "{:.0f} s"),
                Row(f"{what}: starts throttled", many.throttled, 0, "{:.0f}"),
                Row(f"{what}: runs beyond one each", many.runs - airflow_tasks.MANY, 0, "{:.0f}"),
                Row(f"{what}: lost", many.not_succeeded, 0, "{:.0f}"),
                Row(f"{what}: oldest triggerer heartbeat", many.latest_heartbeat, 20, "{:.0f} s"),
            ]
    return rows


def _measured(who: str, load: Load) -> Cost:
    print(f"{who}: {load.runs} runs...", file=sys.stderr, flush=True)
    return waits.measure(who, load)


if __name__ == "__main__":
    run_program(main)

"""`make bench`: what importing and waiting cost, the Azure provider and this package side by side; saved as bench/RESULTS.md.

--quick   once instead of three times, and without the large load
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median

from airflow_adf_mi.emulator.state import Switches
from bench import imports, waits
from bench.waits import Cost, Load

RESULTS = Path(__file__).parent / "RESULTS.md"
THOUSAND = Load(runs=1000)
FROZEN = Load(runs=1000, switches=Switches(list_frozen_at=0.0))
LAGGING = Load(runs=1000, switches=Switches(list_lag_seconds=600.0))
TEN_THOUSAND = Load(runs=10_000, seconds=120.0, spread=120.0)
PACKAGES = (
    "apache-airflow",
    "apache-airflow-providers-microsoft-azure",
    "azure-mgmt-datafactory",
    "azure-identity",
    "airflow-adf-mi",
)

Row = tuple[str, str, str, str]
"""What, the provider's, ours, the ratio."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="make bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args(arguments).quick
    times = 1 if quick else 3
    rows = [*_imports(5), *_thousand(times), *_one_of_ours("list that shows nothing, 1,000 runs", FROZEN)]
    rows += _one_of_ours("list that is 10 min behind, 1,000 runs", LAGGING)
    if not quick:
        rows += _one_of_ours("10,000 runs of 2 to 4 minutes", TEN_THOUSAND)
    text = report(rows, times)
    RESULTS.write_text(text)
    print(text)
    return 0


def report(rows: Sequence[Row], times: int) -> str:
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    lines = [
        "# What importing and waiting cost",
        "",
        f"`make bench`, {datetime.now(UTC):%Y-%m-%d}; medians of {times}. {machine}. {versions}.",
        "",
        "Both wait for the same runs of the same emulator, each in a process of its own, at an interval of 10 s. CPU and memory",
        "are that process's. A lag is the time from a run's end to its trigger's event.",
        "",
        "| what | provider | this package | ratio |",
        "|---|---|---|---|",
    ]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"


def _imports(times: int) -> list[Row]:
    theirs, ours = (imports.measure(who, times) for who in ("provider", "ours"))
    return [
        _row("import of the operator over airflow.sdk, CPU", theirs[0], ours[0], "{:.3f} s"),
        _row("import of the operator over airflow.sdk, memory", theirs[1], ours[1], "{:.1f} MB"),
    ]


def _thousand(times: int) -> list[Row]:
    costs = {who: [_measured(who, THOUSAND) for _ in range(times)] for who in ("provider", "ours")}

    def row(what: str, read: Callable[[Cost], float], shape: str) -> Row:
        theirs, ours = (median(map(read, costs[who])) for who in ("provider", "ours"))
        return _row(f"1,000 runs of 60 s: {what}", theirs, ours, shape)

    return [
        row("requests", lambda c: c.requests, "{:,.0f}"),
        row("token requests", lambda c: c.tokens, "{:,.0f}"),
        row("CPU", lambda c: c.cpu, "{:.1f} s"),
        row("peak memory", lambda c: c.peak_rss / 1e6, "{:.0f} MB"),
        row("lag, median", lambda c: c.lag_median, "{:.1f} s"),
        row("lag, most", lambda c: c.lag_max, "{:.1f} s"),
        row("longest block of the event loop", lambda c: c.longest_block, "{:.2f} s"),
    ]


def _one_of_ours(what: str, load: Load) -> list[Row]:
    cost = _measured("ours", load)
    said = (
        f"{cost.requests:,} requests, {cost.requests / (cost.wall / load.interval):.0f} an interval, at most "
        f"{cost.most_reads_a_second:.0f} in a second; {cost.cpu:.1f} CPU-s of {cost.wall:.0f} s; "
        f"{cost.peak_rss / 1e6:.0f} MB; lag {cost.lag_median:.1f} s, at most {cost.lag_max:.1f} s; {cost.lost} lost"
    )
    return [(what, "not measured", said, "")]


def _measured(who: str, load: Load) -> Cost:
    print(f"{who}: {load.runs} runs...", file=sys.stderr, flush=True)
    return waits.measure(who, load)


def _row(what: str, theirs: float, ours: float, shape: str) -> Row:
    ratio = f"{theirs / ours:.1f}" if ours > 0 else "-"
    return what, shape.format(theirs), shape.format(ours), ratio


if __name__ == "__main__":
    sys.exit(main())

"""`make matrix`: builds the wheel once, and runs it in clean environments. Exit status 0 only if no cell is red.

--list            show the cells
--only TEXT...    only cells whose name contains one of these texts, such as "3.1" or "python-3.12"
--smoke           the lowest versions on one Python, and a part of the tests: what CI runs
--without-chaos   the tests only
--resume          do not repeat what was green on this commit
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from tests.matrix.cells import OLDEST, Cell, cells
from tests.matrix.environments import HOME, build_wheel
from tests.matrix.run import (
    CHAOS,
    GREEN,
    IN_AIRFLOW,
    RED,
    SMOKE,
    WITHOUT_AIRFLOW,
    CellRun,
    Part,
    Result,
    commit_of_checkout,
    parts_of,
    run_cells,
)
from tests.support.processes import run_program


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="make matrix", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--without-chaos", action="store_true")
    parser.add_argument("--resume", action="store_true")
    options = parser.parse_args(arguments)
    chosen = [cell for cell in cells() if not options.only or any(text in cell.name for text in options.only)]
    parts: tuple[Part, ...] = (
        (WITHOUT_AIRFLOW, IN_AIRFLOW) if options.without_chaos else (WITHOUT_AIRFLOW, IN_AIRFLOW, CHAOS)
    )
    if options.smoke:
        chosen = [Cell(airflow=OLDEST, python=f"{sys.version_info.major}.{sys.version_info.minor}")]
        parts = (SMOKE,)
    if options.list:
        for cell in chosen:
            print(cell.name)
        return 0
    HOME.mkdir(exist_ok=True)
    wheel, commit = build_wheel(), commit_of_checkout()
    runs = [
        CellRun(
            cell,
            parts_of(cell, parts),
            wheel=wheel,
            commit=commit,
            resume=options.resume,
        )
        for cell in chosen
    ]
    results = run_cells(runs)
    print_table(results)
    return 0 if any(result.state == GREEN for result in results) and all(r.state != RED for r in results) else 1


def print_table(results: Sequence[Result]) -> None:
    print("\n| Airflow | Python | result | what ran |\n|---|---|---|---|")
    for result in results:
        print(f"| {result.cell.airflow.name} | {result.cell.python} | {result.state} | {result.text} |")


if __name__ == "__main__":
    run_program(main)

"""`make chaos`: runs all cases in real Airflow processes, and prints a table. Exit status 0 only if all are as expected.

--list              show the cases
--only TEXT...      only cases whose name or fault contains one of these texts
--without TEXT...   leave out cases whose name or fault contains one of these texts
--subset            only fast cases, which cover every fault in at least one mode
--many N            how many deferred tasks are marked failed at once
--database sqlite   on SQLite, without the faults of Airflow's processes
--home PATH         a new folder to write to
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

from tests.chaos.row import Row
from tests.chaos.run import all_rows, run
from tests.chaos.table import print_table, show_rows
from tests.chaos.world import World
from tests.support.processes import run_program

MANY, MANY_OF_SUBSET = 300, 40
HOME = Path(__file__).parent.parent.parent / ".chaos"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="make chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--without", nargs="*", default=[])
    parser.add_argument("--subset", action="store_true")
    parser.add_argument("--many", type=int)
    parser.add_argument("--database", choices=("postgres", "sqlite"), default="postgres")
    parser.add_argument("--home", type=Path, default=HOME)
    options = parser.parse_args(arguments)
    many = options.many or (MANY_OF_SUBSET if options.subset else MANY)
    chosen = [row for row in all_rows(many) if is_chosen(row, options.only, options.without, subset=options.subset)]
    if options.database == "sqlite":
        chosen = [row for row in chosen if not row.scene]
    if options.list:
        show_rows(chosen)
        return 0
    if options.home == HOME:
        # A given folder is never removed.
        shutil.rmtree(HOME, ignore_errors=True)
    options.home.mkdir(parents=True)
    results = run(World(options.home, chosen, postgres=options.database == "postgres"))
    print_table(results)
    return 0 if len(results) == len(chosen) and not any(why for _, why in results) else 1


def is_chosen(row: Row, only: Sequence[str], without: Sequence[str], *, subset: bool) -> bool:
    def is_in(texts: Sequence[str]) -> bool:
        return any(text.lower() in f"{row.name} {row.fault}".lower() for text in texts)

    return (row.subset or not subset) and (not only or is_in(only)) and not is_in(without)


if __name__ == "__main__":
    run_program(main)

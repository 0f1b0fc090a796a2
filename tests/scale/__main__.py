"""`make scale`: runs backfills on a distributed Airflow, and prints a table. Exit status 0 only if all rows are as expected.

--list          show the rows
--only TEXT...  only rows whose name contains one of these texts
--home PATH     a new folder to write to
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

from tests.scale.backfill import Backfill
from tests.scale.rows import Stage, stages
from tests.scale.table import print_table
from tests.scale.world import World
from tests.support.processes import run_program, side_by_side

HOME = Path(__file__).parent.parent.parent / ".scale"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="make scale", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--home", type=Path, default=HOME)
    options = parser.parse_args(arguments)
    chosen = [stage for stage in (_part(stage, options.only) for stage in stages()) if stage.rows]
    if options.list:
        for stage in chosen:
            for row in stage.rows:
                print(f"{row.name:32} {row.windows:4} windows  {row.expected}")
        return 0
    if options.home == HOME:
        # A given folder is never removed.
        shutil.rmtree(HOME, ignore_errors=True)
    options.home.mkdir(parents=True)
    results = run(World(options.home, [row for stage in chosen for row in stage.rows]), chosen)
    return 0 if results and not any(backfill.problems for backfill in results) else 1


def run(world: World, chosen: Sequence[Stage]) -> list[Backfill]:
    """Run one stage after the other. The table is printed while the parts still run, because it reads them."""
    done: list[Backfill] = []
    began = time.monotonic()
    with world.running():
        for stage in chosen:
            print(f"{time.strftime('%H:%M:%S')} {stage.name}: {len(stage.rows)} backfills", flush=True)
            backfills = [Backfill(row, world) for row in stage.rows]
            done += backfills
            for backfill in backfills:
                backfill.stage = backfills
            with side_by_side(len(backfills)) as pool:
                running: list[Future[None]] = []
                try:
                    for prepared in [pool.submit(backfill.prepare) for backfill in backfills]:
                        prepared.result()
                    running += [pool.submit(backfill.run) for backfill in backfills]
                    if stage.act is not None:
                        stage.act(world, backfills)
                except (RuntimeError, TimeoutError) as e:
                    # The rows continue, because the table also shows what they did.
                    for backfill in backfills:
                        backfill.problems.append(f"{stage.name}: {type(e).__name__}: {e}")
                except BaseException:
                    world.is_over = True
                    raise
                for future in running:
                    future.result()
        print_table(done)
    print(f"{time.monotonic() - began:.0f} s", flush=True)
    return done


def _part(stage: Stage, only: Sequence[str]) -> Stage:
    rows = [row for row in stage.rows if not only or any(text in row.name for text in only)]
    return Stage(name=stage.name, rows=rows, act=stage.act)


if __name__ == "__main__":
    run_program(main)

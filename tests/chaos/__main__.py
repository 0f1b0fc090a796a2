"""`make chaos`: every case, in real Airflow processes, with a table at the end; exit status 0 only if all are as expected.

--list              show the cases
--only TEXT...      only cases whose name or fault has one of these in it
--subset            the fast ones, which cover every fault in at least one mode
--many N            how many deferred tasks are marked failed at once
--database sqlite   on SQLite, of which the process faults are no part
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from tests.chaos import rows_kill, rows_start, rows_user, rows_wait, scenes
from tests.chaos.case import Case
from tests.chaos.row import Row
from tests.chaos.table import print_table, show_rows
from tests.chaos.verdict import problems
from tests.chaos.world import World

HOME = Path(__file__).parent.parent.parent / ".chaos"
AT_ONCE = 25

Result = tuple[Case, list[str]]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="make chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--subset", action="store_true")
    parser.add_argument("--many", type=int, default=300)
    parser.add_argument("--database", choices=("postgres", "sqlite"), default="postgres")
    options = parser.parse_args(arguments)
    chosen = [row for row in all_rows(options.many) if is_chosen(row, options.only, subset=options.subset)]
    if options.database == "sqlite":
        chosen = [row for row in chosen if not row.scene]
    if options.list:
        show_rows(chosen)
        return 0
    # SIGTERM ends it as Ctrl-C does, through every `finally`.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    shutil.rmtree(HOME, ignore_errors=True)
    results = run(chosen, postgres=options.database == "postgres")
    print_table([(case, why) for case, why in results])
    return 0 if len(results) == len(chosen) and not any(why for _, why in results) else 1


def all_rows(many: int) -> list[Row]:
    # The looks that fail for minutes come first, so that nothing waits for them at the end.
    return [*rows_wait.rows(), *rows_kill.rows(), *rows_start.rows(), *rows_user.rows(), *scenes.rows(many)]


def is_chosen(row: Row, only: Sequence[str], *, subset: bool) -> bool:
    if subset and not row.subset:
        return False
    return not only or any(text.lower() in f"{row.name} {row.fault}".lower() for text in only)


def run(rows: Sequence[Row], *, postgres: bool) -> list[Result]:
    began = time.monotonic()
    world = World(HOME, rows, postgres=postgres)
    with world.running():
        say(began, f"Airflow is up: {world.airflow.url}; {len(rows)} cases")
        results = run_side_by_side(world, [row for row in rows if not row.scene], began)
        for name in scenes.SCENES:
            aboard = [row for row in rows if row.scene == name]
            if aboard:
                results += run_scene(world, name, aboard, began)
    say(began, "done")
    return results


def run_side_by_side(world: World, rows: Sequence[Row], began: float) -> list[Result]:
    results = []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for future in as_completed([pool.submit(run_alone, world, row) for row in rows]):
            results.append(future.result())
            say_result(began, results[-1])
    return results


def run_alone(world: World, row: Row) -> Result:
    case = Case(row, world)
    try:
        case.start()
    except Exception as e:  # noqa: BLE001  one case's trouble is not another's
        case.trouble.append(f"could not be started: {type(e).__name__}: {e}")
        return case, case.trouble
    case.finish()
    return case, problems(row.expected, case.observed())


def run_scene(world: World, name: str, rows: Sequence[Row], began: float) -> list[Result]:
    """The fault in this thread, the ends of its cases side by side."""
    say(began, f"scene: {name}")
    cases = [Case(row, world) for row in rows]
    try:
        scenes.SCENES[name](world, cases)
    except Exception as e:  # noqa: BLE001  the other scenes can still be had
        for case in cases:
            case.trouble.append(f"the scene failed: {type(e).__name__}: {e}")
    with ThreadPoolExecutor(len(cases)) as pool:
        list(pool.map(Case.finish, cases))
    results = [(case, problems(case.row.expected, case.observed())) for case in cases]
    for result in results:
        say_result(began, result)
    return results


def say_result(began: float, result: Result) -> None:
    case, why = result
    say(began, f"{case.row.name}: {'; '.join(why) or 'as expected'}")


def say(began: float, text: str) -> None:
    print(f"[{time.monotonic() - began:6.1f} s] {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())

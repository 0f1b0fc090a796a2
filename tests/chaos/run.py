"""Runs the cases: in parallel if they do not disturb each other, and then one scene after the other."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, wait

from tests.chaos import rows_backfill, rows_kill, rows_present, rows_start, rows_user, rows_wait, scenes
from tests.chaos.case import Case
from tests.chaos.row import Row
from tests.chaos.verdict import problems
from tests.chaos.world import World
from tests.support.processes import side_by_side

AT_ONCE = 25

Result = tuple[Case, list[str]]
"""A case that has ended, and why it is not as expected."""


def all_rows(many: int = 2) -> list[Row]:
    # Rows with status checks that fail for minutes come first, so that the suite does not wait for them at the end.
    found = [
        *rows_wait.rows(),
        *rows_kill.rows(),
        *rows_start.rows(),
        *rows_user.rows(),
        *rows_backfill.rows(),
        *rows_present.rows(),
        *scenes.rows(many),
    ]
    return [row for row in found if row.is_promised]


def run(world: World) -> list[Result]:
    """Run all rows of the world. Prints each result."""
    began = time.monotonic()
    rows = world.rows
    print_line(began, "Starting Airflow: API server, scheduler, Dag processor, triggerer, PostgreSQL...")
    with world.running():
        print_line(began, f"Airflow is up: {world.airflow.url}; {len(rows)} cases")
        results = run_side_by_side(world, [row for row in rows if not row.scene], began)
        for name in scenes.SCENES:
            aboard = [row for row in rows if row.scene == name]
            if aboard:
                results += run_scene(world, name, aboard, began)
    print_line(began, "done")
    return results


def run_side_by_side(world: World, rows: Sequence[Row], began: float) -> list[Result]:
    """Run the rows that do not affect Airflow's own processes."""
    results: list[Result] = []
    with side_by_side(AT_ONCE) as pool:
        pending = {pool.submit(run_alone, world, row) for row in rows}
        while pending:
            done, pending = wait(pending, timeout=1, return_when=FIRST_COMPLETED)
            # In this thread, because a process ends with the thread that has started it.
            world.keep_scheduler()
            for future in done:
                results.append(future.result())
                print_result(began, results[-1])
    return results


def run_alone(world: World, row: Row) -> Result:
    case = Case(row, world)
    try:
        case.start()
    except Exception as e:  # noqa: BLE001  other cases must continue
        case.problems.append(f"could not be started: {type(e).__name__}: {e}")
        return case, case.problems
    case.finish()
    return case, problems(row.expected, case.observed())


def run_scene(world: World, name: str, rows: Sequence[Row], began: float) -> list[Result]:
    """Run a fault of Airflow's processes in this thread, and wait for the ends of its cases in parallel."""
    print_line(began, f"scene: {name}")
    cases = [Case(row, world) for row in rows]
    try:
        scenes.SCENES[name](world, cases)
    except Exception as e:  # noqa: BLE001  other scenes must continue
        for case in cases:
            case.problems.append(f"the scene failed: {type(e).__name__}: {e}")
    with side_by_side(len(cases)) as pool:
        list(pool.map(Case.finish, cases))
    results = [(case, problems(case.row.expected, case.observed())) for case in cases]
    for result in results:
        print_result(began, result)
    return results


def print_result(began: float, result: Result) -> None:
    case, why = result
    print_line(began, f"{case.row.name}: {'; '.join(why) or 'as expected'}")


def print_line(began: float, text: str) -> None:
    print(f"[{time.monotonic() - began:6.1f} s] {text}", flush=True)

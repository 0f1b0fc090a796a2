"""`make demo`: the example Dags in a real Airflow, against the emulator, with a table of what happened.

`--keep` keeps everything running afterwards, until Ctrl-C or SIGTERM.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from airflow_adf_mi.emulator.client import EmulatorClient
from tests.support.examples import DAGS, FACTORY, ROOT, SCRIPT, Example, Row, examples, rows
from tests.support.processes import Process, run_program
from tests.support.stack import ENDED, RealAirflow

HOME = ROOT / ".demo"
TIMEOUT = 240.0
"""Seconds that the Dag runs may take."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="keep it running until Ctrl-C")
    parser.add_argument("--home", type=Path, default=HOME, help="a new folder to write to (default: %(default)s)")
    options = parser.parse_args(arguments)
    home, keep = options.home, options.keep
    began = time.monotonic()
    if home == HOME:
        # A folder given with --home is never removed.
        shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    emulator = emulator_process(home)
    try:
        emulator.start()
        ready = wait_for_ready(emulator, home / "emulator.json")
        print_line(began, f"Emulator of ARM, Data Factory and managed identity: {ready['arm_endpoint']}")
        with EmulatorClient(ready["identity_endpoint"]) as books:
            airflow = RealAirflow(home / "airflow", DAGS, environment(ready))
            print_line(began, "Starting Airflow: API server, scheduler, Dag processor, triggerer...")
            with airflow, stop_announced():
                print_line(began, f"Airflow is up: {airflow.url}")
                table = run_examples(airflow, books, began)
                guesses = books.guesses()
                print_table(table)
                tokens = books.books()["tokens"]
                print_line(
                    began,
                    f"The managed identity endpoint was asked for a token {len(tokens)} times, and no secret was used.",
                )
                print_windows(table)
                if keep:
                    stay(airflow)
    finally:
        emulator.stop()
    problems = [row for row in table if row.problem]
    print_line(
        began,
        "Everything ended as expected." if not problems else f"{len(problems)} rows are not as expected.",
    )
    for guess in guesses:
        print(f"The emulator guessed: {guess}")
    return 1 if problems or guesses else 0


def emulator_process(home: Path) -> Process:
    command = [
        sys.executable,
        "-m",
        "airflow_adf_mi.emulator",
        "--factory",
        str(FACTORY),
        "--script",
        str(SCRIPT),
    ]
    command += ["--directory", str(home / "emulator"), "--ready-file", str(home / "emulator.json")]
    return Process("emulator", command, dict(os.environ), home / "emulator.log")


def wait_for_ready(emulator: Process, ready_file: Path) -> dict[str, Any]:
    until = time.monotonic() + 60
    while not ready_file.exists():
        emulator.check()
        if time.monotonic() > until:
            raise TimeoutError(f"the emulator did not get ready; see {emulator.log_file}")
        time.sleep(0.1)
    return dict(json.loads(ready_file.read_text()))


def environment(ready: dict[str, Any]) -> dict[str, str]:
    """The variables that point Airflow's connection and azure-identity at the emulator."""
    connection = {"conn_type": "azure_data_factory_mi", "extra": ready["connection_extra"]}
    return {**ready["environment"]["imds"], "AIRFLOW_CONN_AZURE_DATA_FACTORY_DEFAULT": json.dumps(connection)}


def run_examples(airflow: RealAirflow, books: EmulatorClient, began: float) -> list[Row]:
    """Start all examples at once, print each change of a state, and collect the results."""
    chosen = examples()
    started: dict[str, tuple[Example, str]] = {}
    for example in chosen:
        started[example.dag_id] = (example, example.start(airflow))
        print_line(began, f"{example.dag_id}: started")
    seen: dict[tuple[str, str], str] = {}
    running = set(started)
    until = time.monotonic() + TIMEOUT
    while running and time.monotonic() < until:
        for dag_id in sorted(running):
            dag_run_id = started[dag_id][1]
            for ti in airflow.task_instances(dag_id, dag_run_id):
                index = "" if ti["map_index"] < 0 else f"[{ti['map_index']}]"
                key = (dag_id, ti["task_id"] + index)
                if ti["state"] and seen.get(key) != ti["state"]:
                    seen[key] = ti["state"]
                    print_line(began, f"{dag_id}.{key[1]}: {ti['state']}")
            if airflow.state(dag_id, dag_run_id) in ENDED:
                running.discard(dag_id)
        time.sleep(0.5)
    runs = books.runs()
    return [row for example, dag_run_id in started.values() for row in rows(example, airflow, dag_run_id, runs)]


def print_table(table: list[Row]) -> None:
    head = ("Dag", "task", "state", "ADF run", "status", "seconds", "activities", "")
    lines: list[tuple[str, ...]] = [
        (
            row.dag_id,
            row.task_id,
            row.state or "",
            row.run_id or "",
            row.status or "",
            "" if row.seconds is None else f"{row.seconds:.1f}",
            "" if row.activities is None else str(row.activities),
            f"!! {row.problem}" if row.problem else "as expected",
        )
        for row in table
    ]
    print_columns(head, lines)


def print_windows(table: list[Row]) -> None:
    """The windows that runs have copied."""
    head = ("Dag", "task", "window from", "to", "hours")
    lines: list[tuple[str, ...]] = [
        (row.dag_id, row.task_id, row.window.start, row.window.end, f"{row.window.hours:g}")
        for row in table
        if row.window is not None
    ]
    print_columns(head, lines)


def print_columns(head: tuple[str, ...], lines: list[tuple[str, ...]]) -> None:
    widths = [max(len(line[column]) for line in [head, *lines]) for column in range(len(head))]
    print()
    for line in [head, tuple("-" * width for width in widths), *lines]:
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())
    print(flush=True)


def stay(airflow: RealAirflow) -> None:
    print(f"Airflow's UI: {airflow.url} (no login: in this demo everybody is an administrator).")
    print("Press Ctrl-C to stop it.", flush=True)
    while True:
        time.sleep(1)
        airflow.check()


@contextmanager
def stop_announced() -> Iterator[None]:
    """Prints after Ctrl-C that everything is being stopped: Airflow's processes take seconds to end."""
    try:
        yield
    except KeyboardInterrupt:
        print("\nStopping Airflow and the emulator...", flush=True)
        raise


def print_line(began: float, text: str) -> None:
    print(f"[{time.monotonic() - began:5.1f} s] {text}", flush=True)


if __name__ == "__main__":
    run_program(main)

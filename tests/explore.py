"""`make explore`: runs the property tests again and again with fresh seeds, and prints what to add for what it finds.

`make test` tries the same examples every time. This program searches for others, for some minutes.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections.abc import Sequence
from secrets import randbelow

from tests.mutation import ROOT
from tests.support.processes import run_to_end

MINUTES = 10.0


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="make explore", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("minutes", nargs="?", type=float, default=MINUTES)
    parser.add_argument("tests", nargs="*", default=["tests/unit", "tests/integration", "tests/contract"])
    options = parser.parse_args(arguments)
    until = time.monotonic() + options.minutes * 60
    rounds, found = 0, dict[str, str]()
    while time.monotonic() < until or not rounds:
        rounds += 1
        seed = randbelow(2**32)
        status, output = explore(seed, options.tests)
        if status not in (0, 1):
            print(output)
            return status
        new = {text: name for text, name in examples_of(output).items() if text not in found}
        if status == 1 and not examples_of(output):
            new = {f"# no example was printed; run: HYPOTHESIS_SEED={seed}\n{output[-3000:]}": "?"}
        for text, name in new.items():
            print(f"\n{name} fails. Add this above it, and fix the error:\n{text}")
        found |= new
        print(f"Round {rounds}, seed {seed}: {len(new)} new.", flush=True)
    print(f"{len(found)} found in {rounds} rounds.")
    return 1 if found else 0


def explore(seed: int, tests: Sequence[str]) -> tuple[int, str]:
    """One round: pytest's status and output."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "hypothesis"]
    done = run_to_end(
        [*command, f"--hypothesis-seed={seed}", "--hypothesis-profile=explore", *tests],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "200"},
    )
    return done.returncode, done.stdout + done.stderr


def examples_of(output: str) -> dict[str, str]:
    """The failing examples that Hypothesis printed, each as the decorator that keeps it, with the name of its test."""
    found = {}
    for match in re.finditer(
        r"^E? *(?:Falsifying example|Failing test case): (\w+)\((.*?)^E? *\)$", output, re.MULTILINE | re.DOTALL
    ):
        lines = [re.sub(r"^E? *|, *# or any other.*$", "", line) for line in match[2].strip().splitlines()]
        found[f"@example({' '.join(filter(None, (line.strip() for line in lines)))})"] = match[1]
    return found


if __name__ == "__main__":
    sys.exit(main())

"""`make mutation`: removes the handling of each fault and each bad input, and sees a test fail for it.

The rows stand in `tests/mutants`.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.examples import ROOT
from tests.mutants import Mutant, all_mutants
from tests.processes import run_program, side_by_side


def main() -> int:
    survivors = []
    mutants = all_mutants()
    with tempfile.TemporaryDirectory() as folder, side_by_side(os.cpu_count(), interrupt_children=True) as pool:
        tried = pool.map(lambda item: _try(item[1], Path(folder) / str(item[0])), enumerate(mutants))
        for number, (mutant, verdict) in enumerate(zip(mutants, tried, strict=True), 1):
            print(f"{number:3} {verdict:9} {mutant.what:45} {mutant.tests.split()[0]}", flush=True)
            if verdict != "killed":
                survivors.append(mutant)
    print(f"{len(mutants) - len(survivors)} of {len(mutants)} mutants killed.")
    return 1 if survivors else 0


def mutated_copy(folder: Path, file: str, old: str, new: str) -> dict[str, str] | None:
    """A copy of the project in `folder` with one change, and the environment that uses it.

    None where `old` does not stand in the file exactly once.
    """
    for name in ("airflow_adf_mi", "tests", "dags", "bench", "docs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, folder)
    path = folder / "airflow_adf_mi" / "adf" / file
    source = path.read_text()
    if source.count(old) != 1:
        return None
    path.write_text(source.replace(old, new))
    return {**os.environ, "PYTHONPATH": str(folder)}


def _try(mutant: Mutant, folder: Path) -> str:
    environment = mutated_copy(folder, mutant.file, mutant.old, mutant.new)
    if environment is None:
        return "STALE"
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *shlex.split(mutant.tests)]
    try:
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, timeout=300, check=False)
    except subprocess.TimeoutExpired:
        return "HUNG"
    finally:
        shutil.rmtree(folder)
    # 1 is "tests failed"; anything else but 0 means that the mutant itself is broken.
    return {0: "SURVIVED", 1: "killed"}.get(done.returncode, f"BROKEN {done.returncode}")


if __name__ == "__main__":
    run_program(main)

"""The table of `make mutation`: a module for each area, each with a list `MUTANTS`.

A row is: what goes wrong with the change, the file (below airflow_adf_mi), the code that is replaced, its replacement, and the
tests that must fail. The code must occur in the file exactly once.
"""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    what: str
    file: str
    old: str
    new: str
    tests: str


def all_mutants() -> list[Mutant]:
    """The rows of all areas."""
    areas = sorted(module.name for module in pkgutil.iter_modules(__path__, f"{__name__}."))
    return [mutant for area in areas for mutant in importlib.import_module(area).MUTANTS]

"""For the triggerers of the chaos suite: it simulates a deployment whose trigger module cannot be imported.

This folder is on their PYTHONPATH, so Python runs this file when they start. While the file in ADF_CHAOS_IMPORT_BLOCK exists,
the import fails.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

REFUSED = "airflow_adf_mi.triggers"


class ImportBlock(MetaPathFinder):
    """Fails the import of one module while a file exists, and finds no module itself."""

    def __init__(self, flag: Path) -> None:
        self._flag = flag

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == REFUSED and self._flag.exists():
            raise ImportError(f"{REFUSED} is blocked by the chaos suite")
        return None


if "ADF_CHAOS_IMPORT_BLOCK" in os.environ:
    sys.meta_path.insert(0, ImportBlock(Path(os.environ["ADF_CHAOS_IMPORT_BLOCK"])))

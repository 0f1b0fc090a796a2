"""The layout of the tests: folders mirror the package, and helpers are in `tests/support`."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import ROOT

TESTS = ROOT / "tests"
PACKAGE = ROOT / "airflow_adf_mi"


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            yield node.module or ""
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


def test_no_test_module_is_imported() -> None:
    found = {path: [name for name in imported(path) if ".test_" in name] for path in TESTS.rglob("*.py")}
    assert {path: names for path, names in found.items() if names} == {}


def test_folders_mirror_the_package() -> None:
    for kind in ("unit", "integration"):
        folders = [path for path in (TESTS / kind).rglob("*") if path.is_dir() and path.name != "__pycache__"]
        assert folders
        assert [str(path) for path in folders if not (PACKAGE / path.relative_to(TESTS / kind)).is_dir()] == []

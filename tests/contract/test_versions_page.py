"""The bounds on the page "Versions" are those of the package, and pip sees them."""

from __future__ import annotations

import re
from importlib.metadata import metadata, requires

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from tests.conftest import ROOT
from tests.matrix.cells import AIRFLOWS, PRODUCT, project

PAGE = (ROOT / "docs" / "versions.md").read_text()
SUPPORTED = dict(re.findall(r"^\| `?([^|`]+?)`? \| ([^|]+) \|$", PAGE.partition("\n## What differs")[0], re.MULTILINE))
NEEDED = {needed.name: needed.specifier for needed in map(Requirement, project()["project"]["dependencies"])}
WHEEL = {needed.name: needed.specifier for needed in map(Requirement, requires(PRODUCT) or ())}


def phrases(bounds: SpecifierSet) -> set[str]:
    """How the page may write these bounds."""
    by_operator = {bound.operator: bound.version for bound in bounds}
    lowest, above = by_operator.pop(">="), by_operator.pop("<", None)
    assert by_operator == {}
    if above is None:
        return {f"{lowest} or newer"}
    return {f"{lowest} or newer, below {above}", f"{lowest} to {int(above) - 1}"}


@pytest.mark.parametrize(
    "name", ["apache-airflow-providers-microsoft-azure", "azure-identity", "azure-mgmt-datafactory"]
)
def test_page_has_the_bounds_of_a_package(name: str) -> None:
    assert SUPPORTED[name] in phrases(NEEDED[name])


def test_page_has_the_bounds_of_airflow_and_python() -> None:
    assert SUPPORTED["Apache Airflow"] in phrases(NEEDED["apache-airflow"])
    described = project()["project"]
    pythons = [text.rpartition(" ")[2] for text in described["classifiers"] if " :: Python :: 3." in text]
    assert SUPPORTED["Python"].startswith(f"{pythons[0]} to {pythons[-1]},")
    assert described["requires-python"].startswith(f">={pythons[0]},")


def test_page_names_the_minors_that_are_tested() -> None:
    minors = [airflow.name for airflow in AIRFLOWS if not airflow.lowest]
    assert f"One package works on Airflow {', '.join(minors[:-1])} and {minors[-1]}." in PAGE


def test_metadata_of_the_wheel_have_these_bounds() -> None:
    assert WHEEL["apache-airflow"] == SpecifierSet(">=3.1,<4")
    assert WHEEL == NEEDED
    assert (metadata(PRODUCT)["Requires-Python"] or "").endswith(">=3.11")

"""The recipes of docs/backfills.md work in real Airflow processes, as they are written there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from airflow_adf_mi.emulator.pipelines.runs import Run
from tests.airflow.conftest import World
from tests.conftest import ROOT

pytestmark = pytest.mark.airflow

DAGS = Path(__file__).parent / "dags" / "recipes.py"
OWN_NAMES = ("task_id=", "pipeline_name=")


@pytest.mark.parametrize("what", ["To decide at the moment of a clear", "To continue a run in a Dag run of its own"])
def test_dag_file_has_the_recipe_of_the_guide(what: str) -> None:
    guide = (ROOT / "docs" / "backfills.md").read_text()
    (recipe,) = re.findall(rf"\*\*{what}\*\*.*?```python\n(.*?)```", guide, re.DOTALL)[:1]
    lines = [line.strip() for line in recipe.splitlines() if not line.strip().startswith(OWN_NAMES)]
    dags = [line.strip().removesuffix(",") for line in DAGS.read_text().splitlines()]
    assert [line for line in lines if line.removesuffix(",") not in dags] == []


@pytest.fixture(scope="session")
def failed(world: World) -> dict[str, str]:
    """Dag runs whose run fails in its second activity, by Dag id."""
    return {dag_id: world.airflow.trigger(dag_id) for dag_id in ("recipe_by_variable", "recipe_fails")}


def test_variable_decides_at_the_moment_of_a_clear(world: World, failed: dict[str, str]) -> None:
    airflow, case = world.airflow, ("recipe_by_variable", failed["recipe_by_variable"])
    # There is no such Variable yet.
    assert airflow.wait_for_run(*case) == "failed"
    variable = {"key": "adf_continue", "value": "yes"}
    assert airflow.ask("POST", "/api/v2/variables", json=variable).status_code in (201, 409)
    airflow.clear(*case, "load")
    airflow.wait_until(lambda: len(world.runs("RecipeByVariable")) == 2, "the rerun", 120)
    assert airflow.wait_for_run(*case) == "success"
    assert_continued(world.runs("RecipeByVariable"))


def test_dag_run_of_its_own_continues_a_run(world: World, failed: dict[str, str]) -> None:
    airflow = world.airflow
    assert airflow.wait_for_run("recipe_fails", failed["recipe_fails"]) == "failed"
    conf = {"run_to_continue": world.run("RecipeInADagRunOfItsOwn").run_id}
    dag_id = "recipe_in_a_dag_run_of_its_own"
    assert airflow.wait_for_run(dag_id, airflow.trigger(dag_id, conf=conf)) == "success"
    assert_continued(world.runs("RecipeInADagRunOfItsOwn"))


def assert_continued(runs: list[Run]) -> None:
    first, second = runs
    assert second.group_id == first.group_id
    assert [[entry.name for entry in run.activities] for run in runs] == [["Extract", "Load"], ["Load"]]

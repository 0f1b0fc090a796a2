"""The checks of the documentation's build find problems, and all names on the pages exist."""

from __future__ import annotations

import importlib
import inspect
import json
import re
import shlex
import textwrap
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.cli.cli_parser import get_parser
from airflow.sdk import DAG
from airflow.timetables.interval import CronDataIntervalTimetable
from sphinx.errors import ExtensionError

import airflow_adf_mi
from airflow_adf_mi.adf import metrics
from airflow_adf_mi.operators import AdfRunPipelineOperator
from airflow_adf_mi.provider_info import get_provider_info
from tests.conftest import ROOT

DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted((ROOT / ".github").glob("*.md")), *sorted(DOCS.rglob("*.md"))]
STORED_KEYS = {f"airflow_adf_mi.{name}" for name in ("intent", "trigger_failures", "refused_since", "forbidden")}
"""Keys of XComs and of the task state store, which look like modules."""


@pytest.fixture(autouse=True)
def _extensions(monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in (".ci", "docs/_ext"):
        monkeypatch.syspath_prepend(str(ROOT / folder))


def extension(name: str) -> Any:
    return importlib.import_module(name)


def test_golden_text_without_an_entry_is_reported() -> None:
    problems = extension("golden_errors").problems
    assert problems(["a", "b"], ["a", "b"]) == []
    (missing,) = problems(["a"], ["a", "b"])
    assert "b.txt has no entry" in missing
    (gone,) = problems(["a", "b"], ["a"])
    assert "has no b.txt" in gone
    assert problems(["a", "a"], ["a"]) == ["The page shows 'a' twice."]


def test_long_lines_of_golden_texts_are_wrapped_without_loss() -> None:
    wrapped = extension("golden_errors").wrapped
    for path in (ROOT / "tests" / "golden").glob("*.txt"):
        text = path.read_text()
        assert wrapped(text).split() == text.split()
    assert wrapped("  az role " + "word " * 40).count("\n") == 0


@pytest.mark.parametrize(
    ("html", "problem"),
    [
        ('<script src="https://cdn.example/a.js"></script>', "loads https://cdn.example/a.js"),
        ('<link rel="stylesheet" href="//fonts.example/a.css">', "loads //fonts.example/a.css"),
        ('<img src="http://img.example/a.png">', "loads http://img.example/a.png"),
        ('<p style="background: url(https://img.example/a.png)">', "loads by its style background"),
        ('<a href="gone.html">', "does not exist"),
        ('<a href="#gone">', "no such anchor"),
        ('<a href="b.html#gone">', "no such anchor"),
    ],
)
def test_bad_page_is_reported(html: str, problem: str, tmp_path: Path) -> None:
    (tmp_path / "b.html").write_text('<p id="there">')
    (tmp_path / "a.html").write_text(html)
    (found,), _ = extension("html_check").check(tmp_path)
    assert problem in found


def test_style_that_loads_from_another_host_is_reported(tmp_path: Path) -> None:
    (tmp_path / "a.css").write_text("@import 'https://fonts.example/a.css';")
    assert extension("html_check").check(tmp_path)[0] == ["a.css loads from another host"]


def test_good_page_has_no_problem_and_its_external_links_are_listed(tmp_path: Path) -> None:
    (tmp_path / "b.html").write_text('<p id="there">')
    (tmp_path / "a.html").write_text('<a href="b.html#there"><a href="https://x.example/y"><img src="a.png">')
    assert extension("html_check").check(tmp_path) == ([], {"https://x.example/y": {"a.html"}})


def test_links_to_files_of_the_project_are_resolved() -> None:
    target = extension("outside_files").target_on_page
    page = DOCS / "contributing.md"
    assert target("../docs/architecture.md#rooms", ROOT / ".github", page, None) == "architecture.md#rooms"
    assert target("../CHANGELOG.md", ROOT / ".github", page, None) is None
    assert target("../CHANGELOG.md", DOCS, page, "https://x.example/y") == "https://x.example/y/blob/main/CHANGELOG.md"
    assert target("https://x.example", DOCS, page, None) == "https://x.example"
    with pytest.raises(ExtensionError, match="does not exist"):
        target("../gone.md", DOCS, page, None)


def test_links_within_code_are_unchanged() -> None:
    shown = extension("outside_files").shown
    text = "[a](../CHANGELOG.md)\n\n```text\n[a](../gone.md)\n```\n"
    assert shown(text, DOCS, DOCS / "index.md", None) == "a\n\n```text\n[a](../gone.md)\n```\n"


PACKAGE = ROOT / "airflow_adf_mi"


def test_page_of_the_architecture_has_all_modules() -> None:
    page = (DOCS / "architecture.md").read_text()
    rooms = [path for path in PACKAGE.rglob("*.py") if "emulator" not in path.parts]
    assert {path.stem for path in rooms if not re.search(rf"[`/]{path.stem}`", page)} - {"__init__"} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_names_on_pages_exist(page: Path) -> None:
    text = page.read_text()
    for name in set(re.findall(r"\bairflow_adf_mi(?:\.\w+)+(?![\w./])", text)) - STORED_KEYS:
        found: Any = importlib.import_module("airflow_adf_mi")
        for part in name.split(".")[1:]:
            try:
                found = getattr(found, part)
            except AttributeError:
                found = importlib.import_module(f"{found.__name__}.{part}")
    for path in set(re.findall(r"`((?:airflow_adf_mi|tests|docs|dags|bench|\.ci|\.github)/[\w./-]*)`", text)):
        assert (ROOT / path).exists() or path.startswith("docs/_build"), path
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|^)make ([a-z-]+)", text, re.MULTILINE)) - targets == set()


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^ *```{language}\n(.*?)^ *```$", page.read_text(), re.MULTILINE | re.DOTALL)


# What the text around an example names, or what every Dag file imports.
NAMES = {name: getattr(airflow_adf_mi, name) for name in airflow_adf_mi.__all__} | {
    "CronDataIntervalTimetable": CronDataIntervalTimetable,
    "timedelta": timedelta,
}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_python_on_pages_runs_as_a_part_of_a_dag_file(page: Path) -> None:
    for code in blocks(page, "python"):
        here = textwrap.dedent(code).replace("path/to/factory-git-folder", str(ROOT / "dags" / "factory"))
        with DAG("example", schedule=None):
            exec(compile(here, page.name, "exec"), dict(NAMES))  # noqa: S102  the examples of this project


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_airflow_understands_its_commands_on_pages(page: Path) -> None:
    lines = [line.strip() for code in blocks(page, "bash") for line in code.replace("\\\n", " ").splitlines()]
    for line in lines:
        if line.startswith("airflow "):
            # Ends the process if an option is wrong.
            assert get_parser().parse_args(shlex.split(line)[1:]).subcommand


def test_examples_of_each_language_are_found() -> None:
    assert sum("airflow backfill create" in code for page in PAGES for code in blocks(page, "bash")) == 2
    assert "TumblingWindowTrigger" in blocks(DOCS / "from-adf-triggers.md", "json")[0]
    assert "retry_from_failure" in blocks(DOCS / "backfills.md", "python")[0]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_json_on_pages_is_json(page: Path) -> None:
    for text in blocks(page, "json"):
        assert json.loads(text)


def test_page_of_the_operator_has_all_its_arguments() -> None:
    arguments = set(inspect.signature(AdfRunPipelineOperator.__init__).parameters) - {"self", "kwargs"}
    page = (DOCS / "operator.md").read_text()
    assert {name for name in arguments if not re.search(rf"^\|[^|]*`{name}`", page, re.MULTILINE)} == set()


def test_page_of_connections_has_all_fields() -> None:
    (kind,) = get_provider_info()["connection-types"]
    page = (DOCS / "connections.md").read_text()
    assert {name for name in kind["conn-fields"] if not re.search(rf"^\|[^|]*`{name}`", page, re.MULTILINE)} == set()


def test_page_of_metrics_has_all_names() -> None:
    names = {value for value in vars(metrics).values() if isinstance(value, str) and value.startswith("adf.")}
    page = (DOCS / "metrics.md").read_text()
    assert names
    assert {name for name in names if f"| `{name}` |" not in page} == set()


def test_readme_is_about_a_hundred_lines_long() -> None:
    assert 80 <= len((ROOT / "README.md").read_text().splitlines()) <= 100


@pytest.mark.parametrize(
    ("sentence", "row"),
    [
        (r"sent (?P<ours>\S+) requests and .* provider sent (?P<theirs>\S+) and", "1,000 runs: requests"),
        (r"used (?P<ours>\S+) s of CPU\. .* and used (?P<theirs>\S+) s", "1,000 runs: CPU"),
        (r"adds (?P<ours>\S+) s to .* adds (?P<theirs>\S+) s", "import of the operator, over airflow.sdk: CPU"),
        (
            r"costs Airflow (?P<ours>\S+) s of CPU.* costs (?P<theirs>\S+) s",
            r"Airflow end to end, [^|]*, triggerer mode: CPU a task",
        ),
    ],
)
def test_numbers_in_the_readme_are_the_measured_ones(sentence: str, row: str) -> None:
    def number(text: str) -> float:
        return float(re.sub(r"[^\d.]", "", text))

    measured = re.search(
        rf"^\| {row} \| ([^|]+) \| ([^|]+) \|", (ROOT / "bench" / "RESULTS.md").read_text(), re.MULTILINE
    )
    shown = re.search(sentence, " ".join((ROOT / "README.md").read_text().split()))
    assert measured
    assert shown
    assert number(shown["theirs"]) == pytest.approx(number(measured[1]), rel=0.05)
    assert number(shown["ours"]) == pytest.approx(number(measured[2]), rel=0.05)

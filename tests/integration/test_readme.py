"""Texts, commands and code of the README and the docs are what really happens."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_adf_mi.cli import main
from airflow_adf_mi.emulator import Emulator, FactorySpec
from airflow_adf_mi.emulator.identity.tokens import SYSTEM_ASSIGNED
from airflow_adf_mi.emulator.pipelines.script import Script
from airflow_adf_mi.hooks import AdfHook
from tests.conftest import ROOT
from tests.support.examples import FACTORY, SCRIPT
from tests.support.explained_tasks import error_of, operator

EXAMPLES = {
    "NightlyLoad": "a19f5443-4c56-4594-8c7b-65148908aa9e",
    "CopySalesDelta": "151383fc-843d-444a-a26d-c1fc51a462cc",
    "BulkCopyTables": "a6888b57-3af7-49b4-9904-8d3c0cab43f5",
}
README = (ROOT / "README.md").read_text()
DOCS = ROOT / "docs"
BIN = Path(sys.executable).parent


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    document = json.loads(SCRIPT.read_text())
    document["defaults"]["seconds"] = 0
    for entry in document["activities"].values():
        entry["seconds"] = 0.2
    document["activities"]["BulkCopyTables/CopyTable"] |= {
        "fail_iterations": [1],
        "error": {
            "errorCode": "2200",
            "message": "ErrorCode=SqlOperationFailed, Login failed for user 'loader'. Password=hush",
            "failureType": "UserError",
        },
    }
    script = Script.from_json(document)
    with Emulator(FactorySpec(source=FACTORY), script=script) as running:
        connection = {"conn_type": "azure_data_factory_mi", "extra": running.connection_extra()}
        for name in ("AZURE_DATA_FACTORY_DEFAULT", "ADF_HERE"):
            monkeypatch.setenv(f"AIRFLOW_CONN_{name}", json.dumps(connection))
        for name, value in running.identity_environment("imds").items():
            monkeypatch.setenv(name, value)
        yield running


def shown(text: str, label: str, page: str) -> str:
    """Check that the page contains `text`, with the times and addresses of an example."""
    text = re.sub(r"https://127\.0\.0\.1:\d+", "https://management.azure.com", text)
    text = re.sub(r"published [^\s,]+", "published 2026-11-20T14:12:09Z", text)
    assert text in page, f"the page does not show the current {label}:\n{text}"
    return text


def test_text_of_a_failure_is_the_one_of_the_page(emulator: Emulator) -> None:
    error = error_of(operator("NightlyLoad", parameters={"window_start": "2026-11-24", "window_end": "2026-11-25"}))
    runs = {run.run_id: run.pipeline for run in emulator.call(lambda: list(emulator.state().runs.values()))}
    text = str(error)
    for run_id, pipeline in runs.items():
        text = text.replace(run_id, EXAMPLES[pipeline])
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "2026-11-25 02:00:07", text)
    text = re.sub(r"failed after \d+ s", "failed after 9 s", text)
    shown(re.sub(r"after [0-3] s", "after 2 s", text), "the failure", README)


def test_table_of_the_check_is_the_one_of_the_page(emulator: Emulator, capsys: pytest.CaptureFixture[str]) -> None:
    emulator.tokens.denied = {SYSTEM_ASSIGNED.client_id: {"pipelineruns/cancel/action"}}
    assert main(["check", "--pipeline", "NightlyLoad"]) == 1
    shown(textwrap.dedent(capsys.readouterr().out).strip(), "the table", (DOCS / "checking.md").read_text())


def commands_of(page: str) -> list[str]:
    """The commands of a page, one line each."""
    blocks = re.findall(r"^ *```bash\n(.*?)^ *```$", page, re.MULTILINE | re.DOTALL)
    return [textwrap.dedent(block).strip() for block in blocks]


def test_commands_of_the_readme_work_together(tmp_path: Path) -> None:
    """One command starts the emulator, and prints variables. With them, the other command checks that emulator."""
    check, emulate = (next(c for c in commands_of(README) if c.startswith(name)) for name in ("airflow-adf-mi", "adf-"))
    program, *arguments = shlex.split(emulate)
    environment = {**os.environ, "AIRFLOW_HOME": str(tmp_path)}
    with subprocess.Popen([BIN / program, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True) as emulating:
        try:
            for line in emulating.stdout or ():
                if line.startswith("export"):
                    name, _, value = shlex.split(line)[1].partition("=")
                    environment[name] = value
                if line.startswith("export AIRFLOW_CONN"):
                    break
            program, *arguments = shlex.split(check)
            command = [str(BIN / program), *arguments]
            checked = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
        finally:
            emulating.terminate()
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "All well. Nothing was started." in checked.stdout


def test_connection_of_the_readme_is_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    (export,) = (command for command in commands_of(README) if command.startswith("export"))
    name, _, value = shlex.split(export)[1].partition("=")
    monkeypatch.setenv(name, value)
    factory = AdfHook().settings.factory()
    assert (factory.resource_group_name, factory.factory_name) == ("rg-sales", "adf-sales")


def test_code_of_the_emulator_page_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (DOCS / "emulator.md").read_text(), re.DOTALL)
    assert "path/to/factory-git-folder" in code
    names: dict[str, object] = {}
    exec(code.replace("path/to/factory-git-folder", str(FACTORY)), names)  # noqa: S102  our own page
    assert isinstance(names["extra"], dict)
    assert names["extra"]["factory_name"] == "adf-sales"

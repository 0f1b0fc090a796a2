"""What the README shows of a failure and of a check is what they show."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator

import pytest

from airflow_adf_mi.cli import main
from airflow_adf_mi.emulator import Emulator, FactorySpec
from airflow_adf_mi.emulator.identity.tokens import SYSTEM_ASSIGNED
from airflow_adf_mi.emulator.pipelines.script import Script
from tests.conftest import ROOT
from tests.examples import FACTORY, SCRIPT
from tests.integration.test_explained import error_of, operator

EXAMPLES = {
    "NightlyLoad": "a19f5443-4c56-4594-8c7b-65148908aa9e",
    "CopySalesDelta": "151383fc-843d-444a-a26d-c1fc51a462cc",
    "BulkCopyTables": "a6888b57-3af7-49b4-9904-8d3c0cab43f5",
}
README = (ROOT / "README.md").read_text()


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


def shown(text: str, label: str) -> str:
    """`text` as the README has it; the id of a run, times and the emulator's address are an example's."""
    text = re.sub(r"https://127\.0\.0\.1:\d+", "https://management.azure.com", text)
    text = re.sub(r"published \S+", "published 2026-11-20T14:12:09Z", text)
    assert text in README, f"{label}, as it is now:\n{text}"
    return text


def test_failure_text(emulator: Emulator) -> None:
    error = error_of(operator("NightlyLoad", parameters={"window_start": "2026-11-24", "window_end": "2026-11-25"}))
    runs = {run.run_id: run.pipeline for run in emulator.call(lambda: list(emulator.state().runs.values()))}
    text = str(error)
    for run_id, pipeline in runs.items():
        text = text.replace(run_id, EXAMPLES[pipeline])
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "2026-11-25 02:00:07", text)
    text = re.sub(r"failed after \d+ s", "failed after 9 s", text)
    shown(re.sub(r"after [0-3] s", "after 2 s", text), "the failure")


def test_check_table(emulator: Emulator, capsys: pytest.CaptureFixture[str]) -> None:
    emulator.tokens.denied = {SYSTEM_ASSIGNED.client_id: {"pipelineruns/cancel/action"}}
    assert main(["check", "--pipeline", "NightlyLoad"]) == 1
    shown(textwrap.dedent(capsys.readouterr().out).strip(), "the table")

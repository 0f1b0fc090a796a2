"""`python -m airflow_adf_mi.emulator` in a separate process."""

from __future__ import annotations

import inspect
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

import airflow_adf_mi
from airflow_adf_mi.emulator.__main__ import main
from airflow_adf_mi.emulator.client import EmulatorClient
from airflow_adf_mi.emulator.identity.endpoints import SOURCES
from tests.conftest import ROOT

FACTORY = ROOT / "dags" / "factory"


def runner() -> CliRunner:
    """Before version 8.2, click mixes the two outputs unless it is asked not to."""
    is_old = "mix_stderr" in inspect.signature(CliRunner).parameters
    options: dict[str, Any] = {"mix_stderr": False} if is_old else {}
    return CliRunner(**options)


class Process:
    """An emulator started by its command line, and killed at the end if it still runs."""

    def __init__(self, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "airflow_adf_mi.emulator", *arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_for(self, ready_file: Path) -> dict[str, Any]:
        deadline = time.monotonic() + 60
        while not ready_file.exists():
            assert self._process.poll() is None, self.end()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        ready: dict[str, Any] = json.loads(ready_file.read_text())
        return ready

    def end(self, number: signal.Signals | None = None) -> tuple[int, str, str]:
        """Send the signal. Returns exit status, output and errors."""
        if number is not None:
            self._process.send_signal(number)
        try:
            output, errors = self._process.communicate(timeout=60)
        finally:
            self._process.kill()
        return self._process.returncode, output, errors

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    directory = str(tmp_path / "emulator")
    started = Process("--factory", str(FACTORY), "--ready-file", str(tmp_path / "ready.json"), "--directory", directory)
    yield started
    started.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_emulator_serves_until_a_signal_stops_it(number: signal.Signals, process: Process, tmp_path: Path) -> None:
    ready = process.wait_for(tmp_path / "ready.json")
    assert ready["factories"] == ["adf-sales"]
    assert set(ready["environment"]) == set(SOURCES)
    assert ready["environment"]["imds"] == {"AZURE_POD_IDENTITY_AUTHORITY_HOST": ready["identity_endpoint"]}
    extra = ready["connection_extra"]
    assert (extra["arm_endpoint"], extra["factory_name"]) == (ready["arm_endpoint"], "adf-sales")
    os.kill(ready["pid"], 0)
    with EmulatorClient(ready["identity_endpoint"]) as client:
        assert client.is_healthy()
    tls = ssl.create_default_context(cafile=ready["ca_bundle"])
    assert httpx.get(f"{ready['arm_endpoint']}/x", verify=tls, trust_env=False).status_code == 501
    status, output, errors = process.end(number)
    assert (status, errors) == (0, "Not emulated: GET /x\n")
    assert "factories/adf-sales" in output
    assert f"export AZURE_POD_IDENTITY_AUTHORITY_HOST={ready['identity_endpoint']}\n" in output
    with pytest.raises(httpx.ConnectError):
        httpx.get(ready["identity_endpoint"], trust_env=False)


def test_printed_exports_work_in_a_shell(process: Process, tmp_path: Path) -> None:
    ready = process.wait_for(tmp_path / "ready.json")
    _, output, _ = process.end(signal.SIGTERM)
    exports = "".join(line for line in output.splitlines(keepends=True) if line.startswith("export "))
    script = f'{exports}printf %s "$AIRFLOW_CONN_AZURE_DATA_FACTORY_DEFAULT"'
    printed = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, check=True).stdout
    assert json.loads(printed) == {"conn_type": "azure_data_factory_mi", "extra": ready["connection_extra"]}


def test_script_and_ports_can_be_set_by_options(tmp_path: Path) -> None:
    script = tmp_path / "script.json"
    script.write_text(json.dumps({"defaults": {"seconds": 0.01}}))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ready_file = tmp_path / "ready.json"
    ready_file.write_text("of an emulator that was killed")
    process = Process(
        *("--factory", str(FACTORY), "--script", str(script), "--identity-port", str(port)),
        *("--resource-group", "rg-mine", "--ready-file", str(ready_file)),
    )
    try:
        deadline = time.monotonic() + 60
        while "of an emulator" in (ready_file.read_text() if ready_file.exists() else "of an emulator"):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        ready = process.wait_for(ready_file)
        assert ready["identity_endpoint"] == f"http://127.0.0.1:{port}"
        assert ready["connection_extra"]["resource_group_name"] == "rg-mine"
        directory = Path(ready["ca_bundle"]).parent
        assert process.end(signal.SIGTERM)[0] == 0
        assert not directory.exists(), "a temporary directory is removed"
    finally:
        process.kill()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--factory"),
        (["--factory", "/no/such/folder"], "/no/such/folder"),
        (["--factory", str(FACTORY), "--factory", str(FACTORY)], "same address"),
        (["--factory", str(FACTORY), "--script", "/no/such/script"], "/no/such/script"),
        (["--factory", str(FACTORY), "--script", str(FACTORY)], "is a directory"),
        (["--factory", str(FACTORY), "--script", __file__], "the file is not JSON ("),
        (["--factory", str(FACTORY), "--port", "80000"], "80000 is not in the range 0<=x<=65535"),
        (["--factory", str(FACTORY), "--identity-port", "-1"], "-1 is not in the range 0<=x<=65535"),
        (["--factory", str(FACTORY), "--port", "https"], "'https' is not a valid integer"),
        (["--factory", str(FACTORY), "--ready-file", "/no/such/folder/ready"], "/no/such/folder"),
        (["--factory", str(FACTORY), "--directory", __file__], "is a file"),
        (["--factory", str(FACTORY), "--directory", f"{__file__}/below"], "Not a directory"),
        (["--factory", __file__], "test_main.py"),
        (["--factroy", str(FACTORY)], "--factory"),  # each version of click has its own words
        (["--factory", str(FACTORY), "--script", str(FACTORY / "factory" / "adf-sales.json")], "unknown member"),
    ],
    ids=str,
)
def test_invalid_arguments_are_refused(arguments: list[str], message: str) -> None:
    status, output, errors = Process(*arguments).end()
    assert (status, output) == (2, "")
    assert message in errors
    assert "Traceback" not in errors


def test_port_in_use_is_reported_in_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        status, _, errors = Process("--factory", str(FACTORY), "--port", port).end()
    assert status == 2
    assert errors.startswith("Error: ")
    assert port in errors
    assert errors.count("\n") == 1


@pytest.mark.parametrize("text", ["{", "[]", '{"resources": [7]}', '{"properties": 7}'])
@pytest.mark.parametrize("name", ["pipeline.json", "pipeline/Load.json"])
def test_unreadable_factory_is_reported_in_a_sentence(name: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    source = path if name == "pipeline.json" else tmp_path
    done = runner().invoke(main, ["--factory", str(source)])
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("Error: ")
    assert path.name in done.stderr


@pytest.mark.parametrize("document", ["[]", '{"runs": [{}]}', '{"activities": []}', '{"pipelines": 7}', '{"runs": 7}'])
def test_script_of_another_form_is_reported_in_a_sentence(document: str, tmp_path: Path) -> None:
    script = tmp_path / "script.json"
    script.write_text(document)
    done = runner().invoke(main, ["--factory", str(FACTORY), "--script", str(script)])
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith(f"Error: --script {script}: ")


def test_version_and_help() -> None:
    version = runner().invoke(main, ["--version"])
    assert version.output == f"adf-emulator, version {airflow_adf_mi.__version__}\n"
    shown = runner().invoke(main, ["-h"]).output
    assert "Exit status: 0 after it was stopped, 2 if the command line is wrong" in shown

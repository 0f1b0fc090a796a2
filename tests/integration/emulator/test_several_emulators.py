"""Several emulators one after the other in one process, within the seconds for which a credential asks for no fresh token."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import pytest

from airflow_adf_mi.adf.api.client import AdfClient
from airflow_adf_mi.adf.api.operations import create_run
from airflow_adf_mi.adf.auth.credential import forget_credentials
from airflow_adf_mi.adf.connection_fields import settings_from_connection
from airflow_adf_mi.emulator import Emulator, FactorySpec
from tests.conftest import SAMPLE

SPEC = FactorySpec(source=SAMPLE, factory_name="adf-test")
SEVERAL = 4


def start_a_run(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Start a run as the README shows."""
    for name, value in emulator.identity_environment("imds").items():
        monkeypatch.setenv(name, value)
    settings = settings_from_connection(
        conn_id="test", conn_type="azure_data_factory_mi", extra=json.dumps(emulator.connection_extra())
    )
    with AdfClient(settings) as client:
        run_id = client.send(create_run(settings.factory(), "Load", None, request_id=str(uuid.uuid4())))
    assert list(emulator.call(lambda: emulator.state().runs)) == [run_id]


def test_each_of_several_emulators_works_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """They share one folder, so that only their addresses differ."""
    for _ in range(SEVERAL):
        with Emulator(SPEC, directory=tmp_path) as emulator:
            start_a_run(emulator, monkeypatch)
            assert len(emulator.books.tokens) == 1


def test_emulators_at_one_address_work_after_credentials_are_forgotten(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with Emulator(SPEC, directory=tmp_path) as emulator:
        port, identity_port = (
            int(address.rpartition(":")[2]) for address in (emulator.arm_endpoint, emulator.identity_endpoint)
        )
        start_a_run(emulator, monkeypatch)
    for _ in range(SEVERAL):
        forget_credentials()
        with Emulator(SPEC, directory=tmp_path, port=port, identity_port=identity_port) as emulator:
            start_a_run(emulator, monkeypatch)
            assert emulator.books.count("createRun") == 1, "no token of an earlier emulator was sent"

"""Hooks with real connections of Airflow."""

from __future__ import annotations

import asyncio
import json
import urllib.parse
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_adf_mi.async_hooks import AdfAsyncHook
from airflow_adf_mi.emulator import Emulator
from airflow_adf_mi.emulator.identity.tokens import SYSTEM_ASSIGNED, TENANT, USER_ASSIGNED
from airflow_adf_mi.exceptions import AdfConfigurationError
from airflow_adf_mi.hooks import AdfHook
from tests.support.minors import needs_connections_outside_of_tasks, needs_new_identity

Connect = Callable[..., str]
DAY = timedelta(days=1)


@pytest.fixture
def connect(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Connect:
    """Makes a connection to the emulator, and returns its id."""

    def make(conn_type: str = "azure_data_factory_mi", *, drop: tuple[str, ...] = (), **fields: str) -> str:
        extra = {k: v for k, v in emulator.connection_extra(**fields).items() if k not in drop}
        monkeypatch.setenv("AIRFLOW_CONN_ADF_HERE", json.dumps({"conn_type": conn_type, "extra": extra}))
        return "adf_here"

    return make


def test_each_method_works(connect: Connect, emulator: Emulator) -> None:
    hook = AdfHook(connect(managed_identity_client_id=USER_ASSIGNED.client_id))
    run_id = hook.run_pipeline("Slow")
    assert hook.get_pipeline_run(run_id).pipeline_name == "Slow"
    now = datetime.now(UTC)
    assert [r.run_id for r in hook.query_pipeline_runs(now - DAY, now + DAY)] == [run_id]
    emulator.clock.advance(1)
    assert [a.activity_name for a in hook.query_activity_runs(run_id)] == ["Copy"]
    assert hook.cancel_pipeline_run(run_id) is True
    emulator.clock.advance(10)
    assert hook.get_pipeline_run(run_id).status == "Cancelled"
    assert {r.client_id for r in emulator.books.requests} == {USER_ASSIGNED.client_id}
    assert len(emulator.books.tokens) == 1


@needs_connections_outside_of_tasks
async def test_each_method_works_on_the_event_loop(connect: Connect, emulator: Emulator) -> None:
    async with AdfAsyncHook(connect(managed_identity_client_id=USER_ASSIGNED.client_id)) as hook:
        run_id = await hook.run_pipeline("Slow")
        assert (await hook.get_pipeline_run(run_id)).pipeline_name == "Slow"
        now = datetime.now(UTC)
        assert [r.run_id for r in await hook.query_pipeline_runs(now - DAY, now + DAY)] == [run_id]
        emulator.clock.advance(1)
        assert [a.activity_name for a in await hook.query_activity_runs(run_id)] == ["Copy"]
        assert await hook.cancel_pipeline_run(run_id) is True
    assert {r.client_id for r in emulator.books.requests} == {USER_ASSIGNED.client_id}


def test_official_client_and_providers_hook_use_the_identity_of_the_connection(
    connect: Connect, emulator: Emulator
) -> None:
    hook = AdfHook(connect(managed_identity_client_id=USER_ASSIGNED.client_id))
    found = hook.get_conn().factories.get("rg-test", "adf-test")
    assert found is not None
    assert found.name == "adf-test"
    run = hook.provider_hook().run_pipeline("Load", "rg-test", "adf-test")
    assert run.run_id in emulator.state().runs
    assert {r.client_id for r in emulator.books.requests} == {USER_ASSIGNED.client_id}
    hook.get_conn().close()


def test_connection_may_be_a_uri(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    extra = urllib.parse.urlencode({"__extra__": json.dumps(emulator.connection_extra())})
    monkeypatch.setenv("AIRFLOW_CONN_ADF_URI", f"azure-data-factory-mi://?{extra}")
    assert AdfHook("adf_uri").test_connection()[0]


def test_connection_may_be_of_the_providers_type(connect: Connect, emulator: Emulator) -> None:
    hook = AdfHook(connect("azure_data_factory", managed_identity_client_id=USER_ASSIGNED.client_id))
    assert hook.test_connection()[0]
    assert emulator.books.requests[-1].client_id == USER_ASSIGNED.client_id


def test_test_connection_checks_the_service_and_names_identity_and_factory(
    connect: Connect, emulator: Emulator
) -> None:
    well, message = AdfHook(connect()).test_connection()
    assert well
    assert message.split(". ") == [
        f"connection: 'adf_here', {emulator.arm_endpoint}",
        "token: given to the system-assigned managed identity",
        f"identity: client id {SYSTEM_ASSIGNED.client_id}, object id {SYSTEM_ASSIGNED.object_id}, tenant {TENANT}",
        "subscription: 11111111-1111-4111-8111-111111111111",
        "factory: factory 'adf-test' (resource group 'rg-test'), in westeurope",
        "may read the factory, find lost starts, explain failures: yes",
        "may read pipelines, start runs, watch runs, cancel runs: probably",
        "(probably: the request named something that does not exist, and was not refused for lack of a permission.) All well",
        "Nothing was started.",
    ]
    assert emulator.books.count("getFactory", status=200) == 1
    assert emulator.state().runs == {}


def test_test_connection_without_a_factory_checks_the_subscription(connect: Connect, emulator: Emulator) -> None:
    well, message = AdfHook(connect(drop=("factory_name", "resource_group_name"))).test_connection()
    assert well
    assert (
        "where the identity sees 1 data factory. The token and the subscription are well. No factory was checked"
        in message
    )
    assert emulator.books.count("listFactories") == 1


def test_test_connection_fails_if_only_the_resource_group_is_given(connect: Connect) -> None:
    well, message = AdfHook(connect(drop=("factory_name",))).test_connection()
    assert not well
    assert message.startswith("factory: NO. No factory_name: neither the arguments nor the connection has it.")


def test_test_connection_names_missing_permissions_and_the_command(connect: Connect, emulator: Emulator) -> None:
    emulator.tokens.denied = {SYSTEM_ASSIGNED.client_id: {"pipelines/createrun/action", "pipelineruns/cancel/action"}}
    well, message = AdfHook(connect()).test_connection()
    assert not well
    assert message.startswith(
        "may start runs: NO. Microsoft.DataFactory/factories/pipelines/createrun/action is missing. may cancel runs: NO. "
    )
    assert message.count("To do: az role assignment create") == 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        pytest.param(
            {"managed_identity_client_id": "00000000-0000-4000-8000-00000000c0ff"},
            "is not assigned to the machine",
            marks=needs_new_identity,
        ),
        ({"factory_name": "adf-other"}, "there is no such factory"),
        ({"identity": "magic"}, "identity is 'magic'"),
    ],
)
def test_test_connection_explains_a_wrong_field(fields: dict[str, str], message: str, connect: Connect) -> None:
    well, text = AdfHook(connect(**fields)).test_connection()
    assert not well
    assert message in text


def test_test_connection_fails_without_the_role(connect: Connect, emulator: Emulator) -> None:
    emulator.tokens.denied = {SYSTEM_ASSIGNED.client_id: {"read"}}
    well, text = AdfHook(connect()).test_connection()
    assert not well
    assert "Microsoft.DataFactory/factories/read" in text


@needs_connections_outside_of_tasks
def test_error_of_an_unknown_connection_explains_how_to_create_it() -> None:
    with pytest.raises(AdfConfigurationError, match=r"no connection 'nowhere'.*AIRFLOW_CONN_NOWHERE"):
        AdfHook("nowhere").get_conn()

    async def enter() -> Any:
        async with AdfAsyncHook("nowhere") as hook:
            return hook

    with pytest.raises(AdfConfigurationError, match="no connection 'nowhere'"):
        asyncio.run(enter())


def test_bad_request_is_refused_before_anything_is_sent(connect: Connect, emulator: Emulator) -> None:
    hook = AdfHook(connect())
    for arguments in ({"pipeline_name": "a/b"}, {"pipeline_name": "Load", "parameters": {"day": object()}}):
        with pytest.raises(AdfConfigurationError):
            hook.run_pipeline(**arguments)
    assert emulator.books.requests == []
    assert emulator.books.tokens == []


def test_unused_fields_of_airflows_form_fail_test_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    for unused in ({"host": "arm.example"}, {"schema": "https"}, {"port": 443}):
        stored = {"conn_type": "azure_data_factory_mi", "extra": {}, **unused}
        monkeypatch.setenv("AIRFLOW_CONN_ADF_HERE", json.dumps(stored))
        works, message = AdfHook("adf_here").test_connection()
        assert not works
        assert f"Connection 'adf_here': {next(iter(unused))} is " in message


def test_invalid_address_fails_test_connection(connect: Connect) -> None:
    works, message = AdfHook(connect(arm_endpoint="https://[::1")).test_connection()
    assert (works, "Connection 'adf_here': arm_endpoint is 'https://[::1'" in message) == (False, True)

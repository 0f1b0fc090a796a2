"""Connections of the Azure provider's type, as its own hook and ours read them.

We accept all connections without a secret that the provider accepts. The emulator's books show which identity each of them uses.
"""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import pytest
from airflow.providers.microsoft.azure.hooks.data_factory import AzureDataFactoryHook
from azure.identity import DefaultAzureCredential

from airflow_adf_mi.adf.auth.credential import ProcessCredential
from airflow_adf_mi.adf.auth.identity_choice import identity_used, providers_identity
from airflow_adf_mi.adf.config.settings import PUBLIC_CLOUD, AdfSettings
from airflow_adf_mi.adf.errors import AdfConfigurationError
from airflow_adf_mi.adf.log_once import log_once
from airflow_adf_mi.emulator import Emulator, ManagedIdentity
from airflow_adf_mi.emulator.identity.tokens import SYSTEM_ASSIGNED, TENANT, USER_ASSIGNED
from airflow_adf_mi.hooks import AdfHook

SUBSCRIPTION = "11111111-1111-4111-8111-111111111111"
NAMED = ManagedIdentity(
    client_id="00000000-0000-4000-8000-00000000c003",
    object_id="00000000-0000-4000-8000-00000000b003",
    resource_id=USER_ASSIGNED.resource_id + "-2",
)
IDENTITY = {"managed_identity_client_id": NAMED.client_id, "workload_identity_tenant_id": TENANT}
# Fields of the provider's form, of its older forms, of other providers' connections, and fields that only we read.
EXTRA: Mapping[str, Any] = {
    "tenantId": TENANT,
    "resource_group_name": "rg",
    "factory_name": "adf",
    **IDENTITY,
    "extra__azure_data_factory__tenantId": TENANT,
    "extra__azure_data_factory__resource_group_name": "rg",
    "extra__azure_data_factory__factory_name": "adf",
    "extra__azure_data_factory__managed_identity_client_id": NAMED.client_id,
    "extra__azure_data_factory__workload_identity_tenant_id": TENANT,
    "extra__azure__subscriptionId": "22222222-2222-4222-8222-222222222222",
    "use_azure_identity_async": True,
    "factory": {"any": "thing"},
}
STANDARD: Mapping[str, Any] = {"login": "some-app", "host": "arm.example", "schema": "https", "port": 443}
FIELDS = [*EXTRA, *STANDARD]
COMBINATIONS = [(), *itertools.combinations(FIELDS, 1), *itertools.combinations(FIELDS, 2)]


class Connections:
    """Makes a connection of the provider's type, and reads it by both hooks."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def make(
        self, extra: Mapping[str, Any], *, first: Mapping[str, Any] = MappingProxyType({}), **standard: Any
    ) -> None:
        fields = {**first, "subscriptionId": SUBSCRIPTION, **extra}
        stored = {"conn_type": "azure_data_factory", "extra": fields, **standard}
        self._monkeypatch.setenv("AIRFLOW_CONN_ADF_THEIRS", json.dumps(stored))

    def theirs(self) -> Any:
        """The credential that the provider gives its client."""
        return AzureDataFactoryHook("adf_theirs").get_conn()._config.credential

    def ours(self) -> AdfSettings:
        return AdfHook("adf_theirs").settings


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> Iterator[Connections]:
    log_once.cache_clear()
    yield Connections(monkeypatch)
    log_once.cache_clear()


def test_each_field_and_each_pair_of_fields_is_accepted(connections: Connections) -> None:
    for names in COMBINATIONS:
        extra = {name: EXTRA[name] for name in names if name in EXTRA}
        connections.make(extra, **{name: STANDARD[name] for name in names if name in STANDARD})
        assert isinstance(connections.theirs(), DefaultAzureCredential), names
        ours = connections.ours()
        short = {name.removeprefix("extra__azure_data_factory__") for name in names}
        assert ours.subscription_id == SUBSCRIPTION
        assert ours.identity.client_id == (NAMED.client_id if "managed_identity_client_id" in short else None), names
        assert ours.identity.tenant_id == (TENANT if "workload_identity_tenant_id" in short else None), names
        assert ours.resource_group_name == ("rg" if "resource_group_name" in short else None), names
        assert ours.factory_name == ("adf" if "factory_name" in short else None), names


def test_short_name_of_a_field_is_preferred_by_both(connections: Connections) -> None:
    other = "22222222-2222-4222-8222-222222222222"
    prefix = "extra__azure_data_factory__"
    # The old names come first, because the order must not matter.
    old = {f"{prefix}subscriptionId": other, f"{prefix}factory_name": "old"}
    connections.make({"resource_group_name": "", "factory_name": 2026}, first=old)
    assert AzureDataFactoryHook("adf_theirs").get_conn()._config.subscription_id == SUBSCRIPTION
    assert (connections.ours().subscription_id, connections.ours().factory_name) == (SUBSCRIPTION, "2026")


@pytest.mark.parametrize("without", [{}, {"extra__azure__subscriptionId": SUBSCRIPTION}], ids=str)
def test_both_refuse_a_connection_without_a_subscription(
    without: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_ADF_THEIRS", json.dumps({"conn_type": "azure_data_factory", "extra": without}))
    with pytest.raises(ValueError, match="Subscription ID is required"):
        AzureDataFactoryHook("adf_theirs").get_conn()
    with pytest.raises(AdfConfigurationError, match="no subscriptionId"):
        _ = AdfHook("adf_theirs").settings


SECRETS: list[tuple[dict[str, str], dict[str, Any]]] = [
    ({"tenantId": TENANT}, {"login": "app", "password": "hush"}),
    ({}, {"password": "hush"}),
    ({"client_secret": "hush"}, {}),
    ({"extra__azure__client_secret": "hush"}, {}),
]


@pytest.mark.parametrize(("extra", "standard"), SECRETS, ids=str)
def test_secret_is_refused_by_ours_only(
    extra: dict[str, str], standard: dict[str, Any], connections: Connections
) -> None:
    connections.make(extra, **standard)
    assert connections.theirs() is not None
    with pytest.raises(AdfConfigurationError, match=r"holds a secret .*managed identity") as refused:
        connections.ours()
    assert "hush" not in str(refused.value)


# The identity that a token is requested for: its source in the emulator's books, and its client id (None: system-assigned).
UsedIdentity = tuple[str, str | None]
VM_SYSTEM, VM_NAMED, VM_VARIABLE = ("imds", None), ("imds", NAMED.client_id), ("imds", USER_ASSIGNED.client_id)
POD_VARIABLE = ("workload_identity", USER_ASSIGNED.client_id)
POD_NAMED = ("workload_identity", NAMED.client_id)
CLIENT, TENANT_ONLY, BOTH = ["managed_identity_client_id"], ["workload_identity_tenant_id"], list(IDENTITY)
TABLE: list[tuple[str, list[str], UsedIdentity, UsedIdentity]] = [
    # where, fields, identity of the provider, identity of ours
    ("vm", [], VM_SYSTEM, VM_SYSTEM),
    ("vm", CLIENT, VM_SYSTEM, VM_NAMED),
    ("vm", TENANT_ONLY, VM_SYSTEM, VM_SYSTEM),
    ("vm", BOTH, VM_NAMED, VM_NAMED),
    ("vm with AZURE_CLIENT_ID", [], VM_VARIABLE, VM_SYSTEM),
    ("vm with AZURE_CLIENT_ID", CLIENT, VM_VARIABLE, VM_NAMED),
    ("vm with AZURE_CLIENT_ID", TENANT_ONLY, VM_VARIABLE, VM_SYSTEM),
    ("vm with AZURE_CLIENT_ID", BOTH, VM_NAMED, VM_NAMED),
    ("pod", [], POD_VARIABLE, POD_VARIABLE),
    ("pod", CLIENT, POD_VARIABLE, POD_NAMED),
    ("pod", TENANT_ONLY, POD_VARIABLE, POD_VARIABLE),
    ("pod", BOTH, POD_NAMED, POD_NAMED),
]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    with Emulator(identities=[SYSTEM_ASSIGNED, USER_ASSIGNED, NAMED]) as emulator:
        # The sign-in service is on the emulator's TLS port.
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(emulator.ca_bundle))
        yield emulator


def environment(where: str, machine: Emulator) -> dict[str, str]:
    if where == "pod":
        return machine.identity_environment("workload_identity")
    own = machine.identity_environment("imds")
    return {**own, "AZURE_CLIENT_ID": USER_ASSIGNED.client_id} if "AZURE_CLIENT_ID" in where else own


@pytest.mark.parametrize(("where", "names", "theirs", "ours"), TABLE)
def test_identity_that_each_hook_uses(
    where: str,
    names: list[str],
    theirs: UsedIdentity,
    ours: UsedIdentity,
    machine: Emulator,
    connections: Connections,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "airflow_adf_mi")
    environ = environment(where, machine)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    fields = {name: IDENTITY[name] for name in names}
    connections.make(fields)

    connections.theirs().get_token(PUBLIC_CLOUD.arm_scope)
    seen = machine.books.tokens[-1]
    assert (seen.source, seen.name, seen.status) == (*theirs, 200)
    settings = connections.ours()
    ProcessCredential(settings.identity, settings.cloud.authority_host).get_token_info(settings.arm_scope)
    seen = machine.books.tokens[-1]
    assert (seen.source, seen.name, seen.status) == (*ours, 200)

    assert [
        r.getMessage() for r in caplog.records if r.levelname == "WARNING" and r.name.startswith("airflow_adf_mi")
    ] == []
    (note,) = [r.getMessage() for r in caplog.records if r.name == "airflow_adf_mi.adf.connection_fields"]
    used, provider = note.split(" The provider would use: ")
    for text, identity in ((used, ours), (provider, theirs)):
        assert (identity[1] or "system-assigned managed identity") in text
        assert ("workload identity" in text) is (identity[0] == "workload_identity")


PRINCIPALS = {
    "ClientSecretCredential": {"AZURE_TENANT_ID": TENANT, "AZURE_CLIENT_SECRET": "hush"},
    "UsernamePasswordCredential": {"AZURE_USERNAME": "somebody", "AZURE_PASSWORD": "hush"},
}


@pytest.mark.filterwarnings("ignore:Environment is configured to use username and password")
@pytest.mark.parametrize("kind", PRINCIPALS)
def test_principal_of_the_environment_is_ignored_and_logged(
    kind: str,
    machine: Emulator,
    connections: Connections,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    caplog.set_level(logging.INFO, "azure.identity")  # our credential makes this logger quieter
    variables = {"AZURE_CLIENT_ID": USER_ASSIGNED.client_id, **PRINCIPALS[kind], **machine.identity_environment("imds")}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    connections.make({})
    connections.theirs()
    assert f"Environment is configured for {kind}" in caplog.text
    settings = connections.ours()
    ProcessCredential(settings.identity, settings.cloud.authority_host).get_token_info(settings.arm_scope)
    assert [(t.source, t.name) for t in machine.books.tokens] == [VM_SYSTEM]
    (secret,) = [name for name, value in PRINCIPALS[kind].items() if value == "hush"]
    assert f"and {secret} in the environment" in caplog.text
    assert "Identity that is used: the system-assigned managed identity" in caplog.text
    assert "hush" not in caplog.text


def test_one_log_line_names_ignored_fields(connections: Connections, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "airflow_adf_mi")
    connections.make({"tenantId": TENANT, "use_azure_identity_async": True}, **STANDARD)
    for _ in range(2):
        connections.ours()
    (line,) = [r.getMessage() for r in caplog.records if r.name == "airflow_adf_mi.adf.connection_fields"]
    assert "Ignored: login, host, schema, port, tenantId, use_azure_identity_async." in line
    assert "some-app" not in line


def test_log_line_for_an_unavailable_identity_or_a_configured_chain() -> None:
    """The process that reads a connection may be another one than the process that requests a token."""
    settings = AdfSettings(subscription_id=SUBSCRIPTION)
    half = {"IDENTITY_ENDPOINT": "http://x"}
    assert identity_used(settings.identity, half, "login") == "the system-assigned managed identity"
    assert "AZURE_TOKEN_CREDENTIALS='dev'" in providers_identity(None, None, {"AZURE_TOKEN_CREDENTIALS": "dev"})

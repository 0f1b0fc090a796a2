"""Each identity source with each kind of name: the named identity is used, or refused before any request."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_adf_mi.adf.auth.identity_sources import (
    _ENDPOINT_VARIABLES,
    USABLE_NAMES,
    CredentialPlan,
    Source,
    detect_source,
    plan,
    where_tokens_come_from,
)
from airflow_adf_mi.adf.config.settings import Identity, IdentityKind
from airflow_adf_mi.adf.errors import AdfConfigurationError
from airflow_adf_mi.adf.network.proxies import ENDPOINT_VARIABLES

ID = "22222222-2222-4222-8222-222222222222"
OTHER = "33333333-3333-4333-8333-333333333333"
TENANT = "44444444-4444-4444-8444-444444444444"
RESOURCE_ID = "/subscriptions/s/resourceGroups/rg/providers/Microsoft.ManagedIdentity/userAssignedIdentities/me"
AUTHORITY = "login.microsoftonline.com"

WORKLOAD = {
    "AZURE_TENANT_ID": TENANT,
    "AZURE_FEDERATED_TOKEN_FILE": "/token",
    "AZURE_AUTHORITY_HOST": "https://login.example",
    "AZURE_CLIENT_ID": OTHER,
}
ENVIRONMENTS: Mapping[Source, Mapping[str, str]] = {
    Source.IMDS: {},
    Source.APP_SERVICE: {"IDENTITY_ENDPOINT": "http://x", "IDENTITY_HEADER": "h"},
    Source.SERVICE_FABRIC: {
        "IDENTITY_ENDPOINT": "https://x",
        "IDENTITY_HEADER": "h",
        "IDENTITY_SERVER_THUMBPRINT": "t",
    },
    Source.ARC: {"IDENTITY_ENDPOINT": "http://x", "IMDS_ENDPOINT": "http://y"},
    Source.AZURE_ML: {"MSI_ENDPOINT": "http://x", "MSI_SECRET": "s"},
    Source.CLOUD_SHELL: {"MSI_ENDPOINT": "http://x"},
    Source.WORKLOAD_IDENTITY: WORKLOAD,
}
NAMED: Mapping[str, Identity] = {
    "system": Identity(),
    "client_id": Identity(client_id=ID),
    "object_id": Identity(object_id=ID),
    "resource_id": Identity(resource_id=RESOURCE_ID),
}
# True if the source gives an identity by this kind of name, False if the name is refused.
TABLE = {
    Source.IMDS: {"system": True, "client_id": True, "object_id": True, "resource_id": True},
    Source.APP_SERVICE: {"system": True, "client_id": True, "object_id": True, "resource_id": True},
    Source.ARC: {"system": True, "client_id": True, "object_id": True, "resource_id": True},
    Source.AZURE_ML: {"system": True, "client_id": True, "object_id": False, "resource_id": False},
    Source.CLOUD_SHELL: {"system": True, "client_id": False, "object_id": False, "resource_id": False},
    Source.SERVICE_FABRIC: {"system": True, "client_id": False, "object_id": False, "resource_id": False},
    Source.WORKLOAD_IDENTITY: {"system": False, "client_id": True, "object_id": False, "resource_id": False},
}
CASES = [(source, name, usable) for source, row in TABLE.items() for name, usable in row.items()]


@pytest.mark.parametrize("source", list(ENVIRONMENTS))
def test_source_is_recognized(source: Source) -> None:
    assert detect_source(ENVIRONMENTS[source]) is source


@pytest.mark.parametrize(("source", "name", "usable"), CASES)
def test_source_accepts_the_names_of_the_table(source: Source, name: str, usable: bool) -> None:
    identity = NAMED[name]
    if not usable:
        with pytest.raises(AdfConfigurationError):
            plan(identity, ENVIRONMENTS[source], AUTHORITY)
        return
    how = plan(identity, ENVIRONMENTS[source], AUTHORITY)
    assert how.source is source
    assert (how.client_id, how.object_id, how.resource_id) == (
        identity.client_id,
        identity.object_id,
        identity.resource_id,
    )


@pytest.mark.parametrize(("source", "name"), [(source, name) for source, name, usable in CASES if usable])
def test_azure_identity_agrees_with_the_table(source: Source, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In that environment, azure-identity chooses the source that the table expects."""
    from airflow_adf_mi.adf.auth.azure_credentials import ObservedCredential, make_credential, pins_certificates

    if source is Source.SERVICE_FABRIC and not pins_certificates():
        pytest.skip("this azure-identity checks no certificate, so this package refuses it")
    for variable, value in ENVIRONMENTS[source].items():
        monkeypatch.setenv(variable, value)
    credential = make_credential(plan(NAMED[name], ENVIRONMENTS[source], AUTHORITY))
    assert isinstance(credential, ObservedCredential)
    inner = getattr(credential.inner, "_credential", credential.inner)  # there is no public way to see its choice
    kinds = {
        Source.IMDS: "ImdsCredential",
        Source.APP_SERVICE: "AppServiceCredential",
        Source.ARC: "AzureArcCredential",
        Source.AZURE_ML: "AzureMLCredential",
        Source.CLOUD_SHELL: "CloudShellCredential",
        Source.SERVICE_FABRIC: "ServiceFabricCredential",
        Source.WORKLOAD_IDENTITY: "WorkloadIdentityCredential",
    }
    assert type(inner).__name__ == kinds[source]


def test_tables_know_each_source_and_each_variable_with_an_address() -> None:
    assert set(ENVIRONMENTS) == set(TABLE) == set(USABLE_NAMES) == set(Source) - {Source.DEVELOPER}
    assert set(_ENDPOINT_VARIABLES) == set(USABLE_NAMES) - {Source.WORKLOAD_IDENTITY}
    assert set(_ENDPOINT_VARIABLES.values()) <= set(ENDPOINT_VARIABLES)
    used = {name for environment in ENVIRONMENTS.values() for name in environment}
    assert {name for name in used if name.endswith("_ENDPOINT")} <= set(ENDPOINT_VARIABLES)


@pytest.mark.parametrize("name", [*ENDPOINT_VARIABLES, *WORKLOAD])
def test_each_variable_with_an_address_distinguishes_two_sources(name: str) -> None:
    assert where_tokens_come_from({name: "one"}) != where_tokens_come_from({name: "another"})


@given(st.sampled_from(list(ENVIRONMENTS)), st.sampled_from(list(NAMED)), st.sampled_from(list(IdentityKind)))
def test_name_is_never_ignored(source: Source, name: str, kind: IdentityKind) -> None:
    """In each environment, the plan contains the name, or there is no plan."""
    if kind is IdentityKind.DEVELOPER and name != "system":
        return
    if kind is IdentityKind.WORKLOAD_IDENTITY and name not in ("system", "client_id"):
        return
    named = NAMED[name]
    identity = Identity(kind=kind, client_id=named.client_id, object_id=named.object_id, resource_id=named.resource_id)
    try:
        how: CredentialPlan = plan(identity, ENVIRONMENTS[source], AUTHORITY)
    except AdfConfigurationError:
        return
    for field in ("client_id", "object_id", "resource_id"):
        wanted = getattr(identity, field)
        if wanted is not None:
            assert getattr(how, field) == wanted


def test_error_of_a_refused_name_suggests_another_name() -> None:
    with pytest.raises(AdfConfigurationError, match="Name the identity with managed_identity_client_id instead"):
        plan(NAMED["object_id"], ENVIRONMENTS[Source.AZURE_ML], AUTHORITY)
    with pytest.raises(AdfConfigurationError, match="remove the name to use that identity"):
        plan(NAMED["client_id"], ENVIRONMENTS[Source.CLOUD_SHELL], AUTHORITY)


def test_incomplete_environment_is_refused() -> None:
    with pytest.raises(AdfConfigurationError, match="without IDENTITY_HEADER"):
        plan(Identity(), {"IDENTITY_ENDPOINT": "http://x"}, AUTHORITY)


def test_workload_identity_prefers_client_and_tenant_of_the_connection() -> None:
    identity = Identity(kind=IdentityKind.WORKLOAD_IDENTITY, client_id=ID, tenant_id=ID)
    how = plan(identity, WORKLOAD, AUTHORITY)
    assert (how.client_id, how.tenant_id, how.token_file) == (ID, ID, "/token")
    assert how.authority_host == "https://login.example"


def test_workload_identity_uses_the_clouds_authority_by_default() -> None:
    environment = {name: value for name, value in WORKLOAD.items() if name != "AZURE_AUTHORITY_HOST"}
    how = plan(Identity(kind=IdentityKind.WORKLOAD_IDENTITY), environment, "login.chinacloudapi.cn")
    assert how.authority_host == "login.chinacloudapi.cn"


@pytest.mark.parametrize("missing", ["AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_FEDERATED_TOKEN_FILE"])
def test_error_of_an_incomplete_workload_identity_names_the_variable(missing: str) -> None:
    environment = {name: value for name, value in WORKLOAD.items() if name != missing}
    with pytest.raises(AdfConfigurationError, match=missing):
        plan(Identity(kind=IdentityKind.WORKLOAD_IDENTITY), environment, AUTHORITY)


def test_developer_is_used_in_every_environment() -> None:
    for environment in ENVIRONMENTS.values():
        assert plan(Identity(kind=IdentityKind.DEVELOPER), environment, AUTHORITY).source is Source.DEVELOPER


PLATFORM = IdentityKind.PLATFORM


def test_connection_of_the_providers_type_uses_the_source_of_the_environment() -> None:
    for source, environment in ENVIRONMENTS.items():
        assert plan(Identity(kind=PLATFORM), environment, AUTHORITY).source is source
    named = plan(Identity(kind=PLATFORM, client_id=ID, tenant_id=TENANT), {}, AUTHORITY)
    assert (named.source, named.client_id, named.tenant_id) == (Source.IMDS, ID, None)


def test_workload_identity_is_preferred_for_the_providers_type() -> None:
    """With both in the environment, ManagedIdentityCredential would use App Service."""
    both = {**ENVIRONMENTS[Source.APP_SERVICE], **WORKLOAD}
    how = plan(Identity(kind=PLATFORM, client_id=ID), both, AUTHORITY)
    assert (how.source, how.client_id, how.tenant_id) == (Source.WORKLOAD_IDENTITY, ID, TENANT)
    assert plan(Identity(client_id=ID), both, AUTHORITY).source is Source.APP_SERVICE


def test_name_that_workload_identity_cannot_use_is_refused_for_the_providers_type() -> None:
    with pytest.raises(
        AdfConfigurationError, match="managed_identity_object_id, which AKS workload identity cannot use"
    ):
        plan(Identity(kind=PLATFORM, object_id=ID), WORKLOAD, AUTHORITY)

"""The emulator's identity endpoints, used by the real azure-identity and by invalid requests."""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import CredentialUnavailableError, ManagedIdentityCredential, WorkloadIdentityCredential
from azure.identity.aio import ManagedIdentityCredential as AsyncManagedIdentityCredential
from requests.exceptions import SSLError

from airflow_adf_mi.emulator import Emulator, FactorySpec, ManagedIdentity
from airflow_adf_mi.emulator.identity.endpoints import SOURCES
from airflow_adf_mi.emulator.identity.tokens import SYSTEM_ASSIGNED, TENANT, USER_ASSIGNED
from tests.conftest import activity, factory_of
from tests.support.minors import needs_new_identity

SCOPE = "https://management.azure.com/.default"
RESOURCE = "https://management.azure.com"
SECOND = ManagedIdentity(
    client_id="00000000-0000-4000-8000-00000000c009",
    object_id="00000000-0000-4000-8000-00000000b009",
    resource_id=USER_ASSIGNED.resource_id + "-second",
)
NOT_ASSIGNED_TO_THE_APP = (
    "No User Assigned or Delegated Managed Identity found for specified ClientId/ResourceId/PrincipalId."
)
BY_CLIENT_ID: dict[str, Any] = {"client_id": USER_ASSIGNED.client_id}
BY_OBJECT_ID: dict[str, Any] = {"identity_config": {"object_id": USER_ASSIGNED.object_id}}
BY_RESOURCE_ID: dict[str, Any] = {"identity_config": {"resource_id": USER_ASSIGNED.resource_id}}


def use(emulator: Emulator, source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the environment of a machine with this identity source."""
    monkeypatch.delenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", raising=False)
    for name, value in emulator.identity_environment(source).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(emulator.ca_bundle))


def claims_of(token: str) -> dict[str, Any]:
    payload = token.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return claims


def trust(emulator: Emulator) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(emulator.ca_bundle))


def accepted(emulator: Emulator, token: str) -> bool:
    """Whether the emulated ARM accepts the token."""
    url = f"{emulator.arm_endpoint}{emulator.state().resource_id}?api-version=2018-06-01"
    answer = httpx.get(url, headers={"Authorization": f"Bearer {token}"}, verify=trust(emulator), trust_env=False)
    return answer.is_success


@pytest.fixture
def bare() -> Iterator[Emulator]:
    """An emulator whose machine has two user-assigned identities and no system-assigned one."""
    with Emulator(FactorySpec(source=factory_of(P=[activity("A")])), identities=[USER_ASSIGNED, SECOND]) as emulator:
        yield emulator


USABLE = [
    *((source, how) for source in ("imds", "app_service") for how in ({}, BY_CLIENT_ID, BY_OBJECT_ID, BY_RESOURCE_ID)),
    *(("azure_ml", how) for how in ({}, BY_CLIENT_ID)),
    ("cloud_shell", {}),
    ("service_fabric", {}),
    ("workload_identity", BY_CLIENT_ID),
]


@pytest.mark.parametrize(("source", "how"), USABLE, ids=str)
def test_token_belongs_to_the_named_identity(
    source: str, how: dict[str, Any], emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(emulator, source, monkeypatch)
    with ManagedIdentityCredential(**how) as credential:
        token = credential.get_token(SCOPE).token
    wanted = USER_ASSIGNED if how else SYSTEM_ASSIGNED
    claims = claims_of(token)
    assert (claims["appid"], claims["oid"], claims["xms_mirid"]) == (
        wanted.client_id,
        wanted.object_id,
        wanted.resource_id,
    )
    assert (claims["aud"], claims["tid"]) == (RESOURCE, TENANT)
    assert accepted(emulator, token)
    record = emulator.books.tokens[-1]
    named_by = next(iter(how.get("identity_config", how)), None)
    assert (record.source, record.named_by, record.status, record.client_id) == (
        source,
        named_by,
        200,
        wanted.client_id,
    )


@pytest.mark.parametrize("source", ["imds", "app_service", "azure_ml"])
async def test_async_implementation_gets_the_same_token(
    source: str, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(emulator, source, monkeypatch)
    async with AsyncManagedIdentityCredential(client_id=USER_ASSIGNED.client_id) as credential:
        token = await credential.get_token(SCOPE)
    assert claims_of(token.token)["appid"] == USER_ASSIGNED.client_id


async def test_resource_id_of_the_async_implementation_is_refused(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It sends `resource_id`, which the real endpoint does not know (azure-identity 1.27)."""
    use(emulator, "imds", monkeypatch)
    async with AsyncManagedIdentityCredential(**BY_RESOURCE_ID) as credential:
        with pytest.raises(CredentialUnavailableError):
            await credential.get_token(SCOPE)
    assert emulator.books.tokens[-1].status == 400


def test_workload_identity_credential_gets_a_token(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    use(emulator, "workload_identity", monkeypatch)
    with WorkloadIdentityCredential() as credential:
        token = credential.get_token(SCOPE).token
    assert claims_of(token)["appid"] == USER_ASSIGNED.client_id
    assert accepted(emulator, token)


@pytest.mark.parametrize(
    "how",
    [{}, *(pytest.param(how, marks=needs_new_identity) for how in (BY_CLIENT_ID, BY_OBJECT_ID, BY_RESOURCE_ID))],
    ids=str,
)
def test_arc_passes_its_secret_in_a_file(
    how: dict[str, Any], emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(emulator, "arc", monkeypatch)
    # msal reads the folder of the agent, which belongs to root. Here it is a folder of the emulator.
    monkeypatch.setattr(
        "msal.managed_identity._supported_arc_platforms_and_their_prefixes",
        {"linux": str(emulator.directory), "darwin": str(emulator.directory)},
    )
    with ManagedIdentityCredential(**how) as credential:
        token = credential.get_token(SCOPE).token
    assert claims_of(token)["appid"] == (USER_ASSIGNED if how else SYSTEM_ASSIGNED).client_id
    assert (emulator.directory / "arc.key").stat().st_mode & 0o777 == 0o600


def test_secret_of_arc_is_valid_for_one_request(emulator: Emulator) -> None:
    url, params = f"{emulator.identity_endpoint}/arc", {"api-version": "2020-06-01", "resource": RESOURCE}
    challenged = httpx.get(url, params=params, headers={"Metadata": "true"}, trust_env=False)
    assert challenged.status_code == 401
    key_file = challenged.headers["WWW-Authenticate"].removeprefix("Basic realm=")
    headers = {"Metadata": "true", "Authorization": f"Basic {Path(key_file).read_text()}"}
    assert httpx.get(url, params=params, headers=headers, trust_env=False).is_success
    assert httpx.get(url, params=params, headers=headers, trust_env=False).status_code == 401


@needs_new_identity
def test_service_fabric_client_refuses_another_certificate(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    use(emulator, "service_fabric", monkeypatch)
    monkeypatch.setenv("IDENTITY_SERVER_THUMBPRINT", "0" * 40)
    with ManagedIdentityCredential(retry_total=0) as credential, pytest.raises(SSLError, match="thumbprint"):
        credential.get_token(SCOPE)
    assert emulator.books.tokens == []


@pytest.mark.parametrize("source", ["imds", "app_service", "azure_ml", "workload_identity"])
def test_identity_that_is_not_assigned_gets_no_token(
    source: str, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(emulator, source, monkeypatch)
    with (
        ManagedIdentityCredential(client_id=SECOND.client_id) as credential,
        pytest.raises(ClientAuthenticationError) as refused,
    ):
        credential.get_token(SCOPE)
    expected = {"workload_identity": "AADSTS700016", "app_service": NOT_ASSIGNED_TO_THE_APP}
    assert expected.get(source, "Identity not found") in str(refused.value)
    assert emulator.books.tokens[-1].status == 400


@pytest.mark.parametrize("source", ["imds", "app_service", "azure_ml", "cloud_shell"])
def test_several_identities_and_no_name_get_no_token(
    source: str, bare: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(bare, source, monkeypatch)
    with (
        ManagedIdentityCredential() as credential,
        pytest.raises(ClientAuthenticationError, match="Multiple user assigned"),
    ):
        credential.get_token(SCOPE)


def test_metadata_service_uses_the_only_identity_if_none_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with Emulator(identities=[USER_ASSIGNED]) as emulator:
        use(emulator, "imds", monkeypatch)
        with ManagedIdentityCredential() as credential:
            assert claims_of(credential.get_token(SCOPE).token)["appid"] == USER_ASSIGNED.client_id


def test_service_fabric_without_an_identity_gets_an_error(bare: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    use(bare, "service_fabric", monkeypatch)
    with (
        ManagedIdentityCredential() as credential,
        pytest.raises(ClientAuthenticationError, match="ManagedIdentityNotFound"),
    ):
        credential.get_token(SCOPE)


def test_machine_without_identities_gets_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    with Emulator(identities=[]) as emulator:
        use(emulator, "imds", monkeypatch)
        with ManagedIdentityCredential() as credential, pytest.raises(ClientAuthenticationError, match="not found"):
            credential.get_token(SCOPE)
        with pytest.raises(ValueError, match="user-assigned"):
            emulator.identity_environment("workload_identity")


def test_error_of_an_unknown_source_lists_the_known_ones(emulator: Emulator) -> None:
    with pytest.raises(ValueError, match="workload_identity"):
        emulator.identity_environment("vm")
    for source in SOURCES:
        assert emulator.identity_environment(source)


METADATA = {"Metadata": "true"}
HEADER = {"X-IDENTITY-HEADER": "emulated-identity-header"}
SECRET = {"secret": "emulated-msi-secret"}
IMDS, APP_SERVICE, AZURE_ML = "/metadata/identity/oauth2/token", "/app_service", "/azure_ml"
BAD_REQUESTS: list[tuple[str, dict[str, str], dict[str, str], int, object]] = [
    (
        IMDS,
        {"api-version": "2018-02-01", "resource": RESOURCE},
        {},
        400,
        {"error": "bad_request_102", "error_description": "Required metadata header not specified"},
    ),
    (IMDS, {"resource": RESOURCE}, METADATA, 400, "bad_request_101"),
    (IMDS, {"api-version": "2018-02-01"}, METADATA, 400, "Required query variable 'resource' is missing"),
    (IMDS, {"api-version": "2018-02-01", "resource": "nonsense"}, METADATA, 400, "invalid_resource"),
    (IMDS, {"api-version": "2018-02-01", "resource": RESOURCE, "resource_id": "x"}, METADATA, 400, "resource_id"),
    (
        IMDS,
        {"api-version": "2018-02-01", "resource": RESOURCE, "client_id": "x"},
        METADATA,
        400,
        {"error": "invalid_request", "error_description": "Identity not found"},
    ),
    (APP_SERVICE, {"api-version": "2019-08-01", "resource": RESOURCE}, {}, 401, "X-IDENTITY-HEADER"),
    *(
        (
            APP_SERVICE,
            {"api-version": "2019-08-01", "resource": RESOURCE, name: "x"},
            HEADER,
            400,
            {"statusCode": 400, "message": NOT_ASSIGNED_TO_THE_APP},
        )
        for name in ("client_id", "object_id", "principal_id", "mi_res_id")
    ),
    (APP_SERVICE, {"api-version": "2017-09-01", "resource": RESOURCE}, HEADER, 400, "api-version"),
    (AZURE_ML, {"api-version": "2017-09-01", "resource": RESOURCE}, {}, 401, "secret"),
    (AZURE_ML, {"api-version": "2017-09-01", "resource": RESOURCE, "client_id": "x"}, SECRET, 400, "client_id"),
    ("/arc", {"api-version": "2020-06-01", "resource": RESOURCE}, {}, 400, "bad_request_102"),
]


@pytest.mark.parametrize(("path", "query", "headers", "status", "expected"), BAD_REQUESTS)
def test_invalid_requests_are_refused(
    path: str, query: dict[str, str], headers: dict[str, str], status: int, expected: object, emulator: Emulator
) -> None:
    answer = httpx.get(emulator.identity_endpoint + path, params=query, headers=headers, trust_env=False)
    assert answer.status_code == status
    if isinstance(expected, str):
        assert expected in answer.text
    else:
        assert answer.json() == expected
    assert "access_token" not in answer.text
    assert emulator.books.tokens[-1].status == status


def test_cloud_shell_requires_the_metadata_header(emulator: Emulator) -> None:
    url = f"{emulator.identity_endpoint}/cloud_shell"
    assert httpx.post(url, data={"resource": RESOURCE}, trust_env=False).status_code == 400
    reply = httpx.post(url, data={"resource": RESOURCE}, headers=METADATA, trust_env=False).json()
    assert reply["client_id"] == SYSTEM_ASSIGNED.client_id


def test_service_fabric_requires_its_secret(emulator: Emulator) -> None:
    url = emulator.identity_environment("service_fabric")["IDENTITY_ENDPOINT"]
    params = {"api-version": "2019-07-01-preview", "resource": RESOURCE}
    answer = httpx.get(url, params=params, verify=trust(emulator), trust_env=False)
    assert answer.json()["error"]["code"] == "SecretHeaderNotFound"


def test_numbers_in_the_metadata_services_answer_are_text(emulator: Emulator) -> None:
    query = {"api-version": "2018-02-01", "resource": RESOURCE}
    reply = httpx.get(emulator.identity_endpoint + IMDS, params=query, headers=METADATA, trust_env=False).json()
    assert set(reply) == {
        "access_token",
        "client_id",
        "expires_in",
        "expires_on",
        "ext_expires_in",
        "not_before",
        "resource",
        "token_type",
    }
    assert all(isinstance(value, str) for value in reply.values())
    assert int(reply["expires_on"]) - int(reply["not_before"]) == int(reply["expires_in"]) == 86_400


@pytest.mark.parametrize(
    ("tenant", "changes", "code"),
    [
        ("00000000-0000-4000-8000-000000000000", {}, "AADSTS90002"),
        (TENANT, {"grant_type": "password"}, "AADSTS70003"),
        (TENANT, {"client_assertion": "someone else's"}, "AADSTS70021"),
        (TENANT, {"client_assertion_type": "x"}, "AADSTS70021"),
        (TENANT, {"scope": RESOURCE}, "AADSTS70011"),
        (TENANT, {"client_id": SECOND.client_id}, "AADSTS700016"),
    ],
)
def test_sign_in_service_refuses_invalid_requests(
    tenant: str, changes: dict[str, str], code: str, emulator: Emulator
) -> None:
    environment = emulator.identity_environment("workload_identity")
    form = {
        "client_id": environment["AZURE_CLIENT_ID"],
        "grant_type": "client_credentials",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": Path(environment["AZURE_FEDERATED_TOKEN_FILE"]).read_text(),
        "scope": SCOPE,
        **changes,
    }
    url = f"{emulator.arm_endpoint}/{tenant}/oauth2/v2.0/token"
    answer = httpx.post(url, data=form, verify=trust(emulator), trust_env=False)
    assert answer.json()["error_description"].startswith(code)
    assert emulator.books.tokens[-1].status == answer.status_code


def test_fault_of_one_identity_does_not_apply_to_others(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    use(emulator, "imds", monkeypatch)
    fault = emulator.add_fault("token", identity=USER_ASSIGNED.client_id, status=400, code="broken", message="no luck")
    with ManagedIdentityCredential() as credential:
        assert credential.get_token(SCOPE)
    with (
        ManagedIdentityCredential(**BY_CLIENT_ID) as credential,
        pytest.raises(ClientAuthenticationError, match="no luck"),
    ):
        credential.get_token(SCOPE)
    assert [(record.status, record.fault) for record in emulator.books.tokens] == [(200, None), (400, fault.id)]


def test_late_token_is_recorded_as_one_request(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    use(emulator, "imds", monkeypatch)
    emulator.add_fault("token", hang_seconds=0.1)
    with ManagedIdentityCredential() as credential:
        assert credential.get_token(SCOPE)
    assert [record.status for record in emulator.books.tokens] == [200]


def test_failed_token_request_is_repeated_by_azure_identity(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(emulator, "imds", monkeypatch)
    emulator.add_fault("token", status=503)
    emulator.add_fault("token", drop=True)
    with ManagedIdentityCredential(retry_backoff_factor=0.01) as credential:
        assert credential.get_token(SCOPE)
    assert [record.status for record in emulator.books.tokens] == [503, 0, 200]

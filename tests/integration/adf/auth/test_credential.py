"""Real azure-identity with the emulator's endpoints: the named identity is used, or an error explains why not."""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Iterator
from typing import Any

import pytest

from airflow_adf_mi.adf.auth import azure_credentials
from airflow_adf_mi.adf.auth.azure_credentials import TOKEN_READ_TIMEOUT, make_credential
from airflow_adf_mi.adf.auth.credential import ProcessCredential
from airflow_adf_mi.adf.auth.token_errors import principal
from airflow_adf_mi.adf.config.settings import PUBLIC_CLOUD, Identity, IdentityKind
from airflow_adf_mi.adf.errors import AdfAuthenticationError, AdfConfigurationError
from airflow_adf_mi.emulator import Emulator, ManagedIdentity
from airflow_adf_mi.emulator.identity.tokens import SYSTEM_ASSIGNED, USER_ASSIGNED
from tests.support.minors import needs_new_identity

SCOPE = PUBLIC_CLOUD.arm_scope
SECOND = ManagedIdentity(
    client_id="00000000-0000-4000-8000-00000000c003",
    object_id="00000000-0000-4000-8000-00000000b003",
    resource_id=USER_ASSIGNED.resource_id + "-2",
)
NAMED = {
    "system": Identity(),
    "client_id": Identity(client_id=USER_ASSIGNED.client_id),
    "object_id": Identity(object_id=USER_ASSIGNED.object_id),
    "resource_id": Identity(resource_id=USER_ASSIGNED.resource_id),
}
CASES = [
    *(("imds", name) for name in NAMED),
    *(("app_service", name) for name in NAMED),
    ("azure_ml", "system"),
    ("azure_ml", "client_id"),
    ("cloud_shell", "system"),
    ("workload_identity", "client_id"),
]


def use(source: str, emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", raising=False)
    for name, value in emulator.identity_environment(source).items():
        monkeypatch.setenv(name, value)
    # The sign-in service is on the emulator's TLS port.
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(emulator.ca_bundle))


def token(identity: Identity) -> dict[str, str]:
    return principal(ProcessCredential(identity, PUBLIC_CLOUD.authority_host).get_token_info(SCOPE).token)


@pytest.fixture
def machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """A machine with the identities that the test names."""
    with Emulator(identities=request.param) as emulator:
        use("imds", emulator, monkeypatch)
        yield emulator


def refused(identity: Identity) -> AdfAuthenticationError:
    with pytest.raises(AdfAuthenticationError) as error:
        token(identity)
    return error.value


@pytest.mark.parametrize(("source", "name"), CASES)
def test_named_identity_is_used(source: str, name: str, emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    use(source, emulator, monkeypatch)
    wanted = SYSTEM_ASSIGNED if name == "system" else USER_ASSIGNED
    claims = token(NAMED[name])
    assert (claims["appid"], claims["oid"]) == (wanted.client_id, wanted.object_id)
    assert claims["aud"] == "https://management.azure.com"
    record = emulator.books.tokens[-1]
    assert (record.source, record.named_by, record.client_id) == (
        source,
        None if name == "system" else name,
        wanted.client_id,
    )


def test_workload_identity_uses_the_client_id_of_the_pod(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    use("workload_identity", emulator, monkeypatch)
    assert token(Identity(kind=IdentityKind.WORKLOAD_IDENTITY))["appid"] == USER_ASSIGNED.client_id


def test_missing_federated_credential_is_explained(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    use("workload_identity", emulator, monkeypatch)
    (emulator.directory / "federated-token").write_text("another service account's")
    error = refused(Identity(kind=IdentityKind.WORKLOAD_IDENTITY))
    assert "no federated credential that matches this service account" in str(error)
    assert "another service account's" not in str(error)
    assert not error.transient


@pytest.mark.parametrize(("source", "whose"), [("imds", "machine"), ("app_service", "app")])
def test_identity_that_is_not_assigned_is_named(
    source: str, whose: str, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(source, emulator, monkeypatch)
    error = refused(Identity(client_id=SECOND.client_id))
    assert f"managed identity with client id {SECOND.client_id}" in str(error)
    assert f"is not assigned to the {whose}" in str(error)
    assert emulator.identity_endpoint.removeprefix("http://") in str(error)
    assert not error.transient


@pytest.mark.parametrize("machine", [[USER_ASSIGNED, SECOND]], indirect=True)
def test_several_identities_and_no_name_are_an_error(machine: Emulator) -> None:
    error = refused(Identity())
    assert "Put the client id of the one to use into managed_identity_client_id" in str(error)
    assert not error.transient
    assert token(Identity(client_id=SECOND.client_id))["appid"] == SECOND.client_id


@pytest.mark.parametrize("machine", [[USER_ASSIGNED]], indirect=True)
def test_only_identity_of_a_machine_is_used_if_none_is_named(machine: Emulator) -> None:
    """The metadata service does so. A connection that names an identity never gets another one."""
    assert token(Identity())["appid"] == USER_ASSIGNED.client_id


@pytest.mark.timeout(60)
def test_unreachable_endpoint_is_named_within_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://127.0.0.1:9")
    error = refused(Identity())
    assert "127.0.0.1:9" in str(error)
    assert "could not be reached" in str(error)
    assert error.transient


@pytest.mark.parametrize(("status", "transient"), [(429, True), (500, True), (503, True), (403, False), (400, False)])
@pytest.mark.parametrize(
    "source",
    [
        "imds",
        "app_service",
        "azure_ml",
        "cloud_shell",
        pytest.param("service_fabric", marks=needs_new_identity),
        "workload_identity",
    ],
)
def test_status_alone_decides_whether_a_token_error_is_transient(
    source: str, status: int, transient: bool, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(source, emulator, monkeypatch)
    named = NAMED["client_id"] if source == "workload_identity" else NAMED["system"]
    emulator.add_fault("token", status=status, times=None, code="odd", message="odd words")
    error = refused(named)
    assert error.transient is transient
    assert f"The answer was {status}: " in str(error)


@pytest.mark.parametrize("source", ["imds", "app_service", "azure_ml", "cloud_shell", "workload_identity"])
def test_silence_of_an_endpoint_ends_in_seconds(
    source: str, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(source, emulator, monkeypatch)
    emulator.add_fault("token", hang_seconds=4, times=1)
    named = NAMED["client_id"] if source == "workload_identity" else NAMED["system"]
    credential = ProcessCredential(
        named, PUBLIC_CLOUD.authority_host, make=lambda how: make_credential(how, read_timeout=0.5)
    )
    # A client that waited, or requested again, would get a token.
    with pytest.raises(AdfAuthenticationError) as silent:
        credential.get_token_info(SCOPE)
    assert silent.value.transient
    assert TOKEN_READ_TIMEOUT <= 10


@pytest.mark.parametrize("source", ["imds", "app_service"])
def test_page_of_a_proxy_in_place_of_a_token_is_transient(
    source: str, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(source, emulator, monkeypatch)
    emulator.add_fault("token", status=200, text="<html>proxy</html>")
    assert refused(Identity()).transient


def test_one_token_serves_many_threads(emulator: Emulator) -> None:
    from concurrent.futures import ThreadPoolExecutor

    shared = ProcessCredential(Identity(), PUBLIC_CLOUD.authority_host)
    with ThreadPoolExecutor(20) as pool:
        tokens = set(pool.map(lambda _: shared.get_token_info(SCOPE).token, range(20)))
    assert len(tokens) == 1
    assert len(emulator.books.tokens) == 1


@pytest.mark.parametrize("source", ["imds", "app_service", "azure_ml", "cloud_shell", "workload_identity"])
@pytest.mark.parametrize("status", [400, 500])
def test_secret_in_an_endpoints_answer_is_in_no_error_text_and_no_traceback(
    source: str, status: int, emulator: Emulator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    use(source, emulator, monkeypatch)
    emulator.add_fault("token", status=status, times=None, code="odd", message="client_secret=HUSHHUSH")
    shared = ProcessCredential(
        NAMED["client_id" if source == "workload_identity" else "system"], PUBLIC_CLOUD.authority_host
    )
    for _ in range(2):  # the second time, the kept failure is raised
        with pytest.raises(AdfAuthenticationError, match=r"client_secret=\*\*\*") as error:
            shared.get_token_info(SCOPE)
        assert "HUSHHUSH" not in "".join(traceback.format_exception(error.value))
        assert error.value.__context__ is None
    assert "HUSHHUSH" not in caplog.text


def test_secret_of_the_endpoint_is_in_no_error(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    use("app_service", emulator, monkeypatch)
    monkeypatch.setenv("IDENTITY_HEADER", "hush-hush")
    error = refused(Identity())
    assert "hush-hush" not in str(error)
    assert error.__cause__ is None


@pytest.mark.parametrize(
    ("message", "explanation"),
    [
        ("AADSTS700024: Client assertion is not within its valid time range.", "is no longer valid, or not yet"),
        ("AADSTS700213: No matching federated identity record found.", "no federated credential that matches"),
        ("AADSTS53003: Access has been blocked by Conditional Access policies.", "A policy of the tenant blocks"),
        ("AADSTS700022: The scope is not valid.", "Check arm_scope"),
    ],
)
def test_refusal_of_the_sign_in_service_is_explained(
    message: str, explanation: str, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    use("workload_identity", emulator, monkeypatch)
    emulator.add_fault("token", status=401, code="invalid_client", message=message)
    error = refused(Identity(kind=IdentityKind.WORKLOAD_IDENTITY))
    assert explanation in str(error)
    assert message in str(error)
    assert not error.transient


def test_unknown_tenant_of_the_sign_in_service_is_explained(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The emulated sign-in service knows one tenant only."""
    use("workload_identity", emulator, monkeypatch)
    error = refused(Identity(kind=IdentityKind.WORKLOAD_IDENTITY, tenant_id="11111111-1111-4111-8111-111111111111"))
    assert "The sign-in service of this cloud has no such tenant. Check workload_identity_tenant_id" in str(error)
    assert "AADSTS90002" in str(error)


def test_documented_temporary_failure_of_the_sign_in_service_is_transient(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    use("workload_identity", emulator, monkeypatch)
    emulator.add_fault("token", status=400, code="temporarily_unavailable", message="AADSTS90033: A transient error.")
    assert refused(Identity(kind=IdentityKind.WORKLOAD_IDENTITY)).transient


@pytest.mark.parametrize(
    ("source", "reply"),
    [
        ("app_service", {"access_token": "t", "expires_on": "09/14/2026 00:00:00 PM +00:00", "token_type": "Bearer"}),
        ("azure_ml", {"access_token": "t", "expires_on": "09/14/2026 00:00:00 +00:00"}),
        ("imds", {"access_token": "t", "expires_in": "an hour"}),
        ("imds", ["no object"]),
        ("imds", None),
    ],
)
def test_success_in_an_unusable_form_is_not_transient(
    source: str, reply: Any, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(source, emulator, monkeypatch)
    # None: an error of the source as JSON, with the status of a success.
    emulator.add_fault("token", status=200, text=json.dumps(reply) if reply else None)
    error = refused(Identity())
    assert "in a form that azure-identity cannot use" in str(error)
    assert not error.transient


@pytest.mark.parametrize("status", [400, 403, 407])
@pytest.mark.parametrize("source", ["imds", "app_service"])
def test_answer_of_a_proxy_is_named_as_such_and_quoted(
    source: str, status: int, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proxy may be transparent, or the container engine's. A proxy variable is never used for this request."""
    use(source, emulator, monkeypatch)
    emulator.add_fault("token", status=status, text="<html><b>Access denied by corp filter</b></html>")
    error = refused(Identity())
    assert "A proxy between this machine and the endpoint answered in its place" in str(error)
    assert f"The answer was {status}: Access denied by corp filter" in str(error)
    assert "Check that the identity exists" not in str(error)
    assert not error.transient


def test_service_fabric_needs_an_azure_identity_that_checks_its_certificate(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(azure_credentials, "pins_certificates", lambda: False)
    for name in list(os.environ):
        if name.startswith(("AZURE_POD", "IDENTITY_", "MSI_")):
            monkeypatch.delenv(name)
    for name, value in emulator.identity_environment("service_fabric").items():
        monkeypatch.setenv(name, value)
    with pytest.raises(AdfConfigurationError, match=r"Install azure-identity 1\.27 or newer"):
        ProcessCredential(Identity(), PUBLIC_CLOUD.authority_host).get_token_info(PUBLIC_CLOUD.arm_scope)
    assert emulator.books.tokens == []

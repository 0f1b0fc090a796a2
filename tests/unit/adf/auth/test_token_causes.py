"""Usual causes of failed token requests."""

from __future__ import annotations

import json
from typing import Any

import pytest
import requests
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError

from airflow_adf_mi.adf.auth.identity_sources import plan
from airflow_adf_mi.adf.auth.token_causes import Answer, known_cause
from airflow_adf_mi.adf.auth.token_errors import token_error
from airflow_adf_mi.adf.config.settings import Identity, IdentityKind
from airflow_adf_mi.adf.errors import AdfAuthenticationError, AdfError

ID = "22222222-2222-4222-8222-222222222222"
WORKLOAD = {
    "AZURE_TENANT_ID": ID,
    "AZURE_CLIENT_ID": ID,
    "AZURE_FEDERATED_TOKEN_FILE": "/var/run/token",
    "AZURE_AUTHORITY_HOST": "https://login.example",
}
ARC = {
    "IDENTITY_ENDPOINT": "http://localhost:40342/metadata/identity/oauth2/token",
    "IMDS_ENDPOINT": "http://localhost:40342",
}
FABRIC = {"IDENTITY_ENDPOINT": "https://10.0.0.4:2377", "IDENTITY_HEADER": "h", "IDENTITY_SERVER_THUMBPRINT": "t"}


def error_of(
    error: BaseException, environ: dict[str, str], answer: Answer | None = None, kind: str = "managed_identity"
) -> AdfAuthenticationError:
    identity = Identity(kind=IdentityKind(kind))
    ours: AdfError = token_error(error, identity, plan(identity, environ, "login.example"), answer)
    assert isinstance(ours, AdfAuthenticationError)
    return ours


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("70021", "no federated credential that matches"),
        ("700211", "no federated credential that matches"),
        ("700212", "no federated credential that matches"),
        ("700213", "no federated credential that matches"),
        ("7002138", "no federated credential that matches"),
        ("700024", "service account's token in /var/run/token is no longer valid"),
        ("500133", "service account's token in /var/run/token is no longer valid"),
        ("700027", "could not verify the service account's token in /var/run/token."),
        ("700222", "The token in /var/run/token was issued by Microsoft Entra itself"),
        ("700016", "no application with this client id"),
        ("70001", "no application with this client id"),
        ("7000112", "is disabled in the tenant"),
        ("90002", "no such tenant"),
        ("900023", "no such tenant"),
        ("53003", "A policy of the tenant blocks this identity"),
        ("530032", "A policy of the tenant blocks this identity"),
        ("500021", "permits sign-ins to certain tenants only"),
        ("500011", "does not know the resource"),
        ("70011", "does not know the resource"),
        ("700022", "does not know the resource"),
        ("70023", "does not know the resource"),
    ],
)
def test_code_of_the_sign_in_service_has_a_cause(code: str, expected: str) -> None:
    error = ClientAuthenticationError(f"Authentication failed: AADSTS{code}: words. Trace ID: x")
    refused = error_of(error, WORKLOAD, Answer(400, {"Content-Type": "application/json"}), "workload_identity")
    assert expected in str(refused)
    assert f"AADSTS{code}: words" in str(refused)
    assert not refused.transient


def test_unknown_code_has_no_cause() -> None:
    how = plan(Identity(kind=IdentityKind.WORKLOAD_IDENTITY), WORKLOAD, "login.example")
    for code in ("7002", "5300", "9000", "700210", "1700024"):
        assert known_cause(f"AADSTS{code}: words", how) is None


@pytest.mark.parametrize("error", [PermissionError, FileNotFoundError])
def test_error_of_an_unreadable_key_file_of_arc_names_the_group(error: type[OSError]) -> None:
    """The library msal does not catch the error of the file."""
    unreadable = error(13, "Permission denied", "/var/opt/azcmagent/tokens/x.key")
    refused = error_of(unreadable, ARC, Answer(401, {"WWW-Authenticate": "Basic realm=x"}))
    assert "cannot read /var/opt/azcmagent/tokens/x.key" in str(refused)
    assert "group himds" in str(refused)
    assert not refused.transient


@pytest.mark.parametrize("source", [ARC, FABRIC])
@pytest.mark.parametrize("error", [requests.ConnectionError("refused"), requests.ReadTimeout("silence")])
def test_error_of_requests_is_not_treated_as_an_unreadable_file(error: Exception, source: dict[str, str]) -> None:
    """Errors of requests are OSErrors, and azure-core does not convert those of Service Fabric."""
    failed = error_of(error, source)
    assert "could not be reached" in str(failed)
    assert failed.transient
    unreadable = error_of(requests.exceptions.ContentDecodingError("bad gzip"), source, Answer(503))
    assert "himds" not in str(unreadable)
    assert unreadable.transient


@pytest.mark.parametrize(
    ("headers", "sign"),
    [
        ({"Via": "1.1 squid"}, "Via: 1.1 squid"),
        ({"Proxy-Agent": "x"}, "Proxy-Agent: x"),
        ({"proxy-authenticate": "Basic"}, "proxy-authenticate: Basic"),
        ({"X-Squid-Error": "ERR_ACCESS_DENIED 0"}, "X-Squid-Error: ERR_ACCESS_DENIED 0"),
        ({"Content-Type": "text/html; charset=utf-8"}, "a page of HTML"),
        ({"Content-Type": "application/json"}, None),
        ({}, None),
    ],
)
@pytest.mark.parametrize("status", [400, 403])
def test_answer_of_a_proxy_is_recognized_by_its_headers(status: int, headers: dict[str, str], sign: str | None) -> None:
    assert Answer(status, headers).sign_of_proxy == sign
    assert Answer(407, headers).sign_of_proxy == "status 407"
    text = str(error_of(HttpResponseError("odd"), {}, Answer(status, headers)))
    assert ("A proxy between this machine and the endpoint answered in its place" in text) is (sign is not None)
    if sign is not None:
        assert f"({sign})" in text
        assert "NO_PROXY changes nothing" in text
        assert "Exempt 169.254.169.254 there" in text


def test_answer_of_the_sign_in_service_through_a_proxy_keeps_its_cause() -> None:
    """A proxy that inspects TLS adds its Via header to forwarded answers."""
    error = ClientAuthenticationError("AADSTS90002: Tenant 'x' not found.")
    assert "no such tenant" in str(error_of(error, WORKLOAD, Answer(400, {"Via": "1.1 corp"}), "workload_identity"))


def page(text: str) -> json.JSONDecodeError:
    try:
        json.loads(text)
    except json.JSONDecodeError as e:
        return e
    raise AssertionError(text)


def test_page_of_a_proxy_is_quoted_without_tags_and_secrets() -> None:
    error = page("<html><h1>Access denied</h1><p>token=HUSHHUSH</p></html>")
    text = str(error_of(error, {}, Answer(403, {"Content-Type": "text/html"})))
    assert "The answer was 403: Access denied token=***" in text


@pytest.mark.parametrize(
    "error", [ValueError("invalid literal for int()"), KeyError("token_type"), AttributeError("get")]
)
def test_success_in_an_unusable_form_is_not_transient(error: Exception) -> None:
    unusable = error_of(error, {}, Answer(200, {"Content-Type": "text/plain"}))
    assert "in a form that azure-identity cannot use" in str(unusable)
    assert not unusable.transient


def test_developer_is_named_with_one_article() -> None:
    error: Any = ClientAuthenticationError("no account")
    assert str(error_of(error, {}, kind="developer")).startswith(
        "No token for the developer signed in on this machine, asked"
    )

"""Explains to a user why there is no token, and checks whether a token belongs to the requested identity."""

from __future__ import annotations

import base64
import json
import logging
import re
from collections.abc import Mapping
from json import JSONDecodeError
from typing import Any

from airflow_adf_mi.adf.auth.identity_sources import CredentialPlan, Source
from airflow_adf_mi.adf.auth.token_causes import Answer, is_passing, known_cause
from airflow_adf_mi.adf.config.settings import Identity, IdentityKind
from airflow_adf_mi.adf.errors import AdfAuthenticationError, AdfCertificateError, AdfError
from airflow_adf_mi.adf.log_once import log_once
from airflow_adf_mi.adf.network.network_errors import (
    certificate_refusal,
    inside,
    is_any_of,
    is_untrusted,
    proxy_refusal,
    refused_by_proxy,
)
from airflow_adf_mi.adf.network.route import Route
from airflow_adf_mi.adf.redaction import shown

_NOT_KNOWN = "Check that the identity exists and is assigned to this machine."
_UNREACHABLE = frozenset(
    {
        "azure.core.exceptions.ServiceRequestError",
        "azure.core.exceptions.ServiceRequestTimeoutError",
        "azure.core.exceptions.ServiceResponseError",
        "azure.core.exceptions.ServiceResponseTimeoutError",
        # Requests to Service Fabric do not use azure-core.
        "requests.exceptions.ConnectionError",
        "requests.exceptions.ConnectTimeout",
        "requests.exceptions.ChunkedEncodingError",
        "requests.exceptions.ReadTimeout",
        "requests.exceptions.ProxyError",
        "requests.exceptions.SSLError",
    }
)


def token_error(
    error: BaseException, identity: Identity, how: CredentialPlan, answer: Answer | None = None
) -> AdfError:
    """The error for a user: the identity, the source, the source's answer, and the usual cause.

    `answer` is the last answer to a token request, None if there was none.
    """
    if isinstance(error, AdfError):
        return error
    what = f"No token for the {identity}, asked of {how.source.value} ({_endpoint(how)})"
    if how.route is not None and is_untrusted(error):
        return AdfCertificateError(f"{what}: {certificate_refusal(how.route)} {shown(_flat(error), 400)}")
    cause, transient = _cause(error, how, answer)
    status = answer.status if answer else None
    return AdfAuthenticationError(
        f"{what}. {cause} The answer was{f' {status}' if status else ''}: {shown(_quoted(error, answer), 400)}",
        transient=transient,
    )


def _cause(error: BaseException, how: CredentialPlan, answer: Answer | None) -> tuple[str, bool]:
    """Why there is no token and what to do. Also whether the failure may pass soon."""
    if how.route is None:
        return "Sign in first: az login, Connect-AzAccount or azd auth login.", False
    refused = refused_by_proxy(error)
    if refused is not None:
        return _sentence(proxy_refusal(refused, how.route)), True
    if is_any_of(error, _UNREACHABLE):
        return _unreachable(how.route), True
    # The errors of the package requests are OSErrors as well.
    if isinstance(error, OSError) and type(error).__module__ == "builtins":
        return _unreadable_file(error.filename, how), False
    text = _flat(error)
    transient = is_transient(answer.status if answer else None, how.source) or is_passing(text)
    cause = known_cause(text, how)
    if cause is not None:
        return cause, transient
    if answer is not None and 200 <= answer.status < 300 and (answer.is_json or _is_form(_reading(error))):
        return (
            "The endpoint answered with success, but in a form that azure-identity cannot use. Update the source of tokens (an "
            "old agent, or a stand-in for the endpoint), or choose another source by identity in the connection.",
            False,
        )
    if answer is not None and answer.sign_of_proxy is not None:
        return _answered_in_between(answer.sign_of_proxy, how.route), transient
    if transient:
        return "The endpoint gave no token. This may pass soon.", True
    return _NOT_KNOWN, False


def _unreachable(route: Route) -> str:
    way = (
        f"The request went through the proxy {route.proxy}. Add {route.name} to NO_PROXY if it can be reached without a proxy."
        if route.proxy
        else "No proxy was used."
    )
    return (
        f"The endpoint could not be reached. {way} Check that Airflow runs where this source exists, and that no firewall or "
        "network policy blocks it. The connection's field identity chooses another source."
    )


def _unreadable_file(path: str | None, how: CredentialPlan) -> str:
    if how.source is Source.ARC:
        return (
            f"Azure Arc's agent gives tokens to users that can read its key file. Airflow's user cannot read {path or 'it'}. "
            "Add this user to the group himds (usermod -aG himds USER), and restart Airflow's services. In a container, mount "
            "/var/opt/azcmagent/tokens as well."
        )
    if how.token_file:
        return f"The federated token file {how.token_file} could not be read. Check that the service account's token is mounted."
    return _NOT_KNOWN


def _answered_in_between(sign: str, route: Route) -> str:
    if route.proxy is not None:
        fix = f"The request went through the proxy {route.proxy}: let it pass {route.name}, or add {route.name} to NO_PROXY."
    else:
        fix = (
            f"No proxy of the environment was used (NO_PROXY changes nothing). So a transparent proxy or the container engine's "
            f"proxy answered. Exempt {route.host} there."
        )
    return f"A proxy between this machine and the endpoint answered in its place ({sign}). {fix}"


def _reading(error: BaseException) -> BaseException | None:
    """The error that reading an answer raised, which azure-identity wraps for some sources. None for other failures."""
    kinds = ArithmeticError | AttributeError | LookupError | TypeError | ValueError
    return next((e for e in inside(error) if isinstance(e, kinds)), None)


def _is_form(reading: BaseException | None) -> bool:
    """Whether the answer was JSON, but a member has an unexpected form, such as an expiry time that is a date."""
    return reading is not None and not isinstance(reading, JSONDecodeError)


def is_transient(status: int | None, source: Source) -> bool:
    """Whether a source that answered a token request with `status`, and gave no token, may give one soon.

    The words of the answer do not decide: msal names each error of App Service and Azure ML "invalid_scope", and azure-identity
    names each error of IMDS "no response".
    """
    if status is None:
        return False
    if status == 404:
        # IMDS answers 404 while it is being updated (documented). For other sources, 404 means a wrong address.
        return source is Source.IMDS
    # Below 400: an answer without a token, such as the page of a proxy.
    return status in (408, 410, 429) or status >= 500 or status < 400


def check_principal(token: str, identity: Identity, how: CredentialPlan) -> None:
    """Raise `AdfAuthenticationError` if the token belongs to another identity than the named one.

    If the connection names no identity, the system-assigned identity is expected. A machine without that identity gives a token
    of its only user-assigned identity (Microsoft's documentation of IMDS). That token is used, and a warning names its identity.
    Tokens are opaque by contract, so a token that cannot be read, or lacks the claim, is accepted.
    """
    claims = principal(token)
    if how.source is not Source.WORKLOAD_IDENTITY and (surprise := not_system_assigned(identity, claims)):
        log_once(__name__, logging.WARNING, f"{how.source.value} gave a token of {surprise}")
    for claim, wanted in (
        ("appid", how.client_id),
        ("oid", how.object_id),
        ("xms_mirid", how.resource_id),
    ):
        got = claims.get(claim)
        if wanted and isinstance(got, str) and got.lower() != wanted.lower():
            raise AdfAuthenticationError(
                f"{how.source.value} gave a token of another identity than the {identity}: its {claim} is {got}. It is not "
                "used. Check the id in the connection, and which identities are assigned to this machine."
            )


def not_system_assigned(identity: Identity, claims: Mapping[str, Any]) -> str | None:
    """If no identity is named, but the token belongs to a user-assigned identity: the name of that identity, and what to do."""
    name = _user_assigned(claims)
    if name is None or identity.names() or identity.kind not in (IdentityKind.MANAGED_IDENTITY, IdentityKind.PLATFORM):
        return None
    client_id = claims.get("appid")
    return (
        f"the user-assigned managed identity {name!r}. The connection names no identity, which means the system-assigned one. "
        f"If {name!r} is meant, put {f'its client id {client_id}' if client_id else 'its client id'} into "
        "managed_identity_client_id; otherwise turn on the machine's system-assigned identity."
    )


def whose(identity: Identity, claims: Mapping[str, Any]) -> str:
    """The identity of a token: by its claims if they show more than the connection."""
    resource = claims.get("xms_mirid")
    if identity.names() or identity.kind in (IdentityKind.DEVELOPER, IdentityKind.WORKLOAD_IDENTITY):
        return str(identity)
    name = _user_assigned(claims)
    if name is not None:
        return f"user-assigned managed identity {name!r}"
    return "system-assigned managed identity" if isinstance(resource, str) and resource else str(identity)


def _user_assigned(claims: Mapping[str, Any]) -> str | None:
    """The name of the user-assigned identity that a token belongs to."""
    resource = claims.get("xms_mirid")
    if not isinstance(resource, str):
        return None
    kind, _, name = resource.rpartition("/")
    return shown(name, 128) if kind.lower().endswith("/userassignedidentities") else None


def principal(token: str) -> dict[str, Any]:
    """The claims of a token, which name its identity. Empty if the token cannot be read."""
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (IndexError, ValueError):
        return {}
    return claims if isinstance(claims, dict) else {}


def _endpoint(how: CredentialPlan) -> str:
    """The host of the endpoint. Its query and headers are left out, because they may be secret."""
    if how.route is None:
        return "Azure CLI, PowerShell, azd"
    return how.route.host or how.route.address


def _quoted(error: BaseException, answer: Answer | None) -> str:
    """The answer. If azure-identity failed to parse a page as JSON, the text of the page."""
    reading = _reading(error)
    if isinstance(reading, JSONDecodeError) and answer is not None and answer.sign_of_proxy is not None:
        return " ".join(re.sub(r"<[^>]{0,500}>", " ", reading.doc[:4000]).split())
    return _flat(error)


def _flat(error: BaseException) -> str:
    return " ".join(str(getattr(error, "message", None) or error).split())


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]

"""What went wrong on the way to a token, for a user; and whether a token is the one that was asked for."""

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
        # Service Fabric's requests do not go through azure-core.
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
    """The error for a user: which identity was asked of what, what that answered, and the usual cause.

    `answer` is the last one to a token request, None where there was none.
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
    """Why there is no token and what to do, and whether there may be one shortly."""
    if how.route is None:
        return "Sign in first: az login, Connect-AzAccount or azd auth login.", False
    refused = refused_by_proxy(error)
    if refused is not None:
        return _sentence(proxy_refusal(refused, how.route)), True
    if is_any_of(error, _UNREACHABLE):
        return _unreachable(how.route), True
    # requests' errors are OSErrors, too.
    if isinstance(error, OSError) and type(error).__module__ == "builtins":
        return _unreadable_file(error.filename, how), False
    text = _flat(error)
    transient = is_transient(answer.status if answer else None, how.source) or is_passing(text)
    cause = known_cause(text, how)
    if cause is not None:
        return cause, transient
    if answer is not None and 200 <= answer.status < 300 and (answer.is_json or _is_form(_reading(error))):
        return (
            "The endpoint answered with success, but in a form that azure-identity cannot use. Update what gives tokens here (an "
            "old agent, or a stand-in for the endpoint), or choose another source by identity in the connection.",
            False,
        )
    if answer is not None and answer.sign_of_proxy is not None:
        return _answered_in_between(answer.sign_of_proxy, how.route), transient
    if transient:
        return "The endpoint gave no token for now; it may shortly.", True
    return _NOT_KNOWN, False


def _unreachable(route: Route) -> str:
    way = (
        f"It was asked through the proxy {route.proxy}; add {route.name} to NO_PROXY if it can be reached without."
        if route.proxy
        else "No proxy was used."
    )
    return (
        f"The endpoint could not be reached. {way} Does Airflow run where this source exists, and does a firewall or a network "
        "policy block it? identity in the connection chooses another source."
    )


def _unreadable_file(path: str | None, how: CredentialPlan) -> str:
    if how.source is Source.ARC:
        return (
            f"Azure Arc's agent gives tokens to whoever can read its key file, and Airflow's user cannot read {path or 'it'}. "
            "Add this user to the group himds (usermod -aG himds USER), and restart Airflow's services. In a container, mount "
            "/var/opt/azcmagent/tokens as well."
        )
    if how.token_file:
        return f"The federated token file {how.token_file} could not be read. Is the service account's token mounted?"
    return _NOT_KNOWN


def _answered_in_between(sign: str, route: Route) -> str:
    if route.proxy is not None:
        fix = f"It was asked through the proxy {route.proxy}: let the proxy pass {route.name}, or add {route.name} to NO_PROXY."
    else:
        fix = (
            f"No proxy of the environment was used (NO_PROXY changes nothing), so a transparent proxy or the container engine's "
            f"answered: exempt {route.host} there."
        )
    return f"Something between this machine and the endpoint answered in its place ({sign}). {fix}"


def _reading(error: BaseException) -> BaseException | None:
    """The error that reading an answer raised, which azure-identity wraps for some sources; None for another failure."""
    kinds = ArithmeticError | AttributeError | LookupError | TypeError | ValueError
    return next((e for e in inside(error) if isinstance(e, kinds)), None)


def _is_form(reading: BaseException | None) -> bool:
    """Whether the answer was JSON, and something in it has a form of its own, such as an expiry time that is a date."""
    return reading is not None and not isinstance(reading, JSONDecodeError)


def is_transient(status: int | None, source: Source) -> bool:
    """Whether a source that answered a token request by `status`, and gave no token, may give one shortly.

    Never by the words of an answer: msal calls each error of App Service and Azure ML "invalid_scope", and azure-identity
    each of IMDS "no response".
    """
    if status is None:
        return False
    if status == 404:
        # So IMDS answers while it is being updated (documented); elsewhere the address is wrong.
        return source is Source.IMDS
    # Below 400: no token in it, such as the page of a proxy.
    return status in (408, 410, 429) or status >= 500 or status < 400


def check_principal(token: str, identity: Identity, how: CredentialPlan) -> None:
    """Raises `AdfAuthenticationError` if the token is of another identity than the one named.

    Where none is named, the system-assigned identity is expected. A machine without one gives a token of its only
    user-assigned identity (Microsoft's documentation of IMDS); this token is used, and a warning names its identity.
    Tokens are opaque by contract, so one that cannot be read, or lacks the claim, is accepted.
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
                f"{how.source.value} gave a token of another identity than the {identity}: its {claim} is {got}. Nothing is "
                "sent with it. Check the id in the connection, and which identities are assigned to this machine."
            )


def not_system_assigned(identity: Identity, claims: Mapping[str, Any]) -> str | None:
    """Whose token it is, and what to do, where no identity is named and a user-assigned one gave the token."""
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
    """The identity of a token, by its claims where these show more than the connection does."""
    resource = claims.get("xms_mirid")
    if identity.names() or identity.kind in (IdentityKind.DEVELOPER, IdentityKind.WORKLOAD_IDENTITY):
        return str(identity)
    name = _user_assigned(claims)
    if name is not None:
        return f"user-assigned managed identity {name!r}"
    return "system-assigned managed identity" if isinstance(resource, str) and resource else str(identity)


def _user_assigned(claims: Mapping[str, Any]) -> str | None:
    """The name of the user-assigned identity that a token is of."""
    resource = claims.get("xms_mirid")
    if not isinstance(resource, str):
        return None
    kind, _, name = resource.rpartition("/")
    return shown(name, 128) if kind.lower().endswith("/userassignedidentities") else None


def principal(token: str) -> dict[str, Any]:
    """The claims of a token that say who it is; empty for a token that cannot be read."""
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (IndexError, ValueError):
        return {}
    return claims if isinstance(claims, dict) else {}


def _endpoint(how: CredentialPlan) -> str:
    """Host of the endpoint; never its query or a header, which may be secret."""
    if how.route is None:
        return "Azure CLI, PowerShell, azd"
    return how.route.host or how.route.address


def _quoted(error: BaseException, answer: Answer | None) -> str:
    """What was answered: of a page that was taken for JSON, the page."""
    reading = _reading(error)
    if isinstance(reading, JSONDecodeError) and answer is not None and answer.sign_of_proxy is not None:
        return " ".join(re.sub(r"<[^>]{0,500}>", " ", reading.doc[:4000]).split())
    return _flat(error)


def _flat(error: BaseException) -> str:
    return " ".join(str(getattr(error, "message", None) or error).split())


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]

"""What went wrong on the way to a token, for a user; and whether a token is the one that was asked for."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from airflow_adf_mi.adf.errors import AdfAuthenticationError, AdfError
from airflow_adf_mi.adf.identity_sources import CredentialPlan, Source
from airflow_adf_mi.adf.log_once import log_once
from airflow_adf_mi.adf.redact import shown
from airflow_adf_mi.adf.settings import Identity, IdentityKind

_ENDPOINT_VARIABLES: Mapping[Source, tuple[str, ...]] = {
    Source.IMDS: ("AZURE_POD_IDENTITY_AUTHORITY_HOST",),
    Source.APP_SERVICE: ("IDENTITY_ENDPOINT",),
    Source.SERVICE_FABRIC: ("IDENTITY_ENDPOINT",),
    Source.ARC: ("IDENTITY_ENDPOINT",),
    Source.AZURE_ML: ("MSI_ENDPOINT",),
    Source.CLOUD_SHELL: ("MSI_ENDPOINT",),
}

# What the endpoints say, in lower case, and the usual cause. First match counts.
_CAUSES: tuple[tuple[str, str], ...] = (
    (
        "identity not found",
        "This identity is not assigned to the machine. Assign it (virtual machine, scale set or app: Identity, User "
        "assigned), or correct the id in the connection.",
    ),
    (
        "multiple user assigned identities",
        "Several identities are assigned and the connection names none. Put the client id of the one to use into "
        "managed_identity_client_id.",
    ),
    (
        # App Service's words for an identity that is not assigned.
        "no user assigned or delegated managed identity found",
        "This identity is not assigned to the app. Assign it (Identity, User assigned), or correct the id in the connection.",
    ),
    (
        "no identity has been assigned",
        "The machine has no such identity. Turn on its system-assigned identity, or assign the user-assigned one.",
    ),
    (
        "aadsts70021",
        "The identity has no federated credential that matches this service account. Check issuer, subject "
        "(system:serviceaccount:<namespace>:<name>) and audience of its federated credential.",
    ),
    (
        "aadsts700016",
        "The tenant has no application with this client id. Check the client id and the tenant.",
    ),
    (
        "aadsts500011",
        "The tenant does not know the resource that the token is for. Check arm_scope and the cloud.",
    ),
)
_UNREACHABLE = (
    "ServiceRequestError",
    "ServiceRequestTimeoutError",
    "ServiceResponseError",
    "ServiceResponseTimeoutError",
)


def token_error(
    error: BaseException,
    identity: Identity,
    how: CredentialPlan,
    environ: Mapping[str, str],
    *,
    status: int | None = None,
) -> AdfError:
    """The error for a user: which identity was asked of what, what that said, and the usual cause.

    `status` is the HTTP status of the last answer to a token request, None where there was none.
    """
    if isinstance(error, AdfError):
        return error
    unreachable = any(type(e).__name__ in _UNREACHABLE for e in _chain(error))
    transient = unreachable or (not isinstance(error, OSError) and is_transient(status, how.source))
    text = _flat(error)
    lowered = text.lower()
    cause = next((advice for said, advice in _CAUSES if said in lowered), None)
    if cause is None:
        cause = _usual_cause(error, how, unreachable=unreachable, transient=transient)
    said = f" The answer was{f' {status}' if status else ''}: "
    return AdfAuthenticationError(
        f"No token for the {identity}, asked of {how.source.value} ({_endpoint(how, environ)}). {cause}{said}"
        f"{shown(text, 400)}",
        transient=transient,
    )


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


def _usual_cause(error: BaseException, how: CredentialPlan, *, unreachable: bool, transient: bool) -> str:
    """For an answer whose words are not known."""
    if how.source is Source.DEVELOPER:
        return "Sign in first: az login, Connect-AzAccount or azd auth login."
    if isinstance(error, OSError) and how.token_file:
        return f"The federated token file {how.token_file} could not be read. Is the service account's token mounted?"
    if unreachable:
        return (
            "The endpoint could not be reached. Does Airflow run where this source exists? Is a proxy in the way (add the "
            "address to NO_PROXY), or does a network policy block the pod? identity in the connection chooses another source."
        )
    if transient:
        return "The endpoint gave no token for now; it may shortly."
    return "Check that the identity exists and is assigned to this machine."


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


def _endpoint(how: CredentialPlan, environ: Mapping[str, str]) -> str:
    """Host of the endpoint; never its query or a header, which may be secret."""
    if how.source is Source.WORKLOAD_IDENTITY:
        return str(how.authority_host)
    if how.source is Source.DEVELOPER:
        return "Azure CLI, PowerShell, azd"
    address = next(
        (environ[name] for name in _ENDPOINT_VARIABLES[how.source] if environ.get(name)),
        "http://169.254.169.254",
    )
    return urlsplit(address).netloc or address


def _flat(error: BaseException) -> str:
    return " ".join(str(getattr(error, "message", None) or error).split())


def _chain(error: BaseException) -> Iterator[BaseException]:
    current: BaseException | None = error
    seen: set[int] = set()
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__

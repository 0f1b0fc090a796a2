"""The one place where foreign errors become ours.

Azure's packages are imported inside the functions: this module is on the way of every Dag file.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from airflow_adf_mi.adf.errors import (
    AdfAuthenticationError,
    AdfCertificateError,
    AdfError,
    AdfNotFoundError,
    AdfPermissionError,
    AdfRequestError,
    AdfThrottledError,
    AdfUnavailableError,
)
from airflow_adf_mi.adf.network import route_to_arm
from airflow_adf_mi.adf.network_errors import (
    certificate_refusal,
    is_untrusted,
    proxy_refusal,
    refused_by_proxy,
    was_never_sent,
)
from airflow_adf_mi.adf.redact import cap, redact
from airflow_adf_mi.adf.role import BELOW, how_to_grant
from airflow_adf_mi.adf.settings import SubscriptionRef
from airflow_adf_mi.adf.token_errors import principal
from airflow_adf_mi.adf.transport import token_of

if TYPE_CHECKING:
    from azure.core.exceptions import AzureError

    from airflow_adf_mi.adf.calls import Call
    from airflow_adf_mi.adf.settings import AdfSettings

# ARM's gateway uses these where the address above the pipeline or run is wrong.
_FACTORY_MISSING = frozenset(
    {"ResourceNotFound", "ParentResourceNotFound", "ResourceGroupNotFound", "SubscriptionNotFound"}
)


def translate(error: AzureError, call: Call[Any], settings: AdfSettings) -> AdfError:
    """What `error`, raised while sending `call`, means to a user."""
    from azure.core.exceptions import HttpResponseError

    response = error.response if isinstance(error, HttpResponseError) else None
    if response is None or response.status_code is None:
        return _no_answer(error, call, settings)
    headers: Mapping[str, str] = getattr(response, "headers", {})
    return from_answer(
        call,
        settings,
        status=response.status_code,
        code=_code(error),
        said=_said(error),
        request_id=headers.get("x-ms-request-id"),
        retry_after=_retry_after(headers.get("Retry-After")),
        claims=principal(token_of(error) or ""),
    )


def from_answer(
    call: Call[Any],
    settings: AdfSettings,
    *,
    status: int,
    code: str | None,
    said: str,
    request_id: str | None = None,
    retry_after: float | None = None,
    claims: Mapping[str, Any] = MappingProxyType({}),
) -> AdfError:
    """What an answer of the service other than success means. Pure.

    `claims` are those of the token that the request carried.
    """
    what = f"Could not {call.doing} in {call.target}"
    quote = f" The service answered {status}{f' {code}' if code else ''}: {said if said.endswith('.') else f'{said}.'}"
    details: dict[str, Any] = {
        "status": status,
        "code": code,
        "request_id": request_id,
        "retry_after": retry_after,
    }
    if status == 401:
        return AdfAuthenticationError(
            f"{what}: the service refused the token of the {settings.identity}. Check that the connection's cloud, "
            f"arm_endpoint and arm_scope belong together (now {settings.arm_endpoint} and {settings.arm_scope}), and that "
            f"the identity belongs to the subscription's tenant.{quote}",
            refused_token=True,
        )
    if status == 403:
        if code == "AuthorizationFailed" and call.permission.lower() in said.lower():
            # Its message says the same once more.
            quote = f" The service answered {status} {code}."
        return AdfPermissionError(f"{what}: {_not_permitted(call, settings, claims)}{quote}", **details)
    if status == 404 or code in call.not_found_codes:
        missing, advice = _what_is_missing(call, code)
        return AdfNotFoundError(f"{what}: {advice}{quote}", missing=missing, **details)
    if status == 429:
        wait = f" It asked to wait {retry_after:g} s." if retry_after else ""
        return AdfThrottledError(
            f"{what}: too many requests for this subscription or factory.{wait} Look less often (check_interval), or start "
            f"fewer runs at once.{quote}",
            **details,
        )
    if status == 408 or status >= 500 or status < 400:
        return AdfUnavailableError(
            f"{what}: the service gave no usable answer. It may work again shortly.{quote}",
            status=status,
            retry_after=retry_after,
        )
    return AdfRequestError(f"{what}: the service refused the request.{quote}", **details)


def unreadable(error: Exception, call: Call[Any]) -> AdfUnavailableError:
    """An answer of status 200 that lacks what the specification promises, such as a proxy's page."""
    return AdfUnavailableError(
        f"Could not {call.doing} in {call.target}: the answer could not be read ({type(error).__name__}: "
        f"{cap(redact(str(error)), 200)}). Is there a proxy in between that answers for the service?",
        status=200,
    )


def _not_permitted(call: Call[Any], settings: AdfSettings, claims: Mapping[str, Any]) -> str:
    """Who may not do what where, and what permits it."""
    known = {"client id": claims.get("appid"), "object id": claims.get("oid")}
    who = ", ".join(f"{name} {value}" for name, value in known.items() if value)
    return (
        f"the {settings.identity}{f' ({who})' if who else ''} has no permission for {BELOW}{call.permission} on "
        f"{call.target.resource_id}. {how_to_grant(call.target, claims)}"
    )


def _what_is_missing(call: Call[Any], code: str | None) -> tuple[str, str]:
    """Subscription, factory, pipeline or run; and what to do about it."""
    if isinstance(call.target, SubscriptionRef):
        return (
            "subscription",
            "there is no such subscription, or the identity's tenant does not have it. Check subscriptionId.",
        )
    if code in _FACTORY_MISSING or (call.run_id is None and call.pipeline_name is None):
        return "factory", (
            f"there is no such factory. Check subscriptionId ({call.target.subscription_id}), resource_group_name and "
            "factory_name in the connection or the arguments."
        )
    if call.run_id is not None:
        return "run", f"the factory knows no run {call.run_id}. Check the run id; runs are kept for 45 days."
    return "pipeline", (
        f"the factory has no published pipeline {call.pipeline_name!r}. Check the spelling, and that the pipeline was "
        "published, not only saved in Git."
    )


def _no_answer(error: AzureError, call: Call[Any], settings: AdfSettings) -> AdfError:
    what = f"Could not {call.doing} in {call.target}"
    reason = f"{type(error).__name__}: {cap(redact(str(error)), 300)}"
    route = route_to_arm(settings, os.environ)
    if is_untrusted(error):
        return AdfCertificateError(f"{what}: {certificate_refusal(route)} {reason}")
    never_sent = was_never_sent(error)
    refused = refused_by_proxy(error)
    if refused is not None:
        why = proxy_refusal(refused, route)
    else:
        how = "the connection could not be made" if never_sent else "the connection broke or timed out"
        through = f", through the proxy {route.proxy}" if route.proxy else ""
        why = (
            f"{how} ({settings.arm_endpoint}{through}). Check the network between this machine and the endpoint, its proxy, and "
            "ca_bundle."
        )
    return AdfUnavailableError(f"{what}: {why} {reason}", never_sent=never_sent)


def _code(error: AzureError) -> str | None:
    inner = getattr(error, "error", None)
    code = getattr(inner, "code", None)
    return code if isinstance(code, str) else None


def _said(error: AzureError) -> str:
    inner = getattr(error, "error", None)
    message = getattr(inner, "message", None) or getattr(error, "reason", None) or error.message
    return cap(redact(str(message)), 500)


def _retry_after(header: str | None) -> float | None:
    """Seconds; the service sends numbers, never dates."""
    try:
        return max(0.0, float(header)) if header else None
    except ValueError:
        return None

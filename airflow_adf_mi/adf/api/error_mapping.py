"""The one place where errors of Azure's packages become errors of this package.

Azure's packages are imported inside the functions, because every Dag file imports this module.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from airflow_adf_mi.adf.api.refusal import MISSING_ROLE, Refusal, is_front_door
from airflow_adf_mi.adf.auth.token_errors import principal, whose
from airflow_adf_mi.adf.config.addresses import SubscriptionRef
from airflow_adf_mi.adf.config.role import BELOW, how_to_grant
from airflow_adf_mi.adf.errors import (
    AdfAuthenticationError,
    AdfCertificateError,
    AdfError,
    AdfNotFoundError,
    AdfPermissionError,
    AdfQueueFullError,
    AdfRequestError,
    AdfThrottledError,
    AdfUnavailableError,
)
from airflow_adf_mi.adf.network.network_errors import (
    certificate_refusal,
    is_untrusted,
    proxy_refusal,
    refused_by_proxy,
    was_never_sent,
)
from airflow_adf_mi.adf.network.transport import token_of
from airflow_adf_mi.adf.redaction import shown

if TYPE_CHECKING:
    from azure.core.exceptions import AzureError

    from airflow_adf_mi.adf.api.operations import Call
    from airflow_adf_mi.adf.config.settings import AdfSettings
    from airflow_adf_mi.adf.network.route import Route

# Error codes of ARM's front door if the subscription, resource group or factory does not exist.
_SUBSCRIPTION_MISSING = frozenset({"SubscriptionNotFound", "InvalidSubscriptionId"})
# The text of the refusal in public reports. Which status it has is not known.
_FULL_QUEUE = re.compile(r"maximum of \d+ runs will be queued|Pipeline execution throttled", re.IGNORECASE)
_FULL_QUEUE_STATUSES = (400, 429)
_FACTORY_MISSING = frozenset({"ResourceNotFound", "ParentResourceNotFound", "ResourceGroupNotFound"})


def translate(error: AzureError, call: Call[Any], settings: AdfSettings, route: Route) -> AdfError:
    """Our error for `error`, which was raised while `call` was sent by `route`."""
    from azure.core.exceptions import HttpResponseError

    response: Any = error.response if isinstance(error, HttpResponseError) else None
    if response is None or response.status_code is None:
        return _no_answer(error, call, settings, route)
    if response.status_code < 300:
        return unreadable(error, call)
    refusal = Refusal.read(response.status_code, str(response.reason), response.headers, _text(response))
    return from_answer(call, settings, refusal, claims=principal(token_of(error) or ""))


def from_answer(
    call: Call[Any], settings: AdfSettings, refusal: Refusal, *, claims: Mapping[str, Any] = MappingProxyType({})
) -> AdfError:
    """Our error for an answer that is not a success. Pure.

    `claims` are the claims of the request's token.
    """
    status, code, quote = refusal.status, refusal.code, refusal.quote
    details: dict[str, Any] = {
        "status": status,
        "code": code,
        "request_id": refusal.request_id,
        "retry_after": refusal.retry_after,
        "failure_cause": refusal.failure_cause,
    }
    if 300 <= status < 400:
        return AdfUnavailableError(
            f"{call.could_not}: the answer redirects to another address{_at(refusal.redirects_to)}. It is not followed, because "
            f"the token must not go there. Check arm_endpoint (now {settings.arm_endpoint}), and whether a proxy requires a "
            f"sign-in.{quote}",
            status=status,
            is_foreign=refusal.is_foreign,
        )
    if status in _FULL_QUEUE_STATUSES and call.method == "create_run" and _FULL_QUEUE.search(refusal.message):
        return AdfQueueFullError(
            f"{call.could_not}: the queue of the pipeline is full. A pipeline with a concurrency queues at most 100 runs, and "
            f"refuses more. Nothing was started. Start fewer runs at once, or raise the concurrency of the pipeline.{quote}",
            **details,
        )
    if status == 429:
        wait = f" The service asked to wait {refusal.retry_after:g} s." if refusal.retry_after else ""
        return AdfThrottledError(
            f"{call.could_not}: too many requests for this subscription or factory.{wait} Check less often (check_interval), "
            f"or start fewer runs at once.{quote}",
            **details,
        )
    if refusal.is_foreign:
        return AdfUnavailableError(
            f"{call.could_not}: got an answer that is not from Azure Resource Manager. A proxy, gateway or web filter between "
            f"this machine and {settings.arm_endpoint} gave it. Allow this address there, or add the address to "
            f"NO_PROXY.{quote}",
            status=status,
            retry_after=refusal.retry_after,
            is_foreign=True,
        )
    if status == 401:
        return AdfAuthenticationError(
            f"{call.could_not}: the service refused the token of the {whose(settings.identity, claims)}. Check that the "
            f"connection's cloud, arm_endpoint and arm_scope belong together (now {settings.arm_endpoint} and "
            f"{settings.arm_scope}), and that "
            f"the identity belongs to the subscription's tenant.{quote}",
            refused_token=True,
        )
    if status == 403:
        if code == "AuthorizationFailed" and call.permission.lower() in refusal.message.lower():
            # The message would repeat what this text says.
            quote = f" The service answered {status} {code}."
        return AdfPermissionError(
            f"{call.could_not}: {_not_permitted(call, settings, refusal, claims)}{quote}", **details
        )
    if status == 404 or code in call.not_found_codes:
        missing, advice = _what_is_missing(call, refusal)
        return AdfNotFoundError(f"{call.could_not}: {advice}{quote}", missing=missing, **details)
    if status == 408 or status >= 500 or status < 300:
        return AdfUnavailableError(
            f"{call.could_not}: the service gave no usable answer. This may pass soon.{quote}",
            status=status,
            retry_after=refusal.retry_after,
        )
    by_itself = " before it reached Data Factory" if is_front_door(code, refusal.failure_cause) else ""
    advice = refusal.advice(call.target) or f"the service refused the request{by_itself}."
    return AdfRequestError(f"{call.could_not}: {advice}{quote}", **details)


def _text(response: Any) -> str:
    """The body; empty if it is not a text."""
    try:
        return str(response.text())
    except (LookupError, ValueError):
        return ""


def _at(host: str | None) -> str:
    return f", on {host}" if host else ""


def unreadable(error: Exception, call: Call[Any]) -> AdfUnavailableError:
    """Our error for a successful answer without the content that the specification promises, such as a proxy's page."""
    return AdfUnavailableError(
        f"{call.could_not}: the answer could not be read ({type(error).__name__}: "
        f"{shown(str(error), 200)}). Check whether a proxy answers in place of the service.",
        status=200,
        unreadable=True,
    )


def _not_permitted(call: Call[Any], settings: AdfSettings, refusal: Refusal, claims: Mapping[str, Any]) -> str:
    """Which identity has no permission, for which action and scope, and how to grant it."""
    if refusal.code not in MISSING_ROLE:
        return refusal.advice(call.target) or (
            f"the service forbids it to the {settings.identity}. The error code is not the one of a missing role. The "
            "answer gives the reason."
        )
    known = {"client id": claims.get("appid"), "object id": claims.get("oid")}
    who = ", ".join(f"{name} {value}" for name, value in known.items() if value)
    return (
        f"the {whose(settings.identity, claims)}{f' ({who})' if who else ''} has no permission for {BELOW}{call.permission} on "
        f"{call.target.resource_id}. {how_to_grant(call.target, claims)}"
    )


def _what_is_missing(call: Call[Any], refusal: Refusal) -> tuple[str | None, str]:
    """What does not exist (subscription, factory, pipeline or run), and what to do."""
    code = refusal.code
    subscription = call.target.subscription_id
    if isinstance(call.target, SubscriptionRef) or code in _SUBSCRIPTION_MISSING:
        return "subscription", (
            f"there is no subscription {subscription}, or it is not in the identity's tenant. Check subscriptionId."
        )
    if code == "ResourceGroupNotFound":
        return "factory", (
            f"subscription {subscription} has no resource group {call.target.resource_group_name!r}. Check "
            "resource_group_name and subscriptionId in the connection or the arguments."
        )
    if code in _FACTORY_MISSING or (call.run_id is None and call.pipeline_name is None):
        return "factory", (
            f"there is no such factory. Check subscriptionId ({subscription}), resource_group_name and factory_name in the "
            "connection or the arguments."
        )
    if code is None or is_front_door(code, refusal.failure_cause):
        # ARM's front door does not know runs or pipelines. So its answer does not prove that a run or pipeline is missing.
        return None, (
            "the answer does not name what is missing. Check subscriptionId, resource_group_name and factory_name in the "
            "connection or the arguments."
        )
    if call.run_id is not None:
        return "run", f"the factory has no run {call.run_id}. Check the run id. Runs are kept for 45 days."
    return "pipeline", (
        f"the factory has no published pipeline {call.pipeline_name!r}. Check the spelling, and that the pipeline was "
        "published, not only saved in Git."
    )


def _no_answer(error: AzureError, call: Call[Any], settings: AdfSettings, route: Route) -> AdfError:
    reason = f"{type(error).__name__}: {shown(str(error), 300)}"
    if is_untrusted(error):
        return AdfCertificateError(f"{call.could_not}: {certificate_refusal(route)} {reason}")
    never_sent = was_never_sent(error)
    refused = refused_by_proxy(error)
    if refused is not None:
        why = proxy_refusal(refused, route)
    else:
        how = "the connection could not be made" if never_sent else "the connection broke or timed out"
        through = f", through the proxy {route.proxy}" if route.proxy else ""
        why = (
            f"{how} ({settings.arm_endpoint}{through}). Check the network between this machine and the endpoint, the proxy, and "
            "ca_bundle."
        )
    return AdfUnavailableError(f"{call.could_not}: {why} {reason}", never_sent=never_sent)

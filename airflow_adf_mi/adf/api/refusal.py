"""Reads an answer other than success: who gave it, what it says, and what a user can do about it. Pure.

Azure Resource Manager (ARM) puts its reason into one object, `{"error": {"code", "message"}}`. An answer without that object
came from something on the way to ARM: a proxy, a gateway or a web filter.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any, Self
from urllib.parse import urlsplit

from airflow_adf_mi.adf.config.settings import FactoryRef, SubscriptionRef
from airflow_adf_mi.adf.redaction import redact, shown

MOST_READ = 4000
"""Characters of a page that are read: its title and first words. Pages of filters hold much style and script."""
MOST_QUOTED = 500
"""Characters of an answer that are quoted."""
LONGEST_RETRY_AFTER = 3600.0
"""Seconds. Limits of ARM and of Data Factory are counted by the hour at most."""
MISSING_ROLE = frozenset({"AuthorizationFailed", "LinkedAuthorizationFailed"})
"""Error codes of an identity that lacks a role. Other codes of status 403 have other causes."""
FRONT_DOOR = frozenset(
    {"ScopeLocked", "ReadOnlyDisabledSubscription", "MissingSubscriptionRegistration", "ResourceGroupBeingDeleted"}
)
"""Error codes by which ARM refuses a request before it asks Data Factory (Microsoft's documentation of ARM's errors)."""
GATEWAY = "gateway"
"""Value of the header `x-ms-failure-cause` where ARM refused by itself (recorded with a missing factory)."""
_POLICY = "RequestDisallowedByPolicy"
# No source names the codes: recognised by the words of Azure's services for it.
_PRIVATE = re.compile(r"public\s*network\s*access|private\s*(?:link|endpoint)", re.IGNORECASE)
LONGEST_WORD = 100
"""Characters of an error code or a request id that are kept."""
_ARM_HEADERS = ("x-ms-request-id", "x-ms-correlation-request-id", "x-ms-routing-request-id")


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """An answer other than success."""

    status: int
    said: str
    """Its message, or the words of its page; masked and cut."""
    code: str | None = None
    is_foreign: bool = False
    """It is not from ARM."""
    failure_cause: str | None = None
    request_id: str | None = None
    retry_after: float | None = None
    redirects_to: str | None = None
    """Host name of the address that the answer points to."""
    policies: tuple[str, ...] = ()
    """Names of the policies that forbid the request."""

    @property
    def is_private_only(self) -> bool:
        """Whether it says that requests over a public network are not accepted."""
        return self.status == 403 and _PRIVATE.search(f"{self.code} {self.said}") is not None

    @property
    def quote(self) -> str:
        """What was answered, as the end of an error text."""
        who = "The answer was" if self.is_foreign else "The service answered"
        said = self.said if self.said.endswith(".") else f"{self.said}."
        return f" {who} {self.status}{f' {self.code}' if self.code else ''}: {said}"

    @classmethod
    def read(cls, status: int, reason: str, headers: Mapping[str, str], text: str) -> Self:
        """From an HTTP answer. `reason` is quoted where the body says nothing."""
        has_arm_headers = any(name in headers for name in _ARM_HEADERS)
        error = _error_object(text, may_be_bare=has_arm_headers)
        message = error.get("message") if error else _words(text, headers.get("Content-Type") or "")
        is_from_arm = bool(error) or (not text.strip() and has_arm_headers)
        return cls(
            status=status,
            # Cut twice: what is searched for secrets is bounded, and so is what is shown.
            said=shown(str(message or reason)[:MOST_READ], MOST_QUOTED),
            code=_word(error.get("code")),
            is_foreign=not is_from_arm,
            failure_cause=_word(headers.get("x-ms-failure-cause")),
            request_id=_word(headers.get("x-ms-request-id")),
            retry_after=_seconds(headers.get("Retry-After")),
            redirects_to=_host(headers.get("Location")),
            policies=tuple(dict.fromkeys(_policies(error))),
        )

    def advice(self, target: FactoryRef | SubscriptionRef) -> str | None:
        """What forbids a request that no role permits, and what to do about it; None where that is not known."""
        match self.code:
            case "ScopeLocked":
                return (
                    "a lock on the factory, its resource group or its subscription forbids it. Remove that lock (az lock list, "
                    "az lock delete), or replace it by one of type CanNotDelete, which permits starts and cancels."
                )
            case "ReadOnlyDisabledSubscription":
                return (
                    f"subscription {target.subscription_id} is disabled and can only be read. Have its owner enable it again; "
                    "the Azure portal shows the reason under Subscriptions."
                )
            case "MissingSubscriptionRegistration":
                return (
                    f"subscription {target.subscription_id} is not registered for Data Factory. Register it: az provider "
                    f"register --namespace Microsoft.DataFactory --subscription {target.subscription_id}"
                )
            case "ResourceGroupBeingDeleted":
                return (
                    "the resource group is being deleted, with the factory in it. Use another factory, or deploy this one again "
                    "after the deletion."
                )
            case "RequestDisallowedByPolicy":
                named = f" ({', '.join(map(repr, self.policies))})" if self.policies else ""
                return f"Azure Policy forbids it{named}. Ask the owner of the policy for an exemption. A role does not help here."
        if self.is_private_only:
            return (
                "requests over a public network are not accepted here. Run workers and triggerers in a network from which the "
                "private endpoint is reached, and where its name resolves to the private address; or have public network "
                "access allowed. A role does not help here."
            )
        return None


def is_front_door(code: str | None, failure_cause: str | None) -> bool:
    """Whether ARM refused a request by itself, so that Data Factory was not asked, and nothing was done."""
    return code in FRONT_DOOR or (failure_cause or "").lower() == GATEWAY


def _error_object(text: str, *, may_be_bare: bool) -> Mapping[str, Any]:
    """ARM's error object in a body; empty where there is none.

    `may_be_bare`: resource providers may leave out the member `error` around it, as the official client accepts.
    """
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    error = body.get("error", body if may_be_bare else None) if isinstance(body, dict) else None
    return error if isinstance(error, dict) and isinstance(error.get("code"), str) else {}


def _policies(error: Mapping[str, Any]) -> Iterator[str]:
    """Names of policies, as ARM's error object holds them: as additional information, or as JSON in the message."""
    if error.get("code") != _POLICY:
        return
    listed = error.get("additionalInfo")
    for item in listed if isinstance(listed, list) else ():
        info = item.get("info") if isinstance(item, dict) else None
        if isinstance(info, dict):
            for kind in ("policyAssignment", "policyDefinition"):
                name = info.get(f"{kind}DisplayName") or info.get(f"{kind}Name")
                if isinstance(name, str) and name:
                    yield shown(name[:MOST_QUOTED], 100)
    message = str(error.get("message"))[:MOST_READ]
    for name in re.findall(r'"policy(?:Assignment|Definition)"\s*:\s*\{\s*"name"\s*:\s*"([^"]{1,100})"', message):
        yield redact(name)


class _Page(HTMLParser):
    """The words of a page: its title, and what a browser would show."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.words: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, _attributes: object) -> None:
        self._hidden += tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in ("script", "style") and self._hidden > 0

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.words += data.split()


def _words(text: str, content_type: str) -> str:
    """The first words of a body in one line, without markup."""
    start = text[:MOST_READ].strip()
    if "html" not in content_type.lower() and not start.startswith("<"):
        return " ".join(start.split())
    page = _Page()
    try:
        page.feed(start)
        page.close()
    except AssertionError:
        # Python's parser raises it for declarations that it does not know; what came before them is read.
        page.words.append("...")
    return " ".join(page.words)


def _word(value: object) -> str | None:
    """A code or an id, masked and cut: anything may stand there."""
    if not isinstance(value, str) or not value:
        return None
    return shown(value[:MOST_READ], LONGEST_WORD)


def _host(address: str | None) -> str | None:
    try:
        return urlsplit(address).hostname if address else None
    except ValueError:
        return None


def _seconds(header: str | None) -> float | None:
    """Seconds, `LONGEST_RETRY_AFTER` at most; the service sends numbers, never dates."""
    try:
        seconds = float(header) if header else math.nan
    except ValueError:
        return None
    return None if math.isnan(seconds) else min(max(0.0, seconds), LONGEST_RETRY_AFTER)

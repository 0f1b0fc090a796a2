"""Reads an answer that is not a success: who gave it, its message, and what a user can do. Pure.

Azure Resource Manager (ARM) gives its reason as `{"error": {"code", "message"}}`. An answer without that object
came from a station on the way to ARM: a proxy, a gateway or a web filter.
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

from airflow_adf_mi.adf.config.addresses import FactoryRef, SubscriptionRef
from airflow_adf_mi.adf.redaction import redact, shown

MOST_READ_CHARACTERS = 4000
"""Characters of a page that are read: its title and first words. Pages of web filters hold much style and script."""
MOST_QUOTED_CHARACTERS = 500
"""Characters of an answer that are quoted."""
LONGEST_RETRY_AFTER_SECONDS = 3600.0
"""A longer Retry-After is cut to this many seconds. ARM and Data Factory count requests in periods of at most an hour."""
MISSING_ROLE = frozenset({"AuthorizationFailed", "LinkedAuthorizationFailed"})
"""Error codes that mean that the identity lacks a role. Other codes of status 403 have other causes."""
FRONT_DOOR = frozenset(
    {
        "InvalidSubscriptionId",
        "MissingSubscriptionRegistration",
        "NoRegisteredProviderFound",
        "ReadOnlyDisabledSubscription",
        "RequestDisallowedByPolicy",
        "ResourceGroupBeingDeleted",
        "ResourceGroupNotFound",
        "ScopeLocked",
        "SubscriptionNotFound",
    }
)
"""Error codes by which ARM refuses a request before it asks Data Factory (Microsoft's documentation of ARM's errors)."""
GATEWAY = "gateway"
"""Value of the header `x-ms-failure-cause` if ARM itself refused (recorded with a missing factory)."""
_POLICY = "RequestDisallowedByPolicy"
# No source lists the error codes. So this pattern finds the words that Azure's services use.
_PRIVATE = re.compile(r"public\s*network\s*access|private\s*(?:link|endpoint)", re.IGNORECASE)
LONGEST_WORD_CHARACTERS = 100
"""Characters of an error code or a request id that are kept."""
_ARM_HEADERS = ("x-ms-request-id", "x-ms-correlation-request-id", "x-ms-routing-request-id")


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """An answer that is not a success."""

    status: int
    message: str
    """The error's message, or the words of the page. Masked and cut."""
    code: str | None = None
    is_foreign: bool = False
    """The answer is not from ARM."""
    failure_cause: str | None = None
    request_id: str | None = None
    retry_after: float | None = None
    redirects_to: str | None = None
    """Host name of the address that the answer redirects to."""
    policies: tuple[str, ...] = ()
    """Names of the policies that forbid the request."""

    @property
    def is_private_only(self) -> bool:
        """Whether the answer refuses requests over a public network."""
        return self.status == 403 and _PRIVATE.search(f"{self.code} {self.message}") is not None

    @property
    def quote(self) -> str:
        """The answer, quoted as the end of an error text."""
        who = "The answer was" if self.is_foreign else "The service answered"
        text = self.message if self.message.endswith(".") else f"{self.message}."
        return f" {who} {self.status}{f' {self.code}' if self.code else ''}: {text}"

    @classmethod
    def read(cls, status: int, reason: str, headers: Mapping[str, str], text: str) -> Self:
        """Read an HTTP answer. `reason` is quoted if the body has no message."""
        has_arm_headers = any(name in headers for name in _ARM_HEADERS)
        error = _error_object(text, may_be_bare=has_arm_headers)
        message = error.get("message") if error else _words(text, headers.get("Content-Type") or "")
        is_from_arm = bool(error) or (not text.strip() and has_arm_headers)
        return cls(
            status=status,
            # Cut twice: once before the search for secrets, to bound its time, and once for display.
            message=shown(str(message or reason)[:MOST_READ_CHARACTERS], MOST_QUOTED_CHARACTERS),
            code=_word(error.get("code")),
            is_foreign=not is_from_arm,
            failure_cause=_word(headers.get("x-ms-failure-cause")),
            request_id=_word(headers.get("x-ms-request-id")),
            retry_after=_seconds(headers.get("Retry-After")),
            redirects_to=_host(headers.get("Location")),
            policies=tuple(dict.fromkeys(_policies(error))),
        )

    def advice(self, target: FactoryRef | SubscriptionRef) -> str | None:
        """What forbids a request that no role permits, and what to do. None if that is not known."""
        match self.code:
            case "ScopeLocked":
                return (
                    "a lock on the factory, its resource group or its subscription forbids it. Remove the lock (az lock list, "
                    "az lock delete), or replace it by a lock of type CanNotDelete, which permits starts and cancels."
                )
            case "ReadOnlyDisabledSubscription":
                return (
                    f"subscription {target.subscription_id} is disabled and can only be read. Ask its owner to enable it again. "
                    "The Azure portal shows the reason under Subscriptions."
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
                "requests over a public network are not accepted here. Run workers and triggerers in a network that reaches the "
                "private endpoint and resolves its name to the private address, or allow public network access. A role does not "
                "help here."
            )
        return None


def is_front_door(code: str | None, failure_cause: str | None) -> bool:
    """Whether ARM itself refused a request. Then the request did not reach Data Factory, and nothing was done."""
    return code in FRONT_DOOR or (failure_cause or "").lower() == GATEWAY


def _error_object(text: str, *, may_be_bare: bool) -> Mapping[str, Any]:
    """ARM's error object in a body; empty if there is none.

    `may_be_bare`: accept an error object without the member `error` around it. Resource providers may send such an object, and
    the official client also accepts it.
    """
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    error = body.get("error", body if may_be_bare else None) if isinstance(body, dict) else None
    return error if isinstance(error, dict) and isinstance(error.get("code"), str) else {}


def _policies(error: Mapping[str, Any]) -> Iterator[str]:
    """Names of the policies in ARM's error object: from the additional information, or from JSON in the message."""
    if error.get("code") != _POLICY:
        return
    listed = error.get("additionalInfo")
    for item in listed if isinstance(listed, list) else ():
        info = item.get("info") if isinstance(item, dict) else None
        if isinstance(info, dict):
            for kind in ("policyAssignment", "policyDefinition"):
                name = info.get(f"{kind}DisplayName") or info.get(f"{kind}Name")
                if isinstance(name, str) and name:
                    yield shown(name[:MOST_QUOTED_CHARACTERS], 100)
    message = str(error.get("message"))[:MOST_READ_CHARACTERS]
    for name in re.findall(r'"policy(?:Assignment|Definition)"\s*:\s*\{\s*"name"\s*:\s*"([^"]{1,100})"', message):
        yield redact(name)


class _Page(HTMLParser):
    """The words of a page: its title and its visible text."""

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
    start = text[:MOST_READ_CHARACTERS].strip()
    if "html" not in content_type.lower() and not start.startswith("<"):
        return " ".join(start.split())
    page = _Page()
    try:
        page.feed(start)
        page.close()
    except AssertionError:
        # Python's parser raises this error for unknown declarations. The words before the declaration are used.
        page.words.append("...")
    return " ".join(page.words)


def _word(value: object) -> str | None:
    """A code or an id, masked and cut, because the answer may hold any text there."""
    if not isinstance(value, str) or not value:
        return None
    return shown(value[:MOST_READ_CHARACTERS], LONGEST_WORD_CHARACTERS)


def _host(address: str | None) -> str | None:
    try:
        return urlsplit(address).hostname if address else None
    except ValueError:
        return None


def _seconds(header: str | None) -> float | None:
    """Seconds, at most `LONGEST_RETRY_AFTER_SECONDS`. The service sends numbers, never dates."""
    try:
        seconds = float(header) if header else math.nan
    except ValueError:
        return None
    return None if math.isnan(seconds) else min(max(0.0, seconds), LONGEST_RETRY_AFTER_SECONDS)

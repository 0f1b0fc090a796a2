"""Finds the cause of a network failure in the errors of requests, urllib3, aiohttp and azure-core.

Error classes are recognized by name, so that their packages need not be imported. Every Dag file imports this module.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from airflow_adf_mi.adf.network.route import NOT_SENT, Route

# The TLS handshake comes before the request, and our own TLS context decides on the certificate.
_UNTRUSTED = frozenset({"ssl.SSLCertVerificationError"})
_REFUSED_BY_PROXY = re.compile(r"Tunnel connection failed: (?P<status>\d{3})\b")


def was_never_sent(error: BaseException) -> bool:
    """Whether the request provably did not leave this machine.

    The proof is valid only for requests that change something, because aiohttp repeats a read if a reused connection was dropped.
    """
    return any(NOT_SENT in getattr(e, "__notes__", ()) for e in inside(error))


def is_untrusted(error: BaseException) -> bool:
    """Whether the certificate of the endpoint or proxy was not accepted."""
    return is_any_of(error, _UNTRUSTED)


def refused_by_proxy(error: BaseException) -> int | None:
    """The HTTP status with which a proxy refused to connect to the address. None if no proxy refused."""
    for e in inside(error):
        if type(e).__qualname__ == "ClientHttpProxyError":
            return int(getattr(e, "status", 0))
        if isinstance(e, OSError) and (refused := _REFUSED_BY_PROXY.match(str(e))):
            return int(refused["status"])
    return None


def proxy_refusal(status: int, route: Route) -> str:
    """A text about a proxy's refusal to connect, and what to do. It continues a sentence, so it begins in lower case."""
    what = f"the proxy {route.proxy} refused to connect to {route.host} ({status}), so nothing was sent. "
    variable = route.proxy.variable if route.proxy else "the variable"
    if status == 407:
        fix = f"The proxy requires a user and a password: put them into {variable} (http://user:password@host:port)."
    else:
        fix = "Ask the proxy's administrator to permit this address."
    return f"{what}{fix} Or add {route.name} to NO_PROXY, if it can be reached without the proxy."


def certificate_refusal(route: Route) -> str:
    """A text about a certificate that was not accepted, and what to do."""
    through = f" (through the proxy {route.proxy})" if route.proxy else ""
    what = f"the certificate of {route.address}{through} is not trusted, so nothing was sent. "
    if not route.authorities:
        return (
            f"{what}Only the certificate whose SHA-1 is in IDENTITY_SERVER_THUMBPRINT is trusted. Check this variable, which "
            "Azure sets."
        )
    return (
        f"{what}Trusted authorities: {route.trusted}. If a proxy or a private endpoint has a certificate of its own "
        "authority, put the path of a PEM file with this authority into the connection's ca_bundle."
    )


def is_any_of(error: BaseException, kinds: frozenset[str]) -> bool:
    """Whether `error`, or an error inside it, has one of these class names."""
    return any(f"{type(e).__module__}.{type(e).__qualname__}" in kinds for e in inside(error))


def inside(error: BaseException) -> Iterator[BaseException]:
    """`error` and the errors inside it, as azure-core, requests and urllib3 wrap them."""
    pending, seen = [error], set[int]()
    while pending:
        current = pending.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        wrapped = (
            getattr(current, "inner_exception", None),
            getattr(current, "reason", None),
            current.__cause__,
            *current.args,
        )
        pending.extend(item for item in wrapped if isinstance(item, BaseException))

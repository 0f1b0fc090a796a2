"""How requests to an address travel: by which proxy, and trusting whose certificates. One decision for all who send.

The blocking client, the asynchronous one and the credentials use different libraries, whose rules for the environment differ.
So none of these libraries reads the environment: each is given a `Route`. Otherwise a worker starts a run by one way, and the
triggerer, which takes another, never sees it end.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from airflow_adf_mi.adf.config.settings import AdfSettings
from airflow_adf_mi.adf.network.authorities import Authority, authorities_in, tls_context
from airflow_adf_mi.adf.network.proxies import Proxy, proxy_for

NOT_SENT = "No connection was made, so the request was not sent."
"""The note on every error that is raised while a connection is made."""


@dataclass(frozen=True)
class Route:
    """The way to one address."""

    address: str
    proxy: Proxy | None
    authorities: tuple[Authority, ...] = ()
    """All of them are trusted; empty for an address without TLS."""

    @property
    def host(self) -> str:
        """Host and port, which may be named to anybody."""
        return urlsplit(self.address).netloc

    @property
    def name(self) -> str:
        """The host alone, as an entry of NO_PROXY."""
        return urlsplit(self.address).hostname or ""

    @property
    def trusted(self) -> str:
        """The authorities, for a text."""
        return " and ".join(str(authority) for authority in self.authorities)

    def tls_context(self) -> ssl.SSLContext | None:
        """What `authorities.tls_context` makes and raises; None for an address without TLS."""
        return tls_context(self.authorities) if self.authorities else None


def route_to_arm(settings: AdfSettings, environ: Mapping[str, str]) -> Route:
    """The way to the connection's ARM endpoint: its `ca_bundle` replaces all other authorities.

    Raises `AdfConfigurationError` for a proxy that cannot be used.
    """
    bundle = _bundle(settings.ca_bundle)
    return Route(settings.arm_endpoint, proxy_for(settings.arm_endpoint, environ), bundle or authorities_in(environ))


def route_to_tokens(address: str, environ: Mapping[str, str], ca_bundle: str | None) -> Route:
    """The way to an identity endpoint or the sign-in service: `ca_bundle` adds to the other authorities.

    A private ARM endpoint may have a certificate of its own authority while the sign-in service has a public one, or a proxy
    may open both. Raises `AdfConfigurationError` for a proxy that cannot be used.
    """
    has_tls = urlsplit(address).scheme == "https"
    return Route(
        address,
        proxy_for(address, environ),
        authorities_in(environ) + _bundle(ca_bundle) if has_tls else (),
    )


def _bundle(path: str | None) -> tuple[Authority, ...]:
    return (Authority("ca_bundle", path),) if path else ()


@contextmanager
def connecting() -> Iterator[None]:
    """Around the making of a connection, proxy and TLS included: an error in here proves that no request was sent.

    The libraries' error classes do not prove it. Some stand for both; and a proxy that hangs up, or is silent, looks like a
    service that does.
    """
    try:
        yield
    except Exception as e:
        e.add_note(NOT_SENT)
        raise

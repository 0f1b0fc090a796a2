"""The route of requests to an address: the proxy, and the trusted certificate authorities. One decision for all senders.

The blocking client, the asynchronous client and the credentials use different libraries. Each library reads proxy and
certificate variables by rules of its own. If the libraries decided for themselves, a worker could start a run through one proxy.
The triggerer, without that proxy, would never see the run end.

So none of these libraries reads the environment. Each gets a `Route`:

    connection + environment -> proxies, authorities -> Route -> requests        (worker, credentials)
                                                              -> aiohttp         (triggerer)

The route also answers the most important question after a failure: was the request sent? Every error that is raised inside
`connecting()` proves that the request was not sent, and carries the note `NOT_SENT`. After such an error, createRun may be sent
again.
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
"""The note of every error that is raised while a connection is made."""


@dataclass(frozen=True)
class Route:
    """The route to one address."""

    address: str
    proxy: Proxy | None
    authorities: tuple[Authority, ...] = ()
    """All these authorities are trusted. Empty for an address without TLS, or with a pinned certificate."""

    @property
    def host(self) -> str:
        """Host and port, which are never secret."""
        return urlsplit(self.address).netloc

    @property
    def name(self) -> str:
        """The host alone, as an entry of NO_PROXY."""
        return urlsplit(self.address).hostname or ""

    @property
    def trusted(self) -> str:
        """The authorities, for error texts."""
        return " and ".join(str(authority) for authority in self.authorities)

    def tls_context(self) -> ssl.SSLContext | None:
        """The TLS context that `authorities.tls_context` makes. Raises the same errors. None if there are no authorities."""
        return tls_context(self.authorities) if self.authorities else None


def route_to_arm(settings: AdfSettings, environ: Mapping[str, str]) -> Route:
    """The route to the connection's ARM endpoint. The connection's `ca_bundle` replaces all other authorities.

    Raises `AdfConfigurationError` for a proxy that cannot be used.
    """
    bundle = _bundle(settings.ca_bundle)
    return Route(settings.arm_endpoint, proxy_for(settings.arm_endpoint, environ), bundle or authorities_in(environ))


def route_to_tokens(address: str, environ: Mapping[str, str], ca_bundle: str | None) -> Route:
    """The route to an identity endpoint or the sign-in service. `ca_bundle` adds to the other authorities.

    A private ARM endpoint may have a private authority while the sign-in service has a public one. Or one proxy decrypts the
    traffic to both. Raises `AdfConfigurationError` for a proxy that cannot be used.
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
    """Context of making a connection, including proxy and TLS. An error inside proves that no request was sent.

    The libraries' error classes do not prove it: some are raised both before and after a request was sent. A proxy that closes
    the connection, or does not answer, raises the same error as a service that does so.
    """
    try:
        yield
    except Exception as e:
        e.add_note(NOT_SENT)
        raise

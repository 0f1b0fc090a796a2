"""How the clients' requests travel: timeouts, policies, sessions, certificates.

Azure's packages and aiohttp are imported inside the functions: this module is on the way of every Dag file.
"""

from __future__ import annotations

import contextlib
import importlib
import ssl
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from airflow_adf_mi.adf.errors import AdfConfigurationError

if TYPE_CHECKING:
    import aiohttp
    import requests
    from azure.core.exceptions import AzureError
    from azure.core.pipeline import PipelineResponse
    from azure.core.pipeline.policies import HTTPPolicy, SansIOHTTPPolicy
    from azure.core.pipeline.transport import RequestsTransport

    from airflow_adf_mi.adf.settings import AdfSettings

CONNECT_TIMEOUT = 5.0
"""Seconds to make a connection; azure-core waits 300."""
READ_TIMEOUT = 30.0
"""Seconds of silence while waiting for an answer; azure-core waits 300."""


def import_async_client() -> None:
    for module in (
        "aiohttp",
        "azure.core.pipeline.policies",
        "azure.core.pipeline.transport",
        "azure.mgmt.core.policies",
        "azure.mgmt.datafactory.aio",
    ):
        importlib.import_module(module)


class ServiceClock:
    """What the service's last answer told in its headers: its time, and how many reads are left in its limit."""

    def __init__(self) -> None:
        self._ahead: float | None = None
        """Of the monotonic clock: ours may be set meanwhile."""
        self.remaining_reads: int | None = None
        """Of the subscription, for this identity; None before an answer has told."""

    def now(self) -> float:
        """By its last answer; by our own clock before any answer has told."""
        return time.time() if self._ahead is None else time.monotonic() + self._ahead

    @property
    def is_known(self) -> bool:
        return self._ahead is not None

    def saw(self, answer: PipelineResponse[Any, Any]) -> None:
        """For azure-core, which shows every answer to it."""
        headers = answer.http_response.headers
        with contextlib.suppress(KeyError, TypeError, ValueError):
            self.remaining_reads = int(headers["x-ms-ratelimit-remaining-subscription-reads"])
        with contextlib.suppress(KeyError, OverflowError, TypeError, ValueError):
            self._ahead = parsedate_to_datetime(headers["Date"]).timestamp() - time.monotonic()


def policies(
    retry: Any, authentication: Any, clock: ServiceClock, *, proxies: dict[str, str] | None = None
) -> list[HTTPPolicy[Any, Any] | SansIOHTTPPolicy[Any, Any]]:
    from azure.core.pipeline import policies as azure

    return [
        azure.RequestIdPolicy(),
        azure.HeadersPolicy(),
        azure.UserAgentPolicy(base_user_agent=f"airflow-adf-mi/{version('airflow-adf-mi')}"),
        azure.ProxyPolicy(proxies=proxies),
        azure.ContentDecodePolicy(),
        retry,
        authentication,
        azure.CustomHookPolicy(raw_response_hook=clock.saw),
    ]


def blocking_transport(
    *,
    read_timeout: float,
    connect_timeout: float = CONNECT_TIMEOUT,
    verify: str | bool = True,
    on_status: Callable[[int], object] | None = None,
) -> RequestsTransport:
    """A transport for code that may block, with the environment's proxies and without its .netrc.

    `on_status` is told the HTTP status of every answer.
    """
    from azure.core.pipeline.transport import RequestsTransport

    transport = RequestsTransport(
        connection_timeout=connect_timeout, read_timeout=read_timeout, connection_verify=verify
    )
    transport.open()
    # Where there is none, requests puts what .netrc holds for the host in the place of our token.
    transport.session.auth = _leave_as_it_is
    if on_status is not None:

        def tell(answer: requests.Response, *_: object, **__: object) -> None:
            on_status(answer.status_code)

        transport.session.hooks["response"].append(tell)
    return transport


def _leave_as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def proxies_for(address: str) -> dict[str, str]:
    """The proxy that the environment names for an address, as azure-core takes it; empty for none."""
    url = urlsplit(address)
    proxy = getproxies().get(url.scheme)
    return {url.scheme: proxy} if proxy and not proxy_bypass(url.hostname or "") else {}


def token_of(refused: AzureError) -> str | None:
    """The token that the request carried, to whose answer azure-core has raised `refused`."""
    request = getattr(getattr(refused, "response", None), "request", None)
    header = getattr(request, "headers", {}).get("Authorization") or ""
    return header.removeprefix("Bearer ") or None


def open_session(context: ssl.SSLContext) -> aiohttp.ClientSession:
    """A session for the running loop, to be closed by the caller."""
    import aiohttp

    return aiohttp.ClientSession(
        # azure-core would build a TLS context for every request; a connector's own context is used for all.
        connector=aiohttp.TCPConnector(ssl=context),
        cookie_jar=aiohttp.DummyCookieJar(),
        # azure-core unpacks answers itself.
        auto_decompress=False,
        # Not for proxies only: it would take .netrc, too, and refuse to send that beside our token.
        trust_env=False,
    )


def checked_ca_bundle(settings: AdfSettings) -> str | None:
    """The path of the certificates to trust. Raises `AdfConfigurationError` if there are none in such a file here."""
    if settings.ca_bundle is None:
        return None
    if not Path(settings.ca_bundle).is_file():
        raise AdfConfigurationError(
            f"ca_bundle is {settings.ca_bundle!r}, and there is no such file on this machine. It must exist on workers and "
            "on the triggerer."
        )
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(settings.ca_bundle)
    except OSError as e:
        raise AdfConfigurationError(
            f"ca_bundle is {settings.ca_bundle!r}, from which no certificates could be read ({e}). It must be a PEM file of "
            "certificate authorities, readable for Airflow."
        ) from None
    return settings.ca_bundle

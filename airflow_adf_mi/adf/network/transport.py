"""The common parts of all requests: timeouts, policies, transports, and the reading of answers' headers.

Azure's packages and aiohttp are imported inside the functions, because every Dag file imports this module.
"""

from __future__ import annotations

import contextlib
import importlib
import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from airflow_adf_mi.adf.network.route import Route

if TYPE_CHECKING:
    import requests
    from azure.core.exceptions import AzureError
    from azure.core.pipeline import PipelineResponse
    from azure.core.pipeline.policies import HTTPPolicy, SansIOHTTPPolicy
    from azure.core.pipeline.transport import RequestsTransport

CONNECT_TIMEOUT = 5.0
"""Seconds to make a connection; azure-core waits 300."""
READ_TIMEOUT = 30.0
"""Seconds without data before an answer counts as lost; azure-core waits 300."""


def import_async_client() -> None:
    for module in (
        "airflow_adf_mi.adf.network.loop_session",
        "azure.core.pipeline.policies",
        "azure.core.pipeline.transport",
        "azure.mgmt.core.policies",
        "azure.mgmt.datafactory.aio",
    ):
        importlib.import_module(module)


class ServiceClock:
    """What the headers of the last answer report: the service's time, and how many reads are left in its limit."""

    def __init__(self) -> None:
        self._ahead: float | None = None
        """Seconds that the service's clock is ahead of the monotonic clock. The wall clock may be changed between two answers."""
        self.remaining_reads: int | None = None
        """Reads that are left for this identity in this subscription. None before the first answer that reports them."""

    def now(self) -> float:
        """The service's time, by its last answer. Before the first answer, our own time."""
        return time.time() if self._ahead is None else time.monotonic() + self._ahead

    @property
    def is_known(self) -> bool:
        return self._ahead is not None

    def saw(self, answer: PipelineResponse[Any, Any]) -> None:
        """Read the headers of an answer. azure-core calls this for every answer."""
        headers = answer.http_response.headers
        with contextlib.suppress(KeyError, TypeError, ValueError):
            self.remaining_reads = int(headers["x-ms-ratelimit-remaining-subscription-reads"])
        with contextlib.suppress(KeyError, OverflowError, TypeError, ValueError):
            self._ahead = parsedate_to_datetime(headers["Date"]).timestamp() - time.monotonic()


def policies(
    retry: Any, authentication: Any, clock: ServiceClock
) -> list[HTTPPolicy[Any, Any] | SansIOHTTPPolicy[Any, Any]]:
    from azure.core.pipeline import policies as azure

    return [
        azure.RequestIdPolicy(),
        azure.HeadersPolicy(),
        azure.UserAgentPolicy(base_user_agent=f"airflow-adf-mi/{version('airflow-adf-mi')}"),
        azure.ContentDecodePolicy(),
        retry,
        authentication,
        azure.CustomHookPolicy(raw_response_hook=clock.saw),
    ]


def blocking_transport(
    route: Route,
    *,
    read_timeout: float,
    connect_timeout: float = CONNECT_TIMEOUT,
    on_answer: Callable[[int, Mapping[str, str]], object] | None = None,
) -> RequestsTransport:
    """A transport for code that may block. Its requests follow `route`.

    `on_answer` is called with the HTTP status and the headers of every answer. Raises `AdfConfigurationError` if the route's
    authorities cannot be read.
    """
    from azure.core.pipeline.transport import RequestsTransport

    from airflow_adf_mi.adf.network.blocking_session import follow

    transport = RequestsTransport(connection_timeout=connect_timeout, read_timeout=read_timeout)
    transport.open()
    follow(transport.session, route)
    if on_answer is not None:

        def pass_on(answer: requests.Response, *_: object, **__: object) -> None:
            on_answer(answer.status_code, answer.headers)

        transport.session.hooks["response"].append(pass_on)
    return transport


def token_of(refused: AzureError) -> str | None:
    """The token of the request whose answer made azure-core raise `refused`."""
    request = getattr(getattr(refused, "response", None), "request", None)
    header = getattr(request, "headers", {}).get("Authorization") or ""
    return header.removeprefix("Bearer ") or None

"""How aiohttp follows a `Route`. Imported when a client is made: it is heavy."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import aiohttp

from airflow_adf_mi.adf.network.route import Route, connecting


class _Connector(aiohttp.TCPConnector):
    async def _create_connection(self, req: Any, traces: Any, timeout: Any) -> Any:
        # aiohttp waits without end for a proxy's answer to CONNECT. TCP, this answer and TLS may each take the whole time.
        patience = 3 * timeout.sock_connect if req.proxy and timeout.sock_connect else None
        with connecting():
            async with asyncio.timeout(patience):
                return await super()._create_connection(req, traces, timeout)


def open_session(route: Route, context: ssl.SSLContext) -> aiohttp.ClientSession:
    """A session for the running loop, to be closed by the caller. `context` is the route's: reading it takes files."""
    proxy = route.proxy
    has_user = proxy is not None and proxy.user is not None
    return aiohttp.ClientSession(
        # azure-core would build a TLS context for every request; a connector's own context is used for all.
        connector=_Connector(ssl=context),
        cookie_jar=aiohttp.DummyCookieJar(),
        # azure-core unpacks answers itself, and only what gzip has packed for certain.
        auto_decompress=False,
        headers={"Accept-Encoding": "gzip"},
        # Not for proxies only: it would take .netrc, too, and refuse to send that beside our token.
        trust_env=False,
        proxy=proxy.address if proxy else None,
        proxy_auth=aiohttp.BasicAuth(proxy.user or "", proxy.password, "utf-8") if proxy and has_user else None,
    )

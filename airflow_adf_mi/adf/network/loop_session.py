"""Makes aiohttp follow a `Route`. Imported only when a client is made, because aiohttp is slow to import."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import aiohttp

from airflow_adf_mi.adf.network.route import Route, connecting


class _Connector(aiohttp.TCPConnector):
    async def _create_connection(self, req: Any, traces: Any, timeout: Any) -> Any:
        # aiohttp itself has no limit for a proxy's answer to CONNECT. TCP, this answer and TLS may each take the whole timeout.
        patience = 3 * timeout.sock_connect if req.proxy and timeout.sock_connect else None
        with connecting():
            async with asyncio.timeout(patience):
                return await super()._create_connection(req, traces, timeout)


def open_session(route: Route, context: ssl.SSLContext) -> aiohttp.ClientSession:
    """A session for the running loop. The caller closes it. `context` is the route's TLS context. It is an argument, because
    making a TLS context reads files.
    """
    proxy = route.proxy
    has_user = proxy is not None and proxy.user is not None
    return aiohttp.ClientSession(
        # azure-core would make a TLS context for every request. The connector's context serves all requests.
        connector=_Connector(ssl=context),
        cookie_jar=aiohttp.DummyCookieJar(),
        # azure-core unpacks answers itself, and gzip is the only encoding that it certainly supports.
        auto_decompress=False,
        headers={"Accept-Encoding": "gzip"},
        # trust_env would also read .netrc, and aiohttp refuses to send an entry of .netrc together with our token.
        trust_env=False,
        proxy=proxy.address if proxy else None,
        proxy_auth=aiohttp.BasicAuth(proxy.user or "", proxy.password, "utf-8") if proxy and has_user else None,
    )

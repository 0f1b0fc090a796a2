"""Makes requests and urllib3 follow a `Route`. Imported only when a client is made, because both are slow to import."""

from __future__ import annotations

import ssl
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3 import PoolManager
from urllib3.connection import HTTPSConnection
from urllib3.connectionpool import HTTPSConnectionPool
from urllib3.util import Retry

from airflow_adf_mi.adf.network.route import Route, connecting


class _Connection(HTTPSConnection):
    def connect(self) -> None:
        with connecting():
            super().connect()


class _Pool(HTTPSConnectionPool):
    ConnectionCls = _Connection


class _Adapter(HTTPAdapter):
    """Uses one TLS context and one proxy. Ignores certifi and the environment."""

    def __init__(self, route: Route, context: ssl.SSLContext | None, retries: Retry) -> None:
        # HTTPAdapter's constructor calls init_poolmanager.
        self._route = route
        self._context = context
        super().__init__(max_retries=retries)

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, ssl_context=self._context, **options)
        _mark(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        contexts = {"ssl_context": self._context, "proxy_ssl_context": self._context}
        return _mark(super().proxy_manager_for(proxy, **contexts, **options))

    def proxy_headers(self, proxy: str) -> dict[str, str]:
        authorization = self._route.proxy.authorization if self._route.proxy else None
        return {"Proxy-Authorization": authorization} if authorization else {}

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        # The method of requests would add certifi's authorities to the context.
        conn.cert_reqs = "CERT_REQUIRED"


def _mark(manager: PoolManager) -> PoolManager:
    # A copy, because all managers of the process share one table.
    manager.pool_classes_by_scheme = {**manager.pool_classes_by_scheme, "https": _Pool}
    return manager


def follow(session: requests.Session, route: Route) -> None:
    """Make all requests of a session follow `route`. Raises the errors of `Route.tls_context`."""
    replaced = session.get_adapter("https://")
    retries = replaced.max_retries if isinstance(replaced, HTTPAdapter) else Retry(total=False)
    adapter = _Adapter(route, route.tls_context(), retries)
    for scheme in ("http://", "https://"):
        session.mount(scheme, adapter)
    # Ignore the environment's proxies, authorities and .netrc. An entry of .netrc for the host would replace our token.
    session.trust_env = False
    if route.proxy is not None:
        session.proxies = {"http": route.proxy.address, "https": route.proxy.address}

"""One async client per event loop and connection settings, for as long as anybody uses it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from airflow_adf_mi.adf.api.client import AsyncAdfClient
from airflow_adf_mi.adf.config.settings import AdfSettings
from airflow_adf_mi.adf.event_loop import PerLoop, start_detached


@dataclass
class _Shared:
    opening: asyncio.Task[AsyncAdfClient]
    users: int = 0


_clients = PerLoop(dict[AdfSettings, _Shared])
_closing: set[asyncio.Task[None]] = set()


@asynccontextmanager
async def shared_client(settings: AdfSettings) -> AsyncIterator[AsyncAdfClient]:
    """The running loop's client for `settings`; opened with its first user and closed after its last.

    A thousand triggers so share one session, its connections and its TLS context.
    """
    clients = _clients.here()
    shared = clients.get(settings)
    if shared is None:
        # Detached, so that it outlives and never logs as the trigger that happened to come first.
        shared = clients[settings] = _Shared(start_detached(AsyncAdfClient.open(settings)))
    shared.users += 1
    try:
        # Shielded: a user that is cancelled while the client opens disturbs no other.
        yield await asyncio.shield(shared.opening)
    finally:
        shared.users -= 1
        if shared.users == 0:
            del clients[settings]
            closing = start_detached(_close(shared.opening))
            _closing.add(closing)
            closing.add_done_callback(_closing.discard)


async def _close(opening: asyncio.Task[AsyncAdfClient]) -> None:
    try:
        client = await opening
    except Exception:  # noqa: BLE001  its users have been told by their own await
        return
    await client.close()

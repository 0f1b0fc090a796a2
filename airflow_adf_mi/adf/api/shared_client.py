"""One async client for each event loop and connection settings, open as long as it has users."""

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
    """The running loop's client for `settings`. It is opened for the first user, and closed after the last user.

    So a thousand triggers share one session, its connections and its TLS context.
    """
    clients = _clients.here()
    shared = clients.get(settings)
    if shared is None:
        # Detached, so that it outlives the trigger that came first, and does not log as that trigger.
        shared = clients[settings] = _Shared(start_detached(AsyncAdfClient.open(settings)))
    shared.users += 1
    try:
        # Shielded, so that a user that is cancelled while the client opens does not disturb other users.
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
    except Exception:  # noqa: BLE001  each user already got this error from its own await
        return
    await client.close()

"""Both clients, and calls for them."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from typing import Any

from airflow_adf_mi.adf.api import operations
from airflow_adf_mi.adf.api.client import AdfClient, AsyncAdfClient
from airflow_adf_mi.adf.config.settings import AdfSettings
from airflow_adf_mi.adf.errors import AdfAuthenticationError

Send = Callable[[operations.Call[Any]], Any]


def sender(kind: str, settings: AdfSettings) -> Send:
    """A function that sends a call through a client opened for it."""

    def blocking(call: operations.Call[Any]) -> Any:
        with AdfClient(settings) as client:
            return client.send(call)

    async def on_loop(call: operations.Call[Any]) -> Any:
        async with await AsyncAdfClient.open(settings) as client:
            for _ in range(6):
                try:
                    return await client.send(call)
                except AdfAuthenticationError as e:
                    # On a busy machine, a token may take longer than a status check waits for it.
                    if not str(e).endswith("The request for it continues."):
                        raise
            return await client.send(call)

    return blocking if kind == "sync" else lambda call: asyncio.run(on_loop(call))


def create(settings: AdfSettings, pipeline: str = "Load", **parameters: Any) -> operations.Call[str]:
    return operations.create_run(settings.factory(), pipeline, parameters, request_id=str(uuid.uuid4()))

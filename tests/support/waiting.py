"""Waits for what happens in another thread, which gives no signal."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

PATIENCE = 120.0
"""Seconds. What is waited for takes milliseconds, but a busy machine may be slow."""


async def until(is_true: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not is_true():  # noqa: ASYNC110  see above
            await asyncio.sleep(0.01)

"""The request limits of ARM and the identity endpoint: token buckets, enforced only on demand.

The sizes are Microsoft's documented ones (2024): for ARM per subscription and principal, for the identity endpoint per machine.
No source shows the code of ARM's own 429. `TooManyRequests` is the emulator's choice.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from airflow_adf_mi.emulator.errors import ServiceError


@dataclass(frozen=True)
class Rate:
    """The size of a bucket, and its refill in each second."""

    burst: int
    per_second: float


READS = Rate(250, 25.0)
WRITES = Rate(200, 10.0)
IDENTITY = Rate(20, 20.0)


class Limits:
    """The buckets. While the limits are not enforced, all requests pass and each bucket stays full.

    :param now: epoch seconds.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.enforced = False
        self._buckets: dict[tuple[str, Rate], tuple[float, float]] = {}

    def take(self, who: str, rate: Rate) -> int:
        """Count a request of `who`. Returns how many are left. Raises `ServiceError` 429 with Retry-After (whole seconds)."""
        if not self.enforced:
            return rate.burst - 1
        now = self._now()
        level, since = self._buckets.get((who, rate), (float(rate.burst), now))
        level = min(float(rate.burst), level + (now - since) * rate.per_second)
        if level < 1:
            self._buckets[who, rate] = level, now
            raise ServiceError(
                429,
                "TooManyRequests",
                "The number of requests has exceeded the limit. Please try again later.",
                headers={"Retry-After": str(math.ceil((1 - level) / rate.per_second))},
            )
        self._buckets[who, rate] = level - 1, now
        return int(level - 1)

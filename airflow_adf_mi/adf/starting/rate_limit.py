"""How fast starts may leave a process. Pure.

The service lets one principal make 200 writes to a subscription at once and 10 a second from then on (Microsoft's
documentation of Azure Resource Manager's limits); cancels count as well, and other processes share the limit.
"""

from __future__ import annotations

from dataclasses import dataclass

BURST_STARTS = 100
STARTS_PER_SECOND = 8.0


@dataclass
class TokenBucket:
    """A bucket of `burst` starts that fills at `per_second`."""

    burst: int = BURST_STARTS
    per_second: float = STARTS_PER_SECOND
    _empty_until: float = 0.0
    """When the bucket would be full again, if nothing more was taken."""
    _held_until: float = 0.0

    def reserve(self, now: float) -> float:
        """Take one start: seconds to wait before it may leave."""
        self._empty_until = max(self._empty_until, now) + 1 / self.per_second
        return max(0.0, self._empty_until - now - self.burst / self.per_second)

    def hold(self, until: float) -> None:
        """The service has turned a start away: nothing more leaves until then, and then no burst."""
        self._held_until = max(self._held_until, until)
        self._empty_until = max(self._empty_until, until + (self.burst - 1) / self.per_second)

    def held(self, now: float) -> float:
        """Seconds for which nothing may leave, whatever was reserved before."""
        return max(0.0, self._held_until - now)

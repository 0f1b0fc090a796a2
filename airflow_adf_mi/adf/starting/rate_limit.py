"""How fast a process may send starts. Pure.

The service lets one principal send 200 writes to a subscription at once, and 10 a second after that (Microsoft's documentation
of Azure Resource Manager's limits). Cancels count too, and other processes share the limit.
"""

from __future__ import annotations

from dataclasses import dataclass

BURST_STARTS = 100
STARTS_PER_SECOND = 8.0


@dataclass
class TokenBucket:
    """A token bucket of `burst` starts that fills at `per_second`."""

    burst: int = BURST_STARTS
    per_second: float = STARTS_PER_SECOND
    _empty_until: float = 0.0
    """When the bucket will be full again, if no more starts are taken."""
    _held_until: float = 0.0

    def reserve(self, now: float) -> float:
        """Take one start from the bucket. Returns the seconds to wait before the start may be sent."""
        self._empty_until = max(self._empty_until, now) + 1 / self.per_second
        return max(0.0, self._empty_until - now - self.burst / self.per_second)

    def hold(self, until: float) -> None:
        """The service has throttled a start: send nothing until `until`, and no burst after that."""
        self._held_until = max(self._held_until, until)
        self._empty_until = max(self._empty_until, until + (self.burst - 1) / self.per_second)

    def held(self, now: float) -> float:
        """Seconds for which no start may be sent, even if it was reserved before."""
        return max(0.0, self._held_until - now)

"""How many requests a report about a run may send, and for how long."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_adf_mi.adf.timing import Timing


@dataclass(kw_only=True)
class RequestBudget:
    """The requests of one report, and what the report could not find out."""

    name: str
    """What sends the requests, for texts: "an explanation"."""
    most: int
    """The most requests."""
    seconds: float
    """Seconds after which no further request is sent."""
    timing: Timing
    missing: str | None = None
    """The first reason why a part is missing; None if nothing is missing."""

    def __post_init__(self) -> None:
        self._left = self.most
        self._until = self.timing.clock() + self.seconds

    def may_send(self) -> bool:
        """Whether one more request may be sent, which is then counted. If not, records why."""
        if self._left <= 0:
            self.record(f"{self.name} sends no more than {self.most} requests")
        elif self.timing.clock() > self._until:
            self.record(f"the service took longer than {self.seconds:.0f} s")
        else:
            self._left -= 1
            return True
        return False

    def record(self, why: object) -> None:
        """Record why a part is missing. The first reason is kept; None is no reason."""
        if self.missing is None and why is not None:
            self.missing = str(why)

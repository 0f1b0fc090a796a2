"""Scripted faults: for which requests, what happens, how often, and how often it has happened."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self

from airflow_adf_mi.emulator.gateway.routes import NAMES

_OPERATIONS = NAMES | {"token", "*"}


@dataclass(kw_only=True)
class Fault:
    """What happens to matching requests, instead of the operation or after it.

    A request matches by `operation` as in the books ("*" is any but token), and by `pipeline`, `run_id`, `client_request_id` if
    given. For `operation="token"`, `identity` is the requested client id, object id or resource id.
    """

    operation: str
    pipeline: str | None = None
    run_id: str | None = None
    client_request_id: str | None = None
    identity: str | None = None
    times: int | None = 1
    """How many requests; None means all."""
    seconds: float | None = None
    """How long the fault is active after it was added; None means always."""
    effect: Literal["before", "after"] = "before"
    """`before`: the operation does not happen. `after`: it happens, and its answer is lost."""
    status: int | None = None
    code: str = "InternalServerError"
    message: str = "The emulator was told to fail."
    headers: Mapping[str, str] = field(default_factory=dict)
    text: str | None = None
    """The whole body, without the service's headers: by default a gateway's page of HTML. `headers` may set another type."""
    drop: bool = False
    """Close the connection without an answer."""
    hang_seconds: float = 0.0
    """Real seconds without an answer. After them, the proper answer follows, unless `status` or `drop` is set."""
    unlisted: bool = False
    """For createRun only: queryPipelineRuns never shows the run that is started. Other operations show it, and its child runs and
    newer runs are listed. Users reported runs that were missing in lists for hours. That a single run is missing while newer runs
    are listed is an assumption."""
    id: int = 0
    consumed: int = 0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        return cls(**document)


class Faults:
    """The active faults, and how often each has happened."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._numbers = itertools.count(1)
        self._faults: list[tuple[float, Fault]] = []

    def add(self, fault: Fault) -> int:
        """Add a fault. Returns its id. Raises `ValueError` for a fault that could never happen, or would do nothing."""
        if fault.operation not in _OPERATIONS:
            raise ValueError(f"no operation {fault.operation!r}; there are {', '.join(sorted(_OPERATIONS))}")
        if fault.effect not in ("before", "after"):
            raise ValueError(f"no effect {fault.effect!r}; there are before and after")
        if fault.identity is not None and fault.operation != "token":
            raise ValueError("identity is matched for operation token only")
        if fault.unlisted and fault.operation != "createRun":
            raise ValueError("unlisted is for operation createRun only")
        if fault.unlisted and fault.effect == "before" and (fault.status is not None or fault.drop):
            raise ValueError("unlisted has no effect, because no run is started; give effect='after'")
        if fault.status is None and not fault.drop and fault.hang_seconds <= 0 and not fault.unlisted:
            raise ValueError("the fault does nothing: give status, drop, hang_seconds or unlisted")
        fault.id = next(self._numbers)
        self._faults.append((self._now(), fault))
        return fault.id

    def take(self, operation: str, **request: str | None) -> Fault | None:
        """The first fault that matches a request. The call counts as one use of the fault."""
        for added, fault in self._faults:
            if fault.operation != operation and (fault.operation != "*" or operation == "token"):
                continue
            if fault.times is not None and fault.consumed >= fault.times:
                continue
            if fault.seconds is not None and self._now() - added > fault.seconds:
                continue
            if all(_matches(getattr(fault, name), value) for name, value in request.items()):
                fault.consumed += 1
                return fault
        return None

    def all(self) -> list[Fault]:
        return [fault for _, fault in self._faults]

    def unconsumed(self) -> list[Fault]:
        """Faults that have not happened as often as scripted. A fault without a number must have happened once."""
        return [fault for fault in self.all() if fault.consumed < (fault.times or 1)]

    def clear(self) -> None:
        self._faults.clear()


def _matches(wanted: str | None, got: str | None) -> bool:
    return wanted is None or (got is not None and wanted.lower() == got.lower())

"""Scripted faults: which request, what happens to it, how often; and whether it ever did."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self

from airflow_adf_mi.emulator.gateway.routes import NAMES

_OPERATIONS = NAMES | {"token", "*"}


@dataclass(kw_only=True)
class Fault:
    """What happens to matching requests instead of, or after, what they ask for.

    Matching: `operation` as in the books ("*" is any but token), and `pipeline`, `run_id`, `client_request_id` where
    given. For `operation="token"`, `identity` is the client id, object id or resource id asked for.
    """

    operation: str
    pipeline: str | None = None
    run_id: str | None = None
    client_request_id: str | None = None
    identity: str | None = None
    times: int | None = 1
    """How many requests; None is all of them."""
    seconds: float | None = None
    """Active for this long after it was added; None is for ever."""
    effect: Literal["before", "after"] = "before"
    """Whether the operation does not happen, or happens and its answer is lost."""
    status: int | None = None
    code: str = "InternalServerError"
    message: str = "The emulator was told to fail."
    headers: Mapping[str, str] = field(default_factory=dict)
    text: str | None = None
    """The body as it is, without the service's headers: a gateway's page of HTML, or what `headers` says it is."""
    drop: bool = False
    """Close the connection without an answer."""
    hang_seconds: float = 0.0
    """Real seconds of silence first; without `status` and `drop`, the proper answer follows."""
    id: int = 0
    consumed: int = 0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        return cls(**document)


class Faults:
    """The faults that are active, and the account of them."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._numbers = itertools.count(1)
        self._faults: list[tuple[float, Fault]] = []

    def add(self, fault: Fault) -> int:
        """Make it active; its id. Raises `ValueError` for one that could never strike, or that would do nothing."""
        if fault.operation not in _OPERATIONS:
            raise ValueError(f"no operation {fault.operation!r}; there are {', '.join(sorted(_OPERATIONS))}")
        if fault.effect not in ("before", "after"):
            raise ValueError(f"no effect {fault.effect!r}; there are before and after")
        if fault.identity is not None and fault.operation != "token":
            raise ValueError("identity is matched for operation token only")
        if fault.status is None and not fault.drop and fault.hang_seconds <= 0:
            raise ValueError("the fault does nothing: give status, drop or hang_seconds")
        fault.id = next(self._numbers)
        self._faults.append((self._now(), fault))
        return fault.id

    def take(self, operation: str, **request: str | None) -> Fault | None:
        """The fault for a request, which is thereby consumed once; the first that was added counts."""
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
        """Faults that did not happen as often as they were told to; of those without a number, at all."""
        return [fault for fault in self.all() if fault.consumed < (fault.times or 1)]

    def clear(self) -> None:
        self._faults.clear()


def _matches(wanted: str | None, got: str | None) -> bool:
    return wanted is None or (got is not None and wanted.lower() == got.lower())

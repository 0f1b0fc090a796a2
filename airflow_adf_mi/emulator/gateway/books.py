"""Records all requests to the emulator and its answers, but no token and no header that may hold one."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(kw_only=True)
class RequestRecord:
    """A request to ARM. It is recorded when it is answered."""

    time: float
    """The time of the request, by the emulator's clock."""
    operation: str
    """`unknown` for an operation that is not emulated."""
    method: str
    path: str
    status: int = 0
    """0 for a connection that was dropped."""
    dropped: bool = False
    client_id: str | None = None
    """The identity of the token. None if the token was not accepted."""
    object_id: str | None = None
    client_request_id: str | None = None
    pipeline: str | None = None
    run_id: str | None = None
    """The run of the request. For createRun, the run that was created, even if the answer was lost."""
    full_queue: bool = False
    """Whether a start was refused because the queue of its pipeline was full, even if the answer was lost."""
    fault: int | None = None
    """The id of the fault that happened."""
    user_agent: str | None = None


@dataclass(kw_only=True)
class TokenRecord:
    """A request for a token. It is recorded when it arrives."""

    time: float
    source: str
    named_by: str | None
    """client_id, object_id or resource_id; None for the system-assigned identity."""
    name: str | None
    status: int | None = None
    """0 for a dropped connection. None if the request is not answered yet."""
    resource: str | None = None
    client_id: str | None = None
    """The identity that got a token."""
    fault: int | None = None


@dataclass
class Books:
    """The records, oldest first."""

    requests: list[RequestRecord] = field(default_factory=list)
    tokens: list[TokenRecord] = field(default_factory=list)

    def of(self, operation: str | None = None, **members: Any) -> list[RequestRecord]:
        """The requests for an operation with these members."""
        return [
            record
            for record in self.requests
            if (operation is None or record.operation == operation)
            and all(getattr(record, name) == value for name, value in members.items())
        ]

    def count(self, operation: str | None = None, **members: Any) -> int:
        return len(self.of(operation, **members))

    def to_json(self) -> dict[str, Any]:
        return {"requests": [asdict(r) for r in self.requests], "tokens": [asdict(t) for t in self.tokens]}

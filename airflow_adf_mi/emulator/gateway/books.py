"""What was asked of the emulator, and how it answered. Never a token or a header that may hold one."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(kw_only=True)
class RequestRecord:
    """A request to ARM; entered once it is answered."""

    time: float
    """When it came, by the emulator's clock."""
    operation: str
    """`unknown` for one that is not emulated."""
    method: str
    path: str
    status: int = 0
    """0 for a connection that was dropped."""
    dropped: bool = False
    client_id: str | None = None
    """Of the identity whose token came along; None where the token was not accepted."""
    object_id: str | None = None
    client_request_id: str | None = None
    pipeline: str | None = None
    run_id: str | None = None
    """The run asked about; of createRun, the run that was created, even if the answer was lost."""
    fault: int | None = None
    """The id of the fault that struck."""
    user_agent: str | None = None


@dataclass(kw_only=True)
class TokenRecord:
    """A request for a token; entered when it comes."""

    time: float
    source: str
    named_by: str | None
    """client_id, object_id or resource_id; None for the system-assigned identity."""
    name: str | None
    status: int | None = None
    """0 for a connection that was dropped; None for one that is not answered yet."""
    resource: str | None = None
    client_id: str | None = None
    """Of the identity that got a token."""
    fault: int | None = None


@dataclass
class Books:
    """The records, oldest first."""

    requests: list[RequestRecord] = field(default_factory=list)
    tokens: list[TokenRecord] = field(default_factory=list)

    def of(self, operation: str | None = None, **members: Any) -> list[RequestRecord]:
        """The requests of an operation with these members."""
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

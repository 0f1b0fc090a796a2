"""A factory on a virtual clock, whose list lags, forgets and fails, for the rules of waiting."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from airflow_adf_mi.adf.errors import AdfError, AdfNotFoundError
from airflow_adf_mi.adf.models import PipelineRun
from airflow_adf_mi.adf.waiting.run_list import ListQuery


def seen(run_id: str, status: str, updated: float) -> PipelineRun:
    moment = datetime.fromtimestamp(updated, UTC).isoformat()
    return PipelineRun.from_wire({"runId": run_id, "pipelineName": "Load", "status": status, "lastUpdated": moment})


@dataclass
class Factory:
    """Runs that end at known times, a list that shows their ends later or never, and requests that may fail."""

    ahead: float = 0.0
    """Seconds by which the service's clock is ahead of ours."""
    lag: float = 0.0
    frozen: bool = False
    hidden: set[str] = field(default_factory=set)
    """Runs that the list never shows."""
    fails: Any = lambda _now: None
    """Our time -> the error that every request gets, or None."""
    list_fails: Any = lambda _now: None
    """The same, for list queries only."""
    ends: dict[str, float] = field(default_factory=dict)
    """Run -> our time of its end."""
    foreign: list[float] = field(default_factory=list)
    """Ends of other people's runs, in order."""
    now: float = 1_000_000.0
    lists: int = 0
    polls: int = 0
    pages: int = 0
    log: list[float] = field(default_factory=list)

    def answer_poll(self, run_id: str) -> PipelineRun | AdfError:
        self.polls += 1
        self.log.append(self.now)
        error = self.fails(self.now)
        if error is not None:
            return error  # type: ignore[no-any-return]
        if run_id not in self.ends:
            return AdfNotFoundError("404", status=404)
        ended = self.ends[run_id] <= self.now
        updated = (self.ends[run_id] if ended else self.now) + self.ahead
        return seen(run_id, "Succeeded" if ended else "InProgress", updated)

    def answer_list(self, query: ListQuery) -> list[PipelineRun] | AdfError:
        self.lists += 1
        error = self.fails(self.now) or self.list_fails(self.now)
        if error is not None:
            self.log.append(self.now)
            return error  # type: ignore[no-any-return]
        shown_until = float("-inf") if self.frozen else self.now - self.lag
        shown = [
            seen(run_id, "Succeeded", end + self.ahead)
            for run_id, end in self.ends.items()
            if end <= shown_until and run_id not in self.hidden and query.after <= end + self.ahead <= query.before
        ]
        others = [
            seen(f"foreign-{n}", "Failed", end + self.ahead)
            for n, end in enumerate(self.foreign)
            if end <= shown_until and query.after <= end + self.ahead <= query.before
        ]
        pages = max(1, -(-(len(shown) + len(others)) // 100))
        self.pages += pages
        self.log += [self.now] * pages
        return shown + others

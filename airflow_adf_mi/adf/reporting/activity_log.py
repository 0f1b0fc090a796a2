"""The activity log: what a run's activities do, as lines of the task's log, without any effect on the wait.

The log may cost at most one query per run and minute, and one query at the end, with several pages if there are many
activities. All activity logs of a process together may use a tenth of the service's limit for a factory. No failure of the log
reaches the wait.

A page of logs shows about 150 columns. So a line begins with the activity and its cause, and a long line is broken. The run id
has 36 letters, so it appears once, in the last line.
"""

from __future__ import annotations

import asyncio
import logging
import textwrap
from collections import deque
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Literal, TypeVar

from airflow_adf_mi.adf.api.operations import Page, query_activity_runs
from airflow_adf_mi.adf.api.paging import Pages
from airflow_adf_mi.adf.config.addresses import FactoryRef
from airflow_adf_mi.adf.errors import AdfConfigurationError, AdfError
from airflow_adf_mi.adf.models import ActivityRun, PipelineRun, RunStatus
from airflow_adf_mi.adf.redaction import cap
from airflow_adf_mi.adf.reporting.consumption import Consumed, consumption_of
from airflow_adf_mi.adf.retrying import is_refusal
from airflow_adf_mi.adf.routines import Pause, Routine, SendsAsync, run_routine_async
from airflow_adf_mi.adf.times import moment, read_number, run_window
from airflow_adf_mi.adf.timing import Timing
from airflow_adf_mi.adf.waiting.single_run import Ended, in_words

T = TypeVar("T")

log = logging.getLogger(__name__)

ActivityLogMode = Literal["live", "summary", "off"]
MODES: tuple[ActivityLogMode, ...] = ("live", "summary", "off")
QUERY_INTERVAL_SECONDS = 60.0
"""Seconds between two queries about one run."""
QUERIES_PER_MINUTE = 100
"""This process sends at most this many queries a minute about all runs of a factory. The service allows 1000 monitoring queries
a minute, ten times as many (Microsoft's documentation, 2024)."""
QUERY_OVERLAP_SECONDS = 120.0
"""Seconds by which a query overlaps the previous query, because the list may lag."""
LEAST_SECONDS_LEFT = 35.0
"""No query is sent in this many seconds before the deadline, because a query without an answer would delay the deadline."""
DUE_CHECK_SECONDS = 5.0
"""Seconds between two checks, on an event loop, whether a query is due."""
SUMMARY_PAGES = 5
"""The query at the end reads at most this many pages."""
MOST_LINES_PER_QUERY = 50
"""One query logs at most this many lines. If more rows have changed, each activity gets one line with a count."""
LINE_COLUMNS = 140
"""A line has at most this many columns."""


def check_mode(mode: object) -> ActivityLogMode:
    """The mode, checked. Raises `AdfConfigurationError`."""
    for known in MODES:
        if mode == known:
            return known
    raise AdfConfigurationError(f"activity_log is {mode!r}; it must be 'live', 'summary' or 'off'.")


class Budget:
    """The number of queries in the last minute, by factory."""

    def __init__(self, per_minute: int = QUERIES_PER_MINUTE) -> None:
        self._per_minute = per_minute
        self._taken: dict[FactoryRef, deque[float]] = {}

    def take(self, factory: FactoryRef, now: float) -> bool:
        """Whether one more query is allowed. If so, the query is counted."""
        taken = self._taken.setdefault(factory, deque())
        while taken and taken[0] <= now - 60:
            taken.popleft()
        if len(taken) >= self._per_minute:
            return False
        taken.append(now)
        return True


_budget = Budget()


@dataclass
class ActivityLog:
    """The activity log of one wait."""

    factory: FactoryRef
    run_id: str
    mode: ActivityLogMode
    timing: Timing
    deadline: float | None = None
    budget: Budget = field(default_factory=lambda: _budget)
    run: PipelineRun | None = None
    rows: dict[str, ActivityRun] = field(default_factory=dict)
    """The last known state of each attempt of an activity, by its id."""
    queried_at: float | None = None
    refused: bool = False
    is_complete: bool = False
    """Whether the last query has read all rows of its list."""
    consumption: tuple[Consumed, ...] | None = None
    """What the activities consumed. None before the run's end, and if not all activities were read."""

    def beside(self, wait: Routine[T]) -> Routine[T]:
        """The routine `wait`, with queries in its pauses, and a query at its end."""
        answer: Any = None
        while True:
            try:
                step = wait.send(answer)
            except StopIteration as end:
                outcome = end.value
                break
            if isinstance(step, Pause):
                yield from self.query_if_due()
            answer = yield step
            if isinstance(answer, PipelineRun):
                self.run = answer
        yield from self.at_end(outcome)
        return outcome  # type: ignore[no-any-return]  # StopIteration does not carry the generator's type

    def query_if_due(self) -> Routine[None]:
        """In live mode, once a minute: log what has changed."""
        if self._is_due():
            yield from self._harmless(self._log_changes())

    def at_end(self, outcome: object) -> Routine[None]:
        """After the run has ended: log its activities and its result."""
        if self.mode != "off" and isinstance(outcome, Ended):
            yield from self._harmless(self._sum_up(outcome.run))

    def _harmless(self, logging_it: Routine[None]) -> Routine[None]:
        try:
            yield from logging_it
        except Exception as e:  # noqa: BLE001  the log must not end the wait, whatever an activity's output is
            log.warning("The run's activities could not be logged. %s: %s", type(e).__name__, e)

    def _is_due(self) -> bool:
        now = self.timing.clock()
        if (
            self.mode != "live"
            or self.refused
            or (self.deadline is not None and self.deadline - now < LEAST_SECONDS_LEFT)
        ):
            return False
        if self.queried_at is not None and now - self.queried_at < QUERY_INTERVAL_SECONDS:
            return False
        return self.budget.take(self.factory, now)

    def _log_changes(self) -> Routine[None]:
        """Log what has changed."""
        seen = yield from self._list_activities(pages=1, since=self.queried_at)
        self._log_rows(self._changed(seen))

    def _sum_up(self, run: PipelineRun) -> Routine[None]:
        self.run = run
        if self.refused:
            return
        if not self.budget.take(self.factory, self.timing.clock()):
            log.info(
                "The activities of run %s are not listed, because the log has queried too many runs in the last minute.",
                self.run_id,
            )
            return
        seen = yield from self._list_activities(pages=SUMMARY_PAGES, since=None)
        changed = self._changed(seen)
        if not self.rows:
            return
        self._add_up()
        if self.mode == "live":
            self._log_rows(changed)
        if self.mode == "summary":
            for line in by_activity(self.rows.values()):
                log.info("%s", _broken(line))
        log.info("Run %s %s: %s", self.run_id, in_words(run.status), total(self.rows.values(), run.duration_seconds))

    def _add_up(self) -> None:
        """Add up what the activities consumed. A sum of some of them would be a wrong number, so it is not made."""
        if not self.is_complete or any(row.status in RunStatus.UNFINISHED for row in self.rows.values()):
            log.info(
                "What the run consumed is not known, because the list does not show the end of all its activities."
            )
            return
        found = consumption_of(self.rows.values())
        self.consumption = found.meters
        if found.left_out:
            log.info(
                "What the run consumed is not complete: %d entries of billingReference cannot be read, such as one of activity "
                "%r.",
                found.left_out,
                found.left_out_of,
            )

    def _list_activities(self, *, pages: int, since: float | None) -> Routine[list[ActivityRun]]:
        """The rows that the service lists; none if it does not answer."""
        now = self.timing.clock()
        self.queried_at = now
        self.is_complete = False
        after, before = run_window(self.run.started_at if self.run else None, now)
        after = after if since is None else moment(since - QUERY_OVERLAP_SECONDS)
        listed = Pages(query_activity_runs(self.factory, self.run_id, after, before))
        for number in range(pages):
            following = listed.next()
            if following is None:
                break
            if number and not self.budget.take(self.factory, self.timing.clock()):
                log.info(
                    "Not all of the run's activities are listed, because the log has queried many runs in the last minute."
                )
                break
            page = yield following
            if not isinstance(page, Page):
                self.refused = isinstance(page, AdfError) and is_refusal(page)
                again = "They are not queried again." if self.refused else "The run itself is not affected."
                # The error names the run.
                log.warning("The run's activities could not be listed. %s\n  %s", again, page)
                return []
            listed.take(page)
        self.is_complete = listed.next() is None and listed.cut is None and not listed.unreadable
        return listed.rows

    def _changed(self, seen: Sequence[ActivityRun]) -> list[ActivityRun]:
        """Store the rows, and return those that are new or have another status."""
        before = dict(self.rows)
        by_key = {_key(row): row for row in seen}
        self.rows |= by_key
        return [row for key, row in by_key.items() if key not in before or before[key].status != row.status]

    def _log_rows(self, changed: Sequence[ActivityRun]) -> None:
        """Log these rows, and after the last row the progress of the run."""
        lines = [line_of(row) for row in changed] if len(changed) <= MOST_LINES_PER_QUERY else by_activity(changed)
        for line in lines[:-1]:
            log.info("%s", _broken(line))
        if lines:
            log.info("%s", _broken(f"{lines[-1]} ({self._progress()})"))

    def _progress(self) -> str:
        running = sum(row.status in RunStatus.UNFINISHED for row in self.rows.values())
        known = [row.started_at for row in self.rows.values() if row.started_at]
        began = self.run.started_at if self.run and self.run.started_at else min(known, default=None)
        after = f" after {max(0.0, self.timing.clock() - began.timestamp()):.0f} s" if began else ""
        return f"{len(self.rows) - running} done, {running} running{after}"


@asynccontextmanager
async def accompanied(activities: ActivityLog, client: SendsAsync) -> AsyncIterator[None]:
    """A context in which a query is sent whenever it is due. Logs in the caller's context. For waits on an event loop."""

    async def query_whenever_due() -> None:
        while True:
            try:
                await run_routine_async(activities.query_if_due(), client, asyncio.sleep)
            except Exception as e:  # noqa: BLE001  as above
                log.warning("The run's activities could not be logged. %s", e)
            await asyncio.sleep(DUE_CHECK_SECONDS)

    if activities.mode != "live":
        yield
        return
    querying = asyncio.get_running_loop().create_task(query_whenever_due())
    try:
        yield
    finally:
        querying.cancel()
        await asyncio.wait([querying])


def line_of(row: ActivityRun) -> str:
    """One line about an activity."""
    iteration = f", iteration {row.iteration_hash[:8]}" if row.iteration_hash else ""
    attempt = f", attempt {row.retry_attempt}" if row.retry_attempt else ""
    took = f" after {row.duration_seconds:.0f} s" if row.duration_seconds is not None else ""
    why = ""
    if row.error_message:
        kind = " ".join(part for part in (row.failure_type, row.error_code) if part)
        why = f": {kind}{': ' if kind else ''}{cap(' '.join(row.error_message.split()), 300)}"
    what = f"{row.activity_name!r} ({row.activity_type}{iteration}{attempt})"
    return f"{what} {in_words(row.status)}{took}{_amounts([row])}{why}"


def by_activity(rows: Iterable[ActivityRun]) -> list[str]:
    """One line for each activity, which may have run many times."""
    groups: dict[tuple[str, str], list[ActivityRun]] = {}
    for row in sorted(rows, key=_started):
        groups.setdefault((row.activity_name, row.activity_type), []).append(row)
    lines = [
        line_of(group[0]) if len(group) == 1 else f"{name!r} ({kind}) ran {len(group)} times: {_statuses(group)}"
        for (name, kind), group in islice(groups.items(), MOST_LINES_PER_QUERY)
    ]
    return [
        *lines,
        *([f"and {len(groups) - MOST_LINES_PER_QUERY} more activities"] if len(groups) > MOST_LINES_PER_QUERY else []),
    ]


def total(rows: Iterable[ActivityRun], seconds: float | None) -> str:
    """All activities in one line."""
    known = list(rows)
    took = f" in {seconds:.0f} s" if seconds is not None else ""
    return f"{len(known)} {'activity' if len(known) == 1 else 'activities'}{took}, {_statuses(known)}"


def _statuses(rows: Sequence[ActivityRun]) -> str:
    counts: dict[str, int] = {}
    for row in rows:
        counts[row.status] = counts.get(row.status, 0) + 1
    return ", ".join(f"{count} {_WORDS.get(status, status)}" for status, count in counts.items()) + _amounts(rows)


_WORDS = {
    RunStatus.SUCCEEDED: "succeeded",
    RunStatus.FAILED: "failed",
    RunStatus.CANCELLED: "cancelled",
    RunStatus.IN_PROGRESS: "running",
    RunStatus.QUEUED: "queued",
    "Skipped": "skipped",
}


def _amounts(rows: Sequence[ActivityRun]) -> str:
    """Rows and bytes, if Copy activities report them."""
    parts = []
    for member, unit in (("rowsCopied", "rows"), ("dataWritten", "bytes")):
        found = [row.output.get(member) for row in rows]
        values = [float(value) for value in map(read_number, found) if value is not None]
        if values:
            parts.append(f", {sum(values):,.0f} {unit}")
    return "".join(parts)


def _key(row: ActivityRun) -> str:
    """The id of a row, or the members that distinguish a row without an id."""
    return row.activity_run_id or f"{row.activity_name}/{row.iteration_hash}/{row.retry_attempt}/{row.started_at}"


def _started(row: ActivityRun) -> datetime:
    return row.started_at or datetime.min.replace(tzinfo=UTC)


def _broken(line: str) -> str:
    """`line`, broken into lines of at most `LINE_COLUMNS` columns. A longer word is not broken."""
    return textwrap.fill(line, LINE_COLUMNS, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)

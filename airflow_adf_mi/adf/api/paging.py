"""Reads the pages of a list. The reading always ends, and returns each row once. Pure, except for warnings in the log.

A list continues while each answer names a next page. Two things can go wrong. A service, or a proxy that repeats an old answer,
may name the same page again and again. And a list that changes during the reading may show a row on two pages.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace
from typing import Generic, TypeVar

from airflow_adf_mi.adf.api.operations import Call, Page
from airflow_adf_mi.adf.models import ActivityRun, PipelineRun

T = TypeVar("T")

log = logging.getLogger(__name__)

MOST_PAGES = 1000
"""The most pages of one list that are read: about 100,000 rows, because a page has 100 rows."""


class Follow:
    """Decides whether to request another page of a list.

    :param doing: the call, for the warning: "list runs in factory 'x'".
    :param most: the most pages to read.
    """

    def __init__(self, doing: str, most: int = MOST_PAGES) -> None:
        self._doing = doing
        self._most = most
        self._pages = 0
        self._sent: set[str] = set()
        self.cut: str | None = None
        """Why pages were left out; None if none were left out so far."""

    def on(self, token: object) -> bool:
        """Whether to request the next page, which the page that was just read names by `token`."""
        self._pages += 1
        if token is None or token == "":
            return False
        if not isinstance(token, str):
            return self._end(f"page {self._pages} names the next page with a {type(token).__name__} instead of a text")
        if token in self._sent:
            return self._end(f"page {self._pages} names a page that was already read")
        if self._pages >= self._most:
            return self._end(f"there are more than {self._most} pages")
        self._sent.add(token)
        return True

    def _end(self, why: str) -> bool:
        self.cut = why
        log.warning("Could not %s to the end: %s. The rows that were read so far are used.", self._doing, why)
        return False


class Pages(Generic[T]):
    """One reading of a list. Send the call of `next` and pass its answer to `take`, until `next` is None.

    :param first: the call for the first page.
    :param most: the most pages to read.
    """

    def __init__(self, first: Call[Page[T]], most: int = MOST_PAGES) -> None:
        self._first = first
        self._next: Call[Page[T]] | None = first
        self._follow = Follow(f"{first.doing} in {first.target}", most)
        self._rows: list[T] = []
        self.unreadable = 0
        """How many rows could not be read. They are left out."""

    @property
    def cut(self) -> str | None:
        """Why the list was not read to its end. None if it was, or if the reading is not over."""
        return self._follow.cut

    @property
    def rows(self) -> list[T]:
        """The rows that were read, each once."""
        return distinct(self._rows)

    def next(self) -> Call[Page[T]] | None:
        """The next call, until its answer is taken. None after the last page."""
        return self._next

    def take(self, page: Page[T]) -> None:
        """Add the rows of the answer to the call of `next`, and decide on the next page."""
        self._rows += page.items
        if page.unreadable and not self.unreadable:
            log.warning(
                "An answer to %r in %s has %d row(s) that cannot be read. They are left out. The first reason: %s",
                self._first.doing,
                self._first.target,
                len(page.unreadable),
                page.unreadable[0],
            )
        self.unreadable += len(page.unreadable)
        self._next = None
        if self._follow.on(page.continuation_token):
            *rest, window = self._first.args
            window = {**window, "continuationToken": page.continuation_token}
            self._next = replace(self._first, args=(*rest, window))


def distinct(rows: Iterable[T]) -> list[T]:
    """The rows, each once. `runId` identifies a run, `activityRunId` an activity run. Of equal rows, the last one is kept.

    A row without an id is always kept, because it may be different from all other rows.
    """
    kept: dict[object, T] = {}
    for number, row in enumerate(rows):
        kept[_id_of(row) or number] = row
    return list(kept.values())


def _id_of(row: object) -> str:
    if isinstance(row, ActivityRun):
        return row.activity_run_id
    return row.run_id if isinstance(row, PipelineRun) else ""

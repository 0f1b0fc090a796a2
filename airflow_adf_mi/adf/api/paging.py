"""How the pages of a list are followed: to an end in any case, and each row counted once. Pure, but for its warnings.

A list goes on while its answer names a next page. A service, or a proxy that repeats an old answer, may name the same page for
ever. And a list that changes while it is read shows a row on two of its pages.
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
"""Pages of one list that are read, at most: about 100,000 rows, where a page has 100."""


class Follow:
    """Whether another page of a list is asked for.

    :param doing: the call, for the warning: "list runs in factory 'x'".
    :param most: pages that are read, at most.
    """

    def __init__(self, doing: str, most: int = MOST_PAGES) -> None:
        self._doing = doing
        self._most = most
        self._pages = 0
        self._sent: set[str] = set()
        self.cut: str | None = None
        """Why pages were left out; None while there is no reason."""

    def on(self, token: object) -> bool:
        """A page was read, and names the next one by `token`: is that to be asked for?"""
        self._pages += 1
        if token is None or token == "":
            return False
        if not isinstance(token, str):
            return self._end(f"page {self._pages} names the next one by {type(token).__name__}, which is no text")
        if token in self._sent:
            return self._end(f"page {self._pages} names a page that was read before")
        if self._pages >= self._most:
            return self._end(f"there are more than {self._most} pages")
        self._sent.add(token)
        return True

    def _end(self, why: str) -> bool:
        self.cut = why
        log.warning("Could not %s to the end: %s. What was read so far is used.", self._doing, why)
        return False


class Pages(Generic[T]):
    """One reading of a list: send what `next` gives, until that is None, and `take` each answer.

    :param first: the call for the first page.
    :param most: pages that are read, at most.
    """

    def __init__(self, first: Call[Page[T]], most: int = MOST_PAGES) -> None:
        self._first = first
        self._next: Call[Page[T]] | None = first
        self._follow = Follow(f"{first.doing} in {first.target}", most)
        self._rows: list[T] = []
        self.unreadable = 0
        """Rows that could not be read, and are left out."""

    @property
    def cut(self) -> str | None:
        """Why the list was not read to its end; None where it was, or still is to be."""
        return self._follow.cut

    @property
    def rows(self) -> list[T]:
        """The rows that were read, each once."""
        return distinct(self._rows)

    def next(self) -> Call[Page[T]] | None:
        """The next call; the same one until its answer is taken, and None once the list is read."""
        return self._next

    def take(self, page: Page[T]) -> None:
        """Keep the rows of the answer to `next`, and decide what to ask next."""
        self._rows += page.items
        if page.unreadable and not self.unreadable:
            log.warning(
                "An answer to %r in %s has %d row(s) that cannot be read. They are left out. The first: %s",
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
    """The rows, each once: runs are told apart by `runId`, activity runs by `activityRunId`. The row that was read last is kept.

    A row without an id may be like no other, and is kept.
    """
    kept: dict[object, T] = {}
    for number, row in enumerate(rows):
        kept[_id_of(row) or number] = row
    return list(kept.values())


def _id_of(row: object) -> str:
    if isinstance(row, ActivityRun):
        return row.activity_run_id
    return row.run_id if isinstance(row, PipelineRun) else ""

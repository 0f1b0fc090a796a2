"""Lists end, and show each row once."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_adf_mi.adf.api.operations import Page, query_activity_runs, query_runs
from airflow_adf_mi.adf.api.paging import MOST_PAGES, Pages, distinct
from airflow_adf_mi.adf.api.responses import parse
from airflow_adf_mi.adf.models import ActivityRun, PipelineRun
from tests.support.routines import FACTORY

NOW = datetime(2026, 11, 28, tzinfo=UTC)


def run(run_id: str, status: str = "InProgress") -> PipelineRun:
    return PipelineRun.from_wire({"runId": run_id, "status": status})


def followed(tokens: Iterator[Any], most: int = MOST_PAGES) -> tuple[Pages[PipelineRun], list[Any]]:
    """Read a list to its end whose pages have these continuation tokens. Returns the pages, and the tokens that were sent."""
    pages, sent = Pages(query_runs(FACTORY, NOW, NOW), most), []
    while (call := pages.next()) is not None:
        assert call is pages.next(), "the same call until it is answered"
        sent.append(call.args[-1].get("continuationToken"))
        pages.take(Page(items=[run(f"r{len(sent)}")], continuation_token=next(tokens)))
    return pages, sent


def test_pages_are_followed_to_the_end(caplog: pytest.LogCaptureFixture) -> None:
    pages, sent = followed(iter(["a", "b", None]))
    assert sent == [None, "a", "b"]
    assert [row.run_id for row in pages.rows] == ["r1", "r2", "r3"]
    assert (pages.cut, caplog.text) == (None, "")


@pytest.mark.parametrize(
    ("tokens", "asked", "why"),
    [
        (itertools.repeat("same"), 2, "page 2 names a page that was already read"),
        (itertools.cycle(["a", "b"]), 3, "page 3 names a page that was already read"),
        (map(str, range(2 * MOST_PAGES)), MOST_PAGES, f"there are more than {MOST_PAGES} pages"),
        (iter([{"odd": 1}]), 1, "page 1 names the next page with a dict instead of a text"),
    ],
    ids=["same token", "tokens in a circle", "endless", "odd token"],
)
def test_list_that_never_ends_is_cut_with_a_warning(
    tokens: Iterator[Any], asked: int, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    pages, sent = followed(tokens)
    assert (len(sent), pages.cut, len(pages.rows)) == (asked, why, asked)
    (warning,) = caplog.records
    assert warning.getMessage() == (
        f"Could not list runs in factory 'adf' (resource group 'rg') to the end: {why}. The rows that were read so far are used."
    )


def test_limit_of_pages_is_respected() -> None:
    assert len(followed(map(str, range(2 * MOST_PAGES)), most=3)[1]) == 3
    assert followed(iter(["a", "b", None]), most=3)[0].cut is None


@given(st.lists(st.sampled_from(["a", "b", "c", "d", None, "", 7]), min_size=1))
def test_no_page_is_requested_twice(tokens: list[Any]) -> None:
    _, sent = followed(iter([*tokens, None]))
    assert len(set(sent)) == len(sent)


def test_row_on_two_pages_counts_once_with_its_last_state() -> None:
    rows = distinct([run("r1"), run("r2"), run("r1", "Succeeded")])
    assert [(row.run_id, row.status) for row in rows] == [("r1", "Succeeded"), ("r2", "InProgress")]
    activities = [
        ActivityRun.from_wire({"activityRunId": key, "activityName": name}) for key, name in ("aA", "bB", "aC")
    ]
    assert [row.activity_name for row in distinct(activities)] == ["C", "B"]
    nameless = ActivityRun.from_wire({"activityName": "A"})
    assert len(distinct([nameless, nameless])) == 2, "nothing shows whether they are the same row"


ODD: list[Any] = [None, 7, "", " ", {}, [], "x" * 2000]
BAD_ROWS: list[Any] = [
    *(None, 5, "text", [], {}),
    *({"runId": odd, "status": "Succeeded"} for odd in ODD),
    *({"runId": "r", "status": odd} for odd in ODD),
]


@pytest.mark.parametrize("bad", BAD_ROWS, ids=lambda bad: repr(bad)[:40])
def test_unreadable_row_is_skipped_with_one_warning(bad: Any, caplog: pytest.LogCaptureFixture) -> None:
    call = query_runs(FACTORY, NOW, NOW)
    good = {"runId": "r1", "status": "Succeeded", "lastUpdated": "no time"}
    pages = Pages(call)
    for token in ("more", None):
        answer = parse(call, {"value": [bad, good, bad], "continuationToken": token})
        assert isinstance(answer, Page)
        pages.take(answer)
    assert [row.run_id for row in pages.rows] == ["r1"]
    (warning,) = caplog.records
    assert (
        "An answer to 'list runs' in factory 'adf' (resource group 'rg') has 2 row(s) that cannot be read"
        in caplog.text
    )
    assert len(warning.getMessage()) < 500


def test_activity_that_is_null_is_skipped() -> None:
    answer = parse(query_activity_runs(FACTORY, "r1", NOW, NOW), {"value": [None, {"activityName": "Copy"}]})
    assert isinstance(answer, Page)
    assert [row.activity_name for row in answer.items] == ["Copy"]

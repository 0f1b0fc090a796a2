"""The cursor of a watch: whatever the list hides for a while, and whenever a triggerer is killed, no run is lost."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_adf_mi.adf.models import PipelineRun
from airflow_adf_mi.adf.watching.cursor import Cursor

LOOK_BACK = 100.0


def run(run_id: str, ended: float | None, status: str = "Succeeded") -> PipelineRun:
    updated = None if ended is None else datetime.fromtimestamp(ended, UTC)
    return PipelineRun(run_id=run_id, pipeline_name="Load", status=status, last_updated=updated)


def ids(runs: list[PipelineRun]) -> list[str]:
    return [run.run_id for run in runs]


def test_runs_are_new_once_in_the_order_of_their_ends() -> None:
    cursor = Cursor.beginning_at(1000)
    listed = [run("c", 1030), run("a", 1010), run("before", 999), run("active", 1020, "InProgress"), run("b", 1020)]
    new = cursor.new(listed, LOOK_BACK)
    assert ids(new) == ["a", "b", "c"]
    after = cursor.after(new, 1040, LOOK_BACK)
    assert after.new(listed, LOOK_BACK) == []
    assert ids(after.new([*listed, run("late", 1005)], LOOK_BACK)) == ["late"]


def test_queries_reach_back_but_never_behind_the_beginning() -> None:
    cursor = Cursor.beginning_at(1000)
    assert cursor.since(LOOK_BACK) == 1000
    cursor = cursor.after([], 1050, LOOK_BACK)
    assert cursor.since(LOOK_BACK) == 1000
    cursor = cursor.after([], 5000, LOOK_BACK)
    assert cursor.since(LOOK_BACK) == 4900
    assert cursor.after([], 3000, LOOK_BACK) == cursor, "an older query moves nothing back"


def test_ids_are_kept_as_long_as_queries_can_show_their_runs() -> None:
    cursor = Cursor.beginning_at(1000).after([run("a", 1010), run("odd", None)], 1040, LOOK_BACK)
    assert cursor.sent == {"a": 1010, "odd": 1040}
    assert cursor.after([], 1110, LOOK_BACK).sent == {"a": 1010, "odd": 1040}
    assert cursor.after([], 1111, LOOK_BACK).sent == {"odd": 1040}


def test_run_whose_end_cannot_be_read_is_handed_over_once() -> None:
    cursor = Cursor.beginning_at(1000)
    new = cursor.new([run("odd", None)], LOOK_BACK)
    assert ids(new) == ["odd"]
    assert cursor.after(new, 1040, LOOK_BACK).new([run("odd", None)], LOOK_BACK) == []


def test_stored_form_is_json_and_ignores_later_members() -> None:
    cursor = Cursor.beginning_at(1000).after([run("a", 1010.5)], 1040, LOOK_BACK)
    stored = json.loads(json.dumps({**cursor.to_json(), "later": 1}))
    assert Cursor.from_json(stored) == cursor


@pytest.mark.parametrize(
    "odd",
    [
        {},
        {"began": 1},
        {"began": "1", "reached": 2},
        {"began": 1, "reached": float("nan")},
        {"began": 1, "reached": 2, "sent": {"a": None}},
        {"began": 1, "reached": 2, "sent": 3},
        "text",
        None,
    ],
)
def test_odd_stored_form_raises_an_error_that_the_caller_expects(odd: object) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        Cursor.from_json(odd)  # type: ignore[arg-type]  # what a database may hold


@given(
    lags=st.lists(st.tuples(st.floats(0, 500), st.floats(0, LOOK_BACK)), min_size=1, max_size=30),
    polls=st.lists(st.tuples(st.floats(1, 50), st.booleans()), min_size=1, max_size=40),
)
def test_no_run_is_lost_and_none_repeated_without_a_kill(
    lags: list[tuple[float, float]], polls: list[tuple[float, bool]]
) -> None:
    """Each run ends at a moment, and the list shows it some time later. A poll may be lost with its triggerer."""
    runs = [(run(str(number), 1000 + end), 1000 + end + lag) for number, (end, lag) in enumerate(lags)]
    stored, now = Cursor.beginning_at(1000), 1000.0
    events: list[str] = []
    repeated: set[str] = set()
    for pause, is_killed in [*polls, (1000.0, False)]:
        # However long no poll worked: the next one begins where the last one ended.
        now += pause
        since = stored.since(LOOK_BACK)
        shown = [each for each, visible in runs if visible <= now and each.last_updated.timestamp() >= since]  # type: ignore[union-attr]  # all have one
        new = stored.new(shown, LOOK_BACK)
        events += ids(new)
        if is_killed:
            repeated |= set(ids(new))
        else:
            stored = stored.after(new, now, LOOK_BACK)
    assert set(events) == {each.run_id for each, _ in runs}
    assert all(events.count(each) == 1 for each in set(events) - repeated)

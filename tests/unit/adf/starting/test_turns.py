"""Whose turn it is to send a start to a pipeline whose queue is full."""

from __future__ import annotations

from collections.abc import Hashable

from hypothesis import given
from hypothesis import strategies as st

from airflow_adf_mi.adf.starting.turns import (
    COUNTED_SECONDS,
    MOST_QUEUED,
    PARTS,
    ROUND_SECONDS,
    STALE_SECONDS,
    UNDER_WAY_SECONDS,
    Turns,
)

FULL = MOST_QUEUED
PART = MOST_QUEUED // PARTS


def waiting(count: int) -> Turns:
    turns = Turns()
    for number in range(count):
        turns.add(number, refused_at=float(number), now=0.0)
    return turns


def test_first_that_was_refused_goes_first() -> None:
    turns = Turns()
    for place in (3.0, 1.0, 2.0):
        turns.add(f"refused at {place}", place, now=5.0)
    assert turns.next(10.0, FULL - 2 * PART) == ["refused at 1.0", "refused at 2.0"]
    assert len(turns) == 1


def test_a_share_of_the_free_places_is_taken_at_once() -> None:
    assert waiting(5).next(10.0, FULL) == []
    assert waiting(5).next(10.0, FULL - PART + 1) == []
    assert waiting(5).next(10.0, FULL - 3 * PART) == [0, 1, 2]
    assert waiting(30).next(10.0, 0) == list(range(PARTS))


def test_short_queue_is_filled_too() -> None:
    turns = waiting(5)
    assert turns.next(10.0, 2) == [0, 1, 2, 3, 4]
    for token in range(5):
        turns.add(token, float(token), now=15.0)
    assert turns.next(45.0, 2) == [0]
    # No run more than 2 was ever queued.
    assert turns.next(75.0, 2) == []
    assert turns.next(45.0 + COUNTED_SECONDS, 1) == [1]


def test_start_that_is_under_way_takes_a_place() -> None:
    turns = waiting(20)
    for moment in range(5):
        assert len(turns.next(10.0 + moment, FULL - 2 * PART)) == 2
    # A busy Airflow may not have resumed one of these tasks yet.
    assert turns.next(10.0 + UNDER_WAY_SECONDS, FULL - PART) == []
    assert turns.next(20.0 + UNDER_WAY_SECONDS, FULL - PART - 1) == [10]
    assert turns.next(10.0 + COUNTED_SECONDS, FULL - PART) == [11]


def test_start_that_comes_back_keeps_its_place_and_stops_the_others() -> None:
    turns = waiting(3)
    assert turns.next(10.0, FULL - 2 * PART) == [0, 1]
    turns.add(0, 0.0, now=15.0)
    assert turns.next(20.0, 0) == []
    # One is sent to find out whether there is a place.
    assert turns.next(15.0 + UNDER_WAY_SECONDS, 0) == [0]
    assert turns.next(25.0 + UNDER_WAY_SECONDS, 0) == []


def test_start_that_comes_back_late_is_recognised() -> None:
    """A busy Airflow may need long to resume its task, and the service then refuses it again."""
    for seconds, goes in ((COUNTED_SECONDS - 1, []), (COUNTED_SECONDS, [0, 1])):
        turns = waiting(3)
        assert turns.next(10.0, FULL - PART) == [0]
        turns.add(0, 0.0, now=10.0 + seconds)
        assert turns.next(10.0 + COUNTED_SECONDS, FULL - 2 * PART) == goes


def test_list_is_believed_again_when_a_probe_does_not_come_back() -> None:
    turns = waiting(5)
    turns.next(10.0, FULL - PART)
    turns.add(0, 0.0, now=15.0)
    probe_at = 15.0 + UNDER_WAY_SECONDS
    assert turns.next(probe_at, 0) == [0]
    # A start was refused while the list showed 90 runs. So the queue counts as no longer than that.
    assert turns.next(probe_at + UNDER_WAY_SECONDS, FULL - 3 * PART) == [1, 2]


def test_list_is_not_believed_when_the_probe_comes_back() -> None:
    turns = waiting(2)
    turns.next(10.0, FULL - PART)
    turns.add(0, 0.0, now=15.0)
    assert turns.next(45.0, 0) == [0]
    turns.add(0, 0.0, now=50.0)
    assert turns.next(60.0, 0) == []
    assert turns.next(80.0, 0) == [0]


def test_start_that_comes_back_from_a_queue_that_the_list_shows_as_full_says_nothing_against_the_list() -> None:
    turns = waiting(4)
    assert turns.next(STALE_SECONDS, FULL) == [0]
    turns.add(0, 0.0, now=STALE_SECONDS + 5)
    assert turns.next(STALE_SECONDS + UNDER_WAY_SECONDS + 10, FULL) == []
    assert turns.next(STALE_SECONDS + UNDER_WAY_SECONDS + 20, FULL - PART) == [0]


def test_start_that_comes_back_while_the_list_cannot_be_read_does_not_make_the_queue_shorter() -> None:
    turns = waiting(4)
    assert turns.next(10.0, None) == [0]
    turns.add(0, 0.0, now=15.0)
    assert turns.next(20.0, 50) == [0, 1, 2, 3]


def test_queue_counts_as_longer_when_the_list_shows_so() -> None:
    def after_a_start_came_back_from_a_queue_of_20() -> Turns:
        turns = waiting(20)
        turns.next(10.0, 20)
        turns.add(0, 0.0, now=15.0)
        assert turns.next(45.0, 19) == [0]
        return turns

    believed_at = 45.0 + UNDER_WAY_SECONDS
    assert after_a_start_came_back_from_a_queue_of_20().next(believed_at, 19) == []
    turns = after_a_start_came_back_from_a_queue_of_20()
    assert turns.next(believed_at, 30) == []
    assert turns.next(45.0 + COUNTED_SECONDS, 24) == [8, 9]


def test_one_goes_if_the_list_cannot_be_read() -> None:
    turns = waiting(3)
    assert turns.next(10.0, None) == [0]
    assert turns.next(20.0, None) == []
    assert turns.next(10.0 + UNDER_WAY_SECONDS, None) == [1]
    # The list itself was not wrong.
    assert turns.next(10.0 + UNDER_WAY_SECONDS + COUNTED_SECONDS, FULL - PART) == [2]


def test_one_goes_if_the_list_shows_a_full_queue_for_long() -> None:
    turns = waiting(3)
    assert turns.next(STALE_SECONDS - 1, FULL) == []
    assert turns.next(STALE_SECONDS, FULL + 7) == [0]
    assert turns.next(STALE_SECONDS + 10, FULL) == []
    assert turns.next(2 * STALE_SECONDS, FULL) == [1]


def test_start_that_was_removed_does_not_go() -> None:
    turns = waiting(2)
    turns.remove(0)
    turns.remove("unknown")
    assert turns.next(10.0, 0) == [1]


@given(shown=st.integers(0, MOST_QUEUED), limit=st.integers(0, MOST_QUEUED))
def test_at_most_one_goes_for_each_tenth_of_the_queue_that_is_free(shown: int, limit: int) -> None:
    turns = Turns(_limit=limit)
    for number in range(200):
        turns.add(number, float(number), now=0.0)
    free = max(limit, shown) - shown
    assert len(turns.next(10.0, shown)) <= min(free, PARTS)


@given(
    starts=st.integers(1, 60),
    places=st.integers(1, MOST_QUEUED),
    lag=st.sampled_from([0.0, 30.0, 120.0, 1e9]),
    end_every=st.integers(3, 40),
)
def test_every_start_gets_its_turn_in_order_whatever_the_list_shows(
    starts: int, places: int, lag: float, end_every: int
) -> None:
    """The queue has `places`, which may be fewer than documented, and the list shows how full it was `lag` seconds ago."""
    turns, queued, accepted = waiting(starts), places, list[Hashable]()
    history, refusals, now = [(0.0, queued)], 0, 0.0
    while len(accepted) < starts:
        now += ROUND_SECONDS
        assert now < 200_000, f"{len(accepted)} of {starts} were accepted"
        if now % (end_every * ROUND_SECONDS) == 0 and queued > 0:
            queued -= 1
        shown = [count for at, count in history if at <= now - lag] or [places]
        for token in turns.next(now, shown[-1]):
            if queued < places:
                queued += 1
                accepted.append(token)
            else:
                refusals += 1
                turns.add(token, refused_at=float(token), now=now + 1)  # type: ignore[arg-type]  # a number
        history.append((now, queued))
    assert sorted(accepted, key=str) == sorted(range(starts), key=str)
    # At most one vain start for each time in which a start is under way, and one round of a list that was wrong.
    assert refusals <= now / UNDER_WAY_SECONDS + PARTS

"""An explanation of very many failures: the same as by simple rules, in time that grows with their number only."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_adf_mi.adf.reporting.explain import CONTAINERS, MOST_CAUSES_SHOWN, ROWS_PER_TURN
from tests.support.activity_rows import Listing, calls_of, inner, row

NAMES = ("Copy", "Web", "Each", "If", "a b")
MESSAGES = (
    "boom",
    "Operation on target Copy failed: boom",
    inner("Copy"),
    f"{inner('Web')}; {inner('a b')}",
    "Inner activity name: Inner activity name: Copy, Error",
    "Inner activity name: If",
)


def rows() -> st.SearchStrategy[list[dict[str, Any]]]:
    """Failed activities and containers, some with several iterations and attempts."""
    one = st.builds(
        row,
        st.sampled_from(NAMES),
        st.sampled_from(("Copy", "Fail", *sorted(CONTAINERS))),
        message=st.sampled_from(MESSAGES),
        at=st.integers(1, 9),
        iteration=st.sampled_from(("", "h1", "h2")),
        attempt=st.integers(1, 3),
    )
    # Each row has its own id, because equal ids would mean one activity run on two pages.
    return st.lists(one, max_size=12).map(lambda found: [{**r, "activityRunId": str(n)} for n, r in enumerate(found)])


def simply(entries: list[dict[str, Any]], message: str) -> tuple[list[tuple[str, int, str | None, bool]], int]:
    """The causes by simple rules, which search all rows for each row."""

    def named_in(message: str) -> list[str]:
        return re.findall(r"Inner activity name: (?:Inner activity name: )*(.+?), Error", message)

    def is_named(name: str) -> bool:
        return f"target {name} failed" in message or name in named_in(message)

    def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
        return all(one[key] == other[key] for key in ("activityName", "iterationHash"))

    def is_consequence(entry: dict[str, Any]) -> bool:
        inside = set(named_in(entry["error"]["message"])) & {other["activityName"] for other, _ in last}
        return entry["activityType"] in CONTAINERS and bool(inside)

    def loop_of(entry: dict[str, Any]) -> str | None:
        for other, _ in last:
            names = named_in(other["error"]["message"])
            if other["activityType"] in CONTAINERS and names[:1] == [entry["activityName"]]:
                return f"{other['activityName']!r} ({other['activityType']})"
        return None

    by_end = sorted(entries, key=lambda entry: str(entry["activityRunEnd"]))
    last: list[tuple[dict[str, Any], int]] = []
    for entry in by_end:
        attempts = [other for other in by_end if same(entry, other)]
        if not any(same(entry, known) for known, _ in last):
            last.append((attempts[-1], len(attempts)))
    causes = [(entry, attempts) for entry, attempts in last if not is_consequence(entry)]
    causes.sort(
        key=lambda cause: (
            not is_named(cause[0]["activityName"]) or cause[0]["activityType"] == "Fail",
            cause[0]["activityRunEnd"],
        )
    )
    shown = [
        (e["activityName"], max(attempts, e["retryAttempt"]), loop_of(e), is_named(e["activityName"]))
        for e, attempts in causes
    ]
    return shown[:MOST_CAUSES_SHOWN], max(0, len(shown) - MOST_CAUSES_SHOWN)


@given(rows(), st.sampled_from(MESSAGES))
def test_causes_are_the_same_as_by_simple_rules(entries: list[dict[str, Any]], message: str) -> None:
    found = Listing(root=entries).explain(message)
    shown = [(a.activity_name, a.attempts, a.loop, a.is_named) for a in found.activities]
    assert (shown, found.more) == simply(entries, message)


def loop(times: int, kind: str = "Copy") -> Listing:
    """A loop whose iterations all failed, the loop itself, and a container with each failed activity."""
    each = row("Each", "ForEach", message=inner("Copy0"), at=20)
    names = [f"Copy{n}" for n in range(times)]
    inside = [
        row(
            name,
            kind,
            iteration=f"h{n}",
            message="boom " * 300,
            child=f"run-{n}" if kind == "ExecutePipeline" else None,
        )
        for n, name in enumerate(names)
    ]
    beside = [row(f"If{n}", "IfCondition", iteration=f"h{n}", message=inner(name)) for n, name in enumerate(names)]
    service = Listing(root=[*inside, *beside, each])
    service.page_size = 10_000
    return service


@pytest.mark.parametrize("kind", ["Copy", "ExecutePipeline"])
def test_time_of_an_explanation_grows_with_the_number_of_failures_only(kind: str) -> None:
    message = f"Operation on target Each failed: {inner('Copy0')}"
    few, many = (loop(times, kind) for times in (200, 800))
    once, four_times = calls_of(lambda: few.explain(message)), calls_of(lambda: many.explain(message))
    assert four_times < 4.5 * once


def test_event_loop_gets_turns_between_many_failures() -> None:
    service = loop(2 * ROWS_PER_TURN)
    assert (
        service.explain(f"Operation on target Each failed: {inner('Copy0')}").more
        == 2 * ROWS_PER_TURN - MOST_CAUSES_SHOWN
    )
    # After the list was sorted, after the loops were found, and twice while causes were counted.
    assert service.pauses == [0, 0, 0, 0]


def test_unexpected_answer_is_quoted_in_part() -> None:
    service = Listing()
    service.first = [{"odd": "x" * 100_000}] * 9
    missing = service.explain().missing
    assert missing is not None
    assert missing.startswith("unexpected answer {'odd'")
    assert len(missing) < 2100

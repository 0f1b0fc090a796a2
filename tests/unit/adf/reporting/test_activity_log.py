"""What is logged of a run's activities, how many requests that takes, and that it never affects the wait."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_adf_mi.adf.api.operations import Call, Page, get_run
from airflow_adf_mi.adf.errors import AdfPermissionError, AdfUnavailableError
from airflow_adf_mi.adf.models import ActivityRun, PipelineRun
from airflow_adf_mi.adf.reporting.activity_log import (
    LEAST_SECONDS_LEFT,
    LINE_COLUMNS,
    MOST_LINES_PER_QUERY,
    QUERY_INTERVAL_SECONDS,
    QUERY_OVERLAP_SECONDS,
    SUMMARY_PAGES,
    ActivityLog,
    ActivityLogMode,
    Budget,
    by_activity,
)
from airflow_adf_mi.adf.routines import Pause, Routine
from airflow_adf_mi.adf.timing import Timing
from airflow_adf_mi.adf.waiting.single_run import Ended, Outcome
from tests.support.activity_rows import calls_of
from tests.support.routines import FACTORY, Clock


def row(name: str, status: str, *, iteration: str = "", **output: Any) -> ActivityRun:
    over = status != "InProgress"
    return ActivityRun.from_wire(
        {
            "activityName": name,
            "activityType": "Copy",
            "activityRunId": f"{name}{iteration}",
            "activityRunStart": "1970-01-01T00:16:41Z",
            "durationInMs": 8000 if over else None,
            "status": status,
            "output": output,
            "iterationHash": iteration,
            "error": {"errorCode": "2200", "failureType": "UserError", "message": "no\ntable"}
            if status == "Failed"
            else {},
        }
    )


def run(status: str = "InProgress") -> PipelineRun:
    ended = {"durationInMs": 120_000} if status != "InProgress" else {}
    return PipelineRun.from_wire({"runId": "r1", "status": status, "runStart": "1970-01-01T00:16:40Z", **ended})


def status_checks(times: int, status: str = "Succeeded", pause: float = 20) -> Routine[Outcome]:
    """A wait that ends with its last status check."""
    for number in range(times):
        seen = yield get_run(FACTORY, "r1")
        if number < times - 1:
            yield Pause(pause)
    return Ended(run=seen)


def play(
    answers: list[Any],
    mode: ActivityLogMode = "live",
    *,
    times: int = 7,
    deadline: float | None = None,
    budget: Budget | None = None,
    status: str = "Succeeded",
    of: Callable[[ActivityLog], object] = id,
) -> tuple[Any, list[tuple[float, Call[Any]]]]:
    """Two minutes of waiting with a status check every 20 s. Returns the outcome, and the queries of activities.

    :param of: gets the log before the wait begins.
    """
    clock = Clock()
    activities = ActivityLog(FACTORY, "r1", mode, Timing(clock=clock), deadline, budget or Budget())
    of(activities)
    routine = activities.beside(status_checks(times))
    asked: list[tuple[float, Call[Any]]] = []
    pending = iter(answers)
    checked = 0
    answer: Any = None
    while True:
        try:
            step = routine.send(answer)
        except StopIteration as end:
            return end.value, asked
        answer = None
        if isinstance(step, Pause):
            clock.now += step.seconds
        elif isinstance(step, Call) and step.group == "activity_runs":
            asked.append((clock.now, step))
            given = next(pending)
            answer = Page(items=given, continuation_token=None) if isinstance(given, list) else given
        else:
            checked += 1
            answer = run(status if checked == times else "InProgress")


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    caplog.set_level(logging.INFO)
    return lambda: [record.getMessage() for record in caplog.records]


def test_live_mode_logs_each_change_once(lines: Callable[[], list[str]]) -> None:
    began, copied = row("Copy", "InProgress"), row("Copy", "Succeeded", rowsCopied=1234, dataWritten=5_000_000)
    outcome, asked = play([[began], [copied, row("Web", "InProgress")], [copied, row("Web", "Failed")]])
    assert outcome.run.status == "Succeeded"
    assert [at for at, _ in asked] == [1000, 1060, 1120]
    assert lines() == [
        "'Copy' (Copy) is InProgress (0 done, 1 running after 0 s)",
        "'Copy' (Copy) succeeded after 8 s, 1,234 rows, 5,000,000 bytes",
        "'Web' (Copy) is InProgress (1 done, 1 running after 60 s)",
        "'Web' (Copy) failed after 8 s: UserError 2200: no table (2 done, 0 running after 120 s)",
        "Run r1 succeeded: 2 activities in 120 s, 1 succeeded, 1 failed, 1,234 rows, 5,000,000 bytes",
    ]


def test_summary_mode_queries_once_at_the_end(lines: Callable[[], list[str]]) -> None:
    copies = [row("Copy", "Succeeded", iteration=str(n), rowsCopied=n) for n in range(3)]
    _, asked = play([[*copies, row("Web", "Failed")]], "summary")
    assert [at for at, _ in asked] == [1120]
    assert lines() == [
        "'Copy' (Copy) ran 3 times: 3 succeeded, 3 rows",
        "'Web' (Copy) failed after 8 s: UserError 2200: no table",
        "Run r1 succeeded: 4 activities in 120 s, 3 succeeded, 1 failed, 3 rows",
    ]


def test_pages_of_the_summary_count_towards_the_budget(lines: Callable[[], list[str]]) -> None:
    pages = [Page(items=[row("Copy", "Succeeded")], continuation_token=token) for token in ("second", "third")]
    _, asked = play([*pages, [row("Web", "Succeeded")]], "summary", budget=Budget(per_minute=2))
    assert len(asked) == 2
    assert (
        lines()[0]
        == "Not all of the run's activities are listed, because the log has queried many runs in the last minute."
    )


def test_unknown_start_is_not_the_beginning_of_time(lines: Callable[[], list[str]]) -> None:
    unknown = replace(row("Skip", "Skipped"), started_at=None)
    clock = Clock()
    activities = ActivityLog(FACTORY, "r1", "live", Timing(clock=clock), rows={unknown.activity_run_id: unknown})
    activities._log_rows([unknown])
    assert lines()[0].endswith("(1 done, 0 running)")


def test_long_line_begins_with_the_cause_and_is_wrapped(lines: Callable[[], list[str]]) -> None:
    message = f"ErrorCode=SqlOperationFailed,'Type={'X' * 200}',Message=Cannot open the table. " + "It is locked. " * 30
    failed = replace(row("Copy", "Failed"), error_message=message)
    play([[failed]], "summary")
    cause, total = lines()
    assert total == "Run r1 succeeded: 1 activity in 120 s, 1 failed"
    broken = cause.split("\n")
    assert len(broken) > 2
    assert broken[0].startswith("'Copy' (Copy) failed after 8 s: UserError 2200:")
    assert all(line.startswith("  ") for line in broken[1:])
    # A longer word, such as an address, is not broken.
    assert sorted(len(line) > LINE_COLUMNS for line in broken) == [False] * (len(broken) - 1) + [True]
    assert " ".join(" ".join(broken).split()).endswith("more characters)")


def test_run_is_named_only_in_the_last_line(lines: Callable[[], list[str]]) -> None:
    many = [row("Copy", "Succeeded", iteration=str(n)) for n in range(MOST_LINES_PER_QUERY)]
    play([[row("Web", "InProgress")], AdfUnavailableError("503"), [*many, row("Web", "Failed")]], times=7)
    assert [line for line in lines() if "r1" in line] == [lines()[-1]]


def test_live_mode_counts_changes_if_there_are_too_many(lines: Callable[[], list[str]]) -> None:
    many = [row("Copy", "Succeeded", iteration=str(n), rowsCopied=2) for n in range(MOST_LINES_PER_QUERY + 1)]
    play([many, [], []])
    assert lines()[0] == "'Copy' (Copy) ran 51 times: 51 succeeded, 102 rows (51 done, 0 running after 0 s)"


@pytest.mark.parametrize("mode", ["live", "summary"])
def test_time_of_the_log_grows_with_the_number_of_activities_only(mode: ActivityLogMode) -> None:
    few, many = ([row("Copy", "Failed", iteration=str(n)) for n in range(times)] for times in (300, 1200))
    once, four_times = calls_of(lambda: play([few] * 3, mode)), calls_of(lambda: play([many] * 3, mode))
    assert four_times < 4.5 * once


def test_off_mode_queries_nothing(lines: Callable[[], list[str]]) -> None:
    assert play([], "off")[1] == []
    assert lines() == []


def test_live_mode_queries_only_new_changes() -> None:
    _, asked = play([[]] * 3)
    after = [datetime.fromisoformat(call.args[3]["lastUpdatedAfter"]) for _, call in asked]
    assert after[1] == datetime.fromtimestamp(1000 - QUERY_OVERLAP_SECONDS, UTC)
    assert after[0] < after[1]


def test_nothing_is_queried_shortly_before_the_deadline() -> None:
    _, asked = play([[]] * 3, deadline=1060 + LEAST_SECONDS_LEFT - 1)
    assert [at for at, _ in asked] == [1000, 1120]


def test_budget_is_shared_by_the_runs_of_a_factory() -> None:
    budget = Budget(per_minute=2)
    assert [budget.take(FACTORY, now) for now in (0, 1, 2, 60.5, 61.5, 62)] == [True, True, False, True, True, False]
    assert play([], budget=Budget(per_minute=0))[1] == []


@pytest.mark.parametrize("fault", [AdfUnavailableError("503"), AdfPermissionError("no role", status=403)], ids=str)
def test_failing_list_does_not_affect_the_wait(fault: Any, lines: Callable[[], list[str]]) -> None:
    outcome, asked = play([fault] * 3)
    assert outcome.run.status == "Succeeded"
    refused = isinstance(fault, AdfPermissionError)
    assert len(asked) == (1 if refused else 3)
    assert ("They are not queried again." in lines()[0]) is refused


def test_output_of_an_unexpected_form_does_not_affect_the_wait(lines: Callable[[], list[str]]) -> None:
    odd = row("Copy", "Succeeded", rowsCopied="many", dataWritten=True)
    object.__setattr__(odd, "iteration_hash", 7)  # of an unexpected type
    outcome, _ = play([[odd]], "summary")
    assert outcome.run.status == "Succeeded"
    assert "could not be logged" in lines()[0]


@pytest.mark.parametrize(
    "odd", [10**400, float("inf"), float("nan"), -(10**400), "many", None], ids=lambda odd: str(odd)[:8]
)
def test_amount_that_cannot_be_counted_is_left_out(odd: Any, lines: Callable[[], list[str]]) -> None:
    play([[row("Copy", "Succeeded", rowsCopied=odd, dataWritten=5), row("Web", "Succeeded", rowsCopied=2)]], "summary")
    assert lines()[-1] == "Run r1 succeeded: 2 activities in 120 s, 2 succeeded, 2 rows, 5 bytes"


def test_activity_on_two_pages_is_logged_once_and_nameless_ones_each(
    lines: Callable[[], list[str]],
) -> None:
    nameless = [replace(row(name, "Succeeded"), activity_run_id="") for name in ("A", "B")]
    first = Page(items=[row("Copy", "InProgress"), *nameless], continuation_token="more")
    play([first, [row("Copy", "Succeeded")]], "live", times=1)
    assert [line.split(" succeeded")[0] for line in lines()] == [
        "'Copy' (Copy)",
        "'A' (Copy)",
        "'B' (Copy)",
        "Run r1",
    ]


def test_interval_is_a_minute() -> None:
    assert QUERY_INTERVAL_SECONDS == 60


def test_long_summary_is_cut() -> None:
    lines = by_activity([row(f"A{n}", "Succeeded") for n in range(60)])
    assert len(lines) == 51
    assert lines[-1] == "and 10 more activities"


BILLED = {
    "activityType": "DataMovement",
    "billableDuration": [{"meterType": "AzureIR", "duration": 0.5, "unit": "Hours"}],
}


def consumed(answers: list[Any], mode: ActivityLogMode = "summary", budget: Budget | None = None) -> list[float] | None:
    """What the activity log adds up: the amount of each meter."""
    logs: list[ActivityLog] = []
    play(answers, mode, budget=budget, of=logs.append)
    found = logs[0].consumption
    return None if found is None else [one.duration for one in found]


@pytest.mark.parametrize("mode", ["live", "summary"])
def test_consumption_is_that_of_all_activities(mode: ActivityLogMode) -> None:
    billed = [row(name, "Succeeded", billingReference=BILLED) for name in ("A", "B")]
    # In live mode, earlier queries have shown one of them. 0.5 + 0.5 = 1.
    earlier: list[Any] = [[billed[0]], []] if mode == "live" else []
    assert consumed([*earlier, [*billed, row("C", "Failed")]], mode) == [1.0]
    assert consumed([], "off") is None


def test_activities_that_report_nothing_consumed_nothing() -> None:
    assert consumed([[row("Wait", "Succeeded")]]) == []


ONE = row("A", "Succeeded", billingReference=BILLED)


@pytest.mark.parametrize(
    "answers",
    [
        [[ONE, row("B", "InProgress")]],
        [Page(items=[ONE], continuation_token=None, unreadable=("odd",))],
        [Page(items=[ONE], continuation_token="again")] * 2,
        [Page(items=[ONE], continuation_token=str(number)) for number in range(SUMMARY_PAGES)],
    ],
    ids=["active", "unreadable", "without an end", "long"],
)
def test_consumption_of_some_of_the_activities_is_not_added_up(
    answers: list[Any], lines: Callable[[], list[str]]
) -> None:
    assert consumed(answers) is None
    why = "because the list does not show the end of all its activities"
    assert sum(f"What the run consumed is not known, {why}" in line for line in lines()) == 1


@pytest.mark.parametrize(
    "answers",
    [
        [[]],
        [AdfUnavailableError("503")],
        [Page(items=[ONE], continuation_token="more"), AdfUnavailableError("503")],
    ],
    ids=["empty", "failed", "second page failed"],
)
def test_consumption_of_a_list_that_cannot_be_read_is_not_known(answers: list[Any]) -> None:
    assert consumed(answers) is None


def test_consumption_is_not_known_without_a_query() -> None:
    assert consumed([], budget=Budget(per_minute=0)) is None

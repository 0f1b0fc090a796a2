"""Why a run failed: which activities are named, in which order, and how many requests that takes."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_adf_mi.adf.activity_failures import LONGEST_MESSAGE, Explanation
from airflow_adf_mi.adf.api.operations import Page
from airflow_adf_mi.adf.errors import AdfError, AdfPermissionError, AdfUnavailableError
from airflow_adf_mi.adf.models import ActivityRun
from airflow_adf_mi.adf.reporting.explain import (
    EXPLANATION_PATIENCE_SECONDS,
    EXPLANATION_REQUESTS,
    MOST_CAUSES_SHOWN,
    MOST_EXPLANATION_PAUSES,
)
from tests.support.activity_rows import Listing, inner, row


def names(explanation: Explanation) -> list[str]:
    return [activity.activity_name for activity in explanation.activities]


def test_failed_activity_is_found_with_one_request() -> None:
    service = Listing(root=[row("Copy", at=12, attempt=3, message="no table")])
    found = service.explain("Operation on target Copy failed: no table")
    (activity,) = found.activities
    assert (activity.error_code, activity.failure_type, activity.message) == ("2200", "UserError", "no table")
    assert (activity.attempts, activity.pipeline_run_id) == (3, "root")
    assert service.asked == ["root"]
    assert found.text("root") == (
        "- 'Copy' (Copy): UserError 2200: no table. Failed at 2026-01-01 10:00:12 UTC, after 12 s, in attempt 3."
    )


def test_failed_child_runs_are_followed_to_the_innermost_run() -> None:
    service = Listing(
        root=[row("CallChild", "ExecutePipeline", message="Operation on target CallAgain failed: ...", child="child")],
        child=[row("CallAgain", "ExecutePipeline", message="Operation on target Copy failed: ...", child="grandchild")],
        grandchild=[row("Copy", message="no table")],
    )
    found = service.explain("Operation on target CallChild failed: ...")
    assert names(found) == ["Copy"]
    assert found.activities[0].pipeline_run_id == "grandchild"
    assert "in run grandchild of pipeline 'Pipeline grandchild'" in found.text("root")
    assert "See https://studio/grandchild" in found.text("root")
    assert service.asked == ["root", "child", "grandchild"]


def test_failures_in_the_runs_message_are_distinguished_from_handled_ones() -> None:
    service = Listing(
        root=[row("Call", "ExecutePipeline", child="child"), row("Optional", "ExecutePipeline", at=5, child="other")],
        child=[row("Copy"), row("Check", at=3)],
        other=[row("Probe")],
    )
    service.runs["root"][0]["error"]["message"] = "Operation on target Copy failed: boom"
    service.runs["root"][1]["error"]["message"] = "Operation on target Probe failed: boom"
    found = service.explain("Operation on target Call failed: Operation on target Copy failed: boom")
    assert [(a.activity_name, a.is_named) for a in found.activities] == [
        ("Copy", True),
        ("Check", False),
        ("Probe", False),
    ]


def test_caller_is_the_cause_if_its_child_run_lists_nothing() -> None:
    found = Listing(root=[row("CallChild", "ExecutePipeline", child="child")]).explain()
    assert names(found) == ["CallChild"]


def test_runs_that_name_each_other_are_read_once() -> None:
    rows = [row("Call", "ExecutePipeline", child="root")]
    service = Listing(root=rows)
    assert names(service.explain("Operation on target Call failed: boom")) == ["Call"]
    assert service.asked == ["root"]


def test_failed_iteration_is_a_cause_and_its_loop_is_not() -> None:
    copies = [row("Copy", status="Succeeded", iteration=f"h{n}") for n in range(19)]
    loop = row("Each", "ForEach", message=inner("Copy", "no table"), at=20)
    service = Listing(root=[*copies, row("Copy", iteration="h19", message="no table"), loop])
    found = service.explain(f"Operation on target Each failed: {inner('Copy', 'no table')}")
    assert names(found) == ["Copy"]
    assert "'Copy' (Copy), in an iteration of 'Each' (ForEach): UserError 2200: no table." in found.text("root")
    assert service.asked == ["root"]


def test_nested_containers_are_consequences_but_a_timed_out_one_is_a_cause() -> None:
    rows = [
        row("Copy", at=1),
        row("If", "IfCondition", message=inner("Copy"), at=2),
        row("Each", "ForEach", message=inner("If"), at=3),
    ]
    assert names(Listing(root=rows).explain()) == ["Copy"]
    assert names(Listing(root=[row("Poll", "Until", message="timed out")]).explain()) == ["Poll"]


def test_failed_attempt_before_a_successful_one_is_not_a_cause() -> None:
    rows = [
        row("Flaky", at=1),
        row("Flaky", at=5, status="Succeeded", attempt=2),
        row("Copy", at=9),
        row("Copy", at=12, attempt=2),
    ]
    found = Listing(root=rows).explain("Operation on target Copy failed: boom")
    assert names(found) == ["Copy"]
    assert found.activities[0].attempts == 2


def test_first_cause_comes_first() -> None:
    """Failures in the run's message come before handled ones, and the cause of a Fail activity comes before it."""
    handled = Listing(root=[row("Handled", at=1), row("Copy", at=9)])
    assert names(handled.explain("Operation on target Copy failed: boom")) == ["Copy", "Handled"]
    reported = Listing(root=[row("Report", "Fail", at=9), row("Copy", at=1)])
    assert names(reported.explain("Operation on target Report failed: boom")) == ["Copy", "Report"]
    several = Listing(root=[row("B", at=9), row("A", at=1)])
    assert names(several.explain("Operation on target B failed: x, Operation on target A failed: y")) == ["A", "B"]


def test_further_causes_are_counted() -> None:
    found = Listing(root=[row("Copy", iteration=str(n), at=n) for n in range(MOST_CAUSES_SHOWN + 7)]).explain()
    assert len(found.activities) == MOST_CAUSES_SHOWN
    assert found.more == 7
    assert "- and 7 more" in found.text("root")


def test_long_message_is_cut_and_credentials_are_masked() -> None:
    secret = "Cannot open https://x.blob.core.windows.net/c?sig=abc%2Fdef&se=1 " + "x" * 5000
    (activity,) = Listing(root=[row("Copy", message=secret)]).explain().activities
    assert activity.message is not None
    assert "sig=***" in activity.message
    assert len(activity.message) < LONGEST_MESSAGE + 50


def test_explanation_of_a_cancelled_run_names_its_active_activity() -> None:
    service = Listing(root=[row("Copy", status="Cancelled"), row("Each", "ForEach", status="Cancelled", at=11)])
    found = service.explain(status="Cancelled")
    assert found.text("root") == "- 'Copy' (Copy) was cancelled at 2026-01-01 10:00:10 UTC, after 10 s."
    # No activity need have been active.
    assert Listing().explain(status="Cancelled") == Explanation()


@pytest.mark.parametrize("fault", [AdfUnavailableError("503"), Page(items=[], continuation_token=None)], ids=str)
def test_failed_or_empty_list_is_queried_again(fault: Any) -> None:
    service = Listing(root=[row("Copy")])
    service.first = [fault] * MOST_EXPLANATION_PAUSES
    assert names(service.explain()) == ["Copy"]
    assert sum(service.pauses) == 4


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([AdfUnavailableError("503: try later")] * 9, "could not be read: 503: try later."),
        ([AdfPermissionError("no role to list", status=403)], "could not be read: no role to list."),
        ([Page(items=[], continuation_token=None)] * 9, "the service lists no failed activity of the run."),
    ],
    ids=str,
)
def test_failure_is_reported_without_unreadable_details(answers: list[Any], expected: str) -> None:
    service = Listing()
    service.first = answers
    found = service.explain("Operation on target Copy failed: boom")
    assert found.activities == ()
    assert expected in found.text("root")
    assert sum(service.pauses) <= 4


def test_requests_are_bounded() -> None:
    chain: dict[str, Any] = {
        f"r{n}": [row("Call", "ExecutePipeline", message="Operation on target Call failed", child=f"r{n + 1}")]
        for n in range(50)
    }
    service = Listing(root=[row("Call", "ExecutePipeline", child="r0")], **chain)
    found = service.explain("Operation on target Call failed")
    assert len(service.asked) == EXPLANATION_REQUESTS
    assert names(found) == ["Call"]
    assert (
        f"More activities could not be read: an explanation sends no more than {EXPLANATION_REQUESTS} requests."
        in found.text("root")
    )


def test_list_that_repeats_itself_is_one_attempt_and_reported_as_incomplete() -> None:
    failed = ActivityRun.from_wire(row("Copy", message="no table"))
    service = Listing()
    service.first = iter_forever(Page(items=[failed], continuation_token="same"))
    (activity,) = (found := service.explain("Operation on target Copy failed: no table")).activities
    assert (activity.attempts, len(service.asked)) == (1, 2)
    assert "More activities could not be read: page 2 names a page that was already read." in found.text("root")


def test_time_is_bounded() -> None:
    service = Listing(root=[row("Copy", iteration=str(n)) for n in range(50)])
    service.page_size, service.slow = 10, EXPLANATION_PATIENCE_SECONDS * 0.6
    found = service.explain()
    assert len(service.asked) == 2
    assert "took longer than 20 s" in str(found.missing)


def test_explanation_of_a_later_version_is_read() -> None:
    stored = Listing(root=[row("Copy")]).explain().to_json()
    stored["activities"][0]["novelty"] = 1
    assert names(Explanation.from_json(stored)) == ["Copy"]


def test_unexpected_error_does_not_prevent_the_explanation() -> None:
    service = Listing()
    service.first = iter_forever(AdfError("odd"))
    assert service.explain().missing == "odd"


def iter_forever(answer: Any) -> list[Any]:
    return [answer] * 50

"""The outcome of a wait as JSON, as a summary, and as an error."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_adf_mi.adf.activity_failures import Explanation
from airflow_adf_mi.adf.api.operations import Page
from airflow_adf_mi.adf.config.addresses import RunAddress
from airflow_adf_mi.adf.errors import (
    AdfAuthenticationError,
    AdfCertificateError,
    AdfConfigurationError,
    AdfError,
    AdfNotFoundError,
    AdfPermissionError,
    AdfRunCancelled,
    AdfRunFailed,
    AdfRunTimedOut,
    AdfUnavailableError,
)
from airflow_adf_mi.adf.models import PipelineRun
from airflow_adf_mi.adf.reporting.conclude import LAST_POLLS, cancelling_overdue, reporting
from airflow_adf_mi.adf.reporting.consumption import Consumed
from airflow_adf_mi.adf.reporting.report import LEFT_RUNNING, REQUESTED, Report, conclude, error_of, summary
from airflow_adf_mi.adf.timing import Timing
from airflow_adf_mi.adf.waiting.single_run import Ended, GaveUp, Outcome, Plan, TimedOut
from tests.support.reports import FAILURE
from tests.support.routines import FACTORY, Clock, play

NOTHING: Page[Any] = Page(items=[], continuation_token=None)
ADDRESS = RunAddress(run_id="r1", factory=FACTORY, studio_url="https://studio/r1", pipeline_name="Load")


def run(status: str, message: str = "") -> PipelineRun:
    return PipelineRun.from_wire(
        {
            "runId": "r1",
            "runGroupId": "g1",
            "pipelineName": "Load",
            "status": status,
            "message": message,
            "runStart": "2026-01-01T10:00:00Z",
            "runEnd": "2026-01-01T10:00:12Z",
            "durationInMs": 12000,
        }
    )


def raised(outcome: Outcome, cancel: str | None = None) -> AdfError:
    report = Report(address=ADDRESS, outcome=outcome, cancel=cancel)
    # As a trigger's event passes it on.
    with pytest.raises(AdfError) as error:
        conclude(Report.from_json(json.loads(json.dumps(report.to_json()))))
    return error.value


def test_succeeded_run_gives_its_summary() -> None:
    assert conclude(Report(address=ADDRESS, outcome=Ended(run=run("Succeeded")))) == {
        "run_id": "r1",
        "run_group_id": "g1",
        "pipeline_name": "Load",
        "factory_name": "adf",
        "resource_group_name": "rg",
        "status": "Succeeded",
        "started_at": "2026-01-01T10:00:00+00:00",
        "ended_at": "2026-01-01T10:00:12+00:00",
        "duration_seconds": 12.0,
        "studio_url": "https://studio/r1",
        "adopted": False,
        "consumption": None,
    }


def test_summary_has_what_the_run_consumed_as_the_event_passes_it_on() -> None:
    consumed = Consumed(activity_type="DataMovement", meter="AzureIR", unit="DIUHours", duration=0.0667)
    report = Report(address=ADDRESS, outcome=Ended(run=run("Succeeded")), consumption=(consumed,))
    passed_on = Report.from_json(json.loads(json.dumps(report.to_json())))
    assert passed_on == report
    assert conclude(passed_on)["consumption"] == [
        {"activity_type": "DataMovement", "meter": "AzureIR", "unit": "DIUHours", "duration": 0.0667}
    ]


@pytest.mark.parametrize("members", [{}, {"consumption": None}])
def test_consumption_that_was_not_read_is_not_zero(members: dict[str, Any]) -> None:
    payload = Report(address=ADDRESS, outcome=Ended(run=run("Succeeded")), consumption=()).to_json()
    assert conclude(Report.from_json(payload))["consumption"] == []
    del payload["consumption"]
    assert conclude(Report.from_json({**payload, **members}))["consumption"] is None


def test_summary_of_a_run_that_was_only_started_has_its_address() -> None:
    known = {name: value for name, value in summary(ADDRESS, None).items() if value is not None}
    assert set(known) == {"run_id", "pipeline_name", "factory_name", "resource_group_name", "studio_url", "adopted"}


def test_error_of_a_failed_run_contains_message_address_and_duration() -> None:
    error = raised(Ended(run=run("Failed", "Operation on target Copy failed: no table")))
    assert isinstance(error, AdfRunFailed)
    assert str(error) == (
        "Run r1 of pipeline 'Load' in factory 'adf' (resource group 'rg') failed after 12 s: Operation on target Copy "
        "failed: no table See https://studio/r1"
    )
    assert (error.run_id, error.studio_url) == ("r1", "https://studio/r1")
    assert error.run is not None
    assert error.run.status == "Failed"


def test_cancelled_run_raises_adf_run_cancelled() -> None:
    error = raised(Ended(run=run("Cancelled")))
    assert isinstance(error, AdfRunCancelled)
    assert "was cancelled after 12 s, and not by this task: somebody cancelled it in ADF Studio" in str(error)


def failed(explanation: Explanation, message: str) -> AdfRunFailed:
    report = Report(address=ADDRESS, outcome=Ended(run=run("Failed", message)), explanation=explanation)
    error = error_of(Report.from_json(json.loads(json.dumps(report.to_json()))))
    assert isinstance(error, AdfRunFailed)
    return error


def test_error_of_a_failed_run_names_its_activities() -> None:
    error = failed(Explanation(activities=(FAILURE,)), "Operation on target Child failed: no table")
    assert str(error) == (
        "Run r1 of pipeline 'Load' in factory 'adf' (resource group 'rg') failed after 12 s, because an activity failed:\n"
        "- 'Copy' (Copy) in run r2 of pipeline 'Inner': SystemError 2200: no table. Failed.\n"
        "  See https://studio/r2\n"
        "See https://studio/r1"
    )
    assert (error.failed_activity, error.error_code, error.failure_type) == ("Copy", "2200", "SystemError")
    assert error.failed_pipeline_run_id == "r2"


def test_error_of_a_failed_run_keeps_a_message_that_no_activity_explains() -> None:
    error = failed(Explanation(activities=(FAILURE, FAILURE), more=3), "the pipeline took too long")
    assert "because 5 activities failed, the first cause first: the pipeline took too long\n- 'Copy'" in str(error)


def test_error_of_a_failed_run_explains_why_details_are_missing() -> None:
    error = failed(Explanation(missing="503"), "Operation on target Copy failed: no table")
    assert str(error) == (
        "Run r1 of pipeline 'Load' in factory 'adf' (resource group 'rg') failed after 12 s: Operation on target Copy "
        "failed: no table\nIts activities could not be read: 503.\nSee https://studio/r1"
    )
    assert (error.failed_activity, error.error_code, error.failure_type, error.failed_pipeline_run_id) == (None,) * 4


def test_event_of_an_older_version_is_read() -> None:
    payload = Report(address=ADDRESS, outcome=Ended(run=run("Failed", "boom"))).to_json()
    del payload["explanation"], payload["adopted"], payload["consumption"]
    assert str(error_of(Report.from_json(payload))).endswith("failed after 12 s: boom See https://studio/r1")


@pytest.mark.parametrize(
    ("cancel", "expected"),
    [
        (REQUESTED, "Its cancellation was requested."),
        (LEFT_RUNNING, "It was left running."),
        ("403", "It could not be cancelled and may still be active: 403"),
    ],
)
def test_error_of_a_timeout_reports_the_status_and_the_cancel_of_the_run(cancel: str, expected: str) -> None:
    error = raised(TimedOut(run=run("InProgress"), error=AdfUnavailableError("503")), cancel)
    assert isinstance(error, AdfRunTimedOut)
    assert "did not end before the timeout. It was InProgress at the last status check." in str(error)
    late = TimedOut(run=run("InProgress"), deadline_reason="execution_timeout of 600 s")
    assert "(resource group 'rg') did not end within its execution_timeout of 600 s. It was" in str(raised(late))
    assert expected in str(error)
    assert str(error).endswith("The last status check failed: 503")


def test_error_of_a_timeout_without_any_successful_status_check_says_so() -> None:
    assert "No status check succeeded." in str(raised(TimedOut()))


@pytest.mark.parametrize(
    "refusal",
    [
        AdfPermissionError("no role", status=403, code="AuthorizationFailed"),
        AdfNotFoundError("no run", status=404),
        AdfAuthenticationError("no identity"),
        AdfConfigurationError("no such file"),
        AdfCertificateError("not trusted"),
    ],
    ids=str,
)
def test_error_of_a_lasting_refusal_keeps_its_type_and_the_run_may_continue(refusal: AdfError) -> None:
    error = raised(GaveUp(error=refusal))
    assert type(error) is type(refusal)
    assert "The run itself is not affected" in str(error)
    assert ("the service kept refusing" in str(error)) is not isinstance(error, AdfConfigurationError)
    assert str(refusal).split(":")[-1].strip() in str(error)
    assert "https://studio/r1" in str(error)


def test_event_contains_no_parameters() -> None:
    secret = PipelineRun.from_wire({"runId": "r1", "status": "Succeeded", "parameters": {"key": "hush"}})
    assert "hush" not in json.dumps(Report(address=ADDRESS, outcome=Ended(run=secret)).to_json())


def test_message_that_was_cut_is_not_cut_again() -> None:
    report = Report(address=ADDRESS, outcome=Ended(run=run("Failed", "m" * 2300)))
    read = Report.from_json(json.loads(json.dumps(report.to_json())))
    assert read.outcome.run is not None
    assert read.outcome.run.message == "m" * 2000 + "… (300 more characters)"


def test_unknown_event_is_refused() -> None:
    payload: dict[str, Any] = Report(address=ADDRESS, outcome=TimedOut()).to_json() | {"outcome": "odd"}
    with pytest.raises(AdfError, match="an event that this version cannot read"):
        Report.from_json(payload)


def report(answers: list[Any], *, cancel_on_timeout: bool = True) -> tuple[Report, list[str]]:
    clock = Clock()
    routine = reporting(
        ADDRESS,
        Plan(check_interval=10, deadline=1015),
        cancel_on_timeout=cancel_on_timeout,
        timing=Timing(clock=clock, jitter=lambda: 0.5),
    )
    return play(routine, clock, iter(answers))


def test_deadline_cancels_the_run() -> None:
    result, asked = report([run("InProgress")] * 3 + [True])
    assert (result.cancel, asked) == (REQUESTED, ["get", "get", "get", "cancel"])


def test_deadline_leaves_the_run_if_it_must_not_be_cancelled() -> None:
    result, asked = report([run("InProgress")] * 3, cancel_on_timeout=False)
    assert (result.cancel, asked) == (LEFT_RUNNING, ["get"] * 3)


def test_run_that_succeeded_before_the_cancel_counts_as_succeeded() -> None:
    result, asked = report([run("InProgress")] * 3 + [False, run("Succeeded")])
    assert result.outcome == Ended(run=run("Succeeded"))
    assert asked[-2:] == ["cancel", "get"]


def test_run_that_somebody_cancelled_before_our_cancel_raises_adf_run_cancelled() -> None:
    result, _ = report([run("InProgress")] * 3 + [False, run("Cancelled")] + [NOTHING] * 3)
    assert (result.outcome, result.cancel) == (Ended(run=run("Cancelled")), None)
    assert isinstance(error_of(result), AdfRunCancelled)


def test_run_that_a_lost_cancel_cancelled_is_our_timeout() -> None:
    lost = AdfUnavailableError("503", status=503)
    result, asked = report([run("InProgress")] * 3 + [lost, False, run("Cancelled")])
    assert (result.cancel, asked[-3:]) == (REQUESTED, ["cancel", "cancel", "get"])
    assert isinstance(error_of(result), AdfRunTimedOut)


@pytest.mark.parametrize("odd", [{"pipelineRunId": []}, 7])
def test_failure_is_reported_although_its_explanation_fails(odd: Any) -> None:
    result, _ = report([run("Failed", "no table"), Page(items=[odd], continuation_token=None)])
    error = error_of(Report.from_json(json.loads(json.dumps(result.to_json()))))
    assert isinstance(error, AdfRunFailed)
    assert "no table" in str(error)
    assert "could not be read: " in str(error)


def test_refused_cancel_is_reported_with_the_timeout() -> None:
    result, _ = report([run("InProgress")] * 3 + [AdfPermissionError("no role to cancel", status=403)] * 20)
    assert isinstance(result.outcome, TimedOut)
    assert result.cancel == "no role to cancel"


UNREADABLE = AdfUnavailableError("the answer could not be read", status=200, unreadable=True)


@pytest.mark.parametrize("lost", [[], [AdfUnavailableError("503")]], ids=["at once", "after a lost cancel"])
@pytest.mark.parametrize("answer", [AdfUnavailableError("503"), UNREADABLE, run("InProgress")], ids=str)
def test_overdue_run_with_an_unknown_end_is_not_reported_as_cancelled(answer: Any, lost: list[Any]) -> None:
    clock = Clock()
    routine = cancelling_overdue(ADDRESS, TimedOut(), timing=Timing(clock=clock, jitter=lambda: 0.5))
    result, asked = play(routine, clock, iter([*lost, False, *[answer] * LAST_POLLS]))
    assert isinstance(result.outcome, TimedOut)
    assert asked[-LAST_POLLS:] == ["get"] * LAST_POLLS
    text = str(error_of(Report.from_json(json.loads(json.dumps(result.to_json())))))
    assert "had no known end before the timeout" in text
    assert "it had already ended. No status check showed how it ended." in text
    assert "requested" not in text
    assert isinstance(answer, PipelineRun) or text.endswith(str(answer))


def test_one_unreadable_status_check_after_a_late_cancel_does_not_hide_the_end() -> None:
    clock = Clock()
    routine = cancelling_overdue(ADDRESS, TimedOut(), timing=Timing(clock=clock, jitter=lambda: 0.5))
    result, _ = play(routine, clock, iter([False, UNREADABLE, run("Succeeded")]))
    assert result.is_success

"""Reading what the service says, and masking what must not be shown."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_adf_mi.adf.models import ActivityRun, PipelineRun
from airflow_adf_mi.adf.redact import cap, redact

RUN: dict[str, Any] = {
    "runId": "r1",
    "runGroupId": "g1",
    "pipelineName": "Load",
    "parameters": {"day": "2026-01-01", "flags": "[1, 2]"},
    "runStart": "2026-01-01T10:00:00.1234567Z",
    "runEnd": "2026-01-01T10:01:00Z",
    "durationInMs": 59877,
    "status": "Succeeded",
    "message": "",
    "lastUpdated": "2026-01-01T10:01:00.98337Z",
    "runDimension": {"team": "sales"},
    "isLatest": True,
    "somethingNew": {"kept": 1},
}


def test_run_is_read_with_seven_digit_fractions_and_unknown_fields() -> None:
    run = PipelineRun.from_wire(RUN)
    assert run.started_at == datetime(2026, 1, 1, 10, 0, 0, 123456, tzinfo=UTC)
    assert run.duration_seconds == pytest.approx(59.877)
    assert run.run_dimensions == {"team": "sales"}
    assert run.message is None
    assert run.raw["somethingNew"] == {"kept": 1}


def test_unfinished_run_has_no_end() -> None:
    run = PipelineRun.from_wire({**RUN, "status": "Queued", "runEnd": None, "durationInMs": None, "message": None})
    assert (run.ended_at, run.duration_seconds, run.message, run.is_terminal) == (None, None, None, False)


@pytest.mark.parametrize("status", ["Queued", "InProgress", "Canceling", "Paused", ""])
def test_only_the_three_known_ends_are_ends(status: str) -> None:
    assert not PipelineRun.from_wire({**RUN, "status": status}).is_terminal


def test_essentials_read_back_as_the_same_run_without_its_parameters() -> None:
    run = PipelineRun.from_wire({**RUN, "status": "Failed", "message": "no table"})
    again = PipelineRun.from_wire(run.essentials())
    assert (again.run_id, again.status, again.message, again.ended_at) == ("r1", "Failed", "no table", run.ended_at)
    assert "parameters" not in run.essentials()


def test_run_without_an_id_is_no_run() -> None:
    with pytest.raises(KeyError):
        PipelineRun.from_wire({"status": "Succeeded"})


def test_activity_run_is_read_with_its_error() -> None:
    run = ActivityRun.from_wire(
        {
            "activityName": "Copy",
            "activityType": "Copy",
            "activityRunId": "a1",
            "status": "Failed",
            "error": {"errorCode": "2200", "message": "bad", "failureType": "UserError", "target": "Copy"},
            "retryAttempt": 2,
            "iterationHash": "abc",
            "output": {"rowsCopied": 3},
        }
    )
    assert (run.error_code, run.error_message, run.failure_type) == ("2200", "bad", "UserError")
    assert (run.retry_attempt, run.iteration_hash, run.output) == (2, "abc", {"rowsCopied": 3})


def test_activity_that_went_well_has_no_error() -> None:
    error = {"errorCode": "", "message": "", "failureType": "", "target": "Copy"}
    run = ActivityRun.from_wire({"activityName": "Copy", "status": "Succeeded", "error": error})
    assert (run.error_code, run.error_message, run.failure_type) == (None, None, None)


SECRETS = [
    ("https://x.blob.core.windows.net/c?sv=2022&sig=HUSHHUSH%2Fhush&se=2026", "HUSHHUSH"),
    ("DefaultEndpointsProtocol=https;AccountName=x;AccountKey=HUSHHUSH==;EndpointSuffix=y", "HUSHHUSH"),
    ("Server=tcp:x;User ID=me;Password=HUSHHUSH;Encrypt=True", "HUSHHUSH"),
    ("Server=x;pwd='HUSH HUSH';", "HUSH HUSH"),
    ('{"password": "HUSHHUSH", "user": "me"}', "HUSHHUSH"),
    ("Authorization: Bearer HUSHHUSHhush.hush", "HUSHHUSH"),
    ("token eyJhbGciOiJ.eyJhdWQiOiJ.c2lnbmF0dXJl was refused", "eyJhdWQiOiJ"),
]


@pytest.mark.parametrize(("text", "secret"), SECRETS)
def test_credentials_in_a_message_are_masked(text: str, secret: str) -> None:
    masked = redact(text)
    assert secret not in masked
    assert "***" in masked
    run = PipelineRun.from_wire({**RUN, "status": "Failed", "message": text})
    assert secret not in str(run.essentials())


@given(st.text(alphabet=st.characters(exclude_characters="=:\"'"), max_size=200))
def test_text_without_assignments_is_left_alone(text: str) -> None:
    if "bearer" not in text.lower() and "eyJ" not in text:
        assert redact(text) == text


def test_long_text_is_cut_with_a_note() -> None:
    assert cap("x" * 30, 10) == "xxxxxxxxxx… (20 more characters)"
    assert cap("short", 10) == "short"

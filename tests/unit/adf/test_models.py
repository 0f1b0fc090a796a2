"""Reading runs and activities of the service, and masking secrets in texts."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_adf_mi.adf.models import UNREADABLE, ActivityRun, PipelineRun
from airflow_adf_mi.adf.redaction import NAMES, cap, redact
from tests.support.minors import wire_form
from tests.support.planted_secrets import SECRETS

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


def test_active_run_has_no_end() -> None:
    run = PipelineRun.from_wire({**RUN, "status": "Queued", "runEnd": None, "durationInMs": None, "message": None})
    assert (run.ended_at, run.duration_seconds, run.message, run.is_terminal) == (None, None, None, False)


@pytest.mark.parametrize("status", ["Queued", "InProgress", "Canceling", "Paused"])
def test_other_statuses_are_not_terminal(status: str) -> None:
    assert not PipelineRun.from_wire({**RUN, "status": status}).is_terminal


def test_stored_run_is_the_same_without_its_parameters() -> None:
    run = PipelineRun.from_wire({**RUN, "status": "Failed", "message": "no table"})
    again = PipelineRun.from_wire(run.essentials())
    assert (again.run_id, again.status, again.message, again.ended_at) == ("r1", "Failed", "no table", run.ended_at)
    assert "parameters" not in run.essentials()


def test_run_without_an_id_cannot_be_read() -> None:
    with pytest.raises(KeyError):
        PipelineRun.from_wire({"status": "Succeeded"})


@pytest.mark.parametrize("member", ["runId", "status"])
@pytest.mark.parametrize("odd", [None, 7, True, "", " ", [], {}, "x" * 2000], ids=lambda odd: repr(odd)[:20])
def test_run_without_id_or_status_cannot_be_read(member: str, odd: Any) -> None:
    with pytest.raises(UNREADABLE):
        PipelineRun.from_wire({**RUN, member: odd})


NESTED: Any = {}
for _ in range(5000):
    NESTED = {"a": NESTED}
ODD = [
    None,
    True,
    7,
    -1.5,
    10**400,
    math.inf,
    math.nan,
    "",
    "x\x00\ud800",
    "0001-01-01",
    [],
    [None],
    {},
    {"a": [{}]},
    NESTED,
]


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: repr(odd)[:20] if odd is not NESTED else "nested")
@pytest.mark.parametrize("member", sorted(RUN.keys() - {"runId", "status"}))
def test_members_of_a_run_have_their_declared_types(member: str, odd: Any) -> None:
    """All members can be stored too: as JSON in any database, and in an event."""
    run = PipelineRun.from_wire({**RUN, member: odd})
    assert (run.run_id, run.status) == ("r1", "Succeeded")
    assert isinstance(run.pipeline_name, str)
    for text in (run.run_group_id, run.message):
        assert text is None or isinstance(text, str)
    for moment in (run.started_at, run.ended_at, run.last_updated):
        assert moment is None or moment.timestamp() > 0
    assert run.duration_seconds is None or 0 <= run.duration_seconds < 1e12
    assert run.is_latest in (None, True, False)
    for texts in (run.parameters, run.run_dimensions):
        assert all(isinstance(text, str) for pair in texts.items() for text in pair)
    stored = json.dumps(run.essentials(), allow_nan=False)
    assert "\\u0000" not in json.dumps(run.raw)
    json.dumps(run.raw, ensure_ascii=False).encode()
    assert PipelineRun.from_essentials(json.loads(stored)) == replace(
        run, parameters={}, is_latest=None, run_dimensions={}
    )


def test_run_that_an_earlier_version_stored_without_a_status_is_read() -> None:
    assert PipelineRun.from_essentials({"runId": "r1", "somethingNew": 1}).status == ""


def test_models_of_the_official_client_are_read_like_json() -> None:
    from azure.mgmt.datafactory.models import PipelineRun as Model

    model = Model.deserialize(RUN) if hasattr(Model, "deserialize") else Model(RUN)
    assert PipelineRun.from_wire(wire_form(model)) == PipelineRun.from_wire(RUN)


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        ("no such table", None, "no such table"),
        (["no", "table"], None, '["no", "table"]'),
        (
            {"errorCode": "2200", "message": {"text": "no table", "password": "HUSH"}},
            "2200",
            '{"text": "no table", "password": ***}',
        ),
        (
            {"code": "BadRequest", "message": "no", "details": [{"code": "X", "message": "table"}]},
            "BadRequest",
            "no X table",
        ),
        ({"errorCode": "1", "message": "no table", "details": [{"message": "table"}, None, 5]}, "1", "no table 5"),
        ({"errorCode": "1", "message": "", "details": "password=HUSH"}, "1", "password=***"),
        ({"errorCode": 10**400, "details": [{"message": str(n)} for n in range(100)]}, None, "0 1 2 3 4"),
        (7, None, "7"),
        (None, None, None),
    ],
)
def test_readable_parts_of_an_activitys_error_are_shown(error: Any, code: Any, message: Any) -> None:
    run = ActivityRun.from_wire({"activityName": "Copy", "status": "Failed", "error": error})
    assert (run.error_code, run.error_message) == (code, message)


@pytest.mark.parametrize("odd", [None, 5, "text", [], [{}]])
def test_activity_that_is_not_an_object_cannot_be_read(odd: Any) -> None:
    with pytest.raises(TypeError):
        ActivityRun.from_wire(odd)


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


def test_members_of_odd_types_are_converted_or_ignored() -> None:
    run = ActivityRun.from_wire(
        {
            "activityName": "Copy",
            "status": "Failed",
            "activityRunStart": "2026-01-01T10:00:00",
            "activityRunEnd": "2026-01-01T10:00:01Z",
            "durationInMs": "1000",
            "error": {"errorCode": 2200, "message": {"a": 1}, "failureType": None},
            "retryAttempt": "1",
            "iterationHash": 7,
            "output": ["x"],
        }
    )
    assert (run.error_code, run.error_message, run.failure_type) == ("2200", '{"a": 1}', None)
    assert (run.retry_attempt, run.iteration_hash, run.output, run.duration_seconds) == (None, "7", {}, None)
    assert run.started_at is not None
    assert run.ended_at is not None
    assert (run.ended_at - run.started_at).total_seconds() == 1
    assert ActivityRun.from_wire({"error": "boom"}).error_code is None


def test_successful_activity_has_no_error() -> None:
    error = {"errorCode": "", "message": "", "failureType": "", "target": "Copy"}
    run = ActivityRun.from_wire({"activityName": "Copy", "status": "Succeeded", "error": error})
    assert (run.error_code, run.error_message, run.failure_type) == (None, None, None)


@pytest.mark.parametrize(("text", "secret"), SECRETS)
def test_credentials_in_a_message_are_masked(text: str, secret: str) -> None:
    masked = redact(text)
    assert secret not in masked
    assert "***" in masked
    run = PipelineRun.from_wire({**RUN, "status": "Failed", "message": text})
    assert secret not in str(run.essentials())


@pytest.mark.parametrize(
    "text",
    [
        "ErrorCode=UserErrorFileNotFound,'Type=Microsoft.DataTransfer.Common.Shared.HybridDeliveryException'",
        "status code=404, code=AuthorizationFailed, code: 2200",
        "Basic authentication failed; the secret was not found in the key vault: expired token",
        "https://x.blob.core.windows.net:443/c?sv=2022&se=2026 (user: me@example.com)",
        "Operation on target Copy failed: signature mismatch: sign=1 design=2",
        "Violation of PRIMARY KEY constraint 'PK_sales'; partitionKey=7, foreign key: 8",
        "https://host:8080/path?email=me@example.com said: Authorization: the client is not allowed to",
        '{"name":"table","value":"sales"}',
    ],
)
def test_ordinary_text_is_not_masked(text: str) -> None:
    assert redact(text) == text


PIECES = st.one_of(
    st.sampled_from(
        [*"=:;&?\"'{},\\ \n@/%", "%3D", "%26", "://", "user", "key", "Code", "value", "Basic", "name", "é"]
    ),
    st.text(max_size=8),
)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ('{"a":{"password":{"type":"SecureString","value":"x"}},"error":"no such table"}', "no such table"),
        ('{"password":"","error":"no such table"}', "no such table"),
        ("Server=x;Password=a b;Database=sales", "Database=sales"),
        ("?sig=x%26se%3D2026 was refused", "was refused"),
        (r"{\u0022password\u0022:\u0022x\u0022,\u0022error\u0022:\u0022no table\u0022}", "no table"),
    ],
)
def test_only_the_credential_is_masked(text: str, kept: str) -> None:
    assert kept in redact(text)


@given(st.lists(PIECES, max_size=40).map("".join))
def test_text_without_names_of_secrets_is_not_masked(text: str) -> None:
    named = rf"{NAMES}|(?:(?<![A-Za-z])|(?<=3F))(?:sig|secret|token)|code=|bearer|authorization|eyJ|://[^@]*@"
    if re.search(named, text, re.IGNORECASE) is None:
        assert redact(text) == text


@given(
    st.text(alphabet=st.characters(exclude_characters='"\\'), min_size=4).filter(lambda t: t.strip("*{}")),
    st.sampled_from(["password", "clientSecret", "access_token", "AccountKey", "sig"]),
    st.integers(0, 3),
)
def test_secret_of_json_is_masked_at_any_depth_of_quoting(secret: str, name: str, depth: int) -> None:
    text = json.dumps({name: f"HUSH{secret}HUSH", "after": "shown"}, ensure_ascii=False)
    for _ in range(depth):
        text = json.dumps({"message": text}, ensure_ascii=False)
    masked = redact(text)
    assert "HUSH" not in masked
    assert "shown" in masked


def test_long_text_is_cut_with_a_note() -> None:
    assert cap("x" * 30, 10) == "xxxxxxxxxx… (20 more characters)"
    assert cap("short", 10) == "short"

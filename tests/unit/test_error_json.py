"""Errors on their way from a trigger to its task."""

from __future__ import annotations

import json

import pytest

from airflow_adf_mi.adf.error_json import error_from_json, error_to_json
from airflow_adf_mi.adf.errors import (
    AdfAmbiguousStartError,
    AdfAuthenticationError,
    AdfCertificateError,
    AdfConfigurationError,
    AdfError,
    AdfNotFoundError,
    AdfPermissionError,
    AdfRequestError,
    AdfThrottledError,
    AdfUnavailableError,
)

ERRORS = [
    AdfError("a"),
    AdfConfigurationError("b"),
    AdfCertificateError("c"),
    AdfAuthenticationError("d", transient=True),
    AdfRequestError("e", status=400, code="Bad", request_id="r"),
    AdfRequestError("e", status=409, code="ScopeLocked", failure_cause="gateway"),
    AdfPermissionError("f", status=403),
    AdfNotFoundError("g", status=404, missing="pipeline"),
    AdfThrottledError("h", status=429),
    AdfUnavailableError("i", status=503, never_sent=True),
    AdfUnavailableError("i", status=403, is_foreign=True),
    AdfAmbiguousStartError("j", request_id="k"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_comes_out_as_it_went_in(error: AdfError) -> None:
    again = error_from_json(json.loads(json.dumps(error_to_json(error))))
    assert type(again) is type(error)
    assert str(again) == str(error)
    kept = {name: value for name, value in vars(error).items() if name not in ("retry_after", "candidates")}
    assert {name: getattr(again, name) for name in kept} == kept


@pytest.mark.parametrize(
    "stored",
    [
        {"type": "AdfOfALaterVersion", "message": "said"},
        {"type": "AdfRequestError", "message": "said"},
        {"type": "AdfRequestError", "message": "said", "status": None, "code": None, "request_id": None},
    ],
    ids=str,
)
def test_what_another_version_stored_keeps_its_text(stored: dict[str, object]) -> None:
    again = error_from_json(stored)
    assert (type(again), str(again)) == (AdfError, "said")

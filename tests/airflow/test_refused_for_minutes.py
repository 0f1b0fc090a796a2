"""Errors that fail a task only after five minutes. The cases start before all others, and are checked last."""

from __future__ import annotations

import pytest

from tests.airflow.conftest import EXPLAINED_MODES as MODES
from tests.airflow.conftest import STARTED_IN, World
from tests.support.airflow_logs import golden, log_of
from tests.support.minors import needs

pytestmark = pytest.mark.airflow

BROKEN = (
    "ServiceResponseError: ('Connection aborted.', RemoteDisconnected('Remote end closed connection without response'))"
)


@pytest.mark.parametrize("mode", STARTED_IN)
def test_error_of_a_throttled_start(mode: str, explaining: World) -> None:
    assert f"AdfThrottledError: {golden('throttled_start')}" in log_of(explaining, f"throttled_start_{mode}", 420)


@pytest.mark.parametrize("mode", STARTED_IN)
def test_error_if_the_identity_endpoint_is_down(mode: str, explaining: World) -> None:
    text = log_of(explaining, f"identity_endpoint_down_{mode}", 420)
    assert f"AdfAuthenticationError: {golden('identity_endpoint_down')}" in text


@pytest.mark.parametrize("mode", STARTED_IN)
def test_error_of_a_missing_role_to_search_for_runs(mode: str, explaining: World) -> None:
    text = log_of(explaining, f"missing_role_to_find_{mode}", 420).replace("ExplainFind", "ExplainCopy")
    # The libraries of workers and triggers have different texts for a broken connection.
    text = text.replace("ServiceRequestError: Server disconnected", BROKEN)
    assert f"AdfAmbiguousStartError: {golden('missing_role_to_find')}" in text


@needs("TASK_STATE_STORE")
@pytest.mark.parametrize("mode", MODES)
def test_error_of_a_missing_role_to_read_runs(mode: str, explaining: World) -> None:
    text = log_of(explaining, f"missing_role_to_watch_{mode}", 420)
    assert f"AdfPermissionError: {golden('missing_role_to_watch')}" in text


@pytest.mark.parametrize("mode", MODES)
def test_error_of_a_missing_role_to_cancel_runs(mode: str, explaining: World) -> None:
    text = log_of(explaining, f"missing_role_to_cancel_{mode}", 420)
    assert f"AdfRunTimedOut: {golden('missing_role_to_cancel')}" in text

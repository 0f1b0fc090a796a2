"""What is waited through for five minutes before it fails a task: last of this folder, and launched before all else."""

from __future__ import annotations

import pytest

from tests.airflow.conftest import EXPLAINED_MODES as MODES
from tests.airflow.conftest import STARTED_IN, World
from tests.support.airflow_logs import golden, log_of

pytestmark = pytest.mark.airflow

BROKEN = (
    "ServiceResponseError: ('Connection aborted.', RemoteDisconnected('Remote end closed connection without response'))"
)


@pytest.mark.parametrize("mode", STARTED_IN)
def test_throttled_start(mode: str, explaining: World) -> None:
    assert f"AdfThrottledError: {golden('throttled_start')}" in log_of(explaining, f"throttled_start_{mode}", 420)


@pytest.mark.parametrize("mode", STARTED_IN)
def test_identity_endpoint_down(mode: str, explaining: World) -> None:
    text = log_of(explaining, f"identity_endpoint_down_{mode}", 420)
    assert f"AdfAuthenticationError: {golden('identity_endpoint_down')}" in text


@pytest.mark.parametrize("mode", STARTED_IN)
def test_missing_role_to_find(mode: str, explaining: World) -> None:
    text = log_of(explaining, f"missing_role_to_find_{mode}", 420).replace("ExplainFind", "ExplainCopy")
    # The libraries of workers and of triggers have each their words for a connection that broke.
    text = text.replace("ServiceRequestError: Server disconnected", BROKEN)
    assert f"AdfAmbiguousStartError: {golden('missing_role_to_find')}" in text


@pytest.mark.parametrize("mode", MODES)
def test_missing_role_to_watch(mode: str, explaining: World) -> None:
    text = log_of(explaining, f"missing_role_to_watch_{mode}", 420)
    assert f"AdfPermissionError: {golden('missing_role_to_watch')}" in text


@pytest.mark.parametrize("mode", MODES)
def test_missing_role_to_cancel(mode: str, explaining: World) -> None:
    text = log_of(explaining, f"missing_role_to_cancel_{mode}", 420)
    assert f"AdfRunTimedOut: {golden('missing_role_to_cancel')}" in text

"""The error texts in the logs of real tasks are those of `tests/golden`."""

from __future__ import annotations

import time

import pytest

from tests.airflow.conftest import EXPLAINED_MODES as MODES
from tests.airflow.conftest import STARTED_IN, World, camel_of
from tests.support.airflow_logs import golden, log_of
from tests.support.explained import general
from tests.support.minors import needs

pytestmark = pytest.mark.airflow


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("failed_copy", "AdfRunFailed"),
        ("failed_child_of_a_child", "AdfRunFailed"),
        ("failed_iteration", "AdfRunFailed"),
        ("timeout", "AdfRunTimedOut"),
        ("missing_role_to_explain", "AdfRunFailed"),
    ],
)
def test_error_of_a_run_that_did_not_succeed(name: str, kind: str, mode: str, explaining: World) -> None:
    assert f"{kind}: {golden(name)}" in log_of(explaining, f"{name}_{mode}")


@pytest.mark.parametrize("mode", MODES)
def test_error_of_a_run_that_was_cancelled_outside(mode: str, explaining: World) -> None:
    pipeline = f"ExplainCancelled{camel_of(mode)}"
    until = time.monotonic() + 240
    while not explaining.emulator.books.count("getRun", pipeline=pipeline):
        assert time.monotonic() < until
        time.sleep(0.2)
    (run,) = explaining.runs(pipeline)
    explaining.emulator.call(lambda: explaining.emulator.state("adf-test").cancel_run(run.run_id))
    text = log_of(explaining, f"cancelled_outside_{mode}").replace(pipeline, "ExplainCancelled")
    assert f"AdfRunCancelled: {golden('cancelled_outside')}" in text


@pytest.mark.parametrize("mode", STARTED_IN)
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("missing_role_to_start", "AdfPermissionError"),
        ("wrong_factory", "AdfNotFoundError"),
        ("misspelt_pipeline", "AdfNotFoundError"),
        ("unassigned_identity", "AdfAuthenticationError"),
    ],
)
def test_error_of_a_refused_start(name: str, kind: str, mode: str, explaining: World) -> None:
    assert f"{kind}: {golden(name)}" in log_of(explaining, f"{name}_{mode}")


@pytest.mark.parametrize("mode", MODES)
def test_outputs_are_pushed_and_activities_logged(mode: str, explaining: World) -> None:
    case = explaining.explained[f"outputs_{mode}"]
    assert explaining.airflow.wait_for_task(*case, "it", timeout=300) == "success"
    assert explaining.airflow.xcom(*case, "it", "rows") == 42
    text = general(explaining.airflow.log(*case, "it"), [explaining.emulator])
    assert "'CopySales' (Copy) succeeded after <n> s, 42 rows" in text
    assert "Run <run of ExplainOutputs> succeeded: 1 activity in" in text


@needs("RETRY_POLICIES")
@pytest.mark.parametrize("mode", MODES)
def test_retry_policy_stops_on_a_user_error(mode: str, explaining: World) -> None:
    case = explaining.explained[f"policy_user_{mode}"]
    assert explaining.airflow.wait_for_task(*case, "it", timeout=300) == "failed"
    (ti,) = explaining.airflow.task_instances(*case)
    assert ti["try_number"] == 1
    assert len(explaining.runs(f"ExplainUser{camel_of(mode)}")) == 1


@pytest.mark.parametrize("mode", MODES)
def test_retry_policy_retries_a_system_error(mode: str, explaining: World) -> None:
    case = explaining.explained[f"policy_system_{mode}"]
    assert explaining.airflow.wait_for_task(*case, "it", timeout=300) == "failed"
    assert len(explaining.runs(f"ExplainSystem{camel_of(mode)}")) == 2

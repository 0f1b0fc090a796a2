"""What the retry policy decides."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk import DAG, RetryDecision, RetryPolicy
from airflow.sdk.exceptions import AirflowException

from airflow_adf_mi.adf.errors import (
    AdfConfigurationError,
    AdfNotFoundError,
    AdfPermissionError,
    AdfRunCancelled,
    AdfRunFailed,
    AdfRunTimedOut,
    AdfThrottledError,
)
from airflow_adf_mi.exceptions import to_airflow
from airflow_adf_mi.operators import AdfRunPipelineOperator
from airflow_adf_mi.retry import AdfRetryPolicy
from tests.unit.test_report import FAILURE

KNOWN: dict[str, Any] = {"run_id": "r1", "studio_url": "https://studio/r1"}
SYSTEM = FAILURE
USER = replace(FAILURE, failure_type="UserError", error_code="2100", message="ErrorCode=SqlFailedToConnect, no route")
ODD = replace(FAILURE, failure_type="Weather")
UNKNOWN = replace(FAILURE, failure_type=None)


def decide(error: BaseException, **arguments: Any) -> RetryDecision:
    policy = AdfRetryPolicy.deserialize(json.loads(json.dumps(AdfRetryPolicy(**arguments).serialize())))
    return policy.evaluate(error, 1, 3)


def failed(*activities: Any) -> AdfRunFailed:
    return AdfRunFailed("failed", activities=activities, **KNOWN)


@pytest.mark.parametrize(
    ("error", "action"),
    [
        (failed(SYSTEM), "retry"),
        (failed(USER), "fail"),
        (failed(SYSTEM, USER), "fail"),
        (failed(SYSTEM, ODD), "default"),
        (failed(UNKNOWN), "default"),
        (failed(), "default"),
        # The pipeline has handled what its run's own message does not name.
        (failed(replace(SYSTEM, is_named=True), USER), "retry"),
        (failed(replace(USER, is_named=True), SYSTEM), "fail"),
        (failed(replace(USER, is_named=True, activity_type="Fail"), SYSTEM), "fail"),
        (AdfRunCancelled("cancelled", **KNOWN), "fail"),
        (AdfRunTimedOut("late", **KNOWN), "default"),
        (AdfConfigurationError("bad"), "fail"),
        (AdfPermissionError("403", status=403), "default"),
        (AdfNotFoundError("404", status=404), "default"),
        (AdfThrottledError("429", status=429), "default"),
        (ValueError("not ours"), "default"),
    ],
)
def test_decision(error: BaseException, action: str) -> None:
    assert decide(error).action.value == action


def test_reasons_name_the_activity() -> None:
    assert decide(failed(USER)).reason == "user error 2100 of activity 'Copy' in pipeline 'Inner'"
    assert decide(failed(SYSTEM)).reason == "system error 2200 of activity 'Copy' in pipeline 'Inner'"


def test_named_user_errors_are_retried() -> None:
    assert decide(failed(USER), retry_on=["sqlfailedtoconnect"]).action.value == "retry"
    assert decide(failed(USER), retry_on=["2100"]).action.value == "retry"
    assert decide(failed(USER), retry_on=["other"]).action.value == "fail"
    with pytest.raises(AirflowException, match="must be a list"):
        AdfRetryPolicy(retry_on="2100")


@pytest.mark.parametrize("arguments", [{"retry_on": ["2100"]}, {}], ids=str)
def test_twin_that_a_task_raises_is_judged_as_the_error_of_the_core(arguments: dict[str, Any]) -> None:
    for error in (failed(USER), AdfConfigurationError("wrong"), AdfThrottledError("429", status=429, retry_after=5)):
        assert decide(to_airflow(error), **arguments) == decide(error, **arguments)


def test_cancelled_run_is_started_again_where_told_so() -> None:
    assert decide(AdfRunCancelled("cancelled", **KNOWN), retry_cancelled=True).action.value == "default"


def test_delays() -> None:
    assert decide(failed(SYSTEM), system_error_delay=timedelta(minutes=5)).retry_delay == timedelta(minutes=5)
    assert decide(failed(USER), retry_on=["2100"], system_error_delay=timedelta(minutes=5)).retry_delay is None
    throttled = decide(AdfThrottledError("429", status=429, retry_after=17))
    assert (throttled.action.value, throttled.retry_delay) == ("retry", timedelta(seconds=17))


def test_operator_takes_it() -> None:
    with DAG("d"):
        it = AdfRunPipelineOperator(task_id="it", pipeline_name="P", retries=3, retry_policy=AdfRetryPolicy())
    assert isinstance(it.retry_policy, RetryPolicy)
    assert it.has_retry_policy

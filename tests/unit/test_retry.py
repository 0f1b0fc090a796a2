"""What the retry policy decides."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk import DAG, RetryDecision, RetryPolicy
from airflow.sdk.exceptions import AirflowException
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_adf_mi.adf import errors
from airflow_adf_mi.adf.errors import (
    AdfAmbiguousStartError,
    AdfAuthenticationError,
    AdfCertificateError,
    AdfConfigurationError,
    AdfError,
    AdfNotFoundError,
    AdfPermissionError,
    AdfQueueFullError,
    AdfRequestError,
    AdfRunCancelled,
    AdfRunError,
    AdfRunFailed,
    AdfRunTimedOut,
    AdfTaskKilled,
    AdfThrottledError,
    AdfUnavailableError,
)
from airflow_adf_mi.exceptions import to_airflow
from airflow_adf_mi.operators import AdfRunPipelineOperator
from airflow_adf_mi.retry import AdfRetryPolicy, Forbidden
from tests.support.reports import FAILURE

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
        # Failures that the run's own message does not name were handled by the pipeline.
        (failed(replace(SYSTEM, is_named=True), USER), "retry"),
        (failed(replace(USER, is_named=True), SYSTEM), "fail"),
        (failed(replace(USER, is_named=True, activity_type="Fail"), SYSTEM), "fail"),
        (AdfRunCancelled("cancelled", **KNOWN), "fail"),
        (AdfRunTimedOut("late", **KNOWN), "default"),
        (ValueError("not ours"), "default"),
    ],
)
def test_decision_for_a_failed_run(error: BaseException, action: str) -> None:
    assert decide(error).action.value == action


BY_CLASS: list[tuple[AdfError, str]] = [
    (AdfError("what is this"), "default"),
    (AdfConfigurationError("bad"), "fail"),
    # It may concern one machine only, or be replaced soon.
    (AdfCertificateError("not trusted"), "default"),
    # A newly assigned identity takes minutes to work.
    (AdfAuthenticationError("no such identity"), "default"),
    (AdfAuthenticationError("the endpoint is down", transient=True), "default"),
    (AdfAuthenticationError("401", refused_token=True), "default"),
    (AdfRequestError("400", status=400, code="BadRequest"), "fail"),
    (AdfRequestError("413", status=413), "fail"),
    (AdfQueueFullError("the queue was full until the deadline", status=400, retry_after=5), "default"),
    # A retry starts the run once the lock is removed.
    (AdfRequestError("409", status=409, code="ScopeLocked"), "default"),
    (AdfPermissionError("403", status=403), "retry"),
    (AdfNotFoundError("404", status=404, missing="subscription"), "fail"),
    (AdfNotFoundError("404", status=404, missing="factory"), "fail"),
    (AdfNotFoundError("404", status=404, missing="pipeline"), "fail"),
    (AdfNotFoundError("404", status=404, missing="run"), "default"),
    (AdfNotFoundError("400", status=400, missing="run"), "default"),
    (AdfNotFoundError("404", status=404), "default"),
    (AdfThrottledError("429", status=429), "default"),
    (AdfThrottledError("429", status=429, retry_after=7), "retry"),
    (AdfUnavailableError("503", status=503), "default"),
    (AdfUnavailableError("a web filter", status=403, is_foreign=True), "default"),
    # A retry searches for the run again, and starts none without proof.
    (AdfAmbiguousStartError("lost", request_id="k"), "default"),
    (AdfTaskKilled("killed"), "default"),
    (AdfRunError("?", **KNOWN), "default"),
    (failed(SYSTEM), "retry"),
    (AdfRunCancelled("cancelled", **KNOWN), "fail"),
    (AdfRunTimedOut("late", **KNOWN), "default"),
]


@pytest.mark.parametrize(("error", "action"), BY_CLASS, ids=repr)
def test_decision_for_each_class_of_errors(error: AdfError, action: str) -> None:
    decision = decide(error)
    assert decision.action.value == action
    assert (decision.reason is None) is (action == "default")


def test_every_class_of_errors_is_tested() -> None:
    classes = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, AdfError)}
    assert classes == {type(error) for error, _ in BY_CLASS}


class Store(dict[str, Any]):
    """Airflow's task state store, which keeps JSON."""

    def set(self, key: str, value: Any) -> None:
        self[key] = json.loads(json.dumps(value))


DENIED = AdfPermissionError("403", status=403, code="AuthorizationFailed")


def at(seconds: float, try_number: int, context: Any, monkeypatch: pytest.MonkeyPatch, max_tries: int = 9) -> Any:
    """The decision after a try that failed with 403 at this time."""
    monkeypatch.setattr("time.time", lambda: 1_000_000.0 + seconds)
    return AdfRetryPolicy().evaluate(DENIED, try_number, max_tries, context)


def test_missing_role_is_retried_for_a_quarter_of_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    context = {"task_state_store": Store()}
    first = at(0, 1, context, monkeypatch)
    assert (first.action.value, first.retry_delay) == ("retry", timedelta(seconds=60))
    assert first.reason == (
        "the service has refused (403 AuthorizationFailed) for 0 s; a new role takes minutes to act, so it is retried until "
        "15 minutes after the first refusal, at least 60 s apart"
    )
    assert at(60, 2, context, monkeypatch).action.value == "retry"
    assert at(899, 3, context, monkeypatch).action.value == "retry"
    last = at(900, 4, context, monkeypatch)
    assert last.action.value == "fail"
    assert last.reason == (
        "the service has refused (403 AuthorizationFailed) for 900 s; a new role acts within 15 minutes, so no retry is made "
        "after that time"
    )
    # The same try is judged again, as for a task in triggerer mode.
    assert at(900, 4, context, monkeypatch).action.value == "fail"


def test_time_of_refusals_restarts_after_another_error_or_a_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    context = {"task_state_store": Store()}
    at(0, 1, context, monkeypatch)
    # Try 2 failed with another error.
    assert at(1000, 3, context, monkeypatch).action.value == "retry"
    assert at(1900, 4, context, monkeypatch).action.value == "fail"
    # A clear raises max_tries.
    assert at(2000, 5, context, monkeypatch, max_tries=14).action.value == "retry"


@pytest.mark.parametrize("seconds", [0, 59, 60, 300])
def test_retry_delay_of_the_task_is_kept_if_it_is_longer(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    task = AdfRunPipelineOperator(task_id="it", pipeline_name="P", retry_delay=timedelta(seconds=seconds))
    decision = at(0, 1, {"task": task}, monkeypatch)
    assert decision.retry_delay == (None if seconds >= 60 else timedelta(seconds=60))


def test_refusals_are_retried_without_a_time_limit_if_there_is_no_state_store(monkeypatch: pytest.MonkeyPatch) -> None:
    for context in (None, {}, {"task_state_store": "no store"}):
        for number in (1, 2, 3):
            assert at(number * 1000.0, number, context, monkeypatch).action.value == "retry"


@given(
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
        lambda inner: st.dictionaries(st.sampled_from(["since", "try_number", "max_tries"]), inner),
    )
)
@example({"since": 2_000_000.0, "try_number": 1, "max_tries": 3})
@example({"since": float("nan"), "try_number": 1, "max_tries": 3})
@example({"since": "1", "try_number": 1, "max_tries": 3})
def test_invalid_stored_time_never_extends_the_retries(stored: object) -> None:
    now = Forbidden(since=1_000_000.0, try_number=2, max_tries=3)
    known = now.at(stored)
    assert (known.try_number, known.max_tries) == (2, 3)
    assert 0 <= known.since <= now.since


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
def test_twin_gets_the_same_decision_as_the_error_of_the_core(arguments: dict[str, Any]) -> None:
    for error in (failed(USER), AdfConfigurationError("wrong"), AdfThrottledError("429", status=429, retry_after=5)):
        assert decide(to_airflow(error), **arguments) == decide(error, **arguments)


def test_retry_cancelled_retries_cancelled_runs() -> None:
    assert decide(AdfRunCancelled("cancelled", **KNOWN), retry_cancelled=True).action.value == "default"


def test_delay_depends_on_the_error() -> None:
    assert decide(failed(SYSTEM), system_error_delay=timedelta(minutes=5)).retry_delay == timedelta(minutes=5)
    assert decide(failed(USER), retry_on=["2100"], system_error_delay=timedelta(minutes=5)).retry_delay is None
    throttled = decide(AdfThrottledError("429", status=429, retry_after=17))
    assert (throttled.action.value, throttled.retry_delay) == ("retry", timedelta(seconds=17))


def test_operator_accepts_the_policy() -> None:
    with DAG("d"):
        it = AdfRunPipelineOperator(task_id="it", pipeline_name="P", retries=3, retry_policy=AdfRetryPolicy())
    assert isinstance(it.retry_policy, RetryPolicy)
    assert it.has_retry_policy

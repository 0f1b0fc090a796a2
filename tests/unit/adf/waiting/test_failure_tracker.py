"""How failures of several simultaneous requests, and of several kinds, are counted."""

from __future__ import annotations

import pytest

from airflow_adf_mi.adf.errors import (
    AdfAuthenticationError,
    AdfCertificateError,
    AdfConfigurationError,
    AdfError,
    AdfPermissionError,
    AdfThrottledError,
    AdfUnavailableError,
)
from airflow_adf_mi.adf.retrying import FIRST_BACKOFF_SECONDS
from airflow_adf_mi.adf.waiting.failure_tracker import (
    FEWEST_REFUSALS_TO_GIVE_UP,
    LIST_REFUSED_PAUSE_SECONDS,
    FailureTracker,
)
from airflow_adf_mi.adf.waiting.poll_plan import FEW_RUNS, PollPlan, PollRun
from airflow_adf_mi.adf.waiting.single_run import REFUSAL_GRACE_SECONDS, GaveUp

REFUSED = AdfAuthenticationError("401", refused_token=True)
DOWN = AdfUnavailableError("503", status=503)


def test_other_failures_between_two_refusals_do_not_count_as_refusals() -> None:
    tracker = FailureTracker(jitter=0)
    for at, error in [
        (0, REFUSED),
        *((100 + n, DOWN) for n in range(FEWEST_REFUSALS_TO_GIVE_UP)),
        (REFUSAL_GRACE_SECONDS + 1, REFUSED),
    ]:
        tracker.poll_failed(error, at, at)
    assert tracker.final_error is None
    for n in range(2, FEWEST_REFUSALS_TO_GIVE_UP):
        tracker.poll_failed(REFUSED, REFUSAL_GRACE_SECONDS + n, REFUSAL_GRACE_SECONDS + n)
    assert tracker.final_error is REFUSED


def test_refusals_of_simultaneous_requests_count_once() -> None:
    tracker = FailureTracker(jitter=0)
    for n in range(FEWEST_REFUSALS_TO_GIVE_UP):
        tracker.poll_failed(REFUSED, asked_at=0, now=1 + n / 10)
    tracker.poll_failed(REFUSED, REFUSAL_GRACE_SECONDS + 2, REFUSAL_GRACE_SECONDS + 2)
    assert tracker.final_error is None


def test_simultaneous_failures_cause_the_pause_of_one_failure() -> None:
    tracker = FailureTracker(jitter=0)
    for n in range(8):
        tracker.poll_failed(DOWN, asked_at=0, now=1 + n / 10)
    tracker.list_failed(DOWN, asked_at=0.5, now=2)
    assert tracker.pause_until <= 2 + FIRST_BACKOFF_SECONDS


def test_list_that_fails_for_days_keeps_its_longest_pause() -> None:
    tracker = FailureTracker(jitter=0)
    for n in range(1000):
        at = 1000.0 * n
        tracker.poll_answered(at, shows_run=True)
        tracker.list_failed(DOWN, asked_at=at, now=at + 1)
    assert tracker.is_list_unavailable
    assert 0 <= tracker.list_pause_until - 999_001 - LIST_REFUSED_PAUSE_SECONDS < 10


def test_later_failure_does_not_shorten_retry_after() -> None:
    tracker = FailureTracker(jitter=0)
    tracker.poll_failed(AdfThrottledError("429", status=429, retry_after=120), asked_at=0, now=1)
    tracker.poll_failed(DOWN, asked_at=0, now=2)
    assert tracker.pause_until >= 121


@pytest.mark.parametrize("by_list", [False, True])
def test_error_that_ended_all_waits_does_not_end_later_waits(by_list: bool) -> None:
    tracker = FailureTracker(jitter=0)
    tracker.poll_failed(AdfConfigurationError("no such identity"), asked_at=0, now=0)
    assert tracker.final_error is not None
    if by_list:
        tracker.list_failed(AdfPermissionError("403", status=403), asked_at=1, now=1)
    else:
        tracker.poll_failed(DOWN, asked_at=1, now=1)
    assert tracker.final_error is None


@pytest.mark.parametrize("by_list", [False, True])
@pytest.mark.parametrize(
    ("error", "ends"), [(AdfConfigurationError("no such identity"), True), (AdfCertificateError("not trusted"), False)]
)
def test_connection_that_cannot_be_used_here_ends_all_waits_at_once(error: AdfError, ends: bool, by_list: bool) -> None:
    plan = PollPlan(jitter=0)
    for n in range(FEW_RUNS + 2):
        plan.add(f"r{n}", interval=10, not_ended_before=0, now=0)
    outcomes = plan.list_failed(error, 1) if by_list else plan.poll_answered(PollRun("r0", 1), error, 1)
    assert plan.error is error, "the error concerns all waits"
    assert {type(outcome) for outcome in outcomes.values()} == ({GaveUp} if ends else set())
    assert len(outcomes) == (FEW_RUNS + 2 if ends else 0)

"""What failed answers come to, where several were under way at once or are of several kinds."""

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
from airflow_adf_mi.adf.waiting.failure_tracker import FEWEST_REFUSALS_TO_GIVE_UP, FailureTracker
from airflow_adf_mi.adf.waiting.poll_plan import FEW_RUNS, PollPlan, PollRun
from airflow_adf_mi.adf.waiting.single_run import REFUSAL_GRACE_SECONDS, GaveUp

REFUSED = AdfAuthenticationError("401", refused_token=True)
DOWN = AdfUnavailableError("503", status=503)


def test_other_failures_between_two_refusals_do_not_make_them_last() -> None:
    trouble = FailureTracker(jitter=0)
    for at, error in [
        (0, REFUSED),
        *((100 + n, DOWN) for n in range(FEWEST_REFUSALS_TO_GIVE_UP)),
        (REFUSAL_GRACE_SECONDS + 1, REFUSED),
    ]:
        trouble.poll_failed(error, at, at)
    assert trouble.final_error is None
    for n in range(2, FEWEST_REFUSALS_TO_GIVE_UP):
        trouble.poll_failed(REFUSED, REFUSAL_GRACE_SECONDS + n, REFUSAL_GRACE_SECONDS + n)
    assert trouble.final_error is REFUSED


def test_refusals_of_what_was_under_way_at_once_are_one() -> None:
    trouble = FailureTracker(jitter=0)
    for n in range(FEWEST_REFUSALS_TO_GIVE_UP):
        trouble.poll_failed(REFUSED, asked_at=0, now=1 + n / 10)
    trouble.poll_failed(REFUSED, REFUSAL_GRACE_SECONDS + 2, REFUSAL_GRACE_SECONDS + 2)
    assert trouble.final_error is None


def test_outage_that_many_meet_at_once_costs_the_pause_of_one_failure() -> None:
    trouble = FailureTracker(jitter=0)
    for n in range(8):
        trouble.poll_failed(DOWN, asked_at=0, now=1 + n / 10)
    trouble.list_failed(DOWN, asked_at=0.5, now=2)
    assert trouble.pause_until <= 2 + FIRST_BACKOFF_SECONDS


def test_later_failure_does_not_shorten_what_the_service_asked_for() -> None:
    trouble = FailureTracker(jitter=0)
    trouble.poll_failed(AdfThrottledError("429", status=429, retry_after=120), asked_at=0, now=1)
    trouble.poll_failed(DOWN, asked_at=0, now=2)
    assert trouble.pause_until >= 121


@pytest.mark.parametrize("by_list", [False, True])
def test_what_has_ended_all_waits_does_not_end_those_that_come_later(by_list: bool) -> None:
    trouble = FailureTracker(jitter=0)
    trouble.poll_failed(AdfConfigurationError("no such identity"), asked_at=0, now=0)
    assert trouble.final_error is not None
    if by_list:
        trouble.list_failed(AdfPermissionError("403", status=403), asked_at=1, now=1)
    else:
        trouble.poll_failed(DOWN, asked_at=1, now=1)
    assert trouble.final_error is None


@pytest.mark.parametrize("by_list", [False, True])
@pytest.mark.parametrize(
    ("error", "ends"), [(AdfConfigurationError("no such identity"), True), (AdfCertificateError("not trusted"), False)]
)
def test_what_cannot_be_used_on_this_machine_ends_all_waits_at_once(error: AdfError, ends: bool, by_list: bool) -> None:
    rounds = PollPlan(jitter=0)
    for n in range(FEW_RUNS + 2):
        rounds.add(f"r{n}", interval=10, not_ended_before=0, now=0)
    told = rounds.list_failed(error, 1) if by_list else rounds.poll_answered(PollRun("r0", 1), error, 1)
    assert rounds.error is error, "it concerns all"
    assert {type(outcome) for outcome in told.values()} == ({GaveUp} if ends else set())
    assert len(told) == (FEW_RUNS + 2 if ends else 0)

"""The deadline of a wait: one table for all places that wait."""

from __future__ import annotations

from datetime import timedelta

import pytest

from airflow_adf_mi.adf.waiting.deadlines import (
    DEFERRED_MARGIN,
    TIMEOUT_SLACK_SECONDS,
    TRIGGERER_MARGIN,
    WORKER_MARGIN,
    Margin,
    deadline_of,
    deferral_timeout,
    execution_deadline,
    in_seconds,
    kept_deadline,
    seconds_left,
    start_of_wait,
    start_of_wait_on_worker,
)


@pytest.mark.parametrize(
    ("margin", "timeout", "execution_timeout", "at", "reason"),
    [
        # The try began at 1000, and the run at 1100.
        (WORKER_MARGIN, 600, None, 1700, "timeout of 600 s"),
        (WORKER_MARGIN, 600, 3600, 1700, "timeout of 600 s"),
        (WORKER_MARGIN, 600, 300, 1298, "execution_timeout of 300 s"),
        (WORKER_MARGIN, 600, 10, 1009, "execution_timeout of 10 s"),
        (WORKER_MARGIN, 600, 20, 1018, "execution_timeout of 20 s"),
        (DEFERRED_MARGIN, 600, 300, 1300, "execution_timeout of 300 s"),
        (DEFERRED_MARGIN, 600, 701, 1700, "timeout of 600 s"),
        (TRIGGERER_MARGIN, 600, 300, 1285, "execution_timeout of 300 s"),
        (TRIGGERER_MARGIN, 600, 40, 1030, "execution_timeout of 40 s"),
        (TRIGGERER_MARGIN, 600, 714, 1699, "execution_timeout of 714 s"),
        (TRIGGERER_MARGIN, 0.5, None, 1100.5, "timeout of 0.5 s"),
    ],
)
def test_deadline(margin: Margin, timeout: float, execution_timeout: float | None, at: float, reason: str) -> None:
    deadline = deadline_of(
        timeout, counts_from=1100, execution_timeout=execution_timeout, try_began=1000, margin=margin
    )
    assert (deadline.at, deadline.reason) == (at, reason)


@pytest.mark.parametrize(
    ("try_began", "first_sent_at", "run_began", "counts_from"),
    [
        (1000.0, 1040.0, 1100.0, 1040),  # the run of this try
        (1000.0, 1040.0, None, 1040),  # the service has not shown the run yet
        (1000.0, 500.0, 510.0, 1000),  # the run of an earlier try
        (1000.0, None, 1100.0, 1100),  # the run of somebody else, or the record of the start cannot be read
        (1000.0, None, 500.0, 1000),
        (1000.0, None, None, 1200),
        (None, 1100.0, 1110.0, 1200),  # Airflow did not report when the try began
        (None, None, None, 1200),
    ],
)
def test_moment_from_which_the_timeout_counts(
    try_began: float | None, first_sent_at: float | None, run_began: float | None, counts_from: float
) -> None:
    moment = start_of_wait(now=1200, try_began=try_began, first_sent_at=first_sent_at, run_began=run_began)
    assert moment == counts_from


@pytest.mark.parametrize(
    ("sent_at", "refused_at", "counts_from"),
    [
        (1100.0, None, 1100),  # the start of this try, perhaps found after a search
        (1000.0, None, 1000),
        (1100.0, 1050.0, 1050),  # a full queue refused the first createRun of this try
        (500.0, None, 1200),  # the run of an earlier try is adopted
        (500.0, 1050.0, 1050),
        (None, None, 1200),  # a run of somebody else is adopted
        (1300.0, None, 1200),  # the clock of the machine that sent it is ahead
    ],
)
def test_moment_from_which_the_timeout_counts_on_a_worker(
    sent_at: float | None, refused_at: float | None, counts_from: float
) -> None:
    moment = start_of_wait_on_worker(now=1200, try_began=1000, sent_at=sent_at, refused_at=refused_at)
    assert moment == counts_from


@pytest.mark.parametrize(
    ("execution_timeout", "reason"),
    [
        (None, "timeout of 600 s"),
        (800, "timeout of 600 s"),
        (700, "execution_timeout of 700 s"),
        (300, "execution_timeout of 300 s"),
    ],
)
def test_kept_deadline_is_named_by_the_argument_that_set_it(execution_timeout: float | None, reason: str) -> None:
    by_execution = execution_deadline(execution_timeout, try_began=1000, margin=DEFERRED_MARGIN)
    kept = deadline_of(600, counts_from=1100, execution_timeout=execution_timeout, try_began=1000).at
    assert kept_deadline(kept, 600, by_execution).at == kept
    assert kept_deadline(kept, 600, by_execution).reason == reason


def test_seconds_left_of_the_execution_timeout() -> None:
    assert seconds_left(None, try_began=1000, now=1200) is None
    assert seconds_left(300, try_began=1000, now=1200) == 100
    assert seconds_left(100, try_began=1000, now=1200) == -100


def test_airflows_timeout_comes_after_our_deadline() -> None:
    assert deferral_timeout(1300, 1200) == timedelta(seconds=100 + TIMEOUT_SLACK_SECONDS)
    assert deferral_timeout(1100, 1200) == timedelta(seconds=TIMEOUT_SLACK_SECONDS), (
        "a missed deadline does not make the timeout negative"
    )


def test_timeouts_are_converted_to_seconds() -> None:
    assert in_seconds(None) is None
    assert in_seconds(timedelta(minutes=1)) == 60

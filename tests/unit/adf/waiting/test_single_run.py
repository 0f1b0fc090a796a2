"""The rules of waiting for one run, and of cancelling it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_adf_mi.adf.cancelling import Cancel, cancelling
from airflow_adf_mi.adf.errors import (
    AdfAuthenticationError,
    AdfConfigurationError,
    AdfError,
    AdfNotFoundError,
    AdfPermissionError,
    AdfRequestError,
    AdfThrottledError,
    AdfUnavailableError,
)
from airflow_adf_mi.adf.models import PipelineRun
from airflow_adf_mi.adf.retrying import LONGEST_BACKOFF_SECONDS, backoff
from airflow_adf_mi.adf.timing import Timing
from airflow_adf_mi.adf.waiting.single_run import (
    REFUSAL_GRACE_SECONDS,
    Ended,
    GaveUp,
    Plan,
    TimedOut,
    WaitState,
    log_changes,
    next_state,
    pause_before_next_poll,
    waiting,
)
from tests.support.routines import FACTORY, FAULTS, REFUSALS, UNREADABLE, Clock, answers, play, run

PLAN = Plan(check_interval=10)


def wait(answers: list[Any], deadline: float | None = None) -> tuple[Any, list[str]]:
    clock = Clock()
    plan = Plan(check_interval=10, deadline=deadline)
    return play(waiting(FACTORY, "r1", plan, timing=Timing(clock=clock, jitter=lambda: 0.5)), clock, iter(answers))


@pytest.mark.parametrize("status", ["Succeeded", "Failed", "Cancelled"])
def test_wait_ends_with_the_run(status: str) -> None:
    outcome, asked = wait([run("Queued"), run("InProgress"), run("Canceling"), run(status)])
    assert outcome == Ended(run=run(status))
    assert len(asked) == 4


def test_unknown_status_is_not_an_end_and_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    outcome, _ = wait([run("Paused"), run("Paused"), run("Succeeded")])
    assert isinstance(outcome, Ended)
    assert sum("does not know" in record.message for record in caplog.records) == 1


def test_end_in_the_list_does_not_log_that_status_checks_work_again(caplog: pytest.LogCaptureFixture) -> None:
    failing = WaitState(error=AdfUnavailableError("500", status=500))
    with caplog.at_level("INFO"):
        log_changes("r1", failing, WaitState(run=run("Succeeded")))
        assert caplog.messages == ["Run r1 succeeded."]
        log_changes("r1", failing, WaitState(run=run("InProgress")))
        assert caplog.messages[1:] == ["Status checks work again (run r1).", "Run r1 is InProgress."]
        log_changes("r1", failing, WaitState())
    assert caplog.messages[3:] == ["Status checks work again (run r1)."]


@pytest.mark.parametrize("error", [*FAULTS, *REFUSALS], ids=str)
def test_failed_status_check_does_not_end_the_wait(error: AdfError) -> None:
    outcome, asked = wait([run("InProgress"), error, error, run("Succeeded")])
    assert isinstance(outcome, Ended)
    assert set(asked) == {"get"}


@pytest.mark.parametrize("error", FAULTS, ids=str)
def test_faults_are_tolerated_until_the_deadline(error: AdfError) -> None:
    state, now = WaitState(), 1000.0
    for _ in range(500):
        state, outcome = next_state(state, error, now, PLAN)
        assert outcome is None
        now += 60
    _, outcome = next_state(state, error, now, Plan(check_interval=10, deadline=now))
    assert outcome == TimedOut(run=None, error=error)


@pytest.mark.parametrize("error", [*REFUSALS, UNREADABLE], ids=str)
def test_lasting_refusal_ends_the_wait_after_the_grace_period_and_not_before(error: AdfError) -> None:
    state, outcome = next_state(WaitState(run=run("InProgress")), error, 1000.0, PLAN)
    assert outcome is None
    _, outcome = next_state(state, error, 1000.0 + REFUSAL_GRACE_SECONDS - 1, PLAN)
    assert outcome is None
    _, outcome = next_state(state, error, 1000.0 + REFUSAL_GRACE_SECONDS, PLAN)
    assert outcome == GaveUp(error=error, run=run("InProgress"))


def test_connection_that_cannot_be_used_here_ends_the_wait_at_once() -> None:
    error = AdfConfigurationError("no such file")
    _, outcome = next_state(WaitState(run=run("InProgress")), error, 1000.0, PLAN)
    assert outcome == GaveUp(error=error, run=run("InProgress"))


def test_successful_status_check_restarts_the_grace_period() -> None:
    state, _ = next_state(WaitState(), REFUSALS[0], 1000.0, PLAN)
    state, _ = next_state(state, run("InProgress"), 1200.0, PLAN)
    state, outcome = next_state(state, REFUSALS[0], 1400.0, PLAN)
    assert outcome is None
    assert state.refused_since == 1400.0


def test_ended_run_counts_although_the_deadline_has_passed() -> None:
    _, outcome = next_state(WaitState(), run("Succeeded"), 2000.0, Plan(check_interval=10, deadline=1500.0))
    assert isinstance(outcome, Ended)


def test_last_status_check_is_sent_at_the_deadline() -> None:
    outcome, asked = wait([run("InProgress")] * 10, deadline=1025.0)
    assert outcome == TimedOut(run=run("InProgress"), error=None)
    # They are sent at 1000, 1010, 1020 and 1025.
    assert len(asked) == 4


def test_retry_after_is_honoured() -> None:
    error = AdfThrottledError("429", status=429, retry_after=90)
    state = WaitState(error=error, failures=1)
    assert pause_before_next_poll(state, 0.0, PLAN, 0.0) >= 90


@given(st.lists(st.tuples(answers, st.floats(0, 400)), max_size=30), st.one_of(st.none(), st.floats(1000, 9000)))
def test_wait_ends_with_the_run_only_if_an_answer_shows_its_end(
    polls: list[tuple[Any, float]], deadline: float | None
) -> None:
    """For any answers: the first one that shows the run's end gives the outcome, and no other answer does."""
    state, now = WaitState(), 1000.0
    plan = Plan(check_interval=10, deadline=deadline)
    for seen, passed in polls:
        now += passed
        state, outcome = next_state(state, seen, now, plan)
        if isinstance(seen, PipelineRun) and seen.is_terminal:
            assert outcome == Ended(run=seen)
        else:
            assert not isinstance(outcome, Ended)
        if isinstance(outcome, TimedOut):
            assert deadline is not None
            assert now >= deadline
        if isinstance(outcome, GaveUp):
            assert state.refused_since is not None
            assert now - state.refused_since >= REFUSAL_GRACE_SECONDS
        if outcome is not None:
            return


@given(st.integers(1, 10_000), st.one_of(st.none(), st.floats(0, 4000)), st.floats(0, 1, exclude_max=True))
def test_backoff_is_bounded_and_never_shorter_than_retry_after(
    failures: int, retry_after: float | None, jitter: float
) -> None:
    seconds = backoff(failures, retry_after, jitter)
    assert seconds >= (retry_after or 0)
    assert seconds <= (retry_after or 0) + LONGEST_BACKOFF_SECONDS
    assert seconds > 0


def cancel(answers: list[Any], patience: float = 60.0) -> tuple[Any, list[str]]:
    clock = Clock()
    routine = cancelling(FACTORY, "r1", timing=Timing(clock=clock, jitter=lambda: 0.5), patience=patience)
    return play(routine, clock, iter(answers))


@pytest.mark.parametrize(("accepted", "what"), [(True, Cancel.ACCEPTED), (False, Cancel.TOO_LATE)])
def test_cancel_returns_whether_it_was_accepted(accepted: bool, what: Cancel) -> None:
    assert cancel([accepted]) == (what, ["cancel"])


def test_run_that_ended_after_a_lost_cancel_answer_may_be_cancelled_by_us() -> None:
    assert cancel([AdfUnavailableError("503", status=503), False]) == (Cancel.PERHAPS, ["cancel", "cancel"])


@pytest.mark.parametrize(
    "error",
    [*FAULTS, UNREADABLE, AdfPermissionError("403", status=403), AdfAuthenticationError("401", refused_token=True)],
    ids=str,
)
def test_cancel_that_was_not_accepted_is_sent_again(error: AdfError) -> None:
    assert cancel([error, error, True]) == (Cancel.ACCEPTED, ["cancel"] * 3)


@pytest.mark.parametrize(
    "error",
    [
        AdfNotFoundError("404", status=404),
        AdfRequestError("409", status=409),
        AdfAuthenticationError("no such identity"),
        AdfConfigurationError("no such endpoint"),
    ],
    ids=str,
)
def test_refused_cancel_is_not_sent_again(error: AdfError) -> None:
    with pytest.raises(type(error)):
        cancel([error])


def test_cancel_gives_up_after_its_patience() -> None:
    with pytest.raises(AdfUnavailableError):
        cancel([AdfUnavailableError("503")] * 50, patience=20)

"""How long a question is asked again, and when it is asked last."""

from __future__ import annotations

from itertools import pairwise

import pytest

from airflow_adf_mi.adf.errors import AdfError, AdfUnavailableError
from airflow_adf_mi.adf.retrying import within
from airflow_adf_mi.adf.routines import Routine
from airflow_adf_mi.adf.starting.run_list import PATIENCE_SECONDS, with_patience
from airflow_adf_mi.adf.timing import Timing
from tests.support.service import MemoryJournal, Service, run_on


def asked(error: AdfError) -> list[float]:
    """After how many seconds a question is asked whose answer is always this error."""
    service, times = Service(), []
    began = service.now

    def ask() -> Routine[tuple[None, AdfError | None]]:
        times.append(service.now - began)
        yield from ()
        return None, error

    routine = with_patience(ask, timing=Timing(clock=service.clock, jitter=lambda: 0.5))
    assert run_on(routine, service, MemoryJournal(service)) == (None, error)
    return times


def test_last_question_is_asked_when_the_patience_is_over() -> None:
    times = asked(AdfUnavailableError("503", status=503))
    assert times[-1] == PATIENCE_SECONDS
    assert len(times) == 7


@pytest.mark.parametrize(("retry_after", "questions"), [(25.0, 3), (40.0, 2), (60.0, 2), (61.0, 1)])
def test_no_question_is_asked_earlier_than_the_service_wants(retry_after: float, questions: int) -> None:
    times = asked(AdfUnavailableError("503", status=503, retry_after=retry_after))
    assert len(times) == questions
    assert all(later - earlier >= retry_after for earlier, later in pairwise(times))
    assert times[-1] <= PATIENCE_SECONDS


@pytest.mark.parametrize(
    ("left", "pause", "at_least", "expected"),
    [
        (60.0, 3.0, None, 3.0),
        (2.0, 3.0, None, 2.0),
        (0.0, 3.0, None, None),
        (-1.0, 3.0, None, None),
        (5.0, 8.0, 4.0, 5.0),
        (5.0, 8.0, 5.0, 5.0),
        (5.0, 8.0, 6.0, None),
    ],
)
def test_last_pause_is_shortened(left: float, pause: float, at_least: float | None, expected: float | None) -> None:
    assert within(left, pause, at_least) == expected

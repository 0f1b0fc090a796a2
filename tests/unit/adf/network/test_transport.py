"""The service's clock and remaining reads, as its answers show them."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_adf_mi.adf.network.transport import ServiceClock


def answer(**headers: str) -> Any:
    return SimpleNamespace(http_response=SimpleNamespace(headers=headers))


def test_time_of_the_service_does_not_depend_on_the_machines_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ServiceClock()
    clock.saw(answer(Date="Wed, 25 Nov 2026 12:00:00 GMT"))
    real = time.time
    monkeypatch.setattr("time.time", lambda: real() - 3600)
    assert clock.is_known
    assert clock.now() == pytest.approx(1_795_608_000, abs=60)


@pytest.mark.parametrize("headers", [{}, {"Date": "soon"}, {"x-ms-ratelimit-remaining-subscription-reads": "many"}])
def test_answer_without_usable_headers_changes_nothing(headers: dict[str, str]) -> None:
    clock = ServiceClock()
    clock.saw(answer(**headers))
    assert (clock.is_known, clock.remaining_reads) == (False, None)

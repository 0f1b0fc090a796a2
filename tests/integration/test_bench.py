"""The programs of `make bench` that imitate Airflow's task process still run. Their figures are for `make bench` alone."""

from __future__ import annotations

import pytest

from bench import execute


@pytest.mark.parametrize(("who", "requests"), [("provider", 2), ("ours", 2), ("unchecked", 1), ("usual", 3)])
def test_task_process_defers(who: str, requests: int) -> None:
    spent = execute.measure(who, 1)
    assert spent.cpu > 0
    # Zero if the process that started it was larger: the system inherits this figure.
    assert spent.megabytes >= 0
    assert spent.requests == requests

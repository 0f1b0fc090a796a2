"""The programs of `make bench` that imitate Airflow's task process still run. Their figures are for `make bench` alone."""

from __future__ import annotations

import pytest

from bench import execute


@pytest.mark.parametrize("who", ["provider", "ours"])
def test_task_process_defers(who: str) -> None:
    cpu_seconds, megabytes = execute.measure(who, 1)
    assert cpu_seconds > 0
    # Zero if the process that started it was larger: the system inherits this figure.
    assert megabytes >= 0

"""Sends the counters and timers of `adf` through Airflow's own stats (`[metrics]`: StatsD, OpenTelemetry, Datadog)."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

from airflow_adf_mi._airflow.names import stats_of_tasks, stats_of_triggerers
from airflow_adf_mi.adf import metrics

log = logging.getLogger(__name__)


class AirflowStats:
    """A sink for `metrics`.

    :param stats: Airflow's functions. The task SDK and Airflow's core may have one set each, and a process sets up only one of
        them.
    """

    def __init__(self, stats: Any) -> None:
        self._stats = stats

    def count(self, name: str, tags: dict[str, str], amount: int = 1) -> None:
        try:
            self._stats.incr(name, amount, tags=tags)
        except Exception as e:  # noqa: BLE001  a failed metric must not fail a run
            log.debug("%s could not be counted: %s", name, e)

    def time(self, name: str, seconds: float, tags: dict[str, str]) -> None:
        try:
            self._stats.timing(name, timedelta(seconds=seconds), tags=tags)
        except Exception as e:  # noqa: BLE001  a failed timing must not fail a run
            log.debug("%s could not be timed: %s", name, e)


def use_in_tasks() -> None:
    """Send this process's metrics through the task SDK. For processes of tasks."""
    metrics.send_to(AirflowStats(stats_of_tasks()))


def use_in_triggerer() -> None:
    """Send this process's metrics through Airflow's core. For triggerers."""
    metrics.send_to(AirflowStats(stats_of_triggerers()))

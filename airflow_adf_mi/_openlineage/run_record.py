"""What a try records of its run for OpenLineage. If that provider is missing or switched off, no request is sent for it.

The task itself reads the datasets. The provider's listener cannot: it runs in a fork of the task's process, where a lock
that another thread held at the moment of the fork is never released.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from airflow_adf_mi.adf.activity_failures import ActivityFailure
from airflow_adf_mi.adf.api.client import AdfClient
from airflow_adf_mi.adf.config.addresses import RunAddress
from airflow_adf_mi.adf.models import PipelineRun
from airflow_adf_mi.adf.reporting.datasets import Lineage, reading_lineage
from airflow_adf_mi.adf.reporting.report import Report
from airflow_adf_mi.adf.routines import run_routine
from airflow_adf_mi.adf.timing import REAL_TIME

log = logging.getLogger(__name__)

LINEAGE_SECONDS = 45.0
"""Longest time in seconds that reading datasets takes if the service hangs. Shortly before a task's timeout, none are read."""


@dataclass
class RunRecord:
    """What is known about the run of a try."""

    address: RunAddress | None = None
    run: PipelineRun | None = None
    adopted: bool = False
    failures: tuple[ActivityFailure, ...] = field(default=())
    data: Lineage = field(default_factory=Lineage)

    def began(self, address: RunAddress, run: PipelineRun | None, *, adopted: bool) -> None:
        self.address, self.run, self.adopted = address, run, adopted

    def ended(self, report: Report) -> None:
        self.began(report.address, report.outcome.run, adopted=report.adopted)
        if report.explanation is not None:
            self.failures = report.explanation.activities

    def read_data(
        self,
        task: Any,
        client: Callable[[], AbstractContextManager[AdfClient]],
        *,
        seconds_left: float | None = None,
    ) -> None:
        """Read the datasets of a run that has ended, if the provider wants them. Raises nothing.

        `seconds_left` is the time until the task's `execution_timeout`, if the task has one.
        """
        if self.address is None or self.run is None or not self.run.is_terminal or self.data != Lineage():
            return
        try:
            if not is_wanted(task):
                return
            if seconds_left is not None and seconds_left < LINEAGE_SECONDS:
                log.info(
                    "Run %s: its datasets are not read for lineage, because execution_timeout is near.", self.run.run_id
                )
                return
            with client() as asking:
                routine = reading_lineage(self.run, self.address.factory, timing=REAL_TIME)
                self.data = run_routine(routine, asking, time.sleep)
        except Exception as e:  # noqa: BLE001  failed lineage must not fail a task
            log.warning("Run %s: its datasets could not be read for lineage. %s", self.address.run_id, e)
            return
        if self.data.missing:
            log.info(
                "Run %s: not all of its datasets could be read for lineage. %s", self.run.run_id, self.data.missing
            )


def is_openlineage_on() -> bool:
    """Whether the OpenLineage provider is installed and not switched off."""
    try:
        from airflow.providers.openlineage import conf
    except ImportError:
        return False
    return not conf.is_disabled()


def is_wanted(task: Any) -> bool:
    """Whether the OpenLineage provider is installed, and will ask about this task."""
    if not is_openlineage_on():
        return False
    try:
        from airflow.providers.openlineage.utils.emission_policy import resolve_task_emission_policy
    except ImportError:
        return True  # this version of the provider has no such policy
    policy = resolve_task_emission_policy(operator=task, dag_id=task.dag_id, task_id=task.task_id)
    return bool(policy.emit and policy.extract_operator_metadata)

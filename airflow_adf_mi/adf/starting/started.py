"""A run that a try has started or adopted."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from airflow_adf_mi.adf import metrics
from airflow_adf_mi.adf.config.addresses import RunAddress
from airflow_adf_mi.adf.models import PipelineRun
from airflow_adf_mi.adf.starting.intent import Intent

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class StillActive:
    """A run that must end before this try starts a run."""

    intent: Intent
    run: PipelineRun
    is_ours: bool = True
    """False for a run that may not be this task's. Such a run is waited for, and never cancelled."""
    waits_for_any: bool = False
    """The run is not a run of an earlier try: `on_live_run` is "wait"."""


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """A run that is already there, so that the task is skipped."""

    intent: Intent
    run: PipelineRun
    policy: str
    """The argument and its value, for texts."""


@dataclass(frozen=True, kw_only=True)
class Started:
    """A run that this task started or adopted."""

    intent: Intent
    run: PipelineRun | None = None
    """The last known state of the run; None directly after createRun."""
    adopted: bool = False
    """Whether the run was found by a search or in the stored intent, instead of in createRun's answer."""

    seen_at: float | None = None
    """When the service last showed the run, in epoch seconds; None if it has not shown the run."""

    @property
    def run_id(self) -> str:
        assert self.intent.run_id is not None  # noqa: S101  a Started always has a run id
        return self.intent.run_id

    @property
    def is_foreign(self) -> bool:
        """Whether somebody else started the run. Then it is watched, and never cancelled."""
        return self.intent.is_foreign

    @property
    def not_ended_before(self) -> float | None:
        """Epoch seconds before which the run had certainly not ended; None if that is not known."""
        return None if self.run is not None and self.run.is_terminal else self.seen_at

    def announce(self, address: RunAddress) -> None:
        """Count the start or the adoption, and log it."""
        metrics.count(metrics.ADOPTIONS if self.adopted else metrics.STARTS)
        how = "was adopted" if self.adopted else "was started"
        if self.is_foreign:
            how = "was adopted. This task did not start it, and never cancels it"
        log.info("%s %s. See %s", address, how, address.studio_url)

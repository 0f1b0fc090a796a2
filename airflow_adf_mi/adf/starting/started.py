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
    def not_ended_before(self) -> float | None:
        """Epoch seconds before which the run had certainly not ended; None if that is not known."""
        return None if self.run is not None and self.run.is_terminal else self.seen_at

    def announce(self, address: RunAddress) -> None:
        """Count the start or the adoption, and log it."""
        metrics.count(metrics.ADOPTIONS if self.adopted else metrics.STARTS)
        log.info("%s %s. See %s", address, "was adopted" if self.adopted else "was started", address.studio_url)

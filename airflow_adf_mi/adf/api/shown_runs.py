"""The runs that the service has shown to this process, each by its id. The list of runs may lag, and leave some of them out."""

from __future__ import annotations

from airflow_adf_mi.adf.config.addresses import FactoryRef
from airflow_adf_mi.adf.models import PipelineRun

MOST_KEPT = 1000
"""So many runs of a factory are remembered: those that began last."""

_shown: dict[FactoryRef, dict[str, float]] = {}
"""By factory and run id: when the run began, in epoch seconds."""


def remembered(factory: FactoryRef, run: PipelineRun) -> PipelineRun:
    """The run, which is remembered from now on if it has begun."""
    if run.started_at is not None:
        shown = _shown.setdefault(factory, {})
        shown[run.run_id] = run.started_at.timestamp()
        if len(shown) > MOST_KEPT:
            # Long answers are read in threads, so another thread may have removed it.
            shown.pop(min(list(shown.items()), key=lambda item: item[1])[0], None)
    return run


def shown_since(factory: FactoryRef, moment: float) -> set[str]:
    """The ids of the remembered runs that began after this moment, in epoch seconds."""
    return {run_id for run_id, began in list(_shown.get(factory, {}).items()) if began > moment}


def forget_shown_runs() -> None:
    """Forget the runs that this process remembers."""
    _shown.clear()

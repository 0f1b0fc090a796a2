"""How long the runs of a pipeline usually take, from one list query when a run has started. A routine.

The query reads one page: the newest runs of the pipeline that have succeeded. Whatever goes wrong, the run is not affected. Then
the log has one line, and nothing is usual.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace

from airflow_adf_mi.adf.api.operations import Page
from airflow_adf_mi.adf.config.addresses import FactoryRef
from airflow_adf_mi.adf.errors import AdfError
from airflow_adf_mi.adf.models import PipelineRun, RunStatus
from airflow_adf_mi.adf.routines import Routine, ServiceTime
from airflow_adf_mi.adf.starting.pipeline_name import is_of, known_spellings
from airflow_adf_mi.adf.starting.run_list import RETENTION_SECONDS, having, list_runs
from airflow_adf_mi.adf.waiting.late_run import FEWEST_RUNS, LateLimit, given_limit, usual_limit

log = logging.getLogger(__name__)

READ_SECONDS = 5.0
"""A list that does not arrive within this many seconds is not waited for, because the wait for the run must begin."""


def limit_of(warn_after: object, factory: FactoryRef, pipeline_name: str) -> Routine[LateLimit | None]:
    """The limit that the argument `warn_after` sets for a run that has just started. None if no warning is wanted or possible.

    :param warn_after: seconds, "usual" or None.
    """
    if isinstance(warn_after, int | float):
        return given_limit(warn_after)
    return None if warn_after is None else (yield from reading_usual_limit(factory, pipeline_name))


def reading_usual_limit(factory: FactoryRef, pipeline_name: str) -> Routine[LateLimit | None]:
    """The usual limit of the pipeline. None if its earlier runs cannot be listed, or are too few."""
    now = yield ServiceTime()
    # A request for the published spelling would be a second one.
    of_pipeline = having("PipelineName", *known_spellings(factory, pipeline_name))
    succeeded = having("Status", RunStatus.SUCCEEDED)
    query = list_runs(factory, now - RETENTION_SECONDS, now, of_pipeline, succeeded)
    answer: Page[PipelineRun] | AdfError = yield replace(query, timeout=READ_SECONDS)
    if isinstance(answer, AdfError):
        log.warning(
            "The earlier runs of pipeline %r could not be listed, so it is not known how long a run usually takes, and "
            "warn_after='usual' warns of nothing. The run is not affected. %s",
            pipeline_name,
            answer,
        )
        return None
    durations = durations_of(answer.items, pipeline_name)
    limit = usual_limit(durations)
    if limit is None:
        log.info(
            "Pipeline %r has %d earlier successful run(s), so it is not known how long a run usually takes, and "
            "warn_after='usual' warns of nothing. It needs %d.",
            pipeline_name,
            len(durations),
            FEWEST_RUNS,
        )
    return limit


def durations_of(runs: Iterable[PipelineRun], pipeline_name: str) -> list[float]:
    """How long those of the runs took that have executed the whole pipeline, in seconds. Pure.

    A rerun does only a part of the work, and has the group id of the run that it continues.
    """
    return [
        run.duration_seconds
        for run in {run.run_id: run for run in runs}.values()
        if run.status == RunStatus.SUCCEEDED
        and run.duration_seconds is not None
        and is_of(run, pipeline_name)
        and run.run_group_id in (None, run.run_id)
    ]

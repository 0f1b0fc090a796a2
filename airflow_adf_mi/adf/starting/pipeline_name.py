"""Reads the published pipeline, and remembers how its name is spelled.

Data Factory ignores the case of a pipeline's name. It is not known whether queries for runs do so, too. So they ask for both
spellings: the author's and the published one. Otherwise a query could miss all runs, and a second run would be started.

    the definition                                   a query asks for
    -----------------------------------------------  -------------------------------------------------------------
    was read                                         the runs of both spellings
    cannot be read now, and was read before          the runs of both spellings
    is not there, not shown to this identity, or     the runs of all pipelines, and `is_of` compares the names
      cannot be read
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from airflow_adf_mi.adf.api.operations import get_pipeline
from airflow_adf_mi.adf.config.addresses import FactoryRef
from airflow_adf_mi.adf.errors import AdfError, AdfNotFoundError, AdfPermissionError
from airflow_adf_mi.adf.models import PipelineRun
from airflow_adf_mi.adf.routines import Routine
from airflow_adf_mi.adf.starting.run_list import having
from airflow_adf_mi.adf.timing import Timing

log = logging.getLogger(__name__)

READ_SECONDS = 5.0
"""A definition that does not arrive within this many seconds is not waited for."""
KEPT_SECONDS = 60.0
"""Seconds for which a process uses what it has read. A triggerer sends many starts of one pipeline."""

_spellings: dict[tuple[FactoryRef, str], tuple[float, str | None]] = {}
"""Published names, and the epoch seconds at which they were read. None for a pipeline that is not there, or not shown to this
identity."""


def read_pipeline(factory: FactoryRef, pipeline_name: str, *, timing: Timing) -> Routine[Mapping[str, Any] | AdfError]:
    """Read the definition, and remember its name. An answer that may be another one a moment later changes nothing."""
    answer: Mapping[str, Any] | AdfError = yield replace(get_pipeline(factory, pipeline_name), timeout=READ_SECONDS)
    remember_name(factory, pipeline_name, answer, now=timing.clock())
    return answer


def remember_name(factory: FactoryRef, pipeline_name: str, answer: Mapping[str, Any] | AdfError, *, now: float) -> None:
    """Remember what the answer to `get_pipeline` says about the name.

    :param now: the epoch seconds of the answer.
    """
    if isinstance(answer, AdfError) and not isinstance(answer, AdfNotFoundError | AdfPermissionError):
        return
    for old in [place for place, (at, _) in _spellings.items() if now - at >= KEPT_SECONDS]:
        del _spellings[old]
    name = None if isinstance(answer, AdfError) else answer.get("name")
    is_this = isinstance(name, str) and name.lower() == pipeline_name.lower()
    _spellings[factory, pipeline_name] = now, str(name) if is_this else None


def runs_of_pipeline(
    factory: FactoryRef, pipeline_name: str, *, timing: Timing
) -> Routine[tuple[Mapping[str, Any], ...]]:
    """Filters for the runs of a pipeline, in whatever case its name is written. Costs a request once in `KEPT_SECONDS`.

    None if the published spelling is not known. So the caller must compare the names of the listed runs, too (`is_of`).
    """
    place = factory, pipeline_name
    read_at, published = _spellings.get(place, (float("-inf"), None))
    if timing.clock() - read_at >= KEPT_SECONDS:
        answer = yield from read_pipeline(*place, timing=timing)
        published = _spellings.get(place, (0.0, published))[1]
        if published is None:
            why = answer if isinstance(answer, AdfError) else "The answer has another name."
            log.info("The published name of pipeline %r is not known, so all runs are listed. %s", pipeline_name, why)
    return () if published is None else (in_both_spellings(pipeline_name, published),)


def known_spellings(factory: FactoryRef, pipeline_name: str) -> tuple[str, ...]:
    """The author's spelling of the name, and the published one if this process knows another. Costs no request."""
    _, published = _spellings.get((factory, pipeline_name), (0.0, None))
    return tuple(dict.fromkeys((pipeline_name, published or pipeline_name)))


def is_of(run: PipelineRun, pipeline_name: str) -> bool:
    """Whether it is a run of this pipeline, in whatever case the names are written."""
    return run.pipeline_name.lower() == pipeline_name.lower()


def in_both_spellings(pipeline_name: str, published: str) -> Mapping[str, Any]:
    """A filter for the runs of a pipeline, by the author's spelling of its name and the published one."""
    return having("PipelineName", *dict.fromkeys((pipeline_name, published)))


def forget_names() -> None:
    """Forget the names that this process keeps."""
    _spellings.clear()

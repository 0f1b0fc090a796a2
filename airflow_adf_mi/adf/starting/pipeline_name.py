"""Reads the published pipeline, and remembers how its name is spelled.

Data Factory ignores the case of a pipeline's name. It is not known whether queries for runs do so, too. So they ask for both
spellings: the author's and the published one. Otherwise a query could miss all runs, and a second run would be started.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from airflow_adf_mi.adf.api.operations import get_pipeline
from airflow_adf_mi.adf.config.addresses import FactoryRef
from airflow_adf_mi.adf.errors import AdfError, AdfNotFoundError, AdfPermissionError
from airflow_adf_mi.adf.routines import Routine
from airflow_adf_mi.adf.starting.run_list import having
from airflow_adf_mi.adf.timing import Timing

log = logging.getLogger(__name__)

READ_SECONDS = 5.0
"""A definition that does not arrive within this many seconds is not waited for."""
KEPT_SECONDS = 60.0
"""Seconds for which a process uses what it has read. A triggerer sends many starts of one pipeline."""

_spellings: dict[tuple[FactoryRef, str], tuple[float, str]] = {}
"""Published names, and the epoch seconds at which they were read. The name of a pipeline that is not there, or not shown to this
identity, is as the author wrote it."""


def read_pipeline(factory: FactoryRef, pipeline_name: str, *, timing: Timing) -> Routine[Mapping[str, Any] | AdfError]:
    """Read the definition, and remember its name. An answer that may be another one a moment later changes nothing."""
    answer: Mapping[str, Any] | AdfError = yield replace(get_pipeline(factory, pipeline_name), timeout=READ_SECONDS)
    if isinstance(answer, AdfError) and not isinstance(answer, AdfNotFoundError | AdfPermissionError):
        return answer
    now = timing.clock()
    for old in [place for place, (at, _) in _spellings.items() if now - at >= KEPT_SECONDS]:
        del _spellings[old]
    name = None if isinstance(answer, AdfError) else answer.get("name")
    is_this = isinstance(name, str) and name.lower() == pipeline_name.lower()
    _spellings[factory, pipeline_name] = now, str(name) if is_this else pipeline_name
    return answer


def runs_of_pipeline(factory: FactoryRef, pipeline_name: str, *, timing: Timing) -> Routine[Mapping[str, Any]]:
    """A filter for the runs of a pipeline, in whatever case its name is written. Costs a request once in `KEPT_SECONDS`."""
    place = factory, pipeline_name
    read_at, published = _spellings.get(place, (float("-inf"), pipeline_name))
    if timing.clock() - read_at >= KEPT_SECONDS:
        answer = yield from read_pipeline(*place, timing=timing)
        published = _spellings.get(place, (0.0, published))[1]
        if isinstance(answer, AdfError) and published == pipeline_name:
            log.info("Only runs of pipeline %r in this spelling are searched for. %s", pipeline_name, answer)
    return in_both_spellings(pipeline_name, published)


def in_both_spellings(pipeline_name: str, published: str) -> Mapping[str, Any]:
    """A filter for the runs of a pipeline, by the author's spelling of its name and the published one."""
    return having("PipelineName", *dict.fromkeys((pipeline_name, published)))


def forget_names() -> None:
    """Forget the names that this process keeps."""
    _spellings.clear()

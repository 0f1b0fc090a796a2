"""The datasets that a run read and wrote: those that its Copy and Power Query activities name, also in child pipelines.
Nothing is guessed.

A Copy names its datasets beside its `typeProperties`, but recordings show only the `typeProperties` as the input of an activity
run. So if that input names no dataset, the published definition of the pipeline is read. That definition may have changed
after the run. A mapping data flow names its datasets only in its own definition, which is not read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from airflow_adf_mi.adf.api.operations import get_pipeline, query_activity_runs
from airflow_adf_mi.adf.api.paging import Pages
from airflow_adf_mi.adf.config.addresses import FactoryRef
from airflow_adf_mi.adf.errors import AdfConfigurationError, AdfError
from airflow_adf_mi.adf.models import ActivityRun, PipelineRun
from airflow_adf_mi.adf.redaction import redact
from airflow_adf_mi.adf.reporting.explain import final_attempts
from airflow_adf_mi.adf.reporting.request_budget import RequestBudget
from airflow_adf_mi.adf.routines import Routine
from airflow_adf_mi.adf.times import DAY, moment, read_number, run_window
from airflow_adf_mi.adf.timing import Timing

LINEAGE_REQUESTS = 10
LINEAGE_PATIENCE_SECONDS = 10.0
"""Seconds after which no more requests are sent, because the task must end."""
DATA_MOVING_TYPES = ("Copy", "ExecuteDataFlow", "ExecuteWranglingDataflow")
INNER_LISTS = ("activities", "ifTrueActivities", "ifFalseActivities", "defaultActivities")


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """A dataset of a factory, and how much was written to it. An amount is None if the service does not report it."""

    namespace: str
    name: str
    rows: int | None = None
    size: int | None = None
    files: int | None = None


@dataclass(frozen=True)
class Lineage:
    """The datasets of a run."""

    inputs: tuple[DataSet, ...] = ()
    outputs: tuple[DataSet, ...] = ()
    missing: str | None = None
    """Why some datasets may be missing."""


@dataclass(frozen=True)
class Named:
    """The datasets that an activity names."""

    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()


@dataclass(kw_only=True)
class _Search(RequestBudget):
    name: str = "lineage"
    most: int = LINEAGE_REQUESTS
    seconds: float = LINEAGE_PATIENCE_SECONDS
    factory: FactoryRef
    since: datetime
    seen: set[str] = field(default_factory=set)


def namespace_of(factory: FactoryRef) -> str:
    """The namespace of datasets of which only the name in a factory is known. Names of factories are unique in all of Azure."""
    return f"azuredatafactory://{factory.factory_name}"


def reading_lineage(run: PipelineRun, factory: FactoryRef, *, timing: Timing) -> Routine[Lineage]:
    """Find the datasets of a run that has ended. Raises nothing: the result names what could not be found out."""
    since, _ = run_window(run.started_at, timing.clock())
    search = _Search(timing=timing, factory=factory, since=since)
    rows = yield from _data_moving_rows(search, run.run_id)
    definitions: dict[str, dict[str, Named]] = {}
    silent = {row.pipeline_name for row in rows if row.pipeline_name and named(_input(row)) == Named()}
    for name in sorted(silent):
        if not search.may_send():
            break
        try:
            call = get_pipeline(factory, name)
        except AdfConfigurationError as e:  # the service's answer had an invalid name
            search.record(e)
            continue
        answer = yield call
        if isinstance(answer, Mapping):
            definitions[name] = {a["name"]: named(_members(a)) for a in activities_of(answer)}
        else:
            search.record(answer)
    return lineage_of(rows, definitions, namespace_of(factory), search.missing)


def _data_moving_rows(search: _Search, run_id: str) -> Routine[list[ActivityRun]]:
    """The last attempts of the activities that move data, in a run and the runs that it started."""
    search.seen.add(run_id)
    kinds = [{"operand": "ActivityType", "operator": "In", "values": [*DATA_MOVING_TYPES, "ExecutePipeline"]}]
    before = moment(search.timing.clock()) + DAY
    pages = Pages(query_activity_runs(search.factory, run_id, search.since, before, filters=kinds))
    while (call := pages.next()) is not None and search.may_send():
        page = yield call
        if isinstance(page, AdfError):
            search.record(page)
            break
        pages.take(page)
    search.record(pages.cut)
    rows: list[ActivityRun] = []
    for row, _ in final_attempts(pages.rows):
        child = row.output.get("pipelineRunId")
        if row.activity_type in DATA_MOVING_TYPES:
            rows.append(row)
        elif isinstance(child, str) and child and child not in search.seen:
            rows += yield from _data_moving_rows(search, child)
    return rows


def lineage_of(
    rows: Iterable[ActivityRun],
    definitions: Mapping[str, Mapping[str, Named]],
    namespace: str,
    missing: str | None = None,
) -> Lineage:
    """The datasets of these activity runs.

    :param definitions: the datasets by pipeline and activity, for activity runs whose input names no dataset.
    """
    inputs: dict[str, None] = {}
    written: dict[str, list[ActivityRun | None]] = {}
    for row in rows:
        if row.started_at is None:
            continue  # skipped or not reached
        own = named(_input(row))
        if own == Named():
            own = definitions.get(row.pipeline_name or "", {}).get(row.activity_name, own)
        inputs |= dict.fromkeys(own.inputs)
        for name in own.outputs:
            # Only a Copy reports amounts, and it has one sink.
            written.setdefault(name, []).append(row if len(own.outputs) == 1 else None)
    outputs = tuple(
        DataSet(
            namespace=namespace,
            name=name,
            rows=_sum(by, "rowsCopied"),
            size=_sum(by, "dataWritten"),
            files=_sum(by, "filesWritten"),
        )
        for name, by in written.items()
    )
    return Lineage(tuple(DataSet(namespace=namespace, name=name) for name in inputs), outputs, missing)


def named(members: Mapping[str, Any]) -> Named:
    """The datasets that an activity's members name: a Copy's inputs and outputs, a Power Query's sinks (specification)."""
    sinks = [members.get("sinks")]
    sinks += [_object(query).get("dataflowSinks") for query in _list(members.get("queries"))]
    written = [*_references(members.get("outputs")), *(name for group in sinks for name in _references(group))]
    return Named(_once(_references(members.get("inputs"))), _once(written))


def activities_of(pipeline: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """All activities of a pipeline's definition, including those inside other activities."""
    yield from _inside(_object(pipeline.get("properties")) or pipeline)


def _inside(container: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    cases = [_object(case) for case in _list(container.get("cases"))]
    lists = [_list(container.get(name)) for name in INNER_LISTS] + [_list(case.get("activities")) for case in cases]
    for entry in (_object(entry) for found in lists for entry in found):
        if isinstance(entry.get("name"), str):
            yield entry
            yield from _inside(_object(entry.get("typeProperties")))


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _members(definition: Mapping[str, Any]) -> dict[str, Any]:
    """The members of an activity's definition as a run's input would show them, and the references beside `typeProperties`."""
    return {**_object(definition.get("typeProperties")), **{n: definition.get(n) for n in ("inputs", "outputs")}}


def _input(row: ActivityRun) -> Mapping[str, Any]:
    return _object(row.raw.get("input"))


def _references(group: Any) -> list[str]:
    """The names of dataset references in a list or mapping of references, or of sinks that have one reference each."""
    found = []
    for entry in group.values() if isinstance(group, Mapping) else group if isinstance(group, list) else []:
        reference = entry.get("dataset", entry) if isinstance(entry, Mapping) else None
        if not isinstance(reference, Mapping) or reference.get("type") != "DatasetReference":
            continue
        name = reference.get("referenceName")
        if isinstance(name, str) and name:
            found.append(redact(name))
    return found


def _once(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def _sum(rows: Sequence[ActivityRun | None], member: str) -> int | None:
    """The sum of `member`; None unless each row reports it."""
    values = [None if row is None else row.output.get(member) for row in rows]
    known = [value for value in values if isinstance(value, int) and read_number(value) is not None]
    return sum(known) if len(known) == len(values) else None

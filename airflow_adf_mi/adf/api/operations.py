"""The operations of the service that we use: what each sends and how its answer is read. Pure.

A `Call` is sent by either client: `AdfClient.send(call)` or `await AsyncAdfClient.send(call)`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, TypeVar

from airflow_adf_mi.adf.api.recovery import Recovery
from airflow_adf_mi.adf.config.settings import FactoryRef, SubscriptionRef
from airflow_adf_mi.adf.config.validation import check_flag, check_items, check_moment, check_pipeline_name
from airflow_adf_mi.adf.models import UNREADABLE, ActivityRun, PipelineRun, document, read_run_id
from airflow_adf_mi.adf.redaction import shown

T = TypeVar("T")

MOST_LISTED = 1000
"""Items of a listing that are asked for."""


@dataclass(frozen=True, kw_only=True)
class Call(Generic[T]):
    """One request, and how to read its answer."""

    doing: str
    """For error texts: "start pipeline 'x'"."""
    target: FactoryRef | SubscriptionRef
    permission: str
    """The action that a role must hold, below Microsoft.DataFactory/factories/ (resource provider operations)."""
    group: str
    method: str
    """Operation group and method of the official client."""
    read: Callable[[Any], T]
    """From the answer's JSON, None where the body is empty."""
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    listing: bool = False
    """The official client follows the pages of this operation itself; `read` gets the list of the first `MOST_LISTED`."""
    repeatable: bool = True
    """False for what changes something: the transport must never send it a second time by itself."""
    answers_by_code: Mapping[str, T] = field(default_factory=dict)
    """Refusals of the service that are an answer, by error code."""
    not_found_codes: frozenset[str] = frozenset()
    """Error codes that mean "not found" whatever the HTTP status."""
    run_id: str | None = None
    pipeline_name: str | None = None

    @property
    def could_not(self) -> str:
        """How an error text begins."""
        # One about the target itself names it once.
        where = "" if str(self.target) in self.doing else f" in {self.target}"
        return f"Could not {self.doing}{where}"


@dataclass(frozen=True, kw_only=True)
class Page(Generic[T]):
    """A page of a list; `paging` follows them."""

    items: list[T]
    continuation_token: object
    """What names the next page, as it came; None on the last page."""
    unreadable: tuple[str, ...] = ()
    """Why a row of this page could not be read, for each that could not."""


def create_run(
    factory: FactoryRef,
    pipeline_name: str,
    parameters: Mapping[str, Any] | None,
    *,
    request_id: str,
    recovery: Recovery = Recovery(),
) -> Call[str]:
    """Pipelines_CreateRun: the new run's id.

    `request_id` travels as x-ms-client-request-id. In every recording (docs/starting-once.md) the service used it as the
    run id; that is not documented, so it is a hint for finding a run whose answer was lost, and no more.
    """
    return Call(
        doing=f"start pipeline {pipeline_name!r}",
        target=factory,
        permission="pipelines/createrun/action",
        group="pipelines",
        method="create_run",
        args=(factory.resource_group_name, factory.factory_name, check_pipeline_name(pipeline_name)),
        kwargs={
            # The body is the flat object of parameters; without parameters the official client sends none.
            "parameters": dict(parameters) if parameters else None,
            "request_id": request_id,
            **recovery.arguments(),
        },
        read=read_run_id,
        repeatable=False,
        pipeline_name=pipeline_name,
    )


def get_run(factory: FactoryRef, run_id: str) -> Call[PipelineRun]:
    """PipelineRuns_Get."""
    return Call(
        doing=f"look at run {run_id}",
        target=factory,
        permission="pipelineruns/read",
        group="pipeline_runs",
        method="get",
        args=(factory.resource_group_name, factory.factory_name, run_id),
        read=lambda body: _run_of(run_id, body),
        run_id=run_id,
    )


def cancel_run(factory: FactoryRef, run_id: str, *, recursive: bool = True) -> Call[bool]:
    """PipelineRuns_Cancel: True when accepted, False when the run had already ended.

    Accepted is not ended: the run is Canceling for a while, and may still end as Succeeded. `recursive` also cancels
    the runs that this one started by ExecutePipeline.
    """
    return Call(
        doing=f"cancel run {run_id}",
        target=factory,
        permission="pipelineruns/cancel/action",
        group="pipeline_runs",
        method="cancel",
        args=(factory.resource_group_name, factory.factory_name, run_id),
        kwargs={"is_recursive": check_flag("recursive", recursive)},
        read=lambda _body: True,
        # The service takes a second cancel, but it is our loop that decides on it, not the transport.
        repeatable=False,
        answers_by_code={"PipelineRunNotRunning": False},
        # Recorded in 2018 as status 400.
        not_found_codes=frozenset({"ReferencedPipelineRunNotFound"}),
        run_id=run_id,
    )


def query_runs(
    factory: FactoryRef,
    updated_after: datetime,
    updated_before: datetime,
    *,
    filters: Sequence[Mapping[str, Any]] = (),
    order_by: Sequence[Mapping[str, str]] = (),
) -> Call[Page[PipelineRun]]:
    """PipelineRuns_QueryByFactory: one page of the runs updated in the window. The list may lag behind `get_run`.

    A filter is `{"operand": ..., "operator": "Equals" | "NotEquals" | "In" | "NotIn", "values": [...]}`; operands are
    PipelineName, Status, RunStart, RunEnd, RunGroupId (one value only) and LatestOnly; there is none for a run's id.
    """
    return Call(
        doing="list runs",
        target=factory,
        permission="querypipelineruns/action",
        group="pipeline_runs",
        method="query_by_factory",
        args=(
            factory.resource_group_name,
            factory.factory_name,
            _window(updated_after, updated_before, filters, order_by),
        ),
        read=lambda body: _page(body, PipelineRun.from_wire),
    )


def query_activity_runs(
    factory: FactoryRef,
    run_id: str,
    updated_after: datetime,
    updated_before: datetime,
    *,
    filters: Sequence[Mapping[str, Any]] = (),
    order_by: Sequence[Mapping[str, str]] = (),
) -> Call[Page[ActivityRun]]:
    """ActivityRuns_QueryByPipelineRun: one page of a run's activities.

    For an unknown run or a window that misses it the service answers an empty list (recorded 2021), so "no activities"
    never proves "no run".
    """
    return Call(
        doing=f"list the activities of run {run_id}",
        target=factory,
        permission="pipelineruns/queryactivityruns/action",
        group="activity_runs",
        method="query_by_pipeline_run",
        args=(
            factory.resource_group_name,
            factory.factory_name,
            run_id,
            _window(updated_after, updated_before, filters, order_by),
        ),
        read=lambda body: _page(body, ActivityRun.from_wire),
        run_id=run_id,
    )


def get_factory(factory: FactoryRef) -> Call[Mapping[str, Any]]:
    """Factories_Get: the factory's description as the service gives it."""
    return Call(
        doing=f"look at {factory}",
        target=factory,
        permission="read",
        group="factories",
        method="get",
        args=(factory.resource_group_name, factory.factory_name),
        read=document,
    )


def list_factories(subscription_id: str) -> Call[list[str]]:
    """Factories_List: the ids of the subscription's factories that the identity may see."""
    return Call(
        doing="list the data factories",
        target=SubscriptionRef(subscription_id),
        permission="read",
        group="factories",
        method="list",
        listing=True,
        read=lambda items: _texts(items, "id"),
    )


def list_pipelines(factory: FactoryRef) -> Call[list[str]]:
    """Pipelines_ListByFactory: the names of the published pipelines."""
    return Call(
        doing="list the pipelines",
        target=factory,
        permission="pipelines/read",
        group="pipelines",
        method="list_by_factory",
        args=(factory.resource_group_name, factory.factory_name),
        listing=True,
        read=lambda items: _texts(items, "name"),
    )


def get_pipeline(factory: FactoryRef, pipeline_name: str) -> Call[Mapping[str, Any]]:
    """Pipelines_Get: the published pipeline's definition as the service gives it."""
    return Call(
        doing=f"look at pipeline {pipeline_name!r}",
        target=factory,
        permission="pipelines/read",
        group="pipelines",
        method="get",
        args=(factory.resource_group_name, factory.factory_name, check_pipeline_name(pipeline_name)),
        read=document,
        pipeline_name=pipeline_name,
    )


def _window(
    after: datetime,
    before: datetime,
    filters: Sequence[Mapping[str, Any]],
    order_by: Sequence[Mapping[str, str]],
) -> dict[str, Any]:
    window: dict[str, Any] = {
        "lastUpdatedAfter": check_moment("updated_after", after).isoformat(),
        "lastUpdatedBefore": check_moment("updated_before", before).isoformat(),
        "filters": check_items("filters", filters),
        "orderBy": check_items("order_by", order_by),
    }
    return {name: value for name, value in window.items() if value}


def _page(body: Mapping[str, Any], read: Callable[[Mapping[str, Any]], T]) -> Page[T]:
    """A page. A row that cannot be read costs itself only."""
    rows = body["value"]
    if not isinstance(rows, list):
        raise TypeError(f"value is {type(rows).__name__}, and no list")
    items, unreadable = [], []
    for row in rows:
        try:
            items.append(read(row))
        except UNREADABLE as e:
            unreadable.append(shown(f"{type(e).__name__}: {e}", 200))
    return Page(items=items, continuation_token=body.get("continuationToken"), unreadable=tuple(unreadable))


def _run_of(run_id: str, body: Mapping[str, Any]) -> PipelineRun:
    """The run that was asked for. An answer about another run is no answer, for example one that a proxy had kept."""
    run = PipelineRun.from_wire(body)
    if run.run_id.lower() != run_id.lower():
        raise ValueError(f"it is about another run, {run.run_id!r}")
    return run


def _texts(items: Sequence[Any], member: str) -> list[str]:
    """This member of each item, where it is text; each once."""
    found = [item.get(member) for item in items if isinstance(item, Mapping)]
    return list(dict.fromkeys(text for text in found if isinstance(text, str) and text))

"""The operations of the service that we use: what each sends and how its answer is read. Pure.

A `Call` is sent by either client: `AdfClient.send(call)` or `await AsyncAdfClient.send(call)`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Generic, TypeVar

from airflow_adf_mi.adf.checks import check_pipeline_name
from airflow_adf_mi.adf.models import ActivityRun, PipelineRun, run_id_of
from airflow_adf_mi.adf.recovery import Recovery
from airflow_adf_mi.adf.settings import FactoryRef, SubscriptionRef

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


@dataclass(frozen=True, kw_only=True)
class Page(Generic[T]):
    items: list[T]
    continuation_token: str | None


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
        read=run_id_of,
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
        read=PipelineRun.from_wire,
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
        kwargs={"is_recursive": recursive},
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
        doing="look at the factory",
        target=factory,
        permission="read",
        group="factories",
        method="get",
        args=(factory.resource_group_name, factory.factory_name),
        read=dict,
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
        read=lambda items: [item["id"] for item in items],
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
        read=lambda items: [item["name"] for item in items],
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
        read=dict,
        pipeline_name=pipeline_name,
    )


def next_page(call: Call[Page[T]], page: Page[T]) -> Call[Page[T]] | None:
    """The call for the page after `page`, or None after the last one."""
    if page.continuation_token is None:
        return None
    *rest, window = call.args
    return replace(call, args=(*rest, {**window, "continuationToken": page.continuation_token}))


def _window(
    after: datetime,
    before: datetime,
    filters: Sequence[Mapping[str, Any]],
    order_by: Sequence[Mapping[str, str]],
) -> dict[str, Any]:
    for moment in (after, before):
        if moment.tzinfo is None:
            raise ValueError(f"{moment!r} has no time zone")
    window: dict[str, Any] = {"lastUpdatedAfter": after.isoformat(), "lastUpdatedBefore": before.isoformat()}
    if filters:
        window["filters"] = [dict(item) for item in filters]
    if order_by:
        window["orderBy"] = [dict(item) for item in order_by]
    return window


def _page(body: Mapping[str, Any], read: Callable[[Mapping[str, Any]], T]) -> Page[T]:
    return Page(items=[read(item) for item in body["value"]], continuation_token=body.get("continuationToken") or None)

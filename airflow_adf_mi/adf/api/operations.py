"""The operations of the service that this package uses: the request of each, and how to read its answer. Pure.

Both clients send a `Call`: `AdfClient.send(call)` and `await AsyncAdfClient.send(call)`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, TypeVar

from airflow_adf_mi.adf.api.recovery import Recovery
from airflow_adf_mi.adf.api.shown_runs import remembered
from airflow_adf_mi.adf.config.addresses import FactoryRef, SubscriptionRef
from airflow_adf_mi.adf.config.validation import check_flag, check_items, check_moment, check_pipeline_name
from airflow_adf_mi.adf.models import UNREADABLE, ActivityRun, PipelineRun, document, read_run_id
from airflow_adf_mi.adf.redaction import shown

T = TypeVar("T")

MOST_LISTED = 1000
"""The most items of a list that are read."""


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
    """Makes the result from the answer's JSON, or from None if the body is empty."""
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    listing: bool = False
    """The official client follows the pages of this operation itself; `read` gets the list of the first `MOST_LISTED`."""
    repeatable: bool = True
    """False for a request that changes something. The transport must never send such a request twice."""
    answers_by_code: Mapping[str, T] = field(default_factory=dict)
    """Some refusals are a valid result: their error codes, each with its result."""
    not_found_codes: frozenset[str] = frozenset()
    """Error codes that mean "not found" whatever the HTTP status."""
    timeout: float | None = None
    """Seconds without data after which the answer counts as lost. None: the client's own timeout."""
    run_id: str | None = None
    pipeline_name: str | None = None

    @property
    def arguments(self) -> dict[str, Any]:
        """The keyword arguments of the official client's method."""
        if self.timeout is None:
            return dict(self.kwargs)
        return {**self.kwargs, "connection_timeout": self.timeout, "read_timeout": self.timeout}

    @property
    def could_not(self) -> str:
        """The beginning of an error text: "Could not ..."."""
        # Do not name the target twice.
        where = "" if str(self.target) in self.doing else f" in {self.target}"
        return f"Could not {self.doing}{where}"


@dataclass(frozen=True, kw_only=True)
class Page(Generic[T]):
    """A page of a list. `paging` reads all pages."""

    items: list[T]
    continuation_token: object
    """The name of the next page, unchecked. None on the last page."""
    unreadable: tuple[str, ...] = ()
    """One reason for each row of this page that could not be read."""


def create_run(
    factory: FactoryRef,
    pipeline_name: str,
    parameters: Mapping[str, Any] | None,
    *,
    request_id: str,
    recovery: Recovery = Recovery(),
) -> Call[str]:
    """Pipelines_CreateRun: the new run's id.

    `request_id` is the start key, sent as x-ms-client-request-id. In every recording that shows the key (docs/starting-once.md),
    the service used the key as the run id. This use is not documented. So the key is only a hint to the run of a lost start.
    """
    return Call(
        doing=f"start pipeline {pipeline_name!r}",
        target=factory,
        permission="pipelines/createrun/action",
        group="pipelines",
        method="create_run",
        args=(factory.resource_group_name, factory.factory_name, check_pipeline_name(pipeline_name)),
        kwargs={
            # The body is the flat object of parameters. Without parameters, the official client sends no body.
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
        doing=f"check the status of run {run_id}",
        target=factory,
        permission="pipelineruns/read",
        group="pipeline_runs",
        method="get",
        args=(factory.resource_group_name, factory.factory_name, run_id),
        read=lambda body: remembered(factory, _run_of(run_id, body)),
        run_id=run_id,
    )


def cancel_run(factory: FactoryRef, run_id: str, *, recursive: bool = True) -> Call[bool]:
    """PipelineRuns_Cancel: True if the service accepted the cancel, False if the run had already ended.

    An accepted cancel is not the end of the run: it is Canceling for a while, and may still end as Succeeded. `recursive` also
    cancels the runs that this run started with ExecutePipeline.
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
        # The service accepts a second cancel, but `cancelling` decides on it, not the transport.
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
    """PipelineRuns_QueryByFactory: one page of the runs that were updated in the window. The list may lag behind `get_run`.

    A filter is `{"operand": ..., "operator": "Equals" | "NotEquals" | "In" | "NotIn", "values": [...]}`; operands are
    PipelineName, Status, RunStart, RunEnd, RunGroupId (one value only) and LatestOnly. No operand filters by run id.
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

    For an unknown run, or a window that misses the run, the service answers with an empty list (recorded 2021). So an empty
    list never proves that there is no run.
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
    """Factories_Get: the factory's description, unchanged."""
    return Call(
        doing=f"read {factory}",
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
    """Pipelines_Get: the published pipeline's definition, unchanged."""
    return Call(
        doing=f"read pipeline {pipeline_name!r}",
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
    """A page. If a row cannot be read, only that row is left out."""
    rows = body["value"]
    if not isinstance(rows, list):
        raise TypeError(f"value is {type(rows).__name__}, not a list")
    items, unreadable = [], []
    for row in rows:
        try:
            items.append(read(row))
        except UNREADABLE as e:
            unreadable.append(shown(f"{type(e).__name__}: {e}", 200))
    return Page(items=items, continuation_token=body.get("continuationToken"), unreadable=tuple(unreadable))


def _run_of(run_id: str, body: Mapping[str, Any]) -> PipelineRun:
    """The requested run. An answer about another run, such as one from a proxy's cache, counts as unreadable."""
    run = PipelineRun.from_wire(body)
    if run.run_id.lower() != run_id.lower():
        raise ValueError(f"the answer is about another run, {run.run_id!r}")
    return run


def _texts(items: Sequence[Any], member: str) -> list[str]:
    """The texts of this member in all items, each once."""
    found = [item.get(member) for item in items if isinstance(item, Mapping)]
    return list(dict.fromkeys(text for text in found if isinstance(text, str) and text))

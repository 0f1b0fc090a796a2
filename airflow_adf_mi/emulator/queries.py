"""The two query operations: window, filters, order and pages."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

from airflow_adf_mi.emulator.errors import ServiceError
from airflow_adf_mi.emulator.runs import Run

Item = dict[str, Any]

_RUN_OPERANDS: Mapping[str, Callable[[Item], Any]] = {
    "PipelineName": lambda run: run["pipelineName"],
    "Status": lambda run: run["status"],
    "RunStart": lambda run: run["runStart"],
    "RunEnd": lambda run: run["runEnd"],
    "RunGroupId": lambda run: run["runGroupId"],
    "LatestOnly": lambda run: run["isLatest"],
}
_ACTIVITY_OPERANDS: Mapping[str, Callable[[Item], Any]] = {
    "ActivityName": lambda entry: entry["activityName"],
    "ActivityType": lambda entry: entry["activityType"],
    "ActivityRunStart": lambda entry: entry["activityRunStart"],
    "ActivityRunEnd": lambda entry: entry["activityRunEnd"],
    "PipelineName": lambda entry: entry["pipelineName"],
    "Status": lambda entry: entry["status"],
}


def runs_page(body: Mapping[str, Any], runs: Iterable[Run], seen_from: float, page_size: int) -> dict[str, Any]:
    """A page of the runs as they were shown at `seen_from`; following pages look from the same moment."""
    offset, seen_from = _continued(body, seen_from)
    shown = []
    for run in runs:
        state = next((wire for since, wire in reversed(run.history) if since <= seen_from), None)
        if state is not None:
            shown.append(state)
    after, before = _window(body)
    inside = [run for run in shown if after <= _moment(run["lastUpdated"]) <= before]
    chosen = _filtered(inside, body.get("filters") or [], _RUN_OPERANDS)
    ordered = _ordered(chosen, body.get("orderBy") or [], _RUN_OPERANDS, default=lambda run: run["runStart"])
    return _paged(ordered, offset, page_size, seen_from)


def activities_page(body: Mapping[str, Any], entries: list[Item], page_size: int) -> dict[str, Any]:
    """A page of a run's activities."""
    offset, _ = _continued(body, 0.0)
    after, before = _window(body)
    inside = [e for e in entries if after <= _moment(e["activityRunEnd"] or e["activityRunStart"]) <= before]
    chosen = _filtered(inside, body.get("filters") or [], _ACTIVITY_OPERANDS)
    ordered = _ordered(chosen, body.get("orderBy") or [], _ACTIVITY_OPERANDS, default=None)
    return _paged(ordered, offset, page_size, 0.0)


def _window(body: Mapping[str, Any]) -> tuple[datetime, datetime]:
    try:
        return _moment(body["lastUpdatedAfter"]), _moment(body["lastUpdatedBefore"])
    except (KeyError, TypeError, ValueError):
        raise ServiceError(400, "BadRequest", "lastUpdatedAfter and lastUpdatedBefore are required.") from None


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = datetime.fromisoformat(f"{text}Z")
    return moment


def _filtered(
    items: list[Item], filters: list[Mapping[str, Any]], operands: Mapping[str, Callable[[Item], Any]]
) -> list[Item]:
    for condition in filters:
        operand, operator, values = (condition.get(member) for member in ("operand", "operator", "values"))
        read = operands.get(str(operand))
        if read is None or operator not in ("Equals", "NotEquals", "In", "NotIn") or not isinstance(values, list):
            raise ServiceError(400, "BadRequest", f"Invalid filter: {json.dumps(condition)}.")
        if operand == "RunGroupId" and len(values) > 1:
            raise ServiceError(
                400,
                "BadRequest",
                "Filter operand 'RunGroupId' does not support and array of values. Make sure to provide only one.",
            )
        if operand == "LatestOnly" and values != [True]:
            continue
        negated = operator.startswith("Not")
        items = [item for item in items if (read(item) in values) is not negated]
    return items


def _ordered(
    items: list[Item],
    order: list[Mapping[str, Any]],
    operands: Mapping[str, Callable[[Item], Any]],
    default: Callable[[Item], Any] | None,
) -> list[Item]:
    ordered = sorted(items, key=default) if default is not None else list(items)
    for rule in reversed(order):
        read = operands.get(str(rule.get("orderBy")))
        if read is None or rule.get("order") not in ("ASC", "DESC"):
            raise ServiceError(400, "BadRequest", f"Invalid orderBy: {json.dumps(rule)}.")
        ordered.sort(key=lambda item, read=read: str(read(item) or ""), reverse=rule["order"] == "DESC")  # type: ignore[misc]
    return ordered


def _paged(items: list[Item], offset: int, size: int, seen_from: float) -> dict[str, Any]:
    page: dict[str, Any] = {"value": items[offset : offset + size]}
    if offset + size < len(items):
        token = json.dumps({"offset": offset + size, "seen_from": seen_from})
        page["continuationToken"] = base64.b64encode(token.encode()).decode()
    return page


def _continued(body: Mapping[str, Any], seen_from: float) -> tuple[int, float]:
    token = body.get("continuationToken")
    if not token:
        return 0, seen_from
    try:
        held = json.loads(base64.b64decode(token))
        return int(held["offset"]), float(held["seen_from"])
    except (KeyError, TypeError, ValueError):
        raise ServiceError(400, "BadRequest", "The continuation token is not valid.") from None

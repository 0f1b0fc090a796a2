"""The query operations: window, filters, order and pages."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import partial
from operator import itemgetter
from typing import Any

from airflow_adf_mi.emulator.errors import ServiceError
from airflow_adf_mi.emulator.pipelines.rendering import Address
from airflow_adf_mi.emulator.pipelines.runs import ActivityRun, Run
from airflow_adf_mi.emulator.switches import Switches

Item = dict[str, Any]

_OPERATORS = ("Equals", "NotEquals", "In", "NotIn")
_TIMES = frozenset({"RunStart", "RunEnd", "ActivityRunStart", "ActivityRunEnd", "TriggerRunTimestamp"})

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
_TRIGGER_OPERANDS: Mapping[str, Callable[[Item], Any]] = {
    "TriggerName": itemgetter("triggerName"),
    "TriggerRunTimestamp": itemgetter("triggerRunTimestamp"),
    "Status": itemgetter("status"),
}
# A list may be ordered by fewer operands than it may be filtered by (specification).
_RUN_ORDERS = {name: _RUN_OPERANDS[name] for name in ("RunStart", "RunEnd", "PipelineName", "Status")}
_ACTIVITY_ORDERS = {
    name: _ACTIVITY_OPERANDS[name] for name in ("ActivityName", "ActivityRunStart", "ActivityRunEnd", "Status")
}


def runs_page(body: Mapping[str, Any], runs: Iterable[Run], seen_from: float, switches: Switches) -> dict[str, Any]:
    """A page of the runs as they were shown at `seen_from`, by default in the order of their start.

    Following pages use the same moment. So each run is on exactly one page, even if runs change in between.
    """
    offset, seen_from = _continued(body, seen_from)
    shown = []
    for run in runs:
        state = next((wire for since, wire in reversed(run.history) if since <= seen_from), None)
        if state is not None:
            shown.append(state)
    after, before = _window(body)
    inside = [run for run in shown if after <= _moment(run["lastUpdated"]) <= before]
    chosen = _filtered(inside, body.get("filters"), _RUN_OPERANDS, switches)
    return _paged(_ordered(chosen, body.get("orderBy"), _RUN_ORDERS), offset, switches.page_size, seen_from)


def activities_page(
    body: Mapping[str, Any], entries: Iterable[ActivityRun], address: Address, seen_from: float, switches: Switches
) -> dict[str, Any]:
    """A page of a run's activities as they were at `seen_from`, in the order of their start."""
    offset, seen_from = _continued(body, seen_from)
    shown = [entry.seen_at(seen_from).wire(*address) for entry in entries if entry.started <= seen_from]
    after, before = _window(body)
    inside = [e for e in shown if after <= _moment(e["activityRunEnd"] or e["activityRunStart"]) <= before]
    chosen = _filtered(inside, body.get("filters"), _ACTIVITY_OPERANDS, switches)
    return _paged(_ordered(chosen, body.get("orderBy"), _ACTIVITY_ORDERS), offset, switches.page_size, seen_from)


def trigger_runs_page(body: Mapping[str, Any], seen_from: float, switches: Switches) -> dict[str, Any]:
    """A page without entries, because there are no triggers. Refuses the same bodies as the other queries."""
    offset, seen_from = _continued(body, seen_from)
    _window(body)
    chosen = _filtered([], body.get("filters"), _TRIGGER_OPERANDS, switches)
    return _paged(_ordered(chosen, body.get("orderBy"), _TRIGGER_OPERANDS), offset, switches.page_size, seen_from)


def _window(body: Mapping[str, Any]) -> tuple[datetime, datetime]:
    try:
        return _moment(body["lastUpdatedAfter"]), _moment(body["lastUpdatedBefore"])
    except (KeyError, TypeError, ValueError):
        raise ServiceError(
            400, "BadRequest", "lastUpdatedAfter and lastUpdatedBefore are required, as times."
        ) from None


def _moment(text: str) -> datetime:
    """A time without its seventh digit. A time without a zone counts as UTC."""
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def _filtered(
    items: list[Item], filters: Any, operands: Mapping[str, Callable[[Item], Any]], switches: Switches
) -> list[Item]:
    compared = partial(_comparable, ignores_case=switches.filter_ignores_case)
    for condition in _members(filters, "filters"):
        operand, operator, values = (condition.get(member) for member in ("operand", "operator", "values"))
        read = operands.get(str(operand))
        if read is None or operator not in _OPERATORS or not isinstance(values, list):
            raise ServiceError(400, "BadRequest", f"Invalid filter: {json.dumps(condition)}.")
        if operand == "RunGroupId" and len(values) > 1:
            raise ServiceError(
                400,
                "BadRequest",
                "Filter operand 'RunGroupId' does not support and array of values. Make sure to provide only one.",
            )
        try:
            wanted = [compared(str(operand), value) for value in values]
        except (TypeError, ValueError):
            raise ServiceError(400, "BadRequest", f"Invalid filter: {json.dumps(condition)}.") from None
        if operand == "LatestOnly" and wanted != [True]:
            continue
        negated = operator.startswith("Not")
        items = [item for item in items if (compared(str(operand), read(item)) in wanted) is not negated]
    return items


def _comparable(operand: str, value: Any, *, ignores_case: bool) -> Any:
    """Times as times, and flags as flags: by the specification a filter's values are text. Raises `ValueError` for others."""
    if operand in _TIMES and value is not None:
        return _moment(value)
    if operand == "LatestOnly" and not isinstance(value, bool):
        if str(value).lower() not in ("true", "false"):
            raise ValueError(f"{value!r} is neither true nor false")
        return str(value).lower() == "true"
    return value.lower() if ignores_case and isinstance(value, str) else value


def _ordered(items: list[Item], order: Any, operands: Mapping[str, Callable[[Item], Any]]) -> list[Item]:
    ordered = list(items)
    for rule in reversed(_members(order, "orderBy")):
        read = operands.get(str(rule.get("orderBy")))
        if read is None or rule.get("order") not in ("ASC", "DESC"):
            raise ServiceError(400, "BadRequest", f"Invalid orderBy: {json.dumps(rule)}.")
        key = partial(_sort_key, read, is_time=rule["orderBy"] in _TIMES)
        ordered.sort(key=key, reverse=rule["order"] == "DESC")
    return ordered


def _sort_key(read: Callable[[Item], Any], item: Item, *, is_time: bool) -> Any:
    """Times are sorted as times: as text, a time without a fraction would come after times with one. No end comes first."""
    value = read(item)
    if is_time:
        return _moment(value) if value else datetime.min.replace(tzinfo=UTC)
    return str(value or "")


def _members(given: Any, name: str) -> list[Mapping[str, Any]]:
    if given is None:
        return []
    if not isinstance(given, list) or not all(isinstance(entry, Mapping) for entry in given):
        raise ServiceError(400, "BadRequest", f"{name} must be an array of objects.")
    return given


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

"""The behaviour of each type of activity."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from airflow_adf_mi.emulator.pipelines import containers
from airflow_adf_mi.emulator.pipelines.attempt import Attempt
from airflow_adf_mi.emulator.pipelines.definitions import RETURN_VALUE
from airflow_adf_mi.emulator.pipelines.expressions import UNKNOWN, evaluate
from airflow_adf_mi.emulator.pipelines.outcomes import Result
from airflow_adf_mi.emulator.pipelines.progress import Assignment
from airflow_adf_mi.emulator.pipelines.walker import End, Walk


def execute(walk: Walk, activity: Mapping[str, Any], end: End) -> None:
    """Start an activity. `end` is called when it has ended, now or later."""
    if activity.get("state") == "Inactive":
        # Its record has a status of its own. Activities that depend on it see the status that it is marked as (documentation).
        marked = activity.get("onInactiveMarkAs", "Succeeded")
        walk.record(activity, status="Inactive", ended=walk.factory.now())
        walk.remember(activity["name"], {"output": UNKNOWN, "Status": marked})
        end(Result(marked, "The activity is inactive." if marked == "Failed" else ""))
        return
    Attempt(walk, activity, end, _TYPES.get(activity["type"], _work)).begin()


def _work(attempt: Attempt) -> None:
    """Work outside Data Factory: a Copy, a Lookup, a notebook. Only such activities have a timeout (specification)."""
    attempt.work()


def _wait(attempt: Attempt) -> None:
    seconds = attempt.script.seconds
    if seconds is None:
        given = attempt.properties.get("waitTimeInSeconds")
        seconds = max(0.0, attempt.number("waitTimeInSeconds", given, attempt.seconds(), "seconds"))
    attempt.after(seconds, lambda: attempt.conclude({}))


def _fail(attempt: Attempt) -> None:
    def end() -> None:
        scripted = attempt.script.error or {}
        unknown = "The Fail activity's message is not known."
        code = scripted.get("errorCode") or attempt.known("errorCode", "", "no error code", "error")
        message = scripted.get("message") or attempt.known("message", unknown, "a message of its own", "error")
        attempt.fail({**scripted, "errorCode": str(code or "")}, message=str(message or unknown))

    attempt.after(attempt.seconds(), end)


def _set_variable(attempt: Attempt) -> None:
    name = attempt.properties.get("variableName", "")
    if name == RETURN_VALUE:
        value: Any = attempt.script.value
        if value is UNKNOWN:
            value = {entry["key"]: _returned(attempt, entry) for entry in attempt.properties.get("value") or []}
    else:
        value = _value(attempt)
    attempt.walk.assign(Assignment(attempt.entry.name, name, value))
    attempt.after(attempt.script.seconds or 0, lambda: attempt.conclude({"name": name, "value": value}))


def _value(attempt: Attempt) -> Any:
    """The value that a variable is set to, or that is appended to it."""
    if attempt.script.value is not UNKNOWN:
        return attempt.script.value
    return attempt.known("value", UNKNOWN, "null", "value")


def _returned(attempt: Attempt, entry: Mapping[str, Any]) -> Any:
    """The value of one pair that a pipeline returns. The value carries its type, and so do the members of an array."""
    value = entry.get("value")
    if isinstance(value, Mapping) and value.get("type") != "Expression":
        content = value.get("content")
        if value.get("type") == "Array" and isinstance(content, list):
            return [_returned(attempt, {"value": item}) for item in content]
        return content
    known = evaluate(value, attempt.walk.scope())
    if known is UNKNOWN:
        attempt.guess("value", value, "null", "value")
    return known


def _append_variable(attempt: Attempt) -> None:
    name = attempt.properties.get("variableName", "")
    value = _value(attempt)
    attempt.walk.assign(Assignment(attempt.entry.name, name, value, appends=True))
    attempt.after(attempt.script.seconds or 0, lambda: attempt.conclude({"name": name, "value": value}))


def _filter(attempt: Attempt) -> None:
    items = attempt.script.items if attempt.script.items is not None else attempt.value("items")
    if not isinstance(items, list):
        # The items are not known, so the filtered items are not known either.
        if attempt.script.output is None:
            attempt.guess("items", attempt.properties.get("items"), "an output that is not known", "items")
        attempt.after(attempt.script.seconds or 0, attempt.conclude)
        return
    scope = attempt.walk.scope()
    kept = []
    for item in items:
        scope.item = item
        met = evaluate(attempt.properties.get("condition"), scope)
        if met is UNKNOWN and attempt.script.output is None:
            attempt.guess("condition", attempt.properties.get("condition"), "the item is kept", "output")
        if met is not False:
            kept.append(item)
    output = {"ItemsCount": len(items), "FilteredItemsCount": len(kept), "Value": kept}
    attempt.after(attempt.script.seconds or 0, lambda: attempt.conclude(output))


_TYPES: Mapping[str, Callable[[Attempt], None]] = {
    **containers.TYPES,
    "Wait": _wait,
    "Fail": _fail,
    "SetVariable": _set_variable,
    "AppendVariable": _append_variable,
    "Filter": _filter,
}

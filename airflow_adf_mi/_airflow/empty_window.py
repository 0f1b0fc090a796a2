"""A warning in the log of a task whose window of time is empty.

In Airflow 3, a schedule such as "@daily" has no interval: the data interval of its Dag runs starts and ends at the same moment. A
pipeline that gets both ends as parameters then copies no data, and succeeds. Nothing fails, so only this line shows the mistake.
The decision is made from the templates, because rendered texts may have forms in which two moments are equal, such as dates.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import jinja2
from jinja2 import nodes

if TYPE_CHECKING:
    from airflow.sdk import Context

log = logging.getLogger(__name__)

ENDS = frozenset({"data_interval_start", "data_interval_end"})
_MOVES = frozenset({"add", "subtract", "ds_add"})
_LENGTHS = frozenset({"timedelta", "relativedelta"})


def warn_of_empty_window(to: Any, task: Any, context: Context) -> None:
    """Log one line if the window of a task is empty. Never raises an error, because the line is only advice.

    :param to: the logger of the task.
    :param task: the operator, or the trigger of triggerer mode before its templates are rendered.
    """
    try:
        warning = empty_window_warning(_templates_of(task), context)
    except Exception as e:  # noqa: BLE001  as the docstring says
        log.debug("It is not known whether the window of the task is empty. %s", e)
        return
    if warning is not None:
        to.warning(warning)


def empty_window_warning(parameters: object, context: Mapping[str, Any]) -> str | None:
    """Return the warning if the data interval is empty and the parameters use both of its ends; otherwise None. Pure.

    :param parameters: the parameters with their templates.
    """
    start, end = context.get("data_interval_start"), context.get("data_interval_end")
    if start is None or start != end:
        return None
    if {used for text in _texts(parameters) for used in _ends_used(text)} != ENDS:
        return None
    return (
        f"The window of this task is empty: the data interval of the Dag run starts and ends at {start.isoformat()}, and the "
        "parameters use both of its ends. The Dag's schedule has no interval. In Airflow 3, this is so for a cron text such as "
        '"@daily". Use an interval timetable, such as CronDataIntervalTimetable("@daily", timezone="UTC") of '
        "airflow.timetables.interval."
    )


def _templates_of(task: Any) -> object:
    """The parameters as the Dag has them, with their templates."""
    task = getattr(task, "in_dag", task)
    if not hasattr(task, "partial_kwargs"):
        return task.parameters
    mapped = task.expand_input.value
    return [task.partial_kwargs.get("parameters"), mapped.get("parameters") if isinstance(mapped, Mapping) else mapped]


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from _texts(list(value.values()))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)


def _ends_used(text: str) -> Iterator[str]:
    """The ends of the data interval that a template uses. An end that the template moves, such as by a day, does not count."""
    if "data_interval" not in text:
        return
    tree = jinja2.Environment().parse(text)  # noqa: S701  nothing is rendered
    moved = {id(node) for move in _moves(tree) for node, _ in _names(move)}
    yield from (name for node, name in _names(tree) if name in ENDS and id(node) not in moved)


def _names(tree: nodes.Node) -> Iterator[tuple[nodes.Node, str]]:
    """The names in a part of a template, also those of members, as in `dag_run.data_interval_end`."""
    yield from ((node, node.name) for node in tree.find_all(nodes.Name))
    yield from ((node, node.attr) for node in tree.find_all(nodes.Getattr))


def _moves(tree: nodes.Node) -> Iterator[nodes.Node]:
    """The parts of a template that add a length of time to a moment, or subtract one."""
    for sum_ in tree.find_all((nodes.Add, nodes.Sub)):
        if any(name in _LENGTHS for _, name in _names(sum_)):
            yield sum_
    for call in tree.find_all(nodes.Call):
        if isinstance(call.node, nodes.Getattr) and call.node.attr in _MOVES and not _is_a_second(call):
            yield call


def _is_a_second(call: nodes.Call) -> bool:
    """Whether a call moves a moment by a second, as in the last second of a window."""
    return [(given.key, getattr(given.value, "value", None)) for given in call.kwargs] == [("seconds", 1)]

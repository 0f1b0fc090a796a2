"""Which tasks may start, and which may end, in the triggerer.

In triggerer mode no worker is used, and Airflow 3.3 does some things on workers only. In most cases Airflow reports no error.
A pool is ignored, a template is rendered to another value, or a callback is not called. Or a request to Airflow is never
answered, so that the task hangs. So a task starts in the triggerer only if it uses nothing that goes wrong there. Otherwise a
worker runs the task, as if `start_from_trigger` were not set, and the log gives the reason.

    the Dag is serialized         why_start_on_worker(task) --> a reason: a worker runs the task
    (by the Dag processor)                |                     None: the trigger is stored with the Dag
                                          v
    a task defers (on a worker)   why_end_on_worker(task)   --> a reason: a worker ends the task, if the run succeeds
                                  and listeners                 None: the trigger ends the task, if the run succeeds

The rule: name what is allowed, and refuse the rest. A template may use the names that are listed here. Their values are known to
be the same on a worker and in the triggerer. A subclass must not override a method that only workers call, because in triggerer
mode nobody would call that method.

All statements about Airflow were seen in 3.3.2 (docs/triggerer-mode.md).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import jinja2
from airflow.sdk.definitions._internal.abstractoperator import DEFAULT_QUEUE
from airflow.sdk.definitions._internal.templater import SandboxedEnvironment
from jinja2 import nodes
from jinja2.meta import find_undeclared_variables

from airflow_adf_mi._airflow import features
from airflow_adf_mi._airflow.names import conf, listener_manager
from airflow_adf_mi.adf.config.validation import is_static

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator

    from airflow_adf_mi._airflow.task import AirflowTask

_TASK = frozenset({"dag_id", "task_id", "run_id", "try_number", "map_index"})
RENDERED_ALIKE: Mapping[str, frozenset[str]] = {
    "ti": _TASK,
    "task_instance": _TASK,
    "task": frozenset({"task_id"}),
    "dag": frozenset({"dag_id"}),
    "dag_run": frozenset(
        {
            *("dag_id", "run_id", "conf", "partition_key", "partition_date"),
            *("logical_date", "data_interval_start", "data_interval_end", "run_after", "start_date", "end_date"),
        }
    ),
}
"""Attributes of these context objects that a template may use. In the triggerer, any other attribute has another value, or
reading it never returns."""
UNRESTRICTED = frozenset(
    {
        *("ds", "ds_nodash", "ts", "ts_nodash", "ts_nodash_with_tz"),
        *("logical_date", "data_interval_start", "data_interval_end", "partition_key", "partition_date"),
        *("run_id", "task_instance_key_str", "params", "conn", "var", "macros"),
    }
)
"""Names that a template may use without restriction."""
CALLED_BY_WORKERS = (
    *("execute", "pre_execute", "on_kill"),
    *("render_template_fields", "prepare_template", "get_template_env"),
)
"""Methods that only a worker calls, to start a task or to stop it."""
CALLED_TO_END = ("execute_complete", "resume_execution", "post_execute")
"""Methods that only a worker calls, to end a task."""


def why_start_on_worker(task: BaseOperator, arguments: Mapping[str, Any]) -> str | None:
    """Return why a task cannot start in the triggerer; None if it can.

    :param task: the complete task, as its Dag has it when Airflow serializes the Dag.
    :param arguments: the task's templated arguments.
    """
    if not features.TEMPLATED_TRIGGERS:
        return "this version of Airflow renders no templates in a triggerer; Airflow 3.3 does"
    if (
        getattr(task, "_BaseOperator__from_mapped", False)
        or next(iter(task.iter_mapped_task_groups()), None) is not None
    ):
        return "it is mapped"
    if task.pool != "default_pool":
        return f"pool {task.pool!r} would be ignored"
    if task.max_active_tis_per_dag is not None or task.max_active_tis_per_dagrun is not None:
        return "max_active_tis_per_dag(run) would be ignored"
    if conf.getboolean("triggerer", "queues_enabled", fallback=False):
        # A triggerer that serves certain queues takes no trigger without a queue.
        return "its trigger would have no queue"
    if task.on_execute_callback:
        return "on_execute_callback would not be called"
    for name in ("queue", "executor", "executor_config", "run_as_user"):
        # They may decide with which identity, and from which network, the run is started.
        if getattr(task, name) and (name, getattr(task, name)) != ("queue", DEFAULT_QUEUE):
            return f"{name} would be ignored"
    return (
        _why_not_params(task)
        or _why_not_rendered(task, arguments)
        or why_end_on_worker(task)
        # A subclass may do anything in a method that only a worker calls.
        or _overridden(task, CALLED_BY_WORKERS)
    )


def why_end_on_worker(task: AirflowTask) -> str | None:
    """Return why a task whose run has succeeded must end on a worker; None if the triggerer can end the task."""
    from airflow.sdk.bases.xcom import BaseXCom
    from airflow.sdk.execution_time.xcom import XCom

    if task.outlets:
        return "outlets would get no event"
    if task.on_success_callback:
        return "on_success_callback would not be called"
    if task.multiple_outputs or task.returns_dag_result:
        return f"{'multiple_outputs' if task.multiple_outputs else 'the result of the Dag'} would not be stored"
    if task._pre_execute_hook or task._post_execute_hook:  # noqa: SLF001  BaseOperator shows them nowhere else
        return "pre_execute and post_execute would not be called"
    if next(iter(task.iter_mapped_dependants()), None) is not None:
        return "a task is mapped over its result"
    if XCom is not BaseXCom:
        return "the XCom backend may block the triggerer"
    return _overridden(task, CALLED_TO_END)


def may_end_in_triggerer(task: AirflowTask) -> bool:
    """Whether the triggerer can end a task that is about to wait, if the run succeeds.

    Call this only in the process that runs the task, because listeners are registered per process.
    """
    return features.ASYNC_XCOMS and not _has_success_listeners() and why_end_on_worker(task) is None


def _has_success_listeners() -> bool:
    """Whether a plugin of this process listens for tasks that succeed, for example OpenLineage's. Only workers call listeners."""
    return bool(listener_manager().hook.on_task_instance_success.get_hookimpls())


def _overridden(task: object, names: tuple[str, ...]) -> str | None:
    """Return the reason for a worker if a subclass of one of our classes overrides one of these methods; otherwise None."""
    plain = next(kind for kind in type(task).__mro__ if kind.__module__.startswith("airflow_adf_mi."))
    changed = [name for name in names if getattr(type(task), name) is not getattr(plain, name)]
    return f"{type(task).__name__} overrides {changed[0]}, which only workers call" if changed else None


def _why_not_params(task: BaseOperator) -> str | None:
    """Return why the params of this task would be wrong in the triggerer, which has their values but not their schemas."""
    from airflow.sdk.definitions._internal.types import is_arg_set

    params: Any = task.params
    for name in params:
        param = params.get_param(name)
        if not is_arg_set(param.value):
            # Airflow raises an error for a param without a value. In the triggerer, this error would end the whole process.
            return f"param {name!r} has no default"
        if param.source == "task" and param.schema:
            return f"param {name!r} of the task would not be checked"
    return None


def _why_not_rendered(task: BaseOperator, arguments: Mapping[str, Any]) -> str | None:
    """Return why the triggerer would render these arguments to other values than a worker does; None if it would not."""
    dag: Any = task.get_dag()
    customized = bool(task.render_template_as_native_obj) or (
        dag is not None
        and bool(
            dag.render_template_as_native_obj
            or dag.user_defined_macros
            or dag.user_defined_filters
            or dag.jinja_environment_kwargs
            or dag.template_undefined is not jinja2.StrictUndefined
        )
    )
    for name, value in arguments.items():
        for part in _leaves(value):
            if isinstance(part, str):
                why = None if is_static(part) else _why_not_template(part, customized=customized)
            elif not is_static(part):
                why = "the result of another task"
            else:
                why = None if _is_json(part) else f"a {type(part).__name__}"
            if why is not None:
                return f"the triggerer would render {name} differently from a worker, because it uses {why}"
    return None


def _leaves(value: object) -> Iterator[object]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from (key, *_leaves(inner))
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner)
    else:
        yield value


def _is_json(value: object) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return not isinstance(value, tuple)


def _why_not_template(text: str, *, customized: bool) -> str | None:
    environment = SandboxedEnvironment()  # type: ignore[no-untyped-call]  # Airflow's class is not annotated
    try:
        if all(kind == "data" for _, kind, _ in environment.lex(text)):
            return None
        parsed = environment.parse(text)
        names = find_undeclared_variables(parsed)
    except jinja2.TemplateError:
        return "a template that cannot be read"
    if next(parsed.find_all((nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)), None) is not None:
        return "a template that includes, imports or extends another template"
    if customized:
        return "a template, and the task or its Dag has its own Jinja settings"
    unknown = names - RENDERED_ALIKE.keys() - UNRESTRICTED
    if unknown:
        return f"the name {min(unknown)!r} in a template"
    allowed: set[int] = set()
    for call in parsed.find_all(nodes.Call):
        if isinstance(call.node, nodes.Getattr) and call.node.attr == "xcom_pull" and _names_map_indexes(call):
            allowed |= {id(call.node.node), id(call.node)}
    for attribute in parsed.find_all(nodes.Getattr):
        if isinstance(attribute.node, nodes.Name) and attribute.attr in RENDERED_ALIKE.get(attribute.node.name, ()):
            allowed.add(id(attribute.node))
        if attribute.attr == "xcom_pull" and id(attribute) not in allowed:
            return "xcom_pull without map_indexes"
    for name in parsed.find_all(nodes.Name):
        if name.name in RENDERED_ALIKE and id(name) not in allowed:
            return f"a member of {name.name!r} other than {', '.join(sorted(RENDERED_ALIKE[name.name]))}"
    return None


def _names_map_indexes(call: nodes.Call) -> bool:
    """Whether a call names map indexes. Without map indexes, Airflow never answers the triggerer."""
    return any(
        given.key == "map_indexes" and not (isinstance(given.value, nodes.Const) and given.value.value is None)
        for given in call.kwargs
    )

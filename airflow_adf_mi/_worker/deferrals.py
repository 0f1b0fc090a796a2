"""How a try on a worker is deferred to the trigger that waits for a run."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_adf_mi.adf.config.addresses import RunAddress
from airflow_adf_mi.adf.reporting.activity_log import ActivityLogMode
from airflow_adf_mi.adf.waiting.deadlines import deferral_timeout
from airflow_adf_mi.adf.waiting.single_run import Plan
from airflow_adf_mi.triggers.wait import AdfPipelineRunTrigger, run_arguments

if TYPE_CHECKING:
    from airflow_adf_mi._airflow.task import PipelineTask
    from airflow_adf_mi.adf.config.settings import AdfSettings


def defer_for_run(
    task: PipelineTask,
    settings: AdfSettings,
    address: RunAddress,
    plan: Plan,
    method: str,
    *,
    cancel_on_timeout: bool,
    owns_run: bool = True,
    adopted: bool = False,
    activity_log: ActivityLogMode = "off",
    not_ended_before: float | None = None,
    end_task_on_success: bool = False,
    late: Mapping[str, Any] = MappingProxyType({}),
    kwargs: dict[str, Any] | None = None,
) -> NoReturn:
    """Defer the task until a run has ended, or until the deadline of `plan`. Airflow's own timeout comes later.

    :param method: the method of the operator with which the task resumes. It gets the trigger's event, and `kwargs`.
    :param late: the arguments of the trigger that decide when the run is late (`late_arguments`).

    The other parameters are those of `AdfPipelineRunTrigger`.
    """
    trigger = AdfPipelineRunTrigger(
        **run_arguments(settings, address, plan),
        owns_run=owns_run,
        cancel_on_kill=task.cancel_on_kill,
        cancel_on_timeout=cancel_on_timeout,
        adopted=adopted,
        activity_log=activity_log,
        not_ended_before=not_ended_before,
        end_task_on_success=end_task_on_success,
        push_result=task.do_xcom_push,
        **late,
    )
    now = time.time()
    timeout = deferral_timeout(plan.deadline or now, now)
    task.defer(trigger=trigger, method_name=method, kwargs=kwargs, timeout=timeout)

"""The operator that runs a pipeline. Importing this module loads no Azure package: a Dag file pays nothing for it."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseOperator, XComArg
from airflow.sdk.configuration import conf
from airflow.sdk.exceptions import TaskDeferralError, TaskDeferralTimeout

from airflow_adf_mi.adf.checks import check_parameters, check_pipeline_name, check_seconds
from airflow_adf_mi.adf.connection import DEFAULT_CONN_ID
from airflow_adf_mi.adf.errors import AdfError
from airflow_adf_mi.adf.recovery import Recovery
from airflow_adf_mi.links import AdfPipelineRunLink

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_adf_mi.adf.owned_run import OwnedRun
    from airflow_adf_mi.adf.report import RunAddress
    from airflow_adf_mi.adf.settings import AdfSettings
    from airflow_adf_mi.adf.start import Start
    from airflow_adf_mi.adf.watch import Plan
    from airflow_adf_mi.triggers import AdfPipelineRunTrigger

RUN_ID_KEY = "run_id"
"""XCom of the run's id, pushed as soon as the run is started."""
WEEK = 7 * 24 * 60 * 60
BACKSTOP = timedelta(minutes=10)
"""How much later than our own deadline Airflow's deferral timeout is, so that ours comes first and cancels the run."""


class AdfRunPipelineOperator(BaseOperator):
    """
    Run a Data Factory pipeline, wait for it to end, and say what happened.

    Returns a summary of the run (run id and group, pipeline, factory, status, times, ADF Studio address), and pushes the
    XCom ``run_id`` as soon as the run is started. Raises an :class:`~airflow_adf_mi.adf.errors.AdfError`;
    :class:`~airflow_adf_mi.adf.errors.AdfRunFailed` and its siblings when the run itself did not succeed.

    A start whose answer is lost is never sent a second time. A look that fails never cancels or fails the run.

    :param pipeline_name: the pipeline. (templated)
    :param azure_data_factory_conn_id: a connection of type ``azure_data_factory_mi``, or of the Azure provider's
        ``azure_data_factory`` without a secret. (templated)
    :param resource_group_name: instead of the connection's. (templated)
    :param factory_name: instead of the connection's. (templated)
    :param parameters: the pipeline's parameters: JSON values by name. (templated)
    :param wait_for_termination: wait for the run to end. False ends the task once the run is started; wait elsewhere with
        :class:`~airflow_adf_mi.sensors.AdfPipelineRunSensor`.
    :param timeout: seconds to wait for the run, from its start; an ``execution_timeout`` that is shorter counts instead.
    :param check_interval: seconds between looks at the run.
    :param deferrable: wait in the triggerer rather than on a worker; by default as ``[operators] default_deferrable`` says.
    :param reference_pipeline_run_id: an earlier run whose parameters the new one takes over. (templated)
    :param is_recovery: continue that earlier run, in its group. (templated)
    :param start_activity_name: with ``is_recovery``, begin at this activity. (templated)
    :param start_from_failure: with ``is_recovery``, begin at the activities that failed. (templated)
    :param cancel_on_kill: cancel the run, and the runs it started, when the task is killed or marked while it waits.
    :param cancel_on_timeout: cancel the run, and the runs it started, when the timeout passes.
    """

    template_fields: Sequence[str] = (
        "azure_data_factory_conn_id",
        "resource_group_name",
        "factory_name",
        "pipeline_name",
        "parameters",
        "reference_pipeline_run_id",
        "is_recovery",
        "start_activity_name",
        "start_from_failure",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"parameters": "json"}
    operator_extra_links = (AdfPipelineRunLink(),)
    ui_color = "#0078d4"
    ui_fgcolor = "#ffffff"

    def __init__(
        self,
        *,
        pipeline_name: str | XComArg,
        azure_data_factory_conn_id: str = DEFAULT_CONN_ID,
        resource_group_name: str | XComArg | None = None,
        factory_name: str | XComArg | None = None,
        parameters: Mapping[str, Any] | str | XComArg | None = None,
        wait_for_termination: bool = True,
        timeout: float = WEEK,
        check_interval: float = 60,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        reference_pipeline_run_id: str | XComArg | None = None,
        is_recovery: bool | str | None = None,
        start_activity_name: str | XComArg | None = None,
        start_from_failure: bool | str | None = None,
        cancel_on_kill: bool = True,
        cancel_on_timeout: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        # Templated: of these declared types before rendering, and of the checks' afterwards.
        self.pipeline_name: Any = pipeline_name
        self.azure_data_factory_conn_id = azure_data_factory_conn_id
        self.resource_group_name: Any = resource_group_name
        self.factory_name: Any = factory_name
        self.parameters: Any = parameters
        self.wait_for_termination = wait_for_termination
        self.timeout = check_seconds("timeout", timeout)
        self.check_interval = check_seconds("check_interval", check_interval)
        self.deferrable = deferrable
        self.reference_pipeline_run_id: Any = reference_pipeline_run_id
        self.is_recovery: Any = is_recovery
        self.start_activity_name: Any = start_activity_name
        self.start_from_failure: Any = start_from_failure
        self.cancel_on_kill = cancel_on_kill
        self.cancel_on_timeout = cancel_on_timeout
        self._owned_run: OwnedRun | None = None
        self._check_what_is_static()

    def _check_what_is_static(self) -> None:
        """What needs no rendering is checked when the Dag is parsed; all of it is checked again before a start."""
        if _is_static(self.pipeline_name):
            check_pipeline_name(self.pipeline_name)
        if _is_static(self.parameters) and not isinstance(self.parameters, Mapping):
            check_parameters(self.parameters)
        recovery = self._recovery_arguments()
        if all(map(_is_static, recovery.values())):
            Recovery.from_arguments(**recovery)

    def execute(self, context: Context) -> dict[str, Any]:  # noqa: RET503  defer() does not return
        """Start the run; then return, wait, or defer."""
        # Imported here, since Dag files import this module at every parse.
        from airflow_adf_mi.adf.owned_run import OwnedRun
        from airflow_adf_mi.adf.report import conclude, summary
        from airflow_adf_mi.adf.watch import Plan
        from airflow_adf_mi.hooks import AdfHook

        settings = AdfHook(self.azure_data_factory_conn_id).settings
        start = self._start(settings)
        seconds = self.timeout
        if self.execution_timeout is not None:
            # Airflow 3.3 does not enforce it while a task is deferred.
            seconds = min(seconds, self.execution_timeout.total_seconds())
        with OwnedRun(settings, cancel_on_kill=self.cancel_on_kill) as self._owned_run:
            address = self._owned_run.start(start)
            plan = Plan(check_interval=self.check_interval, deadline=time.time() + seconds)
            self._announce(context, address)
            if not self.wait_for_termination:
                return summary(address, None)
            if not self.deferrable:
                return conclude(self._owned_run.wait(plan, cancel_on_timeout=self.cancel_on_timeout))
        self.defer(
            trigger=self._trigger(settings, address, plan),
            method_name="execute_complete",
            timeout=timedelta(seconds=seconds) + BACKSTOP,
        )

    def _announce(self, context: Context, address: RunAddress) -> None:
        """Push the run's id and link. The run is started: failing now would orphan it, and a retry start another."""
        try:
            context["ti"].xcom_push(key=RUN_ID_KEY, value=address.run_id)
            AdfPipelineRunLink.store(context, address.studio_url)
        except Exception as e:  # noqa: BLE001  whatever Airflow's API fails with must not end the wait
            self.log.warning("%s goes on, but its id or link could not be pushed as XCom: %s", address, e)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Conclude from what the trigger reported."""
        from airflow_adf_mi.adf.report import Report, conclude

        return conclude(Report.from_json(event))

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume after the deferral; also where Airflow ended it, by its own timeout or because the trigger failed."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except TaskDeferralTimeout:
            return self._overdue(context)
        except TaskDeferralError as e:
            run_id = self._own_run_id(context)
            raise AdfError(
                f"The trigger that waited for run {run_id} failed ({e}). The run itself was not touched and may well go on. "
                "See the trigger's error above, and whether triggerers and workers have the same version of this package."
            ) from e

    def _overdue(self, context: Context) -> dict[str, Any]:
        """Our own deadline comes first while the trigger works; this is for when it did not."""
        from airflow_adf_mi.adf.drive import drive
        from airflow_adf_mi.adf.report import LEFT_RUNNING, Report, RunAddress, cancelling_overdue, conclude
        from airflow_adf_mi.adf.watch import TimedOut
        from airflow_adf_mi.hooks import AdfHook

        hook = AdfHook(self.azure_data_factory_conn_id)
        factory = hook.settings.factory(self.resource_group_name, self.factory_name)
        run_id = self._own_run_id(context)
        studio_url = hook.settings.studio_run_url(factory, run_id)
        address = RunAddress(run_id=run_id, factory=factory, studio_url=studio_url, pipeline_name=self.pipeline_name)
        if not self.cancel_on_timeout:
            return conclude(Report(address=address, outcome=TimedOut(), cancel=LEFT_RUNNING))
        with hook.client() as client:
            routine = cancelling_overdue(address, TimedOut(), clock=time.time, jitter=random.random)
            return conclude(drive(routine, client, time.sleep))

    def _own_run_id(self, context: Context) -> str:
        ti = context["ti"]
        run_id = ti.xcom_pull(task_ids=ti.task_id, key=RUN_ID_KEY, map_indexes=ti.map_index)
        if not isinstance(run_id, str):
            raise AdfError(
                f"The wait for a run of pipeline {self.pipeline_name!r} ended without its trigger, and the run's id is not "
                "in this task's XCom run_id. The run was not touched; find it in ADF Studio by the log of this task's start."
            )
        return run_id

    def on_kill(self) -> None:
        """Cancel the run, in the few seconds that Airflow gives. Airflow calls this from a signal handler."""
        if self._owned_run is not None:
            self._owned_run.kill()

    def _start(self, settings: AdfSettings) -> Start:
        from airflow_adf_mi.adf.start import Start

        return Start(
            factory=settings.factory(self.resource_group_name, self.factory_name),
            pipeline_name=self.pipeline_name,
            request_id=str(uuid.uuid4()),
            parameters=self.parameters,
            recovery=Recovery.from_arguments(**self._recovery_arguments()),
        )

    def _recovery_arguments(self) -> dict[str, Any]:
        return {
            "reference_pipeline_run_id": self.reference_pipeline_run_id,
            "is_recovery": self.is_recovery,
            "start_activity_name": self.start_activity_name,
            "start_from_failure": self.start_from_failure,
        }

    def _trigger(self, settings: AdfSettings, address: RunAddress, plan: Plan) -> AdfPipelineRunTrigger:
        from airflow_adf_mi.triggers import AdfPipelineRunTrigger

        return AdfPipelineRunTrigger(
            settings=settings.to_json(),
            resource_group_name=address.factory.resource_group_name,
            factory_name=address.factory.factory_name,
            run_id=address.run_id,
            pipeline_name=address.pipeline_name,
            check_interval=plan.check_interval,
            deadline=plan.deadline,
            owns_run=True,
            cancel_on_kill=self.cancel_on_kill,
            cancel_on_timeout=self.cancel_on_timeout,
        )


def _is_static(value: object) -> bool:
    """Whether a templated argument is given as it will be used: neither a template nor another task's result."""
    return not isinstance(value, XComArg) and not (isinstance(value, str) and "{" in value)

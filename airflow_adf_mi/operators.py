"""The operator that runs a pipeline. Importing this module loads no Azure package, so a Dag file stays quick to parse."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseOperator

from airflow_adf_mi._airflow.kept_failure import keeping_failure
from airflow_adf_mi._airflow.names import TaskDeferralError, TaskDeferralTimeout, conf
from airflow_adf_mi._openlineage.hidden_parameters import hide_parameters, parameters_of
from airflow_adf_mi.adf.api.recovery import Recovery
from airflow_adf_mi.adf.config.policies import (
    OnAmbiguousStart,
    OnLiveRun,
    OnSucceededRun,
    PresentRuns,
    check_on_ambiguous_start,
)
from airflow_adf_mi.adf.config.validation import (
    check_flag,
    check_parameters,
    check_pipeline_name,
    check_retry_from_failure,
    check_seconds,
    check_text,
    is_static,
    static_part,
)
from airflow_adf_mi.adf.connection_fields import DEFAULT_CONN_ID
from airflow_adf_mi.adf.errors import AdfConfigurationError
from airflow_adf_mi.adf.reporting.activity_log import ActivityLogMode, check_mode
from airflow_adf_mi.adf.reporting.outputs import parse_outputs
from airflow_adf_mi.exceptions import airflow_errors
from airflow_adf_mi.links import AdfPipelineRunLink

if TYPE_CHECKING:
    from airflow.sdk import Context, XComArg
    from airflow.sdk.definitions.mappedoperator import OperatorPartial
    from airflow.triggers.base import StartTriggerArgs

    from airflow_adf_mi._worker.attempt import Attempt
    from airflow_adf_mi.adf.config.settings import AdfSettings
    from airflow_adf_mi.adf.starting.start import Start
    from airflow_adf_mi.hooks import AdfHook


log = logging.getLogger(__name__)


class ComputedAttribute:
    """An attribute that is computed when it is read on an instance, and is a default on the class.

    :param default: the value on the class, and on an instance whose ``__init__`` has not finished.
    :param decide: computes the value on an instance.
    """

    def __init__(self, default: Any, decide: Callable[[Any], Any]) -> None:
        self._default = default
        self._decide = decide

    def __get__(self, task: Any, kind: type | None = None) -> Any:
        is_made = task is not None and hasattr(task, "in_triggerer_mode")
        return self._decide(task) if is_made else self._default


WEEK = 7 * 24 * 60 * 60


class AdfRunPipelineOperator(BaseOperator):
    """
    Run a Data Factory pipeline, wait for its end, and report the result.

    Returns a summary of the run: run id and group, pipeline, factory, status, times, ADF Studio address. Pushes the XCom
    ``run_id`` as soon as the run is started. Callbacks also find the run's id in the task's attribute ``run_id``.

    Raises an :class:`~airflow_adf_mi.exceptions.AdfError`, which is an AirflowException. If the run itself did not succeed,
    this is :class:`~airflow_adf_mi.exceptions.AdfRunFailed` or another
    :class:`~airflow_adf_mi.exceptions.AdfRunError`.

    If the answer to a start is lost, the operator searches for the run. It sends the start again in two cases only: it is proven
    that nothing was started, or ``on_ambiguous_start`` allows it. A failed status check never cancels or fails the run. A retry
    adopts the run of the previous try if that run is active or has already succeeded. After a clear, or with changed parameters,
    a new run starts when the earlier run has ended.

    :param pipeline_name: the pipeline. (templated)
    :param azure_data_factory_conn_id: a connection of type ``azure_data_factory_mi``, or a connection of the Azure
        provider's type ``azure_data_factory`` without a secret. (templated)
    :param resource_group_name: overrides the connection's resource group. (templated)
    :param factory_name: overrides the connection's factory. (templated)
    :param parameters: the pipeline's parameters by name. Values are JSON values; dates, times and the like are sent as
        ISO 8601 text. (templated)
    :param wait_for_termination: wait for the run to end. With False, the task ends as soon as the run is started; another
        task can wait with :class:`~airflow_adf_mi.sensors.AdfPipelineRunSensor`.
    :param timeout: seconds to wait for the run, counted from the moment at which this try starts or adopts the run. A shorter
        ``execution_timeout`` takes precedence.
    :param check_interval: seconds between status checks of the run.
    :param deferrable: wait in the triggerer instead of on a worker. The default is Airflow's setting
        ``[operators] default_deferrable``.
    :param reference_pipeline_run_id: an earlier run; the new run uses its parameters. (templated)
    :param is_recovery: continue that earlier run, in its group. (templated)
    :param start_activity_name: with ``is_recovery``, begin at this activity. (templated)
    :param start_from_failure: with ``is_recovery``, begin at the activities that failed. (templated)
    :param cancel_on_kill: cancel the run, and the runs that it started, when the task is marked as failed or succeeded, or is
        cleared. If a deferred task is cleared, the next try cancels the run.
    :param cancel_on_timeout: cancel the run, and the runs that it started, when the timeout passes.
    :param durable: durable execution. Store in Airflow's task state store what was started, for retries and clears. Airflow
        3.1 and 3.2 have no such store, so the service is asked instead. With False, every
        try starts a new run; within one try, no second run is started.
    :param on_ambiguous_start: what to do if the answer to a start was lost, and its run can be neither found nor ruled
        out. ``"fail"`` fails with the candidates. ``"start"`` starts again, for pipelines that may safely run twice.
        ``"start_if_list_is_fresh"`` starts again if the run list shows a later run of the factory, and no run with this
        start's ``correlation_parameter``.
    :param correlation_parameter: the name of a parameter of type string, which the pipeline must declare. The operator sets
        that parameter to a value that is unique to the start. If the answer is lost, that value identifies the run for certain.
    :param retry_from_failure: when to continue a failed run from the activities that failed, instead of starting from the
        beginning. ``"never"``; ``"retry"`` (or True): when Airflow retries the task; ``"always"``: also after a clear. The new
        run joins the group of the failed run, and skips the activities that succeeded. (templated)
    :param on_live_run: what to do if a run of the pipeline is active that this task did not start. ``"start"`` another run;
        ``"wait"`` for its end, and then start; ``"adopt"`` it, if its parameters are equal; ``"skip"`` the task, if its
        parameters are equal; or ``"fail"``.
    :param on_succeeded_run: what to do if a run with equal parameters has succeeded ``succeeded_within`` some time, whoever
        started it. ``"start"`` another run; ``"accept"`` it: the task returns its summary; or ``"skip"`` the task. After a
        clear, runs of this task do not count, unless Airflow's setting ``[state_store] clear_on_success`` is on.
    :param succeeded_within: for ``on_succeeded_run``: how long ago the run may have succeeded, as a timedelta or in seconds.
    :param check_parameters: check the parameters against the published pipeline before the start. Text becomes a number, a
        boolean, a list or a mapping, where the pipeline declares one. An undeclared parameter, a missing one, or a value that
        does not fit, raises an error, and nothing is started. If the pipeline cannot be read, the parameters are sent as they
        are.
    :param start_settle: seconds to search for the run of a start whose answer was lost. In triggerer mode, the search may last
        60 s longer.
    :param activity_log: which lines about the run's activities are logged. ``"live"``: a line for each change, from at most
        one query a minute. ``"summary"``: when the run has ended, a line for each activity, from one query. ``"off"``: none. A
        failed query never fails or cancels a run.
    :param outputs: XCom key to ``"Activity.member"``: outputs of activities that are pushed after the run has succeeded, such
        as ``{"rows": "CopySales.rowsCopied", "id": "Lookup.firstRow.id", "total": "pipelineReturnValue.total"}``. A name
        with dots or brackets is quoted as in Data Factory's expressions, which can be pasted unchanged:
        ``"activity('Load [Sales]').output['dbo.Orders']"``. An activity in a loop gives a list with one value for each
        iteration. An output that is missing, or has more than 48 kB, is left out, and logged. (templated)
    :param supersede_timeout: seconds to wait for the end of a superseded run before a new run starts.
    :param start_from_trigger: triggerer mode: start, wait and end in the triggerer. A worker ends the task if the run does not
        succeed, or if the task has ``outputs``. If Airflow cannot do a part of the task in the triggerer, a worker runs the task,
        and the log gives the reason. Airflow ignores `max_active_tasks` and the slots of the default pool in this mode
        (docs/triggerer-mode.md).
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
        "retry_from_failure",
        "outputs",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"parameters": "json", "outputs": "json"}
    operator_extra_links = (AdfPipelineRunLink(),)
    ui_color = "#0078d4"
    ui_fgcolor = "#ffffff"
    # Computed on reading, because Airflow serializes a Dag only when its tasks are complete. The class, which mapped tasks
    # use, has the defaults of Airflow's BaseOperator.
    start_from_trigger = ComputedAttribute(False, lambda task: task.in_triggerer_mode and task.why_on_worker() is None)
    start_trigger_args = ComputedAttribute(
        None, lambda task: task.trigger_arguments() if task.start_from_trigger else None
    )

    @airflow_errors()
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
        durable: bool = True,
        on_ambiguous_start: OnAmbiguousStart = "fail",
        correlation_parameter: str | None = None,
        retry_from_failure: bool | str | XComArg = "never",
        on_live_run: OnLiveRun = "start",
        on_succeeded_run: OnSucceededRun = "start",
        succeeded_within: timedelta | float | None = None,
        check_parameters: bool = True,
        start_settle: float = 120,
        supersede_timeout: float = 600,
        activity_log: ActivityLogMode = "summary",
        outputs: Mapping[str, str] | str | XComArg | None = None,
        start_from_trigger: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        # Templated arguments have their declared types before rendering. After rendering, the checks decide.
        self.pipeline_name: Any = pipeline_name
        self.azure_data_factory_conn_id = azure_data_factory_conn_id
        self.resource_group_name: Any = resource_group_name
        self.factory_name: Any = factory_name
        self.parameters: Any = parameters
        self.wait_for_termination = check_flag("wait_for_termination", wait_for_termination)
        self.timeout = check_seconds("timeout", timeout)
        self.check_interval = check_seconds("check_interval", check_interval)
        self.deferrable = check_flag("deferrable", deferrable)
        self.reference_pipeline_run_id: Any = reference_pipeline_run_id
        self.is_recovery: Any = is_recovery
        self.start_activity_name: Any = start_activity_name
        self.start_from_failure: Any = start_from_failure
        self.cancel_on_kill = check_flag("cancel_on_kill", cancel_on_kill)
        self.cancel_on_timeout = check_flag("cancel_on_timeout", cancel_on_timeout)
        self.durable = check_flag("durable", durable)
        self.on_ambiguous_start = on_ambiguous_start
        self.correlation_parameter = correlation_parameter
        self.retry_from_failure: Any = retry_from_failure
        self.on_live_run = on_live_run
        self.on_succeeded_run = on_succeeded_run
        self.succeeded_within = (
            None if succeeded_within is None else check_seconds("succeeded_within", succeeded_within)
        )
        self.check_parameters = check_flag("check_parameters", check_parameters)
        self.start_settle = check_seconds("start_settle", start_settle)
        self.supersede_timeout = check_seconds("supersede_timeout", supersede_timeout)
        self.activity_log = check_mode(activity_log)
        self.outputs: Any = outputs
        self.in_triggerer_mode = check_flag("start_from_trigger", start_from_trigger)
        self.run_id: str | None = None
        self._attempt: Attempt | None = None
        self.is_killed = False
        self._check_what_is_static()

    @classmethod
    def partial(cls, *, task_id: str, start_from_trigger: bool = False, **kwargs: Any) -> OperatorPartial:
        """Make mapped tasks, which always start on workers.

        Airflow 3.3.2 would pass `start_from_trigger` on to mapped tasks. The triggerer would then make a context for their
        triggers, and an error in making that context ends the triggerer.
        """
        if start_from_trigger:
            log.info("start_from_trigger=True, but %s is mapped, and runs on workers.", task_id)
        return super().partial(task_id=task_id, start_from_trigger=False, **kwargs)

    def _check_what_is_static(self) -> None:
        """Check at parse time the arguments that need no rendering. All arguments are checked again before a start."""
        check_on_ambiguous_start(self.on_ambiguous_start, self.correlation_parameter)
        if self.correlation_parameter is not None:
            check_text("correlation_parameter", self.correlation_parameter)
        present = PresentRuns(
            on_live_run=self.on_live_run,
            on_succeeded_run=self.on_succeeded_run,
            succeeded_within=self.succeeded_within,
        )
        if not self.durable and (self.on_live_run == "adopt" or self.on_succeeded_run != "start"):
            raise AdfConfigurationError(
                "on_live_run='adopt' and on_succeeded_run need durable=True. Otherwise a later part of the task would not know "
                "whose run it is."
            )
        if present.compares and self.reference_pipeline_run_id is not None:
            raise AdfConfigurationError(
                "reference_pipeline_run_id is set, and on_live_run or on_succeeded_run compares parameters. A run that refers to "
                "an earlier run has the parameters of that run. Remove one of them."
            )
        if is_static(self.pipeline_name):
            check_pipeline_name(self.pipeline_name)
        if is_static(self.parameters):
            check_parameters(static_part(self.parameters))
        if is_static(self.outputs):
            known = static_part(self.outputs)
            parse_outputs({k: v for k, v in known.items() if v is not None} if isinstance(known, Mapping) else known)
        if self.outputs and not self.wait_for_termination:
            raise AdfConfigurationError(
                "outputs needs wait_for_termination=True, because outputs exist only after the run has ended."
            )
        recovery = self._recovery_arguments()
        if all(map(is_static, recovery.values())):
            Recovery.from_arguments(**recovery)
        if is_static(self.retry_from_failure) and check_retry_from_failure(self.retry_from_failure) == "never":
            return
        if not self.durable:
            raise AdfConfigurationError(
                "retry_from_failure needs durable=True, because a retry must know the run of the failed try."
            )
        if recovery["reference_pipeline_run_id"] is not None:
            raise AdfConfigurationError(
                "retry_from_failure and reference_pipeline_run_id are both set, but a run can continue only one run. Remove one "
                "of them."
            )

    @airflow_errors()
    def execute(self, context: Context) -> dict[str, Any]:
        """Start the run, or adopt the run of an earlier try. Then return, wait, or defer."""
        from airflow_adf_mi._airflow.empty_window import warn_of_empty_window

        if self.in_triggerer_mode:
            why = self.in_dag.why_on_worker() or "Airflow started it there"
            self.log.info("start_from_trigger=True, but this try runs on a worker: %s.", why)
        warn_of_empty_window(self.log, self, context)
        with keeping_failure(self, context):
            return self._new_attempt(context, is_first_part=True).run()

    @airflow_errors()
    def execute_after(
        self, context: Context, event: dict[str, Any], waiting_since: float | None = None
    ) -> dict[str, Any]:
        """Start the new run, if the superseded run has ended. Airflow stores `waiting_since` with the deferred task."""
        return self._new_attempt(context).after_superseded(event, waiting_since)

    @airflow_errors()
    def execute_in_turn(
        self, context: Context, event: dict[str, Any], waiting_since: float | None = None
    ) -> dict[str, Any]:
        """Send the start again that a full queue has refused. Airflow stores `waiting_since` with the deferred task."""
        return self._new_attempt(context).in_turn(event, waiting_since)

    @airflow_errors()
    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Raise or return what the trigger reported."""
        return self._resumed_attempt(context, event).complete(event)

    @airflow_errors()
    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume after the deferral, also if Airflow's own timeout passed or the trigger failed."""
        with keeping_failure(self, context):
            return self._resumed(next_method, next_kwargs, context)

    def _resumed(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        from airflow_adf_mi._worker.resumed_attempt import is_event_of_earlier_try

        if is_event_of_earlier_try(self, context):
            self.log.info("Airflow resumed this try with the result of an earlier try. The try begins from the start.")
            return self._new_attempt(context, is_first_part=True).run()
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except TaskDeferralTimeout:
            return self._resumed_attempt(context).on_deferral_timeout()
        except TaskDeferralError as e:
            return self._resumed_attempt(context).retry_trigger(e)

    @property
    def in_dag(self) -> Any:
        """This task as its Dag has it. Airflow renders templates in a copy of the task, which then no longer has them."""
        has_dag = self.has_dag()  # type: ignore[no-untyped-call]  # Airflow's method is not annotated
        return self.dag.get_task(self.task_id) if has_dag else self

    @cached_property
    def hook(self) -> AdfHook:
        """A hook for the connection that the rendered argument names."""
        from airflow_adf_mi.hooks import AdfHook

        return AdfHook(self.azure_data_factory_conn_id)

    def on_kill(self) -> None:
        """Cancel the run within Airflow's 5 seconds. Airflow calls this in a signal handler."""
        self.is_killed = True
        if self._attempt is not None:
            self._attempt.kill()

    # The OpenLineage provider, if it is installed, calls the next three methods.

    def get_openlineage_facets_on_start(self) -> Any:
        from airflow_adf_mi._openlineage.facets import at_start

        hide_parameters(self)
        return at_start(self)

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        from airflow_adf_mi._openlineage.facets import at_end

        hide_parameters(self)
        return at_end(self, self._attempt.run_record if self._attempt else None)

    def get_openlineage_facets_on_failure(self, task_instance: Any) -> Any:
        return self.get_openlineage_facets_on_complete(task_instance)

    def _new_attempt(self, context: Context, *, is_first_part: bool = False) -> Attempt:
        # Imported here, because each parse of a Dag file imports this module.
        from airflow_adf_mi._worker.attempt import Attempt

        self._attempt = Attempt(self, context, is_first_part=is_first_part)
        return self._attempt

    def _resumed_attempt(self, context: Context, event: dict[str, Any] | None = None) -> Attempt:
        from airflow_adf_mi._worker.resumed_attempt import resume

        self._attempt = resume(self, context, event)
        return self._attempt

    def start_of(self, settings: AdfSettings) -> Start:
        """Build the start from the rendered arguments. Raises `AdfConfigurationError` if they are not valid."""
        from airflow_adf_mi._airflow.arguments import build_start

        return build_start(self, settings, parameters=parameters_of(self))

    def why_on_worker(self) -> str | None:
        """Return the reason why this task cannot start in the triggerer; None if it can."""
        from airflow_adf_mi._triggerer.eligibility import why_start_on_worker

        return why_start_on_worker(self, {name: getattr(self, name) for name in self.template_fields})

    def trigger_arguments(self) -> StartTriggerArgs:
        """Return the arguments of the trigger that Airflow's scheduler makes in triggerer mode."""
        from airflow_adf_mi.triggers.start_and_wait import start_trigger_args

        return start_trigger_args(self)

    def _recovery_arguments(self) -> dict[str, Any]:
        names = ("reference_pipeline_run_id", "is_recovery", "start_activity_name", "start_from_failure")
        return {name: getattr(self, name) for name in names}

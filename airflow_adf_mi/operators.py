"""The operator that runs a pipeline. Importing this module loads no Azure package: a Dag file pays nothing for it."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NoReturn

from airflow.sdk import BaseOperator
from airflow.sdk.configuration import conf
from airflow.sdk.exceptions import AirflowTaskTimeout, TaskDeferralError, TaskDeferralTimeout

from airflow_adf_mi.adf.checks import (
    check_parameters,
    check_pipeline_name,
    check_seconds,
    is_given,
    is_static,
    name_as_text,
    static_part,
)
from airflow_adf_mi.adf.connection import DEFAULT_CONN_ID
from airflow_adf_mi.adf.errors import AdfConfigurationError, AdfError, AdfTaskKilled
from airflow_adf_mi.adf.recovery import Recovery
from airflow_adf_mi.links import AdfPipelineRunLink

if TYPE_CHECKING:
    from airflow.sdk import Context, XComArg

    from airflow_adf_mi.adf.begin import Outlasting
    from airflow_adf_mi.adf.intent import Intent
    from airflow_adf_mi.adf.owned_run import OwnedRun
    from airflow_adf_mi.adf.report import Report, RunAddress
    from airflow_adf_mi.adf.settings import AdfSettings
    from airflow_adf_mi.adf.start import Start, Started
    from airflow_adf_mi.adf.watch import Plan
    from airflow_adf_mi.journal import TaskJournal
    from airflow_adf_mi.triggers import AdfPipelineRunTrigger

WEEK = 7 * 24 * 60 * 60
BACKSTOP = timedelta(minutes=10)
"""How much later than our own deadline Airflow's deferral timeout is, so that ours comes first and cancels the run."""
TRIGGER_FAILURES = 6
"""How often in a try a wait whose trigger failed is taken up again."""


class AdfRunPipelineOperator(BaseOperator):
    """
    Run a Data Factory pipeline, wait for it to end, and say what happened.

    Returns a summary of the run (run id and group, pipeline, factory, status, times, ADF Studio address), and pushes the
    XCom ``run_id`` as soon as the run is started. Raises an :class:`~airflow_adf_mi.adf.errors.AdfError`;
    :class:`~airflow_adf_mi.adf.errors.AdfRunFailed` and its siblings when the run itself did not succeed.

    A start whose answer is lost is never sent a second time. A look that fails never cancels or fails the run. A retry goes
    on with the run of the try before, and accepts it if it has succeeded; a clear, or parameters that have changed, starts
    a new run once the earlier one is over.

    :param pipeline_name: the pipeline. (templated)
    :param azure_data_factory_conn_id: a connection of type ``azure_data_factory_mi``, or of the Azure provider's
        ``azure_data_factory`` without a secret. (templated)
    :param resource_group_name: instead of the connection's. (templated)
    :param factory_name: instead of the connection's. (templated)
    :param parameters: the pipeline's parameters: JSON values by name. (templated)
    :param wait_for_termination: wait for the run to end. False ends the task once the run is started; wait elsewhere with
        :class:`~airflow_adf_mi.sensors.AdfPipelineRunSensor`.
    :param timeout: seconds to wait for the run, from this try's start or adoption of it; an ``execution_timeout`` that is
        shorter counts instead.
    :param check_interval: seconds between looks at the run.
    :param deferrable: wait in the triggerer rather than on a worker; by default as ``[operators] default_deferrable`` says.
    :param reference_pipeline_run_id: an earlier run whose parameters the new one takes over. (templated)
    :param is_recovery: continue that earlier run, in its group. (templated)
    :param start_activity_name: with ``is_recovery``, begin at this activity. (templated)
    :param start_from_failure: with ``is_recovery``, begin at the activities that failed. (templated)
    :param cancel_on_kill: cancel the run, and the runs it started, when the task is killed, marked or cleared.
    :param cancel_on_timeout: cancel the run, and the runs it started, when the timeout passes.
    :param durable: remember what was started in Airflow's task state store, for retries and clears. False starts a new run
        at every try, and sends nothing twice within one.
    :param on_ambiguous_start: what to do when the answer to a start was lost, and its run can be neither found nor ruled
        out: ``"fail"`` with the candidates, or ``"start"`` again, for pipelines of which two runs do no harm.
    :param correlation_parameter: a parameter that the pipeline declares for it (type string). It gets a value that is
        unique to the start, by which a run whose answer was lost is recognised for certain.
    :param start_settle: seconds for which the run of a lost answer is looked for.
    :param supersede_timeout: seconds to wait for the run that a clear has made obsolete to end, before a new one starts.
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
        durable: bool = True,
        on_ambiguous_start: Literal["fail", "start"] = "fail",
        correlation_parameter: str | None = None,
        start_settle: float = 120,
        supersede_timeout: float = 600,
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
        self.durable = durable
        self.on_ambiguous_start = on_ambiguous_start
        self.correlation_parameter = correlation_parameter
        self.start_settle = check_seconds("start_settle", start_settle)
        self.supersede_timeout = check_seconds("supersede_timeout", supersede_timeout)
        self._owned_run: OwnedRun | None = None
        self._check_what_is_static()

    def _check_what_is_static(self) -> None:
        """What needs no rendering is checked when the Dag is parsed; all of it is checked again before a start."""
        if self.on_ambiguous_start not in ("fail", "start"):
            raise AdfConfigurationError(
                f"on_ambiguous_start is {self.on_ambiguous_start!r}; it must be 'fail' or 'start'."
            )
        if is_static(self.pipeline_name):
            check_pipeline_name(self.pipeline_name)
        if is_static(self.parameters):
            check_parameters(static_part(self.parameters))
        recovery = self._recovery_arguments()
        if all(map(is_static, recovery.values())):
            Recovery.from_arguments(**recovery)

    def execute(self, context: Context) -> dict[str, Any]:
        """Start the run, or go on with an earlier try's; then return, wait, or defer."""
        return self._run(context)

    def _run(self, context: Context) -> dict[str, Any]:  # noqa: RET503  defer() does not return
        # Imported here, since Dag files import this module at every parse.
        from airflow_adf_mi.adf.begin import Outlasting
        from airflow_adf_mi.adf.owned_run import OwnedRun
        from airflow_adf_mi.adf.report import conclude, summary
        from airflow_adf_mi.hooks import AdfHook
        from airflow_adf_mi.journal import will_be_retried

        settings = AdfHook(self.azure_data_factory_conn_id).settings
        start = self._start(settings)
        began = time.time()
        journal = self._journal(context)
        stored = self._stored(journal, start, context)
        with (
            self._saying_that_it_failed(context),
            OwnedRun(
                settings,
                cancel_on_kill=self.cancel_on_kill,
                journal=journal,
                known=stored,
                goes_on=lambda: journal is not None and will_be_retried(context),
            ) as self._owned_run,
            self._heeding_airflows_timeout(self._owned_run),
        ):
            begun = self._begin(start, stored, context)
            while isinstance(begun, Outlasting):
                self._let_it_end(settings, self._owned_run, begun)
                begun = self._begin(start, self._stored(journal, start, context), context)
            address = self._owned_run.address_of(begun.intent)
            self._announce(context, address)
            if begun.run is not None and begun.run.is_terminal:
                return summary(address, begun.run, adopted=True)
            if not self.wait_for_termination:
                return summary(address, begun.run, adopted=begun.adopted)
            plan = self._plan(began, begun.intent)
            if not self.deferrable:
                report = self._owned_run.wait(plan, cancel_on_timeout=self.cancel_on_timeout)
                return conclude(replace(report, adopted=begun.adopted))
            if journal is not None:
                journal.note(replace(begun.intent, deadline=plan.deadline))
        self._defer_until_it_ends(settings, address, plan, adopted=begun.adopted)

    def _begin(self, start: Start, stored: Intent | None, context: Context) -> Started | Outlasting:
        from airflow_adf_mi.adf.begin import beginning
        from airflow_adf_mi.journal import occasion_of

        assert self._owned_run is not None  # noqa: S101  execute() has just made it
        routine = beginning(
            start,
            stored,
            occasion_of(context),
            cancel_superseded=self.cancel_on_kill,
            clock=time.time,
            jitter=random.random,
        )
        return self._owned_run.begin(routine)

    def _let_it_end(self, settings: AdfSettings, owned_run: OwnedRun, begun: Outlasting) -> None:
        """Wait for the run that a new one replaces; a deferrable task waits in the triggerer, and executes again."""
        from airflow_adf_mi.adf.watch import Plan

        address = owned_run.address_of(begun.intent)
        plan = Plan(check_interval=min(self.check_interval, 10), deadline=time.time() + self.supersede_timeout)
        self.log.info("%s is %s; the new run is started once it is over.", address, begun.run.status)
        if self.deferrable:
            self.defer(
                trigger=self._trigger(settings, address, plan, cancel_on_timeout=False),
                method_name="execute_after",
                timeout=timedelta(seconds=self.supersede_timeout) + BACKSTOP,
            )
        self._is_over(owned_run.watch(address, plan))

    def _is_over(self, report: Report) -> None:
        """Raises unless the run that a new one replaces has ended."""
        from airflow_adf_mi.adf.report import conclude
        from airflow_adf_mi.adf.watch import Ended, TimedOut

        if isinstance(report.outcome, TimedOut):
            run = report.outcome.run
            raise AdfError(
                f"{report.address}, which this try replaces, is still {run.status if run else 'not seen'} after "
                f"{self.supersede_timeout:g} s (supersede_timeout). Two runs of one task must not overlap, so nothing was "
                f"started. Clear the task once that run is over. See {report.address.studio_url}"
            )
        if not isinstance(report.outcome, Ended):
            conclude(report)

    def execute_after(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Begin again: the run that a new one replaces has ended."""
        from airflow_adf_mi.adf.report import Report

        self._is_over(Report.from_json(event))
        return self._run(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Conclude from what the trigger reported."""
        from airflow_adf_mi.adf.report import Report, conclude

        with self._saying_that_it_failed(context):
            return conclude(Report.from_json(event))

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume after the deferral; also where Airflow ended it, by its own timeout or because the trigger failed."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except TaskDeferralTimeout:
            with self._saying_that_it_failed(context):
                return self._overdue(context)
        except TaskDeferralError as e:
            return self._take_up_again(context, e)

    def _overdue(self, context: Context) -> dict[str, Any]:
        """Our own deadline comes first while the trigger works; this is for when it did not."""
        from airflow_adf_mi.adf.drive import drive
        from airflow_adf_mi.adf.report import LEFT_RUNNING, Report, cancelling_overdue, conclude
        from airflow_adf_mi.adf.watch import TimedOut
        from airflow_adf_mi.hooks import AdfHook

        hook = AdfHook(self.azure_data_factory_conn_id)
        address = self._own_run(hook.settings, context)
        if not self.cancel_on_timeout:
            return conclude(Report(address=address, outcome=TimedOut(), cancel=LEFT_RUNNING))
        with hook.client() as client:
            routine = cancelling_overdue(address, TimedOut(), clock=time.time, jitter=random.random)
            return conclude(drive(routine, client, time.sleep))

    def _own_run(self, settings: AdfSettings, context: Context) -> RunAddress:
        """The run that this try was waiting for."""
        from airflow_adf_mi.adf.report import RunAddress
        from airflow_adf_mi.journal import RUN_ID_KEY

        ti = context["ti"]
        run_id = ti.xcom_pull(task_ids=ti.task_id, key=RUN_ID_KEY, map_indexes=ti.map_index)
        if not isinstance(run_id, str) or not run_id:
            raise AdfError(
                f"The wait for a run of pipeline {self.pipeline_name!r} ended without its trigger, and the run's id is not "
                "in this task's XCom run_id. The run was not touched; find it in ADF Studio by the log of this task's start."
            )
        factory = settings.factory(self.resource_group_name, self.factory_name)
        return RunAddress(
            run_id=run_id,
            factory=factory,
            studio_url=settings.studio_run_url(factory, run_id),
            pipeline_name=self.pipeline_name,
        )

    def _take_up_again(self, context: Context, failure: TaskDeferralError) -> dict[str, Any]:
        """The trigger failed, as all do after a broken deployment. The run is well: wait on, a few times."""
        from airflow_adf_mi.adf.owned_run import OwnedRun
        from airflow_adf_mi.hooks import AdfHook
        from airflow_adf_mi.journal import will_be_retried

        settings = AdfHook(self.azure_data_factory_conn_id).settings
        journal = self._journal(context)
        stored = self._stored(journal, self._start(settings), context)
        with self._saying_that_it_failed(context):
            if journal is None or stored is None or stored.trigger_failures >= TRIGGER_FAILURES:
                address = self._own_run(settings, context)
                raise AdfError(
                    f"The trigger that waited for {address} failed ({failure}). The run itself was not touched and may well "
                    f"go on; with durable=True a retry goes on with it. See the trigger's error above, and whether triggerers "
                    f"and workers have the same version of this package. See {address.studio_url}"
                ) from failure
            pause = min(60, 5 * 2**stored.trigger_failures)
            self.log.warning(
                "The trigger that waited for run %s failed, and the run goes on. Will wait for it again in %d s. %s",
                stored.run_id,
                pause,
                failure,
            )
            journal.note(replace(stored, trigger_failures=stored.trigger_failures + 1))
            with OwnedRun(
                settings,
                cancel_on_kill=self.cancel_on_kill,
                known=stored,
                goes_on=lambda: will_be_retried(context),
            ) as self._owned_run:
                self._owned_run.rest(pause)
        return self._run(context)

    @contextlib.contextmanager
    def _saying_that_it_failed(self, context: Context) -> Iterator[None]:
        """Write into the journal that the try failed by itself: what follows is then a retry, and no clear."""
        try:
            yield
        except AdfTaskKilled:
            raise
        except (Exception, AirflowTaskTimeout):
            journal = self._journal(context)
            if journal is not None:
                journal.failed(context)
            raise

    @contextlib.contextmanager
    def _heeding_airflows_timeout(self, owned_run: OwnedRun) -> Iterator[None]:
        """An execution_timeout counts as ours: it cancels the run as cancel_on_timeout says, not as cancel_on_kill does."""
        try:
            yield
        except AirflowTaskTimeout:
            owned_run.overdue(cancel=self.cancel_on_timeout)
            raise

    def _journal(self, context: Context) -> TaskJournal | None:
        from airflow_adf_mi.journal import TaskJournal

        return TaskJournal(context) if self.durable else None

    def _stored(self, journal: TaskJournal | None, start: Start, context: Context) -> Intent | None:
        from airflow_adf_mi.adf.intent import read
        from airflow_adf_mi.journal import occasion_of

        return None if journal is None else read(journal.stored(), start.intent(occasion_of(context)))

    def _plan(self, began: float, intent: Intent) -> Plan:
        """How to wait; a wait that this very try had begun before keeps its deadline."""
        from airflow_adf_mi.adf.watch import Plan

        seconds, since = self.timeout, time.time()
        if self.execution_timeout is not None:
            # Airflow 3.3 does not enforce it while a task is deferred; on a worker ours is to come first, and to cancel.
            limit = self.execution_timeout.total_seconds()
            if began + limit < since + seconds:
                seconds, since = limit - (0 if self.deferrable else min(2.0, limit / 10)), began
        return Plan(check_interval=self.check_interval, deadline=intent.deadline or since + seconds)

    def _defer_until_it_ends(
        self, settings: AdfSettings, address: RunAddress, plan: Plan, *, adopted: bool
    ) -> NoReturn:
        assert plan.deadline is not None  # noqa: S101  _plan always sets one
        self.defer(
            trigger=self._trigger(settings, address, plan, cancel_on_timeout=self.cancel_on_timeout, adopted=adopted),
            method_name="execute_complete",
            timeout=timedelta(seconds=max(0.0, plan.deadline - time.time())) + BACKSTOP,
        )

    def _announce(self, context: Context, address: RunAddress) -> None:
        """Push the run's id and link. The run is started: failing now would orphan it."""
        from airflow_adf_mi.journal import RUN_ID_KEY

        try:
            context["ti"].xcom_push(key=RUN_ID_KEY, value=address.run_id)
            AdfPipelineRunLink.store(context, address.studio_url)
        except Exception as e:  # noqa: BLE001  whatever Airflow's API fails with must not end the wait
            self.log.warning("%s goes on, but its id or link could not be pushed as XCom: %s", address, e)

    def on_kill(self) -> None:
        """Cancel the run, in the few seconds that Airflow gives. Airflow calls this from a signal handler."""
        if self._owned_run is not None:
            self._owned_run.kill()

    def _start(self, settings: AdfSettings) -> Start:
        from airflow_adf_mi.adf.start import Start

        return Start(
            factory=settings.factory(self.resource_group_name, self.factory_name),
            pipeline_name=name_as_text("pipeline_name", self.pipeline_name),
            parameters=self.parameters if is_given(self.parameters) else None,
            recovery=Recovery.from_arguments(**self._recovery_arguments()),
            correlation_parameter=self.correlation_parameter,
            settle=self.start_settle,
            on_ambiguous=self.on_ambiguous_start,
        )

    def _recovery_arguments(self) -> dict[str, Any]:
        return {
            "reference_pipeline_run_id": self.reference_pipeline_run_id,
            "is_recovery": self.is_recovery,
            "start_activity_name": self.start_activity_name,
            "start_from_failure": self.start_from_failure,
        }

    def _trigger(
        self, settings: AdfSettings, address: RunAddress, plan: Plan, *, cancel_on_timeout: bool, adopted: bool = False
    ) -> AdfPipelineRunTrigger:
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
            cancel_on_timeout=cancel_on_timeout,
            adopted=adopted,
        )

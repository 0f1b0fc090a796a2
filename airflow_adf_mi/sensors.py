"""The sensor that waits for a run that another task or person started. Importing this module loads no Azure package."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator, PokeReturnValue

from airflow_adf_mi._airflow.kept_failure import keeping_failure
from airflow_adf_mi._airflow.names import (
    AirflowException,
    AirflowSensorTimeout,
    AirflowSkipException,
    TaskDeferralError,
    TaskDeferralTimeout,
    conf,
)
from airflow_adf_mi.adf.config.validation import check_flag, check_run_id, check_seconds, is_static
from airflow_adf_mi.adf.connection_fields import DEFAULT_CONN_ID
from airflow_adf_mi.adf.errors import AdfError
from airflow_adf_mi.exceptions import airflow_errors
from airflow_adf_mi.links import AdfPipelineRunLink

if TYPE_CHECKING:
    from airflow.sdk import Context, XComArg

    from airflow_adf_mi.adf.config.addresses import RunAddress
    from airflow_adf_mi.adf.config.settings import AdfSettings
    from airflow_adf_mi.adf.models import PipelineRun
    from airflow_adf_mi.adf.waiting.single_run import WaitState
    from airflow_adf_mi.hooks import AdfHook

REFUSED_SINCE_KEY = "airflow_adf_mi.refused_since"
"""Task state store key of a rescheduled sensor: when the current series of refused status checks began.

The value holds epoch seconds and the try that made those status checks. The try is needed because the store outlives retries
and clears, and refusals of an earlier try must not count for this try.
"""


class AdfPipelineRunSensor(BaseSensorOperator):
    """
    Wait for a pipeline run to end.

    If the run succeeded, returns the run's summary. Otherwise raises
    :class:`~airflow_adf_mi.exceptions.AdfRunFailed` or :class:`~airflow_adf_mi.exceptions.AdfRunCancelled`. The sensor
    never cancels the run, whatever happens to the sensor.

    A failed status check does not fail the sensor. The sensor fails only if the service refuses status checks, or gives
    answers that cannot be read, for 5 minutes; or if the connection cannot be used in this process. If the triggerer cannot load
    the sensor's trigger, the sensor waits again, at most 6 times in a try.

    :param run_id: the run, for example another task's XCom ``run_id``. (templated)
    :param azure_data_factory_conn_id: a connection, as for
        :class:`~airflow_adf_mi.operators.AdfRunPipelineOperator`. (templated)
    :param resource_group_name: overrides the connection's resource group. (templated)
    :param factory_name: overrides the connection's factory. (templated)
    :param deferrable: wait in the triggerer instead of on a worker, with a status check every ``poke_interval``. The
        default is Airflow's setting ``[operators] default_deferrable``.
    """

    template_fields: Sequence[str] = (
        "azure_data_factory_conn_id",
        "resource_group_name",
        "factory_name",
        "run_id",
    )
    operator_extra_links = (AdfPipelineRunLink(),)
    ui_color = "#0078d4"
    ui_fgcolor = "#ffffff"

    @airflow_errors()
    def __init__(
        self,
        *,
        run_id: str | XComArg,
        azure_data_factory_conn_id: str = DEFAULT_CONN_ID,
        resource_group_name: str | XComArg | None = None,
        factory_name: str | XComArg | None = None,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_seconds("poke_interval", self.poke_interval)
        check_seconds("timeout", self.timeout)
        if is_static(run_id):
            check_run_id(run_id)
        # Templated arguments have their declared types before rendering, and are text after rendering.
        self.run_id: Any = run_id
        self.azure_data_factory_conn_id = azure_data_factory_conn_id
        self.resource_group_name: Any = resource_group_name
        self.factory_name: Any = factory_name
        self.deferrable = check_flag("deferrable", deferrable)
        self._watching: WaitState | None = None

    @airflow_errors()
    def execute(self, context: Context) -> Any:
        """Wait here, be rescheduled between status checks, or defer. A run that has already ended is not waited for."""
        with keeping_failure(self, context):
            return self._wait(context)

    def _wait(self, context: Context) -> Any:  # noqa: RET503  defer() does not return
        address, settings = self._address()
        AdfPipelineRunLink.store(context, address.studio_url)
        asked_at = time.time()
        seen = self._run_now() if self.deferrable else None
        if not self.deferrable or (seen is not None and seen.is_terminal):
            try:
                return super().execute(context)
            except AirflowSensorTimeout as e:
                # Airflow applies never_fail after a deferral, but not here.
                if self.never_fail:
                    raise AirflowSkipException(f"Skipping due to never_fail is set to True. {e}") from e
                raise
        from airflow_adf_mi._airflow.task_instance import start_of_try
        from airflow_adf_mi._triggerer.eligibility import may_end_in_triggerer
        from airflow_adf_mi.adf.waiting.deadlines import deadline_of, deferral_timeout
        from airflow_adf_mi.adf.waiting.single_run import Plan
        from airflow_adf_mi.triggers.wait import AdfPipelineRunTrigger, run_arguments

        now = time.time()
        # A try that defers again after its trigger failed keeps its deadline. Exception: on Airflow 3.1, `timeout` then counts
        # again, because Airflow keeps neither the start of the try nor the arguments of a deferral whose trigger failed.
        deadline = deadline_of(self.timeout, counts_from=start_of_try(context))
        if now >= deadline.at:
            raise self._timed_out(address, seen, deadline.reason)
        plan = Plan(check_interval=self.poke_interval, deadline=deadline.at, deadline_reason=deadline.reason)
        self.defer(
            trigger=AdfPipelineRunTrigger(
                **run_arguments(settings, address, plan),
                owns_run=False,
                not_ended_before=None if seen is None else asked_at,
                end_task_on_success=may_end_in_triggerer(self),
                push_result=self.do_xcom_push,
            ),
            method_name="execute_complete",
            timeout=deferral_timeout(deadline.at, now),
        )

    @airflow_errors()
    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Raise or return what the trigger reported."""
        from airflow_adf_mi.adf.errors import AdfRunTimedOut
        from airflow_adf_mi.adf.reporting.report import Report, conclude

        try:
            return conclude(Report.from_json(event))
        except AdfRunTimedOut as e:
            # Airflow's other sensors raise this at a timeout: soft_fail then works, and Airflow makes no retry.
            raise AirflowSensorTimeout(str(e)) from e

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume after the deferral, with Airflow's rules for a sensor that does not defer.

        For such a sensor, `soft_fail` skips the task at a timeout only. After a deferral, Airflow would skip the task for
        any error, and so hide that the run failed.
        """
        with keeping_failure(self, context):
            return self._resumed_with_rules(next_method, next_kwargs, context)

    def _resumed_with_rules(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """What the rules for `soft_fail` and `never_fail` make of the resumed task."""
        try:
            return self._resumed(next_method, next_kwargs, context)
        except AirflowSkipException as e:
            error = e.__cause__
            if not self.soft_fail or not isinstance(error, AdfError):
                raise
        except (AirflowException, TaskDeferralError) as e:
            # Older versions of Airflow know `never_fail`, and `soft_fail` at the timeout of a deferral, on a worker only.
            is_timeout = isinstance(e, AirflowSensorTimeout | TaskDeferralTimeout)
            if not self.never_fail and not (self.soft_fail and is_timeout):
                raise
            rule = "never_fail" if self.never_fail else "soft_fail"
            raise AirflowSkipException(f"Skipping due to {rule} is set to True. {e}") from e
        raise error

    def _resumed(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """What Airflow makes of the deferral. If the trigger failed, wait again: the run is not affected."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except (AirflowSkipException, TaskDeferralError) as e:
            # With `soft_fail` or `never_fail`, Airflow skips the task for a failed trigger, too.
            failure = e.__cause__ if isinstance(e, AirflowSkipException) else e
            if not isinstance(failure, TaskDeferralError):
                raise
        return self._wait_again(failure, context)

    @airflow_errors()
    def _wait_again(self, failure: TaskDeferralError, context: Context) -> Any:
        """Wait again after the trigger failed, a few times only. A broken deployment makes triggers fail, not runs."""
        from airflow_adf_mi._worker.trigger_failures import MOST_TRIGGER_FAILURES, record_trigger_failure

        address, _ = self._address()
        unaffected = (
            f"{address} is not affected. A retry of this sensor waits for that run again; if no retry is left, clear the "
            f"sensor. See {address.studio_url}"
        )
        pause = record_trigger_failure(context, unaffected=unaffected)
        if pause is None:
            raise AdfError(
                f"The trigger of this sensor failed {MOST_TRIGGER_FAILURES + 1} times ({failure}). See the trigger's error "
                f"above, and check that triggerers and workers have the same version of this package. {unaffected}"
            ) from failure
        self.log.warning(
            "The trigger that waited for %s failed. The run is not affected. Will wait again in %.0f s. %s",
            address,
            pause,
            failure,
        )
        time.sleep(pause)
        return self._wait(context)

    def _timed_out(self, address: RunAddress, seen: PipelineRun | None, reason: str) -> AirflowException:
        """The error of a sensor that has no time left for a deferral. Airflow applies `soft_fail` and `never_fail` elsewhere."""
        from airflow_adf_mi._airflow.stats import use_in_tasks
        from airflow_adf_mi.adf.reporting.conclude import measure
        from airflow_adf_mi.adf.reporting.report import Report, error_of
        from airflow_adf_mi.adf.waiting.single_run import TimedOut

        use_in_tasks()
        outcome = TimedOut(run=seen, deadline_reason=reason)
        measure(outcome, time.time())
        kind = AirflowSkipException if self.soft_fail or self.never_fail else AirflowSensorTimeout
        return kind(str(error_of(Report(address=address, outcome=outcome))))

    @cached_property
    def hook(self) -> AdfHook:
        """A hook for the connection that the rendered argument names."""
        from airflow_adf_mi.hooks import AdfHook

        return AdfHook(self.azure_data_factory_conn_id)

    @airflow_errors()
    def poke(self, context: Context) -> PokeReturnValue | bool:
        """Make one status check."""
        from airflow_adf_mi._airflow.stats import use_in_tasks
        from airflow_adf_mi.adf.api.client import AdfClient
        from airflow_adf_mi.adf.api.operations import get_run
        from airflow_adf_mi.adf.models import PipelineRun
        from airflow_adf_mi.adf.reporting.conclude import explained, measure
        from airflow_adf_mi.adf.reporting.report import Report, conclude
        from airflow_adf_mi.adf.routines import run_routine
        from airflow_adf_mi.adf.timing import REAL_TIME
        from airflow_adf_mi.adf.waiting.single_run import Plan, WaitState, in_words, next_state

        use_in_tasks()
        address, settings = self._address()
        seen: PipelineRun | AdfError
        try:
            with AdfClient(settings) as client:
                seen = client.send(get_run(address.factory, address.run_id))
        except AdfError as e:
            seen = e
            self.log.warning("Could not check the status of run %s. The run is not affected.\n  %s", address.run_id, e)
        before = self._watching or self._recalled(context)
        self._watching, outcome = next_state(before, seen, time.time(), Plan(check_interval=self.poke_interval))
        if outcome is not None:
            measure(outcome, time.time())
            self._remember(context, before, WaitState())
            report = explained(Report(address=address, outcome=outcome), timing=REAL_TIME)
            with AdfClient(settings) as client:
                return PokeReturnValue(is_done=True, xcom_value=conclude(run_routine(report, client, time.sleep)))
        self._remember(context, before, self._watching)
        if isinstance(seen, PipelineRun):
            self.log.info("Run %s %s.", address.run_id, in_words(seen.status))
        return False

    def _run_now(self) -> PipelineRun | None:
        """The run before the wait in the triggerer; None if the status check fails. Then the triggerer checks again.

        If the run has already ended, nothing needs to be deferred. And Airflow's scheduler may fail a deferred task whose trigger
        fires within two seconds.
        """
        from airflow_adf_mi.adf.api.client import AdfClient
        from airflow_adf_mi.adf.api.operations import get_run

        address, settings = self._address()
        try:
            with AdfClient(settings) as client:
                return client.send(get_run(address.factory, address.run_id))
        except AdfError as e:
            self.log.info(
                "Could not check the status of run %s before the wait in the triggerer. %s", address.run_id, e
            )
            return None

    @property
    def _keeps_state(self) -> bool:
        """Whether the state of the wait is stored between two processes. XComs do not last until the next process."""
        from airflow_adf_mi._airflow import features

        return self.reschedule and features.TASK_STATE_STORE

    def _recalled(self, context: Context) -> WaitState:
        """The state of the wait that an earlier process of this try stored."""
        from airflow_adf_mi.adf.waiting.single_run import WaitState

        if not self._keeps_state:
            return WaitState()
        try:
            stored: Any = context["task_state_store"].get(REFUSED_SINCE_KEY, None)
        except Exception as e:  # noqa: BLE001  whatever Airflow's API fails with must not end the wait
            self.log.warning(
                "The time of the first refused status check could not be read from Airflow's task state store. %s", e
            )
            return WaitState()
        return WaitState(refused_since=refused_since(stored, context["ti"]))

    def _remember(self, context: Context, before: WaitState, after: WaitState) -> None:
        if not self._keeps_state or before.refused_since == after.refused_since:
            return
        store = context["task_state_store"]
        try:
            if after.refused_since is None:
                store.delete(REFUSED_SINCE_KEY)
            else:
                store.set(REFUSED_SINCE_KEY, {"since": after.refused_since, **_try_of(context["ti"])})
        except Exception as e:  # noqa: BLE001  a store that fails must not end the wait
            self.log.warning(
                "The time of the first refused status check could not be stored in Airflow's task state store. %s", e
            )

    def _address(self) -> tuple[RunAddress, AdfSettings]:
        from airflow_adf_mi.hooks import AdfHook

        settings = AdfHook(self.azure_data_factory_conn_id).settings
        factory = settings.factory(self.resource_group_name, self.factory_name)
        return settings.run_address(factory, check_run_id(self.run_id)), settings


def refused_since(stored: object, ti: Any) -> float | None:
    """Epoch seconds of the first refused status check, if `stored` was written by the same try as `ti`; otherwise None."""
    if not isinstance(stored, dict) or {name: stored.get(name) for name in _try_of(ti)} != _try_of(ti):
        return None
    since = stored.get("since")
    return float(since) if isinstance(since, int | float) else None


def _try_of(ti: Any) -> dict[str, int]:
    """What identifies a try: a clear does not reset `try_number`, but raises `max_tries`."""
    return {"try_number": ti.try_number, "max_tries": ti.max_tries}

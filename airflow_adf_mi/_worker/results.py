"""Passes on the run of a try on a worker: its XComs, what lineage needs, and the task's result."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from airflow_adf_mi._airflow.task_instance import LATE_RUN_KEY, RUN_ID_KEY
from airflow_adf_mi._openlineage.run_record import RunRecord
from airflow_adf_mi.adf.config.addresses import RunAddress
from airflow_adf_mi.adf.errors import AdfError
from airflow_adf_mi.adf.models import PipelineRun
from airflow_adf_mi.adf.reporting.outputs import parse_outputs, reading_outputs
from airflow_adf_mi.adf.reporting.report import Report, conclude
from airflow_adf_mi.adf.routines import run_routine
from airflow_adf_mi.adf.timing import REAL_TIME
from airflow_adf_mi.adf.waiting.deadlines import in_seconds, seconds_left
from airflow_adf_mi.adf.waiting.late_run import LateRun
from airflow_adf_mi.hooks import READ_RETRIES, AdfHook
from airflow_adf_mi.links import AdfPipelineRunLink

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_adf_mi._airflow.task import PipelineTask


class Results:
    """The results of one try, which begins now.

    :param task: the operator, with its templates rendered.
    :param context: the task's context.
    :param run_record: what the try records for lineage.
    :param hook: returns the try's hook. The hook is made only if it is needed.
    """

    def __init__(
        self, task: PipelineTask, context: Context, run_record: RunRecord, hook: Callable[[], AdfHook]
    ) -> None:
        self._task = task
        self._context = context
        self._run_record = run_record
        self._hook = hook
        self._began = time.time()

    def announce(self, run_id: str, studio_url: str) -> None:
        """Push the run's id and link. A failure must not fail the task, because the run is already active."""
        self._task.run_id = run_id
        try:
            self._context["ti"].xcom_push(key=RUN_ID_KEY, value=run_id)
            AdfPipelineRunLink.store(self._context, studio_url)
        except Exception as e:  # noqa: BLE001  whatever Airflow's API fails with must not end the wait
            self._task.log.warning(
                "Run %s continues, but its id or link could not be pushed as an XCom: %s. See %s", run_id, e, studio_url
            )

    def warn_of_late_run(self, late: LateRun) -> None:
        """Log, count and push that the run is late. The `LateWatch` that calls this handles errors."""
        late.announce()
        ti = self._context["ti"]
        ti.xcom_push(key=LATE_RUN_KEY, value=late.to_json(ti.try_number))

    def of(self, report: Report) -> dict[str, Any]:
        """Return the summary of a run that succeeded, and push its outputs. Raise the error of any other run."""
        self._task.run_id = report.address.run_id
        self._run_record.ended(report)
        self._read_data()
        result = conclude(report)
        if report.outcome.run is not None:
            self._push_outputs(report.outcome.run, report.address)
        return result

    def _read_data(self) -> None:
        limit = in_seconds(self._task.execution_timeout)
        left = seconds_left(limit, try_began=self._began, now=time.time())
        self._run_record.read_data(self._task, lambda: self._hook().client(), seconds_left=left)

    def _push_outputs(self, run: PipelineRun, address: RunAddress) -> None:
        wanted = parse_outputs(self._task.outputs)
        if not wanted:
            return
        try:
            with self._hook().client(read_retries=READ_RETRIES) as client:
                routine = reading_outputs(wanted, run, address.factory, timing=REAL_TIME)
                found = run_routine(routine, client, time.sleep)
        except AdfError as e:
            what = f"{address} succeeded, but its outputs could not be read"
            if self._task.durable:
                raise AdfError(f"{what}. A retry adopts the run, and reads the outputs again. {e}") from e
            # A retry would start another run, although this run has succeeded.
            self._task.log.warning("%s, so no output is pushed. %s", what, e)
            return
        for sentence in found.left_out:
            self._task.log.warning("Run %s: %s", run.run_id, sentence)
        for key, value in found.values.items():
            self._context["ti"].xcom_push(key=key, value=value)

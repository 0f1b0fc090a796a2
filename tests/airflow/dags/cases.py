"""Dags for the tests in real Airflow processes. Each has one task, and the Dag run contains the pipeline."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger
from airflow.sdk import DAG, BaseOperator, Context, Param, task

from airflow_adf_mi._airflow.task_instance import start_of_try
from airflow_adf_mi.hooks import AdfHook
from airflow_adf_mi.operators import AdfRunPipelineOperator
from airflow_adf_mi.sensors import AdfPipelineRunSensor

PIPELINE = "{{ params.pipeline }}"
RUN_ID = "{{ params.run_id }}"
CONNECTION: dict[str, Any] = {"azure_data_factory_conn_id": "adf_test"}
IDENTITY = {"azure_data_factory_conn_id": "adf_identity"}
NOWHERE = {"azure_data_factory_conn_id": "adf_nowhere"}
SHORT = 15
"""A timeout. Shorter deferrals would meet the defect of Airflow that `LEAST_SECONDS` in `conftest.py` describes."""


def case(name: str, **params: Any) -> DAG:
    return DAG(
        f"case_{name}",
        schedule=None,
        catchup=False,
        params={"pipeline": Param("", type="string"), "run_id": Param("", type="string"), **params},
    )


def runs(name: str, **arguments: Any) -> None:
    with case(name):
        AdfRunPipelineOperator(task_id="it", pipeline_name=PIPELINE, check_interval=2, **{**CONNECTION, **arguments})


def waits(name: str, **arguments: Any) -> None:
    with case(name):
        AdfPipelineRunSensor(
            task_id="it", run_id=RUN_ID, **{"poke_interval": 2, "timeout": 600, **CONNECTION, **arguments}
        )


for mode, deferrable in (("blocking", False), ("deferrable", True)):
    runs(mode, deferrable=deferrable)
    runs(f"{mode}_timeout", deferrable=deferrable, timeout=SHORT)
    runs(f"{mode}_timeout_keep", deferrable=deferrable, timeout=SHORT, cancel_on_timeout=False)
    runs(f"{mode}_kill_keep", deferrable=deferrable, cancel_on_kill=False)
    runs(f"{mode}_identity", deferrable=deferrable, **IDENTITY)
    waits(f"sensor_{mode}", deferrable=deferrable)
runs("nowhere", deferrable=True, **NOWHERE)
runs("no_wait", wait_for_termination=False)
# Not every 2 s: Airflow 3.3.2 marks a rescheduled task as failed if it runs again before the scheduler has handled the
# executor's event of the previous poke. On a busy machine, LocalExecutor needs some seconds for that.
waits("sensor_reschedule", deferrable=False, mode="reschedule", poke_interval=15)
waits("sensor_identity", deferrable=False, **IDENTITY)
# The timeout of a sensor counts from the start of its try, so the deferral itself is shorter.
waits("sensor_timeout", deferrable=True, timeout=2 * SHORT)

with case("hook_identity"):

    @task
    def it(params: dict[str, Any] | None = None) -> str:
        """Use the hook in a task."""
        return AdfHook("adf_identity").get_pipeline_run((params or {})["run_id"]).status

    it()

# A param without a default ends the triggerer, if Airflow makes the context of a task there.
TRIGGERER_MODE: dict[str, Any] = {
    "pipeline_name": PIPELINE,
    "check_interval": 2,
    "deferrable": True,
    "start_from_trigger": True,
}
with case("required", pipeline=Param(type="string")):
    AdfRunPipelineOperator(task_id="it", **CONNECTION, **TRIGGERER_MODE)
with case("required_mapped", pipeline=Param(type="string")):
    AdfRunPipelineOperator.partial(task_id="it", **TRIGGERER_MODE).expand(azure_data_factory_conn_id=["adf_test"])

with case("mapped"):
    AdfRunPipelineOperator.partial(task_id="it", pipeline_name=PIPELINE, check_interval=2, deferrable=True).expand(
        azure_data_factory_conn_id=["adf_test", "adf_identity"]
    )


class StartOfTry(BaseOperator):
    """Pushes the moment from which the limits of the try count: before a deferral, and after it."""

    def execute(self, context: Context) -> None:
        context["ti"].xcom_push("before", start_of_try(context))
        self.defer(trigger=TimeDeltaTrigger(timedelta(seconds=12)), method_name="execute_complete")

    def execute_complete(self, context: Context, event: Any) -> None:
        context["ti"].xcom_push("after", start_of_try(context))


with case("start_of_try"):
    StartOfTry(task_id="it")

"""A pipeline that may fail, and a branch that decides what follows."""

from __future__ import annotations

import pendulum
from airflow.sdk import DAG, get_current_context, task

from airflow_adf_mi.operators import AdfRunPipelineOperator

EXPECTED = {
    "import_partner_file": {"state": "failed", "status": "Failed", "activities": 2},
    "decide": {"state": "success"},
    "publish": {"state": "skipped"},
    "quarantine": {"state": "success"},
}

with DAG(
    "adf_05_failure_handled_by_a_branch",
    description=__doc__,
    schedule=None,
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    tags=["adf"],
):
    import_partner_file = AdfRunPipelineOperator(
        task_id="import_partner_file",
        pipeline_name="ImportPartnerFile",
        parameters={"file": "orders.csv"},
        deferrable=True,
        check_interval=5,
    )

    @task.branch(trigger_rule="all_done")
    def decide() -> str:
        """The operator returns a summary only when the run succeeded."""
        run = get_current_context()["ti"].xcom_pull(task_ids="import_partner_file", map_indexes=-1)
        return "publish" if run else "quarantine"

    @task
    def publish() -> None:
        """Stands for the tasks after a good file."""
        print("The partner's orders are in.")

    @task
    def quarantine() -> None:
        """Stands for the tasks after a bad file."""
        print("The partner's file was set aside. The task import_partner_file has the link of the failed run.")

    import_partner_file >> decide() >> [publish(), quarantine()]

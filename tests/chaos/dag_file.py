"""The Dag file of the chaos suite: it makes a Dag from each entry of the JSON file with the same name."""

from __future__ import annotations

import json
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, Param, task

from airflow_adf_mi.operators import AdfRunPipelineOperator
from airflow_adf_mi.sensors import AdfPipelineRunSensor

DURATIONS = ("retry_delay", "execution_timeout", "dagrun_timeout")


def with_durations(arguments: dict[str, Any]) -> dict[str, Any]:
    return {k: timedelta(seconds=v) if k in DURATIONS else v for k, v in arguments.items()}


def make_dag(spec: dict[str, Any]) -> DAG:
    kind: Any = AdfPipelineRunSensor if spec["sensor"] else AdfRunPipelineOperator
    dag = DAG(
        spec["dag_id"],
        schedule=None,
        params={"run_id": Param("", type="string")},
        max_active_tasks=1000,
        **with_durations(spec["dag"]),
    )
    with dag:
        arguments = with_durations(spec["task"])
        if spec["mapped"]:
            partial = kind.partial(task_id="it", **{k: v for k, v in arguments.items() if k != "check_interval"})
            # The values are equal, so that the instances differ only in their index.
            it = partial.expand(check_interval=[arguments["check_interval"]] * spec["mapped"])
        else:
            it = kind(task_id="it", **arguments)
        if spec["extra_task"] == "fails":

            @task
            def extra() -> None:
                """Fail once a certain file exists."""
                while not Path(__file__).with_name(f"{spec['dag_id']}.fail").exists():
                    time.sleep(0.5)
                raise RuntimeError("fails beside it")

            extra()
        elif spec["extra_task"] == "downstream":

            @task(task_id="extra")
            def after() -> None:
                """Run after the task."""

            it >> after()
        elif spec["extra_task"] == "upstream":

            @task(task_id="extra")
            def before(ti: Any = None) -> None:
                """Succeed at once. After a clear, end or fail once a certain file exists."""
                ends, fails = (Path(__file__).with_name(f"{spec['dag_id']}.{name}") for name in ("end", "fail"))
                while ti.try_number > 1 and not ends.exists():
                    if fails.exists():
                        raise RuntimeError("fails before it")
                    time.sleep(0.5)

            before() >> it
    return dag


for case in json.loads(Path(__file__).with_suffix(".json").read_text()):
    globals()[case["dag_id"]] = make_dag(case)

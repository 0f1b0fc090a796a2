"""What the process of a deferrable task has spent by the time that it defers: with the provider's operator and with ours."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from statistics import median

from airflow_adf_mi.emulator import Emulator
from bench.imports import BASE as SDK
from bench.world import HERE, SPEC, environment_for
from tests.support.processes import run_to_end

BASE = f"""
{SDK}
import airflow.sdk.execution_time.task_runner
from airflow.sdk.listener import get_listener_manager
get_listener_manager().hook
"""
"""What the process of every task has loaded before its operator runs."""
MAKE = {
    "provider": """
from airflow.providers.microsoft.azure.operators.data_factory import AzureDataFactoryRunPipelineOperator as Operator
names = dict(azure_data_factory_conn_id="adf_bench", resource_group_name="rg-emulator", factory_name="adf-bench")
""",
    "ours": """
from airflow_adf_mi.operators import AdfRunPipelineOperator as Operator
names = dict(azure_data_factory_conn_id="adf_ours")
""",
    "unchecked": """
from airflow_adf_mi.operators import AdfRunPipelineOperator as Operator
names = dict(azure_data_factory_conn_id="adf_ours", check_parameters=False)
""",
    "usual": """
from airflow_adf_mi.operators import AdfRunPipelineOperator as Operator
names = dict(azure_data_factory_conn_id="adf_ours", warn_after="usual")
""",
}
"""The provider's operator; ours; ours without the check of the parameters; and ours with a warning of unusually long runs."""
CODE = """
import json, logging, resource, sys
from datetime import UTC, datetime
logging.disable(logging.INFO)
{base}
from airflow.sdk.exceptions import TaskDeferred
def used():
    r = resource.getrusage(resource.RUSAGE_SELF)
    return r.ru_utime + r.ru_stime, r.ru_maxrss
class Instance:
    dag_id, run_id, task_id, map_index, try_number, max_tries, clear_number = "dag", "run1", "it", -1, 1, 0, 0
    start_date = datetime.now(UTC)
    def xcom_push(self, key, value, **_): pass
    def xcom_pull(self, **_): return None
    def get(self, key, default=None): return default
    def set(self, key, value, **_): pass
it = Instance()
before = used()
{make}
with DAG("dag"):
    task = Operator(task_id="it", pipeline_name="Load", deferrable=True, **names)
try:
    type(task).execute.__wrapped__(task, {{"ti": it, "dag_run": it, "task_state_store": it, "task": task}})
except TaskDeferred:
    after = used()
print(json.dumps([after[0] - before[0], (after[1] - before[1]) / 1024]))
"""


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What one process spent."""

    cpu: float
    megabytes: float
    requests: int
    """Requests to Azure, without those for a token."""


def measure(who: str, times: int) -> Spent:
    """Medians, with compiled bytecode."""
    found = []
    with Emulator(SPEC) as emulator:
        environment = environment_for(emulator)
        for _ in range(times + 1):
            code = CODE.format(base=BASE, make=MAKE[who])
            before = emulator.call(emulator.books.count)
            done = run_to_end([sys.executable, "-c", code], env=environment, cwd=HERE.parent)
            if done.returncode != 0:
                raise RuntimeError(done.stderr[-3000:])
            cpu, megabytes = json.loads(done.stdout.splitlines()[-1])
            found.append((cpu, megabytes, emulator.call(emulator.books.count) - before))
    # The first may have had to compile.
    cpu, megabytes, requests = (median(each) for each in zip(*found[1:], strict=True))
    return Spent(cpu=cpu, megabytes=megabytes, requests=int(requests))

"""What the import of the operator costs a Dag file, beyond what Airflow has loaded: the provider's operator and ours."""

from __future__ import annotations

import json
import os
import sys
from statistics import median

from tests.support.processes import run_to_end

BASE = "import airflow.sdk; from airflow.sdk import DAG, BaseOperator; import airflow.triggers.base"
MODULES = {"provider": "airflow.providers.microsoft.azure.operators.data_factory", "ours": "airflow_adf_mi.operators"}
CODE = """
import json, resource, sys
{base}
def used():
    r = resource.getrusage(resource.RUSAGE_SELF)
    return r.ru_utime + r.ru_stime, r.ru_maxrss
before = used()
import {module}
after = used()
print(json.dumps([after[0] - before[0], (after[1] - before[1]) / 1024]))
"""


def measure(who: str, times: int) -> tuple[float, float]:
    """(CPU seconds, MB), medians, with compiled bytecode."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    found = []
    for _ in range(times + 1):
        code = CODE.format(base=BASE, module=MODULES[who])
        done = run_to_end([sys.executable, "-c", code], env=environment)
        if done.returncode != 0:
            raise RuntimeError(done.stderr[-3000:])
        found.append(json.loads(done.stdout.splitlines()[-1]))
    # The first may have had to compile.
    return median(cpu for cpu, _ in found[1:]), median(mb for _, mb in found[1:])

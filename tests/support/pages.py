"""The Dags that our pages show, as Airflow finds them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from airflow.sdk import DAG
from airflow.serialization import serialized_objects

try:
    from airflow.dag_processing.dagbag import DagBag
except ImportError:  # Airflow 3.1
    from airflow.models.dagbag import DagBag  # type: ignore[no-redef]

# Airflow 3.1 has one class for the Dag and its serialization.
DagSerialization: Any = vars(serialized_objects).get("DagSerialization", vars(serialized_objects)["SerializedDAG"])


def dag_on(page: Path) -> str:
    """The code of the Dag that a page shows."""
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    (dag,) = (block for block in blocks if "with DAG(" in block)
    return str(dag)


def dag_of(source: str, folder: Path) -> DAG:
    """The Dag that Airflow finds in Python code."""
    file = folder / "dag.py"
    file.write_text(source)
    bag = DagBag(file)
    assert bag.import_errors == {}
    (dag,) = bag.dags.values()
    return dag


def scheduled(dag: DAG) -> Any:
    """The Dag as the scheduler reads it."""
    return DagSerialization.from_dict(DagSerialization.to_dict(dag))

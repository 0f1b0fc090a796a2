"""A case of the chaos suite: data, and a short story of what happens to it while it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from airflow_adf_mi._airflow import features

if TYPE_CHECKING:
    from tests.chaos.case import Case

Mode = Literal["blocking", "deferrable", "no-wait", "sensor", "triggerer-mode"]
Story = Callable[["Case"], None]

HOUR = 3600.0
LONG = HOUR / 2
"""Seconds of a run that would still be active long after its case has ended."""

CORRELATION = "correlation"
"""The parameter that all pipelines here declare."""

OWN_IDS: Mapping[str, Any] = {"run_id_from_request_id": False}
LIST_LAGS: Mapping[str, Any] = {"list_lag_seconds": 600.0}
NO_PROOF: Mapping[str, Any] = {**OWN_IDS, **LIST_LAGS}


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What the emulator's books and Airflow must show at the end."""

    runs: int = 1
    cancels: int = 0
    adf: tuple[str, ...] = ("Succeeded",)
    """Statuses of the runs, in the order of their start."""
    task: str = "success"
    """State of each task instance that runs the pipeline or watches its run; empty if the row has its own check."""
    error: str = ""
    """Text in the log of the last try."""
    cancel_within: float = 15.0
    """Most seconds from the action of the story until the cancel."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A case. Its Dag, its pipeline and its factory have its name."""

    name: str
    fault: str
    mode: Mode
    expected: Expected = Expected()
    faults: tuple[Mapping[str, Any], ...] = ()
    """Faults of the emulator for this pipeline, added before the Dag run is started."""
    loose: bool = False
    """The faults last for some time, and must affect at least one request each."""
    switches: Mapping[str, Any] = field(default_factory=dict)
    """Switches of the service for this factory. By default, it uses the start key as the run id, and lists runs at once."""
    seconds: float = 20.0
    """Seconds that the pipeline's run lasts."""
    script: Mapping[str, Any] = field(default_factory=dict)
    """Members of the pipeline in the emulator's script: cancel_seconds, cancel."""
    first: tuple[Mapping[str, Any], ...] = ()
    """What the script has for the activity of the first runs, if they differ from later ones."""
    task: Mapping[str, Any] = field(default_factory=dict)
    """More arguments of the operator or sensor; execution_timeout and retry_delay in seconds."""
    dag: Mapping[str, Any] = field(default_factory=dict)
    """More arguments of the Dag; dagrun_timeout in seconds."""
    foreign: bool = False
    """Somebody else has started a run of the pipeline before the Dag run begins. The list shows it."""
    mapped: int = 0
    """How many instances the task is mapped to."""
    extra_task: Literal["", "fails", "downstream", "upstream"] = ""
    """Another task, `extra`: a parallel one that fails on request, a downstream one, or an upstream one, whose second try ends or
    fails on request."""
    story: Story | None = None
    """What is done while it runs, before the wait for its end."""
    check: Story | None = None
    """A further check at the end, which raises AssertionError."""
    own_identity: bool = False
    """Uses its own identity, so that its token requests are distinguished."""
    own_port: bool = False
    """Uses the second emulator, whose port may be closed and whose clock may be changed without effect on other cases."""
    scene: str = ""
    """The fault of Airflow's processes that it belongs to. Such rows run separately."""
    subset: bool = False
    """Whether it is one of the fast rows that together cover every fault."""
    patience: float = 240.0
    """Seconds after which the row fails."""
    needs_store: bool = False
    """Whether the promise needs Airflow's task state store (docs/versions.md)."""
    only_without_store: bool = False

    @property
    def is_promised(self) -> bool:
        """Whether the package promises it on this Airflow."""
        if self.mode == "triggerer-mode" and not features.TEMPLATED_TRIGGERS:
            return False
        return not (self.only_without_store if features.TASK_STATE_STORE else self.needs_store)

    @property
    def dag_id(self) -> str:
        return self.name

    @property
    def is_edited(self) -> bool:
        """Its Dag file is changed while it runs, so it needs its own file."""
        return self.name.startswith("edited")

    @property
    def waits_on_worker(self) -> bool:
        return self.mode == "blocking" or (self.mode == "sensor" and not self.task.get("deferrable"))

    @property
    def conn_id(self) -> str:
        if self.own_identity:
            return "adf_" + self.name.replace("-", "_")
        return "adf_second" if self.own_port else "adf_first"

    @property
    def task_count(self) -> int:
        return self.mapped or 1


def dag_spec(row: Row) -> dict[str, Any]:
    """The entry from which `dag_file.py` makes the row's Dag."""
    arguments: dict[str, Any] = {"azure_data_factory_conn_id": row.conn_id, "factory_name": row.name}
    if row.mode == "sensor":
        arguments |= {"poke_interval": 2, "timeout": 600, "run_id": "{{ params.run_id }}"}
    else:
        arguments |= {"pipeline_name": row.name, "check_interval": 2, "start_settle": 20}
        arguments |= {"deferrable": row.mode == "deferrable", "wait_for_termination": row.mode != "no-wait"}
        arguments |= {"start_from_trigger": row.mode == "triggerer-mode"}
    return {
        "dag_id": row.dag_id,
        "sensor": row.mode == "sensor",
        "mapped": row.mapped,
        "extra_task": row.extra_task,
        "dag": dict(row.dag),
        "task": {"retries": 1, "retry_delay": 1, **arguments, **row.task},
    }

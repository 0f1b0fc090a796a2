"""A row of the proof: data, a story of what happens to its backfill, and what must be seen at the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from tests.conftest import activity

if TYPE_CHECKING:
    from tests.scale.backfill import Backfill

Mode = Literal["blocking", "deferrable", "triggerer-mode"]
MODES: tuple[Mode, ...] = ("blocking", "deferrable", "triggerer-mode")

OTHER = "Other"
"""A second pipeline in the factory of each row."""

PARAMETERS = {name: {"type": "string", "defaultValue": ""} for name in ("windowStart", "windowEnd")}

_BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Row:
    """A backfill of one Dag, with a factory and a pipeline of its own."""

    run: str
    """What it proves, in one word."""
    mode: Mode
    windows: int
    expected: str
    """What the table says about it."""
    check: Callable[[Backfill], Sequence[str]]
    """What is not as expected, one text for each problem."""
    story: Callable[[Backfill], None] | None = None
    """What is done while it runs, in a thread of its own."""
    before: Callable[[Backfill], None] | None = None
    """What is done before any row of its stage begins."""
    seconds: float = 3.0
    """Seconds that each activity lasts."""
    measures_other: bool = False
    """Whether a further Dag starts the other pipeline of the factory."""
    activities: tuple[str, ...] = ("Load",)
    """The activities of the pipeline, one after the other."""
    concurrency: int | None = None
    """How many runs of its pipeline are in progress at once."""
    at_once: int = 1000
    """How many Dag runs are active at once."""
    script: Sequence[Mapping[str, Any]] = ()
    """What the emulator's script has for some of its runs, without the pipeline's name."""
    switches: Mapping[str, Any] = field(default_factory=dict)
    """Switches of the service for its factory. By default, the list shows runs at once."""
    task: Mapping[str, Any] = field(default_factory=dict)
    """More arguments of the operator; durations in seconds."""
    patience: float = 3600.0
    has_twin: bool = False
    """Whether a second Dag runs the same pipeline for the same windows, at the same time."""
    more_seconds: float = 0.0
    """Seconds by which `script` makes the runs longer, all together."""

    @property
    def name(self) -> str:
        return f"{self.run}-{self.mode}"

    @property
    def dag_ids(self) -> list[str]:
        return [self.name, f"twin-{self.name}"] if self.has_twin else [self.name]

    @property
    def floor(self) -> float:
        """The least seconds in which Data Factory could run it all."""
        in_a_row = -(-self.windows // (self.concurrency or self.windows))
        return in_a_row * self.seconds * len(self.activities) + self.more_seconds

    def properties(self) -> dict[str, Any]:
        """The definition of its pipeline."""
        names = self.activities
        chain = [activity(name, "Copy", *names[max(0, at - 1) : at]) for at, name in enumerate(names)]
        limit = {} if self.concurrency is None else {"concurrency": self.concurrency}
        return {"activities": chain, "parameters": PARAMETERS, **limit}

    def dag_specs(self) -> list[dict[str, Any]]:
        """What `dag_file.py` makes its Dags from."""
        arguments = {
            "factory_name": self.name,
            "pipeline_name": self.name,
            "deferrable": self.mode == "deferrable",
            "start_from_trigger": self.mode == "triggerer-mode",
            "check_interval": 5,
            "retries": 5,
            # Longer than the broker is gone. Each message that cannot be sent uses up a try.
            "retry_delay": 40,
        }
        return [{"dag_id": dag_id, "task": {**arguments, **self.task}} for dag_id in self.dag_ids]


def window(number: int) -> str:
    """The start of a window, as parameters have it."""
    return (_BEGIN + timedelta(hours=number)).strftime("%Y-%m-%dT%H:%M:%SZ")


def other_dag_spec(row: Row) -> dict[str, Any]:
    """A Dag that starts the other pipeline of the row's factory."""
    (spec,) = row.dag_specs()
    return {"dag_id": other_dag_id(row), "task": {**spec["task"], "pipeline_name": OTHER}}


def other_dag_id(row: Row) -> str:
    return f"other-{row.name}"

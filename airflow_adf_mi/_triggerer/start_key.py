"""Start keys of tasks that start in the triggerer, where nothing survives but an XCom. Pure.

Such a key says for itself which try of which task it is of. So the XCom `run_id`, written before createRun, is the record of
the start as well: a trigger that is run again after its triggerer was killed finds out from it alone what was started, and
asks Airflow no more than once.
"""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.sdk import Context

_MADE_BY_US = 8
"""The version of GUIDs whose bits their maker defines (RFC 9562)."""


@dataclass(frozen=True, kw_only=True)
class TaskTryKey:
    """A try of a task of a Dag run: it has a key."""

    dag_id: str
    dag_run_id: str
    task_id: str
    map_index: int = -1
    ti_id: str
    """Airflow's id of the task instance, for this try: a Dag run that was deleted and made again has others, and must not meet
    the runs of the one before."""
    try_number: int

    @property
    def start_key(self) -> str:
        """The key of the start that this try makes."""
        parts = (self.dag_id, self.dag_run_id, self.task_id, self.map_index, self.ti_id, self.try_number)
        digest = int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:16])
        # Of a GUID's 128 bits, 4 are its version, and 2 its variant.
        versioned = digest & ~(0xF << 76) & ~(0b11 << 62) | _MADE_BY_US << 76 | 0b10 << 62
        return str(uuid.UUID(int=versioned))

    def has_key(self, text: object) -> bool:
        """Whether `text` is this try's key, in whatever case."""
        return isinstance(text, str) and text.lower() == self.start_key


def task_try_key_of(context: Context) -> TaskTryKey:
    """The try of `context`, as Airflow names it."""
    ti: Any = context["ti"]
    return TaskTryKey(
        dag_id=ti.dag_id,
        dag_run_id=ti.run_id,
        task_id=ti.task_id,
        map_index=ti.map_index,
        ti_id=str(ti.id),
        try_number=ti.try_number,
    )

"""Start keys of tasks that start in the triggerer, where nothing survives but an XCom. Pure.

Such a key says for itself which try of which task it is of, and what was to be run: half of it is a digest of the one, half
of the other. So the XCom `run_id`, written before createRun, is the record of the start as well: a trigger that is run
again after its triggerer was killed, or by a retry, finds out from it alone what was started, and asks Airflow no more than
once.
"""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass

_MADE_BY_US = 8
"""The version of GUIDs whose bits their maker defines (RFC 9562)."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """A task of a Dag run since it was last cleared, which is what tries are tries of."""

    dag_id: str
    dag_run_id: str
    task_id: str
    map_index: int = -1
    clear_number: int = 0
    began: str = ""
    """When the Dag run began to run: one that was deleted and made again must not meet the runs of the one before."""

    def key(self, try_number: int, fingerprint: str) -> str:
        """The key of the start that `try_number` makes of a run with this fingerprint."""
        return str(uuid.UUID(int=_with_version(self._half(try_number) << 58 | _digest(fingerprint, 58))))

    def try_of(self, key: str, last: int) -> int | None:
        """The try, up to `last`, whose start has this key; None if it is no key of this place."""
        try:
            half = _without_version(uuid.UUID(key).int) >> 58
        except ValueError:
            return None
        return next((number for number in range(last, 0, -1) if self._half(number) == half), None)

    def _half(self, try_number: int) -> int:
        parts = (self.dag_id, self.dag_run_id, self.task_id, self.map_index, self.clear_number, self.began, try_number)
        return _digest(repr(parts), 64)


def is_of(key: str, fingerprint: str) -> bool:
    """Whether a key of a place is of a run with this fingerprint."""
    return _without_version(uuid.UUID(key).int) & (1 << 58) - 1 == _digest(fingerprint, 58)


def _digest(text: str, bits: int) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()) >> 256 - bits


def _with_version(free: int) -> int:
    """A GUID's 128 bits, of which 122 are free: 48, the version, 12, the variant, 62."""
    high, middle, low = free >> 74, free >> 62 & 0xFFF, free & (1 << 62) - 1
    return high << 80 | _MADE_BY_US << 76 | middle << 64 | 0b10 << 62 | low


def _without_version(guid: int) -> int:
    return guid >> 80 << 74 | (guid >> 64 & 0xFFF) << 62 | guid & (1 << 62) - 1

"""Start keys: GUIDs that show by themselves that this package made them. Pure.

A start key is sent as the request id of createRun, and a factory that uses request ids as run ids gives the run this id. So a run
whose id is a start key proves that its factory does so, whoever started that run: a worker, a triggerer, another deployment.

    bits 127..80   79..76        75..64   63..62       61..32    31..0
         payload   version: 8    payload  variant: 10  payload   check

The payload has 90 bits: chance, or a digest that every try of a task can compute. The check has 32 bits, and follows from the
payload. Version 8 is for GUIDs whose bits their maker defines (RFC 9562). Runs keep their ids, so this form never changes.
"""

from __future__ import annotations

import hashlib
import secrets
import uuid

_PAYLOAD_BITS = 90
_CHECK_BITS = 32
_VERSION, _VARIANT = 8, 0b10
_MAKER = b"airflow-adf-mi start key"


def random_key() -> str:
    """A key that nobody can compute again. It must be stored before it is sent."""
    return _key_of(secrets.randbits(_PAYLOAD_BITS))


def digest_key(*parts: str | int) -> str:
    """The key that follows from these parts."""
    digest = int.from_bytes(hashlib.sha256(repr(parts).encode()).digest())
    return _key_of(digest >> (256 - _PAYLOAD_BITS))


def is_start_key(text: object) -> bool:
    """Whether `text` is a start key of this package, in upper or lower case."""
    if not isinstance(text, str):
        return False
    try:
        number = uuid.UUID(text).int
    except ValueError:
        return False
    payload = number >> 80 << 42 | (number >> 64 & 0xFFF) << 30 | number >> 32 & 0x3FFFFFFF
    return text.lower() == _key_of(payload)


def _key_of(payload: int) -> str:
    check = hashlib.sha256(_MAKER + payload.to_bytes(12)).digest()[: _CHECK_BITS // 8]
    high, middle, low = payload >> 42, payload >> 30 & 0xFFF, payload & 0x3FFFFFFF
    number = high << 80 | _VERSION << 76 | middle << 64 | _VARIANT << 62 | low << _CHECK_BITS | int.from_bytes(check)
    return str(uuid.UUID(int=number))

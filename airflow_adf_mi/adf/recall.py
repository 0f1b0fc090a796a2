"""What a task that starts in the triggerer knows of its earlier starts, from what little survives there. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from airflow_adf_mi.adf.intent import Intent, Occasion, Phase
from airflow_adf_mi.adf.start_key import Place, is_of


def recall(
    run_id: object, stored: object, place: Place, wanted: Intent, *, durable: bool = True, began: float | None = None
) -> Intent | None:
    """The start that the XCom `run_id` tells of; None where there is none.

    :param stored: the XCom that `says_all` makes necessary, where there is one.
    :param wanted: what the present try wants to start.
    :param durable: whether starts of earlier tries count; those of the present one always do.
    :param began: when the present try began, in epoch seconds, where that is known.
    """
    if not isinstance(run_id, str) or not run_id:
        return None
    now = wanted.occasion
    known = _readable(stored)
    if known is not None and run_id in (known.run_id, known.key):
        found = known
    elif (number := place.try_of(run_id, now.try_number)) is not None:
        same = is_of(run_id, wanted.fingerprint)
        found = replace(
            wanted,
            key=run_id,
            phase=Phase.SENDING,
            occasion=replace(now, try_number=number),
            fingerprint=wanted.fingerprint if same else "",
            at=began if number == now.try_number else None,
        )
    else:
        # Of before a clear, which a key tells by not being of this place any more.
        before = Occasion(try_number=0, max_tries=now.max_tries, clear_number=now.clear_number - 1)
        found = replace(wanted, key=run_id, phase=Phase.SENDING, occasion=before, fingerprint="")
    return found if durable or found.occasion.is_try_of(now) else None


def says_all(intent: Intent, place: Place) -> bool:
    """Whether the XCom `run_id` alone tells all of a start; otherwise the intent must be kept beside it."""
    run_id = intent.run_id or intent.key
    return run_id == intent.key and place.try_of(run_id, intent.occasion.try_number) is not None


def _readable(stored: object) -> Intent | None:
    try:
        return Intent.from_json(stored) if isinstance(stored, Mapping) else None
    except (AttributeError, KeyError, TypeError, ValueError):
        return None

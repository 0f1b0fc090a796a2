"""What a task that starts in the triggerer knows of its earlier starts, from what little survives there. Pure.

A trigger is not told whether its try follows on a clear or on a failure. So a try that fails by itself says so, as `failed` in
the intent that it keeps; a try that follows on one that has not said so was cleared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from airflow_adf_mi.adf.intent import Intent, Phase
from airflow_adf_mi.adf.start_key import Place

BEFORE_A_CLEAR = -1
"""In place of the Dag run's count of clears, of which a trigger knows nothing: any other than the present one."""


def recall(
    run_id: object, stored: object, place: Place, wanted: Intent, *, durable: bool = True, began: float | None = None
) -> Intent | None:
    """The start that the XCom `run_id` tells of; None where there is none.

    :param stored: the intent that was kept beside it, if one was.
    :param wanted: what the present try wants to start.
    :param durable: whether starts of earlier tries count; those of the present one always do.
    :param began: when the present try began, in epoch seconds, where that is known.
    """
    if not isinstance(run_id, str) or not run_id:
        return None
    now = wanted.occasion
    kept = readable(stored)
    known = kept if kept is not None and run_id in (kept.run_id, kept.key) else None
    if known is not None and known.occasion.try_number == now.try_number:
        return known
    sent = replace(wanted, key=run_id, phase=Phase.SENDING)
    if place.try_of(run_id, now.try_number) == now.try_number:
        return replace(sent, at=began)
    if not durable:
        return None
    if known is not None and known.failed and known.occasion.try_number == now.try_number - 1:
        return known
    cleared = replace(now, try_number=0, clear_number=BEFORE_A_CLEAR)
    return replace(known or sent, occasion=cleared, failed=False)


def is_of_before_a_clear(intent: Intent) -> bool:
    """Whether `recall` has taken a start for one that a clear has made obsolete."""
    return intent.occasion.clear_number == BEFORE_A_CLEAR


def says_all(intent: Intent, place: Place) -> bool:
    """Whether the XCom `run_id` alone tells all of a start; otherwise the intent must be kept beside it."""
    run_id = intent.run_id or intent.key
    number = intent.occasion.try_number
    return run_id == intent.key and place.try_of(run_id, number) == number


def readable(stored: object) -> Intent | None:
    """A stored intent; None if it is none that this version can read."""
    try:
        return Intent.from_json(stored) if isinstance(stored, Mapping) else None
    except (AttributeError, KeyError, TypeError, ValueError):
        return None

"""What a task that starts in the triggerer knows of its earlier starts, from what little survives there. Pure.

A trigger is not told whether its try follows on a clear or on a failure. So a try that fails by itself says so, as `failed` in
the intent that it keeps, or where its connection cannot be read, and so no intent is known, in a few words in its place. A try
that follows on one that has not said so was cleared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from airflow_adf_mi.adf.intent import Intent, Phase
from airflow_adf_mi.adf.start_key import Place

BEFORE_A_CLEAR = -1
"""In place of the Dag run's count of clears, of which a trigger knows nothing: any other than the present one."""
_FAILED_TRY, _RUN_ID = "failed_try", "run_id"
"""Members of what is kept in place of an intent."""


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
    if place.has_key(run_id):
        return replace(sent, at=began)
    if not durable:
        return None
    failed = failed_try(run_id, stored)
    if failed == now.try_number - 1:
        return known or replace(sent, occasion=replace(now, try_number=failed), failed=True)
    cleared = replace(now, try_number=0, clear_number=BEFORE_A_CLEAR)
    return replace(known or sent, occasion=cleared, failed=False)


def is_of_before_a_clear(intent: Intent) -> bool:
    """Whether `recall` has taken a start for one that a clear has made obsolete."""
    return intent.occasion.clear_number == BEFORE_A_CLEAR


def failed_try(run_id: object, stored: object) -> int | None:
    """The try with this XCom `run_id` that has said that it failed by itself."""
    kept = readable(stored)
    if kept is not None:
        return kept.occasion.try_number if kept.failed and run_id in (kept.run_id, kept.key) else None
    if not isinstance(stored, Mapping) or stored.get(_RUN_ID) != run_id:
        return None
    number = stored.get(_FAILED_TRY)
    return number if isinstance(number, int) else None


def failing(run_id: object, stored: object, place: Place) -> dict[str, Any] | None:
    """What a try keeps that fails without a connection to say more; None where it has no run that a retry is to go on with."""
    kept = readable(stored)
    known = kept if kept is not None and run_id in (kept.run_id, kept.key) else None
    was_begun = known is not None and known.occasion.try_number == place.try_number
    if not (was_begun or place.has_key(run_id) or failed_try(run_id, stored) == place.try_number - 1):
        return None
    if known is None:
        return {_FAILED_TRY: place.try_number, _RUN_ID: run_id}
    return replace(known, occasion=replace(known.occasion, try_number=place.try_number), failed=True).to_json()


def says_all(intent: Intent, place: Place) -> bool:
    """Whether the XCom `run_id` alone tells all of a start; otherwise the intent must be kept beside it."""
    run_id = intent.run_id or intent.key
    return run_id == intent.key and place.has_key(run_id) and intent.occasion.try_number == place.try_number


def readable(stored: object) -> Intent | None:
    """A stored intent; None if it is none that this version can read."""
    try:
        return Intent.from_json(stored) if isinstance(stored, Mapping) else None
    except (AttributeError, KeyError, TypeError, ValueError):
        return None

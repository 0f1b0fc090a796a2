"""What a task that starts in the triggerer knows of its earlier starts, from what little survives there. Pure.

A trigger is not told whether its try follows on a clear or on a failure. So a try that fails by itself says so, as `failed` in
the intent that it keeps, or where that is another try's, or its connection cannot be read, in two members beside it. A try that
follows on one that has not said so was cleared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from airflow_adf_mi._triggerer.start_key import TaskTryKey
from airflow_adf_mi.adf.starting.intent import Intent, Phase

BEFORE_A_CLEAR = -1
"""In place of the Dag run's count of clears, of which a trigger knows nothing: any other than the present one."""
_FAILED_TRY, _OF_RUN = "failed_try", "of_run"
"""Members of what is kept, beside those of an intent or alone: which try has failed, and with which XCom `run_id`."""


def recall(
    run_id: object,
    stored: object,
    place: TaskTryKey,
    wanted: Intent,
    *,
    durable: bool = True,
    began: float | None = None,
) -> Intent | None:
    """The start that the XCom `run_id` tells of; None where there is none.

    :param stored: what was kept beside it, if anything was.
    :param wanted: what the present try wants to start.
    :param durable: whether starts of earlier tries count; those of the present one always do.
    :param began: when the present try began, in epoch seconds, where that is known.
    """
    if not isinstance(run_id, str) or not run_id:
        return None
    now = wanted.task_try
    known = _kept(run_id, stored)
    if known is not None and known.task_try.try_number == now.try_number:
        return known
    sent = replace(wanted, start_key=run_id, phase=Phase.SENDING)
    if place.has_key(run_id):
        return replace(sent, sent_at=began)
    if not durable:
        return None
    if _is_inherited(run_id, stored, now.try_number):
        return replace(known or sent, task_try=replace(now, try_number=now.try_number - 1), try_failed=True)
    cleared = replace(now, try_number=0, clear_number=BEFORE_A_CLEAR)
    return replace(known or sent, task_try=cleared, try_failed=False)


def is_of_before_a_clear(intent: Intent) -> bool:
    """Whether `recall` has taken a start for one that a clear has made obsolete."""
    return intent.task_try.clear_number == BEFORE_A_CLEAR


def failed_try(run_id: object, stored: object) -> int | None:
    """The last try that has said, with this XCom `run_id`, that it failed by itself."""
    if isinstance(stored, Mapping) and _FAILED_TRY in stored:
        number = stored[_FAILED_TRY]
        return number if isinstance(number, int) and stored.get(_OF_RUN) == run_id else None
    kept = _kept(run_id, stored)
    return kept.task_try.try_number if kept is not None and kept.try_failed else None


def is_own(run_id: object, stored: object, place: TaskTryKey) -> bool:
    """Whether what the XComs tell of is this very try's start, or one that it has made its own."""
    known = _kept(run_id, stored)
    return place.has_key(run_id) or (known is not None and known.task_try.try_number == place.try_number)


def marked(run_id: object, stored: object, place: TaskTryKey, *, failed: bool) -> dict[str, Any] | None:
    """What is to be kept beside `run_id` for a try to say whether it has failed; None where a next try has no use for it.

    It needs no connection. An earlier try's start stays that try's, since the present one may yet go on.
    """
    known = _kept(run_id, stored)
    if known is not None and known.task_try.try_number == place.try_number:
        return replace(known, try_failed=failed).to_json()
    if not (place.has_key(run_id) or _is_inherited(run_id, stored, place.try_number)):
        return None
    last = place.try_number if failed else place.try_number - 1
    return {**(known.to_json() if known is not None else {}), _FAILED_TRY: last, _OF_RUN: run_id}


def _is_inherited(run_id: object, stored: object, try_number: int) -> bool:
    """Whether a try is the retry of one with this run; it may have said itself that it failed, and go on."""
    return failed_try(run_id, stored) in (try_number - 1, try_number)


def _kept(run_id: object, stored: object) -> Intent | None:
    """The intent that is kept of this run."""
    kept = readable(stored)
    return kept if kept is not None and run_id in (kept.run_id, kept.start_key) else None


def says_all(intent: Intent, place: TaskTryKey) -> bool:
    """Whether the XCom `run_id` alone tells all of a start; otherwise the intent must be kept beside it."""
    run_id = intent.run_id or intent.start_key
    return run_id == intent.start_key and place.has_key(run_id) and intent.task_try.try_number == place.try_number


def readable(stored: object) -> Intent | None:
    """A stored intent; None if it is none that this version can read."""
    try:
        return Intent.from_json(stored) if isinstance(stored, Mapping) else None
    except (AttributeError, KeyError, TypeError, ValueError):
        return None

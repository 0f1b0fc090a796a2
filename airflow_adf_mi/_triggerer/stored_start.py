"""What a task in triggerer mode has stored of its start, and what a later try concludes from it. Pure.

A trigger has no task state store, so its write-ahead log entry (the intent) is an XCom of its own. Airflow does not show a
trigger whether its try is a retry or the first try after a clear: it shows the number of the try, and nothing else. Both look
the same, but need opposite decisions. A retry adopts the run of the failed try. A clear cancels that run and starts another.

The rule: every try that fails by itself records the failure. It does so in its own intent (`try_failed`), or beside the intent of
an earlier try (`failed_retry`), if that one is still stored. A try that finds no such record treats itself as cleared.

    stored                                       try 3 finds    and takes the start for
    -------------------------------------------  -------------  ------------------------------------------------
    intent of try 3                              its own        its own: whatever its parameters are now
    intent of try 2, try_failed                  a retry        a retry's: adopts the run, or starts after its end
    intent of try 1, try_failed, failed_retry 2  a retry        the same: try 2 failed before it adopted the run
    intent of try 2                              a clear        superseded: the run must end first
    nothing                                      -              nothing was started, so try 3 starts
    what no version can read                     -              started, perhaps: the service is asked

The XCom `run_id` is no memory. It names a run that exists, and is only read if there is no readable intent. Then a worker, or the
Azure provider's operator, may have started that run before the Dag was edited.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from airflow_adf_mi.adf.starting import intent as intents
from airflow_adf_mi.adf.starting.intent import Intent, Phase, TaskTry

KEPT_BY_WORKER: dict[str, Any] = {}
"""Stored in place of an intent that a worker has taken over: from then on, the worker's state store is the memory."""
_CLEARED = TaskTry(try_number=0, clear_number=-1)
"""The try that a superseded start gets: a try number and a count of clears that no present try has."""


@dataclass(frozen=True, kw_only=True)
class StoredStart:
    """A start, as the XCom of the intent describes it. Its JSON form is that of the intent, with one more member."""

    intent: Intent
    failed_retry: int | None = None
    """The last retry that failed before it adopted or replaced this start."""

    @classmethod
    def from_json(cls, stored: object) -> Self | None:
        """The start in `stored`; None if nothing is stored, or if this version cannot read it."""
        if not isinstance(stored, Mapping):
            return None
        try:
            intent = Intent.from_json(stored)
        except (AttributeError, KeyError, TypeError, ValueError):
            return None
        number = stored.get("failed_retry")
        return cls(intent=intent, failed_retry=number if isinstance(number, int) else None)

    @classmethod
    def without_intent(cls, stored: object, run_id: object, wanted: Intent) -> Self | None:
        """The best guess where `from_json` finds nothing; None if nothing was started.

        :param stored: what the XCom of the intent holds, if it holds anything.
        :param run_id: the XCom `run_id`, which names a run that exists.
        :param wanted: what the present try would start, with the key of this try.
        """
        if isinstance(run_id, str) and run_id:
            found: Intent | None = replace(wanted, start_key=run_id, phase=Phase.SENDING, sent_at=None)
        else:
            found = intents.read_intent(stored, wanted) if stored != KEPT_BY_WORKER else None
        if found is None:
            return None
        is_own = found.start_key.lower() == wanted.start_key.lower()
        return cls(intent=replace(found, task_try=wanted.task_try if is_own else _CLEARED))

    def to_json(self) -> dict[str, Any]:
        more = {} if self.failed_retry is None else {"failed_retry": self.failed_retry}
        return {**self.intent.to_json(), **more}

    def is_of(self, now: TaskTry) -> bool:
        """Whether the try `now` has made this start, or has adopted its run."""
        return self.intent.task_try.try_number == now.try_number

    def is_retried_by(self, now: TaskTry) -> bool:
        """Whether `now` is a retry of a try with this start. A try that recorded its own failure may also continue."""
        return not self.is_of(now) and self.last_failed_try in (now.try_number - 1, now.try_number)

    def is_before_clear(self, now: TaskTry) -> bool:
        """Whether a clear has come between this start and the try `now`, so that `now` replaces the run."""
        return not self.is_of(now) and not self.is_retried_by(now)

    @property
    def last_failed_try(self) -> int | None:
        """The last try that recorded that it failed by itself."""
        if self.failed_retry is not None:
            return self.failed_retry
        return self.intent.task_try.try_number if self.intent.try_failed else None

    def recall(self, now: TaskTry, *, durable: bool = True) -> Intent | None:
        """The start that the try `now` follows on, in the form that `intent.decide` distinguishes retries from clears by.

        :param durable: whether starts of earlier tries count. Those of the present try always do.
        """
        if self.is_of(now):
            return self.intent
        if not durable:
            return None
        if self.is_retried_by(now):
            return replace(self.intent, task_try=replace(now, try_number=now.try_number - 1), try_failed=True)
        return replace(self.intent, task_try=_CLEARED, try_failed=False)

    def marked(self, now: TaskTry, *, failed: bool) -> Self | None:
        """This start, with the record that the try `now` failed by itself, or did not; None if no next try needs to know.

        The record needs no connection. The start of an earlier try stays that try's, because the present try may continue.
        """
        if self.intent.phase is Phase.PREPARED:
            # Nothing was started: a retry and a clear both start a run.
            return None
        if self.is_of(now):
            return replace(self, intent=replace(self.intent, try_failed=failed), failed_retry=None)
        if not self.is_retried_by(now):
            return None
        return replace(self, failed_retry=now.try_number if failed else now.try_number - 1)

    def leads_to(self, known: Intent) -> bool:
        """Whether a reader of this form finds `known` without another write: a run that has the key as its id is found by it."""
        return self.failed_retry is None and known in (self.intent, self.intent.started(self.intent.start_key))

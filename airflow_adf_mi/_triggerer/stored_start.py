"""The stored start of a task in triggerer mode, and what a later try concludes from it. Pure.

A trigger cannot use the task state store, so its intent (a write-ahead log entry) is an XCom of its own. The only count that
Airflow shows a trigger is the number of its try. So a retry and the first try after a clear look the same to a trigger, but they
need opposite decisions. A retry adopts the run of the failed try. The first try after a clear ends that run, and starts another.

The rule: every try that fails by itself records the failure in its own intent (`try_failed`). If the XCom still holds an earlier
try's intent, the failing try leaves that intent as it is, and stores its own number beside it (`failed_retry`). A try that finds
no such record treats itself as cleared.

    what is stored                               so try 3 is    and treats the stored start as
    -------------------------------------------  -------------  --------------------------------------------------------
    intent of try 3                              the same try   its own start, whatever the parameters are now
    intent of try 2, try_failed                  a retry        the start that it retries: adopts the run, or starts
                                                                another run after its end
    intent of try 1, try_failed, failed_retry 2  a retry        the same, because try 2 failed before it adopted the run
    intent of try 2                              after a clear  superseded: the run must end before another run starts
    nothing                                      -              no start: try 3 starts a run
    an entry that this version cannot read       -              perhaps a run exists: try 3 asks the service

The XCom `run_id` is for other tasks, and names a run that exists. A try reads `run_id` only if there is no readable intent. In
that case a worker, or the Azure provider's operator, may have started the run before the Dag was edited.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from airflow_adf_mi.adf.starting import intent as intents
from airflow_adf_mi.adf.starting.intent import Intent, Phase, TaskTry

KEPT_BY_WORKER: dict[str, Any] = {}
"""Replaces the stored intent when a worker continues the task. From then on, the intent is in the task state store."""
_CLEARED = TaskTry(try_number=0, clear_number=-1)
"""An impossible try: no real try has this number and this count of clears. A superseded start gets this `task_try`, so
that `intent.decide` sees a clear."""


@dataclass(frozen=True, kw_only=True)
class StoredStart:
    """A start as the XCom of the intent stores it. Its JSON form is the JSON form of the intent, with one more member."""

    intent: Intent
    failed_retry: int | None = None
    """The number of the last try that failed while this start was still stored. That try neither adopted nor replaced the run."""

    @classmethod
    def from_json(cls, stored: object) -> Self | None:
        """Return the start in `stored`; None if nothing is stored, or if this version cannot read it."""
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
        """Return the most likely start if `from_json` returns None. The result is None if nothing was started.

        :param stored: the value of the XCom of the intent; None if there is none.
        :param run_id: the XCom `run_id`, which names a run that exists.
        :param wanted: the intent that the present try would write, with the start key of this try.
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
        """Whether the try `now` retries this start after a failure.

        The last recorded failure may also be a failure of `now` itself: its trigger failed once, and was started again.
        """
        return not self.is_of(now) and self.last_failed_try in (now.try_number - 1, now.try_number)

    def is_before_clear(self, now: TaskTry) -> bool:
        """Whether the task was cleared after this start, so that the try `now` must replace the run."""
        return not self.is_of(now) and not self.is_retried_by(now)

    @property
    def last_failed_try(self) -> int | None:
        """The number of the last try that recorded its own failure."""
        if self.failed_retry is not None:
            return self.failed_retry
        return self.intent.task_try.try_number if self.intent.try_failed else None

    def recall(self, now: TaskTry, *, durable: bool = True) -> Intent | None:
        """Return the stored start as the try `now` must see it; None if `now` must ignore it.

        `task_try` and `try_failed` of the result are set so that `intent.decide` recognises a retry or a clear.

        :param durable: whether starts of earlier tries are used. A start of the present try is always used.
        """
        if self.is_of(now):
            return self.intent
        if not durable:
            return None
        if self.is_retried_by(now):
            return replace(self.intent, task_try=replace(now, try_number=now.try_number - 1), try_failed=True)
        return replace(self.intent, task_try=_CLEARED, try_failed=False)

    def recording(self, now: TaskTry, *, failed: bool) -> Self | None:
        """Return this start with a record of whether the try `now` failed by itself; None if no next try needs the record.

        Recording works without reading the Airflow connection, because only the stored form is changed. A start of an earlier
        try keeps its `task_try`. The present try may continue, and must then see that the start is not its own.
        """
        if self.intent.phase is Phase.PREPARED and self.intent.rerun_of is None:
            # Nothing was started: a retry and a clear both start a run. But only a retry continues a failed run.
            return None
        if self.is_of(now):
            return replace(self, intent=replace(self.intent, try_failed=failed), failed_retry=None)
        if not self.is_retried_by(now):
            return None
        return replace(self, failed_retry=now.try_number if failed else now.try_number - 1)

    def leads_to(self, known: Intent) -> bool:
        """Whether the stored form is already enough to find the run of `known`, so that no further write is needed.

        It is enough if the run's id is the start key, because the start key is stored.
        """
        return self.failed_retry is None and known in (self.intent, self.intent.started(self.intent.start_key))

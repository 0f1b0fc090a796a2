"""The journal of a task in triggerer mode: the intent in an XCom of its own, and the XCom `run_id` for other tasks.

A trigger cannot use the task state store, because Airflow 3.3 never answers a trigger that asks for it. An XCom that a trigger
sets survives killed triggerers, retries and clears. So the intent, a write-ahead log entry, is the XCom `adf_intent`. The XCom
`run_id` is pushed when the run is known to exist, and deleted before another start replaces that run.

    trigger                             Airflow                          service
    ----------------------------------  -------------------------------  ------------------------------
    1 read the intent              ---> GetXCom adf_intent
    2 only if it replaces a run    ---> DeleteXCom run_id
    3 write the intent: sending    ---> SetXCom adf_intent
    4 createRun, with the key      ------------------------------------> the run starts (as recorded: its id is the key)
    5 only if id is not the key    ---> SetXCom adf_intent: started
    6 push the run id              ---> SetXCom run_id

    killed         the next trigger finds           and does
    -------------  -------------------------------  -----------------------------------------------------------
    before 3       nothing, or an earlier start     begins at 1, because nothing was sent
    between 3, 5   `sending`, with the key          asks for the run by its key, then searches, before any new start
    between 5, 6   `sending` or `started`           finds or adopts the run, and pushes `run_id`
    after 6        the same                         the same

Airflow answers one request of a triggerer at a time, and needs 30 to 90 ms for each. So a start sends as few requests to
Airflow as possible. A start sends three (steps 1, 3 and 6) if the service uses the start key as the run's id. The start also
sends step 5 if the service chooses run ids itself. A try that replaces a run also deletes the XComs of that run. A later try that
finds no readable intent also reads `run_id`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow.sdk.execution_time.xcom import XCom

from airflow_adf_mi._airflow.task_instance import RUN_ID_KEY
from airflow_adf_mi._airflow.xcoms import AsyncSleep, patiently, read_xcom, xcom_address
from airflow_adf_mi._triggerer.cleared import ASK_AFTER_SECONDS, raise_if_cleared
from airflow_adf_mi._triggerer.start_key import task_try_key_of
from airflow_adf_mi._triggerer.stored_start import StoredStart
from airflow_adf_mi.adf.errors import AdfError, AdfTaskKilled
from airflow_adf_mi.adf.starting.intent import Intent, Phase, TaskTry

if TYPE_CHECKING:
    from airflow.sdk import Context

log = logging.getLogger(__name__)

INTENT_KEY = "adf_intent"
"""XCom of the intent. Users' databases keep this key, so it never changes."""
CLEAR_OVERLAP_SECONDS = 5.0
"""Seconds for which two tries of a cleared task may both be alive. In Airflow 3.3.2, up to 3 s were seen."""
FRESH_SECONDS = 4.0
"""If the intent was read longer ago than this many seconds, it is read again before a start is sent. In that time, the task may
have been cleared, or another triggerer may have taken the task over. `FRESH_SECONDS` must be less than `CLEAR_OVERLAP_SECONDS`,
because the next try waits `CLEAR_OVERLAP_SECONDS` before it reads the intent."""


class ChangedMeanwhile(Exception):
    """Another process has written the intent. The intent must be read again."""


class TriggerJournal:
    """The journal of a trigger.

    :param context: the context with which Airflow rendered the trigger's templates.
    :param durable: whether this try uses the starts of earlier tries.
    :param began: when Airflow began this try, in epoch seconds; None if it is not known.
    """

    def __init__(
        self,
        context: Context,
        *,
        durable: bool,
        began: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        pause: AsyncSleep = asyncio.sleep,
    ) -> None:
        self._ti: Any = context["ti"]
        self.start_key = task_try_key_of(context).start_key
        """The key of the start that this try makes."""
        self.task_try = TaskTry(try_number=self._ti.try_number)
        """The number of this try. Airflow 3.3.2 shows a trigger neither `max_tries` nor the count of clears."""
        self._durable = durable
        self._began = began
        self._clock = clock
        self._pause = pause
        self._stored: Any = None
        """The value of the XCom of the intent that this journal has last read or written."""
        self._start: StoredStart | None = None
        """The start that `_stored` describes."""
        self._pushed: str | None = None
        """The run id that this journal has pushed."""
        self._read_at: float | None = None
        self.latest: Intent | None = None
        """The start that may have started a run, as far as this trigger knows."""
        self._is_recalled = False
        self._is_replaced = False
        self.is_sending = False
        """A start is being sent, and must not be interrupted."""
        self.is_stopped = False
        """The task was killed: nothing more may be started."""

    @property
    def is_read(self) -> bool:
        """Whether this journal has read all that is stored about a start."""
        return self._is_recalled

    @property
    def has_intent(self) -> bool:
        """Whether a readable intent is stored, so that `run_id` is not needed to find the run."""
        return StoredStart.from_json(self._stored) is not None

    @property
    def holds_superseded_start(self) -> bool:
        """Whether the stored start was made before a clear, and this try has not replaced it yet."""
        return self._start is not None and self._start.is_before_clear(self.task_try)

    async def stored(self, wanted: Intent) -> Intent | None:
        """Read the intent that an earlier try wrote, or that this try wrote before its triggerer was killed."""
        await self._read()
        is_first = self._stored is None and self.task_try.try_number <= 1
        if self._start is None and not is_first:
            # The intent cannot be read, or a worker may have started a run before the Dag was edited.
            run_id = await read_xcom(self._ti, RUN_ID_KEY)
            self._start = StoredStart.without_intent(self._stored, run_id, replace(wanted, start_key=self.start_key))
        if self._start is not None and self._start.intent.task_try.try_number > self.task_try.try_number:
            # This process was suspended while the task was cleared. The stored start, and its run, belong to the newer try.
            raise AdfTaskKilled("A newer try of this task has begun. This try starts nothing and cancels nothing.")
        self.latest = None if self._start is None else self._start.recall(self.task_try, durable=self._durable)
        self._is_recalled = True
        return self.latest

    async def save(self, intent: Intent) -> None:
        self._check()
        if intent.phase is Phase.PREPARED:
            if self.is_sending:
                await self._take_back(intent)
            return
        try:
            if self._began is not None and time.time() - self._began > ASK_AFTER_SECONDS:
                await raise_if_cleared(self._ti)
            if self._is_stale():
                await self._must_be_unchanged()
            self.is_sending = True
            if self._start is not None and self._start.intent.start_key != intent.start_key:
                # Delete `run_id` before the intent is written. Otherwise, if the triggerer is killed in between, `run_id` would
                # still name the run that this start replaces.
                await self._delete(RUN_ID_KEY)
            await self._write_if_new(intent)
            if self._is_stale():
                # The write took long. If the task was cleared during the write, Airflow is about to end this trigger. Or
                # another process may have written the intent.
                await self._pause(CLEAR_OVERLAP_SECONDS)
                self._check()
                await self._must_be_unchanged()
            self._check()
        except (AdfError, ChangedMeanwhile):
            # Nothing was sent, so no run exists for this intent. The intent is not deleted, because another process may
            # already have overwritten it.
            self.is_sending = False
            raise
        self.latest = intent

    async def save_best_effort(self, intent: Intent) -> None:
        self.latest = intent
        try:
            # Store nothing about a run that was found and is not adopted yet. If that run has failed, this try starts a new
            # run, and `run_id` must name that new run.
            # Store nothing after a clear either: the next try may already have replaced this start, and pushed its own `run_id`.
            if not intent.not_adopted_yet and not (self.is_stopped and await self.is_replaced()):
                await self._write_if_new(intent)
                await self._push_run_id(intent.run_id)
        except Exception as e:  # noqa: BLE001  no failure of Airflow's API may end the wait
            log.warning("Run %s continues, but Airflow did not store its id as an XCom. %s", intent.run_id, e)
        self.is_sending = False

    async def hand_over(self) -> None:
        """Record this try as failed, so that a retry adopts its run.

        Called when a worker must end the try, whether it failed or not. The worker corrects the record if the try succeeds.

        Raises `TaskCleared` if the task was cleared. With the record, the next try would adopt the run instead of replacing it.
        """
        await raise_if_cleared(self._ti)
        if not self.is_read:
            await self._read()
        elif self._is_stale():
            # This process may have been suspended. During that time, another process may have continued the task.
            stored = self._stored
            await self._read()
            if self._stored != stored:
                log.info("Another triggerer or try has written this task's intent. It is left as it is.")
                return
        if self.latest is not None and self.latest.task_try.is_try_of(self.task_try):
            await self._write(StoredStart(intent=replace(self.latest, try_failed=True)))
            return
        recorded = None if self._start is None else self._start.recording(self.task_try, failed=True)
        if recorded is not None:
            await self._write(recorded)

    async def forget(self, keys: Iterable[str]) -> None:
        """Delete XComs of earlier tries. On a worker, Airflow deletes them when a try begins."""
        try:
            for key in keys:
                await self._ask_to_delete(key)
        except Exception as e:  # noqa: BLE001  XComs that stay must not fail the task
            log.warning("XComs of an earlier try could not be deleted. %s", e)

    async def is_replaced(self) -> bool:
        """Whether another try has overwritten the start of this try. The other try does not know the run of this try."""
        if not self._is_replaced:
            mine = self._start
            await self._read()
            self._is_replaced = _key_of(mine) != _key_of(self._start)
        return self._is_replaced

    def claimed(self) -> frozenset[str]:
        # Mapped tasks never start in the triggerer.
        return frozenset()

    def claim(self, run_id: str) -> bool:
        return True

    async def _take_back(self, prepared: Intent) -> None:
        """Record that createRun has started nothing."""
        self.is_sending = False
        self.latest = None
        try:
            if self._is_stale():
                # This process may have been suspended. During that time, another process may have started the run.
                await self._must_be_unchanged()
            await self._write(StoredStart(intent=prepared))
        except AdfError as e:
            # The error of the start is more useful than this error. If Airflow answers later, `hand_over` writes the intent.
            log.warning(
                "Airflow did not store that nothing was started. A retry may search for a run that does not exist. %s",
                e,
            )
            self.latest = prepared

    def _is_stale(self) -> bool:
        return self._clock() - (self._read_at or 0.0) > FRESH_SECONDS

    async def _must_be_unchanged(self) -> None:
        stored, start = self._stored, self._start
        await self._read()
        if self._stored != stored:
            self._is_recalled = False
            raise ChangedMeanwhile
        self._start = start

    def _check(self) -> None:
        if self.is_stopped:
            raise AdfTaskKilled("The task was killed before its run was started. Nothing was started.")

    async def _write_if_new(self, intent: Intent) -> None:
        stored = StoredStart.from_json(self._stored)
        if stored is None or not stored.leads_to(intent):
            await self._write(StoredStart(intent=intent))

    async def _write(self, start: StoredStart) -> None:
        value = start.to_json()
        if value != self._stored:
            await self._set(INTENT_KEY, value)
        self._stored, self._start = value, start

    async def _push_run_id(self, run_id: str | None) -> None:
        if run_id is not None and run_id != self._pushed:
            await self._set(RUN_ID_KEY, run_id)
            self._pushed = run_id

    async def _read(self) -> None:
        # Take the time before the request, because the answer may have waited for the event loop.
        asked_at = self._clock()
        self._stored = await read_xcom(self._ti, INTENT_KEY)
        self._start = StoredStart.from_json(self._stored)
        self._read_at = asked_at

    async def _set(self, key: str, value: Any) -> None:
        await patiently(lambda: XCom.aset(key, value, **xcom_address(self._ti)), f"push XCom {key}")

    async def _delete(self, key: str) -> None:
        await patiently(lambda: self._ask_to_delete(key), f"delete XCom {key}")
        self._pushed = None

    async def _ask_to_delete(self, key: str) -> None:
        from airflow.sdk.execution_time.comms import DeleteXCom
        from airflow.sdk.execution_time.task_runner import SUPERVISOR_COMMS

        await SUPERVISOR_COMMS.asend(DeleteXCom(key=key, **xcom_address(self._ti)))


def _key_of(start: StoredStart | None) -> str | None:
    return None if start is None else start.intent.start_key

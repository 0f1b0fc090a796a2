"""The journal of a task that starts in the triggerer: the XCom `run_id`, and for what it cannot tell, one beside it.

A trigger has no task state store: asking for it hangs. An XCom that a trigger has set survives killed triggerers, retries
and clears. Each question or answer takes Airflow 30 to 90 ms, one at a time in a triggerer, so there are as few as can be.
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
from airflow_adf_mi._airflow.xcoms import AsyncSleep, patiently, xcom_address
from airflow_adf_mi._triggerer.start_key import task_try_key_of
from airflow_adf_mi._triggerer.stored_start import failed_try, marked, recall, says_all
from airflow_adf_mi.adf.errors import AdfError, AdfTaskKilled
from airflow_adf_mi.adf.starting.intent import Intent, Phase, TaskTry

if TYPE_CHECKING:
    from airflow.sdk import Context

log = logging.getLogger(__name__)

INTENT_KEY = "airflow_adf_mi.intent"
"""XCom of an intent that the XCom `run_id` cannot tell: of a service with run ids of its own, of an adopted run, or of a try
that has failed (`stored_start.marked`)."""
CLEAR_OVERLAP_SECONDS = 5.0
"""Seconds for which two tries of a cleared task may both be alive; up to 3 were seen in Airflow 3.3.2."""
FRESH = 4.0
"""Seconds after which what was read is read again before a start is sent: the task may have been cleared, or another
triggerer may have taken it over. Less than `OVERLAP`, for which the next try waits before it reads."""
LATE = 60.0
"""Seconds between the begin of a try and its start after which the XCom `run_id` does not tell well enough when that was."""


class ChangedMeanwhile(Exception):
    """Somebody else has written the journal: what it says now must be read."""


class TriggerJournal:
    """The journal as a trigger keeps it.

    :param context: the context that Airflow rendered the trigger's templates with.
    :param durable: whether the starts of earlier tries count.
    :param began: epoch seconds at which this try began, where that is known.
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
        self.place = task_try_key_of(context)
        self.task_try = TaskTry(try_number=self._ti.try_number)
        """All that a trigger knows of it: Airflow 3.3.2 shows it neither `max_tries` nor the count of clears."""
        self._durable = durable
        self._began = began
        self._clock = clock
        self._pause = pause
        self._run_id: Any = None
        self._kept: Any = None
        self._read_at: float | None = None
        self._has_failed = False
        """This very try is said to have failed, and goes on: what said so was lost with a triggerer, or a worker took it up."""
        self.latest: Intent | None = None
        """What may have started a run, as far as is known."""
        self.is_sending = False
        """A start is on its way, and must not be interrupted."""
        self.is_stopped = False
        """Nothing more must be started: the task was killed."""

    @property
    def is_read(self) -> bool:
        """Whether it is known what was written before."""
        return self._read_at is not None

    async def stored(self, wanted: Intent) -> Intent | None:
        """What an earlier try, or this one before its triggerer was killed, has written."""
        # From before the question on: its answer may have waited for the event loop.
        asked_at = self._clock()
        await self._read_all()
        self._read_at = asked_at
        self.latest = recall(self._run_id, self._kept, self.place, wanted, durable=self._durable, began=self._began)
        return self.latest

    async def save(self, intent: Intent) -> None:
        self._check()
        if intent.phase is Phase.PREPARED:
            if self.is_sending:
                await self._take_back(intent)
            return
        if self._is_stale():
            await self._must_be(self._run_id)
        self.is_sending = True
        try:
            await self._keep(intent)
            if self._is_stale():
                # It took so long to be written that a kill may be on its way, or another's start have come in between.
                await self._pause(CLEAR_OVERLAP_SECONDS)
                self._check()
                await self._must_be(intent.start_key)
            self._check()
        except (AdfError, ChangedMeanwhile):
            # Nothing of it was sent. What is written stays: by now it may be another's, and a look will tell.
            self.is_sending = False
            raise
        self.latest = intent

    async def note(self, intent: Intent) -> None:
        self.latest = intent
        try:
            await self._keep(intent)
        except Exception as e:  # noqa: BLE001  whatever Airflow's API fails with must not end the wait
            log.warning("Run %s goes on, but its id could not be pushed as XCom. %s", intent.run_id, e)
        self.is_sending = False

    async def hand_over(self) -> None:
        """A worker is to end this try, most likely since it fails: keep all that is known of its start, for a retry."""
        if not self.is_read:
            await self._read_all()
        if self.latest is not None and self.latest.task_try.is_try_of(self.task_try):
            told: dict[str, Any] | None = replace(self.latest, try_failed=True).to_json()
        else:
            told = marked(self._run_id, self._kept, self.place, failed=True)
        if told is not None:
            await self._set(INTENT_KEY, told)

    async def forget(self, keys: Iterable[str]) -> None:
        """Delete XComs of earlier tries: on a worker, Airflow does when a try begins."""
        from airflow.sdk.execution_time.comms import DeleteXCom
        from airflow.sdk.execution_time.task_runner import SUPERVISOR_COMMS

        try:
            for key in keys:
                await SUPERVISOR_COMMS.asend(DeleteXCom(key=key, **xcom_address(self._ti)))
        except Exception as e:  # noqa: BLE001  the run is there, and its own XComs follow
            log.warning("XComs of an earlier try could not be deleted. %s", e)

    async def is_taken(self) -> bool:
        """Whether another try has written its own start over ours, and so knows nothing of it."""
        mine = self._run_id
        await self._read()
        return bool(mine != self._run_id)

    def claimed(self) -> frozenset[str]:
        # Mapped tasks never start in the triggerer.
        return frozenset()

    def claim(self, run_id: str) -> bool:
        return True

    async def _take_back(self, prepared: Intent) -> None:
        """What was sent has started nothing."""
        self.is_sending = False
        self.latest = None
        try:
            await self._write("")
        except AdfError as e:
            # It must not hide why nothing was started; a worker that ends this try may keep what is known.
            log.warning("A retry of this task may look for a run in vain. %s", e)
            self.latest = prepared

    def _is_stale(self) -> bool:
        return self._clock() - (self._read_at or 0.0) > FRESH

    async def _must_be(self, run_id: str | None) -> None:
        await self._read()
        if self._run_id != run_id:
            raise ChangedMeanwhile

    def _check(self) -> None:
        if self.is_stopped:
            raise AdfTaskKilled("The task was killed before its run was started. Nothing was started.")

    async def _keep(self, intent: Intent) -> None:
        is_late = intent.sent_at is not None and self._began is not None and intent.sent_at - self._began > LATE
        if is_late or self._has_failed or not says_all(intent, self.place):
            await self._set(INTENT_KEY, intent.to_json())
            self._has_failed = intent.try_failed
        run_id = intent.run_id or intent.start_key
        if run_id != self._run_id:
            await self._write(run_id)

    async def _read_all(self) -> None:
        run_id = await self._get(RUN_ID_KEY) or None
        kept = await self._get(INTENT_KEY) if run_id else None
        # Together, or one would be taken for the other's.
        self._run_id, self._kept = run_id, kept
        self._has_failed = failed_try(self._run_id, self._kept) == self.place.try_number

    async def _read(self) -> None:
        asked_at = self._clock()
        self._run_id = await self._get(RUN_ID_KEY) or None
        self._read_at = asked_at

    async def _write(self, run_id: str) -> None:
        await self._set(RUN_ID_KEY, run_id)
        self._run_id = run_id or None

    async def _get(self, key: str) -> Any:
        return await patiently(lambda: XCom.aget_one(key=key, **xcom_address(self._ti)), f"XCom {key} be read")

    async def _set(self, key: str, value: Any) -> None:
        await patiently(lambda: XCom.aset(key, value, **xcom_address(self._ti)), f"XCom {key} be pushed")

"""A run that this process starts and waits for, and cancels when the process is told to die."""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from airflow_adf_mi.adf.api.client import AdfClient
from airflow_adf_mi.adf.auth.credential import credential_for
from airflow_adf_mi.adf.cancelling import cancelling
from airflow_adf_mi.adf.errors import AdfError, AdfNotFoundError, AdfTaskKilled
from airflow_adf_mi.adf.reporting.activity_log import ActivityLogMode
from airflow_adf_mi.adf.reporting.conclude import explained, reporting
from airflow_adf_mi.adf.reporting.report import Report, RunAddress, address_of
from airflow_adf_mi.adf.routines import Routine, run_routine
from airflow_adf_mi.adf.starting.create_run import Started
from airflow_adf_mi.adf.starting.intent import Intent, Phase
from airflow_adf_mi.adf.starting.journal import Journal, NoJournal
from airflow_adf_mi.adf.starting.start_or_adopt import StillActive
from airflow_adf_mi.adf.waiting.single_run import Plan

if TYPE_CHECKING:
    from azure.core.credentials import AccessTokenInfo

    from airflow_adf_mi.adf.auth.credential import ProcessCredential
    from airflow_adf_mi.adf.config.settings import AdfSettings

T = TypeVar("T")

log = logging.getLogger(__name__)

KILL_WAIT = 4.5
"""Seconds that a killed task waits for the cancel: Airflow kills the process 5 s after the signal."""
HANDLER_WAIT = 1.0
"""Seconds of these that are spent in the signal handler. What it interrupted may hold what the cancel needs."""
CANCEL_WAIT = 2.0
"""Seconds for which a cancel that is not accepted is repeated."""
_SLICE = 1.0
"""Longest sleep, in seconds, without a look at whether we have been killed."""


class OwnedRun:
    """Start a run, or go on with an earlier one, and wait for it; `kill` may be called at any moment from a signal handler.

    Use as a context manager.

    :param settings: the connection.
    :param cancel_on_kill: whether `kill` cancels the run, or leaves it running and says so.
    :param journal: where intents are kept.
    :param known: what an earlier try wrote there: until this one has begun, it is that run which `kill` cancels.
    :param goes_on: asked once, when killed: whether the task goes on without us (a retry will take the run over), so that
        the run must be left alone. Must answer within about 2 seconds.
    """

    def __init__(
        self,
        settings: AdfSettings,
        *,
        cancel_on_kill: bool,
        journal: Journal | None = None,
        known: Intent | None = None,
        goes_on: Callable[[], bool] = lambda: False,
    ) -> None:
        self._settings = settings
        self._cancel_on_kill = cancel_on_kill
        self._goes_on = goes_on
        self._credential = credential_for(settings)
        self._client = AdfClient(settings)
        self._journal = _Followed(journal or NoJournal(), known, self.raise_if_killed)
        self._address: RunAddress | None = None
        self._killed = False
        self._canceller = _Canceller(self._cancel)

    def begin(self, routine: Routine[Started | StillActive]) -> Started | StillActive:
        """Run `routine`. Raises its errors, and `AdfTaskKilled`."""
        begun = run_routine(routine, self._client, self._pause, self._journal)
        self._journal.latest = None if isinstance(begun, StillActive) and not begun.is_ours else begun.intent
        if isinstance(begun, Started):
            self._address = address_of(self._settings, begun.intent)
            log.info(
                "%s %s. See %s",
                self._address,
                "was adopted" if begun.adopted else "was started",
                self._address.studio_url,
            )
        self.raise_if_killed()
        return begun

    def wait(self, plan: Plan, *, cancel_on_timeout: bool, activity_log: ActivityLogMode = "off") -> Report:
        """Wait for the run that was begun with. Raises `AdfTaskKilled` once `kill` was called."""
        if self._address is None:
            raise ValueError("wait() before begin()")
        report = self.watch(self._address, plan, cancel_on_timeout=cancel_on_timeout, activity_log=activity_log)
        # Nothing is left to cancel.
        self._canceller.close()
        return report

    def watch(
        self,
        address: RunAddress,
        plan: Plan,
        *,
        cancel_on_timeout: bool = False,
        activity_log: ActivityLogMode = "off",
    ) -> Report:
        """Wait for any run. Raises `AdfTaskKilled` once `kill` was called."""
        routine = reporting(
            address,
            plan,
            cancel_on_timeout=cancel_on_timeout,
            clock=time.time,
            jitter=random.random,
            activity_log=activity_log,
        )
        return run_routine(routine, self._client, self._pause)

    def explain(self, report: Report) -> Report:
        """The report of a run that had ended before it could be waited for, with why it did not succeed."""
        return run_routine(explained(report, clock=time.time), self._client, self._pause)

    def rest(self, seconds: float) -> None:
        """Sleep, while `kill` cancels what is known to be running."""
        self._pause(seconds)

    def overdue(self, *, cancel: bool) -> None:
        """Airflow's own timeout struck: cancel what has been started, or leave it; `kill` then does nothing more."""
        self._goes_on = lambda: False
        self._cancel_on_kill = cancel
        if cancel and self._journal.latest is not None:
            self._canceller.act(KILL_WAIT)
        self._canceller.close()

    def kill(self) -> None:
        """Make what is going on end, and cancel the run; waits at most `HANDLER_WAIT` seconds.

        For signal handlers: it takes no lock and logs nothing itself, since the interrupted main thread may hold any lock.
        """
        self._killed = True
        if self._journal.latest is not None:
            self._canceller.act(HANDLER_WAIT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        # The canceller stays: a kill may come after this, as Airflow's does after an execution_timeout.
        self._client.close()

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while True:
            self.raise_if_killed()
            left = until - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, _SLICE))

    def raise_if_killed(self) -> None:
        """Raises `AdfTaskKilled` once `kill` was called: nothing must be returned or deferred for a run that is cancelled."""
        if not self._killed:
            return
        if self._journal.latest is None:
            raise AdfTaskKilled("The task was killed before its run was started. Nothing was started.")
        self._canceller.act(KILL_WAIT)
        raise AdfTaskKilled(f"The task was killed. {self._canceller.said or 'Its run is being cancelled.'}")

    def _cancel(self) -> str:
        """Runs in the canceller's thread, with a session of its own."""
        if self._goes_on():
            return "The task has tries left: its run goes on, and the next try takes it over."
        if not self._cancel_on_kill:
            left = self._journal.latest
            if left is None:
                return "Nothing was started."
            address = address_of(self._settings, left)
            return f"{address} was left running, as cancel_on_kill=False says. See {address.studio_url}"
        until = time.monotonic() + CANCEL_WAIT
        with AdfClient(self._settings, credential=_LastToken(self._credential), read_timeout=CANCEL_WAIT) as client:
            while True:
                said = self._cancelled(client, patience=until - time.monotonic())
                if said is not None or time.monotonic() > until:
                    return said or "A start was on its way; if it has started a run, that run goes on."
                # createRun may be about to answer.
                time.sleep(0.3)

    def _cancelled(self, client: AdfClient, *, patience: float) -> str | None:
        """Try to cancel what has been started; None if the service knows no run of ours yet."""
        latest = self._journal.latest
        if latest is None:
            return "Nothing was started."
        address = address_of(self._settings, latest)
        routine = cancelling(address.factory, address.run_id, clock=time.time, jitter=random.random, patience=patience)
        try:
            cancel = run_routine(routine, client, time.sleep)
        except AdfNotFoundError as e:
            if latest.run_id is None:
                # Its key is the run's id only where the service makes it so.
                return None
            return f"{address} could not be cancelled. See {address.studio_url} {e}"
        except AdfError as e:
            return f"{address} could not be cancelled and may go on. See {address.studio_url} {e}"
        return f"{address} {cancel}. See {address.studio_url}"


class _Followed:
    """A journal, and the last thing written there by this process that may have started a run."""

    def __init__(self, journal: Journal, known: Intent | None, check: Callable[[], None]) -> None:
        self._journal = journal
        self._check = check
        self.latest = None if known is None or known.phase is Phase.PREPARED else known

    def save(self, intent: Intent) -> None:
        # A killed task sends nothing any more; the kill may also come while this is written.
        self._check()
        self._journal.save(intent)
        try:
            self._check()
        except AdfTaskKilled:
            if self.latest is None:
                # Nothing of it was sent. Where something was, by an earlier try, what is written down must stay.
                self._journal.save(replace(intent, phase=Phase.PREPARED, sent_at=None))
            raise
        self.latest = None if intent.phase is Phase.PREPARED else intent

    def note(self, intent: Intent) -> None:
        self.latest = intent
        self._journal.note(intent)

    def claimed(self) -> Any:
        return self._journal.claimed()

    def claim(self, run_id: str) -> Any:
        return self._journal.claim(run_id)


class _LastToken:
    """The token this process got last, without asking for the lock that the main thread may hold while it asks for another.

    Also one that was refused: it may have been by mistake, and there may be no time for its successor.
    """

    def __init__(self, credential: ProcessCredential) -> None:
        self._credential = credential
        self._refused: set[str] = set()

    def get_token_info(self, *scopes: str, options: Any = None) -> AccessTokenInfo:
        for token in (self._credential.last_token(*scopes), self._credential.given_up_token(*scopes)):
            if token is not None and token.token not in self._refused:
                return token
        return self._credential.get_token_info(*scopes, options=options)

    def forget_token(self, refused: str) -> bool:
        """As of `ProcessCredential`."""
        self._refused.add(refused)
        return self._credential.forget_token(refused)


class _Canceller:
    """A waiting thread that acts once when told to.

    It is told by a byte through a pipe, since in a signal handler even starting a thread may meet a lock that the
    interrupted thread holds.
    """

    def __init__(self, act: Callable[[], str]) -> None:
        self._act = act
        self.said: str | None = None
        self._told: int
        self._tell: int | None
        self._told, self._tell = os.pipe()
        threading.Thread(target=self._run, name="adf-canceller", daemon=True).start()

    def act(self, wait: float) -> None:
        """Have it done, and wait at most `wait` seconds for it. More than once does no more than once."""
        if self._tell is None:
            return
        os.write(self._tell, b"!")
        until = time.monotonic() + wait
        while self.said is None and time.monotonic() < until:
            time.sleep(0.02)

    def close(self) -> None:
        """End the thread; after this, `act` does nothing."""
        tell, self._tell = self._tell, None
        if tell is not None:
            os.close(tell)

    def _run(self) -> None:
        while os.read(self._told, 1):
            if self.said is None:
                self.said = self._act()
                log.warning("The task was killed. %s", self.said)
        os.close(self._told)

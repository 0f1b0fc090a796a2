"""The run that a worker process owns. The process starts or adopts the run, and waits for its end. If Airflow stops the task, the
process cancels the run.

Airflow may stop the task at any moment: between createRun and its answer, during a token request, while a log line is written.
Airflow then calls `OwnedRun.kill` in a signal handler, and the handler interrupts the main thread between any two
instructions. Three things can go wrong:

- A deadlock. The interrupted main thread may hold the lock of the log, of the credential or of the HTTP session. It
  releases no lock before the handler returns. So the handler takes no lock: it writes one byte into a pipe. A thread that
  already waits at the other end, the canceller, cancels the run with a session of its own and the last known token.
- A run that nobody owns. The kill may come while createRun is under way. So the canceller repeats its cancel by the start
  key, because the service may show the run a moment later.
- A cancel that nobody wants. The eviction of a pod, or the restart of a worker, is no decision about the task. So the canceller
  first asks Airflow whether the task will be retried. If so, the run continues, and the next try adopts the run.

The rule: a killed task sends no further start, and neither returns nor defers. It raises `AdfTaskKilled`.

    seconds       who               does
    0.0           signal handler    kill() writes a byte, and waits for the canceller's result until 1.0 at the latest
    0.0           canceller         asks Airflow for the task's state
    by 2.0        canceller         has the answer, or stops waiting for it; cancels the run, and repeats the cancel for 2 s
    then          canceller         logs the result
    until 4.5     main thread       continues after kill() has returned; at its next sleep or journal entry, it waits for the
                                    canceller's result, and raises AdfTaskKilled
    5.0           Airflow           sends SIGKILL
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from airflow_adf_mi.adf.api.client import AdfClient
from airflow_adf_mi.adf.auth.credential import credential_for
from airflow_adf_mi.adf.cancelling import cancelling
from airflow_adf_mi.adf.config.addresses import RunAddress
from airflow_adf_mi.adf.errors import AdfError, AdfNotFoundError, AdfTaskKilled
from airflow_adf_mi.adf.reporting.activity_log import ActivityLogMode
from airflow_adf_mi.adf.reporting.conclude import explained, reporting
from airflow_adf_mi.adf.reporting.report import Report
from airflow_adf_mi.adf.routines import Routine, run_routine
from airflow_adf_mi.adf.starting.intent import Intent, Phase
from airflow_adf_mi.adf.starting.journal import Journal, NoJournal
from airflow_adf_mi.adf.starting.started import Skipped, Started, StillActive
from airflow_adf_mi.adf.timing import REAL_TIME
from airflow_adf_mi.adf.waiting.late_run import LateWatch
from airflow_adf_mi.adf.waiting.single_run import Plan

if TYPE_CHECKING:
    from azure.core.credentials import AccessTokenInfo

    from airflow_adf_mi.adf.auth.credential import ProcessCredential
    from airflow_adf_mi.adf.config.settings import AdfSettings

T = TypeVar("T")

log = logging.getLogger(__name__)

KILL_WAIT_SECONDS = 4.5
"""Seconds after the kill for which a killed task waits for the cancel. Airflow kills the process 5 s after the signal."""
HANDLER_WAIT_SECONDS = 1.0
"""Seconds after the kill for which the signal handler itself waits. The interrupted code may hold a lock. The
canceller may need that lock to log its result, or to get a token if none is kept. So a longer wait does not always help."""
CANCEL_WAIT_SECONDS = 2.0
"""If the service does not accept the cancel, it is repeated for this many seconds."""
LONGEST_SLEEP_SECONDS = 1.0
"""Longest sleep in seconds before the next check whether the task was killed."""


class OwnedRun:
    """Starts a run, or adopts an earlier run, and waits for its end. A signal handler may call `kill` at any moment.

    Use as a context manager.

    :param settings: the connection.
    :param cancel_on_kill: whether `kill` cancels the run. If not, `kill` logs that the run was left running.
    :param journal: where intents are kept.
    :param known: the intent that an earlier try stored. Until this try has begun its own start, `kill` cancels the run of that
        intent.
    :param will_be_retried: whether the task will be retried. It is called once after a kill, and must answer within about 2
        seconds. If the task will be retried, the run is left alone, because the retry adopts it.
    """

    def __init__(
        self,
        settings: AdfSettings,
        *,
        cancel_on_kill: bool,
        journal: Journal | None = None,
        known: Intent | None = None,
        will_be_retried: Callable[[], bool] = lambda: False,
    ) -> None:
        self._settings = settings
        self._cancel_on_kill = cancel_on_kill
        self._will_be_retried = will_be_retried
        self._credential = credential_for(settings)
        self._client = AdfClient(settings)
        self._journal = _Followed(journal or NoJournal(), known, self.raise_if_killed)
        self._address: RunAddress | None = None
        self._killed = False
        self._canceller = _Canceller(self._cancel)

    def begin(self, routine: Routine[Started | StillActive | Skipped]) -> Started | StillActive | Skipped:
        """Run `routine`. Raises its errors, and `AdfTaskKilled`."""
        begun = run_routine(routine, self._client, self._pause, self._journal)
        self._journal.latest = None if isinstance(begun, StillActive) and not begun.is_ours else _owned(begun.intent)
        if isinstance(begun, Started):
            self._address = begun.intent.address(self._settings)
            begun.announce(self._address)
        self.raise_if_killed()
        return begun

    def run(self, routine: Routine[T]) -> T:
        """Run another routine of this try. Raises `AdfTaskKilled` after a call of `kill`."""
        return run_routine(routine, self._client, self._pause)

    def wait(
        self,
        plan: Plan,
        *,
        cancel_on_timeout: bool,
        activity_log: ActivityLogMode = "off",
        late: LateWatch | None = None,
    ) -> Report:
        """Wait for the run that `begin` returned. Raises `AdfTaskKilled` after a call of `kill`."""
        if self._address is None:
            raise ValueError("wait() before begin()")
        report = self.watch(
            self._address, plan, cancel_on_timeout=cancel_on_timeout, activity_log=activity_log, late=late
        )
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
        late: LateWatch | None = None,
    ) -> Report:
        """Wait for any run. Raises `AdfTaskKilled` after a call of `kill`."""
        routine = reporting(
            address,
            plan,
            cancel_on_timeout=cancel_on_timeout,
            timing=REAL_TIME,
            activity_log=activity_log,
            late=late,
        )
        return run_routine(routine, self._client, self._pause)

    def explain(self, report: Report) -> Report:
        """If a run had already ended when this try began, find out why it did not succeed. Returns the completed report."""
        return run_routine(explained(report, timing=REAL_TIME), self._client, self._pause)

    def rest(self, seconds: float) -> None:
        """Sleep. If `kill` is called during the sleep, it cancels the last known run."""
        self._pause(seconds)

    def on_execution_timeout(self, *, cancel: bool, is_superseded: Callable[[Intent], bool]) -> None:
        """Handle Airflow's execution_timeout: cancel the run, or leave it. After this, `kill` does nothing.

        :param is_superseded: whether this try replaces a start. `cancel_on_kill` decides about the run of such a start.
        """
        latest = self._journal.latest
        if latest is not None and is_superseded(latest):
            cancel = self._cancel_on_kill
        self._will_be_retried = lambda: False
        self._cancel_on_kill = cancel
        if cancel and latest is not None:
            self._canceller.request(KILL_WAIT_SECONDS, why="execution_timeout has passed.")
        self._canceller.close()

    def kill(self) -> None:
        """Cancel the run, and make the main thread end. Waits at most `HANDLER_WAIT_SECONDS` seconds.

        For signal handlers. It takes no lock and logs nothing, because the interrupted main thread may hold any lock.
        """
        self._killed = True
        if self._journal.latest is not None:
            self._canceller.request(HANDLER_WAIT_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        # The canceller stays open, because Airflow may still kill the task after this context.
        self._client.close()

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while True:
            self.raise_if_killed()
            left = until - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, LONGEST_SLEEP_SECONDS))

    def raise_if_killed(self) -> None:
        """Raise `AdfTaskKilled` after a call of `kill`. A killed task must neither return nor defer."""
        if not self._killed:
            return
        if self._journal.latest is None:
            if self._address is not None:
                raise AdfTaskKilled(
                    f"The task was killed. {self._address} continues, because this task only watches it."
                )
            raise AdfTaskKilled("The task was killed before its run was started. Nothing was started.")
        self._canceller.request(KILL_WAIT_SECONDS)
        raise AdfTaskKilled(f"The task was killed. {self._canceller.result or 'Its run is being cancelled.'}")

    def _cancel(self) -> str:
        """Cancel the run, and return what happened to it. Runs in the canceller's thread, with a session of its own."""
        if self._will_be_retried():
            return "The task will be retried: its run continues, and the next try adopts it."
        if not self._cancel_on_kill:
            left = self._journal.latest
            if left is None:
                return "Nothing was started."
            address = left.address(self._settings)
            return f"{address} was left running, because of cancel_on_kill=False. See {address.studio_url}"
        until = time.monotonic() + CANCEL_WAIT_SECONDS
        with AdfClient(
            self._settings, credential=_LastToken(self._credential), read_timeout=CANCEL_WAIT_SECONDS
        ) as client:
            while True:
                result = self._cancelled(client, patience=until - time.monotonic())
                if result is not None or time.monotonic() > until:
                    return result or "A start was under way. If it started a run, that run continues."
                # The answer to createRun may still arrive.
                time.sleep(0.3)

    def _cancelled(self, client: AdfClient, *, patience: float) -> str | None:
        """Cancel the run. None if the service does not show the run yet.

        :param patience: seconds for which a cancel that is not accepted is repeated.
        """
        latest = self._journal.latest
        if latest is None:
            return "Nothing was started."
        address = latest.address(self._settings)
        routine = cancelling(address.factory, address.run_id, timing=REAL_TIME, patience=patience)
        try:
            cancel = run_routine(routine, client, time.sleep)
        except AdfNotFoundError as e:
            if latest.run_id is None:
                # Without a run id, the start key was used as the id. The service may not show that run yet.
                return None
            return f"{address} could not be cancelled. See {address.studio_url} {e}"
        except AdfError as e:
            return f"{address} could not be cancelled and may continue. See {address.studio_url} {e}"
        return f"{address} {cancel}. See {address.studio_url}"


class _Followed:
    """A journal that also remembers `latest`: the last intent of this process that may have started a run."""

    def __init__(self, journal: Journal, known: Intent | None, check: Callable[[], None]) -> None:
        self._journal = journal
        self._check = check
        self.latest = None if known is None else _owned(known)

    def save(self, intent: Intent) -> None:
        # A killed task must not send a start. The kill may also come while the intent is stored, so check again below.
        self._check()
        self._journal.save(intent)
        before = self.latest
        try:
            self._check()
            # A kill between the check above and this assignment finds no start. The check below ends such a task.
            self.latest = _owned(intent)
            self._check()
        except AdfTaskKilled:
            if before is None:
                # This start was not sent: record that. If an earlier try sent a start, its intent must stay.
                self._journal.save(replace(intent, phase=Phase.PREPARED, sent_at=None))
            raise

    def save_best_effort(self, intent: Intent) -> None:
        self.latest = _owned(intent)
        self._journal.save_best_effort(intent)

    def claimed(self) -> Any:
        return self._journal.claimed()

    def claim(self, run_id: str) -> Any:
        return self._journal.claim(run_id)


def _owned(intent: Intent) -> Intent | None:
    """The intent, if it may have a run that this task may cancel."""
    return None if intent.phase is Phase.PREPARED or intent.is_foreign else intent


class _LastToken:
    """Credential that returns the last token of this process, without the lock that the main thread may hold.

    The token may have been refused before. It is tried again, because the refusal may have been a mistake, and there may be no
    time to get a new token.
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
        """Like `ProcessCredential.forget_token`."""
        self._refused.add(refused)
        return self._credential.forget_token(refused)


class _Canceller:
    """A waiting thread that runs `act` once, on request.

    The request is a byte in a pipe. A signal handler cannot even start a thread safely, because the interrupted thread may
    hold a lock that a new thread needs.
    """

    def __init__(self, act: Callable[[], str]) -> None:
        self._act = act
        self._why: str | None = None
        self._requested_at: float | None = None
        self.result: str | None = None
        self._read_end: int
        self._write_end: int | None
        self._read_end, self._write_end = os.pipe()
        threading.Thread(target=self._run, name="adf-canceller", daemon=True).start()

    def request(self, wait: float, *, why: str = "The task was killed.") -> None:
        """Request the action, and wait for its result, until `wait` seconds after the first request. A second request repeats
        nothing.

        :param why: the reason of the first request, for the log.
        """
        if self._write_end is None:
            return
        self._why = self._why or why
        self._requested_at = self._requested_at or time.monotonic()
        os.write(self._write_end, b"!")
        while self.result is None and time.monotonic() < self._requested_at + wait:
            time.sleep(0.02)

    def close(self) -> None:
        """End the thread. After this, `request` does nothing."""
        write_end, self._write_end = self._write_end, None
        if write_end is not None:
            os.close(write_end)

    def _run(self) -> None:
        while os.read(self._read_end, 1):
            if self.result is None:
                try:
                    self.result = self._act()
                except Exception as e:  # noqa: BLE001  the thread must report whatever happened
                    self.result = f"The run could not be cancelled, and may continue. {type(e).__name__}: {e}"
                log.warning("%s %s", self._why, self.result)
        os.close(self._read_end)

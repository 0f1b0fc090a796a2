"""A run that this process starts and waits for, and cancels when the process is told to die."""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from airflow_adf_mi.adf.client import AdfClient
from airflow_adf_mi.adf.drive import drive
from airflow_adf_mi.adf.errors import AdfError, AdfTaskKilled
from airflow_adf_mi.adf.identity import credential_for
from airflow_adf_mi.adf.report import Report, RunAddress, reporting
from airflow_adf_mi.adf.start import Start, starting
from airflow_adf_mi.adf.watch import Plan, cancelling

if TYPE_CHECKING:
    from azure.core.credentials import AccessTokenInfo

    from airflow_adf_mi.adf.identity import ProcessCredential
    from airflow_adf_mi.adf.settings import AdfSettings

log = logging.getLogger(__name__)

KILL_WAIT = 4.0
"""Seconds that `kill` waits for the cancel: Airflow kills the process 5 s after the signal."""
_SLICE = 1.0
"""Longest sleep, in seconds, without a look at whether we have been killed."""


class OwnedRun:
    """Start a run, wait for it; `kill` may be called at any moment from a signal handler.

    Use as a context manager.

    :param settings: the connection.
    :param cancel_on_kill: whether `kill` cancels the run, or leaves it running and says so.
    """

    def __init__(self, settings: AdfSettings, *, cancel_on_kill: bool) -> None:
        self._settings = settings
        self._cancel_on_kill = cancel_on_kill
        self._credential = credential_for(settings)
        self._client = AdfClient(settings)
        self._address: RunAddress | None = None
        self._killed = False
        self._canceller = _Canceller(self._cancel)

    def start(self, start: Start) -> RunAddress:
        """Start the run. Raises the errors of `starting`, and `AdfTaskKilled`."""
        run_id = drive(starting(start, clock=time.time, jitter=random.random), self._client, self._pause)
        self._address = RunAddress(
            run_id=run_id,
            factory=start.factory,
            studio_url=self._settings.studio_run_url(start.factory, run_id),
            pipeline_name=start.pipeline_name,
        )
        log.info("%s was started. See %s", self._address, self._address.studio_url)
        self._raise_if_killed()
        return self._address

    def wait(self, plan: Plan, *, cancel_on_timeout: bool) -> Report:
        """Wait for the started run. Raises `AdfTaskKilled` once `kill` was called."""
        if self._address is None:
            raise ValueError("wait() before start()")
        routine = reporting(
            self._address, plan, cancel_on_timeout=cancel_on_timeout, clock=time.time, jitter=random.random
        )
        report = drive(routine, self._client, self._pause)
        # Nothing is left to cancel.
        self._canceller.close()
        return report

    def kill(self) -> None:
        """Make `start` or `wait` end, and cancel the run; waits at most `KILL_WAIT` seconds.

        For signal handlers: it takes no lock and logs nothing itself, since the interrupted main thread may hold any lock.
        Before the run's id is known there is nothing to cancel yet; `start` does it as soon as it knows.
        """
        self._killed = True
        if self._address is not None:
            self._canceller.act(KILL_WAIT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        # The canceller stays: a kill may come after this, as Airflow's does after an execution_timeout.
        self._client.close()

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while True:
            self._raise_if_killed()
            left = until - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, _SLICE))

    def _raise_if_killed(self) -> None:
        if not self._killed:
            return
        if self._address is None:
            raise AdfTaskKilled("The task was killed before its run was started. Nothing was started.")
        self._canceller.act(KILL_WAIT)
        raise AdfTaskKilled(f"The task was killed. {self._canceller.said or 'Its run is being cancelled.'}")

    def _cancel(self) -> str:
        """Runs in the canceller's thread, with a session of its own."""
        if self._address is None:
            return "Nothing was started."
        address = self._address
        if not self._cancel_on_kill:
            return f"{address} was left running, as cancel_on_kill=False says. See {address.studio_url}"
        routine = cancelling(address.factory, address.run_id, clock=time.time, jitter=random.random, patience=KILL_WAIT)
        try:
            with AdfClient(self._settings, credential=_LastToken(self._credential), read_timeout=KILL_WAIT) as client:
                accepted = drive(routine, client, time.sleep)
        except AdfError as e:
            return f"{address} could not be cancelled and may go on. See {address.studio_url} {e}"
        return f"{address} {'was cancelled' if accepted else 'had already ended'}. See {address.studio_url}"


class _LastToken:
    """The token this process got last, without asking for the lock that the main thread may hold."""

    def __init__(self, credential: ProcessCredential) -> None:
        self._credential = credential

    def get_token_info(self, *scopes: str, options: Any = None) -> AccessTokenInfo:
        return self._credential.last_token(*scopes) or self._credential.get_token_info(*scopes, options=options)


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

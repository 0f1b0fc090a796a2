"""Reads Airflow's database every half second, in a thread of its own."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

import sqlalchemy

INTERVAL = 0.5


class Sampler(ABC):
    """Use as a context manager. A read that fails is repeated.

    :param url: the database.
    """

    def __init__(self, url: str) -> None:
        self._engine = sqlalchemy.create_engine(url)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=type(self).__name__, daemon=True)
        self._problem: Exception | None = None

    @abstractmethod
    def sample(self) -> None:
        """Read once, now."""

    def check(self) -> None:
        """Raises `RuntimeError` if the last read has failed."""
        if self._problem is not None:
            raise RuntimeError(f"{self._thread.name} could not read Airflow's database") from self._problem

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._stopped.set()
        self._thread.join(30)
        self._engine.dispose()

    def _run(self) -> None:
        while not self._stopped.wait(INTERVAL):
            try:
                self.sample()
                self._problem = None
            except Exception as e:  # noqa: BLE001  `check` raises it in another thread
                self._problem = e

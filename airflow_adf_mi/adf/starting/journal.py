"""The journal: where intents are stored, and the steps by which a routine uses it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from airflow_adf_mi.adf.routines import Write
from airflow_adf_mi.adf.starting.intent import Intent


class Journal(Protocol):
    """Stores intents, and knows the claims of other instances of a mapped task. For an event loop, its methods may be
    coroutines.
    """

    def save(self, intent: Intent) -> Any:
        """Store `intent`, or raise: no request may be sent before its intent is stored."""

    def save_best_effort(self, intent: Intent) -> Any:
        """Store `intent` if possible, and never raise: the run exists, so a failure now would help nobody."""

    def claimed(self) -> Any:
        """The ids of runs that other instances of this mapped task have claimed."""

    def claim(self, run_id: str) -> Any:
        """Claim a run that was found in the run list. False if another instance of this mapped task has claimed it."""


class NoJournal:
    """A journal for starts that no later try will ask about."""

    def save(self, intent: Intent) -> None:
        """Store nothing."""

    def save_best_effort(self, intent: Intent) -> None:
        """Store nothing."""

    def claimed(self) -> frozenset[str]:
        return frozenset()

    def claim(self, run_id: str) -> bool:
        return True


def save(intent: Intent) -> Write:
    """A step that stores `intent`. If the step fails, the routine ends."""
    return _asked(lambda journal: journal.save(intent))


def save_best_effort(intent: Intent) -> Write:
    """A step that stores `intent` if possible."""
    return _asked(lambda journal: journal.save_best_effort(intent))


def claim(run_id: str) -> Write:
    """A step that claims a run. Its result is False if another instance of the mapped task has claimed it."""
    return _asked(lambda journal: journal.claim(run_id))


def claims_of_others() -> Write:
    """A step whose result is the ids of the runs that other instances of the mapped task have claimed."""
    return _asked(lambda journal: journal.claimed())


def _asked(act: Callable[[Journal], Any]) -> Write:
    """A step that uses the journal. If a routine runs without a journal, the step uses `NoJournal`."""
    return Write(lambda journal: act(NoJournal() if journal is None else journal))

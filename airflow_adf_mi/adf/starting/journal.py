"""Where the intents of starts are kept, and how a routine asks for that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from airflow_adf_mi.adf.routines import Write
from airflow_adf_mi.adf.starting.intent import Intent


class Journal(Protocol):
    """Where intents are kept, and what other tasks say of theirs. For an event loop, its methods may be coroutines."""

    def save(self, intent: Intent) -> Any:
        """Keep `intent`, or raise: nothing must be sent that is not written down."""

    def note(self, intent: Intent) -> Any:
        """Keep `intent` if possible: the run is there, and failing now would help nobody."""

    def claimed(self) -> Any:
        """The ids of runs that siblings of this task (other map indexes) have made theirs."""

    def claim(self, run_id: str) -> Any:
        """Make a run that was found in the list ours: False if a sibling has claimed it too."""


class NoJournal:
    """For starts that nobody will ask about again."""

    def save(self, intent: Intent) -> None:
        """Forgotten."""

    def note(self, intent: Intent) -> None:
        """Forgotten."""

    def claimed(self) -> frozenset[str]:
        return frozenset()

    def claim(self, run_id: str) -> bool:
        return True


def save(intent: Intent) -> Write:
    """Write `intent` down; the routine ends if that fails."""
    return _asked(lambda journal: journal.save(intent))


def note(intent: Intent) -> Write:
    """Write `intent` down if possible."""
    return _asked(lambda journal: journal.note(intent))


def claim(run_id: str) -> Write:
    """Make a run ours. The result is False if another task has."""
    return _asked(lambda journal: journal.claim(run_id))


def claims_of_others() -> Write:
    """The runs that siblings of the task have made theirs."""
    return _asked(lambda journal: journal.claimed())


def _asked(act: Callable[[Journal], Any]) -> Write:
    """A step that asks the journal. A routine that is driven without one has `NoJournal`."""
    return Write(lambda journal: act(NoJournal() if journal is None else journal))

"""How far the ended runs of a factory were handed over to Airflow: a cursor that loses no run, and repeats few. Pure.

The problem: the run list may lag, and shows runs out of order. So a run may appear whose end lies before runs that were handed
over already. And a triggerer may be killed at any moment. So the cursor is stored only after Airflow has taken the events, and
each query reaches back behind it. The ids of the runs that were handed over are kept beside it, as far back as queries reach:

         began                  since            reached
    -------|----------------------|--- look_back ---|--------> time of a run's end, by the service's clock
           |                      |                 |
           |                      |                 up to here, a query has shown everything that the list had
           |                      a query begins here: a run that ended later is new if its id is not in `sent`
           a run that ended before is never new

A run that the list shows later than `look_back` after its end is lost. That is the only way to lose a run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

from airflow_adf_mi.adf.models import PipelineRun
from airflow_adf_mi.adf.stored_forms import known_members
from airflow_adf_mi.adf.times import read_number

VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Cursor:
    """What was handed over. Moments are epoch seconds by the service's clock."""

    began: float
    """When the watch began. Runs that ended before are not handed over."""
    reached: float
    """When the last query was sent whose runs were all handed over; `began` if there was none."""
    sent: Mapping[str, float] = field(default_factory=dict)
    """The ids of runs that were handed over, and when they ended: those that a query may show again."""

    @classmethod
    def beginning_at(cls, moment: float) -> Self:
        """The cursor of a watch that begins at this moment."""
        return cls(began=moment, reached=moment)

    def to_json(self) -> dict[str, Any]:
        return {"version": VERSION, **asdict(self), "sent": dict(self.sent)}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Read the stored form. Raises `KeyError`, `TypeError` or `ValueError` if it cannot be read."""
        members = known_members(cls, stored)
        moments = {name: read_number(members[name]) for name in ("began", "reached")}
        sent = {str(run_id): read_number(ended) for run_id, ended in dict(members.get("sent", {})).items()}
        if None in moments.values() or None in sent.values():
            raise ValueError("a moment of the cursor is not a number")
        return cls(**moments, sent=sent)  # type: ignore[arg-type]  # checked in the line before

    def since(self, look_back: float) -> float:
        """The moment from which a query must show runs.

        :param look_back: seconds by which the list may lag.
        """
        return max(self.began, self.reached - look_back)

    def new(self, listed: Iterable[PipelineRun], look_back: float) -> list[PipelineRun]:
        """The runs that have ended and were not handed over, in the order of their ends.

        :param listed: runs that a query since `since` has shown; a query for other watches may show more.
        :param look_back: as for `since`.
        """
        since = self.since(look_back)
        found = {
            run.run_id: run
            for run in listed
            if run.is_terminal and run.run_id not in self.sent and _ended_at(run, otherwise=since) >= since
        }
        return sorted(found.values(), key=lambda run: (_ended_at(run, otherwise=since), run.run_id))

    def after(self, handed_over: Iterable[PipelineRun], asked_at: float, look_back: float) -> Self:
        """The cursor after Airflow has taken all new runs of a query. It is never behind this cursor.

        :param asked_at: when the query was sent.
        :param look_back: as for `since`.
        """
        reached = max(self.reached, asked_at)
        sent = {**self.sent, **{run.run_id: _ended_at(run, otherwise=asked_at) for run in handed_over}}
        return replace(
            self,
            reached=reached,
            sent={run_id: ended for run_id, ended in sent.items() if ended >= reached - look_back},
        )


def _ended_at(run: PipelineRun, *, otherwise: float) -> float:
    """When a run ended: the moment by which the service filters its list. `otherwise` if it cannot be read."""
    return otherwise if run.last_updated is None else run.last_updated.timestamp()

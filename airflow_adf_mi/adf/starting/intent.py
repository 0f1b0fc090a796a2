"""The intent: a write-ahead log entry that a try stores before it sends createRun. Pure.

The problem: a worker or triggerer can be killed at any moment, also between createRun and its answer. The next try must know
whether a run may exist, and which run. So every start is recorded in three phases. SENDING is stored before createRun is sent,
and STARTED after its answer:

    PREPARED          SENDING               STARTED
    --------------+---------------------+---------------------------------> time
    nothing sent  | createRun may have  | the run id is known
                  | been sent           |
    killed here:  | killed here:        | killed here:
    start again   | search for the run  | adopt the run
                  | before a new start  |

The second question is what the user wants. A retry must adopt the run. The first try after a clear must start a new run. Airflow
does not report whether it retried the task, or a user cleared the task. `was_cleared` finds this out from Airflow's counters
(`TaskTry`), and `decide` combines the answers to both questions.

The JSON form is stored in Airflow's task state store, or in triggerer mode in an XCom. It outlives retries, killed processes and
clears. Members keep their names and meanings in every version, and new members are only added. So an older version can read what
a newer version wrote.
"""

from __future__ import annotations

import hashlib
import json
import logging
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from enum import Enum
from typing import Any, Self

from airflow_adf_mi.adf.api.recovery import Recovery
from airflow_adf_mi.adf.config.addresses import FactoryRef, RunAddress
from airflow_adf_mi.adf.config.settings import AdfSettings
from airflow_adf_mi.adf.stored_forms import known_members

log = logging.getLogger(__name__)

VERSION = 1
MOST_PREVIOUS_RUNS = 500
"""At most this many ids of earlier runs are kept, the newest ones. Policies about runs that are already there must not take them
for runs of somebody else, also after hundreds of clears (`present_runs`). 500 ids need 20 KB. Airflow warns about a value of more
than 64 KB."""


class Phase(Enum):
    """How far a start had come when the intent was stored."""

    PREPARED = "prepared"
    """createRun was not sent."""
    SENDING = "sending"
    """Stored immediately before the request. The request may have been sent, and may have started a run."""
    STARTED = "started"
    """The run id is known."""


@dataclass(frozen=True, kw_only=True)
class TaskTry:
    """Which try of a task this is, as Airflow counts."""

    try_number: int = 1
    max_tries: int = 0
    """A user's clear of a task that is not running raises this number; a retry does not."""
    clear_number: int = 0
    """A counter of the Dag run. Every clear of any of its tasks raises it; a retry does not."""

    def is_try_of(self, other: TaskTry) -> bool:
        """Whether both are the same try, even if other tasks of the Dag run were cleared between the two."""
        return (self.try_number, self.max_tries) == (other.try_number, other.max_tries)


@dataclass(frozen=True, kw_only=True)
class Intent:
    """A start, how far it came, and which try made it."""

    start_key: str
    """A GUID. It is sent as `x-ms-client-request-id`, and is also the run's id, unless the service chooses run ids itself."""
    factory: FactoryRef
    pipeline_name: str
    fingerprint: str
    """A digest of everything that decides what the run does: factory, pipeline, parameters, recovery."""
    task_try: TaskTry
    phase: Phase = Phase.PREPARED
    sent_at: float | None = None
    """When the request was about to be sent, in epoch seconds of this machine's clock. None before that, or if it is not known.
    """
    run_id: str | None = None
    service_uses_key: bool = False
    """The service has used a start key as a run's id before. So "no run with this start key" proves that nothing was started."""
    previous_run_ids: tuple[str, ...] = ()
    """Earlier runs of this task, and the keys of its earlier starts whose runs may still appear. A search for a lost start
    ignores them, and policies about runs that are already there do not take them for runs of somebody else."""
    try_failed: bool = False
    """The try failed by itself. So if `max_tries` is the same in the next try, the next try is a retry."""
    deadline: float | None = None
    """The deadline of the wait, in epoch seconds, for the try that stored this intent."""
    not_adopted_yet: bool = False
    """The run belongs to an earlier try, and this try has not adopted it yet. If the run failed, another run is started."""
    first_refused_at: float | None = None
    """When a full queue refused a start of this try first, in epoch seconds. `timeout` counts from there, and it is the place
    among the starts that wait."""
    is_foreign: bool = False
    """Somebody else started the run, or may have started it. This task only watches it (`present_runs`, `rerun`)."""
    rerun_of: str | None = None
    """The failed run that this start continues, if `retry_from_failure` chose that. The fingerprint does not depend on it.
    With `is_foreign`: the run of this task that somebody's run continues. `sent_at` is then set only if the run may be ours."""
    run_group_id: str | None = None
    """The group of that run, which the new run joins."""
    may_have_two_runs: bool = False
    """The start was sent again without proof that its first request had started nothing. So a second run may carry the key."""

    def to_json(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            **asdict(self),
            "phase": self.phase.value,
            "previous_run_ids": list(self.previous_run_ids),
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Read the stored form. Unknown members are ignored, because a newer version may have written them."""
        fields = known_members(cls, stored)
        return cls(
            **{
                **fields,
                "factory": FactoryRef(**known_members(FactoryRef, fields["factory"])),
                "task_try": TaskTry(**known_members(TaskTry, fields["task_try"])),
                "phase": Phase(fields["phase"]),
                "previous_run_ids": tuple(fields["previous_run_ids"]),
            }
        )

    @property
    def first_sent_at(self) -> float | None:
        """When createRun was about to be sent first, in epoch seconds, whether it was accepted or refused; None if not known."""
        moments = [moment for moment in (self.first_refused_at, self.sent_at) if moment is not None]
        return min(moments, default=None)

    def address(self, settings: AdfSettings) -> RunAddress:
        """The address of the run. While the run id is not known, the start key takes its place."""
        return settings.run_address(self.factory, self.run_id or self.start_key, self.pipeline_name)

    def started(self, run_id: str) -> Self:
        return replace(
            self, phase=Phase.STARTED, run_id=run_id, service_uses_key=run_id.lower() == self.start_key.lower()
        )

    def after(self, older: Intent, *found: str) -> Self:
        """Return this intent with the run ids of `older`, which this intent replaces, beside its own previous ones. Also with the
        key of `older`, if a run with that key may still appear.

        :param found: the runs that a search found for `older`, if its answer was lost.
        """
        own = [*found, *([older.run_id] if older.run_id and not older.is_foreign else [])]
        # The run of a start without an answer may appear later. Where the service chooses run ids, that run carries the key in
        # the correlation parameter only. A start has one run. If that run is known, another run with the key is a copy by
        # somebody. If somebody's run was found for a rerun of ours, the run of the rerun may still appear.
        may_appear = older.run_id is None or older.may_have_two_runs or (older.is_foreign and older.sent_at is not None)
        if older.phase is not Phase.PREPARED and may_appear:
            own.append(older.start_key)
        known = {run_id.lower(): run_id for run_id in (*self.previous_run_ids, *older.previous_run_ids, *own)}
        # If this intent sends the start of `older` again, the key is that of its own run.
        known.pop(self.start_key.lower(), None)
        previous = tuple(known.values())[-MOST_PREVIOUS_RUNS:]
        # How one factory uses keys proves nothing about another factory.
        return replace(
            self,
            service_uses_key=self.service_uses_key or (older.service_uses_key and older.factory == self.factory),
            previous_run_ids=previous,
        )


def fingerprint(
    factory: FactoryRef, pipeline_name: str, parameters: Mapping[str, Any] | None, recovery: Recovery
) -> str:
    """A digest that is equal for equal runs, whatever the order of parameters or the case of names."""
    address = [part.lower() for part in (*asdict(factory).values(), pipeline_name)]
    text = json.dumps([address, dict(parameters or {}), asdict(recovery)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class StartNew:
    """Start a new run, after the older one has ended."""

    older: Intent | None = None


@dataclass(frozen=True, kw_only=True)
class ResolveLostStart:
    """Find out whether a start that may have been sent has started a run."""

    intent: Intent


@dataclass(frozen=True, kw_only=True)
class Adopt:
    """Continue with the run of the stored intent. An earlier try started it, or this try before its trigger was lost."""

    intent: Intent


Decision = StartNew | ResolveLostStart | Adopt


def was_cleared(stored: Intent, now: TaskTry) -> bool:
    """Whether a user cleared the task after `stored` was written. Otherwise Airflow retried it.

    A clear of a running task does not change `max_tries`. Only the Dag run's counter shows that clear, and this counter also
    rises when another task is cleared. If only this counter has changed, and the earlier try did not record its own failure, the
    change counts as a clear of this task. If this
    is wrong, the older run is replaced once it has ended. The opposite mistake does more harm: no new run starts after a clear.
    """
    before = stored.task_try
    return before.max_tries != now.max_tries or (before.clear_number != now.clear_number and not stored.try_failed)


def is_superseded(stored: Intent, now: TaskTry, wanted_fingerprint: str) -> bool:
    """Whether the try `now` must replace a start, instead of continuing it.

    :param wanted_fingerprint: the fingerprint of the run that the try `now` wants.
    """
    # A try that continues after its trigger has failed was not cleared, and its parameters have not changed.
    return not stored.task_try.is_try_of(now) and (was_cleared(stored, now) or stored.fingerprint != wanted_fingerprint)


def decide(stored: Intent | None, now: TaskTry, wanted_fingerprint: str) -> Decision:
    """Decide what the try `now` does with the intent that an earlier try stored.

    :param wanted_fingerprint: the fingerprint of the run that the try `now` wants.
    """
    if stored is None:
        return StartNew()
    if is_superseded(stored, now, wanted_fingerprint) or stored.phase is Phase.PREPARED:
        return StartNew(older=stored)
    return ResolveLostStart(intent=stored) if stored.phase is Phase.SENDING else Adopt(intent=stored)


def read_intent(stored: object, otherwise: Intent) -> Intent | None:
    """Return the intent in `stored`; None if nothing is stored.

    A stored form that cannot be read still shows that a start was made, or was about to be made. The result is then `otherwise`
    (an intent of the present try) in a phase that causes a search. If the start key or the run id can still be read, the result
    has them.
    """
    if stored is None:
        return None
    try:
        if isinstance(stored, Mapping):
            return Intent.from_json(stored)
    except (AttributeError, KeyError, TypeError, ValueError):
        log.debug("Not an intent that version %d can read", VERSION, exc_info=True)
    run_id, key = (_guid(stored, name) for name in ("run_id", "start_key"))
    log.warning(
        "The intent that an earlier try stored cannot be read. Perhaps another version of this package wrote it. "
        "Searching for its run at the service instead (%s).",
        f"run {run_id or key}" if run_id or key else "by pipeline and parameters",
    )
    found = replace(otherwise, phase=Phase.SENDING, start_key=key or otherwise.start_key, sent_at=None)
    return found.started(run_id) if run_id else found


def _guid(stored: object, name: str) -> str | None:
    value = stored.get(name) if isinstance(stored, Mapping) else None
    try:
        return str(uuid.UUID(value)) if isinstance(value, str) else None
    except ValueError:
        return None

"""What a task meant to start: written down before createRun, so that a later try knows what an earlier one did. Pure.

The JSON form lives in Airflow's task state store, which outlives retries, killed workers and clears. Members keep their
names and meanings in every version, and are only added to, so that an older version reads what a newer one wrote.
"""

from __future__ import annotations

import hashlib
import json
import logging
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from dataclasses import fields as dataclass_fields
from enum import Enum
from typing import Any, Self

from airflow_adf_mi.adf.api.recovery import Recovery
from airflow_adf_mi.adf.config.settings import FactoryRef

log = logging.getLogger(__name__)

VERSION = 1
MOST_PREVIOUS_RUNS = 20
"""How many earlier runs are kept; a lost one is looked for among those of some minutes only."""


class Phase(Enum):
    """How far the start had come when this was written."""

    PREPARED = "prepared"
    """Nothing has been sent."""
    SENDING = "sending"
    """Written immediately before the request: it may have been sent, and have started a run."""
    STARTED = "started"
    """The run is known."""


@dataclass(frozen=True, kw_only=True)
class TaskTry:
    """Which try of a task this is, as Airflow counts."""

    try_number: int = 1
    max_tries: int = 0
    """A user's clear of a task that is not running raises it; a retry does not."""
    clear_number: int = 0
    """Of the Dag run: every clear of any of its tasks raises it; a retry does not."""

    def is_try_of(self, other: TaskTry) -> bool:
        """Whether both are of the same try, whatever else of the Dag run was cleared meanwhile."""
        return (self.try_number, self.max_tries) == (other.try_number, other.max_tries)


@dataclass(frozen=True, kw_only=True)
class Intent:
    """A start, how far it came, and on which task_try."""

    start_key: str
    """A GUID; travels as x-ms-client-request-id, and is the run's id where the service makes it so."""
    factory: FactoryRef
    pipeline_name: str
    fingerprint: str
    """Of everything that decides what the run does: factory, pipeline, parameters, recovery."""
    task_try: TaskTry
    phase: Phase = Phase.PREPARED
    sent_at: float | None = None
    """When the request was about to be sent, in epoch seconds of this machine's clock; None before that, or where it is
    not known."""
    run_id: str | None = None
    service_uses_key: bool = False
    """The service has been seen to use a key of ours as the run's id, so that "no such run" proves something."""
    previous_run_ids: tuple[str, ...] = ()
    """Runs that this task had before, which are never the one that is looked for."""
    try_failed: bool = False
    """The try ended by an error of its own, so that what follows on the same `max_tries` is a retry."""
    deadline: float | None = None
    """Epoch seconds at which the wait of the try that wrote this ends."""
    trigger_failures: int = 0
    """How often in this try the wait lost its trigger."""
    not_adopted_yet: bool = False
    """The run is an earlier try's, and has not been adopted yet: if it comes to nothing, another is started."""

    def to_json(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            **asdict(self),
            "phase": self.phase.value,
            "previous_run_ids": list(self.previous_run_ids),
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Members that this version does not know are left out: a newer one may have written them."""
        fields = _members(cls, stored)
        return cls(
            **{
                **fields,
                "factory": FactoryRef(**_members(FactoryRef, fields["factory"])),
                "task_try": TaskTry(**_members(TaskTry, fields["task_try"])),
                "phase": Phase(fields["phase"]),
                "previous_run_ids": tuple(fields["previous_run_ids"]),
            }
        )

    def started(self, run_id: str) -> Self:
        return replace(
            self, phase=Phase.STARTED, run_id=run_id, service_uses_key=run_id.lower() == self.start_key.lower()
        )

    def after(self, older: Intent) -> Self:
        """This intent, of a start that follows on `older`."""
        previous = (*older.previous_run_ids, *([older.run_id] if older.run_id else []))[-MOST_PREVIOUS_RUNS:]
        # What one factory does proves nothing of another.
        return replace(
            self, service_uses_key=older.service_uses_key and older.factory == self.factory, previous_run_ids=previous
        )


def fingerprint(
    factory: FactoryRef, pipeline_name: str, parameters: Mapping[str, Any] | None, recovery: Recovery
) -> str:
    """The same for what would run the same, whatever the order of parameters or the case of names."""
    address = [part.lower() for part in (*asdict(factory).values(), pipeline_name)]
    text = json.dumps([address, dict(parameters or {}), asdict(recovery)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class StartNew:
    """Start a new run, once the older one is over."""

    older: Intent | None = None


@dataclass(frozen=True, kw_only=True)
class ResolveLostStart:
    """Find out what became of a start that may have been sent."""

    intent: Intent


@dataclass(frozen=True, kw_only=True)
class Adopt:
    """Go on with a run that an earlier try started."""

    intent: Intent


Decision = StartNew | ResolveLostStart | Adopt


def was_cleared(stored: Intent, now: TaskTry) -> bool:
    """Whether a user cleared the task after `stored` was written, rather than Airflow retrying it.

    A clear of a running task leaves `max_tries`, and only the Dag run's count shows it; that count also rises when another
    task is cleared. So where it alone has changed, and the earlier try did not say that it failed by itself, the clear is
    taken to have been ours: starting again, once the older run is over, does less harm than a clear that runs nothing.
    """
    before = stored.task_try
    return before.max_tries != now.max_tries or (before.clear_number != now.clear_number and not stored.try_failed)


def decide(stored: Intent | None, now: TaskTry, wanted_fingerprint: str) -> Decision:
    """What the try `now`, which wants a run of fingerprint `wanted_fingerprint`, does about what an earlier try wrote."""
    if stored is None:
        return StartNew()
    # A try that goes on, after its trigger has failed, is neither cleared nor given other parameters.
    if not stored.task_try.is_try_of(now) and (was_cleared(stored, now) or stored.fingerprint != wanted_fingerprint):
        return StartNew(older=stored)
    if stored.phase is Phase.PREPARED:
        return StartNew()
    return ResolveLostStart(intent=stored) if stored.phase is Phase.SENDING else Adopt(intent=stored)


def read_intent(stored: object, otherwise: Intent) -> Intent | None:
    """The intent in `stored`; None where there is none.

    What cannot be read still says that something was started, or nearly: it becomes `otherwise` (an intent of the present
    try) in a phase that makes it be looked for, under the key and run id that can be made out.
    """
    if stored is None:
        return None
    try:
        if isinstance(stored, Mapping):
            return Intent.from_json(stored)
    except (AttributeError, KeyError, TypeError, ValueError):
        log.debug("not an intent that version %d can read", VERSION, exc_info=True)
    run_id, key = (_guid(stored, name) for name in ("run_id", "start_key"))
    log.warning(
        "What an earlier try wrote down about its start cannot be read, perhaps by another version of this package. "
        "Looking for its run at the service instead (%s).",
        f"run {run_id or key}" if run_id or key else "by pipeline and parameters",
    )
    found = replace(otherwise, phase=Phase.SENDING, start_key=key or otherwise.start_key, sent_at=None)
    return found.started(run_id) if run_id else found


def _members(kind: type, stored: Mapping[str, Any]) -> dict[str, Any]:
    """Of what is stored, what `kind` has a member for."""
    known = {member.name for member in dataclass_fields(kind)}
    return {name: value for name, value in stored.items() if name in known}


def _guid(stored: object, name: str) -> str | None:
    value = stored.get(name) if isinstance(stored, Mapping) else None
    try:
        return str(uuid.UUID(value)) if isinstance(value, str) else None
    except ValueError:
        return None

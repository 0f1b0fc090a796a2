"""Asks the service for the runs of earlier tries, where Airflow stores nothing between tries. `try_keys` decides what they mean.

    1. ask for the keys of this try and of all earlier ones
    2. if the try would start a run, and the key of the previous try is unknown: ask for that key again for a while,
       because the service may still be working on a start whose process was killed
    3. if no key is known: either nothing was started, or the factory makes its own run ids. If no other run of the
       factory shows that it uses start keys (`uses_start_keys`), read the run list

In the list, the correlation parameter of a run may hold the key of an earlier try. If a run is only similar, a retry fails,
because the run may be the run of an earlier try.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from airflow_adf_mi.adf.config.addresses import FactoryRef
from airflow_adf_mi.adf.errors import AdfAmbiguousStartError, AdfAuthenticationError, AdfError, AdfNotFoundError
from airflow_adf_mi.adf.models import PipelineRun, RunStatus
from airflow_adf_mi.adf.retrying import is_for_good
from airflow_adf_mi.adf.routines import Pause, Routine, ServiceTime
from airflow_adf_mi.adf.starting.create_run import LATE_SEARCH_SECONDS, SEARCH_PAUSE_SECONDS
from airflow_adf_mi.adf.starting.find_run import (
    START_CLOCK_SLACK_SECONDS,
    Likeness,
    get_run_patiently,
    likeness,
    listed,
    read_list,
    uses_start_keys,
)
from airflow_adf_mi.adf.starting.intent import Intent
from airflow_adf_mi.adf.starting.journal import claims_of_others
from airflow_adf_mi.adf.starting.run_list import with_patience
from airflow_adf_mi.adf.starting.start import Start
from airflow_adf_mi.adf.starting.try_keys import KnownRun, TryKeys, intent_of, last_wanted, newness
from airflow_adf_mi.adf.timing import Timing

log = logging.getLogger(__name__)

_REPLACED = (RunStatus.FAILED, RunStatus.CANCELLED)
"""Statuses of runs after which a retry starts another run."""


@dataclass(frozen=True, kw_only=True)
class EarlierStart:
    """What the service knows of this task's starts."""

    intent: Intent | None
    """The start that the present try must continue or end, in the form of a stored intent. None if there is none."""
    known_ids: tuple[str, ...]
    """The ids of all runs that were found by a key of this task, the newest last."""
    unknown_keys: tuple[str, ...]
    """The keys of earlier tries that the service does not know. Their runs may still appear, or may have other ids."""
    last: PipelineRun | None
    """The run of this task's last try that has the pipeline and the parameters of the present one; None if there is none."""
    own_key: str
    """The key for a new start of the present try. The service does not know it yet."""
    service_uses_key: bool
    """Whether the service knows a run by one of the keys, so that the factory uses our keys as run ids."""


def find_earlier_start(
    start: Start, keys: TryKeys, *, timing: Timing, ended: frozenset[str] = frozenset()
) -> Routine[EarlierStart]:
    """Ask the service for the keys of this try and of all earlier ones.

    Raises `AdfError` if the service does not answer: then a second run could be started. Raises `AdfAmbiguousStartError` if an
    earlier try may have started a run that cannot be identified.

    :param ended: as in `intent_of`.
    """
    now = keys.now.try_number
    generation, own = yield from _runs_of_try(start.factory, keys, now, timing=timing)
    known = list(own)
    number = now
    # If the key of this try is known, a deleted Dag run had the same name. It may have come further than this Dag run.
    while own and (later := (yield from _runs_of_try(start.factory, keys, number := number + 1, timing=timing))[1]):
        known += later
    unknown = []
    for number in range(now - 1, 0, -1):
        unused, runs = yield from _runs_of_try(start.factory, keys, number, timing=timing)
        known += runs
        unknown.append(keys.key(number, unused))
    clock_ahead = timing.clock() - (yield ServiceTime())
    if not any(found.try_number == now - 1 for found in known) and _leads_to_a_start(
        intent_of(known, start, keys, clock_ahead=clock_ahead, ended=ended), known
    ):
        known += yield from _late_runs(start, keys, timing=timing)
    uses_key = bool(known)
    if not known and (keys.is_retry or (start.correlation_parameter is not None and now > 1)):
        # An earlier try may have started a run with another id.
        uses_key = yield from uses_start_keys(start.factory, start.pipeline_name)
        if not uses_key:
            known = yield from _listed_runs(start, keys, clock_ahead=clock_ahead, timing=timing)
    return EarlierStart(
        intent=intent_of(known, start, keys, clock_ahead=clock_ahead, ended=ended),
        known_ids=tuple(dict.fromkeys(found.run.run_id for found in sorted(known, key=newness))),
        unknown_keys=tuple(reversed(unknown)),
        last=last_wanted(known, start, before=now),
        own_key=keys.key(now, generation),
        service_uses_key=uses_key,
    )


def _leads_to_a_start(intent: Intent | None, known: list[KnownRun]) -> bool:
    """Whether this try would start a run, because no earlier run is active or has succeeded."""
    statuses = {found.run.run_id: found.run.status for found in known}
    return intent is None or statuses[str(intent.run_id)] in _REPLACED


def _late_runs(start: Start, keys: TryKeys, *, timing: Timing) -> Routine[list[KnownRun]]:
    """Wait for the run of the previous try. The service may still be working on a start whose process was killed."""
    now = keys.now.try_number
    if now == 1:
        return []
    until = timing.clock() + LATE_SEARCH_SECONDS
    if keys.previous_ended_by is not None:
        until = max(until, keys.previous_ended_by + start.settle)
    while timing.clock() < until:
        yield Pause(min(SEARCH_PAUSE_SECONDS, max(0.1, until - timing.clock())))
        _, found = yield from _runs_of_try(start.factory, keys, now - 1, timing=timing)
        if found:
            return found
    return []


def _listed_runs(start: Start, keys: TryKeys, *, clock_ahead: float, timing: Timing) -> Routine[list[KnownRun]]:
    """The runs of this Dag run that carry a key of an earlier try in the correlation parameter.

    Raises `AdfAmbiguousStartError` if a retry finds a run that is only similar, unless the author of the Dag allows another
    start. Raises `AdfError` if the list cannot be read.
    """
    since = None if keys.dag_run_began is None else keys.dag_run_began - clock_ahead - START_CLOCK_SLACK_SECONDS
    runs, error = yield from with_patience(lambda: read_list(start.criteria(), since, timing=timing), timing=timing)
    if error is not None:
        raise _unknown(keys.key(keys.now.try_number - 1), error) from error
    known, similar = [], []
    for run in runs:
        began = run.started_at or run.last_updated
        if began is None or (since is not None and began.timestamp() < since):
            continue
        for number in range(1, keys.now.try_number):
            how = likeness(run, start.criteria(), keys.key(number), began.timestamp())
            if how is Likeness.PROVEN:
                known.append(KnownRun(try_number=number, key=keys.key(number), run=run))
            elif how is Likeness.POSSIBLE and run not in similar and run.status not in _REPLACED:
                similar.append(run)
    claimed = (yield claims_of_others()) if similar else frozenset()
    similar = [run for run in similar if run.run_id not in claimed]
    if known or not similar or not keys.is_retry:
        return known
    if start.on_ambiguous == "start":
        log.warning(
            "Starting a run, because on_ambiguous_start is 'start'. %d similar run(s) are listed.", len(similar)
        )
        return []
    raise AdfAmbiguousStartError(
        f"An earlier try of this task may have started pipeline {start.pipeline_name!r} in {start.factory}. This version of "
        "Airflow keeps no record of it, no run of the factory has a start key of this package as its id, and the list has "
        f"{len(similar)} similar run{'s' if len(similar) > 1 else ''}: {listed(similar)}. So nothing was started. A retry "
        "searches again. Or check the pipeline's runs in ADF Studio: if none of them is this task's, clear the task. The cleared "
        "task starts a new run. To avoid this doubt in future, set correlation_parameter to a parameter that the pipeline "
        "declares for this purpose.",
        request_id=keys.key(keys.now.try_number - 1),
        candidates=tuple(similar),
    )


def _unknown(key: str, error: AdfError) -> AdfError:
    return AdfError(
        f"It could not be checked whether an earlier try of this task has started a run (start key {key}). So nothing was "
        "started. Remove the cause below. A retry asks again; if no try is left, clear the task. Or check in ADF Studio that no "
        f"run of this task is active, and run the task with durable=False. {error}"
    )


def _runs_of_try(
    factory: FactoryRef, keys: TryKeys, number: int, *, timing: Timing
) -> Routine[tuple[int, list[KnownRun]]]:
    """The first generation of a try whose key is unknown, and the runs of the generations before it."""
    known: list[KnownRun] = []
    is_first = keys.now.try_number == 1
    while True:
        key = keys.key(number, len(known))
        seen = yield from get_run_patiently(factory, key, timing=timing, is_final=_is_final)
        if isinstance(seen, PipelineRun):
            known.append(KnownRun(try_number=number, key=key, run=seen))
        elif isinstance(seen, AdfNotFoundError) and (seen.missing == "run" or (seen.missing and is_first)):
            # Where there is no factory, a first try has no earlier run. createRun reports what is missing.
            return len(known), known
        elif isinstance(seen, AdfAuthenticationError) or is_for_good(seen):
            # Without a token or a usable connection, nothing can be started either.
            raise seen
        else:
            raise _unknown(key, seen) from seen


def _is_final(error: AdfError) -> bool:
    """Whether the same question always gets the same answer: nothing is there, or nothing can be sent."""
    is_refused = isinstance(error, AdfAuthenticationError) and not error.transient
    return (isinstance(error, AdfNotFoundError) and error.missing is not None) or is_for_good(error) or is_refused

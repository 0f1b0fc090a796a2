"""Finds the runs of earlier tries without a store: by start keys that every try can compute.

The problem: before Airflow 3.3, nothing that a try stores outlives the try. So a retry cannot read which key an earlier try sent.
Instead, a key is a digest of the task, the number of the try and a generation. Each try asks the service for the keys of all
earlier tries. What it does with a run that it finds depends on why this try began:

    the run began before     the run's try came      the run's try came
    this Dag run began       before a clear          after the last clear
    -----------------------  ----------------------  -------------------------------------------
    the Dag run was deleted  the number of the try   the newest such run is adopted, if it has
    and made again, or       is at most              the wanted parameters
    began again after it     max_tries - retries
    had ended
    superseded               superseded              superseded, if there is a newer one

A superseded run must end before another run is adopted or started. It is cancelled, or only waited for (`start_or_adopt`).

Why `max_tries - retries`: a clear sets `max_tries` of a task to the number of its last try plus its `retries`. If somebody
edits `retries`, the difference may be impossible. Then all earlier runs count as superseded, because a run that ends too early
does less harm than a clear that starts no run.

Why a generation: a Dag run that is deleted and made again has the same digests. A key must not be sent twice. So the generation
is counted up until the service does not know the key.

All this needs a factory that uses request ids as run ids, as in every recording that shows both ids (docs/starting-once.md). If
no key of an earlier try is known, either nothing was started, or the factory makes its own run ids. The other runs of the factory
show which of both it is (`uses_start_keys`). If they do not, the try reads the run list. There, the correlation parameter of a
run may hold the key of an earlier try. If a run is only similar, the try fails.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

from airflow_adf_mi.adf.config.addresses import FactoryRef
from airflow_adf_mi.adf.errors import AdfAmbiguousStartError, AdfAuthenticationError, AdfError, AdfNotFoundError
from airflow_adf_mi.adf.models import PipelineRun, RunStatus
from airflow_adf_mi.adf.retrying import backoff, is_for_good
from airflow_adf_mi.adf.routines import Pause, Routine, ServiceTime
from airflow_adf_mi.adf.starting.create_run import LATE_SEARCH_SECONDS, SEARCH_PAUSE_SECONDS, Start
from airflow_adf_mi.adf.starting.find_run import (
    START_CLOCK_SLACK_SECONDS,
    STATUS_CHECK_PATIENCE_SECONDS,
    Likeness,
    get_run_patiently,
    likeness,
    read_list,
    same_value,
    uses_start_keys,
)
from airflow_adf_mi.adf.starting.intent import Intent, TaskTry
from airflow_adf_mi.adf.starting.journal import claims_of_others
from airflow_adf_mi.adf.starting.start_key import digest_key
from airflow_adf_mi.adf.timing import Timing

log = logging.getLogger(__name__)

DAG_RUN_SLACK_SECONDS = 2.0
"""A run may seem to begin this many seconds before its Dag run, because the service's `Date` has whole seconds only. Nobody
deletes a Dag run and makes another one in so short a time."""
_REPLACED = (RunStatus.FAILED, RunStatus.CANCELLED)
"""Statuses of runs after which a retry starts another run."""


@dataclass(frozen=True, kw_only=True)
class TryKeys:
    """The start keys of a task's tries, and the facts that show which runs a try may adopt."""

    deployment: str
    """What distinguishes this Airflow from others that run the same Dag in the same factory."""
    dag_id: str
    dag_run_id: str
    task_id: str
    map_index: int = -1
    now: TaskTry
    """The present try."""
    retries: int
    """The task's `retries`, as the Dag file has it now."""
    previous_ended_by: float | None = None
    """Epoch seconds at which the previous try had ended: the begin of this try, minus the task's `retry_delay`."""
    dag_run_began: float | None
    """When Airflow began the Dag run, in epoch seconds. If a task of an ended Dag run is cleared, the Dag run begins again."""

    def key(self, try_number: int, generation: int = 0) -> str:
        """The start key of a try."""
        return digest_key(
            self.deployment, self.dag_id, self.dag_run_id, self.task_id, self.map_index, try_number, generation
        )

    @property
    def obsolete_through(self) -> int:
        """The number of the last try that a clear made obsolete; 0 if no try is obsolete."""
        before_clear = self.now.max_tries - self.retries
        earlier = self.now.try_number - 1
        return before_clear if 0 <= before_clear <= earlier else earlier


@dataclass(frozen=True, kw_only=True)
class KnownRun:
    """A run that carries the key of a try: as its id, or in the correlation parameter."""

    try_number: int
    key: str
    run: PipelineRun


@dataclass(frozen=True, kw_only=True)
class EarlierStart:
    """What the service knows of this task's starts."""

    intent: Intent | None
    """The start that the present try must continue or end, in the form of a stored intent. None if there is none."""
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

    :param ended: ids of runs that have ended, although the service may still show them as active.
    """
    now = keys.now.try_number
    generation, own = yield from _runs_of_try(start.factory, keys, now, timing=timing)
    known = list(own)
    number = now
    # If the key of this try is known, a deleted Dag run had the same name. It may have come further than this Dag run.
    while own and (later := (yield from _runs_of_try(start.factory, keys, number := number + 1, timing=timing))[1]):
        known += later
    for number in range(now - 1, 0, -1):
        known += (yield from _runs_of_try(start.factory, keys, number, timing=timing))[1]
    clock_ahead = timing.clock() - (yield ServiceTime())
    if not any(found.try_number == now - 1 for found in known) and _leads_to_a_start(
        intent_of(known, start, keys, clock_ahead=clock_ahead, ended=ended), known
    ):
        known += yield from _late_runs(start, keys, timing=timing)
    uses_key = bool(known)
    is_retry = keys.obsolete_through < now - 1
    if not known and (is_retry or (start.correlation_parameter is not None and now > 1)):
        # An earlier try may have started a run with another id.
        uses_key = yield from uses_start_keys(start.factory, start.pipeline_name)
        if not uses_key:
            known = yield from _listed_runs(start, keys, is_retry=is_retry, timing=timing)
    return EarlierStart(
        intent=intent_of(known, start, keys, clock_ahead=clock_ahead, ended=ended),
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


def _listed_runs(start: Start, keys: TryKeys, *, is_retry: bool, timing: Timing) -> Routine[list[KnownRun]]:
    """The runs of this Dag run that carry a key of an earlier try in the correlation parameter.

    Raises `AdfAmbiguousStartError` if a retry finds a run that is only similar, unless the author of the Dag allows another
    start. Raises `AdfError` if the list cannot be read.
    """
    clock_ahead = timing.clock() - (yield ServiceTime())
    since = None if keys.dag_run_began is None else keys.dag_run_began - clock_ahead - START_CLOCK_SLACK_SECONDS
    until = timing.clock() + STATUS_CHECK_PATIENCE_SECONDS
    failures = 0
    while True:
        runs, error = yield from read_list(start.criteria(), since, timing=timing)
        if error is None:
            break
        failures += 1
        pause = backoff(failures, getattr(error, "retry_after", None), timing.jitter())
        if timing.clock() + pause > until:
            raise _unknown(keys.key(keys.now.try_number - 1), error) from error
        yield Pause(pause)
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
    if known or not similar or not is_retry:
        return known
    if start.on_ambiguous == "start":
        log.warning(
            "Starting a run, because on_ambiguous_start is 'start'. %d similar run(s) are listed.", len(similar)
        )
        return []
    listed = ", ".join(f"{run.run_id} ({run.status}, began {run.started_at})" for run in similar[:10])
    raise AdfAmbiguousStartError(
        f"An earlier try of this task may have started pipeline {start.pipeline_name!r} in {start.factory}. This version of "
        "Airflow keeps no record of it, no run of the factory has a start key of this package as its id, and the list has "
        f"{len(similar)} similar run{'s' if len(similar) > 1 else ''}: {listed}. So nothing was started. A retry searches "
        "again. Or check the pipeline's runs in ADF Studio: if none of them is this task's, clear the task. The cleared task "
        "starts a new run. To avoid this doubt in future, set correlation_parameter to a parameter that the pipeline declares "
        "for this purpose.",
        request_id=keys.key(keys.now.try_number - 1),
        candidates=tuple(similar),
    )


def _unknown(key: str, error: AdfError) -> AdfError:
    return AdfError(
        f"The service did not answer whether an earlier try of this task has started a run (start key {key}). So nothing was "
        "started. A retry asks again; if no try is left, clear the task. Or check in ADF Studio that no run of this task is "
        f"active, and run the task with durable=False. {error}"
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


def intent_of(
    known: list[KnownRun], start: Start, keys: TryKeys, *, clock_ahead: float, ended: frozenset[str] = frozenset()
) -> Intent | None:
    """The intent that the present try would have read from a store. Pure.

    :param known: the runs that the service knows.
    :param clock_ahead: how many seconds this machine's clock is ahead of the service's clock.
    :param ended: as in `find_earlier_start`.
    """
    usable = [found for found in known if _is_usable(found, start, keys, clock_ahead=clock_ahead)]
    newest = max(usable, key=lambda found: found.try_number, default=None)
    for found in known:
        if found is not newest and not found.run.is_terminal and found.run.run_id not in ended:
            # A clear raises max_tries. So a try with another max_tries looks like a try before a clear (`intent.was_cleared`).
            return _started(found, start, replace(keys.now, max_tries=-1))
    return None if newest is None else _started(newest, start, keys.now)


def _started(found: KnownRun, start: Start, task_try: TaskTry) -> Intent:
    of_try = start.intent(replace(task_try, try_number=found.try_number))
    return replace(of_try, start_key=found.key).started(found.run.run_id)


def _is_usable(found: KnownRun, start: Start, keys: TryKeys, *, clock_ahead: float) -> bool:
    """Whether a run may be adopted: it began in this Dag run, after the last clear, and is the wanted run. In doubt: False."""
    began = found.run.started_at or found.run.last_updated
    if began is None or keys.dag_run_began is None:
        return False
    is_of_dag_run = began.timestamp() + clock_ahead >= keys.dag_run_began - DAG_RUN_SLACK_SECONDS
    is_after_clear = keys.obsolete_through < found.try_number <= keys.now.try_number
    return is_of_dag_run and is_after_clear and _is_wanted(found.run, start)


def _is_wanted(run: PipelineRun, start: Start) -> bool:
    """Whether the run is of the pipeline, and has the parameters, that this try would start."""
    sent = start.parameters or {}
    # The service drops parameters that the pipeline does not declare, and adds default values.
    shown = {name: text for name, text in run.parameters.items() if name in sent}
    return run.pipeline_name.lower() == start.pipeline_name.lower() and all(
        same_value(sent[name], text) for name, text in shown.items()
    )

"""What a try concludes from the runs that carry the start keys of its task, where nothing is stored between tries. Pure.

The problem: before Airflow 3.3, nothing that a try stores outlives the try. So a retry cannot read which key an earlier try sent.
Instead, a key is a digest of the task, the number of the try and a generation, which every try can compute. `earlier_tries` asks
the service for the runs. What a try does with a run depends on why this try began:

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
does less harm than a clear that starts no run. Some edits make a wrong difference that is possible (docs/versions.md).

Why a generation: a Dag run that is deleted and made again has the same digests. A key must not be sent twice. So the generation
is counted up until the service does not know the key.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from airflow_adf_mi.adf.models import PipelineRun
from airflow_adf_mi.adf.starting.find_run import has_parameters
from airflow_adf_mi.adf.starting.intent import Intent, TaskTry
from airflow_adf_mi.adf.starting.start import Start
from airflow_adf_mi.adf.starting.start_key import digest_key

DAG_RUN_SLACK_SECONDS = 2.0
"""A run may seem to begin this many seconds before its Dag run, because the service's `Date` has whole seconds only. Nobody
deletes a Dag run and makes another one in so short a time."""


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

    @property
    def is_retry(self) -> bool:
        """Whether an earlier try counts for the present one: it came after the last clear."""
        return self.obsolete_through < self.now.try_number - 1


@dataclass(frozen=True, kw_only=True)
class KnownRun:
    """A run that carries the key of a try: as its id, or in the correlation parameter."""

    try_number: int
    key: str
    run: PipelineRun


def intent_of(
    known: Sequence[KnownRun],
    start: Start,
    keys: TryKeys,
    *,
    clock_ahead: float,
    ended: frozenset[str] = frozenset(),
) -> Intent | None:
    """The intent that the present try would have read from a store.

    :param known: the runs that the service knows.
    :param clock_ahead: how many seconds this machine's clock is ahead of the service's clock.
    :param ended: ids of runs that have ended, although the service may still show them as active.
    """
    usable = [found for found in known if _is_usable(found, start, keys, clock_ahead=clock_ahead)]
    newest = max(usable, key=newness, default=None)
    for found in known:
        if found is not newest and not found.run.is_terminal and found.run.run_id not in ended:
            # A clear raises max_tries. So a try with another max_tries looks like a try before a clear (`intent.was_cleared`).
            return _started(found, start, replace(keys.now, max_tries=-1))
    return None if newest is None else _started(newest, start, keys.now)


def last_wanted(known: Sequence[KnownRun], start: Start, *, before: int) -> PipelineRun | None:
    """The run of the last try before the try `before` that is of the pipeline, and has the parameters, that this try would start.

    Runs of the present try, and of later ones, belong to a deleted Dag run with the same name.
    """
    wanted = [found for found in known if found.try_number < before and _is_wanted(found.run, start)]
    return max(wanted, key=newness).run if wanted else None


def newness(found: KnownRun) -> tuple[int, float]:
    """Sorts the runs of a try: it has several after a deleted Dag run. And a rerun has the correlation parameter of its group."""
    began = found.run.started_at or found.run.last_updated
    return found.try_number, 0.0 if began is None else began.timestamp()


def _started(found: KnownRun, start: Start, task_try: TaskTry) -> Intent:
    of_try = start.intent(replace(task_try, try_number=found.try_number))
    intent = replace(of_try, start_key=found.key).started(found.run.run_id)
    run = found.run
    if intent.service_uses_key or run.run_group_id in (None, run.run_id):
        return intent
    # A rerun has the correlation parameter of its group. It is ours, or somebody began it in ADF Studio: it is never cancelled.
    may_be_ours = start.retry_from_failure != "never"
    began = run.started_at or run.last_updated
    return replace(
        intent,
        is_foreign=True,
        rerun_of=run.run_group_id,
        run_group_id=run.run_group_id,
        sent_at=began.timestamp() if may_be_ours and began is not None else None,
    )


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
    return run.pipeline_name.lower() == start.pipeline_name.lower() and has_parameters(run, start.parameters or {})

"""The journal of a task on a worker: its intent in the task's store (`try_store`), and claims of mapped tasks in XComs."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow.sdk.execution_time.xcom import XCom

from airflow_adf_mi._airflow.task_instance import RUN_ID_KEY
from airflow_adf_mi._airflow.try_store import STORE, store_of
from airflow_adf_mi._airflow.xcoms import xcom_address
from airflow_adf_mi.adf.errors import AdfError
from airflow_adf_mi.adf.starting.intent import Intent, TaskTry

if TYPE_CHECKING:
    from airflow.sdk import Context

log = logging.getLogger(__name__)

STATE_KEY = "airflow_adf_mi.intent"
"""Key in the task's store. The task state store survives retries, killed workers and clears, and is deleted with the Dag run."""


class TaskJournal:
    """The journal of the task instance in `context`.

    :param context: the task's context.
    """

    def __init__(self, context: Context) -> None:
        self._store = store_of(context)
        self._ti: Any = context["ti"]

    def stored(self) -> object:
        """What an earlier try, or an earlier part of this try, stored; None if there is nothing.

        Raises `AdfError` if the store cannot be read.
        """
        try:
            return self._store.get(STATE_KEY, None)
        except Exception as e:
            raise AdfError(
                f"It is not known what this task has started, because {STORE} could not be read. A run that was started is not "
                "affected, and no other run was started now. The next try reads the store again; if no try is left, clear the "
                f"task. Or set durable=False to work without the store. {e}"
            ) from e

    def save(self, intent: Intent) -> None:
        try:
            self._store.set(STATE_KEY, intent.to_json())
        except Exception as e:
            raise AdfError(
                f"The intent to start pipeline {intent.pipeline_name!r} (start key {intent.start_key}) could not be stored in "
                f"{STORE}, so nothing was started. The next try stores it again; if no try is left, clear the "
                f"task. Or set durable=False to work without the store. {e}"
            ) from e

    def save_best_effort(self, intent: Intent) -> None:
        try:
            self._store.set(STATE_KEY, intent.to_json())
        except Exception as e:  # noqa: BLE001  whatever Airflow's API fails with must not end the wait
            log.warning(
                "Run %s continues, but could not be recorded in %s. A retry of this task finds the run by its start key %s. %s",
                intent.run_id,
                STORE,
                intent.start_key,
                e,
            )

    def failed(self, now: TaskTry) -> None:
        """Record that the try `now` failed by itself, if the stored intent belongs to it."""
        try:
            intent = Intent.from_json(self._store.get(STATE_KEY, None))
        except Exception as e:  # noqa: BLE001  the task fails anyway, with a more useful error
            log.debug("no intent of a failed try: %s", e)
            return
        if intent.task_try.is_try_of(now):
            # Store the present counts. Clears of other tasks may have raised the clear count, and must not look like a clear of
            # this task.
            self.save_best_effort(replace(intent, try_failed=True, task_try=now))

    def is_of_earlier_try(self, now: TaskTry) -> bool:
        """Whether the stored intent is of a try before `now`."""
        try:
            return Intent.from_json(self.stored()).task_try.try_number < now.try_number  # type: ignore[arg-type]  # checked below
        except (AdfError, AttributeError, KeyError, TypeError, ValueError) as e:
            log.debug("no intent of an earlier try: %s", e)
            return False

    def is_of_this_try(self, now: TaskTry) -> bool | None:
        """Whether the try `now` has already stored an intent; None if the store does not answer."""
        try:
            stored = self._store.get(STATE_KEY, None)
        except Exception as e:  # noqa: BLE001  the caller can decide without the store
            log.debug("The task state store does not answer. %s", e)
            return None
        try:
            return Intent.from_json(stored).task_try.is_try_of(now)
        except (AttributeError, KeyError, TypeError, ValueError):
            # Nothing is stored, or another version of this package stored the intent. So this try has not stored one.
            return False

    def claimed(self) -> frozenset[str]:
        """The runs of the other map indexes of this task: the values of their XComs `run_id`."""
        if self._ti.map_index < 0:
            return frozenset()
        theirs: Any = self._ti.xcom_pull(task_ids=self._ti.task_id, key=RUN_ID_KEY, map_indexes=None)
        ours: Any = self._ti.xcom_pull(task_ids=self._ti.task_id, key=RUN_ID_KEY, map_indexes=self._ti.map_index)
        found = list(theirs) if theirs is not None else []
        if ours in found:
            found.remove(ours)
        return frozenset(run_id for run_id in found if isinstance(run_id, str))

    def claim(self, run_id: str) -> bool:
        """Claim a run: push first, then read. If two mapped instances claim the same run, at least one of them sees the other
        claim and leaves the run.
        """
        self._ti.xcom_push(key=RUN_ID_KEY, value=run_id)
        if run_id not in self.claimed():
            return True
        # `run_id` must only name a run of this task. If the other instance withdraws as well, the run is searched for again.
        XCom.delete(RUN_ID_KEY, **xcom_address(self._ti))
        return False

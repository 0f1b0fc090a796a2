"""How often one try continues after its trigger failed.

A trigger fails if the triggerer cannot load or build it: a broken deployment, another version of this package. The run is not
affected. So the try defers again, after a growing pause. A try defers again only a few times, because a deployment that stays
broken must be reported.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from airflow_adf_mi._airflow.try_store import STORE, store_of
from airflow_adf_mi.adf.errors import AdfError

if TYPE_CHECKING:
    from airflow.sdk import Context

log = logging.getLogger(__name__)

TRIGGER_FAILURES_KEY = "airflow_adf_mi.trigger_failures"
"""Key in the task's store. The value holds the count and the try, because the store may outlive retries and clears."""
MOST_TRIGGER_FAILURES = 6
"""In one try, a wait is continued at most this many times after its trigger failed."""
FIRST_PAUSE_SECONDS = 5.0
"""Seconds before the first of these continuations. The pause doubles each time, up to a minute."""


RUN_OF_TASK = "If a run was started, it is not affected. A retry adopts it, unless the task has durable=False."
"""What a failed trigger means for the run of an operator, for errors."""


def record_trigger_failure(context: Context, *, unaffected: str = RUN_OF_TASK) -> float | None:
    """Count a failure of this try's trigger. Returns the seconds to pause before the next trigger; None after too many failures.

    Raises `AdfError` if the task's store cannot be read.

    :param unaffected: what the failure means for the run, and what to do next, for that error.
    """
    ti: Any = context["ti"]
    now = {"try_number": ti.try_number, "max_tries": ti.max_tries}
    store = store_of(context)
    try:
        stored: Any = store.get(TRIGGER_FAILURES_KEY, None)
    except Exception as e:
        raise AdfError(
            f"The trigger of this task failed, and {STORE}, where such failures are counted, could not be read. {unaffected} {e}"
        ) from e
    failures = failures_of(stored, now)
    if failures >= MOST_TRIGGER_FAILURES:
        return None
    try:
        store.set(TRIGGER_FAILURES_KEY, {**now, "failures": failures + 1})
    except Exception as e:  # noqa: BLE001  whatever Airflow's API fails with must not end the wait
        log.warning("Airflow did not store that the trigger failed, so this failure is not counted. %s", e)
    return pause_after_failures(failures)


def failures_of(stored: object, now: dict[str, int]) -> int:
    """Return the count that is stored for the try `now`."""
    if not isinstance(stored, dict) or {name: stored.get(name) for name in now} != now:
        return 0
    count = stored.get("failures")
    return count if isinstance(count, int) else 0


def pause_after_failures(failures: int) -> float:
    """Return the pause in seconds before a wait continues, after its trigger has already failed this many times."""
    return min(12 * FIRST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * float(2**failures))

"""Names of Airflow that have another home in Airflow 3.1. The other modules import them from here."""

from __future__ import annotations

from typing import Any

try:
    from airflow.sdk.configuration import conf
    from airflow.sdk.exceptions import (
        AirflowException,
        AirflowNotFoundException,
        AirflowRescheduleException,
        AirflowSensorTimeout,
        AirflowSkipException,
        AirflowTaskTimeout,
        TaskDeferralError,
        TaskDeferralTimeout,
    )
except ImportError:  # Airflow 3.1
    from airflow.configuration import conf
    from airflow.exceptions import (  # type: ignore[attr-defined,no-redef]  # Airflow 3.3 does not list them there
        AirflowException,
        AirflowNotFoundException,
        AirflowRescheduleException,
        AirflowSensorTimeout,
        AirflowSkipException,
        AirflowTaskTimeout,
        TaskDeferralError,
        TaskDeferralTimeout,
    )

__all__ = [
    "AirflowException",
    "AirflowNotFoundException",
    "AirflowRescheduleException",
    "AirflowSensorTimeout",
    "AirflowSkipException",
    "AirflowTaskTimeout",
    "TaskDeferralError",
    "TaskDeferralTimeout",
    "conf",
    "listener_manager",
    "mask_known_secrets",
    "stats_of_tasks",
    "stats_of_triggerers",
]


def stats_of_tasks() -> Any:
    """Airflow's counters and timers in the processes of tasks: an object with `incr` and `timing`."""
    try:
        from airflow.sdk.observability import stats
    except ImportError:  # Airflow 3.1 has one class for all processes
        return stats_of_triggerers()
    return stats if hasattr(stats, "incr") else stats.Stats


def stats_of_triggerers() -> Any:
    """Like `stats_of_tasks`, in triggerers."""
    try:
        from airflow.observability import stats
    except ImportError:  # Airflow 3.1
        from airflow.stats import Stats

        return Stats
    return stats if hasattr(stats, "incr") else stats.Stats


def listener_manager() -> Any:
    """The listeners of this process."""
    try:
        from airflow.sdk import listener
    except ImportError:  # Airflow 3.1
        from airflow.listeners import listener  # type: ignore[no-redef]
    return listener.get_listener_manager()


def mask_known_secrets(text: str) -> str:
    """`text` as Airflow's logs show it: without the secrets that Airflow knows, such as passwords of connections."""
    from airflow.sdk._shared.secrets_masker import redact

    return str(redact(text))

"""Choices of a Dag's author about reruns, and about runs that are already there. Dag files import this module, so it is small."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, TypeAlias, get_args

from airflow_adf_mi.adf.config.validation import check_choice, check_seconds
from airflow_adf_mi.adf.errors import AdfConfigurationError

RetryFromFailure: TypeAlias = Literal["never", "retry", "always"]
OnAmbiguousStart: TypeAlias = Literal["fail", "start", "start_if_list_is_fresh"]
OnLiveRun: TypeAlias = Literal["start", "wait", "adopt", "skip", "fail"]
OnSucceededRun: TypeAlias = Literal["start", "accept", "skip"]
WarnAfter: TypeAlias = float | Literal["usual"] | None
"""After how many seconds a run is late. "usual": earlier runs decide. None: never."""


@dataclass(frozen=True, kw_only=True)
class PresentRuns:
    """What a start does about runs of its pipeline that are already there. False if it does nothing."""

    on_live_run: OnLiveRun = "start"
    on_succeeded_run: OnSucceededRun = "start"
    succeeded_within: float | None = None
    """Seconds before now within which a run must have succeeded."""

    def __post_init__(self) -> None:
        check_choice("on_live_run", self.on_live_run, get_args(OnLiveRun))
        check_choice("on_succeeded_run", self.on_succeeded_run, get_args(OnSucceededRun))
        if (self.on_succeeded_run != "start") != (self.succeeded_within is not None):
            raise AdfConfigurationError(
                "on_succeeded_run and succeeded_within belong together: set on_succeeded_run to 'accept' or 'skip', and "
                "succeeded_within to a timedelta, or neither of them."
            )

    def __bool__(self) -> bool:
        return self.on_live_run != "start" or self.on_succeeded_run != "start"

    @property
    def compares(self) -> bool:
        """Whether a run must have equal parameters."""
        return self.on_live_run in ("adopt", "skip") or self.on_succeeded_run != "start"


def check_on_ambiguous_start(choice: object, correlation_parameter: str | None) -> None:
    """Raise `AdfConfigurationError` unless the choice exists, and has what it needs."""
    check_choice("on_ambiguous_start", choice, get_args(OnAmbiguousStart))
    if choice == "start_if_list_is_fresh" and correlation_parameter is None:
        raise AdfConfigurationError(
            "on_ambiguous_start='start_if_list_is_fresh' needs correlation_parameter, because only that parameter shows that a "
            "listed run is not this task's."
        )


def check_warn_after(value: object, *, waits: bool) -> WarnAfter:
    """Return `warn_after` in seconds, "usual" or None.

    :param waits: whether the task waits for its run.
    """
    if value is None:
        return None
    if not waits:
        raise AdfConfigurationError(
            "warn_after needs wait_for_termination=True, because only a wait notices a late run."
        )
    if value == "usual":
        return "usual"
    if isinstance(value, bool) or not isinstance(value, int | float | timedelta):
        raise AdfConfigurationError(
            f"warn_after is {value!r}; it must be a positive number of seconds, a timedelta, 'usual' or None."
        )
    return check_seconds("warn_after", value)

"""What no source establishes about the service, as switches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Self, get_args, get_origin, get_type_hints

from airflow_adf_mi.emulator.name_suggestions import near

Unfit = Literal["accept", "refuse", "fail_run"]


@dataclass
class Switches:
    """How the emulator behaves where the service's own behaviour is unverified. A default is a choice, not a claim."""

    run_id_from_request_id: bool = True
    """A run's id is the x-ms-client-request-id of its createRun, as in every recording; documented nowhere."""
    duplicate_request_id: Literal["conflict", "same", "new"] = "conflict"
    """A second createRun with a request id that is a run's id already: 409, the same run, or another run."""
    missing_parameter: Literal["refuse", "fail_run"] = "refuse"
    """A parameter without a value or default: 400, or a run that fails."""
    ill_typed_parameter: Unfit = "accept"
    """A value that is not of its parameter's declared type: taken as it is, 400, or a run that fails."""
    unknown_run_status: int = 404
    """HTTP status of PipelineRuns_Get for a run that is not there."""
    unknown_run_code: str = "NotFound"
    """Error code of the same answer; its message is the recorded one of an unknown pipeline."""
    cancel_finished_status: int = 400
    """HTTP status of PipelineRunNotRunning; only its code and message were seen."""
    recovery_of_running: Literal["accept", "refuse"] = "accept"
    """isRecovery with a reference that has not ended."""
    recovery_within_days: float | None = None
    """How old a reference may be; a limit of 30 days is told of, and was found in no source."""
    page_size: int = 100
    """Entries of a page of the query operations; 100 by a third party's comment."""
    list_lag_seconds: float = 0.0
    """How far queryPipelineRuns is behind PipelineRuns_Get; hours were reported."""
    list_frozen_at: float | None = None
    """Epoch seconds from which on queryPipelineRuns shows nothing new."""
    activity_list_lag_seconds: float = 0.0
    """How far queryActivityruns is behind."""
    list_skipped: bool = True
    """Skipped activities appear among the activity runs."""
    existence_first: bool = False
    """createRun and cancel of what is not there answer so before they look at permissions; ARM's other operations do not."""
    get_visible_after: float = 0.0
    """Seconds for which PipelineRuns_Get answers 404 after createRun."""

    def changed(self, changes: Any) -> Self:
        """With these members changed, as JSON has them. Raises `ValueError` for an unknown one, or one of the wrong type."""
        if not isinstance(changes, Mapping):
            raise ValueError("the switches must be an object")
        hints = get_type_hints(Switches)
        for name, value in changes.items():
            if name not in hints:
                raise ValueError(f"there is no switch {name!r}. {near(name, hints)}")
            if not _fits(value, hints[name]):
                raise ValueError(f"switch {name!r} cannot be {value!r}; it takes {_words(hints[name])}")
        return replace(self, **changes)


def _fits(value: Any, hint: Any) -> bool:
    if get_origin(hint) is Literal:
        return isinstance(value, str) and value in get_args(hint)
    if get_args(hint):
        return any(_fits(value, each) for each in get_args(hint))
    if hint is bool or isinstance(value, bool):
        return hint is bool and isinstance(value, bool)
    return isinstance(value, int | float if hint is float else hint)


def _words(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return " or ".join(map(repr, get_args(hint)))
    return " or ".join(each.__name__.replace("NoneType", "null") for each in get_args(hint) or (hint,))

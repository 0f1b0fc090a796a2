"""Switches for behaviour of the service that no source establishes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Self, get_args, get_origin, get_type_hints

from airflow_adf_mi.emulator.name_suggestions import did_you_mean

Unfit = Literal["accept", "refuse", "fail_run"]


@dataclass
class Switches:
    """The emulator's behaviour wherever the service's own is not verified. A default is a choice, not a claim."""

    run_id_from_request_id: bool = True
    """The run's id is the x-ms-client-request-id of its createRun, as in every recording that shows it. No document states it.
    """
    rerun_id_from_request_id: bool = True
    """Whether recovery runs follow `run_id_from_request_id`, too, as in a recording of 2020. No document states it. False: the
    service chooses their ids."""
    duplicate_request_id: Literal["conflict", "same", "new"] = "conflict"
    """A second createRun with a request id that is already the id of a run: 409, the same run, or another run."""
    missing_parameter: Literal["refuse", "fail_run"] = "refuse"
    """A parameter without a value or default: 400, or a run that fails."""
    ill_typed_parameter: Unfit = "accept"
    """A value that does not have its parameter's declared type: accepted unchanged, 400, or a run that fails."""
    unknown_run_status: int = 404
    """HTTP status of PipelineRuns_Get for a run that does not exist."""
    unknown_run_code: str = "NotFound"
    """Error code of PipelineRuns_Get for a run that does not exist. Its message is the one that was recorded for a pipeline that
    does not exist."""
    cancel_finished_status: int = 400
    """HTTP status of PipelineRunNotRunning. Only its code and message were recorded."""
    full_queue_status: int = 400
    """HTTP status of createRun if the pipeline's queue is full. The text is public, but its status is not known: 400 is a choice,
    and 429 is the other likely one. The error code is a choice, too: `TooManyRequests` for 429, `BadRequest` for others. Neither
    answer has a Retry-After header."""
    most_queued: int = 100
    """Runs of one pipeline that may wait for its concurrency. 100 is documented. A test or a demo may set a smaller number.
    Runs that need not wait are not counted, which is a choice."""
    recovery_of_running: Literal["accept", "refuse"] = "accept"
    """isRecovery with a reference that has not ended."""
    recovery_of_superseded: Literal["accept", "refuse"] = "accept"
    """isRecovery with a reference that is no longer the latest run of its group. A recording of 2020 shows that it was accepted.
    """
    recovery_within_days: float | None = None
    """How old a reference may be. Users mention a limit of 30 days, but no source states it."""
    recovery_reaches_children: bool = True
    """A recovery run from the failure starts the child of a failed ExecutePipeline again. True: the child skips the activities
    that had succeeded in the earlier child run. False: it runs from its beginning. Microsoft's page says that its activities "may
    still be skipped", but no recording shows it. The id and the group of such a child are new, which is a choice. A child of an
    ExecutePipeline that had succeeded is not started again, which is a choice, too."""
    recovery_reaches_containers: bool = True
    """A recovery run from the failure evaluates a failed ForEach, IfCondition or Switch again. True: inner activities are skipped
    by the same rule, if their iteration has the same item, or their branch is taken again. False: all of them run again. The
    source is the same page. By that page, activities inside an Until may be skipped, too. Here, all of them run again."""
    page_size: int = 100
    """Entries in a page of the query operations. A third party's comment gives 100."""
    filter_ignores_case: bool = False
    """Whether text in the filters of the query operations, such as PipelineName, is compared without case. Paths ignore case, but
    no source shows what filters do."""
    list_lag_seconds: float = 0.0
    """How far queryPipelineRuns is behind PipelineRuns_Get. Users reported hours."""
    list_frozen_at: float | None = None
    """Epoch seconds from which on queryPipelineRuns shows nothing new."""
    activity_list_lag_seconds: float = 0.0
    """How far queryActivityruns is behind."""
    list_skipped: bool = True
    """Skipped activities appear among the activity runs."""
    existence_first: bool = False
    """Whether createRun and cancel answer "not found" before they check permissions. ARM's other operations do not."""
    get_visible_after: float = 0.0
    """Seconds for which PipelineRuns_Get answers 404 after createRun."""

    def changed(self, changes: Any) -> Self:
        """A copy with changes from JSON. Raises `ValueError` for an unknown member, or one of the wrong type."""
        if not isinstance(changes, Mapping):
            raise ValueError("the switches must be an object")
        hints = get_type_hints(Switches)
        for name, value in changes.items():
            if name not in hints:
                raise ValueError(f"there is no switch {name!r}. {did_you_mean(name, hints)}")
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

"""Activities that hold other activities, or start another pipeline."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from airflow_adf_mi.emulator.errors import ServiceError
from airflow_adf_mi.emulator.pipelines.attempt import Attempt
from airflow_adf_mi.emulator.pipelines.expressions import UNKNOWN, evaluate
from airflow_adf_mi.emulator.pipelines.outcomes import Result
from airflow_adf_mi.emulator.pipelines.runs import Run
from airflow_adf_mi.emulator.pipelines.walker import Walk

DEFAULT_ITEMS = 2
"""How many items a ForEach gets if its `items` cannot be evaluated."""
DEFAULT_BATCH = 20
"""Parallel iterations of a ForEach without `isSequential` and `batchCount` (documentation)."""
MOST_ROUNDS = 1000
"""Rounds after which the emulator gives up an Until. An Until may take no time at all and never become true."""


def for_each(attempt: Attempt) -> None:
    _Loop(attempt).fill()


class _Loop:
    """A ForEach in progress: a few parallel iterations. If one fails, the others continue."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._waiting = list(enumerate(_items(attempt)))
        self._running = 0
        self._failed: list[Result] = []
        batch = attempt.number("batchCount", attempt.properties.get("batchCount"), DEFAULT_BATCH)
        is_sequential = attempt.known("isSequential", default=False, taken="iterations side by side")
        self._at_once = 1 if is_sequential is True else max(1, int(batch))

    def fill(self) -> None:
        attempt = self._attempt
        while self._waiting and self._running < self._at_once:
            index, item = self._waiting.pop(0)
            self._running += 1
            digest = hashlib.sha1(f"{attempt.entry.activity_run_id}/{index}".encode(), usedforsecurity=False)
            attempt.inside(
                list(attempt.properties.get("activities") or []),
                self._ended,
                place=index,
                item=item,
                iteration=index,
                iteration_hash=digest.hexdigest()[:32],
            )
        if not self._waiting and not self._running and not attempt.is_over:
            attempt.conclude_inner(self._failed[0] if self._failed else Result("Succeeded"))

    def _ended(self, result: Result) -> None:
        self._running -= 1
        if result.status == "Failed":
            self._failed.append(result)
        # Use an event: otherwise iterations without activities would nest as deep as the number of items.
        self._attempt.after(0, self.fill)


def _items(attempt: Attempt) -> list[Any]:
    if attempt.script.items is not None:
        return attempt.script.items
    if attempt.script.iterations is not None:
        return list(range(attempt.script.iterations))
    found = attempt.value("items")
    if isinstance(found, list):
        return list(found)
    attempt.guess("items", attempt.properties.get("items"), f"{DEFAULT_ITEMS} items", "items")
    return list(range(DEFAULT_ITEMS))


def if_condition(attempt: Attempt) -> None:
    condition = attempt.script.condition
    if condition is None:
        condition = _truth(attempt, attempt.value("expression"), "condition")
    branch = "ifTrueActivities" if condition else "ifFalseActivities"
    attempt.inside(list(attempt.properties.get(branch) or []), attempt.conclude_inner, place=branch)


def switch(attempt: Attempt) -> None:
    wanted = attempt.script.case
    if wanted is None:
        wanted = attempt.known("on", UNKNOWN, f"a case named {UNKNOWN!r}, or else the default", "case")
    cases = attempt.properties.get("cases") or []
    branch = next((case.get("activities") for case in cases if case.get("value") == str(wanted)), None)
    place = ("default",) if branch is None else ("case", str(wanted))
    if branch is None:
        branch = attempt.properties.get("defaultActivities") or []
    attempt.inside(list(branch), attempt.conclude_inner, place=place)


def until(attempt: Attempt) -> None:
    _Rounds(attempt).begin()


class _Rounds:
    """An Until in progress. A failed activity inside does not stop it (documentation). Its last round decides its end.

    In a recovery run it begins again: results of an earlier run's rounds would answer questions that its rounds ask again.
    """

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._done = 0
        self._walk: Walk | None = None

    def begin(self) -> None:
        seconds = self._attempt.span("timeout", self._attempt.properties.get("timeout"))
        self._attempt.after(seconds, lambda: self._give_up(f"Until activity timed out after {seconds:.0f} seconds."))
        self._round()

    def _round(self) -> None:
        attempt = self._attempt
        inner = list(attempt.properties.get("activities") or [])
        self._walk = attempt.inside(
            # Use an event, so that the walk is known: the condition refers to its activities.
            inner,
            lambda result: attempt.after(0, lambda: self._ended(result)),
            iteration=self._done,
        )

    def _ended(self, result: Result) -> None:
        self._done += 1
        script, walk = self._attempt.script, self._walk
        if script.iterations is not None:
            over = self._done >= script.iterations
        else:
            scope = walk.scope() if walk is not None else self._attempt.walk.scope()
            value = evaluate(self._attempt.properties.get("expression"), scope)
            over = _truth(self._attempt, value, "iterations")
        if over:
            self._attempt.conclude_inner(result)
        elif self._done >= MOST_ROUNDS:
            self._give_up(f"The emulator ends an Until after {MOST_ROUNDS} rounds; its script can say `iterations`.")
        else:
            self._round()

    def _give_up(self, message: str) -> None:
        if self._walk is not None:
            self._walk.stop()
        self._attempt.fail({"errorCode": "Timeout"}, message=message)


def execute_pipeline(attempt: Attempt) -> None:
    """Start a run, and end with it unless `waitOnCompletion` is false.

    By the documentation, waiting is the default. The specification of 2020 contradicts.
    """
    walk = attempt.walk
    waits = attempt.known("waitOnCompletion", default=True, taken="it waits") is not False
    given: Mapping[str, Any] = attempt.properties.get("parameters") or {}
    scripted = attempt.script.parameters or {}
    values = {name: evaluate(value, walk.scope()) for name, value in given.items()} | dict(scripted)
    for name, value in values.items():
        if value is UNKNOWN:
            attempt.guess(f"parameter {name!r}", given[name], "null", "parameters")

    def ended(child: Run) -> None:
        if not waits or attempt.is_over or walk.is_stopped:
            return
        if child.status == "Succeeded":
            attempt.conclude(_result(child))
        else:
            attempt.fail(
                {"errorCode": "BadRequest"}, message=child.message or f"Pipeline run {child.run_id} was cancelled."
            )

    name = attempt.properties["pipeline"]["referenceName"]
    try:
        child = walk.factory.start_child(walk.run, attempt.entry, name, values, ended, earlier=attempt.earlier(name))
    except ServiceError as e:
        attempt.fail({"errorCode": e.code}, message=e.message)
        return
    attempt.keep(name, child.progress)
    attempt.entry.output = _result(child)
    if not waits:
        attempt.conclude(_result(child))


def _result(child: Run) -> dict[str, Any]:
    result: dict[str, Any] = {"pipelineName": child.pipeline, "pipelineRunId": child.run_id}
    if child.return_value:
        result["pipelineReturnValue"] = dict(child.return_value)
    return result


def _truth(attempt: Attempt, value: Any, member: str) -> bool:
    """The value of a condition. An unknown value counts as true: an If takes that branch, and an Until ends.

    A value that is not a boolean counts by Python's rule. Both are guesses. The script's `member` would decide them.
    """
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    truth = True if value is UNKNOWN else False if isinstance(value, str) else bool(value)
    attempt.guess("expression", attempt.properties.get("expression"), str(truth).lower(), member)
    return truth


TYPES: Mapping[str, Callable[[Attempt], None]] = {
    "ForEach": for_each,
    "IfCondition": if_condition,
    "Switch": switch,
    "Until": until,
    "ExecutePipeline": execute_pipeline,
}

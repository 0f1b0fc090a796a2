"""What each type of activity does when it is started."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from airflow_adf_mi.emulator.expressions import UNKNOWN, evaluate
from airflow_adf_mi.emulator.runs import ActivityRun, Run
from airflow_adf_mi.emulator.script import ActivityScript
from airflow_adf_mi.emulator.walker import Result, Walk

End = Callable[[Result], None]

DEFAULT_ITEMS = 2
"""How many items a ForEach has whose `items` can not be evaluated."""
MOST_ROUNDS = 100
"""After how many rounds an Until ends whose condition never comes true: the emulator has no use for endless ones."""


def execute(walk: Walk, activity: Mapping[str, Any], end: End) -> None:
    """Start an activity; `end` is called when it has ended, now or later."""
    if activity.get("state") == "Inactive":
        marked = activity.get("onInactiveMarkAs", "Succeeded")
        walk.record(activity, status=marked, ended=walk.factory.now())
        end(Result(marked, "The activity is inactive." if marked == "Failed" else ""))
        return
    _Attempt(walk, activity, end, 1).begin()


class _Attempt:
    """One attempt of an activity; a failed one is followed by another while its policy has retries left."""

    def __init__(self, walk: Walk, activity: Mapping[str, Any], end: End, number: int) -> None:
        self.walk = walk
        self.activity = activity
        self.properties: Mapping[str, Any] = activity.get("typeProperties") or {}
        self.script: ActivityScript = walk.script(activity["name"])
        self._end = end
        self._number = number
        self.entry: ActivityRun = walk.record(activity, retry_attempt=number if number > 1 else None)

    def begin(self) -> None:
        special = _TYPES.get(self.activity["type"])
        if special is not None:
            special(self)
        else:
            self.after(self.seconds(), self.conclude)

    def seconds(self) -> float:
        return self.walk.factory.script.seconds if self.script.seconds is None else self.script.seconds

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Later, unless the run has been cancelled by then."""
        self.walk.factory.after(seconds, lambda: None if self.walk.run.is_over else action())

    def value(self, name: str) -> Any:
        return evaluate(self.properties.get(name), self.walk.scope())

    def conclude(self, output: Mapping[str, Any] | None = None) -> None:
        """End as the script says, with its output or else with `output`."""
        script = self.script
        if (
            script.outcome == "Failed"
            or self._number <= script.fail_attempts
            or self.walk.iteration in script.fail_iterations
        ):
            self.fail(script.error)
        else:
            self.succeed(output or {})

    def succeed(self, output: Mapping[str, Any]) -> None:
        output = self.script.output if self.script.output is not None else output
        self._close("Succeeded", output=output)
        self.walk.run.outputs[self.entry.name] = output
        self._end(Result("Succeeded"))

    def fail(self, error: Mapping[str, Any] | None = None, *, message: str | None = None) -> None:
        full = {
            "errorCode": "2200",
            "message": message or "ErrorCode=EmulatedFailure, the script says that this activity fails.",
            "failureType": "UserError",
            "target": self.entry.name,
            "details": [],
            **(error or {}),
        }
        self._close("Failed", error=full)
        self.walk.run.outputs[self.entry.name] = self.script.output or {}
        policy = self.activity.get("policy") or {}
        if self._number <= int(policy.get("retry") or 0):
            pause = float(policy.get("retryIntervalInSeconds") or 30)
            self.after(pause, lambda: _Attempt(self.walk, self.activity, self._end, self._number + 1).begin())
        else:
            self._end(Result("Failed", full["message"]))

    def _close(self, status: str, **members: Any) -> None:
        self.entry.status = status
        self.entry.ended = self.walk.factory.now()
        for name, value in members.items():
            setattr(self.entry, name, value)

    def inside(self, activities: list[dict[str, Any]], on_end: End, **where: Any) -> None:
        """Walk activities inside this one."""
        kept = {
            "item": self.walk.item,
            "iteration": self.walk.iteration,
            "iteration_hash": self.walk.iteration_hash,
        }
        Walk(self.walk.factory, self.walk.run, activities, on_end, **{**kept, **where}).begin()

    def conclude_inner(self, result: Result) -> None:
        """End as the activities inside did."""
        if result.status == "Failed":
            self.fail(
                {"errorCode": "BadRequest"},
                message="Activity failed because an inner activity failed; "
                f"Inner activity name: {result.failed_activity}, Error: {result.message}",
            )
        else:
            self.conclude()


def _for_each(attempt: _Attempt) -> None:
    items = attempt.script.items
    if items is None and attempt.script.iterations is not None:
        items = list(range(attempt.script.iterations))
    if items is None:
        found = attempt.value("items")
        items = list(found) if isinstance(found, list) else list(range(DEFAULT_ITEMS))
    at_once = 1 if attempt.properties.get("isSequential") else int(attempt.properties.get("batchCount") or 20)
    waiting = list(enumerate(items))
    running = 0
    failed: list[Result] = []

    def fill() -> None:
        nonlocal running
        while waiting and running < at_once:
            index, item = waiting.pop(0)
            running += 1
            digest = hashlib.sha1(f"{attempt.entry.activity_run_id}/{index}".encode(), usedforsecurity=False)
            attempt.inside(
                list(attempt.properties.get("activities") or []),
                ended,
                item=item,
                iteration=index,
                iteration_hash=digest.hexdigest()[:32],
            )
        if not waiting and running == 0:
            attempt.conclude_inner(failed[0] if failed else Result("Succeeded"))

    def ended(result: Result) -> None:
        nonlocal running
        running -= 1
        # The other iterations go on.
        if result.status == "Failed":
            failed.append(result)
        attempt.after(0, fill)

    fill()


def _if_condition(attempt: _Attempt) -> None:
    condition = attempt.script.condition
    if condition is None:
        value = attempt.value("expression")
        condition = True if value is UNKNOWN else bool(value)
    branch = attempt.properties.get("ifTrueActivities" if condition else "ifFalseActivities") or []
    attempt.inside(list(branch), attempt.conclude_inner)


def _switch(attempt: _Attempt) -> None:
    wanted = attempt.script.case if attempt.script.case is not None else attempt.value("on")
    cases = attempt.properties.get("cases") or []
    branch = next((case.get("activities") for case in cases if case.get("value") == wanted), None)
    if branch is None:
        branch = attempt.properties.get("defaultActivities") or []
    attempt.inside(list(branch), attempt.conclude_inner)


def _until(attempt: _Attempt, rounds: int = 0) -> None:
    def ended(result: Result) -> None:
        done = rounds + 1
        if attempt.script.iterations is not None:
            over = done >= attempt.script.iterations
        else:
            value = attempt.value("expression")
            over = value is UNKNOWN or bool(value)
        if result.status == "Failed" or over or done >= MOST_ROUNDS:
            attempt.conclude_inner(result)
        else:
            attempt.after(0, lambda: _until(attempt, done))

    attempt.inside(list(attempt.properties.get("activities") or []), ended)


def _wait(attempt: _Attempt) -> None:
    seconds = attempt.script.seconds
    if seconds is None:
        value = attempt.value("waitTimeInSeconds")
        seconds = float(value) if isinstance(value, int | float | str) and str(value).isdigit() else attempt.seconds()
    attempt.after(seconds, attempt.conclude)


def _fail(attempt: _Attempt) -> None:
    def end() -> None:
        message, code = attempt.value("message"), attempt.value("errorCode")
        attempt.fail({"errorCode": str(code)}, message=str(message))

    attempt.after(attempt.seconds(), end)


def _set_variable(attempt: _Attempt) -> None:
    name = attempt.properties.get("variableName", "")
    value = attempt.value("value")
    # pipelineReturnValue is not a variable of the pipeline but what its caller gets.
    if name != "pipelineReturnValue":
        attempt.walk.run.variables[name] = value
    shown = None if value is UNKNOWN else value
    attempt.after(attempt.script.seconds or 0, lambda: attempt.conclude({"name": name, "value": shown}))


def _append_variable(attempt: _Attempt) -> None:
    name = attempt.properties.get("variableName", "")
    before = attempt.walk.run.variables.get(name)
    value = attempt.value("value")
    attempt.walk.run.variables[name] = [*(before if isinstance(before, list) else []), value]
    attempt.after(attempt.script.seconds or 0, lambda: attempt.conclude({"name": name}))


def _filter(attempt: _Attempt) -> None:
    items = attempt.script.items if attempt.script.items is not None else attempt.value("items")
    items = items if isinstance(items, list) else []
    scope = attempt.walk.scope()
    kept = []
    for item in items:
        scope.item = item
        if evaluate(attempt.properties.get("condition"), scope) is not False:
            kept.append(item)
    output = {"ItemsCount": len(items), "FilteredItemsCount": len(kept), "Value": kept}
    attempt.after(attempt.script.seconds or 0, lambda: attempt.conclude(output))


def _execute_pipeline(attempt: _Attempt) -> None:
    walk = attempt.walk
    wait = attempt.properties.get("waitOnCompletion", True)
    given = {
        name: evaluate(value, walk.scope()) for name, value in (attempt.properties.get("parameters") or {}).items()
    }
    name = attempt.properties["pipeline"]["referenceName"]

    def ended(child: Run) -> None:
        if walk.run.is_over or not wait:
            return
        if child.status == "Succeeded":
            attempt.conclude({"pipelineName": child.pipeline, "pipelineRunId": child.run_id})
        else:
            attempt.fail(
                {"errorCode": "BadRequest"},
                message=child.message or f"Pipeline run {child.run_id} was cancelled.",
            )

    try:
        child = walk.factory.start_child(walk.run, attempt.entry, name, given, ended)
    except LookupError:
        attempt.fail({"errorCode": "BadRequest"}, message=f"The pipeline {name!r} was not found.")
        return
    attempt.entry.output = {"pipelineName": child.pipeline, "pipelineRunId": child.run_id}
    if not wait:
        attempt.conclude({"pipelineName": child.pipeline, "pipelineRunId": child.run_id})


_TYPES: Mapping[str, Callable[[_Attempt], None]] = {
    "ForEach": _for_each,
    "IfCondition": _if_condition,
    "Switch": _switch,
    "Until": _until,
    "Wait": _wait,
    "Fail": _fail,
    "SetVariable": _set_variable,
    "AppendVariable": _append_variable,
    "Filter": _filter,
    "ExecutePipeline": _execute_pipeline,
}

"""Activity runs as the service lists them, and a service that lists them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from airflow_adf_mi.adf.activity_failures import Explanation
from airflow_adf_mi.adf.api.operations import Call, Page
from airflow_adf_mi.adf.models import ActivityRun, PipelineRun
from airflow_adf_mi.adf.reporting.explain import (
    explaining,
)
from airflow_adf_mi.adf.routines import Pause
from airflow_adf_mi.adf.timing import Timing
from tests.support.routines import FACTORY, Clock


def inner(name: str, message: str = "boom") -> str:
    return f"Activity failed because an inner activity failed; Inner activity name: {name}, Error: {message}"


def row(
    name: str,
    kind: str = "Copy",
    *,
    message: str = "boom",
    at: int = 10,
    status: str = "Failed",
    iteration: str = "",
    attempt: int | None = None,
    child: str | None = None,
    failure_type: str = "UserError",
) -> dict[str, Any]:
    failed = status == "Failed"
    return {
        "activityName": name,
        "activityType": kind,
        "activityRunId": f"{name}-{iteration}-{attempt}",
        "activityRunStart": "2026-01-01T10:00:00Z",
        "activityRunEnd": f"2026-01-01T10:00:{at:02}Z",
        "status": status,
        "error": {
            "errorCode": "2200" if failed else "",
            "message": message if failed else "",
            "failureType": failure_type if failed else "",
        },
        "output": {"pipelineRunId": child, "pipelineName": child} if child else {},
        "retryAttempt": attempt,
        "iterationHash": iteration,
    }


class Listing:
    """A service that lists the activities of runs, and records the requests for them."""

    def __init__(self, **runs: list[dict[str, Any]]) -> None:
        self.runs = runs
        self.asked: list[str] = []
        self.pauses: list[float] = []
        self.first: list[Any] = []
        """Answers that are given before the list is."""
        self.page_size = 100
        self.clock = Clock()
        self.slow = 0.0

    def answer(self, call: Call[Any]) -> Any:
        run_id, window = call.args[2:]
        self.asked.append(run_id)
        self.clock.now += self.slow
        if self.first:
            return self.first.pop(0)
        wanted = {condition["operand"]: condition["values"] for condition in window["filters"]}
        rows = [
            ActivityRun.from_wire({**entry, "pipelineName": f"Pipeline {run_id}", "pipelineRunId": run_id})
            for entry in self.runs.get(run_id, [])
            if entry["status"] in wanted["Status"]
            and entry["activityName"] in wanted.get("ActivityName", [entry["activityName"]])
        ]
        begin = int(window.get("continuationToken", 0))
        end = begin + self.page_size
        return Page(items=rows[begin:end], continuation_token=str(end) if end < len(rows) else None)

    def explain(self, message: str | None = None, status: str = "Failed") -> Explanation:
        run = PipelineRun.from_wire(
            {
                "runId": "root",
                "pipelineName": "Root",
                "status": status,
                "message": message,
                "runStart": "2026-01-01T10:00:00Z",
            }
        )
        routine = explaining(run, FACTORY, lambda run_id: f"https://studio/{run_id}", timing=Timing(clock=self.clock))
        answer: Any = None
        while True:
            try:
                step = routine.send(answer)
            except StopIteration as end:
                # The event of a trigger carries it as JSON.
                explanation: Explanation = end.value
                return Explanation.from_json(json.loads(json.dumps(explanation.to_json())))
            answer = None
            if isinstance(step, Pause):
                self.pauses.append(step.seconds)
            else:
                assert isinstance(step, Call)
                answer = self.answer(step)


def calls_of(act: Callable[[], object]) -> int:
    """How many functions `act` calls, in Python and in C: a measure of work that other load of the machine does not change."""
    number = 0

    def count(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal number
        number += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        act()
    finally:
        sys.setprofile(before)
    return number

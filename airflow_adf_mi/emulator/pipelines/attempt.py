"""One attempt of one activity: its record, its scripted end, and the next attempt after a failure."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Mapping
from typing import Any

from airflow_adf_mi.emulator.pipelines import recovery
from airflow_adf_mi.emulator.pipelines.definitions import INNER_LISTS
from airflow_adf_mi.emulator.pipelines.expressions import UNKNOWN, evaluate
from airflow_adf_mi.emulator.pipelines.outcomes import Result
from airflow_adf_mi.emulator.pipelines.progress import Progress
from airflow_adf_mi.emulator.pipelines.runs import ActivityRun
from airflow_adf_mi.emulator.pipelines.script import ActivityScript
from airflow_adf_mi.emulator.pipelines.walker import End, Walk

DEFAULT_TIMEOUT = 7 * 86_400.0
"""Timeout in seconds of an activity or an Until that names none (specification)."""

_SPAN = re.compile(r"(?:(\d+)\.)?(\d+):(\d+):(\d+)")
_CONTAINERS = frozenset({"ForEach", "IfCondition", "Switch", "Until"})


class Attempt:
    """An attempt in progress. After a failure another attempt follows while the activity's policy has retries left."""

    def __init__(
        self,
        walk: Walk,
        activity: Mapping[str, Any],
        end: End,
        perform: Callable[[Attempt], None],
        number: int = 1,
    ) -> None:
        self.walk = walk
        self.activity = activity
        self.properties: Mapping[str, Any] = activity.get("typeProperties") or {}
        self.script: ActivityScript = walk.script(activity["name"])
        self._policy: Mapping[str, Any] = activity.get("policy") or {}
        self._end = end
        self._perform = perform
        self._number = number
        self.entry: ActivityRun = walk.record(
            activity, retry_attempt=number if number > 1 else None, input=self._input()
        )

    def begin(self) -> None:
        self._perform(self)

    @property
    def is_over(self) -> bool:
        return self.entry.ended is not None

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Run `action` later, unless this attempt has ended by then, or its walk was stopped."""
        self.walk.factory.after(seconds, lambda: None if self.is_over or self.walk.is_stopped else action())

    def seconds(self) -> float:
        """How long the attempt takes if its type has no duration of its own."""
        return self.walk.factory.script.seconds if self.script.seconds is None else self.script.seconds

    def value(self, name: str) -> Any:
        """The value of one of its `typeProperties`."""
        return evaluate(self.properties.get(name), self.walk.scope())

    def guess(self, what: str, expression: Any, taken: str, member: str | None = None) -> None:
        """Log and list a guess: `taken` replaces an unknown value. The script's `member` would decide it."""
        self.walk.run.guess(self.entry.name, what, expression, taken, member)

    def known(self, name: str, default: Any, taken: str, member: str | None = None) -> Any:
        """One of its `typeProperties`. If its value is not known, `default`, which is a guess."""
        value = self.value(name)
        if value is not UNKNOWN:
            return value
        self.guess(name, self.properties.get(name), taken, member)
        return default

    def number(self, what: str, value: Any, default: float, member: str | None = None) -> float:
        """A number, which may be an expression, or unresolved in a template. `default` if there is none."""
        if value is None:
            return default
        known = evaluate(value, self.walk.scope())
        try:
            return float(known)
        except (TypeError, ValueError):
            self.guess(what, value, f"{default:g}", member)
            return default

    def span(self, what: str, value: Any) -> float:
        """Seconds of `d.hh:mm:ss` or `hh:mm:ss`. The default timeout if there is none."""
        if value is None:
            return DEFAULT_TIMEOUT
        known = evaluate(value, self.walk.scope())
        match = _SPAN.fullmatch(known) if isinstance(known, str) else None
        if match is None:
            self.guess(what, value, f"{DEFAULT_TIMEOUT / 86_400:g} days")
            return DEFAULT_TIMEOUT
        days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
        return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)

    def work(self) -> None:
        """Take the time of the script, and then end. Fail if the policy's timeout passes first.

        The text of that failure is the emulator's own, because no source shows the service's.
        """
        seconds, timeout = self.seconds(), self.span("policy.timeout", self._policy.get("timeout"))
        if seconds <= timeout:
            self.after(seconds, self.conclude)
            return
        message = f"The activity timed out after {timeout:.0f} seconds."
        self.after(timeout, lambda: self.fail({"errorCode": "Timeout"}, message=message))

    def conclude(self, output: Mapping[str, Any] | None = None) -> None:
        """End as scripted, with the script's output, or else with `output`. Without both, the output is not known."""
        script, iteration = self.script, self.walk.iteration
        if (
            script.outcome == "Failed"
            or self._number <= script.fail_attempts
            or (iteration is not None and iteration in script.fail_iterations)
        ):
            self.fail(script.error)
            return
        scripted = script.output_in(iteration)
        self._close("Succeeded", scripted if scripted is not None else output)
        self._end(Result("Succeeded"))

    def fail(self, error: Mapping[str, Any] | None = None, *, message: str | None = None) -> None:
        """End as failed. Missing members of `error` get the values of a failed Copy."""
        full = {
            "errorCode": "2200",
            "message": message or "ErrorCode=EmulatedFailure, the script says that this activity fails.",
            "failureType": "UserError",
            "target": self.entry.name,
            "details": [],
            **(error or {}),
        }
        self.entry.error = full
        self._close("Failed", self.script.output)
        if self._number <= self.number("policy.retry", self._policy.get("retry"), 0):
            self.walk.factory.after(
                self.number("policy.retryIntervalInSeconds", self._policy.get("retryIntervalInSeconds"), 30),
                lambda: None if self.walk.is_stopped else self._again(),
            )
        else:
            self._end(Result("Failed", full["message"]))

    def earlier(self, place: Hashable) -> Progress | None:
        """The progress of an earlier run inside this activity, if this run continues that run here. A retry does not."""
        progress = self.walk.progress
        if self._number > 1 or self.entry.name not in progress.resumed:
            return None
        return progress.inner.get((self.entry.name, place))

    def keep(self, place: Hashable, inner: Progress) -> None:
        """Let a later recovery run continue from here."""
        self.walk.progress.inner[self.entry.name, place] = inner

    def inside(self, activities: list[dict[str, Any]], on_end: End, *, place: Hashable = None, **where: Any) -> Walk:
        """Walk activities inside this one. With a `place`, a recovery run continues what the earlier run did there."""
        members = {
            "item": self.walk.item,
            "iteration": self.walk.iteration,
            "iteration_hash": self.walk.iteration_hash,
            **where,
        }
        earlier = self.earlier(place) if self.walk.factory.switches.recovery_reaches_containers else None
        if earlier is None or earlier.item != members["item"]:
            progress = Progress(item=members["item"])
        else:
            progress = recovery.carried_over(earlier, activities)
        if place is not None:
            self.keep(place, progress)
        inner = Walk(
            self.walk.factory, self.walk.run, activities, on_end, progress=progress, parent=self.walk, **members
        )
        inner.begin()
        return inner

    def conclude_inner(self, result: Result) -> None:
        """End like the activities inside."""
        if result.status == "Failed":
            self.fail(
                {"errorCode": "BadRequest"},
                message="Activity failed because an inner activity failed; "
                f"Inner activity name: {result.failed_activity}, Error: {result.message}",
            )
        else:
            self.conclude({})

    def _again(self) -> None:
        Attempt(self.walk, self.activity, self._end, self._perform, self._number + 1).begin()

    def _close(self, status: str, output: Mapping[str, Any] | None) -> None:
        self.entry.status = status
        self.entry.ended = self.walk.factory.now()
        if output is not None and not self._policy.get("secureOutput"):
            self.entry.output = output
        ended: dict[str, Any] = {"output": UNKNOWN if output is None else output, "Status": status}
        if self.entry.error is not None:
            ended["error"] = self.entry.error
        self.walk.remember(self.entry.name, ended)

    def _input(self) -> dict[str, Any]:
        """The input, evaluated as far as possible. A container has none (the specification's example)."""
        if self.activity["type"] in _CONTAINERS or self._policy.get("secureInput"):
            return {}
        scope = self.walk.scope()

        def shown(value: Any) -> Any:
            known = evaluate(value, scope)
            if known is UNKNOWN:
                return value
            if isinstance(known, dict):
                return {key: shown(item) for key, item in known.items()}
            return [shown(item) for item in known] if isinstance(known, list) else known

        return {name: shown(value) for name, value in self.properties.items() if name not in INNER_LISTS}

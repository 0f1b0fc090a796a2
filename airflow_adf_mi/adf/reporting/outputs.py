"""Outputs: values that the author chose from the outputs of a run's activities. How they are named, found, and kept small."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Self

from airflow_adf_mi.adf.api.operations import query_activity_runs
from airflow_adf_mi.adf.api.paging import Pages, distinct
from airflow_adf_mi.adf.config.addresses import FactoryRef
from airflow_adf_mi.adf.errors import AdfConfigurationError, AdfError
from airflow_adf_mi.adf.models import ActivityRun, PipelineRun, RunStatus
from airflow_adf_mi.adf.redaction import cap, names_secret, redact
from airflow_adf_mi.adf.routines import Routine
from airflow_adf_mi.adf.times import run_window
from airflow_adf_mi.adf.timing import Timing

LARGEST_OUTPUT_BYTES = 48 * 1024
"""One output may have at most this many bytes of JSON, because XComs are stored in Airflow's database."""
OUTPUT_PAGES = 10
RETURN_VALUE = "pipelineReturnValue"
"""Stands in the place of an activity: the value that the pipeline itself returns to its caller, by a Set Variable activity."""
RESERVED_KEYS = frozenset({"adf_intent", "adf_late_run", "run_id", "return_value"})
"""Keys of XComs that the task itself pushes."""
LONGEST_INDEX_DIGITS = 9
"""An index of a list may have at most this many digits."""
_QUOTED = r"\[\s*'((?:[^']|'')*)'\s*\]|\[\s*(\d{1,9})\s*\]"
# Activity names have no dots (the published specification's rule), so the first dot ends the name.
_STEP = re.compile(rf"\.([^.\[\]]+)|{_QUOTED}")
# As in Data Factory's own expressions: ?. and ?[ are allowed, and a quote within quotes is doubled.
_EXPRESSION = re.compile(
    r"\s*@?\s*activity\(\s*'((?:[^']|'')+)'\s*\)\s*\??\.\s*output(?![^\s.\[?])(.*?)\s*", re.DOTALL | re.IGNORECASE
)
_OTHER_EXPRESSION = re.compile(r"\s*(?:@|activity\s*\()", re.IGNORECASE)
_EXPRESSION_STEP = re.compile(rf"\??(?:\.([^.\[\]?\s']+)|{_QUOTED})")
_WORD = re.compile(r"[\w-]+")
_PLAIN = re.compile(r"[^.\[\]'?\s]+(?: +[^.\[\]'?\s]+)*")


@dataclass(frozen=True)
class OutputPath:
    """An activity, and the path to a value in its output.

    A path is written `Activity.member.member[0]`. A name with dots, brackets or quotes is quoted as in Data Factory's own
    expressions. An expression that begins with an activity's output can be pasted unchanged: `activity('Load
    [Sales]').output['dbo.Orders'].rows`.
    """

    activity: str
    steps: tuple[str, ...]

    @classmethod
    def parse(cls, key: str, path: object) -> Self:
        """Read a path as it is written. Raises `AdfConfigurationError`."""
        text = path if isinstance(path, str) else ""
        expression = _EXPRESSION.fullmatch(text)
        if expression is not None:
            name = _unquoted(expression[1])
            steps = _steps(_EXPRESSION_STEP, expression[2])
        elif _OTHER_EXPRESSION.match(text):
            name, steps = text, None
        else:
            name = text.partition(".")[0].partition("[")[0]
            steps = _steps(_STEP, text[len(name) :])
        if not name or steps is None:
            raise AdfConfigurationError(
                f"outputs has {path!r} for {key!r}. A path has the form 'Activity.member', such as 'CopySales.rowsCopied', "
                f"'Lookup.firstRow.id', 'Lookup.value[0]' or '{RETURN_VALUE}.rows'. Quote a name that has dots or brackets as "
                f'in Data Factory\'s expressions: "{_suggested(text)}".'
            )
        return cls(name, steps)

    def __str__(self) -> str:
        is_plain = all(_PLAIN.fullmatch(part) for part in (self.activity, *self.steps))
        if is_plain and not _OTHER_EXPRESSION.match(self.activity):
            return ".".join((self.activity, *self.steps))
        return self.expression()

    def expression(self) -> str:
        """The path as one of Data Factory's own expressions."""
        steps = "".join(
            f"[{step}]" if _is_index(step) else f".{step}" if _WORD.fullmatch(step) else f"[{_quoted(step)}]"
            for step in self.steps
        )
        return f"activity({_quoted(self.activity)}).output{steps}"


def _steps(step: re.Pattern[str], text: str) -> tuple[str, ...] | None:
    """The members that `text` names one by one; None if `text` has anything else."""
    steps, end = [], 0
    for match in step.finditer(text):
        if match.start() != end:
            return None
        steps.append(match[1] or match[3] or _unquoted(match[2] or ""))
        end = match.end()
    return tuple(steps) if end == len(text) else None


def _quoted(name: str) -> str:
    return "'" + name.replace("'", "''") + "'"


def _unquoted(name: str) -> str:
    return name.replace("''", "'")


def _is_index(step: str) -> bool:
    return step.isascii() and step.isdecimal() and len(step) <= LONGEST_INDEX_DIGITS


def _suggested(text: str) -> str:
    """A suggestion for a path that cannot be read: everything before its last dot is the activity's name."""
    name, _, member = text.strip().rpartition(".")
    if not text.strip(".\t\n ") or _OTHER_EXPRESSION.match(text):
        meant = OutputPath("Load [Sales]", ("dbo.Orders",))
    else:
        meant = OutputPath(name, (member,)) if name and member else OutputPath(text.strip(), ())
    return meant.expression()


def parse_outputs(outputs: object) -> dict[str, OutputPath]:
    """The paths by XCom key. Raises `AdfConfigurationError`."""
    if outputs is None:
        return {}
    if not isinstance(outputs, Mapping) or not all(isinstance(key, str) and key for key in outputs):
        raise AdfConfigurationError(
            "outputs must be a mapping from XCom keys to paths, such as {'rows': 'CopySales.rowsCopied'}."
        )
    taken = [key for key in outputs if key in RESERVED_KEYS or key.startswith("_")]
    if taken:
        raise AdfConfigurationError(f"outputs has the key {taken[0]!r}, which is reserved. Choose another key.")
    return {key: OutputPath.parse(key, path) for key, path in outputs.items()}


@dataclass(frozen=True)
class Outputs:
    """The values that were found, by XCom key, and a sentence for each value that was left out."""

    values: dict[str, Any] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)


def reading_outputs(
    wanted: Mapping[str, OutputPath], run: PipelineRun, factory: FactoryRef, *, timing: Timing
) -> Routine[Outputs]:
    """Query the activities of a run that succeeded, and take the values. Raises the `AdfError` of a failed request."""
    window = run_window(run.started_at, timing.clock())
    names = sorted({path.activity for path in wanted.values()} - {RETURN_VALUE})
    rows: list[ActivityRun] = []
    cut: dict[str, str] = {}
    for operand, values, wanted_of_it in (
        ("ActivityName", names, names),
        ("ActivityType", ["SetVariable"], sorted({RETURN_VALUE} & {path.activity for path in wanted.values()})),
    ):
        if not wanted_of_it:
            continue
        filters = [
            {"operand": "Status", "operator": "Equals", "values": [RunStatus.SUCCEEDED]},
            {"operand": operand, "operator": "In", "values": values},
        ]
        pages = Pages(query_activity_runs(factory, run.run_id, *window, filters=filters), OUTPUT_PAGES)
        while (call := pages.next()) is not None:
            page = yield call
            if isinstance(page, AdfError):
                raise page
            pages.take(page)
        rows += pages.rows
        if pages.cut is not None:
            cut |= dict.fromkeys(wanted_of_it, pages.cut)
    # Both queries may return the same Set Variable activity.
    return taken(wanted, distinct(rows), cut)


def taken(
    wanted: Mapping[str, OutputPath], rows: Sequence[ActivityRun], cut: Mapping[str, str] = MappingProxyType({})
) -> Outputs:
    """The values in `rows`, the activities that succeeded.

    :param cut: the activities of which some rows are missing, and why.
    """
    found = Outputs()
    for key, path in wanted.items():
        if path.activity in cut:
            found.left_out.append(
                f"Output {key!r} ({path}) was left out: the service's list does not show all runs of the queried activities "
                f"({cut[path.activity]}), so the output would be incomplete. If an activity runs very often, let the pipeline "
                "aggregate its outputs."
            )
            continue
        try:
            value = masked(_value(path, rows), next((step for step in reversed(path.steps) if not _is_index(step)), ""))
        except LookupError as e:
            found.left_out.append(f"Output {key!r} ({path}) was not found: {e.args[0]}")
            continue
        try:
            size = len(json.dumps(value, allow_nan=False).encode())
        except ValueError:
            found.left_out.append(
                f"Output {key!r} ({path}) was left out: it has a number that JSON cannot represent. Choose a part of it."
            )
            continue
        if size > LARGEST_OUTPUT_BYTES:
            found.left_out.append(
                f"Output {key!r} ({path}) was left out: it has {size} bytes, and an XCom may have {LARGEST_OUTPUT_BYTES} at "
                "most. Choose a part of it, or let the pipeline write it to a place where the next task can read it."
            )
            continue
        found.values[key] = value
    return found


def _value(path: OutputPath, rows: Sequence[ActivityRun]) -> Any:
    """One value. For an activity in a loop: a list with the values of its iterations, in the order of their starts."""
    if path.activity == RETURN_VALUE:
        return _step(_return_value(rows), path)
    ran = sorted((row for row in rows if row.activity_name == path.activity), key=_started)
    if not ran:
        raise LookupError(f"the run has no activity {path.activity!r} that succeeded.")
    if any(row.iteration_hash for row in ran):
        return [_step(row.output, path) for row in ran]
    return _step(ran[-1].output, path)


def _return_value(rows: Sequence[ActivityRun]) -> dict[str, Any]:
    """The values of all Set Variable activities that set the return value, in one mapping."""
    together: dict[str, Any] = {}
    for row in sorted(rows, key=_started):
        value = row.output.get("value")
        if row.activity_type != "SetVariable" or row.output.get("name") != RETURN_VALUE:
            continue
        if isinstance(value, Mapping):
            together.update(value)
        elif isinstance(value, list):
            # Pipelines define the return value in this form. No source shows which of the two forms the service returns.
            pairs = [pair for pair in value if isinstance(pair, Mapping) and "key" in pair]
            together.update({str(pair["key"]): _content(pair.get("value")) for pair in pairs})
    if not together:
        raise LookupError("the pipeline set no return value.")
    return together


def _content(value: Any) -> Any:
    return value["content"] if isinstance(value, Mapping) and "content" in value else value


def _step(value: Any, path: OutputPath) -> Any:
    for number, step in enumerate(path.steps):
        here = OutputPath(path.activity, path.steps[:number])
        if isinstance(value, Mapping) and step in value:
            value = value[step]
        elif isinstance(value, list) and _is_index(step) and int(step) < len(value):
            value = value[int(step)]
        elif isinstance(value, Mapping):
            has = ", ".join(sorted(map(str, value))[:20]) or "nothing"
            raise LookupError(f"{here} has no {step!r}; it has {cap(has, 500)}.{_meant(value, path, number)}")
        else:
            kind = f"a list of {len(value)}" if isinstance(value, list) else "not an object"
            raise LookupError(f"{here} is {kind}, and has no {step!r}.")
    return value


def _meant(value: Mapping[str, Any], path: OutputPath, number: int) -> str:
    """How to write the path if several of its steps together are the name of one member, such as `dbo.Orders`."""
    for end in range(number + 2, len(path.steps) + 1):
        member = ".".join(path.steps[number:end])
        if member in value:
            meant = OutputPath(path.activity, (*path.steps[:number], member, *path.steps[end:]))
            return f' If {member!r} is meant, write "{meant.expression()}".'
    return ""


def masked(value: Any, name: str = "") -> Any:
    """`value` of the member `name` without credentials, like everything that leaves this package."""
    if names_secret(name) and value not in (None, "", True, False):
        return "***"
    if isinstance(value, Mapping):
        # A pair of a name and a value: headers and parameters are written in this form.
        pair_name = value.get("name")
        pair = {"value": pair_name} if isinstance(pair_name, str) else {}
        return {key: masked(item, pair.get(str(key), str(key))) for key, item in value.items()}
    if isinstance(value, list):
        return [masked(item) for item in value]
    return redact(value) if isinstance(value, str) else value


def _started(row: ActivityRun) -> datetime:
    return row.started_at or datetime.min.replace(tzinfo=UTC)

"""Chosen outputs of a run's activities: how they are named, found, and kept small enough to be handed on."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from airflow_adf_mi.adf.calls import Call, Page, next_page, query_activity_runs
from airflow_adf_mi.adf.drive import Routine
from airflow_adf_mi.adf.errors import AdfConfigurationError, AdfError
from airflow_adf_mi.adf.models import ActivityRun, PipelineRun, RunStatus
from airflow_adf_mi.adf.redact import names_secret, redact
from airflow_adf_mi.adf.settings import FactoryRef

LARGEST = 48 * 1024
"""Bytes of JSON of one output: XComs live in Airflow's database."""
MOST_PAGES = 10
RETURN_VALUE = "pipelineReturnValue"
"""In place of an activity: what the pipeline itself gives back to its caller, by a Set Variable activity."""
RESERVED = frozenset({"run_id", "return_value"})
"""XComs of the task itself."""
RETENTION = timedelta(days=45)
# Activity names have no dots (the published specification's rule), so the first one ends the name.
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]")


@dataclass(frozen=True)
class OutputPath:
    """An activity, and the way to a value in its output."""

    activity: str
    steps: tuple[str, ...]

    @classmethod
    def parse(cls, key: str, path: object) -> Self:
        """Read `Activity.member.member[0]`. Raises `AdfConfigurationError`."""
        name, end = (path.partition(".")[0].partition("[")[0], 0) if isinstance(path, str) else ("", 0)
        rest = path[len(name) :] if isinstance(path, str) else ""
        steps = []
        for match in _STEP.finditer(rest):
            if match.start() != end:
                break
            steps.append(match[1] or match[2])
            end = match.end()
        if not name or end != len(rest):
            raise AdfConfigurationError(
                f"outputs has {path!r} for {key!r}. It looks like 'Activity.member', such as 'CopySales.rowsCopied', "
                f"'Lookup.firstRow.id', 'Lookup.value[0]' or '{RETURN_VALUE}.rows'."
            )
        return cls(name, tuple(steps))

    def __str__(self) -> str:
        return ".".join((self.activity, *self.steps))


def parse_outputs(outputs: object) -> dict[str, OutputPath]:
    """The paths by XCom key. Raises `AdfConfigurationError`."""
    if outputs is None:
        return {}
    if not isinstance(outputs, Mapping) or not all(isinstance(key, str) and key for key in outputs):
        raise AdfConfigurationError("outputs must be a mapping from XCom keys to 'Activity.member...'.")
    taken = [key for key in outputs if key in RESERVED or key.startswith("_")]
    if taken:
        raise AdfConfigurationError(f"outputs has the key {taken[0]!r}, which is not free. Choose another.")
    return {key: OutputPath.parse(key, path) for key, path in outputs.items()}


@dataclass(frozen=True)
class Outputs:
    """The values found, by XCom key, and a sentence for each that was not."""

    values: dict[str, Any] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)


def reading_outputs(
    wanted: Mapping[str, OutputPath], run: PipelineRun, factory: FactoryRef, *, clock: Callable[[], float]
) -> Routine[Outputs]:
    """Ask for the activities of a run that succeeded, and take the values. Raises the `AdfError` of a failed request."""
    now = datetime.fromtimestamp(clock(), UTC)
    window = (run.started_at or now - RETENTION) - timedelta(days=1), now + timedelta(days=1)
    names = sorted({path.activity for path in wanted.values()} - {RETURN_VALUE})
    rows: list[ActivityRun] = []
    cut: set[str] = set()
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
        following: Call[Page[ActivityRun]] | None = query_activity_runs(factory, run.run_id, *window, filters=filters)
        for _ in range(MOST_PAGES):
            if following is None:
                break
            page = yield following
            if isinstance(page, AdfError):
                raise page
            rows += page.items
            following = next_page(following, page)
        if following is not None:
            cut |= set(wanted_of_it)
    return taken(wanted, rows, cut)


def taken(wanted: Mapping[str, OutputPath], rows: Sequence[ActivityRun], cut: Collection[str] = ()) -> Outputs:
    """The values in `rows`, the activities that succeeded. Not all rows are known of the activities in `cut`."""
    found = Outputs()
    for key, path in wanted.items():
        if path.activity in cut:
            found.left_out.append(
                f"Output {key!r} ({path}) was left out: the activities asked for ran so often that {MOST_PAGES} pages of the "
                "service's list do not show all of them, and a part would pass for the whole. Have the pipeline sum them up."
            )
            continue
        try:
            value = masked(
                _value(path, rows), next((step for step in reversed(path.steps) if not step.isdecimal()), "")
            )
        except LookupError as e:
            found.left_out.append(f"Output {key!r} ({path}) is not there: {e.args[0]}")
            continue
        size = len(json.dumps(value).encode())
        if size > LARGEST:
            found.left_out.append(
                f"Output {key!r} ({path}) was left out: it has {size} bytes, and {LARGEST} at most are pushed as XCom. Choose "
                "a part of it, or have the pipeline write it to where the next task can read it."
            )
            continue
        found.values[key] = value
    return found


def _value(path: OutputPath, rows: Sequence[ActivityRun]) -> Any:
    """One value; of an activity in a loop, a list with those of its iterations, in the order of their start."""
    if path.activity == RETURN_VALUE:
        return _step(_return_value(rows), path)
    ran = sorted((row for row in rows if row.activity_name == path.activity), key=_started)
    if not ran:
        raise LookupError(f"the run has no activity {path.activity!r} that succeeded.")
    if any(row.iteration_hash for row in ran):
        return [_step(row.output, path) for row in ran]
    return _step(ran[-1].output, path)


def _return_value(rows: Sequence[ActivityRun]) -> dict[str, Any]:
    """What all Set Variable activities of the return value gave together."""
    together: dict[str, Any] = {}
    for row in sorted(rows, key=_started):
        value = row.output.get("value")
        if row.activity_type != "SetVariable" or row.output.get("name") != RETURN_VALUE:
            continue
        if isinstance(value, Mapping):
            together.update(value)
        elif isinstance(value, list):
            # The form in which pipelines define it; which of the two the service shows is in no source.
            pairs = [pair for pair in value if isinstance(pair, Mapping) and "key" in pair]
            together.update({pair["key"]: _content(pair.get("value")) for pair in pairs})
    if not together:
        raise LookupError("the pipeline set no return value.")
    return together


def _content(value: Any) -> Any:
    return value["content"] if isinstance(value, Mapping) and "content" in value else value


def _step(value: Any, path: OutputPath) -> Any:
    for number, step in enumerate(path.steps):
        here = ".".join((path.activity, *path.steps[:number]))
        if isinstance(value, Mapping) and step in value:
            value = value[step]
        elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        elif isinstance(value, Mapping):
            raise LookupError(f"{here} has no {step!r}; it has {', '.join(sorted(map(str, value))[:20]) or 'nothing'}.")
        else:
            kind = f"a list of {len(value)}" if isinstance(value, list) else "no object"
            raise LookupError(f"{here} is {kind}, and has no {step!r}.")
    return value


def masked(value: Any, name: str = "") -> Any:
    """`value`, the member called `name`, without credentials, like everything that leaves this package."""
    if names_secret(name) and value not in (None, "", True, False):
        return "***"
    if isinstance(value, Mapping):
        # A pair of a name and a value, as headers and parameters are written.
        said = value.get("name")
        pair = {"value": said} if isinstance(said, str) else {}
        return {key: masked(item, pair.get(str(key), str(key))) for key, item in value.items()}
    if isinstance(value, list):
        return [masked(item) for item in value]
    return redact(value) if isinstance(value, str) else value


def _started(row: ActivityRun) -> datetime:
    return row.started_at or datetime.min.replace(tzinfo=UTC)

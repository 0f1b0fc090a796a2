"""What a run consumed, by meter, as the outputs of its activities report it. Pure.

The member `billingReference` of an output has one of two forms. The first is the older one: a text that holds JSON, and names no
unit. Microsoft's page about the copy activity shows the first form. Outputs that people have published show the second:

    '{"activityType": "DataMovement", "billableDuration": [{"Managed": 11.73}]}'
    {"activityType": "PipelineActivity", "billableDuration": [{"meterType": "AzureIR", "duration": 0.0167, "unit": "Hours"}]}

No recording has the member, and no specification describes it. So whatever does not match a form is left out and counted.
The amounts are amounts of meters, not money: a price depends on the region, the contract, and the type of activity.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from airflow_adf_mi.adf.models import UNREADABLE, ActivityRun, plain
from airflow_adf_mi.adf.redaction import shown
from airflow_adf_mi.adf.stored_forms import known_members
from airflow_adf_mi.adf.times import read_number

LARGEST_DURATION = 1e9
"""A larger amount is left out. It is odd, and a sum of such amounts may not be a number that JSON has."""
LONGEST_METER = 100
"""Characters of the name of a meter, a unit or a type of activity. A longer name is odd."""
MOST_METERS = 50
"""More meters than that are left out, because the result becomes an XCom. The service has about ten."""


@dataclass(frozen=True, kw_only=True)
class Consumed:
    """What the activities of one type consumed on one meter."""

    activity_type: str | None
    """How the service bills the activities, such as `DataMovement` or `PipelineActivity`. None if it does not say."""
    meter: str
    """Such as `AzureIR`, `SelfhostedIR` or `ManagedVNetIR`."""
    unit: str | None
    """The unit of `duration`, such as `Hours`, `DIUHours` or `coreHour`. None if the service does not name one."""
    duration: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Read the JSON form. Unknown members are ignored, because a later version may have added them."""
        return cls(**known_members(cls, stored))


@dataclass(frozen=True, kw_only=True)
class Consumption:
    """What the activities of a run consumed, and what was left out."""

    meters: tuple[Consumed, ...] = ()
    left_out: int = 0
    """How many entries do not match a known form."""
    left_out_of: str | None = None
    """The first activity with such an entry."""


_Meter = tuple[str | None, str, str | None]
_Entry = tuple[_Meter, float]


def consumption_of(rows: Iterable[ActivityRun]) -> Consumption:
    """Add up what these activity runs report. Raises nothing."""
    durations: dict[_Meter, list[float]] = {}
    odd: list[str] = []
    for row in rows:
        for entry in _entries(row.output.get("billingReference")):
            if entry is None or (entry[0] not in durations and len(durations) >= MOST_METERS):
                odd.append(row.activity_name)
            else:
                durations.setdefault(entry[0], []).append(entry[1])
    meters = [
        Consumed(activity_type=kind, meter=meter, unit=unit, duration=round(math.fsum(values), 9))
        for (kind, meter, unit), values in durations.items()
    ]
    return Consumption(
        meters=tuple(sorted(meters, key=lambda one: (one.activity_type or "", one.meter, one.unit or ""))),
        left_out=len(odd),
        left_out_of=odd[0] if odd else None,
    )


def _entries(reference: object) -> Iterator[_Entry | None]:
    """The meters and amounts of one `billingReference`. None for each part that matches no form."""
    if reference is None:
        return
    if isinstance(reference, str):
        reference = _read(reference)
    listed = reference.get("billableDuration") if isinstance(reference, Mapping) else None
    if not isinstance(reference, Mapping) or not isinstance(listed, list):
        yield None
        return
    kind = _name(reference.get("activityType"))
    for entry in listed:
        if not isinstance(entry, Mapping) or not entry:
            yield None
        elif entry.keys().isdisjoint(("meterType", "duration", "unit")):
            for meter, duration in entry.items():
                yield _entry(kind, meter, None, duration)
        elif entry.get("unit") is not None and _name(entry["unit"]) is None:
            yield None
        else:
            yield _entry(kind, entry.get("meterType"), _name(entry.get("unit")), entry.get("duration"))


def _read(text: str) -> object:
    """The value of a text in JSON; None if it is not JSON. It has not passed through the reader of answers, so it does here."""
    try:
        return plain(json.loads(text))
    except UNREADABLE:
        return None


def _entry(kind: str | None, meter: object, unit: str | None, duration: object) -> _Entry | None:
    name, amount = _name(meter), read_number(duration)
    if name is None or amount is None or not 0 <= amount <= LARGEST_DURATION:
        return None
    return (kind, name, unit), float(amount)


def _name(value: object) -> str | None:
    """A name as it may be shown; None for anything else."""
    if not isinstance(value, str) or not value.strip() or len(value) > LONGEST_METER:
        return None
    return shown(value, LONGEST_METER)

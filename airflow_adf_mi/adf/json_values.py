"""Converts parameter values of a Dag to the JSON that the service gets. Pure.

Dates and the like become the same text that the official client (azure-mgmt-datafactory 10) makes of them, so that a Dag file
sends the same as with the Azure provider. The conversion comes before the intent is stored. So the intent's fingerprint, and the
search for the run of a lost start by its parameters, use the values that the service has.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal


def to_json_value(value: object) -> object:
    """`value` in plain JSON types. Values without a JSON form stay unchanged.

    - datetime: ISO 8601 in UTC, such as `2026-01-31T06:00:00Z`; without a time zone it counts as UTC
    - date and time: ISO 8601
    - timedelta: an ISO 8601 duration, such as `P1DT2H00M00S`
    - Decimal: a number
    - bytes: text in base64
    """
    match value:
        case Mapping():
            return {name: to_json_value(item) for name, item in value.items()}
        case list() | tuple():
            return [to_json_value(item) for item in value]
        case datetime():
            moment = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
            return moment.isoformat().replace("+00:00", "Z")
        case date() | time():
            return value.isoformat()
        case timedelta():
            return _duration(value)
        case Decimal():
            return float(value)
        case bytes() | bytearray():
            return base64.b64encode(value).decode()
        case _:
            return value


def _duration(value: timedelta) -> str:
    """An ISO 8601 duration as the official client writes it. Exceptions: no time at all, which it writes as `P`, and negative
    durations, which it writes wrongly.
    """
    sign, value = ("-", -value) if value < timedelta() else ("", value)
    hours, rest = divmod(value.seconds, 3600)
    minutes, seconds = divmod(rest, 60)
    days = f"{value.days}D" if value.days else ""
    if days and not value.seconds and not value.microseconds:
        return f"{sign}P{days}"
    fraction = f".{value.microseconds:06}".rstrip("0") if value.microseconds else ""
    from_hours = f"{hours:02}H" if days or hours else ""
    from_minutes = f"{minutes:02}M" if from_hours or minutes else ""
    return f"{sign}P{days}T{from_hours}{from_minutes}{seconds:02}{fraction}S"

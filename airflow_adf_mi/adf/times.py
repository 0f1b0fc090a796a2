"""Reads times and durations of the service, and calculates with them, without ever raising. Pure.

The service writes ISO times, with up to 7 digits of fraction. `2/1/2026 1:00:00 AM` was also seen (azure-cli-extensions
issue 2962). For an unknown time, .NET writes the first or the last year of its calendar. So a text that is no time, and a time
that no run can have, are both read as None.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta

EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
LATEST = datetime(3000, 1, 1, tzinfo=UTC)
"""Times outside these two are not accepted. Inside, adding days cannot overflow, and every platform can count the seconds."""
RUN_RETENTION = timedelta(days=45)
"""How long the service keeps runs (Microsoft's documentation)."""
DAY = timedelta(days=1)
"""How much wider a window is than the known times, because clocks differ."""
LONGEST_SECONDS = 1000 * 366 * 86400.0
_LONGEST_TEXT = 40
# .NET's form for the United States, which servers in Azure use: the month comes first. Forms of other countries have no
# AM and PM in capitals.
_US = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{4}) (\d{1,2}):(\d{2})(?::(\d{2}))? ([AP])M", re.ASCII)


def read_time(value: object) -> datetime | None:
    """A time in UTC. A text without a zone counts as UTC. None for any other value, such as the year 1."""
    try:
        found = _parsed(value) if isinstance(value, str) else value
        if not isinstance(found, datetime):
            return None
        aware = found if found.tzinfo is not None else found.replace(tzinfo=UTC)
        return aware.astimezone(UTC) if EARLIEST < aware < LATEST else None
    except (OverflowError, ValueError):
        return None


def _parsed(text: str) -> datetime:
    if len(text) > _LONGEST_TEXT:
        raise ValueError("too long for a time")
    match = _US.fullmatch(text)
    if match is None:
        return datetime.fromisoformat(text)
    month, day, year, hour, minute, second = (int(part or 0) for part in match.groups()[:6])
    if not 1 <= hour <= 12:
        raise ValueError(f"no hour {hour}")
    return datetime(year, month, day, hour % 12 + (12 if match[7] == "P" else 0), minute, second, tzinfo=UTC)


def read_number(value: object) -> float | None:
    """A finite number that a float can hold; None for any other value."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        return value if math.isfinite(value) else None
    except OverflowError:
        return None


def read_seconds(milliseconds: object) -> float | None:
    """A duration in seconds. None if it is negative, or longer than a thousand years."""
    known = read_number(milliseconds)
    return known / 1000 if known is not None and 0 <= known <= LONGEST_SECONDS * 1000 else None


def moment(epoch_seconds: float) -> datetime:
    """The time in UTC. If the number is out of range, the first or last accepted time."""
    return datetime.fromtimestamp(min(max(0.0, epoch_seconds), LATEST.timestamp()), UTC)


def run_window(started_at: datetime | None, now: float) -> tuple[datetime, datetime]:
    """A window with all activities of a run that began at `started_at`. If that is None, a window as long as runs are kept."""
    today = moment(now)
    began = today - RUN_RETENTION if started_at is None else min(started_at, today)
    return began - DAY, today + DAY

"""Pipeline parameters that hold the window of time of a Dag run, in the forms that authors of pipelines use.

Both functions return templates, which Airflow renders in each Dag run. In triggerer mode, Airflow renders them in the triggerer,
where a Dag has no macros of its own. So the templates are plain text, and use only names that a worker and a triggerer have
(docs/triggerer-mode.md). If a Dag run has no window, its template raises an error, and nothing is started.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from zoneinfo import ZoneInfo

from airflow_adf_mi._airflow import features
from airflow_adf_mi.adf.config.validation import check_text
from airflow_adf_mi.adf.errors import AdfConfigurationError
from airflow_adf_mi.exceptions import airflow_errors

ISO = "yyyy-MM-ddTHH:mm:ssZ"
_UNITS = {"yyyy": "%Y", "MM": "%m", "dd": "%d", "HH": "%H", "mm": "%M", "ss": "%S"}
_PART_OF_FORM = re.compile(r"yyyy|MM|dd|HH|mm|ss|'[A-Za-z0-9_=./ -]*'|[-/_:. T]|Z\Z")
_KEY_FORMAT = re.compile(r"(?:%[YmdHMS]|[A-Za-z0-9_.:/() +-])+")


@airflow_errors()
def window_parameters(
    *,
    start: str | None = None,
    end: str | None = None,
    last: str | None = None,
    form: str = ISO,
    timezone: str = "UTC",
) -> dict[str, str]:
    """
    Return pipeline parameters that hold the data interval of the Dag run, which needs an interval timetable.

    If a Dag run has no data interval, the task fails and starts nothing.

    :param start: the name of the parameter for the start of the window.
    :param end: the name of the parameter for the end of the window. The end does not belong to the window.
    :param last: the name of the parameter for the last second of the window. In the form ``yyyy-MM-dd``, this is the last day of
        the window.
    :param form: the form of the texts, as in Data Factory's ``formatDateTime``: ``yyyy``, ``MM``, ``dd``, ``HH``, ``mm``, ``ss``,
        and other letters between single quotes. With ``Z`` at its end, the texts are in UTC.
    :param timezone: the time zone of the texts if the form has no ``Z``. Use the time zone of the timetable.
    """
    names = _names("window_parameters", {"start": start, "end": end, "last": last})
    pattern, zone = _pattern(form), _zone_of(form, timezone)
    start_of, end_of = "data_interval_start", "data_interval_end"
    moments = {"start": start_of, "end": end_of, "last": f"{end_of}.subtract(seconds=1)"}
    return _templates(names, moments, f".in_timezone('{zone}').strftime('{pattern}')")


@airflow_errors()
def partition_parameters(
    *,
    start: str | None = None,
    end: str | None = None,
    last: str | None = None,
    length: timedelta | None = None,
    form: str = ISO,
    timezone: str = "UTC",
    key_format: str | None = None,
) -> dict[str, str]:
    """
    Return pipeline parameters that hold the partition of the Dag run, which needs a timetable of partitions and Airflow 3.2.

    If a Dag run has no partition, the task fails and starts nothing. On Airflow 3.1, this raises
    :class:`~airflow_adf_mi.exceptions.AdfConfigurationError`.

    :param start: the name of the parameter for the start of the partition.
    :param end: the name of the parameter for the end of the partition. The end does not belong to the partition.
    :param last: the name of the parameter for the last second of the partition.
    :param length: the length of a partition, which Airflow does not know. It is needed for ``end`` and ``last``. A whole day is a
        day of ``timezone``, which may have 23 or 25 hours.
    :param form: the form of the texts, as in :func:`window_parameters`.
    :param timezone: the time zone of the timetable. The texts are in it if the form has no ``Z``.
    :param key_format: the format of the partition key, as in Python's ``strptime``. The start is read from the key, as a time in
        UTC, instead of from Airflow's partition date. Needed on Airflow 3.2, which gives a Dag run no partition date.
    """
    if not features.PARTITIONED_DAG_RUNS:
        raise AdfConfigurationError(
            "partition_parameters needs Airflow 3.2 or later, because the Dag runs of this Airflow have no partition key. Use "
            "window_parameters and an interval timetable, or update Airflow."
        )
    names = _names("partition_parameters", {"start": start, "end": end, "last": last})
    seconds = _seconds(length) if names.keys() & {"end", "last"} else 0
    pattern, zone = _pattern(form), _zone_of(form, timezone)
    if key_format is not None:
        return _templates(names, _moments_by_key(key_format, timezone, seconds), f".strftime('{pattern}')")
    if not features.PARTITION_DATES:
        raise AdfConfigurationError(
            "partition_parameters needs key_format on this Airflow, because its Dag runs have no partition date. Pass the format "
            'of the partition keys, which is "%Y-%m-%dT%H:%M:%S" for a CronPartitionTimetable without a key_format.'
        )
    return _templates(names, _moments_by_date(timezone, seconds), f".in_timezone('{zone}').strftime('{pattern}')")


def _moments_by_date(timezone: str, seconds: int) -> dict[str, str]:
    """From Airflow's partition date. Days are added in the time zone, because a day of it may have 23 or 25 hours."""
    # The second name does not exist. The error quotes it if the Dag run has no partition date.
    start = f"(partition_date or macros.this_dag_run_has_no_partition_date).in_timezone('{timezone}')"
    days, rest = divmod(seconds, 24 * 60 * 60)
    end = f"{start}.add(days={days}, seconds={rest})"
    return {"start": start, "end": end, "last": f"{end}.subtract(seconds=1)"}


def _moments_by_key(key_format: object, timezone: str, seconds: int) -> dict[str, str]:
    """From the partition key, as times in UTC without a time zone."""
    if not isinstance(key_format, str) or "%Y" not in key_format or not _KEY_FORMAT.fullmatch(key_format):
        raise AdfConfigurationError(
            f"key_format is {key_format!r}; it must have %Y, and may have %m, %d, %H, %M, %S, ASCII letters, digits and the "
            "characters _ . : / ( ) + - and space."
        )
    if timezone != "UTC":
        raise AdfConfigurationError(
            f"timezone is {timezone!r}; with key_format it must be 'UTC', because keys are read as times in UTC."
        )
    # The error quotes the second text if the Dag run has no partition key.
    start = f"macros.datetime.strptime(dag_run.partition_key or 'no partition key', '{key_format}')"
    return {
        "start": start,
        "end": f"({start} + macros.timedelta(seconds={seconds}))",
        "last": f"({start} + macros.timedelta(seconds={seconds - 1}))",
    }


def _templates(names: Mapping[str, str], moments: Mapping[str, str], to_text: str) -> dict[str, str]:
    return {name: f"{{{{ {moments[which]}{to_text} }}}}" for which, name in names.items()}


def _names(function: str, given: Mapping[str, str | None]) -> dict[str, str]:
    """The names of parameters that are given, by what they get."""
    names = {which: check_text(which, name) for which, name in given.items() if name is not None}
    if not names:
        raise AdfConfigurationError(f"{function} needs start, end or last: the name of the parameter that gets it.")
    if len(set(names.values())) < len(names):
        raise AdfConfigurationError(f"{' and '.join(names)} must be different parameters; they are {names}.")
    return names


def _pattern(form: object) -> str:
    """The form as Python's `strftime` has it."""
    parts = _PART_OF_FORM.findall(check_text("form", form))
    units = sorted(list(_UNITS).index(part) for part in parts if part in _UNITS)
    if "".join(parts) != form or not units:
        raise AdfConfigurationError(
            f"form is {form!r}. Write it as in Data Factory's formatDateTime, with yyyy, MM, dd, HH, mm and ss, such as "
            f"'yyyy/MM/dd/HH'. Other letters stand between single quotes; Z, for UTC, stands at the end. The default is {ISO!r}."
        )
    # A unit that is missing in between shows that MM and mm were confused, as in "yyyy-mm-dd" and "HH:MM".
    if units != list(range(units[0], units[0] + len(units))) or units[0] > list(_UNITS).index("HH"):
        raise AdfConfigurationError(
            f"form is {form!r}, which leaves out a unit, or has a unit twice. MM is the month, and mm is the minute of HH."
        )
    return "".join(_UNITS.get(part, part.strip("'")) for part in parts)


def _zone_of(form: str, timezone: object) -> str:
    """The time zone of the texts."""
    name = check_text("timezone", timezone)
    try:
        ZoneInfo(name)
    except (LookupError, OSError, ValueError):
        raise AdfConfigurationError(
            f"timezone is {timezone!r}; it must be the name of a time zone, such as 'Europe/Berlin'."
        ) from None
    return "UTC" if form.endswith("Z") else name


def _seconds(length: object) -> int:
    if not isinstance(length, timedelta) or length <= timedelta(0) or length.microseconds:
        raise AdfConfigurationError(
            f"length is {length!r}; for end and last it must be a timedelta of whole seconds, such as timedelta(days=1)."
        )
    return int(length.total_seconds())

"""Checks of arguments before anything is sent. Each check raises `AdfConfigurationError`."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal

from airflow_adf_mi.adf.errors import AdfConfigurationError
from airflow_adf_mi.adf.json_values import to_json_value

YEAR = 365 * 24 * 60 * 60

# The published specification's rule for pipeline names (Pipelines_CreateRun).
_PIPELINE_NAME = re.compile(r"(?=.{1,260}$)[A-Za-z0-9_][^<>*#.%&:\\+?/]*")

# Run ids are GUIDs in every recording, but no document promises that. So other ids are accepted too.
_RUN_ID = re.compile(r"[A-Za-z0-9_-]{1,200}")


def is_static(value: object) -> bool:
    """Whether a templated argument already has its final value: no template, and no value that Airflow resolves later."""
    # All of Airflow's placeholders (another task's result, a Dag's parameter) have this method.
    return not hasattr(value, "iter_references") and not (isinstance(value, str) and "{" in value)


def static_part(parameters: object) -> object:
    """`parameters` with None for every value that is known only after rendering. Names are never rendered."""
    if not isinstance(parameters, Mapping):
        return parameters
    return {name: value if _is_static_throughout(value) else None for name, value in parameters.items()}


def _is_static_throughout(value: object) -> bool:
    if isinstance(value, Mapping):
        return all(map(_is_static_throughout, value.values()))
    if isinstance(value, list | tuple | set | frozenset):
        return all(map(_is_static_throughout, value))
    return is_static(value)


# Texts that a template renders for a missing value of Python, JSON or pandas.
_NOTHING = frozenset({"", "None", "null", "nan", "NaN", "NaT", "<NA>"})


def is_given(value: object) -> bool:
    """Whether an optional templated argument is given. A template renders None as "" or "None", which count as not given."""
    return value is not None and not (isinstance(value, str) and value.strip() in ("", "None"))


def required_text(field: str, value: object) -> str:
    """A required templated argument, as text.

    A Dag that renders templates to native objects turns some texts into numbers, so numbers are accepted. Raises
    `AdfConfigurationError` for other types, and for the texts that a template renders for a missing value.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float | None):
        raise AdfConfigurationError(f"{field} is {value!r}; it must be text.")
    text = "" if value is None else str(value).strip()
    if text in _NOTHING:
        raise AdfConfigurationError(
            f"{field} is {value!r}, which is what a template renders for a missing value. If it comes from another task, check "
            "that this task pushed the XCom."
        )
    return text


def optional_text(field: str, value: object) -> str | None:
    """An optional templated argument. None, "" and "None" count as not given; for other values see `required_text`."""
    return required_text(field, value) if is_given(value) else None


def check_pipeline_name(name: object) -> str:
    """Return the name if Data Factory allows it for a pipeline. Spaces are allowed.

    Raises `AdfConfigurationError` otherwise.
    """
    required_text("pipeline_name", name)
    if not isinstance(name, str) or not _PIPELINE_NAME.fullmatch(name):
        raise AdfConfigurationError(
            f"pipeline_name is {name!r}, which is not a name that Data Factory allows: 1 to 260 characters, beginning "
            "with a letter, digit or '_', without any of < > * # . % & : \\ + ? /"
        )
    return name


def check_run_id(run_id: object, field: str = "run_id") -> str:
    """Return the id if it can be the id of a run: text without characters that would change the URL of the request."""
    text = required_text(field, run_id)
    if not _RUN_ID.fullmatch(text):
        raise AdfConfigurationError(
            f"{field} is {run_id!r}, which is not the id of a run. If it comes from another task, check the XCom that that task "
            "pushed."
        )
    return text


def check_parameters(parameters: object) -> dict[str, Any] | None:
    """`parameters` as JSON (see `to_json_value`); None if there are none.

    Raises `AdfConfigurationError` unless they are None or a mapping from names to values that JSON can hold.
    """
    if parameters is None:
        return None
    if not isinstance(parameters, Mapping):
        raise AdfConfigurationError(
            f"parameters is of type {type(parameters).__name__}; it must be a mapping from parameter names to values."
        )
    sent = {}
    for name, value in parameters.items():
        if not isinstance(name, str):
            raise AdfConfigurationError(f"parameters has the name {name!r}, which is not text.")
        sent[name] = _json_value(f"The value of parameter {name!r}", value)
    return sent


def _json_value(what: str, value: object) -> Any:
    try:
        sent = to_json_value(value)
        json.dumps(sent, allow_nan=False, sort_keys=True)
    except (TypeError, ValueError, ArithmeticError, RecursionError) as e:
        # The error does not quote the value, because the value may be sensitive.
        raise AdfConfigurationError(
            f"{what} cannot be sent as JSON ({e}). Use text, numbers, booleans, null, dates, times, lists, and mappings whose "
            "keys are text."
        ) from None
    return sent


def check_moment(field: str, value: object) -> datetime:
    """Return the value if it is a datetime with a time zone."""
    if not isinstance(value, datetime) or value.utcoffset() is None:
        raise AdfConfigurationError(
            f"{field} is {value!r}; it must be a datetime with a time zone, such as datetime.now(UTC)."
        )
    return value


def check_items(field: str, value: object) -> list[dict[str, Any]]:
    """A query's `filters` or `order_by` as JSON: a list of mappings."""
    if not isinstance(value, list | tuple) or not all(isinstance(item, Mapping) for item in value):
        raise AdfConfigurationError(f"{field} is of type {type(value).__name__}; it must be a list of mappings.")
    return [_json_value(f"An item of {field}", item) for item in value]


def check_flag(field: str, value: object) -> bool:
    """Return the flag if it is True or False. Text is an error, because a text such as "False" would count as true."""
    if not isinstance(value, bool):
        raise AdfConfigurationError(f"{field} is {value!r}; it must be True or False.")
    return value


def check_choice(field: str, value: object, choices: Sequence[str]) -> None:
    """Raise `AdfConfigurationError` unless the value is one of the choices."""
    if value not in choices:
        *others, last = map(repr, choices)
        raise AdfConfigurationError(f"{field} is {value!r}; it must be {', '.join(others)} or {last}.")


def check_retry_from_failure(value: object) -> Literal["never", "retry", "always"]:
    """Return when a failed run is continued. True means "retry", and False means "never", also as text of a template."""
    text = "never" if not is_given(value) else str(value).strip().lower()
    match text:
        case "never" | "false":
            return "never"
        case "retry" | "true":
            return "retry"
        case "always":
            return "always"
    raise AdfConfigurationError(f"retry_from_failure is {value!r}; it must be 'never', 'retry' or 'always'.")


def check_text(field: str, value: object) -> str:
    """Return the text if it is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise AdfConfigurationError(f"{field} is {value!r}; it must be text.")
    return value


def check_seconds(name: str, value: object) -> float:
    """Return a positive number or timedelta in seconds. The limit is a year, because much longer times overflow in Airflow."""
    given = value
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        raise AdfConfigurationError(f"{name} is {given!r}; it must be a positive number of seconds.")
    if value > YEAR:
        raise AdfConfigurationError(f"{name} is {given!r}; it must be at most {YEAR} seconds (a year).")
    return float(value)

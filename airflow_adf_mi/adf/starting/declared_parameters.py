"""What a published pipeline declares about its parameters, and whether the values of a start fit them. Pure.

A template always renders text, so a value that the pipeline wants as a number, a list or a boolean arrives as text:

    declared type   accepted                                     sent as
    --------------  -------------------------------------------  ------------------------
    String          text, and any other value                    text; other values in JSON
    Int             a whole number, or text that is one          a number
    Float           a number, or text that is one                a number
    Bool            a boolean, or the text true or false         a boolean
    Array, Object   a list or mapping, or its text in JSON       a list or mapping
    another type    any value                                    the same value

SecureString is like String. No text here quotes a value, because a value may be secret.
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from airflow_adf_mi.adf.models import UNREADABLE

_TEXTS = ("string", "securestring")
_SHOWN_TYPES = {name.lower(): name for name in ("String", "SecureString", "Int", "Float", "Bool", "Array", "Object")}


@dataclass(frozen=True, kw_only=True)
class DeclaredParameter:
    """A parameter as the published pipeline declares it."""

    name: str
    type: str
    """In lower case, because definitions write types in upper or lower case."""
    has_default: bool
    default: Any = None

    @property
    def is_secure(self) -> bool:
        return self.type == "securestring"

    def __str__(self) -> str:
        shown = _SHOWN_TYPES.get(self.type, self.type)
        return f"{self.name} ({shown}, has a default)" if self.has_default else f"{self.name} ({shown})"


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """The values of a start, fitted to the pipeline."""

    values: Mapping[str, Any]
    correlation_parameter: str | None = None
    respelled: tuple[tuple[str, str], ...] = ()
    """Names that differ from a declared name by case only: as given, and as declared."""
    converted: tuple[str, ...] = ()
    """Names of the values that were converted."""
    problems: tuple[str, ...] = ()
    """Why the start must not be sent."""


def read_declared(definition: Mapping[str, Any]) -> tuple[DeclaredParameter, ...]:
    """The parameters of a pipeline, from the answer of Pipelines_Get. Raises one of `UNREADABLE` for an odd answer."""
    declared = definition["properties"].get("parameters") or {}
    return tuple(
        DeclaredParameter(
            name=name,
            type=str(one["type"]).lower(),
            has_default="defaultValue" in one,
            default=one.get("defaultValue"),
        )
        for name, one in declared.items()
    )


def listed_parameters(declared: tuple[DeclaredParameter, ...]) -> str:
    """The declared parameters, for texts."""
    return ", ".join(map(str, declared)) or "no parameters"


def is_equal(declared: DeclaredParameter, value: Any, shown: str) -> bool:
    """Whether a run shows this value, or this default. A String is compared letter by letter."""
    try:
        # A definition may write the default of an Int as a text.
        value = _fitted(declared.type, value)
        if declared.type in _TEXTS or declared.type not in _SHOWN_TYPES or value is None:
            return bool(shown == value) or (value is None and shown in ("", "null"))
        return _is_same_json(_fitted(declared.type, shown), value)
    except ValueError:
        return False


def _is_same_json(a: Any, b: Any) -> bool:
    return json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True) or (
        _is_number(a) and _is_number(b) and a == b
    )


def fit(
    given: Mapping[str, Any], declared: tuple[DeclaredParameter, ...], correlation_parameter: str | None = None
) -> Fitted:
    """Fit the values of a start to the parameters that a pipeline declares.

    :param correlation_parameter: the name of the parameter that carries the start key.
    """
    by_name = {one.name.lower(): one for one in declared}
    values: dict[str, Any] = {}
    respelled: list[tuple[str, str]] = []
    converted: list[str] = []
    problems: list[str] = []
    for name, value in given.items():
        one = by_name.get(name.lower())
        if one is None:
            problems.append(f"{name!r} is not declared.{_suggestion(name, by_name)}")
            continue
        if one.name in values:
            problems.append(f"{one.name!r} is given twice, in upper and lower case.")
            continue
        if name != one.name:
            respelled.append((name, one.name))
        try:
            values[one.name] = _fitted(one.type, value)
        except ValueError as e:
            problems.append(f"{one.name!r} is declared as {_SHOWN_TYPES[one.type]}, but {e}.")
            continue
        if not _is_same(values[one.name], value):
            converted.append(one.name)
    own, problem = _correlation(correlation_parameter, by_name)
    missing = [one.name for one in declared if not one.has_default and one.name not in values and one.name != own]
    named = {name for name in by_name if name in {given_name.lower() for given_name in given}}
    problems += [f"{name!r} has no value and no default." for name in missing if name.lower() not in named]
    return Fitted(
        values=values,
        correlation_parameter=own,
        respelled=tuple(respelled),
        converted=tuple(converted),
        problems=(*problems, *([problem] if problem else [])),
    )


def _correlation(name: str | None, by_name: Mapping[str, DeclaredParameter]) -> tuple[str | None, str | None]:
    """The declared spelling of the correlation parameter, and what is wrong with it."""
    if name is None:
        return None, None
    one = by_name.get(name.lower())
    if one is None:
        return name, f"correlation_parameter {name!r} is not declared.{_suggestion(name, by_name)}"
    if one.type != "string":
        shown = _SHOWN_TYPES.get(one.type, one.type)
        return one.name, f"correlation_parameter {one.name!r} is declared as {shown}; it must be a String."
    return one.name, None


def _suggestion(name: str, by_name: Mapping[str, DeclaredParameter]) -> str:
    close = difflib.get_close_matches(name.lower(), by_name, 1)
    return f" Did you mean {by_name[close[0]].name!r}?" if close else ""


def _fitted(kind: str, value: Any) -> Any:
    """The value as it is sent. Raises `ValueError` with what is wrong, in words that fit behind "but"."""
    if value is None or kind not in _SHOWN_TYPES:
        return value
    if kind in _TEXTS:
        return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return _FIT[kind](value)


def _int(value: Any) -> int:
    number = _read(value)
    if not _is_number(number) or number != number // 1:
        _refuse(value, "a whole number")
    return int(number)


def _float(value: Any) -> int | float:
    number = _read(value)
    if not _is_number(number):
        _refuse(value, "a number")
    return number  # type: ignore[no-any-return]  # `_is_number` has checked it


def _is_number(value: Any) -> bool:
    # JSON has no infinite numbers, but Python reads 1e999 as one. And True is an int.
    return isinstance(value, int | float) and not isinstance(value, bool) and value not in (math.inf, -math.inf)


def _bool(value: Any) -> bool:
    # Python and .NET write True and False, JSON writes true and false.
    truth = _read(value.strip().lower() if isinstance(value, str) else value)
    if not isinstance(truth, bool):
        _refuse(value, "true or false")
    return truth


def _array(value: Any) -> list[Any]:
    items = _read(value)
    if not isinstance(items, list):
        _refuse(value, "a list in JSON, as the template filter `tojson` writes it")
    return items


def _object(value: Any) -> dict[str, Any]:
    members = _read(value)
    if not isinstance(members, dict):
        _refuse(value, "an object in JSON, as the template filter `tojson` writes it")
    return members


_FIT: Mapping[str, Callable[[Any], Any]] = {
    "int": _int,
    "float": _float,
    "bool": _bool,
    "array": _array,
    "object": _object,
}


def _read(value: Any) -> Any:
    """The value that a text has in JSON; None if the text is not JSON. Other values are returned unchanged."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value, parse_constant=_no_number)
    except (*UNREADABLE, OverflowError):
        return None


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _refuse(value: Any, wanted: str) -> NoReturn:
    what = "the text" if isinstance(value, str) else f"the {_KINDS.get(type(value), 'value')}"
    raise ValueError(f"{what} that is given is not {wanted}")


_KINDS: Mapping[type, str] = {int: "number", float: "number", bool: "boolean", list: "list", dict: "mapping"}


def _is_same(sent: Any, given: Any) -> bool:
    return type(sent) is type(given) and bool(sent == given)

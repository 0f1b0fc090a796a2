"""A small part of ADF's expression language: references, and the functions that conditions usually use.

The value of any other expression is `UNKNOWN`, and the script or a documented default decides. It is no substitute for
Data Factory's own evaluation.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


class Unknown:
    """The value of an expression that is not evaluated here."""

    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN = Unknown()
MOST_ITEMS = 100_000
"""The longest array that an expression makes. A ForEach of Data Factory accepts no more (Microsoft's documentation)."""

_TOKEN = re.compile(
    r"\s*(?:(?P<number>-?\d+(?:\.\d+)?)|'(?P<text>(?:[^']|'')*)'|(?P<name>[A-Za-z_]\w*)|(?P<mark>\?\.|\?\[|[()\[\],.]))"
)
_INTERPOLATION = re.compile(r"@\{([^{}]*)\}")


@dataclass
class Scope:
    """The values of references."""

    parameters: Mapping[str, Any] = field(default_factory=dict)
    global_parameters: Mapping[str, Any] = field(default_factory=dict)
    variables: Mapping[str, Any] = field(default_factory=dict)
    activities: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """The values of `activity('name')` for ended activities: `output`, `Status`, and `error` if it failed."""
    item: Any = UNKNOWN
    run_id: str = ""
    pipeline: str = ""


def evaluate(value: Any, scope: Scope) -> Any:
    """The value of a property that may be an expression, as text (`@...`) or as `{"type": "Expression", ...}`."""
    if isinstance(value, Mapping) and value.get("type") == "Expression":
        value = value.get("value", value.get("content"))
    if not isinstance(value, str):
        return value
    if value.startswith("@@"):
        return value[1:]
    if value.startswith("@") and not value.startswith("@{"):
        return _parsed(value[1:], scope)
    if "@{" not in value:
        return value
    parts = [_parsed(part, scope) for part in _INTERPOLATION.findall(value)]
    # The rest contains braces of its own, as in @{concat('{', 'x')}.
    if UNKNOWN in parts or "@{" in _INTERPOLATION.sub("", value):
        return UNKNOWN
    remaining = iter(parts)
    return _INTERPOLATION.sub(lambda _match: _text(next(remaining)), value)


def plain(value: Any) -> Any:
    """The value as JSON; null if it is not known."""
    if value is UNKNOWN:
        return None
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def _text(value: Any) -> str:
    """Text unchanged, booleans as ADF writes them, objects and arrays as JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else str(value) if isinstance(value, bool) else json.dumps(plain(value))


def _parsed(text: str, scope: Scope) -> Any:
    try:
        parser = _Parser(text, scope)
        value = parser.expression()
        return value if parser.at_end() else UNKNOWN
    except (LookupError, TypeError, ValueError, AttributeError):
        return UNKNOWN


class _Parser:
    def __init__(self, text: str, scope: Scope) -> None:
        self._scope = scope
        self._tokens: list[tuple[str, str]] = []
        position = 0
        text = text.rstrip()
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:
                raise ValueError(f"cannot read {text!r} at {position}")
            kind = str(match.lastgroup)
            self._tokens.append((kind, match.group(kind)))
            position = match.end()
        self._at = 0

    def at_end(self) -> bool:
        return self._at >= len(self._tokens)

    def expression(self) -> Any:
        kind, text = self._next()
        if kind == "number":
            value: Any = float(text) if "." in text else int(text)
        elif kind == "text":
            value = text.replace("''", "'")
        elif kind == "name" and self._peek() == "(":
            value = self._call(text)
        elif kind == "name" and text in ("true", "false", "null"):
            value = {"true": True, "false": False, "null": None}[text]
        else:
            raise ValueError(f"unexpected {text!r}")
        return self._path(value)

    def _call(self, name: str) -> Any:
        self._expect("(")
        arguments = []
        while self._peek() != ")":
            arguments.append(self.expression())
            if self._peek() == ",":
                self._expect(",")
        self._expect(")")
        return _call(name, arguments, self._scope)

    def _path(self, value: Any) -> Any:
        while self._peek() in (".", "?.", "[", "?["):
            _, mark = self._next()
            if mark.endswith("."):
                kind, key = self._next()
                if kind != "name":
                    raise ValueError(f"unexpected {key!r}")
                value = _member(value, key, optional=mark == "?.")
            else:
                index = self.expression()
                self._expect("]")
                value = _member(value, index, optional=mark == "?[")
        return value

    def _peek(self) -> str | None:
        return None if self.at_end() else self._tokens[self._at][1] if self._tokens[self._at][0] == "mark" else None

    def _next(self) -> tuple[str, str]:
        token = self._tokens[self._at]
        self._at += 1
        return token

    def _expect(self, mark: str) -> None:
        if self._next() != ("mark", mark):
            raise ValueError(f"expected {mark!r}")


def _member(value: Any, key: Any, *, optional: bool) -> Any:
    """A member. If no name matches exactly, names are compared without case. An absent optional member is null."""
    if value is UNKNOWN or key is UNKNOWN:
        return UNKNOWN
    if isinstance(value, Mapping) and isinstance(key, str) and key not in value:
        key = next((known for known in value if known.lower() == key.lower()), key)
    try:
        return value[key]
    except (LookupError, TypeError):
        return None if optional else UNKNOWN


def _call(name: str, arguments: list[Any], scope: Scope) -> Any:
    name = name.lower()
    if name == "pipeline":
        return {
            "parameters": scope.parameters,
            "globalParameters": scope.global_parameters,
            "RunId": scope.run_id,
            "Pipeline": scope.pipeline,
        }
    if name in ("activity", "variables"):
        known: Mapping[str, Any] = scope.activities if name == "activity" else scope.variables
        return known.get(arguments[0], UNKNOWN)
    if name == "item":
        return scope.item
    if name == "if" and arguments[0] is not UNKNOWN:
        # Only the chosen value must be known. The other often refers to an activity that has not run.
        return arguments[1] if arguments[0] else arguments[2]
    if UNKNOWN in arguments or name not in _FUNCTIONS:
        return UNKNOWN
    try:
        return _FUNCTIONS[name](*arguments)
    except (LookupError, TypeError, ValueError, AttributeError):
        return UNKNOWN


_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "equals": lambda a, b: a == b,
    "not": lambda a: not a,
    "and": lambda a, b: bool(a and b),
    "or": lambda a, b: bool(a or b),
    "greater": lambda a, b: a > b,
    "greaterorequals": lambda a, b: a >= b,
    "less": lambda a, b: a < b,
    "lessorequals": lambda a, b: a <= b,
    "bool": lambda a: a.lower() == "true" if isinstance(a, str) else bool(a),
    "int": int,
    "string": _text,
    "length": len,
    "empty": lambda a: not a,
    "contains": lambda a, b: b in a,
    "concat": lambda *parts: "".join(_text(part) for part in parts),
    "first": lambda a: a[0],
    "last": lambda a: a[-1],
    "split": lambda text, separator: text.split(separator),
    "startswith": lambda text, start: text.lower().startswith(start.lower()),
    "endswith": lambda text, end: text.lower().endswith(end.lower()),
    "range": lambda start, count: list(range(start, start + count)) if count <= MOST_ITEMS else UNKNOWN,
    "createarray": lambda *items: list(items),
}

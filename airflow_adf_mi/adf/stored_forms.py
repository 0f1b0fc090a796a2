"""The one rule for all forms that Airflow's database keeps: a reader ignores the members that it does not know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any


def known_members(kind: type, stored: Mapping[str, Any]) -> dict[str, Any]:
    """The stored members that the dataclass `kind` has. A later version may have stored more members.

    Raises `TypeError` if `stored` is no mapping.
    """
    if not isinstance(stored, Mapping):
        raise TypeError(f"expected the members of {kind.__name__}, found a {type(stored).__name__}")
    return {field.name: stored[field.name] for field in fields(kind) if field.name in stored}

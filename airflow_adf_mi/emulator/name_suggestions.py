"""Suggestions for an unknown name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A sentence with the known names that are most similar to `name`, or with all names if none is similar."""
    by_lower = {each.lower(): each for each in known}
    found = [by_lower[each] for each in difflib.get_close_matches(name.lower(), by_lower, 3, 0.6)]
    if found:
        return f"Did you mean {' or '.join(map(repr, found))}?"
    few = sorted(by_lower.values())[:12]
    more = f" and {len(by_lower) - len(few)} more" if len(by_lower) > len(few) else ""
    return f"Known: {', '.join(map(repr, few))}{more}." if few else "There is none."

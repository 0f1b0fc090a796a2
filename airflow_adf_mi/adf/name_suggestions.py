"""Suggests names for a factory or pipeline that was not found ("Did you mean"). Lists names only in that case."""

from __future__ import annotations

import difflib
import heapq
import re
from collections.abc import Iterable

from airflow_adf_mi.adf.api.operations import list_factories, list_pipelines
from airflow_adf_mi.adf.config.addresses import FactoryRef
from airflow_adf_mi.adf.errors import AdfError, AdfNotFoundError
from airflow_adf_mi.adf.routines import Pause, Routine

MOST_NAMES = 3
FEW = 8
"""How many names are listed if no name is similar."""
LEAST_LIKENESS = 0.75
"""Least similarity of two names, by difflib's ratio."""
NAMES_BETWEEN_PAUSES = 10
"""Names that are compared before the event loop gets a turn. Comparing two long names takes some milliseconds."""
_FACTORY_ID = re.compile(r".*/resourceGroups/(?P<group>[^/]+)/.*/factories/(?P<name>[^/]+)", re.IGNORECASE)


def with_suggestions(error: AdfError, factory: FactoryRef, pipeline_name: str | None) -> Routine[AdfError]:
    """Add suggestions to the error of a factory or pipeline that was not found. Other errors are returned unchanged.

    Suggestions are left out if the identity may not list the names.
    """
    if not isinstance(error, AdfNotFoundError):
        return error
    suggestion = ""
    if error.missing == "pipeline" and pipeline_name is not None:
        names = yield list_pipelines(factory)
        if not isinstance(names, AdfError):
            suggestion = yield from suggest_pipelines(pipeline_name, names)
    elif error.missing == "factory":
        ids = yield list_factories(factory.subscription_id)
        if not isinstance(ids, AdfError):
            suggestion = yield from suggest_factories(factory, ids)
    return error.with_text(f"{error} {suggestion}") if suggestion else error


def suggest_pipelines(wanted: str, names: list[str]) -> Routine[str]:
    """A sentence with suggestions from a factory's pipelines."""
    closest = yield from _closest(wanted, names)
    if closest:
        return f"Did you mean {_either(closest)}?"
    if not names:
        return "The factory has no published pipeline at all."
    few = ", ".join(map(repr, sorted(names)[:FEW]))
    return f"Published pipelines: {len(names)}, none with a similar name: {few}{' and others' if len(names) > FEW else ''}."


def suggest_factories(wanted: FactoryRef, ids: Iterable[str]) -> Routine[str]:
    """A sentence with suggestions from the factories that the identity may see in a subscription."""
    found = [match for match in map(_FACTORY_ID.fullmatch, ids) if match]
    same = [match["group"] for match in found if match["name"].lower() == wanted.factory_name.lower()]
    if same:
        return f"There is a factory {wanted.factory_name!r} in resource group {_either(same[:MOST_NAMES])}."
    closest = yield from _closest(wanted.factory_name, [match["name"] for match in found])
    shown = [f"{m['name']!r} (resource group {m['group']!r})" for m in found if m["name"] in closest]
    if shown:
        return f"Did you mean {' or '.join(shown[:MOST_NAMES])}?"
    if not found:
        return "The identity sees no data factory in this subscription. It sees only factories on which it has a role."
    few = ", ".join(sorted(f"{m['name']!r} (resource group {m['group']!r})" for m in found)[:FEW])
    return f"Factories that the identity sees in this subscription: {len(found)}, none with a similar name: {few}."


def _closest(wanted: str, names: Iterable[str]) -> Routine[list[str]]:
    """The names that `difflib.get_close_matches` would find. That function would compare all names without a pause."""
    likeness = difflib.SequenceMatcher(b=wanted.lower())
    found: list[tuple[float, str]] = []
    by_lower = {name.lower(): name for name in names}
    for number, name in enumerate(by_lower, 1):
        if number % NAMES_BETWEEN_PAUSES == 0:
            yield Pause(0)
        likeness.set_seq1(name)
        # The first two ratios are quick upper bounds of the third.
        if all(of() >= LEAST_LIKENESS for of in (likeness.real_quick_ratio, likeness.quick_ratio, likeness.ratio)):
            found.append((likeness.ratio(), name))
    return [by_lower[name] for _, name in heapq.nlargest(MOST_NAMES, found)]


def _either(names: Iterable[str]) -> str:
    return " or ".join(map(repr, names))

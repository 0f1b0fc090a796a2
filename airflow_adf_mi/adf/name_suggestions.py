"""What was meant by a name that the service does not know. Asked only once something was not found."""

from __future__ import annotations

import difflib
import heapq
import re
from collections.abc import Iterable

from airflow_adf_mi.adf.api.operations import list_factories, list_pipelines
from airflow_adf_mi.adf.config.settings import FactoryRef
from airflow_adf_mi.adf.errors import AdfError, AdfNotFoundError
from airflow_adf_mi.adf.routines import Pause, Routine

MOST_NAMES = 3
FEW = 8
"""Names that are listed where none is near."""
LEAST_LIKENESS = 0.75
"""Of two names, by difflib."""
SEARCHES_AT_ONCE = 10
"""Names that are compared before the event loop gets its turn: two long ones take some milliseconds."""
_FACTORY_ID = re.compile(r".*/resourceGroups/(?P<group>[^/]+)/.*/factories/(?P<name>[^/]+)", re.IGNORECASE)


def with_suggestions(error: AdfError, factory: FactoryRef, pipeline_name: str | None) -> Routine[AdfError]:
    """`error`; for a factory or pipeline that was not found, another one with names that may have been meant.

    The names are left out where the identity may not list them.
    """
    if not isinstance(error, AdfNotFoundError):
        return error
    said = ""
    if error.missing == "pipeline" and pipeline_name is not None:
        names = yield list_pipelines(factory)
        if not isinstance(names, AdfError):
            said = yield from near_pipelines(pipeline_name, names)
    elif error.missing == "factory":
        ids = yield list_factories(factory.subscription_id)
        if not isinstance(ids, AdfError):
            said = yield from near_factories(factory, ids)
    return error.with_text(f"{error} {said}") if said else error


def near_pipelines(wanted: str, names: list[str]) -> Routine[str]:
    """A sentence about the pipelines of a factory."""
    near = yield from _near(wanted, names)
    if near:
        return f"Did you mean {_either(near)}?"
    if not names:
        return "The factory has no published pipeline at all."
    few = ", ".join(map(repr, sorted(names)[:FEW]))
    return f"It has {len(names)}, none of a like name: {few}{' and others' if len(names) > FEW else ''}."


def near_factories(wanted: FactoryRef, ids: Iterable[str]) -> Routine[str]:
    """A sentence about the factories of a subscription that the identity may see."""
    found = [match for match in map(_FACTORY_ID.fullmatch, ids) if match]
    same = [match["group"] for match in found if match["name"].lower() == wanted.factory_name.lower()]
    if same:
        return f"There is a factory {wanted.factory_name!r} in resource group {_either(same[:MOST_NAMES])}."
    near = yield from _near(wanted.factory_name, [match["name"] for match in found])
    shown = [f"{m['name']!r} (resource group {m['group']!r})" for m in found if m["name"] in near]
    if shown:
        return f"Did you mean {' or '.join(shown[:MOST_NAMES])}?"
    if not found:
        return "The identity sees no data factory in this subscription; without a role on one, it does not."
    few = ", ".join(sorted(f"{m['name']!r} (resource group {m['group']!r})" for m in found)[:FEW])
    return f"The identity sees {len(found)} in this subscription, none of a like name: {few}."


def _near(wanted: str, names: Iterable[str]) -> Routine[list[str]]:
    """What `difflib.get_close_matches` finds, which compares all names at once."""
    likeness = difflib.SequenceMatcher(b=wanted.lower())
    found: list[tuple[float, str]] = []
    by_lower = {name.lower(): name for name in names}
    for number, name in enumerate(by_lower, 1):
        if number % SEARCHES_AT_ONCE == 0:
            yield Pause(0)
        likeness.set_seq1(name)
        # The first two are quick, and never less than the third.
        if all(of() >= LEAST_LIKENESS for of in (likeness.real_quick_ratio, likeness.quick_ratio, likeness.ratio)):
            found.append((likeness.ratio(), name))
    return [by_lower[name] for _, name in heapq.nlargest(MOST_NAMES, found)]


def _either(names: Iterable[str]) -> str:
    return " or ".join(map(repr, names))

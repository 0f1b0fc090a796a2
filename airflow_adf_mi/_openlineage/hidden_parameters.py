"""Keeps a task's parameters out of OpenLineage's events.

The OpenLineage provider (2.20 with Airflow 3.3) copies every operator's attribute `parameters` into its own `airflow` facet,
right after it has asked the operator for facets, and masks nothing there: neither by name, nor what Airflow knows for a
secret. Pipelines have parameters of type SecureString. So the operator hides the values when it is asked.

It is asked in a fork of the task's process, or with `[openlineage] execute_in_thread` in a thread of it, beside the task
itself: which then reads the values through `parameters_of`.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MASK = "***"


@dataclass(frozen=True)
class _Hidden:
    task: weakref.ref[Any]
    """Not a key: operators are equal to their copies, such as those of a mapped task, which have other parameters."""
    given: Any
    shown: Any


_hidden: dict[int, _Hidden] = {}


def hide_parameters(task: Any) -> None:
    """From now on `task.parameters` has names only."""
    given = task.parameters
    if given is None or given is not parameters_of(task):
        return
    shown: Any = dict.fromkeys(given, MASK) if isinstance(given, Mapping) else MASK
    # In this order, so that a reader in another thread finds one or the other.
    _hidden[id(task)] = _Hidden(weakref.ref(task), given, shown)
    task.parameters = shown


def parameters_of(task: Any) -> Any:
    """`task.parameters`, also where they are hidden."""
    shown = task.parameters
    known = _hidden.get(id(task))
    # They may have been rendered anew since, and ids are used again.
    return known.given if known is not None and known.task() is task and known.shown is shown else shown

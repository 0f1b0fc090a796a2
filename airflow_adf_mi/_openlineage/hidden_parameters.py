"""Keeps a task's parameters out of OpenLineage's events.

The OpenLineage provider (2.20 with Airflow 3.3) copies every operator's attribute `parameters` into its own `airflow` facet,
right after it has asked the operator for facets. It masks nothing there: neither by name, nor the values that Airflow knows
as secrets. Pipelines may have parameters of type SecureString. So the operator hides the values when the provider asks.

The provider asks in a fork of the task's process, or, with `[openlineage] execute_in_thread`, in a thread beside the task.
In the second case the task itself must still read the values. It does so through `parameters_of`.
"""

import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MASK = "***"


@dataclass(frozen=True)
class _Hidden:
    task: weakref.ref[Any]
    """The task cannot be the key: a mapped task's operators are equal copies, with different parameters."""
    given: Any
    shown: Any


_hidden: dict[int, _Hidden] = {}


def hide_parameters(task: Any) -> None:
    """Replace the values in `task.parameters` with `MASK`; keep the names."""
    given = task.parameters
    if given is None or given is not parameters_of(task):
        return
    shown: Any = dict.fromkeys(given, MASK) if isinstance(given, Mapping) else MASK
    # The order matters: a reader in another thread finds either the values or the record of them.
    _hidden[id(task)] = _Hidden(weakref.ref(task), given, shown)
    task.parameters = shown


def parameters_of(task: Any) -> Any:
    """The values of `task.parameters`, also if they are hidden."""
    shown = task.parameters
    known = _hidden.get(id(task))
    # The record may be stale: the parameters may have been rendered again, or Python may have reused the id.
    return known.given if known is not None and known.task() is task and known.shown is shown else shown

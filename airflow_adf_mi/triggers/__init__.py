"""The triggers, under the paths that users' databases keep.

Airflow stores the class path of a trigger with every deferred task, and with every task in triggerer mode. So
these names must always stay here, but the classes may move. A class is imported when it is first used, so that importing this
package loads neither Airflow nor Azure.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_adf_mi.triggers.queue import AdfPipelineQueueTrigger
    from airflow_adf_mi.triggers.start_and_wait import AdfStartPipelineTrigger
    from airflow_adf_mi.triggers.wait import AdfPipelineRunTrigger

__all__ = ["AdfPipelineQueueTrigger", "AdfPipelineRunTrigger", "AdfStartPipelineTrigger"]

_MODULES = {
    "AdfPipelineQueueTrigger": "queue",
    "AdfPipelineRunTrigger": "wait",
    "AdfStartPipelineTrigger": "start_and_wait",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)

"""A factory whose pipelines copy between datasets."""

from __future__ import annotations

from typing import Any

from tests.conftest import activity, factory_of
from tests.support.explained import NO_TABLE, calls

HERE = "azuredatafactory://adf-test"


def copying(name: str, source: str, sink: str) -> dict[str, Any]:
    """A Copy as it is published: with its datasets beside its properties."""
    beside = {
        member: [{"referenceName": dataset, "type": "DatasetReference", "parameters": {"key": "planted"}}]
        for member, dataset in (("inputs", source), ("outputs", sink))
    }
    return {**activity(name, source={"type": "AzureSqlSource"}, sink={"type": "ParquetSink"}), **beside}


PARAMETERS = {"key": {"type": "SecureString"}, "password": {"type": "SecureString"}}


FACTORY = factory_of(
    Load={
        "parameters": PARAMETERS,
        "activities": [
            activity("Each", "ForEach", items=[], activities=[copying("CopySales", "Sales", "Lake")]),
            calls("Child", "Publish"),
        ],
    },
    Publish=[copying("CopyMart", "Lake", "Mart")],
    Broken={"parameters": PARAMETERS, "activities": [copying("CopySales", "Sales", "Lake")]},
    Slow=[activity("Copy")],
)


SCRIPT: dict[str, Any] = {
    "defaults": {"seconds": 0.1},
    "pipelines": {name: {"queued_seconds": 0.05, "cancel_seconds": 0.1} for name in FACTORY.pipelines},
    "activities": {
        "Load/Each": {"iterations": 2},
        "Load/CopySales": {"output": {"rowsCopied": 21, "dataWritten": 4000}},
        "Broken/CopySales": {"outcome": "Failed", "error": {"message": NO_TABLE}},
        "Slow/Copy": {"seconds": 3600},
    },
}


def names(datasets: Any) -> list[tuple[str, str]]:
    return sorted((dataset["namespace"], dataset["name"]) for dataset in datasets)

"""Writes times, ids, parameters, factories and pipelines as the service does."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from airflow_adf_mi.emulator.pipelines.definitions import FactoryDefinition, PipelineDefinition
from airflow_adf_mi.emulator.pipelines.expressions import plain

_TICKS = 10_000_000
"""Ticks in a second of the service's clock."""

Address = tuple[str, str, str]
"""Subscription id, resource group, factory."""


def wire_time(epoch: float | None) -> str | None:
    """A time as recorded: up to 7 digits of fraction without trailing zeros, and Z."""
    if epoch is None:
        return None
    seconds, ticks = divmod(round(epoch * _TICKS), _TICKS)
    fraction = f".{ticks:07d}".rstrip("0").rstrip(".")
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S") + fraction + "Z"


def wire_milliseconds(start: float, end: float | None) -> int | None:
    return None if end is None else round((end - start) * 1000)


def wire_parameters(values: Mapping[str, Any]) -> dict[str, str]:
    """Text unchanged, all other values JSON-encoded (the specification's example)."""
    return {name: value if isinstance(value, str) else json.dumps(plain(value)) for name, value in values.items()}


def resource_id(address: Address) -> str:
    """ARM's id of a factory."""
    subscription, group, factory = address
    return f"/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.DataFactory/factories/{factory}"


def run_resource_id(address: Address, run_id: str) -> str:
    """The id of a run: ARM's part is in capitals (recorded)."""
    return f"{resource_id(address).upper()}/pipelineruns/{run_id}"


def factory(definition: FactoryDefinition, address: Address, created: float) -> dict[str, Any]:
    """The answer of Factories_Get. `identity` is absent if there is none; `tags` is always there (recorded)."""
    shown: dict[str, Any] = {
        "name": address[2],
        "id": resource_id(address),
        "type": "Microsoft.DataFactory/factories",
        "properties": {
            "provisioningState": "Succeeded",
            "createTime": wire_time(created),
            "version": "2018-06-01",
            "factoryStatistics": {
                "totalResourceCount": 0,
                "maxAllowedResourceCount": 0,
                "factorySizeInGbUnits": 0,
                "maxAllowedFactorySizeInGbUnits": 0,
            },
        },
        # A factory's tag has quotes inside, a pipeline's has none. The member's name differs in case, too (recorded).
        "eTag": '"1a00f542-0000-0800-0000-62e564860000"',
        "location": definition.location,
    }
    if definition.identity:
        shown["identity"] = dict(definition.identity)
    shown["tags"] = dict(definition.tags)
    return shown


def pipeline(definition: PipelineDefinition, address: Address, etag: str, published: float | None) -> dict[str, Any]:
    """The published pipeline, and its time in whole seconds. The answer to the publication has no time (recorded)."""
    time = {} if published is None else {"lastPublishTime": wire_time(float(int(published)))}
    return {
        "id": f"{resource_id(address)}/pipelines/{definition.name}",
        "name": definition.name,
        "type": "Microsoft.DataFactory/factories/pipelines",
        "properties": {**definition.properties, **time},
        "etag": etag,
    }

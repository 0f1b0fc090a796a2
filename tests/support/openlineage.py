"""OpenLineage's schema, built from its own client: a JSON schema for each class that the client generates from the published one.

It is stricter than the client, which accepts text for a number, and checks no facet of an event that is read back.
"""

from __future__ import annotations

import importlib
import pkgutil
import types
import typing
from collections.abc import Iterator, Mapping
from enum import Enum
from functools import cache
from typing import Any

import attr
import jsonschema
from openlineage.client import generated
from openlineage.client.generated import base

Schema = dict[str, Any]

# What the published schema requires beyond the types of the classes.
URI = {"type": "string", "pattern": r"^[A-Za-z][A-Za-z0-9+.-]*:\S+$"}
MEMBERS: Mapping[str, Schema] = {
    **dict.fromkeys(("producer", "schemaURL", "_producer", "_schemaURL"), URI),
    "runId": {"type": "string", "pattern": "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"},
    "eventTime": {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$"},
}
ALWAYS = ("producer", "schemaURL", "_producer", "_schemaURL")
PLAIN: Mapping[Any, str] = {str: "string", int: "integer", float: "number", bool: "boolean", dict: "object"}


@cache
def facets() -> dict[str, type]:
    """The facets of the specification, by the URL of their schema."""
    found = {}
    for module in pkgutil.iter_modules(generated.__path__):
        for value in vars(importlib.import_module(f"{generated.__name__}.{module.name}")).values():
            if isinstance(value, type) and issubclass(value, base.BaseFacet):
                found[value._get_schema()] = value
    return found


def schema_of(kind: Any, member: str = "", *, nested: bool = False) -> Schema:
    """The schema of a type, as a member of that name."""
    if nested and member in MEMBERS and kind is str:
        return MEMBERS[member]
    if kind in PLAIN:
        return {"type": PLAIN[kind]}
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        # An event leaves out what is None; null is not allowed anywhere.
        schemas = [schema_of(a, member, nested=nested) for a in arguments if a is not type(None)]
        return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
    if origin is list:
        return {"type": "array", "items": schema_of(arguments[0])}
    if origin is dict:
        return {"type": "object", "additionalProperties": schema_of(arguments[1])}
    if isinstance(kind, type) and issubclass(kind, Enum):
        return {"enum": [value.value for value in kind]}
    if attr.has(kind):
        hints = typing.get_type_hints(kind)
        fields = attr.fields(kind)
        # A facet of a job or of a run can contain the runId of another system.
        strict = issubclass(kind, base.BaseEvent | base.BaseFacet | base.Run)
        required = [f.name for f in fields if f.default is attr.NOTHING or f.name in ALWAYS]
        return {
            "type": "object",
            "properties": {f.name: schema_of(hints[f.name], f.name, nested=strict) for f in fields},
            "required": required,
        }
    return {}


def facets_of(event: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """All facets in an event, with their names."""
    for part in (event["run"], event["job"], *event.get("inputs", []), *event.get("outputs", [])):
        for group in ("facets", "inputFacets", "outputFacets"):
            yield from part.get(group, {}).items()


def check_event(event: Mapping[str, Any]) -> None:
    """Raises `jsonschema.ValidationError` unless it is a run event, and each facet matches the schema that it names."""
    jsonschema.validate(event, schema_of(base.RunEvent))
    if event["schemaURL"] != base.RunEvent._get_schema():
        raise jsonschema.ValidationError(f"schemaURL {event['schemaURL']}")
    for name, facet in facets_of(event):
        known = facets().get(facet["_schemaURL"], base.BaseFacet)
        try:
            jsonschema.validate(facet, schema_of(known))
        except jsonschema.ValidationError as e:
            raise jsonschema.ValidationError(f"facet {name}: {e.message}") from e

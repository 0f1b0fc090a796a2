"""The values of a run's parameters: given, by default, or from an earlier run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_adf_mi.emulator.errors import ServiceError
from airflow_adf_mi.emulator.pipelines.definitions import PipelineDefinition
from airflow_adf_mi.emulator.pipelines.expressions import UNKNOWN
from airflow_adf_mi.emulator.switches import Switches

_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "securestring": (str,),
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "array": (list,),
    "object": (dict,),
}
"""Types by their names in the specification, which requests write in upper or lower case."""


def values_of(
    definition: PipelineDefinition, given: Mapping[str, Any], switches: Switches
) -> tuple[dict[str, Any], str | None]:
    """The values of a new run's parameters, and the message with which the run must fail, if any.

    Undeclared parameters are dropped (recorded 2021). Raises `ServiceError` if the switches refuse a wrong value.
    """
    values: dict[str, Any] = {}
    problem = None
    for name, declaration in definition.parameters.items():
        if name in given:
            values[name] = given[name]
        elif "defaultValue" in declaration:
            values[name] = declaration["defaultValue"]
        else:
            text = f"The workflow parameter '{name}' is not found"
            if switches.missing_parameter == "refuse":
                raise _refusal(definition, f"no value was given for the parameter '{name}'.")
            problem = problem or text
            continue
        kind = str(declaration.get("type", ""))
        if switches.ill_typed_parameter != "accept" and name in given and not _fits(values[name], kind):
            if switches.ill_typed_parameter == "refuse":
                raise _refusal(definition, f"the value of the parameter '{name}' is not of type '{kind}'.")
            problem = problem or f"The workflow parameter '{name}' is not of type '{kind}'"
    return values, problem


def _fits(value: Any, kind: str) -> bool:
    expected = _TYPES.get(kind.lower())
    if expected is None or value is UNKNOWN:
        return True
    return isinstance(value, expected) and (isinstance(value, bool) is (bool in expected))


def _refusal(definition: PipelineDefinition, reason: str) -> ServiceError:
    return ServiceError(
        400,
        "BadRequest",
        f"The template validation failed: {reason}",
        target=f"pipeline/{definition.name}/",
        details=None,
    )

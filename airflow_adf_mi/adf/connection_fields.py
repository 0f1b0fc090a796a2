"""From the fields of an Airflow connection to `AdfSettings`. `_airflow.connections` reads the connection itself.

For a connection of our own type, an unknown or contradictory field is an error. A connection of the Azure provider's type is
accepted if the provider would accept it without a secret. This package also ignores the fields that the provider ignores. One log
line names these fields and the identity.
"""

from __future__ import annotations

import difflib
import json
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_adf_mi.adf.auth.identity_choice import identity_used, providers_identity
from airflow_adf_mi.adf.config.settings import CHOICES, CLOUDS, PUBLIC_CLOUD, AdfSettings, Cloud, Identity, IdentityKind
from airflow_adf_mi.adf.errors import AdfConfigurationError
from airflow_adf_mi.adf.log_once import log_once

CONN_TYPE = "azure_data_factory_mi"
PROVIDER_CONN_TYPE = "azure_data_factory"
DEFAULT_CONN_ID = "azure_data_factory_default"
"""The provider has the same default id. So a Dag that moves to this package needs no other connection id."""

NAMES = ("managed_identity_client_id", "managed_identity_object_id", "managed_identity_resource_id")
"""The fields that name a user-assigned identity. At most one of them may be set."""
FIELDS = (
    "subscriptionId",
    "resource_group_name",
    "factory_name",
    "identity",
    *NAMES,
    "workload_identity_tenant_id",
    "cloud_environment",
    "arm_endpoint",
    "arm_scope",
    "ca_bundle",
)
# Old Airflow forms saved the fields of connections with these prefixes.
_PREFIXES = (f"extra__{PROVIDER_CONN_TYPE}__", f"extra__{CONN_TYPE}__")
_ANY_PREFIX = re.compile(r"extra__.+?__")
_SECRET_FIELDS = {
    "password",
    "secret",
    "client_secret",
    "clientsecret",
    "certificate",
    "certificate_path",
    "token",
}
# The name of the public cloud in `az cloud list`.
_CLOUD_ALIASES = {"azurecloud": PUBLIC_CLOUD}


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The result of reading a connection's fields."""

    settings: AdfSettings
    ignored: tuple[str, ...] = ()
    """The fields that are set, but not used."""


def settings_from_connection(
    *,
    conn_id: str,
    conn_type: str,
    extra: str | None,
    login: str | None = None,
    password: str | None = None,
    host: str | None = None,
    schema: str | None = None,
    port: int | None = None,
    instead: Mapping[str, str] | None = None,
    environ: Mapping[str, str] = os.environ,
) -> AdfSettings:
    """The settings that the fields of connection `conn_id` describe; `extra` is its JSON text.

    Accepts connections of type `azure_data_factory_mi`, and of the Azure provider's type `azure_data_factory` without a
    secret. Raises `AdfConfigurationError`, which names the connection, for a missing, unknown or contradictory field
    and for any secret. Fields in `instead` replace the connection's. If one of them names an identity, it replaces all `NAMES`.
    `environ` is read only for the log line about a connection of the provider's type.
    """
    unused = {"login": login, "host": host, "schema": schema, "port": port}
    try:
        if conn_type not in (CONN_TYPE, PROVIDER_CONN_TYPE):
            raise AdfConfigurationError(_wrong_type(conn_type, schema))
        if password:
            raise AdfConfigurationError(_secret("password"))
        reading = _read(conn_type, _parsed(extra), unused, instead or {})
    except AdfConfigurationError as e:
        raise AdfConfigurationError(f"Connection {conn_id!r}: {e}") from None
    if conn_type == PROVIDER_CONN_TYPE:
        log_once(__name__, logging.INFO, providers_note(conn_id, reading, environ))
    return reading.settings


def providers_note(conn_id: str, reading: Reading, environ: Mapping[str, str]) -> str:
    """The log line about a connection of the provider's type: the identity that is used, and the identity of the provider."""
    identity, cloud = reading.settings.identity, reading.settings.cloud
    note = (
        f"Connection {conn_id!r} has the Azure provider's type. Identity that is used: "
        f"{identity_used(identity, environ, cloud.authority_host)}. The provider would use: "
        f"{providers_identity(identity.client_id, identity.tenant_id, environ)}."
    )
    if not reading.ignored:
        return note
    return (
        f"{note} Ignored: {', '.join(reading.ignored)}. (The client id of a user-assigned identity goes into "
        "managed_identity_client_id, a private ARM endpoint into arm_endpoint.)"
    )


def _wrong_type(conn_type: str, schema: str | None) -> str:
    if not conn_type and (schema or "").startswith("zure_data_factory"):
        # Airflow's parser reads this schema from "azure_data_factory_mi://": the scheme of a URI cannot contain underscores.
        return (
            "its URI begins with a type with underscores, which Airflow cannot read. Write hyphens: azure-data-factory-mi:// "
            "(or azure-data-factory:// for the Azure provider's type)."
        )
    if not conn_type:
        return (
            f'it has no type. In JSON, write "conn_type": "{CONN_TYPE}"; a URI begins with '
            f"{CONN_TYPE.replace('_', '-')}://."
        )
    return (
        f"its type is {conn_type!r}. Use a connection of type {CONN_TYPE!r}, or of the Azure provider's type "
        f"{PROVIDER_CONN_TYPE!r} without a secret."
    )


def _secret(name: str) -> str:
    return (
        f"it holds a secret ({name}), but this package uses no secret. Remove login, password and every secret in extra, and let "
        "the managed identity do the work: leave the managed_identity_ fields empty for the system-assigned identity, or put "
        "the client id of a user-assigned one into managed_identity_client_id. Then grant that identity a role on the data "
        "factory."
    )


def _read(
    conn_type: str, extra: Mapping[str, Any], unused: Mapping[str, str | int | None], instead: Mapping[str, str]
) -> Reading:
    ignored = [name for name, value in unused.items() if value]
    if conn_type == CONN_TYPE and ignored:
        raise AdfConfigurationError(_not_used(ignored[0], unused[ignored[0]]))
    fields, more_ignored = _known_fields(conn_type, extra)
    if any(instead.get(name) for name in NAMES):
        fields = {name: value for name, value in fields.items() if name not in NAMES}
    fields |= instead
    settings = AdfSettings(
        subscription_id=fields.get("subscriptionId", ""),
        identity=Identity(
            kind=_identity_kind(conn_type, fields),
            client_id=fields.get("managed_identity_client_id"),
            object_id=fields.get("managed_identity_object_id"),
            resource_id=fields.get("managed_identity_resource_id"),
            tenant_id=fields.get("workload_identity_tenant_id"),
        ),
        cloud=_cloud(fields.get("cloud_environment")),
        resource_group_name=fields.get("resource_group_name"),
        factory_name=fields.get("factory_name"),
        arm_endpoint=fields.get("arm_endpoint", ""),
        arm_scope=fields.get("arm_scope", ""),
        ca_bundle=fields.get("ca_bundle"),
    )
    return Reading(settings=settings, ignored=(*ignored, *more_ignored))


def _not_used(name: str, value: str | int | None) -> str:
    if name == "login":
        return (
            f"login is {value!r}, which is not used. If it is the client id of a user-assigned managed identity, move it "
            "to managed_identity_client_id; otherwise remove it."
        )
    return (
        f"{name} is {value!r}, which is not used. If it is a private ARM endpoint, move it to arm_endpoint; otherwise remove "
        "it."
    )


def _parsed(extra: str | None) -> Mapping[str, Any]:
    try:
        fields = json.loads(extra or "{}")
    except ValueError as e:
        # The text may hold a secret, so the error does not quote it.
        raise AdfConfigurationError(f"extra is not JSON (line {getattr(e, 'lineno', '?')}).") from None
    if not isinstance(fields, dict):
        raise AdfConfigurationError("extra is not a JSON object of fields.")
    return fields


def _known_fields(conn_type: str, extra: Mapping[str, Any]) -> tuple[dict[str, str], list[str]]:
    """The fields that are set, by their short names, and the keys that are ignored.

    Empty fields, as a form saves them, count as not set.
    """
    is_providers = conn_type == PROVIDER_CONN_TYPE
    fields: dict[str, str] = {}
    ignored: list[str] = []
    # Short names first: if both names are set, the provider uses the short name.
    for key, value in sorted(extra.items(), key=lambda item: item[0].startswith(_PREFIXES)):
        name = next((key.removeprefix(p) for p in _PREFIXES if key.startswith(p)), key)
        if value is None or value == "":
            continue
        if _ANY_PREFIX.sub("", key, count=1).lower() in _SECRET_FIELDS:
            raise AdfConfigurationError(_secret(f"{key} in extra"))
        if name not in FIELDS:
            if not is_providers:
                raise AdfConfigurationError(_unknown(name))
            ignored.append(key)
            continue
        text = _text(name, value, numbers=is_providers)
        if fields.get(name, text) != text:
            if not is_providers:
                raise AdfConfigurationError(
                    f"{name} is set twice, as {fields[name]!r} and as {text!r}. Keep one of them."
                )
            ignored.append(key)
        elif text:
            fields[name] = text
    return fields, ignored


def _text(name: str, value: object, *, numbers: bool) -> str:
    if numbers and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise AdfConfigurationError(f"{name} is {value!r}; it must be text.")
    return value.strip()


def _unknown(name: str) -> str:
    closest = difflib.get_close_matches(name, FIELDS, n=1)
    hint = f"Did you mean {closest[0]!r}? " if closest else ""
    return f"unknown field {name!r} in extra. {hint}Known fields: {', '.join(FIELDS)}."


def _identity_kind(conn_type: str, fields: Mapping[str, str]) -> IdentityKind:
    chosen = fields.get("identity")
    if chosen is None:
        return IdentityKind.PLATFORM if conn_type == PROVIDER_CONN_TYPE else IdentityKind.MANAGED_IDENTITY
    if chosen not in CHOICES:
        raise AdfConfigurationError(
            f"identity is {chosen!r}; it must be one of {', '.join(map(repr, map(str, CHOICES)))}."
        )
    return IdentityKind(chosen)


def _cloud(name: str | None) -> Cloud:
    if name is None:
        return PUBLIC_CLOUD
    by_lower_name = {cloud.name.lower(): cloud for cloud in CLOUDS.values()} | _CLOUD_ALIASES
    try:
        return by_lower_name[name.lower()]
    except KeyError:
        raise AdfConfigurationError(f"cloud_environment is {name!r}; it must be one of {', '.join(CLOUDS)}.") from None

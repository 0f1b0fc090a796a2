"""From the fields of an Airflow connection to `AdfSettings`. Pure: the connection itself is looked up by the hook."""

from __future__ import annotations

import difflib
import json
import logging
from collections.abc import Mapping
from typing import Any

from airflow_adf_mi.adf.errors import AdfConfigurationError
from airflow_adf_mi.adf.settings import CLOUDS, PUBLIC_CLOUD, AdfSettings, Cloud, Identity, IdentityKind

log = logging.getLogger(__name__)

CONN_TYPE = "azure_data_factory_mi"
PROVIDER_CONN_TYPE = "azure_data_factory"
DEFAULT_CONN_ID = "azure_data_factory_default"
"""The same as the provider's, so that moving over changes no connection id."""

FIELDS = (
    "subscriptionId",
    "resource_group_name",
    "factory_name",
    "identity",
    "managed_identity_client_id",
    "managed_identity_object_id",
    "managed_identity_resource_id",
    "workload_identity_tenant_id",
    "cloud_environment",
    "arm_endpoint",
    "arm_scope",
    "ca_bundle",
)
# Connections saved by old Airflow forms carry their fields under these prefixes.
_PREFIXES = (f"extra__{PROVIDER_CONN_TYPE}__", f"extra__{CONN_TYPE}__")
_SECRET_FIELDS = {
    "password",
    "secret",
    "client_secret",
    "clientsecret",
    "certificate",
    "certificate_path",
    "token",
}
# What `az cloud list` calls the public cloud.
_CLOUD_ALIASES = {"azurecloud": PUBLIC_CLOUD}


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
) -> AdfSettings:
    """The settings that the fields of connection `conn_id` describe; `extra` is its JSON text.

    Takes connections of type `azure_data_factory_mi`, and the Azure provider's `azure_data_factory` when they hold no
    secret. Raises `AdfConfigurationError`, which names the connection, for a missing, unknown or contradictory field
    and for any secret.
    """
    try:
        unused = {"host": host, "schema": schema, "port": port}
        return _settings(conn_type, _parsed(extra), login, password, unused)
    except AdfConfigurationError as e:
        raise AdfConfigurationError(f"Connection {conn_id!r}: {e}") from None


def _settings(
    conn_type: str,
    extra: Mapping[str, Any],
    login: str | None,
    password: str | None,
    unused: Mapping[str, str | int | None],
) -> AdfSettings:
    if conn_type not in (CONN_TYPE, PROVIDER_CONN_TYPE):
        raise AdfConfigurationError(
            f"its type is {conn_type!r}. Use a connection of type {CONN_TYPE!r}, or of the Azure provider's type "
            f"{PROVIDER_CONN_TYPE!r} without a secret."
        )
    fields = _known_fields(conn_type, extra)
    if password:
        raise AdfConfigurationError(
            "it holds a secret (password), and this package uses none. Remove login and password, and let the managed "
            "identity do the work: leave the managed_identity_ fields empty for the system-assigned identity, or put the "
            "client id of a user-assigned one into managed_identity_client_id; then grant that identity a role on the "
            "data factory."
        )
    if login:
        raise AdfConfigurationError(
            f"login is {login!r}, which is not used. If it is the client id of a user-assigned managed identity, move it "
            "to managed_identity_client_id; otherwise remove it."
        )
    for name, value in unused.items():
        if not value:
            continue
        if conn_type == CONN_TYPE:
            raise AdfConfigurationError(
                f"{name} is {value!r}, which is not used. A private ARM endpoint goes into arm_endpoint; otherwise remove it."
            )
        log.info("%s of the connection is ignored. A private ARM endpoint goes into arm_endpoint.", name)
    return AdfSettings(
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


def _parsed(extra: str | None) -> Mapping[str, Any]:
    try:
        fields = json.loads(extra or "{}")
    except ValueError as e:
        # The text itself may hold a secret, so the error does not quote it.
        raise AdfConfigurationError(f"extra is not JSON (line {getattr(e, 'lineno', '?')}).") from None
    if not isinstance(fields, dict):
        raise AdfConfigurationError("extra is not a JSON object of fields.")
    return fields


def _known_fields(conn_type: str, extra: Mapping[str, Any]) -> dict[str, str]:
    """The fields that are set, by their short names; empty ones, as forms leave them, count as not set."""
    fields: dict[str, str] = {}
    for key, value in extra.items():
        name = next((key.removeprefix(p) for p in _PREFIXES if key.startswith(p)), key)
        if value is None or value == "":
            continue
        if name.lower() in _SECRET_FIELDS:
            raise AdfConfigurationError(
                f"it holds a secret ({name}), and this package uses none. Remove it; the managed identity needs a role on "
                "the data factory instead."
            )
        if name == "tenantId" and conn_type == PROVIDER_CONN_TYPE:
            log.info("tenantId of the connection is ignored: a managed identity knows its own tenant.")
            continue
        if name not in FIELDS:
            near = difflib.get_close_matches(name, FIELDS, n=1)
            hint = f"Did you mean {near[0]!r}? " if near else ""
            raise AdfConfigurationError(f"unknown field {name!r} in extra. {hint}Known fields: {', '.join(FIELDS)}.")
        if not isinstance(value, str):
            raise AdfConfigurationError(f"{name} is {value!r}; it must be text.")
        text = value.strip()
        if fields.get(name, text) != text:
            raise AdfConfigurationError(
                f"{name} is there twice, as {fields[name]!r} and as {text!r}. Keep one of them."
            )
        if text:
            fields[name] = text
    return fields


def _identity_kind(conn_type: str, fields: Mapping[str, str]) -> IdentityKind:
    chosen = fields.get("identity")
    if chosen is None:
        # The provider's form has no `identity`: there, a tenant of a workload identity is how one is chosen.
        if conn_type == PROVIDER_CONN_TYPE and "workload_identity_tenant_id" in fields:
            return IdentityKind.WORKLOAD_IDENTITY
        return IdentityKind.MANAGED_IDENTITY
    try:
        return IdentityKind(chosen)
    except ValueError:
        kinds = ", ".join(repr(kind.value) for kind in IdentityKind)
        raise AdfConfigurationError(f"identity is {chosen!r}; it must be one of {kinds}.") from None


def _cloud(name: str | None) -> Cloud:
    if name is None:
        return PUBLIC_CLOUD
    by_lower_name = {cloud.name.lower(): cloud for cloud in CLOUDS.values()} | _CLOUD_ALIASES
    try:
        return by_lower_name[name.lower()]
    except KeyError:
        raise AdfConfigurationError(f"cloud_environment is {name!r}; it must be one of {', '.join(CLOUDS)}.") from None

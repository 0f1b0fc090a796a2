"""Which source of managed identities this machine has, and whether that source can give the named identity. Pure.

azure-identity chooses the source by environment variables. Some sources silently ignore a name that they do not know, and give
another identity. So this module checks the name before any request: the name is used, or refused with a reason.

A new source needs an entry in `Source`, `USABLE_NAMES` and `_ENDPOINT_VARIABLES`, and its rule in `detect_source`. A new variable
with the address of an endpoint must also be in `ENDPOINT_VARIABLES` of `adf/network/proxies`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from airflow_adf_mi.adf.config.settings import Identity, IdentityKind
from airflow_adf_mi.adf.errors import AdfConfigurationError
from airflow_adf_mi.adf.network.proxies import ENDPOINT_VARIABLES
from airflow_adf_mi.adf.network.route import Route, route_to_tokens


class Source(StrEnum):
    """Where tokens come from."""

    IMDS = "the instance metadata service of the virtual machine or AKS node"
    APP_SERVICE = "App Service, Functions or Container Apps"
    SERVICE_FABRIC = "Service Fabric"
    ARC = "Azure Arc"
    AZURE_ML = "Azure Machine Learning"
    CLOUD_SHELL = "Cloud Shell"
    WORKLOAD_IDENTITY = "AKS workload identity"
    DEVELOPER = "the developer's sign-in"


@dataclass(frozen=True, kw_only=True)
class CredentialPlan:
    """Which credential to make, and for which source."""

    source: Source
    client_id: str | None = None
    object_id: str | None = None
    resource_id: str | None = None
    tenant_id: str | None = None
    token_file: str | None = None
    authority_host: str | None = None
    """The sign-in service, for workload identity."""
    route: Route | None = None
    """The route of its requests. None if another program sends them (a developer's sign-in)."""


# The names that each source understands (from the code and the requests of azure-identity 1.27 and msal 1.39).
USABLE_NAMES: Mapping[Source, frozenset[str]] = {
    Source.IMDS: frozenset({"client_id", "object_id", "resource_id"}),
    Source.APP_SERVICE: frozenset({"client_id", "object_id", "resource_id"}),
    Source.ARC: frozenset({"client_id", "object_id", "resource_id"}),
    Source.AZURE_ML: frozenset({"client_id"}),
    Source.CLOUD_SHELL: frozenset(),
    Source.SERVICE_FABRIC: frozenset(),
    Source.WORKLOAD_IDENTITY: frozenset({"client_id"}),
}
# The environment variable with the address of each source's endpoint. All of them must be in ENDPOINT_VARIABLES.
_ENDPOINT_VARIABLES: Mapping[Source, str] = {
    Source.IMDS: "AZURE_POD_IDENTITY_AUTHORITY_HOST",
    Source.APP_SERVICE: "IDENTITY_ENDPOINT",
    Source.SERVICE_FABRIC: "IDENTITY_ENDPOINT",
    Source.ARC: "IDENTITY_ENDPOINT",
    Source.AZURE_ML: "MSI_ENDPOINT",
    Source.CLOUD_SHELL: "MSI_ENDPOINT",
}
_IMDS_ADDRESS = "http://169.254.169.254"
WORKLOAD_VARIABLES = ("AZURE_TENANT_ID", "AZURE_FEDERATED_TOKEN_FILE", "AZURE_AUTHORITY_HOST")
_WHERE = (*ENDPOINT_VARIABLES, *WORKLOAD_VARIABLES, "AZURE_CLIENT_ID")


def where_tokens_come_from(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Environment variables that distinguish two sources of the same kind, such as two emulators. None is secret."""
    return tuple(environ.get(name, "") for name in _WHERE)


def detect_source(environ: Mapping[str, str]) -> Source:
    """Return the source that azure-identity's ManagedIdentityCredential uses in this environment. The first match is used."""
    if environ.get("IDENTITY_ENDPOINT"):
        if environ.get("IDENTITY_HEADER"):
            return Source.SERVICE_FABRIC if environ.get("IDENTITY_SERVER_THUMBPRINT") else Source.APP_SERVICE
        if environ.get("IMDS_ENDPOINT"):
            return Source.ARC
        raise AdfConfigurationError(
            "IDENTITY_ENDPOINT is set in the environment without IDENTITY_HEADER (App Service, Service Fabric) or "
            "IMDS_ENDPOINT (Azure Arc), so it is unknown which platform gives the managed identity. Set the missing variable, "
            "or unset IDENTITY_ENDPOINT."
        )
    if environ.get("MSI_ENDPOINT"):
        return Source.AZURE_ML if environ.get("MSI_SECRET") else Source.CLOUD_SHELL
    return Source.WORKLOAD_IDENTITY if offers_workload_identity(environ) else Source.IMDS


def offers_workload_identity(environ: Mapping[str, str]) -> bool:
    """Whether AKS has set up workload identity in this environment, by the variables that azure-identity reads."""
    return all(environ.get(name) for name in WORKLOAD_VARIABLES)


def plan(
    identity: Identity, environ: Mapping[str, str], authority_host: str, *, ca_bundle: str | None = None
) -> CredentialPlan:
    """How to get tokens for `identity` in this environment.

    `authority_host` is the cloud's sign-in service, `ca_bundle` the connection's. Raises `AdfConfigurationError` if another
    identity than the named one might be used, and for a proxy that cannot be used.
    """
    how = _credential(identity, environ, authority_host)
    address = _address(how, environ)
    if address is None:
        return how
    route = route_to_tokens(address, environ, ca_bundle)
    if how.source is Source.SERVICE_FABRIC:
        # IDENTITY_SERVER_THUMBPRINT pins the certificate, so no authority is needed.
        route = replace(route, authorities=())
    return replace(how, route=route)


def _address(how: CredentialPlan, environ: Mapping[str, str]) -> str | None:
    """The address for token requests. None if another program sends them."""
    if how.source is Source.DEVELOPER:
        return None
    if how.source is Source.WORKLOAD_IDENTITY:
        host = str(how.authority_host)
        return host if "://" in host else f"https://{host}"
    return environ.get(_ENDPOINT_VARIABLES[how.source]) or _IMDS_ADDRESS


def _credential(identity: Identity, environ: Mapping[str, str], authority_host: str) -> CredentialPlan:
    if identity.kind is IdentityKind.DEVELOPER:
        return CredentialPlan(source=Source.DEVELOPER)
    if identity.kind is IdentityKind.WORKLOAD_IDENTITY:
        return _workload_identity(identity, environ, authority_host)
    if identity.kind is IdentityKind.PLATFORM and offers_workload_identity(environ):
        # Workload identity comes first, as in the provider's chain, whatever else the environment has.
        source = Source.WORKLOAD_IDENTITY
    else:
        source = detect_source(environ)
    is_unnamed = identity.kind is IdentityKind.MANAGED_IDENTITY and not identity.names()
    if source is Source.WORKLOAD_IDENTITY and is_unnamed:
        raise AdfConfigurationError(
            "The connection asks for the system-assigned managed identity, but this environment offers AKS workload identity "
            "(AZURE_FEDERATED_TOKEN_FILE is set), which has no such identity. Set identity to 'workload_identity', or name a "
            "user-assigned identity with managed_identity_client_id."
        )
    for field in ("client_id", "object_id", "resource_id"):
        if getattr(identity, field) is not None and field not in USABLE_NAMES[source]:
            raise AdfConfigurationError(_unusable(field, source))
    if source is Source.WORKLOAD_IDENTITY:
        return _workload_identity(identity, environ, authority_host)
    return CredentialPlan(
        source=source,
        client_id=identity.client_id,
        object_id=identity.object_id,
        resource_id=identity.resource_id,
    )


def _unusable(field: str, source: Source) -> str:
    usable = sorted(USABLE_NAMES[source])
    instead = (
        f"Name the identity with managed_identity_{usable[0]} instead."
        if usable
        else "This source has one identity only: remove the name to use that identity."
    )
    return (
        f"The connection names the identity with managed_identity_{field}, which {source.value} cannot use. The name would be "
        f"ignored, and another identity would be used. {instead}"
    )


def _workload_identity(identity: Identity, environ: Mapping[str, str], authority_host: str) -> CredentialPlan:
    found = {
        "AZURE_CLIENT_ID (or managed_identity_client_id in the connection)": identity.client_id
        or environ.get("AZURE_CLIENT_ID"),
        "AZURE_TENANT_ID (or workload_identity_tenant_id in the connection)": identity.tenant_id
        or environ.get("AZURE_TENANT_ID"),
        "AZURE_FEDERATED_TOKEN_FILE": environ.get("AZURE_FEDERATED_TOKEN_FILE"),
    }
    missing = [name for name, value in found.items() if not value]
    if missing:
        raise AdfConfigurationError(
            f"Workload identity is not set up in this environment: {', '.join(missing)} missing. On AKS, the pod needs the "
            'label azure.workload.identity/use: "true" and a service account annotated with the identity\'s client id.'
        )
    client_id, tenant_id, token_file = found.values()
    return CredentialPlan(
        source=Source.WORKLOAD_IDENTITY,
        client_id=client_id,
        tenant_id=tenant_id,
        token_file=token_file,
        authority_host=environ.get("AZURE_AUTHORITY_HOST") or authority_host,
    )

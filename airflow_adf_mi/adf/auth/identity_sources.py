"""Which managed identity source this machine offers, and whether it can give the identity that was named. Pure.

azure-identity chooses the source by environment variables, and some sources silently ignore a name they do not know.
So the name is held against the source here, before any request: it is used, or refused with a reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from airflow_adf_mi.adf.config.settings import Identity, IdentityKind
from airflow_adf_mi.adf.errors import AdfConfigurationError
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
    """Which credential to make, of which source."""

    source: Source
    client_id: str | None = None
    object_id: str | None = None
    resource_id: str | None = None
    tenant_id: str | None = None
    token_file: str | None = None
    authority_host: str | None = None
    """Of the sign-in service, for workload identity."""
    route: Route | None = None
    """The way of its requests; None where another program makes them (a developer's sign-in)."""


# Which names each source understands (azure-identity 1.27, msal 1.39: read and tried against their requests).
USABLE_NAMES: Mapping[Source, frozenset[str]] = {
    Source.IMDS: frozenset({"client_id", "object_id", "resource_id"}),
    Source.APP_SERVICE: frozenset({"client_id", "object_id", "resource_id"}),
    Source.ARC: frozenset({"client_id", "object_id", "resource_id"}),
    Source.AZURE_ML: frozenset({"client_id"}),
    Source.CLOUD_SHELL: frozenset(),
    Source.SERVICE_FABRIC: frozenset(),
    Source.WORKLOAD_IDENTITY: frozenset({"client_id"}),
}
# What names the address of a source's endpoint.
_ENDPOINT_VARIABLES: Mapping[Source, str] = {
    Source.IMDS: "AZURE_POD_IDENTITY_AUTHORITY_HOST",
    Source.APP_SERVICE: "IDENTITY_ENDPOINT",
    Source.SERVICE_FABRIC: "IDENTITY_ENDPOINT",
    Source.ARC: "IDENTITY_ENDPOINT",
    Source.AZURE_ML: "MSI_ENDPOINT",
    Source.CLOUD_SHELL: "MSI_ENDPOINT",
}
_IMDS_ADDRESS = "http://169.254.169.254"
_WHERE = (
    *("AZURE_POD_IDENTITY_AUTHORITY_HOST", "IDENTITY_ENDPOINT", "IMDS_ENDPOINT", "MSI_ENDPOINT"),
    *("AZURE_AUTHORITY_HOST", "AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_FEDERATED_TOKEN_FILE"),
)
WORKLOAD_VARIABLES = ("AZURE_TENANT_ID", "AZURE_FEDERATED_TOKEN_FILE", "AZURE_AUTHORITY_HOST")


def where_tokens_come_from(environ: Mapping[str, str]) -> tuple[str, ...]:
    """What tells one source from another of its kind, such as an emulator from the one before it; nothing secret."""
    return tuple(environ.get(name, "") for name in _WHERE)


def detect_source(environ: Mapping[str, str]) -> Source:
    """The source that azure-identity's ManagedIdentityCredential takes in this environment; the first match counts."""
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
    """Whether AKS has set up workload identity in this environment: what azure-identity looks for."""
    return all(environ.get(name) for name in WORKLOAD_VARIABLES)


def plan(
    identity: Identity, environ: Mapping[str, str], authority_host: str, *, ca_bundle: str | None = None
) -> CredentialPlan:
    """How to be `identity` in this environment.

    `authority_host` is the cloud's sign-in service, `ca_bundle` the connection's. Raises `AdfConfigurationError` where the
    named identity could not, or not for certain, be the one that is used, and for a proxy that cannot be used.
    """
    how = _credential(identity, environ, authority_host)
    address = _address(how, environ)
    if address is None:
        return how
    route = route_to_tokens(address, environ, ca_bundle)
    if how.source is Source.SERVICE_FABRIC:
        # Its certificate is pinned by IDENTITY_SERVER_THUMBPRINT.
        route = replace(route, authorities=())
    return replace(how, route=route)


def _address(how: CredentialPlan, environ: Mapping[str, str]) -> str | None:
    """Where tokens are asked for; None where another program asks for them."""
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
        # First, as in the provider's chain, whatever else the environment has.
        source = Source.WORKLOAD_IDENTITY
    else:
        source = detect_source(environ)
    is_unnamed = identity.kind is IdentityKind.MANAGED_IDENTITY and not identity.names()
    if source is Source.WORKLOAD_IDENTITY and is_unnamed:
        raise AdfConfigurationError(
            "The connection asks for the system-assigned managed identity, but this environment offers AKS workload identity "
            "(AZURE_FEDERATED_TOKEN_FILE is set), where there is none. Set identity to 'workload_identity', or name a "
            "user-assigned identity by managed_identity_client_id."
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
        f"Name it by managed_identity_{usable[0]} instead."
        if usable
        else "It offers one identity only: remove the name to use that one."
    )
    return (
        f"The connection names the identity by managed_identity_{field}, which {source.value} cannot use; it would be "
        f"ignored and another identity be used. {instead}"
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

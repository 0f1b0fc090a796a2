"""Names, for the log, the identity that a connection of the Azure provider's type comes to, here and in the provider. Pure.

The provider asks azure-identity's DefaultAzureCredential: a chain of sign-ins, of which the first that is configured or
reachable wins (read in its version 1.27 and in the provider 15.2.1; `tests/contract/test_provider_connections.py`
compares). We ask for one identity, and never for another.
"""

from __future__ import annotations

from collections.abc import Mapping

from airflow_adf_mi.adf.auth.identity_sources import Source, offers_workload_identity, plan
from airflow_adf_mi.adf.config.settings import Identity, IdentityKind
from airflow_adf_mi.adf.errors import AdfConfigurationError

# What DefaultAzureCredential takes first, if all variables of a line are set.
_PRINCIPALS: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        ("AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET", "AZURE_TENANT_ID"),
        "the service principal of AZURE_CLIENT_ID and AZURE_CLIENT_SECRET in the environment",
    ),
    (
        ("AZURE_CLIENT_ID", "AZURE_CLIENT_CERTIFICATE_PATH", "AZURE_TENANT_ID"),
        "the service principal of AZURE_CLIENT_ID and AZURE_CLIENT_CERTIFICATE_PATH in the environment",
    ),
    (
        ("AZURE_CLIENT_ID", "AZURE_USERNAME", "AZURE_PASSWORD"),
        "the user of AZURE_USERNAME and AZURE_PASSWORD in the environment",
    ),
)


def identity_used(identity: Identity, environ: Mapping[str, str], authority_host: str) -> str:
    """The identity that is asked for in this environment."""
    if identity.kind is IdentityKind.DEVELOPER:
        return f"the {identity}"
    try:
        how = plan(identity, environ, authority_host)
    except AdfConfigurationError:
        # The error follows when a token is needed, which may be in another process with another environment.
        return f"the {identity}"
    if how.source is Source.WORKLOAD_IDENTITY:
        return f"the workload identity with client id {how.client_id}"
    return (
        f"the {identity}" if identity.names() else f"the system-assigned managed identity, asked of {how.source.value}"
    )


def providers_identity(client_id: str | None, tenant_id: str | None, environ: Mapping[str, str]) -> str:
    """The identity that the Azure provider would use for the same connection.

    `client_id` and `tenant_id` are the fields managed_identity_client_id and workload_identity_tenant_id, which the
    provider reads only together.
    """
    narrowed = environ.get("AZURE_TOKEN_CREDENTIALS")
    if narrowed:
        return f"what AZURE_TOKEN_CREDENTIALS={narrowed!r} leaves of its chain of sign-ins"
    for variables, principal in _PRINCIPALS:
        if all(environ.get(name) for name in variables):
            return principal
    named = client_id if client_id and tenant_id else environ.get("AZURE_CLIENT_ID")
    if offers_workload_identity(environ):
        return f"the workload identity with client id {named}"
    if named:
        return f"the managed identity with client id {named}"
    return "the system-assigned managed identity, or a developer's sign-in where there is none"

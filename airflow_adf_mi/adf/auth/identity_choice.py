"""For the log: which identity a connection of the Azure provider's type means in this package and in the provider. Pure.

The provider uses azure-identity's DefaultAzureCredential: a chain of sign-ins. The first sign-in that is configured or reachable
is used (read in azure-identity 1.27 and in the provider 15.2.1; `tests/contract/test_provider_connections.py`
compares). This package uses one identity, and never another one.
"""

from __future__ import annotations

from collections.abc import Mapping

from airflow_adf_mi.adf.auth.identity_sources import Source, offers_workload_identity, plan
from airflow_adf_mi.adf.config.settings import Identity, IdentityKind
from airflow_adf_mi.adf.errors import AdfConfigurationError

# The first choices of DefaultAzureCredential. A choice applies if all its variables are set.
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
    """The identity that this package uses in this environment."""
    if identity.kind is IdentityKind.DEVELOPER:
        return f"the {identity}"
    try:
        how = plan(identity, environ, authority_host)
    except AdfConfigurationError:
        # The request for a token raises the error. That may happen in another process, with another environment.
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
        return f"the first sign-in that AZURE_TOKEN_CREDENTIALS={narrowed!r} permits"
    for variables, principal in _PRINCIPALS:
        if all(environ.get(name) for name in variables):
            return principal
    named = client_id if client_id and tenant_id else environ.get("AZURE_CLIENT_ID")
    if offers_workload_identity(environ):
        return f"the workload identity with client id {named}"
    if named:
        return f"the managed identity with client id {named}"
    return "the system-assigned managed identity, or a developer's sign-in where there is none"

"""What each source of managed identity tokens requires, and how it answers. Pure.

Requests, answers and error bodies are those that azure-identity 1.27 and msal 1.39 send and read, and that Microsoft documents.
Some texts are the emulator's own, because no source shows them: Azure ML's, Cloud Shell's, and those about a missing resource.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from airflow_adf_mi.emulator.identity.tokens import TENANT, ManagedIdentity

IDENTITY_HEADER = "emulated-identity-header"
MSI_SECRET = "emulated-msi-secret"
FEDERATED_TOKEN = "emulated-service-account-token"
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

# A URI, or an application's id.
_RESOURCE = re.compile(r"(https?|api)://[^/\s]+\S*|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


class Refused(Exception):
    """An answer without a token."""

    def __init__(self, status: int, body: Any, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status)
        self.status = status
        self.body = body
        self.headers = dict(headers or {})


@dataclass(frozen=True, kw_only=True)
class EndpointKind:
    """How one kind of identity endpoint checks requests, and how it answers."""

    name: str
    api_version: str | None
    secret: tuple[str, str] | None
    """The header that proves that a request comes from the machine itself, and its value."""
    names: Mapping[str, str] = field(default_factory=dict)
    """The parameters that can name an identity, and the attribute of the identity that each holds."""
    not_assigned: str = "Identity not found"
    """The message for a named identity that is not assigned to the machine."""

    def named(self, fields: Mapping[str, str]) -> tuple[str, str] | tuple[None, None]:
        """The attribute by which a request names its identity, and the name."""
        return next(((self.names[key], fields[key]) for key in self.names if fields.get(key)), (None, None))

    def error(self, code: str, text: str, status: int = 400) -> Refused:
        """An error in this source's form."""
        if self.name == "app_service":
            return Refused(status, {"statusCode": status, "message": text})
        if self.name in ("azure_ml", "cloud_shell", "service_fabric"):
            return Refused(status, {"error": {"code": code, "message": text}})
        return Refused(status, {"error": code, "error_description": text})

    def check(self, headers: Mapping[str, str], fields: Mapping[str, str]) -> None:
        """Raise `Refused` for a request that this source does not accept."""
        if self.secret is not None and headers.get(self.secret[0]) != self.secret[1]:
            raise self._secret_error()
        if self.api_version is not None and fields.get("api-version") != self.api_version:
            raise self.error("bad_request_101", f"Unsupported api-version; this is {self.api_version}")
        unknown = set(fields) - set(self.names) - {"resource", "api-version"}
        if unknown:
            raise self.error("invalid_request", f"Unsupported parameters: {sorted(unknown)}")
        resource = fields.get("resource")
        if not resource:
            code = "ArgumentNullOrEmpty" if self.name == "service_fabric" else "invalid_request"
            raise self.error(code, "Required query variable 'resource' is missing")
        if not _RESOURCE.fullmatch(resource):
            raise self.error(
                "invalid_resource",
                f"AADSTS500011: The resource principal named {resource} was not found in the tenant named {TENANT}.",
            )

    def _secret_error(self) -> Refused:
        if self.name in ("imds", "arc"):
            return self.error("bad_request_102", "Required metadata header not specified")
        if self.name == "cloud_shell":
            return self.error("BadRequest", "Required metadata header not specified")
        if self.name == "service_fabric":
            return self.error("SecretHeaderNotFound", "Secret is not found in the request headers.")
        return self.error("Unauthorized", f"No or wrong {self.secret[0] if self.secret else ''} header", 401)

    def identity(self, fields: Mapping[str, str], identities: Sequence[ManagedIdentity]) -> ManagedIdentity:
        """The identity that a request names, or the source's default identity. Raises `Refused` if there is none."""
        named_by, name = self.named(fields)
        if named_by is not None and name is not None:
            for identity in identities:
                if getattr(identity, named_by).lower() == name.lower():
                    return identity
            raise self.error("invalid_request", self.not_assigned)
        system = next((identity for identity in identities if identity.system_assigned), None)
        if system is not None:
            return system
        if not identities or self.name == "service_fabric":
            code = "ManagedIdentityNotFound" if self.name == "service_fabric" else "invalid_request"
            raise self.error(code, "Identity not found")
        if len(identities) == 1 and self.name == "imds":
            # If a request names no identity, IMDS gives the only user-assigned identity of the machine.
            return identities[0]
        raise self.error(
            "invalid_request",
            "Multiple user assigned identities exist, please specify the clientId / resourceId of the identity in the token "
            "request",
        )

    def reply(
        self, identity: ManagedIdentity, token: str, now: int, expires_on: int, fields: Mapping[str, str]
    ) -> dict[str, Any]:
        """The answer with a token. Its numbers are texts (documented)."""
        reply = {
            "access_token": token,
            "client_id": identity.client_id,
            "expires_on": str(expires_on),
            "resource": fields["resource"],
            "token_type": "Bearer",
        }
        if self.name in ("imds", "cloud_shell", "arc"):
            life = str(expires_on - now)
            reply |= {"expires_in": life, "ext_expires_in": life, "not_before": str(now)}
        if self.name == "arc":
            # An agent that supports user-assigned identities names the one it used. msal requires that.
            reply |= {"object_id": identity.object_id, "msi_res_id": identity.resource_id}
        return reply


_METADATA = ("Metadata", "true")
IMDS = EndpointKind(
    name="imds",
    api_version="2018-02-01",
    secret=_METADATA,
    names={
        "client_id": "client_id",
        "object_id": "object_id",
        "msi_res_id": "resource_id",
        "mi_res_id": "resource_id",
    },
)
APP_SERVICE = EndpointKind(
    name="app_service",
    api_version="2019-08-01",
    secret=("X-IDENTITY-HEADER", IDENTITY_HEADER),
    names={
        "client_id": "client_id",
        "object_id": "object_id",
        "principal_id": "object_id",
        "mi_res_id": "resource_id",
    },
    not_assigned="No User Assigned or Delegated Managed Identity found for specified ClientId/ResourceId/PrincipalId.",
)
AZURE_ML = EndpointKind(
    name="azure_ml", api_version="2017-09-01", secret=("secret", MSI_SECRET), names={"clientid": "client_id"}
)
CLOUD_SHELL = EndpointKind(name="cloud_shell", api_version=None, secret=_METADATA)
SERVICE_FABRIC = EndpointKind(
    name="service_fabric", api_version="2019-07-01-preview", secret=("Secret", IDENTITY_HEADER)
)
ARC = EndpointKind(
    name="arc",
    api_version="2020-06-01",
    secret=_METADATA,
    names={"client_id": "client_id", "object_id": "object_id", "msi_res_id": "resource_id"},
)


def sign_in(tenant: str, form: Mapping[str, str], identities: Sequence[ManagedIdentity]) -> tuple[ManagedIdentity, str]:
    """Check a workload identity's request like the sign-in service. Returns the identity and the requested resource.

    Raises `Refused` with the codes of Microsoft's sign-in errors. Their texts are shortened.
    """
    if tenant != TENANT:
        raise sign_in_error("invalid_request", f"AADSTS90002: Tenant '{tenant}' not found.")
    if form.get("grant_type") != "client_credentials":
        raise sign_in_error("unsupported_grant_type", "AADSTS70003: The app requested an unsupported grant type.")
    if form.get("client_assertion_type") != ASSERTION_TYPE or form.get("client_assertion") != FEDERATED_TOKEN:
        raise sign_in_error(
            "invalid_client",
            "AADSTS70021: No matching federated identity record found for presented assertion.",
            401,
        )
    resource, slash, default = form.get("scope", "").rpartition("/")
    if not slash or default != ".default" or not _RESOURCE.fullmatch(resource):
        raise sign_in_error(
            "invalid_scope", "AADSTS70011: The provided value for the input parameter 'scope' is not valid."
        )
    client_id = form.get("client_id", "")
    for identity in identities:
        if identity.client_id.lower() == client_id.lower():
            return identity, resource
    raise sign_in_error(
        "unauthorized_client",
        f"AADSTS700016: Application with identifier '{client_id}' was not found in the directory.",
    )


def sign_in_error(code: str, text: str, status: int = 400) -> Refused:
    """An error in the sign-in service's form."""
    return Refused(status, {"error": code, "error_description": text})

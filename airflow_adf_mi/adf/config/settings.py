"""The checked settings of a connection: subscription, identity, cloud and factory.

`connection_fields.py` makes one frozen `AdfSettings` of a connection's fields. All other code gets this object, and reads no
fields. An `AdfSettings` holds no secret, so it may be stored with a trigger.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Self
from urllib.parse import quote, urlsplit

from airflow_adf_mi.adf.config.addresses import FactoryRef, RunAddress
from airflow_adf_mi.adf.config.validation import optional_text
from airflow_adf_mi.adf.errors import AdfConfigurationError
from airflow_adf_mi.adf.stored_forms import known_members

_GUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_DOMAIN = re.compile(r"[0-9a-zA-Z-]+(\.[0-9a-zA-Z-]+)+")
_IDENTITY_RESOURCE_ID = re.compile(
    r"/subscriptions/[^/]+/resource[gG]roups/[^/]+/providers/Microsoft\.ManagedIdentity/userAssignedIdentities/[^/]+",
    re.IGNORECASE,
)


class IdentityKind(StrEnum):
    """How to get a token. The connection chooses the kind; it is never guessed."""

    MANAGED_IDENTITY = "managed_identity"
    WORKLOAD_IDENTITY = "workload_identity"
    DEVELOPER = "developer"
    PLATFORM = "platform"
    """Workload identity if the environment is set up for it, otherwise managed identity.

    Only for connections of the Azure provider's type, because their form has no field for the choice.
    """


CHOICES = (IdentityKind.MANAGED_IDENTITY, IdentityKind.WORKLOAD_IDENTITY, IdentityKind.DEVELOPER)
"""The values of the connection field `identity`."""


@dataclass(frozen=True, kw_only=True)
class Identity:
    """The identity to use. At most one of the three ids is set. A managed identity without an id is the system-assigned one."""

    kind: IdentityKind = IdentityKind.MANAGED_IDENTITY
    client_id: str | None = None
    object_id: str | None = None
    resource_id: str | None = None
    tenant_id: str | None = None
    """Tenant of a workload identity, by id or domain. The default is AZURE_TENANT_ID, which the AKS webhook sets."""

    def __post_init__(self) -> None:
        names = self.names()
        if len(names) > 1:
            raise AdfConfigurationError(
                f"The connection names the identity in {len(names)} ways at once: {', '.join(names)}. Keep one of them."
            )
        for field in ("client_id", "object_id"):
            value = getattr(self, field)
            if value is not None and not _GUID.fullmatch(value):
                raise AdfConfigurationError(f"{_field_name(field)} is {value!r}, which is not a GUID.")
        if self.resource_id is not None and not _IDENTITY_RESOURCE_ID.fullmatch(self.resource_id):
            raise AdfConfigurationError(
                f"managed_identity_resource_id is {self.resource_id!r}, which is not the resource id of a user-assigned "
                "identity. Such an id has the form /subscriptions/<subscription>/resourceGroups/<group>/providers/"
                "Microsoft.ManagedIdentity/userAssignedIdentities/<name>."
            )
        if self.tenant_id is not None:
            self._check_tenant(self.tenant_id)
        if names and self.kind is IdentityKind.DEVELOPER:
            raise AdfConfigurationError(
                f"identity is 'developer', which means the developer who is signed in on this machine, but {names[0]} names "
                f"another identity. Remove {names[0]}, or set identity to 'managed_identity'."
            )

        for field in ("object_id", "resource_id"):
            if getattr(self, field) is not None and self.kind is IdentityKind.WORKLOAD_IDENTITY:
                raise AdfConfigurationError(
                    f"identity is 'workload_identity', which has only a client id as its name, but {_field_name(field)} is "
                    "set. Use managed_identity_client_id instead, or remove the field to use the pod's AZURE_CLIENT_ID."
                )

    def _check_tenant(self, tenant: str) -> None:
        if not _GUID.fullmatch(tenant) and not _DOMAIN.fullmatch(tenant):
            raise AdfConfigurationError(
                f"workload_identity_tenant_id is {tenant!r}, which is neither a GUID nor a domain name."
            )
        if self.kind not in (IdentityKind.WORKLOAD_IDENTITY, IdentityKind.PLATFORM):
            raise AdfConfigurationError(
                f"workload_identity_tenant_id is set, but identity is {self.kind.value!r}. "
                "Set identity to 'workload_identity', or remove the tenant."
            )

    def names(self) -> list[str]:
        """The connection fields that name this identity."""
        return [
            _field_name(field)
            for field in ("client_id", "object_id", "resource_id")
            if getattr(self, field) is not None
        ]

    def __str__(self) -> str:
        if self.kind is IdentityKind.DEVELOPER:
            return "developer signed in on this machine"
        what = "workload identity" if self.kind is IdentityKind.WORKLOAD_IDENTITY else "managed identity"
        if self.client_id:
            return f"{what} with client id {self.client_id}"
        if self.object_id:
            return f"{what} with object id {self.object_id}"
        if self.resource_id:
            return f"{what} {self.resource_id}"
        if self.kind is IdentityKind.WORKLOAD_IDENTITY:
            return "workload identity of AZURE_CLIENT_ID"
        if self.kind is IdentityKind.PLATFORM:
            return "identity of this environment (the connection names none)"
        return "system-assigned managed identity"


def _field_name(field: str) -> str:
    return "workload_identity_tenant_id" if field == "tenant_id" else f"managed_identity_{field}"


@dataclass(frozen=True, kw_only=True)
class Cloud:
    """One of Azure's clouds: the addresses of ARM, the sign-in service and ADF Studio."""

    name: str
    arm_endpoint: str
    arm_scope: str
    authority_host: str
    studio_url: str


# Endpoints and scopes are from azure-core 1.41 and azure-mgmt-core 1.6, Studio hosts from Microsoft's documentation.
PUBLIC_CLOUD = Cloud(
    name="AzurePublicCloud",
    arm_endpoint="https://management.azure.com",
    arm_scope="https://management.azure.com/.default",
    authority_host="login.microsoftonline.com",
    studio_url="https://adf.azure.com",
)
US_GOVERNMENT_CLOUD = Cloud(
    name="AzureUSGovernment",
    arm_endpoint="https://management.usgovcloudapi.net",
    arm_scope="https://management.core.usgovcloudapi.net/.default",
    authority_host="login.microsoftonline.us",
    studio_url="https://adf.azure.us",
)
CHINA_CLOUD = Cloud(
    name="AzureChinaCloud",
    arm_endpoint="https://management.chinacloudapi.cn",
    arm_scope="https://management.chinacloudapi.cn/.default",
    authority_host="login.chinacloudapi.cn",
    studio_url="https://adf.azure.cn",
)
CLOUDS: Mapping[str, Cloud] = {cloud.name: cloud for cloud in (PUBLIC_CLOUD, US_GOVERNMENT_CLOUD, CHINA_CLOUD)}


@dataclass(frozen=True, kw_only=True)
class AdfSettings:
    """A connection's fields, checked. Holds no secret."""

    subscription_id: str
    identity: Identity = Identity()
    cloud: Cloud = PUBLIC_CLOUD
    """Azure's cloud. `arm_endpoint` and `arm_scope` override its addresses, for a private or emulated endpoint."""
    resource_group_name: str | None = None
    factory_name: str | None = None
    ca_bundle: str | None = None
    """Path of a PEM file of certificate authorities. It replaces the usual authorities for ARM, and adds to them for sign-in."""
    arm_endpoint: str = ""
    arm_scope: str = ""

    def __post_init__(self) -> None:
        if not self.subscription_id:
            raise AdfConfigurationError(
                "The connection has no subscriptionId. Add the id of the subscription that holds the data factory."
            )
        if not _GUID.fullmatch(self.subscription_id):
            raise AdfConfigurationError(f"subscriptionId is {self.subscription_id!r}, which is not a GUID.")
        object.__setattr__(self, "arm_endpoint", (self.arm_endpoint or self.cloud.arm_endpoint).rstrip("/"))
        object.__setattr__(self, "arm_scope", self.arm_scope or self.cloud.arm_scope)
        # The address may contain a password, so error texts do not quote that part.
        before, at, host = self.arm_endpoint.rpartition("@")
        shown = f"***@{host}" if at else before or host
        try:
            url = urlsplit(self.arm_endpoint)
            _ = url.port
        except ValueError:
            raise AdfConfigurationError(f"arm_endpoint is {shown!r}, which is not an address.") from None
        if url.scheme != "https" or not url.hostname:
            raise AdfConfigurationError(
                f"arm_endpoint is {shown!r}. It must be an https:// address: tokens are never sent unencrypted."
            )
        if url.username or url.password or url.query or url.fragment:
            raise AdfConfigurationError(
                "arm_endpoint must be a plain https:// address without user, query or fragment."
            )
        if not (self.arm_scope.startswith("https://") and self.arm_scope.endswith("/.default")):
            raise AdfConfigurationError(
                f"arm_scope is {self.arm_scope!r}, which is not a token scope. It must begin with https:// and end with "
                "/.default, for example https://management.azure.com/.default."
            )

    def factory(self, resource_group_name: object = None, factory_name: object = None) -> FactoryRef:
        """The factory to use: by the arguments, or by the connection for arguments that are not given.

        Arguments may come from templates, which may turn None into text and text into numbers.
        """
        chosen = {
            "resource_group_name": optional_text("resource_group_name", resource_group_name)
            or self.resource_group_name,
            "factory_name": optional_text("factory_name", factory_name) or self.factory_name,
        }
        missing = [field for field, value in chosen.items() if not value]
        if missing:
            raise AdfConfigurationError(
                f"No {' and no '.join(missing)}: neither the arguments nor the connection has "
                f"{'them' if len(missing) > 1 else 'it'}. "
                f"Set {' and '.join(missing)} in the connection, or pass {'them' if len(missing) > 1 else 'it'} to the operator, "
                "sensor or hook."
            )
        return FactoryRef(subscription_id=self.subscription_id, **{k: str(v) for k, v in chosen.items()})

    def run_address(self, factory: FactoryRef, run_id: str, pipeline_name: str | None = None) -> RunAddress:
        """The address of a run, with its page in this cloud's ADF Studio."""
        page = f"{self.cloud.studio_url}/en/monitoring/pipelineruns/{quote(run_id, safe='')}"
        return RunAddress(
            run_id=run_id,
            factory=factory,
            studio_url=f"{page}?factory={quote(factory.resource_id, safe='')}",
            pipeline_name=pipeline_name,
        )

    def to_json(self) -> dict[str, Any]:
        """The form that a trigger stores. `from_json` reads this form, also in later versions."""
        stored = asdict(self)
        stored["cloud"] = self.cloud.name
        return stored

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """The settings that an earlier or later version stored. Unknown members are ignored."""
        members = known_members(cls, stored)
        identity = known_members(Identity, stored["identity"])
        identity["kind"] = IdentityKind(identity["kind"])
        return cls(**members | {"identity": Identity(**identity), "cloud": CLOUDS[stored["cloud"]]})

"""The usual cause of a failed token request, by the answer of its source. Pure.

The numbers after AADSTS are codes of the sign-in service. Microsoft documents them ("Microsoft Entra authentication and
authorization error codes" on learn.microsoft.com; for federated credentials: issues of Azure/azure-workload-identity).
The documentation warns that codes may change. So the codes only choose the advice, and the answer is always quoted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from airflow_adf_mi.adf.auth.identity_sources import CredentialPlan
from airflow_adf_mi.adf.redaction import cap, redact


@dataclass(frozen=True)
class Answer:
    """The answer of a source of tokens."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_json(self) -> bool:
        return "json" in self._header("content-type")

    @property
    def sign_of_proxy(self) -> str | None:
        """The sign that a proxy answered; None if there is none. Sources of tokens themselves answer with JSON."""
        if self.status == 407:
            return "status 407"
        for name, value in self.headers.items():
            if name.lower().startswith("proxy-") or name.lower() in ("via", "x-squid-error"):
                return f"{name}: {cap(redact(value), 80)}"
        return "a page of HTML" if "html" in self._header("content-type") else None

    def _header(self, wanted: str) -> str:
        return next((value.lower() for name, value in self.headers.items() if name.lower() == wanted), "")


# Words in the answers of endpoints, in lower case. The first match counts.
_WORDS: tuple[tuple[str, str], ...] = (
    (
        "identity not found",
        "This identity is not assigned to the machine. Assign it (virtual machine, scale set or app: Identity, User "
        "assigned), or correct the id in the connection.",
    ),
    (
        "multiple user assigned identities",
        "Several identities are assigned and the connection names none. Put the client id of the one to use into "
        "managed_identity_client_id.",
    ),
    (
        # App Service answers with these words if the identity is not assigned.
        "no user assigned or delegated managed identity found",
        "This identity is not assigned to the app. Assign it (Identity, User assigned), or correct the id in the connection.",
    ),
    (
        "no identity has been assigned",
        "The machine has no such identity. Turn on its system-assigned identity, or assign the user-assigned one.",
    ),
)
_CODE = re.compile(r"AADSTS(\d+)", re.IGNORECASE)
_BLOCKED = (
    "A policy of the tenant blocks this identity (Conditional Access for workload identities). Ask the tenant's administrator to "
    "permit it, or to permit the network that Airflow runs in. The tenant's sign-in log names the policy."
)
_UNKNOWN_APPLICATION = "The tenant has no application with this client id. Check the client id and the tenant."
_UNKNOWN_TENANT = (
    "The sign-in service of this cloud has no such tenant. Check workload_identity_tenant_id (or AZURE_TENANT_ID), and that "
    "cloud_environment (or AZURE_AUTHORITY_HOST) is the tenant's cloud."
)
_UNKNOWN_RESOURCE = "The tenant does not know the resource that the token is for. Check arm_scope and the cloud."
_RESTRICTED = (
    "A proxy between this machine and the sign-in service permits sign-ins to certain tenants only (tenant restrictions), not "
    "to this one. Ask the proxy's administrator to permit it."
)
_EXPIRED = (
    "The service account's token{file} is no longer valid, or not yet. Kubernetes renews this file before the token expires. "
    "Check that the file is a projected token (not a copy, and not mounted by subPath, which is never renewed), and that the "
    "node's clock is right."
)
_BAD_SIGNATURE = (
    "The sign-in service could not verify the service account's token{file}. Check that the cluster's OIDC issuer and its keys "
    "can be read from the internet, and that the keys are those that sign now."
)
_ENTRA_TOKEN = (
    "The token{file} was issued by Microsoft Entra itself, and only a token of another issuer can be exchanged. Check which file "
    "AZURE_FEDERATED_TOKEN_FILE names: it must be the service account's token."
)
_DISABLED = "The identity's application is disabled in the tenant. Ask the tenant's administrator to enable it."
_NOT_FEDERATED = (
    "The identity has no federated credential that matches this service account. Check issuer, subject "
    "(system:serviceaccount:<namespace>:<name>, upper and lower case count) and audience of its federated credential. A new "
    "federated credential takes effect after a few minutes."
)
# Patterns of the whole number, and the advice. The first match counts.
_CODES: tuple[tuple[str, str], ...] = (
    # No such record; wrong issuer, audience or subject; the same with a hint on upper and lower case.
    (r"70021|70021[1-3]\d?", _NOT_FEDERATED),
    (r"700024|500133|50013", _EXPIRED),
    (r"700027|50006|50012|50027|900384", _BAD_SIGNATURE),
    (r"700222", _ENTRA_TOKEN),
    (r"700016|700011|70001|7000229", _UNKNOWN_APPLICATION),
    (r"7000112", _DISABLED),
    (r"90002|900023|90019|50059|90038|900382|900432|90051", _UNKNOWN_TENANT),
    (r"53\d{3,4}|50131", _BLOCKED),
    (r"50002|500021|500022", _RESTRICTED),
    # No such resource; invalid scopes. 70023 is not documented, but users reported it; 700022 and 700023 are documented.
    (r"500011|50001|65005[0-9]|70011|70002[23]|70023|28002", _UNKNOWN_RESOURCE),
)
_PASSING = re.compile(r"50033|90006|90012|90024|90033|90055|90090|90091")
"""Codes that the sign-in service documents as temporary, with any status."""


def known_cause(text: str, how: CredentialPlan) -> str | None:
    """The usual cause of an answer with known words or a known code, and what to do."""
    advice = next((advice for words, advice in _WORDS if words in text.lower()), None)
    if advice is None:
        advice = next((advice for code in codes(text) for known, advice in _CODES if re.fullmatch(known, code)), None)
    return advice and advice.replace("{file}", f" in {how.token_file}" if how.token_file else "")


def codes(text: str) -> list[str]:
    """The sign-in service's error codes in an answer."""
    return _CODE.findall(text)


def is_passing(text: str) -> bool:
    """Whether the sign-in service documents the failure as temporary."""
    return any(_PASSING.fullmatch(code) for code in codes(text))

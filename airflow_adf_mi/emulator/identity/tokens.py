"""Identities, their tokens, and ARM's checks of a token."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from airflow_adf_mi.emulator.errors import ServiceError

TENANT = "99999999-9999-4999-8999-999999999999"


@dataclass(frozen=True, kw_only=True)
class ManagedIdentity:
    """An identity that is assigned to the emulated machine."""

    client_id: str
    object_id: str
    resource_id: str
    system_assigned: bool = False


SYSTEM_ASSIGNED = ManagedIdentity(
    client_id="00000000-0000-4000-8000-00000000c001",
    object_id="00000000-0000-4000-8000-00000000b001",
    resource_id="/subscriptions/11111111-1111-4111-8111-111111111111/resourcegroups/rg-emulator/providers/"
    "Microsoft.Compute/virtualMachines/airflow",
    system_assigned=True,
)
USER_ASSIGNED = ManagedIdentity(
    client_id="00000000-0000-4000-8000-00000000c002",
    object_id="00000000-0000-4000-8000-00000000b002",
    resource_id="/subscriptions/11111111-1111-4111-8111-111111111111/resourcegroups/rg-emulator/providers/"
    "Microsoft.ManagedIdentity/userAssignedIdentities/airflow",
)


class Tokens:
    """Issues and checks tokens. They have the form of JWTs, and are valid for this instance only."""

    def __init__(self, now: Callable[[], float], *, lifetime: float = 86_400.0) -> None:
        self._now = now
        self._key = secrets.token_bytes(32)
        self.lifetime = lifetime
        self.lifetimes: dict[str, float] = {}
        """Lifetimes of tokens that differ from the default, by client id."""
        self._revoked_before = 0
        self._challenged_before = 0
        self._issued = 0
        self.denied: dict[str, set[str]] = {}
        """Denied actions, by client id. All other actions are allowed."""

    def issue(self, identity: ManagedIdentity, resource: str) -> tuple[str, int]:
        """Issue a token. Returns it and its time of expiry (epoch seconds)."""
        now = int(self._now())
        self._issued += 1
        claims = {
            "aud": resource,
            "iss": f"https://sts.windows.net/{TENANT}/",
            "iat": now,
            "nbf": now,
            "exp": now + int(self.lifetimes.get(identity.client_id, self.lifetime)),
            "appid": identity.client_id,
            "oid": identity.object_id,
            "tid": TENANT,
            "xms_mirid": identity.resource_id,
            "uti": self._issued,
        }
        signed = f"{_encoded({'typ': 'JWT', 'alg': 'HS256'})}.{_encoded(claims)}"
        return f"{signed}.{self._signature(signed)}", int(claims["exp"])  # type: ignore[call-overload]

    def revoke(self, *, challenge: bool = False) -> None:
        """Make ARM refuse every token issued so far.

        With `challenge`, ARM answers with a claims challenge (continuous access evaluation), which azure-core answers by
        itself with a new token. Without it, ARM answers that the token is invalid.
        """
        if challenge:
            self._challenged_before = self._issued
        else:
            self._revoked_before = self._issued

    def check(self, authorization: str | None, audiences: Iterable[str]) -> dict[str, Any]:
        """The claims of a valid token. Raises `ServiceError` 401 for any other token."""
        kind, _, token = (authorization or "").partition(" ")
        if not token or kind.lower() != "bearer":
            raise _unauthorized("AuthenticationFailed", "Authentication failed. The 'Authorization' header is missing.")
        try:
            signed, _, signature = token.rpartition(".")
            claims = json.loads(_decoded(signed.split(".")[1]))
        except (IndexError, ValueError):
            raise _unauthorized("InvalidAuthenticationToken", "The access token is invalid.") from None
        # Compared as bytes, because compare_digest does not accept text that is not ASCII.
        expected = self._signature(signed).encode()
        if not hmac.compare_digest(signature.encode(errors="surrogateescape"), expected):
            raise _unauthorized("InvalidAuthenticationToken", "The access token is invalid.")
        if claims["uti"] <= self._revoked_before:
            raise _unauthorized("InvalidAuthenticationToken", "The access token is invalid.")
        if claims["uti"] <= self._challenged_before:
            raise _challenge(claims["iat"])
        if claims["exp"] <= self._now():
            raise _unauthorized("ExpiredAuthenticationToken", "The access token expiry UTC time has passed.")
        if claims["aud"].rstrip("/") not in {audience.rstrip("/") for audience in audiences}:
            raise _unauthorized(
                "InvalidAuthenticationTokenAudience",
                f"The access token has been obtained for wrong audience or resource '{claims['aud']}'.",
            )
        return dict(claims)

    def authorize(self, claims: dict[str, Any], action: str, scope: str) -> None:
        """Raise `ServiceError` 403 if the identity lacks `action`, which is below Microsoft.DataFactory/factories/."""
        if action in self.denied.get(claims["appid"], ()):
            raise ServiceError(
                403,
                "AuthorizationFailed",
                f"The client '{claims['appid']}' with object id '{claims['oid']}' does not have authorization to perform "
                f"action 'Microsoft.DataFactory/factories/{action}' over scope '{scope}' or the scope is invalid. If access "
                "was recently granted, please refresh your credentials.",
            )

    def _signature(self, signed: str) -> str:
        return base64.urlsafe_b64encode(hmac.digest(self._key, signed.encode(), hashlib.sha256)).rstrip(b"=").decode()


def _unauthorized(code: str, message: str) -> ServiceError:
    challenge = (
        f'Bearer authorization_uri="https://login.windows.net/", error="invalid_token", error_description="{message}"'
    )
    return ServiceError(401, code, message, headers={"WWW-Authenticate": challenge})


def _challenge(issued: int) -> ServiceError:
    """The documented challenge of continuous access evaluation: it requires a token that was issued after `issued`."""
    wanted = {"access_token": {"nbf": {"essential": True, "value": str(issued)}}}
    claims = base64.b64encode(json.dumps(wanted).encode()).decode()
    challenge = (
        'Bearer realm="", authorization_uri="https://login.microsoftonline.com/common/oauth2/authorize", '
        f'error="insufficient_claims", claims="{claims}"'
    )
    return ServiceError(
        401,
        "InvalidAuthenticationToken",
        "The access token is no longer accepted: a claims challenge must be answered.",
        headers={"WWW-Authenticate": challenge},
    )


def _encoded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))

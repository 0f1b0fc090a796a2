"""The endpoints that managed identity tokens come from, and the sign-in service for workload identity.

Requests, answers and error bodies as azure-identity 1.27 sends and reads them, and as Microsoft documents them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from aiohttp import web

from airflow_adf_mi.emulator.books import Books, TokenRecord
from airflow_adf_mi.emulator.faults import Faults
from airflow_adf_mi.emulator.replies import respond_to_fault
from airflow_adf_mi.emulator.tokens import TENANT, ManagedIdentity, Tokens

IDENTITY_HEADER = "emulated-identity-header"
MSI_SECRET = "emulated-msi-secret"
FEDERATED_TOKEN = "emulated-service-account-token"

# Query parameters by which each source takes a name.
_NAMES: Mapping[str, Mapping[str, str]] = {
    "imds": {
        "client_id": "client_id",
        "object_id": "object_id",
        "msi_res_id": "resource_id",
        "mi_res_id": "resource_id",
    },
    "app_service": {
        "client_id": "client_id",
        "object_id": "object_id",
        "principal_id": "object_id",
        "mi_res_id": "resource_id",
    },
    "azure_ml": {"clientid": "client_id"},
    "cloud_shell": {},
}


class _Refused(Exception):
    def __init__(self, status: int, body: Any) -> None:
        super().__init__(status)
        self.status = status
        self.body = body


class IdentityEndpoints:
    """Handlers for all sources; they share the machine's identities."""

    def __init__(
        self,
        identities: list[ManagedIdentity],
        tokens: Tokens,
        faults: Faults,
        books: Books,
        now: Callable[[], float],
    ) -> None:
        self.identities = identities
        self._tokens = tokens
        self._faults = faults
        self._books = books
        self._now = now

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/metadata/identity/oauth2/token", self._imds),
            web.get("/app_service", self._app_service),
            web.get("/azure_ml", self._azure_ml),
            web.post("/cloud_shell", self._cloud_shell),
        ]

    def sign_in_routes(self) -> list[web.RouteDef]:
        return [web.post("/{tenant}/oauth2/v2.0/token", self._workload_identity)]

    def environment(self, source: str, base_url: str, authority: str, directory: Path) -> dict[str, str]:
        """The variables by which azure-identity finds this source here."""
        if source == "imds":
            return {"AZURE_POD_IDENTITY_AUTHORITY_HOST": base_url}
        if source == "app_service":
            return {"IDENTITY_ENDPOINT": f"{base_url}/app_service", "IDENTITY_HEADER": IDENTITY_HEADER}
        if source == "azure_ml":
            return {"MSI_ENDPOINT": f"{base_url}/azure_ml", "MSI_SECRET": MSI_SECRET}
        if source == "cloud_shell":
            return {"MSI_ENDPOINT": f"{base_url}/cloud_shell"}
        if source == "workload_identity":
            token_file = directory / "federated-token"
            token_file.write_text(FEDERATED_TOKEN)
            user_assigned = next(i for i in self.identities if not i.system_assigned)
            return {
                "AZURE_AUTHORITY_HOST": authority,
                "AZURE_TENANT_ID": TENANT,
                "AZURE_CLIENT_ID": user_assigned.client_id,
                "AZURE_FEDERATED_TOKEN_FILE": str(token_file),
            }
        raise ValueError(f"no such source: {source!r}")

    async def _imds(self, request: web.Request) -> web.StreamResponse:
        def check() -> None:
            if request.headers.get("Metadata", "").lower() != "true":
                raise _Refused(
                    400,
                    {
                        "error": "bad_request_102",
                        "error_description": "Required metadata header not specified",
                    },
                )
            if request.query.get("api-version") != "2018-02-01":
                raise _Refused(400, {"error": "bad_request_101", "error_description": "Unsupported api-version"})

        return await self._token(request, "imds", request.query, check)

    async def _app_service(self, request: web.Request) -> web.StreamResponse:
        def check() -> None:
            if request.headers.get("X-IDENTITY-HEADER") != IDENTITY_HEADER:
                raise _Refused(401, {"statusCode": 401, "message": "No or wrong X-IDENTITY-HEADER"})

        return await self._token(request, "app_service", request.query, check)

    async def _azure_ml(self, request: web.Request) -> web.StreamResponse:
        def check() -> None:
            if request.headers.get("secret") != MSI_SECRET:
                raise _Refused(401, {"error": {"code": "Unauthorized", "message": "No or wrong secret header"}})

        return await self._token(request, "azure_ml", request.query, check)

    async def _cloud_shell(self, request: web.Request) -> web.StreamResponse:
        def check() -> None:
            if request.headers.get("Metadata", "").lower() != "true":
                raise _Refused(
                    400,
                    {"error": {"code": "BadRequest", "message": "Required metadata header not specified"}},
                )

        form = {name: str(value) for name, value in (await request.post()).items()}
        return await self._token(request, "cloud_shell", form, check)

    async def _workload_identity(self, request: web.Request) -> web.StreamResponse:
        form = {name: str(value) for name, value in (await request.post()).items()}

        def check() -> None:
            if form.get("client_assertion") != FEDERATED_TOKEN:
                raise _Refused(
                    401,
                    {
                        "error": "invalid_client",
                        "error_description": "AADSTS70021: No matching federated identity record found for presented "
                        "assertion.",
                    },
                )

        query = {
            "resource": form.get("scope", "").removesuffix("/.default"),
            "client_id": form.get("client_id", ""),
        }
        return await self._token(request, "workload_identity", query, check)

    async def _token(
        self, request: web.Request, source: str, query: Mapping[str, str], check: Callable[[], None]
    ) -> web.StreamResponse:
        names = _NAMES.get(source, {"client_id": "client_id"})
        named_by, name = next(((names[key], query[key]) for key in names if query.get(key)), (None, None))
        fault = self._faults.take("token", identity=name)
        if fault is not None:
            self._record(source, named_by, name, fault.status or 0, query)
            answer = await respond_to_fault(request, fault)
            if answer is not None:
                return answer
        try:
            check()
            unknown = set(query) - set(names) - {"resource", "api-version"}
            if unknown:
                raise _Refused(400, _error(source, "invalid_request", f"Unsupported parameters: {sorted(unknown)}"))
            identity = self._identity(source, named_by, name)
        except _Refused as e:
            self._record(source, named_by, name, e.status, query)
            return web.json_response(e.body, status=e.status)
        token, expires_on = self._tokens.issue(identity, query["resource"])
        self._record(source, named_by, name, 200, query, identity.client_id)
        return web.json_response(self._reply(source, identity, token, expires_on, query["resource"]))

    def _identity(self, source: str, named_by: str | None, name: str | None) -> ManagedIdentity:
        if named_by is not None and name is not None:
            for identity in self.identities:
                if getattr(identity, named_by).lower() == name.lower():
                    return identity
            if source == "workload_identity":
                raise _Refused(
                    400,
                    {
                        "error": "unauthorized_client",
                        "error_description": f"AADSTS700016: Application with identifier '{name}' was not found in the "
                        "directory.",
                    },
                )
            raise _Refused(400, _error(source, "invalid_request", "Identity not found"))
        system = [identity for identity in self.identities if identity.system_assigned]
        if system:
            return system[0]
        if len(self.identities) == 1 and source == "imds":
            # IMDS gives the only user-assigned identity of a machine to who names none.
            return self.identities[0]
        if self.identities:
            raise _Refused(
                400,
                _error(
                    source,
                    "invalid_request",
                    "Multiple user assigned identities exist, please specify the clientId / resourceId of the identity in "
                    "the token request",
                ),
            )
        raise _Refused(400, _error(source, "invalid_request", "Identity not found"))

    def _reply(
        self, source: str, identity: ManagedIdentity, token: str, expires_on: int, resource: str
    ) -> dict[str, Any]:
        life = expires_on - int(self._now())
        if source == "workload_identity":
            return {"token_type": "Bearer", "expires_in": life, "ext_expires_in": life, "access_token": token}
        reply = {
            "access_token": token,
            "client_id": identity.client_id,
            "expires_on": str(expires_on),
            "resource": resource,
            "token_type": "Bearer",
        }
        if source in ("imds", "cloud_shell"):
            # Numbers are text here (documented).
            reply |= {
                "expires_in": str(life),
                "ext_expires_in": str(life),
                "not_before": str(int(self._now())),
            }
        return reply

    def _record(
        self,
        source: str,
        named_by: str | None,
        name: str | None,
        status: int,
        query: Mapping[str, str],
        client_id: str | None = None,
    ) -> None:
        self._books.tokens.append(
            TokenRecord(
                time=self._now(),
                source=source,
                named_by=named_by,
                name=name,
                status=status,
                resource=query.get("resource"),
                client_id=client_id,
            )
        )


def _error(source: str, code: str, description: str) -> dict[str, Any]:
    if source == "app_service":
        return {"statusCode": 400, "message": description}
    if source in ("azure_ml", "cloud_shell"):
        return {"error": {"code": code, "message": description}}
    return {"error": code, "error_description": description}

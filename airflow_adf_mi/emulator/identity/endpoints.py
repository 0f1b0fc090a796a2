"""The endpoints for managed identity tokens, and the sign-in service for workload identity."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from aiohttp import web

from airflow_adf_mi.emulator.errors import ServiceError
from airflow_adf_mi.emulator.gateway.books import TokenRecord
from airflow_adf_mi.emulator.gateway.limits import IDENTITY
from airflow_adf_mi.emulator.gateway.replies import respond_to_fault
from airflow_adf_mi.emulator.identity import sources
from airflow_adf_mi.emulator.identity.certificates import server_thumbprint
from airflow_adf_mi.emulator.identity.machine import Machine
from airflow_adf_mi.emulator.identity.sources import EndpointKind, Refused
from airflow_adf_mi.emulator.identity.tokens import TENANT, ManagedIdentity

SOURCES = ("imds", "app_service", "azure_ml", "cloud_shell", "arc", "service_fabric", "workload_identity")


class IdentityEndpoints:
    """Handlers for all sources, which share the machine's identities.

    :param directory: the folder of the machine's files, through which some sources prove a caller's rights.
    """

    def __init__(self, machine: Machine, directory: Callable[[], Path]) -> None:
        self.identities = machine.identities
        self._tokens = machine.tokens
        self._faults = machine.faults
        self._limits = machine.limits
        self._books = machine.books
        self._now = machine.clock.now
        self._directory = directory
        self._arc_keys: set[str] = set()

    def routes(self) -> list[web.RouteDef]:
        """Over HTTP."""
        return [
            web.get("/metadata/identity/oauth2/token", self._by_query(sources.IMDS)),
            web.get("/app_service", self._by_query(sources.APP_SERVICE)),
            web.get("/azure_ml", self._by_query(sources.AZURE_ML)),
            web.get("/arc", self._arc),
            web.post("/cloud_shell", self._cloud_shell),
        ]

    def secure_routes(self) -> list[web.RouteDef]:
        """The routes over HTTPS, which clients require for these sources."""
        return [
            web.post("/{tenant}/oauth2/v2.0/token", self._workload_identity),
            web.get("/service_fabric", self._by_query(sources.SERVICE_FABRIC)),
        ]

    def environment(self, source: str, base_url: str, secure_url: str) -> dict[str, str]:
        """The variables with which azure-identity finds this source. Raises `ValueError` for an unknown source."""
        if source == "workload_identity":
            return self._workload_environment(secure_url)
        known = {
            "imds": {"AZURE_POD_IDENTITY_AUTHORITY_HOST": base_url},
            "app_service": {
                "IDENTITY_ENDPOINT": f"{base_url}/app_service",
                "IDENTITY_HEADER": sources.IDENTITY_HEADER,
            },
            "azure_ml": {"MSI_ENDPOINT": f"{base_url}/azure_ml", "MSI_SECRET": sources.MSI_SECRET},
            "cloud_shell": {"MSI_ENDPOINT": f"{base_url}/cloud_shell"},
            "arc": {"IDENTITY_ENDPOINT": f"{base_url}/arc", "IMDS_ENDPOINT": base_url},
        }
        if source == "service_fabric":
            return {
                "IDENTITY_ENDPOINT": f"{secure_url}/service_fabric",
                "IDENTITY_HEADER": sources.IDENTITY_HEADER,
                "IDENTITY_SERVER_THUMBPRINT": server_thumbprint(self._directory()),
            }
        if source not in known:
            raise ValueError(f"no source {source!r}; there are {', '.join(SOURCES)}")
        return known[source]

    def _workload_environment(self, authority: str) -> dict[str, str]:
        user_assigned = next((i for i in self.identities if not i.system_assigned), None)
        if user_assigned is None:
            raise ValueError("workload identity needs a user-assigned identity, and the machine has none")
        token_file = self._directory() / "federated-token"
        token_file.write_text(sources.FEDERATED_TOKEN)
        return {
            "AZURE_AUTHORITY_HOST": authority,
            "AZURE_TENANT_ID": TENANT,
            "AZURE_CLIENT_ID": user_assigned.client_id,
            "AZURE_FEDERATED_TOKEN_FILE": str(token_file),
        }

    def _by_query(self, source: EndpointKind) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            return await self._token(request, source, dict(request.query))

        return handle

    async def _cloud_shell(self, request: web.Request) -> web.StreamResponse:
        return await self._token(request, sources.CLOUD_SHELL, await _form(request))

    async def _arc(self, request: web.Request) -> web.StreamResponse:
        """Arc's handshake: the first answer names a file, and the second request must carry the text of the file.

        msal only reads below /var/opt/azcmagent/tokens, so the file must be visible there.
        """
        if request.headers.get("Metadata") == "true" and not self._took_key(request.headers.get("Authorization")):
            file = self._directory() / "arc.key"
            file.touch(mode=0o600)
            key = secrets.token_hex(16)
            file.write_text(key)
            self._arc_keys.add(key)
            return web.Response(status=401, headers={"WWW-Authenticate": f"Basic realm={file}"})
        return await self._token(request, sources.ARC, dict(request.query))

    def _took_key(self, authorization: str | None) -> bool:
        key = (authorization or "").removeprefix("Basic ")
        known = key in self._arc_keys
        self._arc_keys.discard(key)
        return known

    async def _workload_identity(self, request: web.Request) -> web.StreamResponse:
        form = await _form(request)
        asked = TokenRecord(
            time=self._now(),
            source="workload_identity",
            named_by="client_id",
            name=form.get("client_id"),
            resource=form.get("scope", "").removesuffix("/.default"),
        )

        def give() -> tuple[ManagedIdentity, Mapping[str, Any]]:
            identity, resource = sources.sign_in(request.match_info["tenant"], form, self.identities)
            token, expires_on = self._tokens.issue(identity, resource)
            life = expires_on - int(self._now())
            return identity, {
                "token_type": "Bearer",
                "expires_in": life,
                "ext_expires_in": life,
                "access_token": token,
            }

        return await self._answer(request, asked, sources.sign_in_error, give)

    async def _token(self, request: web.Request, source: EndpointKind, fields: Mapping[str, str]) -> web.StreamResponse:
        named_by, name = source.named(fields)
        asked = TokenRecord(
            time=self._now(), source=source.name, named_by=named_by, name=name, resource=fields.get("resource")
        )

        def give() -> tuple[ManagedIdentity, Mapping[str, Any]]:
            source.check(request.headers, fields)
            identity = source.identity(fields, self.identities)
            token, expires_on = self._tokens.issue(identity, fields["resource"])
            return identity, source.reply(identity, token, int(self._now()), expires_on, fields)

        return await self._answer(request, asked, source.error, give)

    async def _answer(
        self,
        request: web.Request,
        record: TokenRecord,
        error: Callable[[str, str, int], Refused],
        give: Callable[[], tuple[ManagedIdentity, Mapping[str, Any]]],
    ) -> web.StreamResponse:
        """Answer with the token of `give`, unless a fault or a limit applies. `error` makes errors in the source's form."""
        self._books.tokens.append(record)
        fault = self._faults.take("token", identity=record.name)
        try:
            if fault is not None:
                record.fault = fault.id
                instead = await respond_to_fault(request, fault, lambda *refusal: error(*refusal).body)
                if instead is not None:
                    record.status = 0 if fault.drop else instead.status
                    return instead
            self._limits.take(record.source, IDENTITY)
            identity, reply = give()
        except ServiceError as e:
            # No source shows the body of a real 429.
            body = error("too_many_requests", "Too many requests", e.status).body
            record.status = e.status
            return web.json_response(body, status=e.status, headers=e.headers)
        except Refused as e:
            record.status = e.status
            return web.json_response(e.body, status=e.status, headers=e.headers)
        record.status, record.client_id = 200, identity.client_id
        return web.json_response(reply)


async def _form(request: web.Request) -> dict[str, str]:
    return {name: str(value) for name, value in (await request.post()).items()}

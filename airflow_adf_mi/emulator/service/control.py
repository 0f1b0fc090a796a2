"""The emulator's own HTTP interface, for tests and demos in other processes: books, runs, faults, clock, switches.

It uses the identity port, so that it also answers while the ARM port refuses connections.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from airflow_adf_mi.emulator.gateway.faults import Fault
from airflow_adf_mi.emulator.gateway.routes import ACTIONS
from airflow_adf_mi.emulator.name_suggestions import did_you_mean
from airflow_adf_mi.emulator.pipelines.runs import Run
from airflow_adf_mi.emulator.pipelines.script import Script
from airflow_adf_mi.emulator.service.parts import Parts
from airflow_adf_mi.emulator.service.state import FactoryState


def run_to_json(factory: FactoryState, run: Run) -> dict[str, Any]:
    """A run as the service shows it, plus members that only the emulator knows."""
    return {
        **run.wire(*factory.address),
        "factory": factory.factory_name,
        "clientRequestId": run.client_request_id,
        "cancelledAt": run.cancelled_at,
        "parentRunId": run.parent_run_id,
        "guesses": [guess.to_json() for guess in run.guesses],
        "activities": [entry.wire(*factory.address) for entry in run.activities],
    }


@web.middleware
async def refuse_nonsense(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer invalid requests to the control interface with 400 and the reason."""
    if not request.path.startswith("/_emulator/"):
        return await handler(request)
    try:
        return await handler(request)
    except (AttributeError, KeyError, TypeError, ValueError) as e:
        return web.json_response({"error": f"{type(e).__name__}: {e}"}, status=400)


class Control:
    """Handlers below /_emulator/.

    :param refuse_for: closes the ARM port for this many seconds.
    """

    def __init__(self, parts: Parts, refuse_for: Callable[[float], Awaitable[None]]) -> None:
        self._parts = parts
        self._refuse_for = refuse_for

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/_emulator/health", self._health),
            web.get("/_emulator/books", self._books),
            web.get("/_emulator/runs", self._runs),
            web.get("/_emulator/faults", self._faults),
            web.get("/_emulator/faults/unconsumed", self._unconsumed),
            web.post("/_emulator/faults", self._add_fault),
            web.delete("/_emulator/faults", self._clear_faults),
            web.post("/_emulator/clock", self._clock),
            web.post("/_emulator/script", self._script),
            web.post("/_emulator/switches", self._switches),
            web.post("/_emulator/denied", self._denied),
            web.post("/_emulator/revoke", self._revoke),
            web.post("/_emulator/limits", self._limits),
            web.post("/_emulator/refuse", self._refuse),
        ]

    async def _health(self, _request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def _books(self, _request: web.Request) -> web.Response:
        return web.json_response(self._parts.books.to_json())

    async def _runs(self, _request: web.Request) -> web.Response:
        shown = []
        for factory in self._parts.factories:
            factory.settle()
            shown += [run_to_json(factory, run) for run in factory.runs.values()]
        return web.json_response(shown)

    async def _faults(self, _request: web.Request) -> web.Response:
        return web.json_response([fault.to_json() for fault in self._parts.faults.all()])

    async def _unconsumed(self, _request: web.Request) -> web.Response:
        return web.json_response([fault.to_json() for fault in self._parts.faults.unconsumed()])

    async def _add_fault(self, request: web.Request) -> web.Response:
        return web.json_response({"id": self._parts.faults.add(Fault.from_json(await request.json()))})

    async def _clear_faults(self, _request: web.Request) -> web.Response:
        self._parts.faults.clear()
        return web.json_response({})

    async def _clock(self, request: web.Request) -> web.Response:
        self._parts.clock.advance(float((await request.json())["advance"]))
        return web.json_response({"now": self._parts.clock.now()})

    async def _script(self, request: web.Request) -> web.Response:
        """Replace the script. A run that has begun keeps the entry of `runs` that it uses."""
        self._parts.set_script(Script.from_json(await request.json()))
        return web.json_response({})

    async def _switches(self, request: web.Request) -> web.Response:
        changes = await request.json()
        changed = [factory.switches.changed(changes) for factory in self._parts.factories]
        for factory, switches in zip(self._parts.factories, changed, strict=True):
            factory.switches = switches
        return web.json_response({})

    async def _denied(self, request: web.Request) -> web.Response:
        """Deny actions to identities: {client id: [actions below Microsoft.DataFactory/factories/]}."""
        denied: dict[str, list[str]] = await request.json()
        unknown = {action for actions in denied.values() for action in actions} - ACTIONS
        if unknown:
            raise ValueError(f"no operation needs {', '.join(sorted(unknown))}; there are {', '.join(sorted(ACTIONS))}")
        identities = [identity.client_id for identity in self._parts.identities]
        for client_id in denied:
            if client_id not in identities:
                raise ValueError(
                    f"no identity of this machine has client id {client_id!r}. {did_you_mean(client_id, identities)}"
                )
        self._parts.tokens.denied = {client_id: set(actions) for client_id, actions in denied.items()}
        return web.json_response({})

    async def _revoke(self, request: web.Request) -> web.Response:
        self._parts.tokens.revoke(challenge=bool((await request.json()).get("challenge")))
        return web.json_response({})

    async def _limits(self, request: web.Request) -> web.Response:
        self._parts.limits.enforced = bool((await request.json())["enforced"])
        return web.json_response({})

    async def _refuse(self, request: web.Request) -> web.Response:
        await self._refuse_for(float((await request.json())["seconds"]))
        return web.json_response({})

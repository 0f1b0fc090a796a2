"""The emulator as a whole: two servers on the loopback interface, in one thread of their own.

Tests and demos use the emulator from other threads and processes, in real time, while they break connections on purpose. Three
things can go wrong. Two threads change the state at once. A client sends on a socket that is already closed. A failed start
leaves a thread or a port behind. The rules: only the emulator's thread touches the state (use `call`), a closed
port has no open sockets, and `stop` works from any state.

    test's thread                 emulator's thread: one event loop
    Emulator.start()   ------->   HTTPS  Arm                the service, behind token, limits and faults
    call(), add_fault() ------>   HTTP   IdentityEndpoints  tokens
    EmulatorClient     ------->   HTTP   Control            books, runs, faults, clock, for other processes
    stop()             ------->   aborts all connections, ends the loop

The control interface is on the HTTP port. So it answers even while the ARM port is closed by `refuse_connections`.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from aiohttp import web

from airflow_adf_mi.emulator.clock import Clock, FlowingClock
from airflow_adf_mi.emulator.gateway.books import Books
from airflow_adf_mi.emulator.gateway.faults import Fault, Faults
from airflow_adf_mi.emulator.gateway.limits import Limits
from airflow_adf_mi.emulator.identity.certificates import make_certificates
from airflow_adf_mi.emulator.identity.endpoints import IdentityEndpoints
from airflow_adf_mi.emulator.identity.tokens import SYSTEM_ASSIGNED, USER_ASSIGNED, ManagedIdentity, Tokens
from airflow_adf_mi.emulator.pipelines.definitions import FactoryDefinition, load_factory
from airflow_adf_mi.emulator.pipelines.script import Script
from airflow_adf_mi.emulator.pipelines.script_names import check_names
from airflow_adf_mi.emulator.service.arm import Arm
from airflow_adf_mi.emulator.service.control import Control, refuse_nonsense
from airflow_adf_mi.emulator.service.parts import Parts
from airflow_adf_mi.emulator.service.state import FactoryState, Switches

T = TypeVar("T")

LOOPBACK = "127.0.0.1"
ARM_RESOURCE = "https://management.azure.com"
DEFAULT_SUBSCRIPTION = "11111111-1111-4111-8111-111111111111"
DEFAULT_RESOURCE_GROUP = "rg-emulator"
DEFAULT_FACTORY = "adf-emulator"


@dataclass(frozen=True, kw_only=True)
class FactorySpec:
    """A factory to emulate: the source of its pipelines, and its address."""

    source: Path | FactoryDefinition
    factory_name: str | None = None
    """The default is the name in the source, or `adf-emulator`."""
    resource_group_name: str = DEFAULT_RESOURCE_GROUP
    subscription_id: str = DEFAULT_SUBSCRIPTION


class Emulator:
    """Emulated Azure: use as a context manager, or call `start` and `stop`. Listens on the loopback interface only.

    :param factories: the data factories. `connection_extra` names the first one.
    :param script: how activities behave and end.
    :param switches: behaviour of the service that no source establishes.
    :param clock: the default is real time.
    :param identities: the identities of the machine. The default is a system-assigned and a user-assigned one.
    :param port: port of ARM (HTTPS); 0 means any free port.
    :param identity_port: port of the identity endpoints and the control interface (HTTP); 0 means any free port.
    :param directory: folder for the certificates and other files of the machine. The default is a temporary folder, removed at
        the end.
    :param hostnames: further names and addresses for the certificate, for clients behind a proxy.

    Raises `ValueError` for two factories with the same address, for a source that cannot be read, and for a script with a name
    that no factory has.
    """

    def __init__(
        self,
        *factories: FactorySpec,
        script: Script | None = None,
        switches: Switches | None = None,
        clock: Clock | None = None,
        identities: Sequence[ManagedIdentity] = (SYSTEM_ASSIGNED, USER_ASSIGNED),
        port: int = 0,
        identity_port: int = 0,
        directory: Path | None = None,
        hostnames: Sequence[str] = (),
        tokens: Tokens | None = None,
    ) -> None:
        clock = clock or FlowingClock()
        self._parts = Parts(
            clock=clock,
            books=Books(),
            faults=Faults(clock.now),
            limits=Limits(clock.now),
            tokens=tokens or Tokens(clock.now),
            identities=list(identities),
            factories=[_state(spec, clock, script, switches) for spec in factories],
        )
        addresses = [tuple(part.lower() for part in factory.address) for factory in self.factories]
        if len(set(addresses)) < len(addresses):
            raise ValueError("two factories have the same address: give them different names or resource groups")
        if script is not None:
            check_names(script, [factory.definition for factory in self.factories])
        self._ports = [port, identity_port]
        self._temporary = directory is None
        self._directory = directory
        self._hostnames = hostnames
        self._endpoints = IdentityEndpoints(self._parts, lambda: self.directory)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._started: Future[asyncio.AbstractEventLoop] = Future()
        self._thread: threading.Thread | None = None
        self._runners: list[web.AppRunner] = []
        self._reopening: asyncio.Task[None] | None = None
        self._closed_port: socket.socket | None = None

    # The parts are read-only here, because the servers use `_parts`: a part that was replaced here would have no effect.

    @property
    def clock(self) -> Clock:
        return self._parts.clock

    @property
    def books(self) -> Books:
        return self._parts.books

    @property
    def faults(self) -> Faults:
        return self._parts.faults

    @property
    def limits(self) -> Limits:
        return self._parts.limits

    @property
    def tokens(self) -> Tokens:
        return self._parts.tokens

    @property
    def identities(self) -> list[ManagedIdentity]:
        return self._parts.identities

    @property
    def factories(self) -> list[FactoryState]:
        return self._parts.factories

    @property
    def arm_endpoint(self) -> str:
        return f"https://{LOOPBACK}:{self._ports[0]}"

    @property
    def identity_endpoint(self) -> str:
        return f"http://{LOOPBACK}:{self._ports[1]}"

    @property
    def arm_scope(self) -> str:
        return f"{ARM_RESOURCE}/.default"

    @property
    def directory(self) -> Path:
        if self._directory is None:
            raise RuntimeError("the emulator has not been started")
        return self._directory

    @property
    def ca_bundle(self) -> Path:
        return self.directory / "ca.pem"

    def state(self, factory_name: str | None = None) -> FactoryState:
        """A factory's state. Other threads than the emulator's must read it through `call`."""
        for factory in self.factories:
            if factory_name is None or factory.factory_name == factory_name:
                return factory
        raise LookupError(f"no factory {factory_name!r}")

    def identity_environment(self, source: str = "imds") -> dict[str, str]:
        """The environment variables with which azure-identity finds this machine's identities.

        `source` is one of `identity.endpoints.SOURCES`. Sources over HTTPS need this emulator's CA (`REQUESTS_CA_BUNDLE`),
        except Service Fabric, whose clients pin the certificate. For Arc see `IdentityEndpoints`.
        """
        return self._endpoints.environment(source, self.identity_endpoint, self.arm_endpoint)

    def connection_extra(self, **fields: str) -> dict[str, str]:
        """The `extra` of an Airflow connection to the first factory, plus `fields`."""
        factory = self.state()
        return {
            "subscriptionId": factory.subscription_id,
            "resource_group_name": factory.resource_group_name,
            "factory_name": factory.factory_name,
            "arm_endpoint": self.arm_endpoint,
            "arm_scope": self.arm_scope,
            "ca_bundle": str(self.ca_bundle),
            **fields,
        }

    def set_script(self, script: Script) -> None:
        """Replace the script of all factories. A run that has begun keeps the entry of `runs` that it uses.

        Raises `ValueError`, and changes nothing, for a name that no factory has. From another thread, use `call`.
        """
        self._parts.set_script(script)

    def add_fault(self, operation: str, **members: Any) -> Fault:
        """Script a fault."""
        fault = Fault(operation=operation, **members)
        self.call(lambda: self.faults.add(fault))
        return fault

    def call(self, function: Callable[[], T]) -> T:
        """Run `function` in the emulator's thread. Only there is it safe to read and change the state."""
        if self._loop is None:
            return function()

        async def run() -> T:
            return function()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(30)

    def refuse_connections(self, seconds: float) -> None:
        """Close the ARM port and all its connections for this many real seconds. Returns when the port is closed.

        A further call while the port is closed restarts the time.
        """
        if self._loop is None:
            raise RuntimeError("the emulator has not been started")
        asyncio.run_coroutine_threadsafe(self.refuse_for(seconds), self._loop).result(30)

    async def refuse_for(self, seconds: float) -> None:
        """Like `refuse_connections`, for callers in the emulator's loop."""
        if self._reopening is not None and not self._reopening.done():
            self._reopening.cancel()
        else:
            await self._arm_site.stop()
            # If another program got the port in this moment, the port does not refuse connections, but it opens again below.
            with suppress(OSError):
                self._closed_port = _closed_port(self._ports[0])
            await _abort_connections(self._arm_runner)
        self._reopening = asyncio.get_running_loop().create_task(self._open_arm_after(seconds))

    def start(self) -> Self:
        """Serve in a thread of its own. Returns when the servers are ready. Raises `OSError` if a port is not available."""
        if self._thread is not None:
            raise RuntimeError("the emulator has already been started")
        self._started = Future()
        thread = threading.Thread(target=self._serve, args=(self._started,), name="adf-emulator", daemon=True)
        try:
            if self._directory is None:
                self._directory = Path(tempfile.mkdtemp(prefix="adf-emulator-"))
            self._directory.mkdir(parents=True, exist_ok=True)
            self._thread = thread
            thread.start()
            self._loop = self._started.result(30)
        except BaseException:  # after any error, nothing is left running
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Abort every connection, and remove the temporary directory."""
        self._loop = None
        if self._thread is not None and self._thread.ident is not None:
            # Do not use `_loop`: it is not set yet if `start` was interrupted by Ctrl-C or a signal.
            with suppress(Exception):
                loop = self._started.result(30)
                loop.call_soon_threadsafe(loop.stop)
            self._thread.join(30)
        self._thread = None
        if self._temporary and self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    def _serve(self, started: Future[asyncio.AbstractEventLoop]) -> None:
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        try:
            try:
                loop.run_until_complete(self._open())
            except BaseException as e:  # noqa: BLE001  raised again in the thread that called start()
                started.set_exception(e)
                return
            started.set_result(loop)
            loop.run_forever()
        finally:
            loop.run_until_complete(self._close())
            loop.close()

    async def _open(self) -> None:
        _, self._tls = make_certificates(self.directory, self._hostnames)
        arm = web.Application()
        handler = Arm(self._parts, self._audiences)
        arm.add_routes([*self._endpoints.secure_routes(), web.route("*", "/{path:.*}", handler.handle)])
        self._arm_runner = await self._runner(arm)
        await self._open_arm()
        identity = web.Application(middlewares=[refuse_nonsense])
        identity.add_routes([*self._endpoints.routes(), *Control(self._parts, self.refuse_for).routes()])
        identity_runner = await self._runner(identity)
        await web.TCPSite(identity_runner, LOOPBACK, self._ports[1]).start()
        self._ports[1] = identity_runner.addresses[0][1]

    async def _open_arm(self) -> None:
        self._arm_site = web.TCPSite(self._arm_runner, LOOPBACK, self._ports[0], ssl_context=self._tls, backlog=1024)
        await self._arm_site.start()
        self._ports[0] = self._arm_runner.addresses[0][1]

    async def _open_arm_after(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self._free_closed_port()
        await self._open_arm()

    def _free_closed_port(self) -> None:
        if self._closed_port is not None:
            self._closed_port.close()
            self._closed_port = None

    async def _close(self) -> None:
        if self._reopening is not None:
            self._reopening.cancel()
        self._free_closed_port()
        for runner in self._runners:
            # Abort, because a closing TLS handshake would wait for clients that no longer exist.
            await _abort_connections(runner)
            await runner.cleanup()
        self._runners.clear()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        # Give the callbacks of connections that were just closed time to run.
        await asyncio.sleep(0.01)

    async def _runner(self, application: web.Application) -> web.AppRunner:
        # No access log: its lines may hold secrets, and the books already record each request.
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.5)
        await runner.setup()
        self._runners.append(runner)
        return runner

    def _audiences(self) -> list[str]:
        return [ARM_RESOURCE, "https://management.core.windows.net", self.arm_endpoint]


def _closed_port(port: int) -> socket.socket:
    """A socket that holds a port and refuses connections. Without it, another program could get the port, and answer."""
    holder = socket.socket()
    try:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind((LOOPBACK, port))
    except OSError:
        holder.close()
        raise
    return holder


async def _abort_connections(runner: web.AppRunner) -> None:
    """Close all sockets. Returns when they are closed, so that no client sends on a socket that seems open.

    Handlers continue: aiohttp keeps their connections in its list, without a transport.
    """
    while runner.server is not None:
        transports = [c.transport for c in runner.server.connections if c.transport is not None]
        if not transports:
            return
        for transport in transports:
            transport.abort()
        # A transport closes its socket in a later turn of the loop.
        await asyncio.sleep(0)


def _state(spec: FactorySpec, clock: Clock, script: Script | None, switches: Switches | None) -> FactoryState:
    definition = load_factory(spec.source) if isinstance(spec.source, Path) else spec.source
    return FactoryState(
        definition,
        subscription_id=spec.subscription_id,
        resource_group_name=spec.resource_group_name,
        factory_name=spec.factory_name or definition.name or DEFAULT_FACTORY,
        clock=clock,
        script=script,
        switches=switches,
    )

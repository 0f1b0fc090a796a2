"""What the environment may say about how requests travel: proxies, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from airflow_adf_mi.adf import calls
from airflow_adf_mi.adf.errors import AdfUnavailableError
from airflow_adf_mi.adf.identity import ProcessCredential
from airflow_adf_mi.adf.settings import PUBLIC_CLOUD, AdfSettings, Identity
from airflow_adf_mi.adf.transport import CONNECT_TIMEOUT, proxies_for
from airflow_adf_mi.emulator import Emulator
from tests.integration.test_client import sender


@pytest.fixture
def _netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "netrc"
    file.write_text("default login somebody password else\n")
    file.chmod(0o600)
    monkeypatch.setenv("NETRC", str(file))


@pytest.mark.usefixtures("_netrc")
@pytest.mark.parametrize("client", ["sync", "async"])
def test_netrc_does_not_take_the_place_of_the_token(client: str, settings: AdfSettings, emulator: Emulator) -> None:
    assert sender(client, settings)(calls.get_factory(settings.factory()))["name"] == "adf-test"
    assert [record.status for record in emulator.books.requests] == [200]


@pytest.mark.usefixtures("_netrc")
@pytest.mark.parametrize("source", ["imds", "app_service", "cloud_shell"])
def test_netrc_does_not_travel_with_token_requests(
    source: str, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AZURE_POD_IDENTITY_AUTHORITY_HOST")
    for name, value in emulator.identity_environment(source).items():
        monkeypatch.setenv(name, value)
    credential = ProcessCredential(Identity(), PUBLIC_CLOUD.authority_host)
    assert credential.get_token_info(PUBLIC_CLOUD.arm_scope).token


@dataclass
class Proxy:
    """Connects as it is told, and keeps the lines by which it was."""

    port: int = 0
    asked: list[str] = field(default_factory=list)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.asked.append(head)
        host, _, port = head.split()[1].rpartition(":")
        there, back = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await asyncio.gather(_copy(reader, back), _copy(there, writer), return_exceptions=True)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
    writer.close()


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy in a thread of its own, which the environment names for everything."""
    running = Proxy()
    started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        over = asyncio.Event()
        async with await asyncio.start_server(running.handle, "127.0.0.1", 0) as server:
            running.port = server.sockets[0].getsockname()[1]
            started.set_result((asyncio.get_running_loop(), over))
            await over.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    loop, over = started.result(10)
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, f"http://me:secret@127.0.0.1:{running.port}")
    for name in ("NO_PROXY", "no_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    yield running
    loop.call_soon_threadsafe(over.set)
    thread.join(10)


@pytest.mark.usefixtures("_netrc")
@pytest.mark.parametrize("client", ["sync", "async"])
def test_proxy_of_the_environment_is_used_with_its_credentials(
    client: str, proxy: Proxy, settings: AdfSettings, emulator: Emulator
) -> None:
    assert sender(client, settings)(calls.get_factory(settings.factory()))["name"] == "adf-test"
    (head,) = proxy.asked
    assert head.startswith(f"CONNECT {emulator.arm_endpoint.removeprefix('https://')} ")
    assert "Proxy-Authorization: Basic bWU6c2VjcmV0" in head


@pytest.mark.parametrize("client", ["sync", "async"])
def test_proxy_is_not_used_for_what_the_environment_exempts(
    client: str, proxy: Proxy, settings: AdfSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    assert sender(client, settings)(calls.get_factory(settings.factory()))["name"] == "adf-test"
    assert proxy.asked == []


def test_proxy_of_an_address_is_that_of_its_scheme(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://p:3128")
    monkeypatch.setenv("no_proxy", "inside.example")
    assert proxies_for("https://management.azure.com") == {"https": "http://p:3128"}
    assert proxies_for("https://inside.example") == {}


@pytest.mark.parametrize("client", ["sync", "async"])
def test_connection_that_is_not_taken_is_given_up_within_seconds(
    client: str, make_settings: Callable[..., AdfSettings]
) -> None:
    """azure-core would wait five minutes for it."""
    with contextlib.ExitStack() as open_sockets:
        busy = open_sockets.enter_context(socket.socket())
        busy.bind(("127.0.0.1", 0))
        busy.listen(0)
        # As many as wait to be accepted; what comes after them hears nothing.
        for _ in range(4):
            waiting = open_sockets.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(busy.getsockname())
        settings = make_settings(arm_endpoint=f"https://127.0.0.1:{busy.getsockname()[1]}")
        began = time.monotonic()
        with pytest.raises(AdfUnavailableError) as unreachable:
            sender(client, settings)(calls.get_factory(settings.factory()))
    assert unreachable.value.never_sent
    assert CONNECT_TIMEOUT - 1 < time.monotonic() - began < CONNECT_TIMEOUT + 3

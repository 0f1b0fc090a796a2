"""A real proxy on the loopback interface, for tests: it accepts CONNECT, and connects every host to one port of this machine."""

from __future__ import annotations

import asyncio
import base64
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Proxy:
    """How it answers CONNECT, and which requests it got."""

    leads_to: int
    """A port of 127.0.0.1."""
    user_password: str | None = None
    """What a client must send, as `user:password`."""
    answer: bytes | None = None
    """Sent instead of a connection, before it hangs up; empty to hang up at once."""
    is_silent: bool = False
    port: int = 0
    connects: list[str] = field(default_factory=list)
    """Host and port of each CONNECT."""

    _open: set[asyncio.WriteTransport] = field(default_factory=set)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer.transport)
        try:
            await self._serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.connects.append(head.split()[1])
        if self.is_silent:
            await reader.read()
            return
        if self.user_password is not None:
            wanted = base64.b64encode(self.user_password.encode()).decode()
            if f"Proxy-Authorization: Basic {wanted}\r\n" not in head:
                writer.write(
                    b'HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm="x"\r\n\r\n'
                )
                await writer.drain()
                return
        if self.answer is not None:
            writer.write(self.answer)
            await writer.drain()
            return
        there, back = await asyncio.open_connection("127.0.0.1", self.leads_to)
        self._open.add(back.transport)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await asyncio.gather(_copy(reader, back), _copy(there, writer), return_exceptions=True)

    async def abort(self) -> None:
        """Close all connections, and wait until they are closed."""
        for transport in self._open:
            transport.abort()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        # A transport closes its socket in a later turn of the loop; one with TLS needs one turn more.
        for _ in range(3):
            await asyncio.sleep(0)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
    finally:
        writer.close()


@contextmanager
def running(proxy: Proxy, tls: ssl.SSLContext | None = None) -> Iterator[Proxy]:
    """The proxy in its own thread, on a free port. With `tls`, clients speak TLS to the proxy itself."""
    started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        over = asyncio.Event()
        async with await asyncio.start_server(proxy.handle, "127.0.0.1", 0, ssl=tls) as server:
            proxy.port = server.sockets[0].getsockname()[1]
            started.set_result((asyncio.get_running_loop(), over))
            await over.wait()
            server.close()
            await proxy.abort()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="proxy", daemon=True)
    thread.start()
    loop, over = started.result(10)
    try:
        yield proxy
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(10)

"""Responders on loopback that do what a test says: over aiohttp for whole answers, over bare TCP for broken ones.

And a small HTTP proxy, to stand before them.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from aiohttp import web

if TYPE_CHECKING:
    import ssl

OCSP = "application/ocsp-response"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/ocsp-response\r\nContent-Length: 4\r\n\r\ngood"
"""What a bare responder says."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
RawHandler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def answer(body: bytes = b"good", **more) -> web.Response:
    return web.Response(body=body, **{"content_type": OCSP, **more})


class Recorder:
    """A handler that answers with a new `get()` or `post()` each time, and remembers what it was asked."""

    def __init__(self, get: Callable[[], web.Response], post: Callable[[], web.Response] | None = None) -> None:
        self.seen: list[web.Request] = []
        self.bodies: list[bytes] = []
        self.answers = {"GET": get, "POST": post or get}

    async def __call__(self, request: web.Request) -> web.Response:
        self.seen.append(request)
        self.bodies.append(await request_in(request))
        return self.answers[request.method]()

    @property
    def methods(self) -> list[str]:
        return [request.method for request in self.seen]


@contextlib.asynccontextmanager
async def responder(handler: Handler, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """A web server for the time of the block; its URL, without a slash at the end."""
    runner = web.ServerRunner(web.Server(handler), shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    host, port = runner.addresses[0]
    try:
        yield f"http{'s' if tls else ''}://{host}:{port}"
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def raw_responder(handler: RawHandler, *, host: str = "127.0.0.1") -> AsyncIterator[str]:
    """A TCP server whose handler reads and writes bytes; the connection is closed when it returns."""
    busy: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        busy.add(asyncio.current_task())
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await handler(reader, writer)
        writer.close()

    server = await asyncio.start_server(serve, host, 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    finally:
        server.close()
        for task in busy:
            task.cancel()
        await asyncio.gather(*busy, return_exceptions=True)


@dataclass
class HttpProxy:
    """What a proxy is asked, and how it finds its way: CONNECT for TLS, else the whole URL in the request line."""

    hosts: Mapping[str, str] = field(default_factory=dict)
    """Its names: of hosts that only the proxy can reach."""
    authorization: str | None = None
    """Without this value of Proxy-Authorization it answers 407."""
    url: str = ""
    heads: list[bytes] = field(default_factory=list)

    @property
    def lines(self) -> list[str]:
        """The request lines that came."""
        return [head.split(b"\r\n")[0].decode() for head in self.heads]

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await head_of(reader)
        self.heads.append(head)
        if (
            self.authorization
            and f"\r\nproxy-authorization: {self.authorization}\r\n".lower() not in head.decode().lower()
        ):
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            return
        method, target, _ = self.lines[-1].split(" ")
        address = urlsplit(f"//{target}" if method == "CONNECT" else target)
        host = self.hosts.get(address.hostname, address.hostname)
        there_reader, there_writer = await asyncio.open_connection(host, address.port or 80)
        if method == "CONNECT":
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:  # RFC 9112 3.2.2: the server must take the whole URL too; what is for the proxy goes no further
            kept = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"proxy-authorization:")]
            there_writer.write(b"\r\n".join(kept))
        await asyncio.gather(_copy(reader, there_writer), _copy(there_reader, writer))


@contextlib.asynccontextmanager
async def http_proxy(**known: object) -> AsyncIterator[HttpProxy]:
    """An HTTP proxy for the time of the block."""
    proxy = HttpProxy(**known)
    async with raw_responder(proxy) as proxy.url:
        yield proxy


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


async def head_of(reader: asyncio.StreamReader) -> bytes:
    """The head of one request."""
    return await reader.readuntil(b"\r\n\r\n")


async def request_in(request: web.Request) -> bytes:
    """The OCSP request that came by GET or POST."""
    if request.method == "POST":
        return await request.read()
    return base64.b64decode(unquote(request.raw_path.rpartition("/")[2]))


async def until(condition: Callable[[], object], deadline_s: float = 30) -> None:
    """Wait until something holds that nothing announces."""
    async with asyncio.timeout(deadline_s):
        while not condition():  # noqa: ASYNC110  there is no event for a cache's or a log's content
            await asyncio.sleep(0.002)

"""Responders on loopback that do what a test says: over aiohttp for whole answers, over bare TCP for broken ones."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from urllib.parse import unquote

from aiohttp import web

OCSP = "application/ocsp-response"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
RawHandler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def responder(handler: Handler) -> AsyncIterator[str]:
    """A web server for the time of the block; its URL, without a slash at the end."""
    runner = web.ServerRunner(web.Server(handler), shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0]
    try:
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def raw_responder(handler: RawHandler) -> AsyncIterator[str]:
    """A TCP server whose handler reads and writes bytes; the connection is closed when it returns."""
    busy: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        busy.add(asyncio.current_task())
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await handler(reader, writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.close()
        for task in busy:
            task.cancel()
        await asyncio.gather(*busy, return_exceptions=True)


async def head_of(reader: asyncio.StreamReader) -> bytes:
    """The head of one request."""
    return await reader.readuntil(b"\r\n\r\n")


async def request_in(request: web.Request) -> bytes:
    """The OCSP request that came by GET or POST."""
    if request.method == "POST":
        return await request.read()
    return base64.b64decode(unquote(request.raw_path.rpartition("/")[2]))


async def until(condition: Callable[[], object], deadline_s: float = 10) -> None:
    """Wait until something holds that nothing announces."""
    async with asyncio.timeout(deadline_s):
        while not condition():  # noqa: ASYNC110  there is no event for a cache's or a log's content
            await asyncio.sleep(0.002)

"""Plays a fault to whoever asked: whole answers through aiohttp, broken ones on the bare connection."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, assert_never

from aiohttp import web

from proxy.lab.ca import LabCA
from proxy.lab.plays import (
    CONTENT_TYPE,
    Drip,
    Hold,
    Performs,
    Place,
    Redirects,
    Repeat,
    Replies,
    Reset,
    Says,
    Send,
    Step,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from proxy.lab.plays import Play
    from proxy.lab.wrong_answers import Occasion

HOLD_S = 60.0
"""No connection is kept busy longer than this."""
MAX_REPEATED_BYTES = 1 << 26
HIGH_WATER_BYTES = 1 << 16
TAKEN_LOOK_INTERVAL_S = 0.01
RIGHT_PATH = "/-/right"
"""What is asked below it is answered rightly, whatever is set."""
_HOST = "127.0.0.1"
_LINGER_0 = struct.pack("ii", 1, 0)
"""struct linger: on, no time. Closing then sends RST (socket(7))."""


@dataclass(slots=True)
class Stage:
    """Where plays are performed, and the other places that redirects lead to."""

    places: dict[Place, str] = field(default_factory=dict)
    _end: asyncio.Event = field(default_factory=asyncio.Event)

    async def lifetime(self, _: web.Application) -> AsyncIterator[None]:
        """Open the places while the application runs, as its cleanup context."""
        async with contextlib.AsyncExitStack() as resources:
            closed = resources.enter_context(socket.socket())
            closed.bind((_HOST, 0))  # bound, so that nobody else listens there either
            full = resources.enter_context(socket.socket())
            full.bind((_HOST, 0))
            full.listen(0)
            # Linux lets one connection wait at such a listener, and gives the next no answer.
            resources.enter_context(socket.create_connection(full.getsockname()))
            tls = await asyncio.start_server(lambda _, writer: writer.close(), _HOST, 0, ssl=_untrusted())
            await resources.enter_async_context(tls)
            self.places = {
                Place.CLOSED_PORT: f"http://{_HOST}:{closed.getsockname()[1]}/",
                Place.FULL_PORT: f"http://{_HOST}:{full.getsockname()[1]}/",
                Place.UNTRUSTED_TLS: f"https://{_HOST}:{tls.sockets[0].getsockname()[1]}/",
                Place.NO_SUCH_NAME: "http://responder.invalid/",  # RFC 6761 6.4: never a name
                Place.FILE: "file:///etc/hostname",
            }
            yield

    async def end(self, _: web.Application) -> None:
        """End what still goes on, as the application's shutdown signal."""
        self._end.set()

    async def play(self, play: Play, request: web.Request, right: bytes, occasion: Occasion) -> web.StreamResponse:
        """Answer `request` as the play says; `right`: what a right answer would be."""
        match play:
            case Says():
                return web.Response(body=play.build(occasion), content_type=CONTENT_TYPE)
            case Replies() if play.to in {None, request.method}:
                body = right if play.body is None else play.body.encode()
                return web.Response(
                    status=play.status, body=body, headers={"Content-Type": play.content_type, **dict(play.headers)}
                )
            case Replies():
                return web.Response(body=right, content_type=CONTENT_TYPE)
            case Redirects():
                return web.Response(status=307, headers={"Location": self._url(play.to, request)})
            case Performs():
                await self._perform(play.steps(right), request)
                return web.Response()  # to nobody: the connection is closing
            case _:
                assert_never(play)

    def _url(self, place: Place, request: web.Request) -> str:
        match place:
            case Place.HERE:
                return request.raw_path
            case Place.RIGHT_ANSWER:
                return RIGHT_PATH + request.raw_path
            case Place.PLAIN_TLS:
                return f"https://{request.host}/"
            case _:
                return self.places[place]

    async def _perform(self, steps: tuple[Step, ...], request: web.Request) -> None:
        transport = request.transport
        if transport is None:  # the client has gone
            return
        assert isinstance(transport, asyncio.Transport)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HOLD_S):
                for step in steps:
                    await self._do(step, transport)
        transport.close()

    async def _do(self, step: Step, transport: asyncio.Transport) -> None:
        match step:
            case Send():
                transport.write(step.data)
            case Drip():
                for byte in step.data:
                    transport.write(bytes([byte]))
                    if await self._has_ended_within(step.pause_s):
                        return
            case Repeat():
                for _ in range(MAX_REPEATED_BYTES // len(step.data)):
                    transport.write(step.data)
                    # aiohttp's own flow control is not for others; nothing else tells when a buffer is empty.
                    while transport.get_write_buffer_size() > HIGH_WATER_BYTES:
                        if await self._has_ended_within(TAKEN_LOOK_INTERVAL_S):
                            return
                    if transport.is_closing():
                        return
            case Hold():
                await self._end.wait()
            case Reset():
                transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_0)
                transport.abort()
            case _:
                assert_never(step)

    async def _has_ended_within(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._end.wait(), seconds)
        return self._end.is_set()


def _untrusted() -> ssl.SSLContext:
    """Make a server's context with a certificate of a CA that nobody has heard of, and which is gone again."""
    issued = LabCA.create(datetime.now(UTC)).issue([_HOST])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:  # ssl reads from files only
        chain = Path(folder) / "chain.pem"
        chain.write_bytes(issued.chain_pem + issued.key_pem)
        context.load_cert_chain(chain)
    return context

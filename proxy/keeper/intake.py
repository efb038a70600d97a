"""How much a responder may send in one exchange, whatever it is: body, head, interim answers, chunk extensions.

aiohttp bounds lines, and we the body; but "100 Continue" again and again, or a byte of body behind each kilobyte of
chunk extension, would keep the keeper busy until the deadline. So a protocol of ours stands between the transport and
aiohttp's, and counts. What a proxy says before a tunnel is not counted: it is the operator's own.
"""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import TYPE_CHECKING

import aiohttp

if TYPE_CHECKING:
    from aiohttp.connector import Connection

OVERHEAD_BYTES = 65_536
"""For heads and the framing of chunks, on top of the longest body."""


class Intake:
    """What may still come in an exchange."""

    def __init__(self, body_bytes: int) -> None:
        self.left_bytes = body_bytes + OVERHEAD_BYTES

    @property
    def is_exceeded(self) -> bool:
        """Was more sent than may be? The connection is then cut."""
        return self.left_bytes < 0


CURRENT_INTAKE: ContextVar[Intake] = ContextVar("CURRENT_INTAKE")
"""Of the exchange that the task is in: aiohttp makes the answers itself, and hands nothing on to them."""


class ConnectionLostError(aiohttp.ClientError):
    """The connection ended before an answer began.

    No ClientOSError or ServerDisconnectedError, since aiohttp would ask again by itself: once, GET only, and on fresh
    connections too.
    """

    def __init__(self, *, was_reused: bool) -> None:
        super().__init__("the connection was closed without an answer")
        self.was_reused = was_reused


class MeteredResponse(aiohttp.ClientResponse):
    """An answer whose bytes are counted from the first on."""

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        """Wait for the head."""
        was_reused = _meter(connection, CURRENT_INTAKE.get())
        try:
            return await super().start(connection)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            raise ConnectionLostError(was_reused=was_reused) from error


def _meter(connection: Connection, intake: Intake) -> bool:
    """Count what comes on `connection`, and tell whether it was in use before."""
    transport = connection.transport
    if transport is None:  # lost since it was given out: aiohttp finds that out itself
        return True
    protocol = transport.get_protocol()
    if isinstance(protocol, _Meter):
        protocol.intake = intake
        return True
    assert isinstance(protocol, asyncio.Protocol)
    transport.set_protocol(_Meter(protocol, transport, intake))
    return False


class _Meter(asyncio.Protocol):
    """Hands everything on to the protocol behind it, until it is too much."""

    def __init__(self, behind: asyncio.Protocol, transport: asyncio.Transport, intake: Intake) -> None:
        self.intake = intake
        self._behind = behind
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self.intake.left_bytes -= len(data)
        if self.intake.is_exceeded:
            self._transport.abort()
        else:
            self._behind.data_received(data)

    def eof_received(self) -> bool | None:
        return self._behind.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._behind.connection_lost(exc)

    def pause_writing(self) -> None:
        self._behind.pause_writing()

    def resume_writing(self) -> None:
        self._behind.resume_writing()

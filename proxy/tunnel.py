"""Mode tcp: what comes out of TLS goes to a backend as it is, and back, as hitch and stunnel do it.

Each direction ends by itself: close_notify becomes the end of our writing to the backend, and the backend's end becomes
close_notify. A client that ends without it may have been cut off by somebody on the way (RFC 8446 6.1), so the
backend gets a reset then, which it cannot take for an end. The other way round the client gets no close_notify.

What is held in memory is what one read brings, and what a full socket has not taken: the reading of one side stops
while the other takes no more, and while there is no backend yet.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Protocol, cast

from proxy import proxyprotocol
from proxy.deadlines import NEVER, Deadlines

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.proxyprotocol import Endpoint
    from proxy.settings.modes import ProxyProtocol, TcpSettings
    from proxy.settings.values import UpstreamAddress

_log = logging.getLogger("stapleproxy.upstream")

_HIGH_WATER_BYTES = 65_536
_FLUSH_S = 30.0
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER for no time at all: closing sends RST."""


class Transport(Protocol):
    """The client's connection, as `proxy.tls.transport.TlsTransport` is one."""

    deadline_at: float

    def write(self, data: bytes) -> None: ...
    def write_eof(self) -> None: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def unsent_bytes(self) -> int: ...
    def endpoints(self) -> tuple[Endpoint, Endpoint]: ...
    def now(self) -> float: ...


class Backends:
    """The servers of one site, each its turn; of one worker, which counts by `deadlines` what is open."""

    def __init__(
        self, addresses: Sequence[UpstreamAddress], deadlines: Deadlines, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._addresses = tuple(addresses)
        self._deadlines = deadlines
        self._turns = count()
        self._loop = loop

    def connect(self, relay: Relay) -> asyncio.Task[None]:
        """Connect to one of them, and tell `relay` when it is done, or that there is none."""
        first = next(self._turns) % len(self._addresses)
        return self._loop.create_task(self._connect(relay, self._addresses[first:] + self._addresses[:first]))

    async def _connect(self, relay: Relay, addresses: Sequence[UpstreamAddress]) -> None:
        make = partial(_Backend, relay, self._deadlines)
        for address in addresses:
            try:
                async with asyncio.timeout(relay.settings.connect_timeout_s):
                    if address.path:
                        await self._loop.create_unix_connection(make, address.path)
                    else:
                        await self._loop.create_connection(make, address.host, address.port)
                return
            except OSError as error:  # TimeoutError is one, and says nothing
                _log.warning("cannot connect to the backend %s: %s", address, error or "it did not answer in time")
        relay.on_no_backend()

    def end(self, backend: asyncio.Transport) -> None:
        """Close a connection whose client has gone, when the backend has taken what is left for it, or not."""
        backend.close()
        self._loop.call_later(_FLUSH_S, backend.abort)


class Relay:
    """The protocol on a client's connection; `tls` is what a PROXY header of version 2 tells of it."""

    __slots__ = (
        "_backend",
        "_backend_is_done",
        "_backends",
        "_client",
        "_client_is_done",
        "_connecting",
        "_header",
        "_tls",
        "_unsent",
        "_unsent_bytes",
        "settings",
    )

    def __init__(
        self, backends: Backends, settings: TcpSettings, header: ProxyProtocol, tls: proxyprotocol.Tls | None
    ) -> None:
        self.settings = settings
        self._backends = backends
        self._header = header
        self._tls = tls
        self._client: Transport | None = None
        """None: not yet connected, or gone."""
        self._backend: asyncio.Transport | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._unsent: list[bytes] = []
        """What is for the backend, until there is one: its header, and what came with the handshake."""
        self._unsent_bytes = 0
        self._client_is_done = False
        self._backend_is_done = False

    # The client's side.

    def connection_made(self, transport: Transport) -> None:
        self._client = transport
        if self._header == "v1":
            self._unsent.append(proxyprotocol.v1(*transport.endpoints()))
        elif self._header == "v2":
            self._unsent.append(proxyprotocol.v2(*transport.endpoints(), self._tls))
        transport.pause_reading()  # until there is a backend
        self._moved()
        self._connecting = self._backends.connect(self)

    def data_received(self, data: bytes) -> None:
        self._moved()
        if self._backend is None:
            self._unsent.append(data)
        else:
            self._backend.write(data)

    def eof_received(self) -> bool:
        """Pass on close_notify; the other direction stays open."""
        self._moved()
        self._client_is_done = True
        if self._backend is not None:
            self._end_backend()
        return True

    def connection_lost(self, _exc: Exception | None) -> None:
        self._client = None
        if self._connecting is not None:
            self._connecting.cancel()
        backend, self._backend = self._backend, None
        if backend is None:
            return
        if self._client_is_done:  # it has said all that it had to say
            self._backends.end(backend)
            return
        if not self._backend_is_done:
            backend.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        backend.abort()

    def pause_writing(self) -> None:
        if self._backend is not None:
            self._backend.pause_reading()

    def resume_writing(self) -> None:
        self._moved()
        if self._backend is not None and not self._backend_is_done:
            self._backend.resume_reading()

    def on_deadline(self) -> None:
        """Cut off who does not move, unless a full socket has given something away meanwhile."""
        if self._client is None:
            return
        unsent = self._client.unsent_bytes() + (self._backend.get_write_buffer_size() if self._backend else 0)
        if unsent < self._unsent_bytes:
            self._moved()
        else:
            self._client.abort()

    def drain(self) -> None:
        """Go on: nobody here can tell where a conversation may end. `drain_timeout_s` bounds it."""

    # The backend's side.

    def on_connected(self, backend: asyncio.Transport) -> None:
        self._connecting = None
        if self._client is None:  # gone in the same moment
            backend.abort()
            return
        self._backend = backend
        self._moved()
        if self._unsent:
            backend.writelines(self._unsent)
            self._unsent.clear()
        if self._client_is_done:
            self._end_backend()
        else:
            self._client.resume_reading()

    def on_no_backend(self) -> None:
        self._connecting = None
        if self._client is not None:
            self._client.abort()

    def on_backend_data(self, data: bytes) -> None:
        if self._client is not None:
            self._moved()
            self._client.write(data)

    def on_backend_end(self) -> None:
        self._backend_is_done = True
        if self._client is None:
            return
        self._moved()
        self._client.write_eof()
        if self._client_is_done and self._backend is not None:
            self._backend.close()

    def on_backend_lost(self, exc: Exception | None) -> None:
        self._backend = None
        if self._client is None:
            return
        if exc is None and self._backend_is_done and self._client_is_done:
            self._client.close()
        else:
            self._client.abort()

    def pause_client(self) -> None:
        if self._client is not None:
            self._client.pause_reading()

    def resume_client(self) -> None:
        if self._client is not None:
            self._moved()
            self._client.resume_reading()

    def _end_backend(self) -> None:
        assert self._backend is not None  # asked by the callers
        if self._backend_is_done:
            self._backend.close()  # once it has taken what there is; `on_backend_lost` tells
        else:
            self._backend.write_eof()

    def _moved(self) -> None:
        client = self._client
        if client is not None:
            client.deadline_at = client.now() + self.settings.idle_timeout_s
            self._unsent_bytes = client.unsent_bytes()
            if self._backend is not None:
                self._unsent_bytes += self._backend.get_write_buffer_size()


class _Backend(asyncio.Protocol):
    """The other end of a relay, whose client's deadline is for both."""

    __slots__ = ("_deadlines", "_relay", "deadline_at")

    def __init__(self, relay: Relay, deadlines: Deadlines) -> None:
        self._relay = relay
        self._deadlines = deadlines
        self.deadline_at = NEVER

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        backend = cast("asyncio.Transport", transport)
        backend.set_write_buffer_limits(high=_HIGH_WATER_BYTES)
        self._deadlines.add(self)
        self._relay.on_connected(backend)

    def data_received(self, data: bytes) -> None:
        self._relay.on_backend_data(data)

    def eof_received(self) -> bool:
        self._relay.on_backend_end()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._deadlines.discard(self)
        self._relay.on_backend_lost(exc)

    def on_deadline(self) -> None:
        """There is none."""

    def pause_writing(self) -> None:
        self._relay.pause_client()

    def resume_writing(self) -> None:
        self._relay.resume_client()

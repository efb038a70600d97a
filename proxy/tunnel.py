"""Mode tcp: what comes out of TLS goes to a backend as it is, and back, as hitch and stunnel do it.

Each direction ends by itself: close_notify becomes the end of our writing to the backend, and the backend's end becomes
close_notify. A client that ends without it may have been cut off by somebody on the way (RFC 8446 6.1), so the
backend gets a reset then, which it cannot take for an end. The other way round the client gets no close_notify.

What is held in memory is what one read brings, and what a full socket has not taken: the reading of one side stops
while the other takes no more, and while there is no backend yet.
"""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING, Protocol

from proxy import proxyprotocol
from proxy.accesslog.record import CLIENT_LEFT
from proxy.counters_layout import LEFT, NO_BACKEND, RELAYED

if TYPE_CHECKING:
    import asyncio

    from proxy.accesslog.record import Entry
    from proxy.accesslog.trail import Trail
    from proxy.counters import SiteCounts
    from proxy.proxyprotocol import Endpoint
    from proxy.settings.modes import ProxyProtocol, TcpSettings
    from proxy.tunnel_backend import Backends

_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER for no time at all: closing sends RST."""

# What the access log says, which has one line a connection, as nginx's does of its streams: it was relayed, however it
# ended, or no backend took it.
_STATUSES = {RELAYED: 200, NO_BACKEND: 502, LEFT: CLIENT_LEFT}


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


class Relay:
    """The protocol on a client's connection.

    `tls` is what a PROXY header of version 2 tells of it, `trail` leads to its line in the access log, and `counts` are
    its site's.
    """

    __slots__ = (
        "_backend",
        "_backend_is_done",
        "_backends",
        "_client",
        "_client_is_done",
        "_connecting",
        "_counts",
        "_entry",
        "_header",
        "_outcome",
        "_received_bytes",
        "_tls",
        "_trail",
        "_unsent",
        "_unsent_bytes",
        "settings",
    )

    def __init__(
        self,
        backends: Backends,
        settings: TcpSettings,
        header: ProxyProtocol,
        tls: proxyprotocol.Tls | None,
        trail: Trail | None = None,
        counts: SiteCounts | None = None,
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
        self._trail = trail
        self._entry: Entry | None = None  # from the beginning to the end, where there is an access log
        self._received_bytes = 0
        self._counts = counts
        self._outcome = LEFT  # unless there is more to be said

    # The client's side.

    def connection_made(self, transport: Transport) -> None:
        self._client = transport
        if self._trail is not None:
            self._trail.connected(transport.endpoints())
            self._entry = self._trail.begin(None, transport.now)
        if self._header == "v1":
            self._unsent.append(proxyprotocol.v1(*transport.endpoints()))
        elif self._header == "v2":
            self._unsent.append(proxyprotocol.v2(*transport.endpoints(), self._tls))
        transport.pause_reading()  # until there is a backend
        self._moved()
        self._connecting = self._backends.connect(self)

    def data_received(self, data: bytes) -> None:
        self._moved()
        self._received_bytes += len(data)
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
        if self._counts is not None:
            self._counts.relayed(self._outcome)
        self._end_entry()
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

    def retire(self) -> None:
        """Go on, likewise."""

    # The backend's side.

    def on_connected(self, backend: asyncio.Transport, address: str) -> None:
        self._connecting = None
        self._outcome = RELAYED
        if self._entry is not None:
            self._entry.ask_upstream(address)
        if self._client is None:  # gone in the same moment
            backend.abort()
            return
        self._backend = backend
        self._moved()
        if not self._client_is_done:
            self._client.resume_reading()  # before the writing, which may pause it at once
        if self._unsent:
            backend.writelines(self._unsent)
            self._unsent.clear()
        if self._client_is_done:
            self._end_backend()

    def on_no_backend(self) -> None:
        self._connecting = None
        self._outcome = NO_BACKEND
        if self._client is not None:
            self._client.abort()

    def on_backend_data(self, data: bytes) -> None:
        if self._client is not None:
            self._moved()
            if self._entry is not None:
                self._entry.sent_bytes += len(data)
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

    def _end_entry(self) -> None:
        entry, self._entry = self._entry, None
        if self._trail is not None and entry is not None:
            entry.status = _STATUSES[self._outcome]
            entry.is_whole = self._client_is_done and self._backend_is_done
            self._trail.end(entry, self._received_bytes)

    def _moved(self) -> None:
        client = self._client
        if client is not None:
            client.deadline_at = client.now() + self.settings.idle_timeout_s
            self._unsent_bytes = client.unsent_bytes()
            if self._backend is not None:
                self._unsent_bytes += self._backend.get_write_buffer_size()

"""TLS between a socket and a protocol: an asyncio Protocol below, an asyncio-like transport above.

The life of a connection, each state left only downwards:

    HANDSHAKE   until the handshake is done, or fails (its alert is sent), or takes too long
    OPEN        plaintext both ways
    CLOSING     close_notify is sent; what was written before still goes out, what comes in is dropped
    CLOSED      the socket is gone

In CLOSING the socket is first shut for writing only, and read until the client ends too: closing a socket with unread
input makes the kernel send RST, which can destroy an answer that the client has not read yet.
"""

from __future__ import annotations

import asyncio
import enum
from typing import TYPE_CHECKING, Protocol, cast

from proxy.deadlines import NEVER, Deadlines
from proxy.tls import clienthello
from proxy.tls.engine import Engine, TlsError

if TYPE_CHECKING:
    from collections.abc import Callable

    from OpenSSL import SSL

    from proxy.names import NameTable

# A write above this much unsent data pauses the writer. uvloop reads up to 256 kB at once, so less would pause at each.
_HIGH_WATER_BYTES = 262_144
# A fatal alert, as RFC 6066 3 has it, before there is an engine that could write it.
_UNRECOGNIZED_NAME = b"\x15\x03\x03\x00\x02\x02\x70"
_LINGER_S = 5.0
_STALL_S = 30.0


class App(Protocol):
    """The protocol above; the names are those of asyncio.Protocol."""

    def connection_made(self, transport: TlsTransport) -> None: ...
    def data_received(self, data: bytes) -> None: ...
    def connection_lost(self, exc: Exception | None) -> None: ...
    def eof_received(self) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...
    def on_deadline(self) -> None: ...
    def drain(self) -> None: ...


class State(enum.Enum):
    """See the head of this file."""

    HANDSHAKE = enum.auto()
    OPEN = enum.auto()
    CLOSING = enum.auto()
    CLOSED = enum.auto()


# By these names below: until Python 3.12 each `State.X` is a call in the enum module.
HANDSHAKE, OPEN, CLOSING, CLOSED = State


class TlsTransport(asyncio.Protocol):
    """One client connection.

    `contexts` has each site's context by server name. `make_app` is called when the handshake is done, with what the
    chosen site's context carries as app data. `on_failure` is told in a few words why a handshake failed, and whose.
    """

    __slots__ = (
        "_app",
        "_contexts",
        "_deadlines",
        "_engine",
        "_handshake_timeout_s",
        "_hello",
        "_hello_needed",
        "_loop",
        "_make_app",
        "_on_failure",
        "_raw",
        "_unsent_bytes",
        "deadline_at",
        "peer_host",
        "state",
    )

    def __init__(
        self,
        contexts: NameTable[SSL.Context | None],
        make_app: Callable[[object], App],
        deadlines: Deadlines,
        handshake_timeout_s: float,
        on_failure: Callable[[str, str], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._contexts = contexts
        self._engine: Engine | None = None  # until it is known for which site
        self._hello = bytearray()
        self._hello_needed = 0
        self._make_app = make_app
        self._deadlines = deadlines
        self._handshake_timeout_s = handshake_timeout_s
        self._on_failure = on_failure
        self._loop = loop
        self._app: App | None = None
        self._raw = cast("asyncio.Transport", None)  # set by the first thing that ever happens, connection_made
        self._unsent_bytes = 0
        self.state = HANDSHAKE
        self.deadline_at = NEVER
        self.peer_host = ""

    # Below: asyncio calls these.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._raw = cast("asyncio.Transport", transport)
        self._raw.set_write_buffer_limits(high=_HIGH_WATER_BYTES)
        peer = transport.get_extra_info("peername")
        self.peer_host = peer[0] if peer else ""
        self.deadline_at = self._loop.time() + self._handshake_timeout_s
        self._deadlines.add(self)

    def data_received(self, data: bytes) -> None:
        if self.state is OPEN:
            engine = self._engine
            assert engine is not None  # from HANDSHAKE on
            try:
                plaintext = engine.receive(data)
            except TlsError as error:
                self._fail(str(error))
                return
            self._deliver(engine, plaintext)
        elif self.state is HANDSHAKE:
            self._shake(data)

    def eof_received(self) -> bool:
        """Let the socket be closed: in TLS it is close_notify that ends one direction only, and that came as data."""
        if self.state is HANDSHAKE:
            self._on_failure("the client left during the handshake", self.peer_host)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.state = CLOSED
        self._deadlines.discard(self)
        app, self._app = self._app, None
        if app is not None:
            app.connection_lost(exc)

    def pause_writing(self) -> None:
        if self._app is not None:
            self._app.pause_writing()

    def resume_writing(self) -> None:
        if self._app is not None:
            self._app.resume_writing()

    def on_deadline(self) -> None:
        if self.state is OPEN and self._app is not None:
            self._app.on_deadline()
            return
        if self.state is HANDSHAKE:
            self._on_failure("the handshake took too long", self.peer_host)
        elif self._raw.get_write_buffer_size() < self._unsent_bytes:
            self._count_down()
            return
        self.abort()

    def drain(self) -> None:
        """Let the app take its last request; a handshake under way may still end and have one."""
        if self._app is not None:
            self._app.drain()

    def _begin(self) -> Engine | None:
        """Choose the site by what the ClientHello asks for; None: it has not come whole yet, or there is no site."""
        name = None
        if not self._contexts.is_single:
            if len(self._hello) < self._hello_needed:
                return None
            hello = clienthello.read(bytes(self._hello))
            if isinstance(hello, int):
                self._hello_needed = hello
                return None
            name = hello.server_name
        context = self._contexts.lookup(name)
        if context is None:
            self._raw.write(_UNRECOGNIZED_NAME)
            self._fail("the client asks for no or an unknown name")
            return None
        self._engine = Engine(context)
        return self._engine

    def _shake(self, data: bytes) -> None:
        engine = self._engine
        if engine is None:
            self._hello += data
            engine = self._begin()
            if engine is None:
                return
            data, self._hello = bytes(self._hello), bytearray()
        try:
            plaintext = engine.receive(data)
        except TlsError as error:
            self._fail(f"the handshake failed: {error}")
            return
        # Flushed before the plaintext is looked at: an app that answers at once answers after our Finished.
        self._flush(engine)
        if not engine.is_established:
            return
        self.state = OPEN
        app = self._app = self._make_app(engine.connection.get_context().get_app_data())
        app.connection_made(self)
        self._deliver(engine, plaintext)

    def _deliver(self, engine: Engine, plaintext: bytes) -> None:
        if plaintext and self._app is not None:
            self._app.data_received(plaintext)
        elif self.state is OPEN:
            # Nothing for the app, so something for OpenSSL itself, which may want to answer (a key update, an alert).
            self._flush(engine)
        if engine.is_peer_done and self.state is OPEN and self._app is not None:
            self._app.eof_received()

    def _flush(self, engine: Engine) -> None:
        data = engine.pending()
        if data:
            self._raw.write(data)
            if self._raw.get_write_buffer_size() > 2 * _HIGH_WATER_BYTES:
                # The app's writing is paused long before. This is OpenSSL answering a client that asks (for key
                # updates, say) and never reads, which nobody has to put up with.
                self.abort()

    def _fail(self, why: str) -> None:
        """Send the alert that OpenSSL has written, then close."""
        self._on_failure(why, self.peer_host)
        if self._engine is not None:
            self._flush(self._engine)
        self._end()

    def _end(self) -> None:
        self.state = CLOSING
        self._count_down()
        if self._raw.is_closing():
            return
        if self._raw.can_write_eof():
            self._raw.write_eof()
            self._raw.resume_reading()
        else:
            self._raw.close()

    def _count_down(self) -> None:
        """Wait for what is unsent as long as it gets less, then a little for the client's end."""
        self._unsent_bytes = self._raw.get_write_buffer_size()
        self.deadline_at = self._loop.time() + (_STALL_S if self._unsent_bytes else _LINGER_S)

    # Above: the app calls these.

    def write(self, data: bytes) -> None:
        """Encrypt and send; dropped if the connection is no longer open."""
        if self.state is not OPEN or self._engine is None:
            return
        try:
            self._raw.write(self._engine.send(data))
        except TlsError as error:
            self._fail(str(error))

    def close(self) -> None:
        """Send what was written and close_notify, then end the connection."""
        if self.state is OPEN and self._engine is not None:
            self._raw.write(self._engine.close())
            self._end()

    def abort(self) -> None:
        """Cut the connection, without close_notify: the client must be able to tell that something is missing."""
        if self.state is not CLOSED:
            self.state = CLOSING
            self._raw.abort()

    def pause_reading(self) -> None:
        """Take no more from the client for now."""
        self._raw.pause_reading()

    def resume_reading(self) -> None:
        """Take from the client again."""
        if self.state is OPEN:
            self._raw.resume_reading()

    def unsent_bytes(self) -> int:
        """How much of what was written the client has not taken yet, beyond what the kernel holds."""
        return self._raw.get_write_buffer_size()

    def now(self) -> float:
        """The event loop's time, for deadlines."""
        return self._loop.time()

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

import enum
import socket
import struct
from typing import TYPE_CHECKING, Protocol

from proxy.counters import WorkerCounts
from proxy.counters_layout import FAILURE_AT, RECEIVED_BYTES, SENT_BYTES, TLS_CONNECTIONS
from proxy.deadlines import NEVER, Deadlines
from proxy.proxyprotocol import Endpoint
from proxy.tls.bulk import BEGINS_AT_BYTES, BulkReading, Reader
from proxy.tls.context import StapleMissingError
from proxy.tls.engine import Engine, TlsError
from proxy.tls.failures import Failure, failure_of
from proxy.tls.inline import MAX_REPLAYED_BYTES, Replay, StapleFatalError, StapleWantedError
from proxy.tls.opening import Opening, Refused, opened_at_once
from proxy.tls.session import Session

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from proxy.accepting import Door
    from proxy.names import NameTable
    from proxy.proxyprotocol import Header
    from proxy.tls.inline import Asking, Preset
    from proxy.tls.site import SiteContext

# A write above this much unsent data pauses the writer. uvloop reads up to 256 kB at once, so less would pause at each.
_HIGH_WATER_BYTES = 65_536
_LINGER_S = 5.0
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER for no time at all: closing sends RST."""
_STALL_S = 30.0
_STALL_BYTES = 8_192
"""What a client has to take in that time, at least, of what is left for it: a trickle would hold it for hours."""


class App(Protocol):
    """The protocol above; the names are those of asyncio.Protocol.

    `eof_received` tells of close_notify; as in asyncio, a true answer means that the other direction shall stay open.
    """

    def connection_made(self, transport: TlsTransport) -> None: ...
    def data_received(self, data: bytes) -> None: ...
    def connection_lost(self, exc: Exception | None) -> None: ...
    def eof_received(self) -> bool | None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...
    def on_deadline(self) -> None: ...
    def drain(self) -> None: ...
    def retire(self) -> None: ...


class State(enum.Enum):
    """See the head of this file."""

    HANDSHAKE = enum.auto()
    OPEN = enum.auto()
    CLOSING = enum.auto()
    CLOSED = enum.auto()


# By these names below: until Python 3.12 each `State.X` is a call in the enum module.
HANDSHAKE, OPEN, CLOSING, CLOSED = State
NOTHING_SENT, CLIENT_LEFT = Failure.NOTHING_SENT, Failure.CLIENT_LEFT


class TlsTransport(Reader):
    """One client connection.

    `contexts` has each site's context by server name. `make_app` is called when the handshake is done, with what the
    chosen site's context carries as app data. `on_failure` is told in a few words why a handshake failed, and whose.
    `is_load_balancer` tells by an address who has to send a PROXY header; `http_answer` is for who speaks no TLS.
    `ask_staple` is for where handshakes wait for what they staple, see inline.py. `on_no_staple` is told of who is
    refused for want of one, at which site. `counts` are the worker's; None: nobody's.
    """

    __slots__ = (
        "_app",
        "_ask_staple",
        "_contexts",
        "_counts",
        "_deadlines",
        "_door",
        "_engine",
        "_failure",
        "_handshake_timeout_s",
        "_header",
        "_http_answer",
        "_is_admitted",
        "_is_ended",
        "_is_half_open",
        "_is_load_balancer",
        "_loop",
        "_make_app",
        "_on_failure",
        "_on_no_staple",
        "_opening",
        "_raw",
        "_replay",
        "_unsent_bytes",
        "deadline_at",
        "peer_host",
        "state",
    )

    def __init__(
        self,
        contexts: NameTable[SiteContext | None],
        make_app: Callable[[object, Session], App],
        deadlines: Deadlines,
        handshake_timeout_s: float,
        on_failure: Callable[[str, str], None],
        loop: asyncio.AbstractEventLoop,
        is_load_balancer: Callable[[str], bool] | None = None,
        http_answer: bytes = b"",
        door: Door | None = None,
        on_no_staple: Callable[[TlsTransport, object, Session], None] | None = None,
        ask_staple: Asking | None = None,
        counts: WorkerCounts | None = None,
    ) -> None:
        self._contexts = contexts
        self._engine: Engine | None = None  # until it is known for which site
        self._opening: Opening | None = None  # from the first byte until then
        self._header: Header | None = None
        self._is_load_balancer = is_load_balancer
        self._http_answer = http_answer
        self._door = door
        self._is_admitted = False
        self._on_no_staple = on_no_staple
        self._ask_staple = ask_staple
        self._replay: Replay | None = None  # only with `ask_staple`, and until the handshake cannot be begun again
        self._is_half_open = False  # the client has sent close_notify, and the app goes on writing
        self._is_ended = False  # and its socket has ended as well
        self._make_app = make_app
        self._deadlines = deadlines
        self._handshake_timeout_s = handshake_timeout_s
        self._on_failure = on_failure
        self._loop = loop
        self._app: App | None = None
        # Set by the first thing that ever happens, connection_made; no cast, here and there, since that is a call.
        self._raw: asyncio.Transport = None  # type: ignore[assignment]
        self._unsent_bytes = 0
        self._counts = counts or WorkerCounts.of_nobody()
        self._failure: Failure | None = NOTHING_SENT  # what it is if it ends now; None: the handshake was done
        self.state = HANDSHAKE
        self.deadline_at = NEVER
        self.peer_host = ""

    # Below: asyncio calls these.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._raw = transport  # type: ignore[assignment]  # that of a socket
        self._raw.set_write_buffer_limits(high=_HIGH_WATER_BYTES)
        self._counts.words[TLS_CONNECTIONS] += 1
        peer = transport.get_extra_info("peername")
        self.peer_host = peer[0] if peer else ""
        self.deadline_at = self._loop.time() + self._handshake_timeout_s
        self._deadlines.add(self)
        if self._is_load_balancer is None or not self._is_load_balancer(self.peer_host):
            self._enter()  # else when it is known who the client is

    def data_received(self, data: bytes) -> None:
        if self.state is OPEN:
            engine = self._engine
            assert engine is not None  # from HANDSHAKE on
            if engine.is_peer_done:
                return  # RFC 8446 6.1: ignored. OpenSSL would keep it, and read none of it ever
            if len(data) >= BEGINS_AT_BYTES:
                BulkReading(self, self._raw)
            try:
                plaintext = engine.receive(data)
            except TlsError as error:
                self._fail(str(error))
                return
            self._deliver(engine, plaintext)
        elif self.state is HANDSHAKE:
            self._shake(data)

    def many_received(self, data: memoryview) -> None:
        engine = self._engine
        if self.state is OPEN and engine is not None and not engine.is_peer_done:
            try:
                plaintext = engine.receive_many(data)
            except TlsError as error:
                self._fail(str(error))
                return
            self._deliver(engine, plaintext)

    def eof_received(self) -> bool:
        """Let the socket be closed: in TLS it is close_notify that ends one direction only, and that came as data.

        It stays open for an app that, after close_notify, has said so.
        """
        if self.state is HANDSHAKE:
            self._on_failure("the client left during the handshake", self.peer_host)
        self._is_ended = self._is_half_open and self.state is OPEN
        return self._is_ended

    def connection_lost(self, exc: Exception | None) -> None:
        self.state = CLOSED
        self._deadlines.discard(self)
        self._replay = None  # who was asked for a staple still has this connection, for as long as that takes
        if self._is_admitted and self._door is not None:
            self._door.leave(self.peer_host)
        if self._failure is not None:
            self._counts.words[FAILURE_AT[self._failure]] += 1
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
            self._failure = Failure.TIMEOUT
            self._on_failure("the handshake took too long", self.peer_host)
        elif self._unsent_bytes and self._raw.get_write_buffer_size() <= max(0, self._unsent_bytes - _STALL_BYTES):
            self._count_down()
            return
        elif self._unsent_bytes:
            self.reset()
            return
        self.abort()

    def retire(self) -> None:
        """Let the app take one more request, for which it may wait."""
        if self._app is not None:
            self._app.retire()

    def drain(self) -> None:
        """Let the app take its last request; a handshake under way may still end and have one."""
        if self._app is not None:
            self._app.drain()
        elif self.state is HANDSHAKE:
            self._failure = Failure.WORKER_ENDED  # unless something else happens to it first

    def _enter(self) -> bool:
        """Ask whether there is room for this client; who finds none is cut off."""
        self._is_admitted = self._door is None or self._door.admit(self.peer_host)
        if not self._is_admitted:
            self._failure = Failure.LIMIT
            self.abort()
        return self._is_admitted

    def _begin(self, data: bytes) -> bytes | None:
        """Choose the site by what the ClientHello asks for; what OpenSSL is to be fed, None: not yet, or never."""
        if self._opening is None:
            if self._failure is NOTHING_SENT:
                self._failure = CLIENT_LEFT
            if self._is_load_balancer is None and (context := opened_at_once(self._contexts, data)) is not None:
                self._begin_with(context)
                return data
            awaits_header = self._is_load_balancer is not None and self._is_load_balancer(self.peer_host)
            self._opening = Opening(self._contexts, self._http_answer, awaits_proxy_header=awaits_header)
        try:
            opened = self._opening.feed(data)
        except Refused as refused:
            self._failure = refused.failure
            self._raw.write(refused.answer)
            self._fail(str(refused))
            return None
        if opened is None:
            return None
        self._opening, self._header = None, opened.header
        if opened.header:
            if opened.header.source:
                self.peer_host = opened.header.source.host
            if not self._enter():
                return None
        self._begin_with(opened.context)
        return opened.data

    def _begin_with(self, context: SiteContext) -> None:
        if self._ask_staple is not None:
            self._replay = Replay(context)
        self._engine = Engine(context, self._replay)

    def _shake(self, data: bytes) -> None:
        if self._replay is not None and self._replay.is_waiting:
            self._keep(self._replay, data)
            return
        if self._engine is None:
            begun = self._begin(data)
            if begun is None:
                return
            data = begun
        if self._replay is not None:
            self._keep(self._replay, data)
        self._feed(data)

    def _feed(self, data: bytes) -> None:
        engine = self._engine
        assert engine is not None  # made by _begin
        try:
            plaintext = engine.receive(data)
        except TlsError as error:
            if self._replay is not None and isinstance(error.__cause__, StapleWantedError):
                self._wait(self._replay, error.__cause__)
                return
            self._failure = failure_of(str(error))
            if isinstance(error.__cause__, StapleMissingError | StapleFatalError):
                self._failure = Failure.NO_STAPLE
                if self._on_no_staple is not None:
                    site = engine.site
                    self._on_no_staple(self, site, Session(engine.connection))
            self._fail(f"the handshake failed: {error}")
            return
        if not engine.is_established:
            self._flush(engine)
            return
        if self._replay is not None:
            self._flush(engine)
            self._replay.end()
            self._replay = None
        self.state = OPEN
        try:
            app = self._make_app(engine.site, Session(engine.connection))
        except ValueError as error:
            # cryptography's, of a client certificate that OpenSSL reads: what it says cannot be passed on.
            self._failure = Failure.CLIENT_CERTIFICATE
            self._fail(f"the client's certificate cannot be read: {error}")
            return
        self._app, self._failure = app, None
        app.connection_made(self)
        self._deliver(engine, plaintext)

    def _keep(self, replay: Replay, data: bytes) -> None:
        """Keep what came, for the case that the handshake is begun again."""
        replay.received += data
        if len(replay.received) <= MAX_REPLAYED_BYTES:
            return
        if replay.is_waiting:
            # It cannot have so much to say before our answer. Not paused: it would never be heard that it has left.
            self._failure = Failure.PROTOCOL
            self._on_failure("the client sent too much while it waited for its staple", self.peer_host)
            self.abort()
        else:  # so much comes only when it is past the point where a staple could be wanted
            self._replay = None

    def _wait(self, replay: Replay, wanted: StapleWantedError) -> None:
        """Leave the handshake as it stands, as long as it may take; the engine is dropped, with the alert in it."""
        assert self._ask_staple is not None  # else there is no replay
        self._engine = None
        replay.is_waiting = True
        replay.left_s = self.deadline_at - self._loop.time()
        self.deadline_at = NEVER
        self._ask_staple(wanted, bytes(replay.received), self._begin_again)

    def _begin_again(self, preset: Preset) -> None:
        """Take up the handshake where it waited, with the answer."""
        replay = self._replay
        if replay is None or self.state is not HANDSHAKE or self._raw.is_closing():
            return  # the client has left
        self.deadline_at = self._loop.time() + replay.left_s
        self._engine = Engine(replay.site, replay)
        self._feed(replay.begin_again(preset))

    def _deliver(self, engine: Engine, plaintext: bytes) -> None:
        if plaintext and self._app is not None:
            self._counts.quick[RECEIVED_BYTES] += len(plaintext)
            self._app.data_received(plaintext)
        if engine.is_peer_done and self.state is OPEN and self._app is not None:
            self._is_half_open = bool(self._app.eof_received())
        if self.state is OPEN and (not plaintext or engine.has_answered):
            # Something was for OpenSSL itself, which may want to answer (a key update, an alert), and at the end of a
            # handshake has. It has gone already, in one write with what the app had to say at once.
            self._flush(engine)

    def _flush(self, engine: Engine) -> None:
        data = engine.pending()
        if data and self._replay is not None:
            unsent = self._replay.unsent(data)
            if unsent is None:
                self._failure = Failure.PROTOCOL
                self.abort()  # the client has another beginning than this one: nothing can follow it
                return
            data = unsent
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
        if self._app is not None:
            # Soon: it may be the app whose writing has failed, and which is in the middle of something.
            self._loop.call_soon(self._lose_app)

    def _lose_app(self) -> None:
        """Tell the app now, not when the socket has ended: it would go on asking its backend for nobody."""
        app, self._app = self._app, None
        if app is not None:
            app.connection_lost(None)
            self._count_down()  # the app may have moved the deadline

    def _end(self) -> None:
        self.state = CLOSING
        self._count_down()
        if self._raw.is_closing():
            return
        # A client that has sent close_notify sends nothing more that could make a RST of our closing.
        is_client_done = self._engine is not None and self._engine.is_peer_done
        if not is_client_done and not self._is_ended and self._raw.can_write_eof():
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
        self._counts.quick[SENT_BYTES] += len(data)
        try:
            self._raw.write(self._engine.send(data))
        except TlsError as error:
            self._fail(str(error))

    def write_eof(self) -> None:
        """Send what was written and close_notify, and go on reading: it ends one direction only (RFC 8446 6.1)."""
        if self.state is OPEN and self._engine is not None:
            self._raw.write(self._engine.close())

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

    def reset(self) -> None:
        """Cut off a client that does not take what is sent: not even the kernel goes on sending what it still holds."""
        if self.state is not CLOSED:
            self._raw.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.abort()

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

    def endpoints(self) -> tuple[Endpoint, Endpoint]:
        """The client and where it connected to, as a load balancer said or the socket does."""
        if self._header and self._header.source and self._header.destination:
            return self._header.source, self._header.destination
        peer, own = (self._raw.get_extra_info(name) for name in ("peername", "sockname"))
        # uvloop has no name for a peer that was gone before we looked.
        return (Endpoint(*peer[:2]) if peer else Endpoint("", 0)), (Endpoint(*own[:2]) if own else Endpoint("", 0))

    def now(self) -> float:
        """The event loop's time, for deadlines."""
        return self._loop.time()

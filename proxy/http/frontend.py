"""HTTP/1.1 on one client connection: requests in order, one exchange at a time, both bodies streamed.

What may be held in memory is bounded by pausing: the client is not read while the backend's socket is full, while a
connection to it is being made, or while an earlier request is unanswered (what one read brought is kept in `_queue`);
the backend is not read while the client's socket is full.

Everything here is a callback: an exchange costs no task and no future, unless a connection to the backend has to be
made.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol

from proxy.deadlines import NEVER
from proxy.errors import ClientError
from proxy.http.codec import RequestDecoder, RequestHead
from proxy.http.exchange import Exchange, RequestState
from proxy.http.head import Client, ClientView, error_response, request_to_upstream

if TYPE_CHECKING:
    from proxy.http.codec import RequestEvent
    from proxy.http.upstream import UpstreamPool
    from proxy.settings.model import HttpSettings


class Transport(Protocol):
    """The connection below, such as `proxy.tls.transport.TlsTransport` is one."""

    peer_host: str
    deadline_at: float

    def write(self, data: bytes) -> None: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def now(self) -> float: ...


class Frontend:
    """One client connection's HTTP.

    `default_host` stands in where HTTP/1.0 names none; with `is_draining` the next request is the last.
    """

    __slots__ = (
        "_client",
        "_decoder",
        "_default_host",
        "_exchange",
        "_fault",
        "_is_draining",
        "_is_reading",
        "_is_write_paused",
        "_pool",
        "_queue",
        "_settings",
        "_transport",
    )

    def __init__(
        self, pool: UpstreamPool, settings: HttpSettings, default_host: str, *, is_draining: bool = False
    ) -> None:
        self._pool = pool
        self._settings = settings
        self._default_host = default_host
        self._transport: Transport | None = None
        self._client: Client | None = None
        self._decoder: RequestDecoder | None = RequestDecoder(settings.max_head_bytes)
        self._queue: deque[RequestEvent] = deque()
        self._fault: ClientError | None = None  # answered when what came before it is
        self._exchange: Exchange | None = None
        self._is_reading = True
        self._is_write_paused = False
        self._is_draining = is_draining

    # The transport calls these.

    def connection_made(self, transport: Transport) -> None:
        self._transport = transport
        self._client = Client.of(transport.peer_host, self._default_host)
        transport.deadline_at = transport.now() + self._settings.client_timeout_s

    def connection_lost(self, _exc: Exception | None) -> None:
        self._transport = None
        self._decoder = None  # the parser and its callbacks hold each other: let go now, not at the next collection
        self._queue.clear()
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.abandon()

    def eof_received(self) -> None:
        """Answer what was asked whole, then close: close_notify ends only the client's direction (RFC 8446 6.1)."""
        self._is_draining = True
        if self._exchange is None or self._exchange.request is RequestState.COMING:
            self._close()

    def data_received(self, data: bytes) -> None:
        transport, decoder = self._transport, self._decoder
        if transport is None or decoder is None or self._fault is not None:
            return
        try:
            events = decoder.feed(data)
        except ClientError as fault:
            self._fault = fault
            events = decoder.events
        if self._exchange is None or self._exchange.request is RequestState.COMING:
            transport.deadline_at = transport.now() + self._settings.client_timeout_s
        self._queue.extend(events)
        self.advance()

    def pause_writing(self) -> None:
        self._is_write_paused = True
        if self._transport is not None:
            self._transport.deadline_at = self._transport.now() + self._settings.client_timeout_s
        if self._exchange is not None:
            self._exchange.pause_answer()

    def resume_writing(self) -> None:
        self._is_write_paused = False
        if self._exchange is not None:
            self._exchange.resume_answer()
            if self._exchange.request is RequestState.COMPLETE:
                self.wait_for_upstream()
        self.advance()

    def on_deadline(self) -> None:
        """Close what is idle; say 408 to a request that stopped halfway; cut a client that takes nothing."""
        transport, exchange, decoder = self._transport, self._exchange, self._decoder
        if transport is None or decoder is None:
            return
        if exchange is None and decoder.is_idle:
            transport.close()
        elif exchange is None or (exchange.request is RequestState.COMING and not exchange.sent_head):
            self._refuse(ClientError(408, "the request did not come in time"))
        else:
            transport.abort()

    def drain(self) -> None:
        """Take no further request: close now if idle, else after the answer under way."""
        self._is_draining = True
        if self._exchange is None and (self._decoder is None or self._decoder.is_idle):
            self._close()

    # The flow.

    def advance(self) -> None:
        """Work off what the client sent, as far as can be done without waiting."""
        queue = self._queue
        while queue and self._transport is not None:
            exchange, event = self._exchange, queue[0]
            if isinstance(event, RequestHead):
                if exchange is not None or self._is_write_paused:
                    break  # answers go out in order, and no faster than the client takes them
                queue.popleft()
                self._start(event)
            elif exchange is None:
                queue.popleft()  # the rest of a request that was refused or answered early
            elif exchange.is_blocked:
                break
            else:
                queue.popleft()
                exchange.add_body(event)
        if self._exchange is not None:
            self._exchange.flush()
        elif self._fault is not None and not queue:
            self._refuse(self._fault)
            return
        self._set_reading(wanted=not queue)

    def _set_reading(self, *, wanted: bool) -> None:
        if wanted is self._is_reading or self._transport is None:
            return
        self._is_reading = wanted
        if wanted:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def _start(self, head: RequestHead) -> None:
        assert self._client is not None  # set when the connection was made
        try:
            data, framing = request_to_upstream(head, self._client)
            if len(data) > self._settings.max_head_bytes:
                raise ClientError(431, f"the head is over {self._settings.max_head_bytes} bytes")
        except ClientError as fault:
            self._refuse(fault, is_head=head.method == b"HEAD")
            return
        view = ClientView(head.method, head.version)
        keep_alive = head.keep_alive and not self._is_draining
        self._exchange = Exchange(self, self._pool, view, data, framing, keep_alive=keep_alive)
        self._exchange.start()

    def _refuse(self, fault: ClientError, *, is_head: bool = False) -> None:
        """Answer with the error and close: after a fault nobody knows where the next request begins."""
        transport = self._transport
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.abandon()
        self._fault = fault
        self._queue.clear()
        if transport is not None:
            transport.write(error_response(fault.status, fault.detail, is_head=is_head, keep_alive=False))
            transport.close()

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    # The exchange calls these.

    def write(self, data: bytes) -> None:
        """Send a part of the answer."""
        if self._transport is not None:
            self._transport.write(data)

    def wait_for_upstream(self) -> None:
        """Stop counting time against the client: the request is whole, the backend's own deadline runs."""
        if self._transport is not None and not self._is_write_paused:
            self._transport.deadline_at = NEVER

    def finish(self, *, keep_alive: bool) -> None:
        """Go on to the next request after a whole answer."""
        self._exchange = None
        transport = self._transport
        if transport is None:
            return
        if not keep_alive or self._is_draining:
            transport.close()
            return
        is_idle = self._decoder is None or self._decoder.is_idle
        limit = self._settings.client_idle_timeout_s if is_idle else self._settings.client_timeout_s
        transport.deadline_at = transport.now() + limit
        self.advance()

    def cut(self) -> None:
        """End the connection so that the client sees that the answer is not whole."""
        self._exchange = None
        if self._transport is not None:
            self._transport.abort()

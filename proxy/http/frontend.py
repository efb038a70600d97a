"""HTTP/1.1 on one client connection: requests in order, one exchange at a time, both bodies streamed.

What may be held in memory is bounded by pausing: the client is not read while the backend's socket is full, while a
connection to it is being made, or while an earlier request is unanswered (what one read brought is kept in `_queue`);
the backend is not read while the client's socket is full.

Everything here is a callback: an exchange costs no task and no future, unless a connection to the backend has to be
made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from proxy.deadlines import NEVER
from proxy.errors import ClientError
from proxy.http.codec import END, RequestDecoder, RequestHead
from proxy.http.exchange import COMING, COMPLETE, Exchange
from proxy.http.head import Client, error_response, request_to_upstream

if TYPE_CHECKING:
    from proxy.http.codec import RequestEvent
    from proxy.http.upstream import UpstreamPool
    from proxy.names import NameTable
    from proxy.settings.model import HttpSettings


_MAX_QUEUED = 16


class Transport(Protocol):
    """The connection below, such as `proxy.tls.transport.TlsTransport` is one."""

    peer_host: str
    deadline_at: float

    def write(self, data: bytes) -> None: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def unsent_bytes(self) -> int: ...
    def now(self) -> float: ...


class Frontend:
    """One client connection's HTTP.

    `default_host` stands in where HTTP/1.0 names none, `hosts` are those served (None: any); with `is_draining` the
    next request is the last.
    """

    __slots__ = (
        "_client",
        "_decoder",
        "_default_host",
        "_exchange",
        "_fault",
        "_hosts",
        "_is_draining",
        "_is_over",
        "_is_reading",
        "_is_write_paused",
        "_pool",
        "_queue",
        "_settings",
        "_transport",
        "_unsent_bytes",
    )

    def __init__(
        self,
        pool: UpstreamPool,
        settings: HttpSettings,
        default_host: str,
        hosts: NameTable[bool] | None = None,
        *,
        is_draining: bool = False,
    ) -> None:
        self._pool = pool
        self._settings = settings
        self._default_host = default_host
        self._hosts = hosts
        self._transport: Transport | None = None  # None: not yet connected, or closed by either side
        self._client: Client | None = None
        self._decoder = RequestDecoder(settings.max_head_bytes)
        self._queue: list[RequestEvent] = []
        self._is_over = False  # the client has ended, or broken the protocol: what is in the queue is the last
        self._fault: ClientError | None = None  # answered when what came before it is
        self._exchange: Exchange | None = None
        self._is_reading = True
        self._is_write_paused = False
        self._unsent_bytes = 0  # when the writing was paused, or the deadline last came
        self._is_draining = is_draining

    # The transport calls these.

    def connection_made(self, transport: Transport) -> None:
        self._transport = transport
        self._client = Client.of(transport.peer_host, self._default_host, self._hosts)
        transport.deadline_at = transport.now() + self._settings.client_timeout_s

    def connection_lost(self, _exc: Exception | None) -> None:
        self._leave()
        self._decoder.close()

    def eof_received(self) -> None:
        """Answer what was asked whole, then close: close_notify ends only the client's direction (RFC 8446 6.1)."""
        self._is_over = True
        self.advance()

    def data_received(self, data: bytes) -> None:
        decoder = self._decoder
        if self._transport is None or self._is_over:
            return
        was_idle = decoder.is_idle
        try:
            events = decoder.feed(data)
        except ClientError as fault:
            # Without the traceback, whose frames would hold this object.
            self._fault = ClientError(fault.status, fault.detail)
            self._is_over = True
            events = decoder.events
        if events or self._is_over:
            self._queue.extend(events)
            self.advance()
        elif was_idle and not decoder.is_idle:
            self._set_deadline()  # for the whole head: it is not prolonged by each byte of it

    def pause_writing(self) -> None:
        self._is_write_paused = True
        if self._transport is not None:
            self._unsent_bytes = self._transport.unsent_bytes()
        if self._exchange is not None:
            self._exchange.pause_answer()
        self._set_deadline()

    def resume_writing(self) -> None:
        self._is_write_paused = False
        if self._exchange is not None:
            self._exchange.resume_answer()
        self.advance()

    def on_deadline(self) -> None:
        """Close what is idle; say 408 to a request that stopped halfway; cut a client that takes nothing."""
        if self._is_write_paused:
            self._judge_slow_client()
        elif self._exchange is None and self._decoder.is_idle:
            self._close()
        else:
            self._refuse(ClientError(408, "the request did not come in time"))

    def _judge_slow_client(self) -> None:
        """Cut a client that took nothing since we last looked; a slow one may take its time."""
        unsent_bytes = 0 if self._transport is None else self._transport.unsent_bytes()
        if unsent_bytes < self._unsent_bytes:
            self._unsent_bytes = unsent_bytes
            self._set_deadline()
        else:
            self.cut()

    def drain(self) -> None:
        """Take no further request: close now if idle, else after the answer under way."""
        self._is_draining = True
        if self._exchange is None and not self._queue and self._decoder.is_idle:
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
                del queue[0]
                self._start(event)
            elif exchange is None or (exchange.is_blocked and event is not END):
                break
            else:
                del queue[0]
                exchange.add_body(event)
        exchange = self._exchange
        if exchange is not None:
            exchange.flush()
        if self._is_over and not queue and (exchange is None or exchange.request is COMING):
            if self._fault is not None:
                self._refuse(self._fault)
            else:
                self._close()
        # With a few requests waiting it is still read on, since only who reads sees that a client has gone.
        self._set_reading(wanted=not queue or (len(queue) <= _MAX_QUEUED and type(queue[0]) is RequestHead))
        self._set_deadline()

    def _set_reading(self, *, wanted: bool) -> None:
        if wanted is self._is_reading or self._transport is None:
            return
        self._is_reading = wanted
        if wanted:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def _set_deadline(self) -> None:
        """Count the time from now, if it is the client who is waited for and not the backend."""
        transport, exchange = self._transport, self._exchange
        if transport is None:
            return
        limit_s = self._settings.client_timeout_s
        if exchange is None:
            if self._decoder.is_idle and not self._is_write_paused:
                limit_s = self._settings.client_idle_timeout_s
        elif not self._is_write_paused and (exchange.is_blocked or exchange.request is COMPLETE):
            limit_s = NEVER
        transport.deadline_at = transport.now() + limit_s

    def _start(self, head: RequestHead) -> None:
        assert self._client is not None  # set when the connection was made
        try:
            data, framing = request_to_upstream(head, self._client)
            if len(data) > self._settings.max_head_bytes:
                status = 414 if len(head.target) > self._settings.max_head_bytes // 2 else 431
                raise ClientError(status, f"the head is over {self._settings.max_head_bytes} bytes")
        except ClientError as fault:
            self._refuse(fault, is_head=head.method == b"HEAD")
            return
        keep_alive = head.keep_alive and not self._is_draining
        self._exchange = Exchange(self, self._pool, head, data, framing, keep_alive=keep_alive)
        self._exchange.start()

    def _refuse(self, fault: ClientError, *, is_head: bool = False) -> None:
        """Answer with the error and close: after a fault nobody knows where the next request begins."""
        if self._exchange is not None and self._exchange.sent_head:
            self.cut()
            return
        self.write(error_response(fault.status, fault.detail, is_head=is_head, keep_alive=False))
        self._close()

    def _close(self) -> None:
        transport = self._leave()
        if transport is not None:
            transport.close()

    def _leave(self) -> Transport | None:
        """Have no more to do with the connection, which is returned, or None if that is so already."""
        transport, self._transport = self._transport, None
        self._queue.clear()
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.abandon()
        return transport

    # The exchange calls these.

    def write(self, data: bytes) -> None:
        """Send a part of the answer."""
        if self._transport is not None:
            self._transport.write(data)

    def finish(self, *, keep_alive: bool) -> None:
        """Go on to the next request after a whole answer."""
        self._exchange = None
        if keep_alive and not self._is_draining:
            self.advance()
        else:
            self._close()

    def cut(self) -> None:
        """End the connection so that the client sees that the answer is not whole."""
        transport = self._leave()
        if transport is not None:
            transport.abort()

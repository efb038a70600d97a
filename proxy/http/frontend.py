"""HTTP/1.1 on one client connection: requests in order, one exchange at a time, both bodies streamed.

What may be held in memory is bounded by pausing: the client is not read while the backend's socket is full, while a
connection to it is being made, or while an earlier request is unanswered (what one read brought is kept in `_queue`);
the backend is not read while the client's socket is full.

Everything here is a callback: an exchange costs no task and no future, unless a connection to the backend has to be
made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from proxy.accesslog.record import CLIENT_LEFT
from proxy.deadlines import NEVER
from proxy.errors import ClientError
from proxy.http.codec import RequestDecoder
from proxy.http.date import http_date
from proxy.http.exchange import COMPLETE, RELAYED, Exchange
from proxy.http.forwarded import Client
from proxy.http.head_request import host_of, request_to_upstream
from proxy.http.head_response import error_response
from proxy.http.messages import End, RequestHead
from proxy.http.patience import Patience

if TYPE_CHECKING:
    from proxy.accesslog.record import Entry
    from proxy.accesslog.trail import Trail
    from proxy.counters import SiteCounts
    from proxy.http.forwarded import Networks
    from proxy.http.messages import RequestEvent
    from proxy.http.rewriting import Rewriting
    from proxy.http.routes import Routes
    from proxy.http.upstream import Upstream
    from proxy.names import NameTable
    from proxy.proxyprotocol import Endpoint
    from proxy.settings.http import HttpSettings

_MAX_QUEUED = 16
_MAX_HELD_BYTES = 16_384


class Transport(Protocol):
    """The connection below, such as `proxy.tls.transport.TlsTransport` is one."""

    peer_host: str
    deadline_at: float

    def write(self, data: bytes) -> None: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...
    def reset(self) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def unsent_bytes(self) -> int: ...
    def endpoints(self) -> tuple[Endpoint, Endpoint]: ...
    def now(self) -> float: ...


class Frontend:
    """One client connection's HTTP.

    `default_host` stands in where HTTP/1.0 names none, `hosts` are those served (None: any); `trusted_proxies` may say
    who their clients are; `certificate_lines` tell the backend of the client's certificate; `rewriting` is what
    the site changes in heads (None: nothing); `counts` are the site's (None: nobody's); with `is_draining` the next
    request is the last.
    """

    __slots__ = (
        "_certificate_lines",
        "_client",
        "_decoder",
        "_default_host",
        "_entry",
        "_exchange",
        "_fault",
        "_hosts",
        "_is_draining",
        "_is_last",
        "_is_over",
        "_is_reading",
        "_is_write_paused",
        "_last_at",
        "_patience",
        "_queue",
        "_requests_left",
        "_routes",
        "_settings",
        "_trail",
        "_transport",
        "_trusted_proxies",
        "counts",
        "rewriting",
        "status",
    )

    def __init__(
        self,
        routes: Routes[Upstream],
        settings: HttpSettings,
        default_host: str,
        hosts: NameTable[bool] | None = None,
        *,
        trusted_proxies: Networks = (),
        certificate_lines: bytes = b"",
        rewriting: Rewriting | None = None,
        trail: Trail | None = None,
        counts: SiteCounts | None = None,
        is_draining: bool = False,
    ) -> None:
        self._routes = routes
        self._settings = settings
        self._default_host = default_host
        self._hosts = hosts
        self._transport: Transport | None = None  # None: not yet connected, or closed by either side
        self._client: Client | None = None  # until the first request
        self._trusted_proxies = trusted_proxies
        self._certificate_lines = certificate_lines
        self.rewriting = rewriting
        self._decoder = RequestDecoder(settings.max_head_bytes, settings.max_headers, settings.max_target_bytes)
        self._requests_left = settings.max_requests_per_connection
        self._last_at = NEVER  # a request after that is the last
        self._queue: list[RequestEvent] = []
        self._is_over = False  # the client has ended, or broken the protocol: what is in the queue is the last
        self._fault: ClientError | None = None  # answered when what came before it is
        self._exchange: Exchange | None = None
        self._is_reading = True
        self._is_write_paused = False
        self._patience = Patience(settings)
        self._trail = trail
        self._entry: Entry | None = None  # of the request under way, where there is an access log
        self.counts = counts
        self.status = 0  # what the client was told of the request under way; 0: there is none
        self._is_last = is_draining
        self._is_draining = False

    # The transport calls these.

    def connection_made(self, transport: Transport) -> None:
        self._transport = transport
        now = transport.now()
        transport.deadline_at = now + self._settings.head_timeout_s
        self._last_at = now + self._settings.max_connection_age_s
        if self._trail is not None:
            self._trail.connected(transport.endpoints())

    def connection_lost(self, _exc: Exception | None) -> None:
        if self._transport is not None:  # else all is done that has to be
            self._leave()

    def eof_received(self) -> None:
        """Answer what was asked whole, then close: close_notify ends only the client's direction (RFC 8446 6.1)."""
        self._is_over = True
        self.advance()

    def data_received(self, data: bytes) -> None:
        decoder = self._decoder
        if self._transport is None or self._is_over:
            return
        self._patience.received_bytes += len(data)
        was_idle = decoder.is_idle
        try:
            events = decoder.feed(data)
        except ClientError as fault:
            events = self._end_with(fault)
        if events or self._is_over:
            self._queue += events
            self.advance()
        elif decoder.is_held:
            self._set_reading(wanted=decoder.held_bytes <= _MAX_HELD_BYTES)
        elif was_idle and not decoder.is_idle and not self._is_write_paused:
            self._set_deadline()  # for the whole head: it is not prolonged by each byte of it

    def _end_with(self, fault: ClientError) -> list[RequestEvent]:
        """Read no more; the requests before the fault are the last."""
        # Without the traceback, whose frames would hold this object.
        self._fault = ClientError(fault.status, fault.detail)
        self._is_over = True
        return self._decoder.events

    def pause_writing(self) -> None:
        self._is_write_paused = True
        if self._transport is not None:
            self._patience.begin_taking(self._transport.unsent_bytes())
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
        transport = self._transport
        if transport is None:
            return
        if self._is_write_paused:
            if self._patience.takes_enough(transport.unsent_bytes()):
                self._set_deadline()
            else:
                self._leave()
                transport.reset()
        elif self._decoder.is_idle if self._exchange is None else self._exchange.request is RELAYED:
            self._close()
        elif (look_at := self._patience.longer_for_body(transport.now())) is not None:
            transport.deadline_at = look_at
        else:
            self._refuse(ClientError(408, "the request did not come in time"))

    def retire(self) -> None:
        """Take one more request, or the one under way, and say in the answer that it is the last.

        An idle connection waits for it: a request that is on its way while we close would be lost.
        """
        self._is_last = True
        if self._exchange is not None and not self._may_go_on():
            self._exchange.make_last()

    def _may_go_on(self) -> bool:
        """Whether there may be a request after this one; when it is to end, those that are here already."""
        if not self._is_last:
            return True
        return not self._is_draining and any(type(event) is RequestHead for event in self._queue)

    def drain(self) -> None:
        """Take no further request: close now if idle, else after the answer under way."""
        self._is_draining = True
        self.retire()
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
            elif exchange is None or (exchange.is_blocked and not isinstance(event, End)):
                break
            else:
                del queue[0]
                try:
                    exchange.add_body(event)
                except ClientError as fault:
                    self._refuse(fault)
                    return
        exchange = self._exchange
        if exchange is not None:
            exchange.flush()
        if self._is_over and not queue and (exchange is None or exchange.request is not COMPLETE):
            if self._fault is not None:
                self._refuse(self._fault)
            else:
                self._close()
        if not queue:
            if not self._is_reading:
                self._set_reading(wanted=self._decoder.held_bytes <= _MAX_HELD_BYTES)
        else:
            self._set_reading(wanted=self._may_read_on())
        if not self._is_write_paused:  # else it runs until the client takes something, whatever it sends
            self._set_deadline()

    def _may_read_on(self) -> bool:
        """With a few requests waiting it is still read, since only who reads sees that a client has gone."""
        queue = self._queue
        if len(queue) > _MAX_QUEUED or type(queue[0]) is not RequestHead:
            return False
        return sum(len(event) for event in queue if type(event) is bytes) <= _MAX_HELD_BYTES

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
        if self._is_write_paused:
            limit_s = self._settings.client_timeout_s
        elif exchange is None:
            is_idle = self._decoder.is_idle
            limit_s = self._settings.client_idle_timeout_s if is_idle else self._settings.head_timeout_s
        elif exchange.is_blocked or exchange.request is COMPLETE:
            self._patience.end_body()
            transport.deadline_at = NEVER
            return
        elif exchange.request is RELAYED:
            limit_s = self._settings.upgraded_idle_timeout_s
        else:
            transport.deadline_at = self._patience.for_body(transport.now())
            return
        self._patience.end_body()
        transport.deadline_at = transport.now() + limit_s

    def _start(self, head: RequestHead) -> None:
        assert self._transport is not None
        if self._client is None:
            self._client = Client.of(
                self._transport.peer_host,
                self._default_host,
                self._hosts,
                self._trusted_proxies,
                self._certificate_lines,
                self.rewriting,
            )
        self.status = CLIENT_LEFT  # unless it is answered
        if self._trail is not None:
            self._entry = self._trail.begin(head, self._transport.now)
        try:
            data = request_to_upstream(head, self._client)
            upstream = self._routes.choose(head.target)
            if head.fields.length > self._settings.max_body_bytes:
                raise ClientError(413, f"the body is over {self._settings.max_body_bytes} bytes")
        except ClientError as fault:
            self._refuse(fault, is_head=head.method == b"HEAD")
            return
        self._requests_left -= 1
        if self._transport.now() > self._last_at:
            self._requests_left = 0
        self._exchange = Exchange(
            self,
            upstream,
            head,
            data,
            max_body_bytes=self._settings.max_body_bytes,
            keep_alive=head.fields.keep_alive and self._requests_left > 0 and self._may_go_on(),
            entry=self._entry,
        )
        self._exchange.start()

    def _refuse(self, fault: ClientError, *, is_head: bool = False) -> None:
        """Answer with the error and close: after a fault nobody knows where the next request begins."""
        if self._exchange is not None and self._exchange.sent_head:
            self.cut()
            return
        self.status = fault.status
        answer = error_response(fault.status, fault.detail, is_head=is_head, keep_alive=False, date=http_date())
        if self.rewriting is not None:
            answer = self.rewriting.answer(answer)
        if self._trail is not None and self._transport is not None:
            if self._entry is None:
                self._entry = self._trail.begin(None, self._transport.now)
            self._entry.add_refusal(fault.status, answer)
        self.write(answer)
        if self._entry is not None:
            self._entry.is_whole = True
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
        self._end_request()
        return transport

    def _end_request(self) -> None:
        """Tell of the request under way, if there is one."""
        status, self.status = self.status, 0
        if status and self.counts is not None:
            self.counts.ended(status)
        entry, self._entry = self._entry, None
        if self._trail is not None and entry is not None:
            self._trail.end(entry, self._patience.received_bytes)

    # The exchange calls these.

    def host_of(self, request: RequestHead) -> bytes:
        """What the client has asked for by this name."""
        assert self._client is not None  # made for the first request
        return host_of(request, self._client.default_host)

    def write(self, data: bytes) -> None:
        """Send a part of the answer."""
        if self._transport is not None:
            if self._entry is not None:
                self._entry.sent_bytes += len(data)
            self._transport.write(data)

    def switch(self) -> None:
        """Speak HTTP no more: what the client sent behind its request, and all that comes, goes to the backend."""
        self._queue += self._decoder.switch()
        self.advance()

    def finish(self, *, keep_alive: bool) -> None:
        """Go on to the next request after a whole answer."""
        self._exchange = None
        if self._entry is not None:
            self._entry.is_whole = True
            self._entry.is_kept = keep_alive and not self._is_draining
        self._end_request()
        if not keep_alive or self._is_draining:
            self._close()
            return
        if self._decoder.is_held and not self._queue:  # else it is a request in the queue that holds it
            try:
                self._queue += self._decoder.release()
            except ClientError as fault:
                self._queue += self._end_with(fault)
        if self._queue or self._is_over or not self._is_reading:
            self.advance()
        else:
            self._set_deadline()

    def cut(self) -> None:
        """End the connection so that the client sees that the answer is not whole."""
        transport = self._leave()
        if transport is not None:
            transport.abort()

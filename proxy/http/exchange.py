"""One request and its answer, between a client's connection and a backend's.

CONNECTING   no idle connection was at hand; the request's head waits, its body is not read
OPEN         bodies stream both ways, each as fast as the slower side takes it
RELAYED      after a 101: bytes of another protocol both ways, until either side ends
over         `Frontend.finish` or `Frontend.cut` has been called, or the client is gone (`abandon`)
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Protocol

from proxy.errors import ClientError, UpstreamError
from proxy.http.chunked import chunk, last_chunk
from proxy.http.date import http_date
from proxy.http.head_response import error_response, interim_to_client, response_to_client
from proxy.http.messages import CHUNKED, NONE, UNTIL_CLOSE, End, ResponseHead
from proxy.http.rewriting import host_of_backend, with_host

if TYPE_CHECKING:
    import asyncio

    from proxy.accesslog.record import Entry
    from proxy.counters import SiteCounts
    from proxy.http.messages import Framing, RequestHead, ResponseEvent
    from proxy.http.rewriting import Rewriting
    from proxy.http.upstream import Upstream, UpstreamConnection

# Safe to send twice (RFC 9110 9.2.2). Only requests without a body are sent again: nothing has to be kept for it.
_RETRYABLE = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"DELETE"})


_SWITCHING_PROTOCOLS = 101
_SERVER_ERROR = 500


class RequestState(enum.Enum):
    """How far the client is with its request."""

    COMING = enum.auto()
    COMPLETE = enum.auto()
    RELAYED = enum.auto()


COMING, COMPLETE, RELAYED = RequestState  # as in messages.py


class Front(Protocol):
    """The client's side, as an exchange sees it."""

    rewriting: Rewriting | None
    counts: SiteCounts | None
    status: int
    """What the client was told."""

    def host_of(self, request: RequestHead) -> bytes: ...
    def write(self, data: bytes) -> None: ...
    def advance(self) -> None: ...
    def switch(self) -> None: ...
    def finish(self, *, keep_alive: bool) -> None: ...
    def cut(self) -> None: ...


class Exchange:
    """`view` is the request as it came, `head` what goes to the backend, `max_body_bytes` the most that may follow."""

    __slots__ = (
        "_answer_framing",
        "_asked_at",
        "_connecting",
        "_entry",
        "_front",
        "_has_retried",
        "_head",
        "_keep_alive",
        "_left_bytes",
        "_out",
        "_pool",
        "_request_framing",
        "_sent_body",
        "_upstream",
        "_view",
        "is_blocked",
        "request",
        "sent_head",
    )

    def __init__(
        self,
        front: Front,
        pool: Upstream,
        view: RequestHead,
        head: bytes,
        *,
        max_body_bytes: int,
        keep_alive: bool,
        entry: Entry | None = None,
    ) -> None:
        self._front = front
        self._pool = pool
        self._view = view
        self._head = head
        self._request_framing = view.fields.framing
        self._left_bytes = max_body_bytes
        self._keep_alive = keep_alive
        self._entry = entry
        self._answer_framing: Framing = NONE
        self._asked_at = 0.0
        self._connecting: asyncio.Task[None] | None = None
        self._upstream: UpstreamConnection | None = None
        self._out = [head]
        self._sent_body = False
        self._has_retried = False
        self.is_blocked = False
        """The backend is not there yet, or takes no more of the request for now."""
        self.request = COMING
        self.sent_head = False
        """The final head has gone to the client: too late for an error page."""

    # The client's side calls these.

    def start(self) -> None:
        """Find a connection; the head goes out with the next `flush` after there is one."""
        upstream = self._pool.take()
        if upstream is not None:
            self._bind(upstream)
        else:
            self._connect()

    def add_body(self, event: bytes | End) -> None:
        """Take the next part of the request; sent by `flush`. Raises ClientError."""
        if isinstance(event, End):
            self.request = COMPLETE
            if self._request_framing is CHUNKED:
                edits = self._front.rewriting
                self._out.append(last_chunk(edits.request_end(event) if edits and event.trailers else event))
            if self._upstream is not None:
                self._upstream.end_request()
                self._asked_at = self._upstream.waited_since
        elif self._request_framing is CHUNKED:
            self._left_bytes -= len(event)
            if self._left_bytes < 0:
                raise ClientError(413, "the body is too large")
            self._sent_body = True
            self._out.append(chunk(event))
        else:
            self._sent_body = True
            self._out.append(event)

    def flush(self) -> None:
        """Send what has gathered, head and body in one piece where they came so."""
        upstream = self._upstream
        if upstream is not None and self._out:
            out, self._out = self._out, []
            upstream.write(out[0] if len(out) == 1 else b"".join(out))

    def pause_answer(self) -> None:
        """The client takes no more for now."""
        if self._upstream is not None:
            self._upstream.pause_reading()

    def resume_answer(self) -> None:
        """The client takes more."""
        if self._upstream is not None:
            self._upstream.resume_reading()

    def make_last(self) -> None:
        """Say in the answer, if it has not begun yet, that the connection ends with it."""
        if not self.sent_head:
            self._keep_alive = False

    def abandon(self) -> None:
        """The client is gone: end the request at the backend too."""
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.close()

    # The backend's side calls these.

    def on_response(self, events: list[ResponseEvent]) -> None:
        out: list[bytes] = []
        is_over = False
        was_relayed = self.request is RELAYED
        try:
            for event in events:
                if isinstance(event, bytes):
                    out.append(chunk(event) if self._answer_framing is CHUNKED else event)
                elif isinstance(event, ResponseHead):
                    self._add_head(event, out)
                else:
                    is_over = True
                    if self._answer_framing is CHUNKED:
                        edits = self._front.rewriting
                        out.append(last_chunk(edits.answer_end(event) if edits and event.trailers else event))
        except UpstreamError as error:
            if self._upstream is not None:
                self._upstream.close()
            self.on_upstream_error(error)
            return
        if out:
            self._front.write(out[0] if len(out) == 1 else b"".join(out))
        if is_over:
            self._finish()
        elif self.request is RELAYED:
            if was_relayed:
                self._front.advance()  # it is not idle
            else:
                self._front.switch()

    def on_upstream_error(self, error: UpstreamError) -> None:
        upstream, self._upstream = self._upstream, None
        if upstream is not None and self._may_retry(upstream):
            self._has_retried = True
            self._out = [self._head]
            self._connect()
            return
        if upstream is not None:
            upstream.report(error)
        if self._front.counts is not None and error.status >= _SERVER_ERROR:  # else there is no backend for this path
            self._front.counts.upstream_failed()
        if self.sent_head:
            self._front.cut()
            return
        self._front.status = error.status
        # Our answer does not say keep-alive, which HTTP/1.0 would have to read.
        keep_alive = self._keep_alive and self.request is COMPLETE and self._view.fields.version == "1.1"
        is_head = self._view.method == b"HEAD"
        answer = error_response(error.status, error.detail, is_head=is_head, keep_alive=keep_alive, date=http_date())
        if self._front.rewriting is not None:
            answer = self._front.rewriting.answer(answer)
        if self._entry is not None:
            self._entry.add_refusal(error.status, answer)
        self._front.write(answer)
        self._front.finish(keep_alive=keep_alive)

    def pause_request(self) -> None:
        self.is_blocked = True

    def resume_request(self) -> None:
        self.is_blocked = False
        self._front.advance()

    # Inside.

    def _connect(self) -> None:
        self.is_blocked = True
        self._connecting = self._pool.connect(self._connected)

    def _connected(self, result: UpstreamConnection | UpstreamError) -> None:
        self._connecting = None
        if isinstance(result, UpstreamError):
            self.on_upstream_error(result)
            return
        self.is_blocked = False
        self._bind(result)
        self.flush()
        self._front.advance()

    def _bind(self, upstream: UpstreamConnection) -> None:
        self._upstream = upstream
        rewriting = self._front.rewriting
        if rewriting is not None and not rewriting.preserve_host:
            self._out[0] = with_host(self._head, host_of_backend(upstream.address))  # nothing has been sent yet
        if self._entry is not None:
            self._entry.ask_upstream(upstream.address)
        upstream.begin(self, self._view.method)
        if self.request is COMPLETE:
            upstream.end_request()
            self._asked_at = upstream.waited_since

    def _add_head(self, head: ResponseHead, out: list[bytes]) -> None:
        if head.status < 200:
            if head.status == _SWITCHING_PROTOCOLS:
                self._relay()
                self._note_answer(head)
            if self._view.fields.version == "1.1":  # HTTP/1.0 has no 1xx (RFC 9110 15.2)
                interim = interim_to_client(head)
                out.append(interim)
                if self._entry is not None:
                    self._entry.add_interim(head, len(interim))
            return
        if self.request is COMING:
            # Answered before the request was read whole. What is left of it cannot be told from a next request by
            # reading on for ever, so this is the connection's last answer.
            self._keep_alive = False
        data, self._answer_framing = response_to_client(head, self._view, keep_alive=self._keep_alive, date=http_date)
        if self._answer_framing is UNTIL_CLOSE:
            self._keep_alive = False
        if self._front.rewriting is not None:
            data = self._front.rewriting.answer(data, self._front.host_of(self._view))
        out.append(data)
        self.sent_head = True
        self._note_answer(head)
        if self._entry is not None:
            self._entry.add_answer(head, len(data))

    def _note_answer(self, head: ResponseHead) -> None:
        front, upstream = self._front, self._upstream
        front.status = head.status
        if front.counts is not None and upstream is not None:
            # Nothing, where the answer came before the request was complete.
            front.counts.answered(0.0 if self.request is COMING else upstream.waited_since - self._asked_at)

    def _relay(self) -> None:
        """Be a pipe from now on. No request is complete and none will be, so the limits for answers do not run."""
        upstream = self._upstream
        if not self._view.fields.upgrade or upstream is None:
            raise UpstreamError(502, "the backend switches protocols without having been asked")
        self.request = RELAYED
        self.sent_head = True
        self._keep_alive = False
        self._request_framing = self._answer_framing = UNTIL_CLOSE
        upstream.begin(self, b"CONNECT")

    def _may_retry(self, upstream: UpstreamConnection) -> bool:
        """The backend closed an idle connection just as we took it: not its fault, nor the client's."""
        return (
            upstream.is_reused
            and not self._has_retried
            and not upstream.is_open  # else it was too slow
            and not upstream.saw_response
            and not self._sent_body
            and self._request_framing is NONE
            and self._view.method in _RETRYABLE
        )

    def _finish(self) -> None:
        is_complete = self.request is COMPLETE
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.finish(request_is_complete=is_complete)
        self._front.finish(keep_alive=self._keep_alive and is_complete)

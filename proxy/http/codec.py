"""HTTP/1.1 bytes in, events out. The grammar is llhttp's (by httptools), strict; what it leaves open is closed here.

A message is one head, then any number of pieces of body (`bytes`), then END. A feed may complete several requests;
whoever asked takes them in order.

llhttp refuses by itself: bare CR or LF, obs-fold, space before the colon, control bytes, both framings, doubled or
malformed lengths, anything after `Connection: close`. It does not bound what it keeps, takes any version number, reads
trailers as headers, expects a body after HEAD, and cannot tell an ended connection from an ended message: that is ours.
So is the body of a request with `Upgrade`, which httptools has llhttp leave out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import httptools

from proxy.errors import ClientError, UpstreamError


class End:
    """The type of END, the event that closes a message."""

    def __repr__(self) -> str:
        return "END"


END: Final = End()

_FRAMING_HEADERS = frozenset({b"content-length", b"transfer-encoding"})
_VERSIONS = frozenset({"1.1", "1.0"})
# One read brings up to 256 kB, and 27 bytes can be a request, 4 a header, each twenty times as large in memory.
_MAX_HEADERS = 256
_MAX_EVENTS = 512


@dataclass(slots=True)
class RequestHead:
    """A request line with its headers, names as the client wrote them, values without the space around."""

    method: bytes
    target: bytes
    version: str
    headers: list[tuple[bytes, bytes]]
    keep_alive: bool


@dataclass(slots=True)
class ResponseHead:
    """A status line with its headers."""

    status: int
    reason: bytes
    version: str
    headers: list[tuple[bytes, bytes]]


RequestEvent = RequestHead | bytes | End
ResponseEvent = ResponseHead | bytes | End


class RequestDecoder:
    """What one client sends.

    `feed` raises ClientError with the status to answer; the events of whole requests before the fault are still
    in `events`, since those requests must be answered first.
    """

    __slots__ = (
        "_body_framing",
        "_headers",
        "_in_head",
        "_is_resuming",
        "_max_head_bytes",
        "_parser",
        "_silent_bytes",
        "_target",
        "events",
        "is_idle",
    )

    def __init__(self, max_head_bytes: int) -> None:
        self._max_head_bytes = max_head_bytes
        self._parser = httptools.HttpRequestParser(self)
        self._headers: list[tuple[bytes, bytes]] = []
        self._target = b""
        self._in_head = True
        self._body_framing = b""  # of a request with Upgrade, as header lines: its body is still to be read
        self._is_resuming = False  # what the parser reads is such lines
        self._silent_bytes = 0  # fed since the last event: a head in the making, a chunk extension, a trailer
        self.events: list[RequestEvent] = []
        self.is_idle = True
        """Between two requests: no byte of a next one has come."""

    def feed(self, data: bytes) -> list[RequestEvent]:
        """Take what came; the events it completes, which the caller owns from then on."""
        rest = data
        try:
            while rest:
                try:
                    self._parser.feed_data(rest)
                    break
                except httptools.HttpParserUpgrade as upgrade:
                    rest = self._go_on(rest[upgrade.args[0] :])
        except httptools.HttpParserInvalidMethodError as error:
            raise ClientError(501, "the method is not known") from error
        except httptools.HttpParserCallbackError as error:
            if isinstance(error.__context__, ClientError):
                raise error.__context__ from error
            raise
        except httptools.HttpParserError as error:
            raise ClientError(400, f"not a valid HTTP/1.1 request: {error}") from error
        if self._in_head and len(self._headers) > _MAX_HEADERS:
            raise ClientError(431, f"more than {_MAX_HEADERS} headers")
        events = self.events
        if events:
            self.events = []
            self._silent_bytes = 0
        else:
            self._silent_bytes += len(data)
            if self._silent_bytes > self._max_head_bytes:
                if not self._in_head:
                    raise ClientError(400, "chunk extensions or trailers are too long")
                is_target = not self._headers and len(self._target) > self._max_head_bytes // 2
                raise ClientError(414 if is_target else 431, f"the head is over {self._max_head_bytes} bytes")
        return events

    def close(self) -> None:
        """Let the parser go: it and its callbacks hold each other, and would stay until the next collection."""
        del self._parser

    def _go_on(self, rest: bytes) -> bytes:
        """Begin a new parser after a head with which the client means to speak something else; what to feed it.

        The client may not before it got a 101, so what it has already sent is HTTP: the request's body, then others.
        """
        self._parser = httptools.HttpRequestParser(self)
        if not self._body_framing:
            return rest
        framing, self._body_framing = self._body_framing, b""
        self._is_resuming = True
        return b"POST / HTTP/1.1\r\n%b\r\n%b" % (framing, rest)

    # httptools calls these.

    def on_message_begin(self) -> None:
        self._headers = []
        self._target = b""
        self._in_head = True
        self.is_idle = False

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # else it is a trailer, which may be dropped (RFC 9110 6.5.1)
            self._headers.append((name, value.rstrip(b" \t")))  # llhttp skips the space before it only

    def on_headers_complete(self) -> None:
        self._in_head = False
        if self._is_resuming:
            self._is_resuming = False
            return
        parser, headers = self._parser, self._headers
        version = parser.get_http_version()
        if version not in _VERSIONS:
            raise ClientError(505, f"HTTP/{version} is not spoken here")
        if len(headers) > _MAX_HEADERS:
            raise ClientError(431, f"more than {_MAX_HEADERS} headers")
        if len(self.events) > _MAX_EVENTS:
            raise ClientError(400, "too many requests at once")
        if parser.should_upgrade():
            self._body_framing = b"".join(
                b"%b: %b\r\n" % header for header in headers if header[0].lower() in _FRAMING_HEADERS
            )
        self.events.append(RequestHead(parser.get_method(), self._target, version, headers, parser.should_keep_alive()))

    def on_body(self, body: bytes) -> None:
        self.events.append(body)

    def on_message_complete(self) -> None:
        if self._body_framing:
            return
        self.events.append(END)
        self._in_head = True
        self.is_idle = True


class ResponseDecoder:
    """What a backend answers on one connection, to one request after another.

    Call `expect` with each request's method first. 1xx answers are heads without END; the final answer is a head, its
    body and END. `feed` and `eof` raise UpstreamError where no such answer can come any more.
    """

    __slots__ = (
        "_head",
        "_headers",
        "_is_head_request",
        "_max_head_bytes",
        "_parser",
        "_reason",
        "_silent_bytes",
        "events",
        "is_complete",
        "is_reusable",
    )

    def __init__(self, max_head_bytes: int) -> None:
        self._max_head_bytes = max_head_bytes
        self._parser = httptools.HttpResponseParser(self)
        self._headers: list[tuple[bytes, bytes]] = []
        self._head: ResponseHead | None = None  # the final one
        self._reason = b""
        self._is_head_request = False
        self._silent_bytes = 0
        self.events: list[ResponseEvent] = []
        self.is_complete = True
        """The answer to the last request has come whole."""
        self.is_reusable = True
        """The backend keeps the connection open, and has sent nothing after the end of its answer."""

    def expect(self, method: bytes) -> None:
        """Make ready for the answer to one request."""
        if self._is_head_request:
            # llhttp knows no requests and waits for the body that the head speaks of: it cannot be asked to stop.
            self._parser = httptools.HttpResponseParser(self)
        self._head = None
        self._is_head_request = method == b"HEAD"
        self.is_complete = False

    def feed(self, data: bytes) -> list[ResponseEvent]:
        """Take what came; the events it completes, which the caller owns from then on."""
        if self.is_complete:
            self.is_reusable = False
            return []
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as error:
            raise UpstreamError(502, "the backend switches protocols without having been asked") from error
        except httptools.HttpParserError as error:
            # Whatever comes after the end of this answer is nobody's (it may be garbage or look like another answer).
            self.is_reusable = False
            if not self.is_complete:
                if isinstance(error.__context__, UpstreamError):
                    raise error.__context__ from error
                raise UpstreamError(502, f"the backend's answer is not valid HTTP/1.1: {error}") from error
        events = self.events
        if events:
            self.events = []
            self._silent_bytes = 0
        else:
            self._silent_bytes += len(data)
            if self._silent_bytes > self._max_head_bytes:
                raise UpstreamError(502, f"the backend's head or trailer is over {self._max_head_bytes} bytes")
        return events

    def eof(self) -> list[ResponseEvent]:
        """Take the end of the connection: it ends an answer without framing (RFC 9112 6.3, 8), and breaks any other."""
        self.is_reusable = False
        if self.is_complete:
            return []
        head = self._head
        if head is None:
            raise UpstreamError(502, "the backend closed the connection without an answer")
        if any(name.lower() in _FRAMING_HEADERS for name, _ in head.headers):
            raise UpstreamError(502, "the backend closed the connection in the middle of its answer")
        self.is_complete = True
        return [END]

    def close(self) -> None:
        """Let the parser go: it and its callbacks hold each other, and would stay until the next collection."""
        del self._parser

    # httptools calls these.

    def on_message_begin(self) -> None:
        if self.is_complete:
            raise UpstreamError(502, "the backend sends more than its answer")
        self._headers = []
        self._reason = b""

    def on_status(self, reason: bytes) -> None:
        self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._head is None:  # else it is a trailer, which may be dropped (RFC 9110 6.5.1)
            self._headers.append((name, value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        parser = self._parser
        status, version = parser.get_status_code(), parser.get_http_version()
        if status < 100 or version not in _VERSIONS:
            raise UpstreamError(502, f"the backend answers with HTTP/{version} and status {status:03}")
        head = ResponseHead(status, self._reason, version, self._headers)
        self.events.append(head)
        if status >= 200:
            self._head = head
            self.is_reusable = self.is_reusable and parser.should_keep_alive()
            if self._is_head_request:  # no body whatever its head says (RFC 9112 6.3, 1)
                self._complete()

    def on_body(self, body: bytes) -> None:
        if self.is_complete:
            self.is_reusable = False
        else:
            self.events.append(body)

    def on_message_complete(self) -> None:
        if self._head is not None and not self.is_complete:
            self._complete()

    def _complete(self) -> None:
        self.events.append(END)
        self.is_complete = True

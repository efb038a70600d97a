"""Bytes of a client in, events out: RFC 9112 without leave. What two parsers could read differently is refused.

A message is one head, then pieces of body (`bytes`), then an End. A feed may complete several requests; whoever asked
takes them in order.

What comes after a request with Upgrade is not looked at until its answer decides what it is: `release` when it is
HTTP, `switch` when it is the other protocol.
"""

from __future__ import annotations

import enum
import re
from typing import TYPE_CHECKING

from proxy.errors import ClientError
from proxy.http.body import LengthReader
from proxy.http.chunked import ChunkedReader
from proxy.http.fields import REQUEST_FIELDS, FieldError
from proxy.http.head_request import KNOWN_REQUESTS
from proxy.http.messages import CHUNKED, END, NONE, RequestHead

if TYPE_CHECKING:
    from proxy.http.messages import RequestEvent, RequestFields

# One read brings up to 256 kB, and 27 bytes can be a request, twenty times as large in memory.
_MAX_REQUESTS_AT_ONCE = 256

_AROUND_TARGET_BYTES = 48  # method, version and what is between
_METHOD = re.compile(rb"[A-Z][A-Z0-9_-]{0,31}")  # any that can be one, as in nginx: the backend knows which it has
_USUAL_METHODS = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH"})
_VISIBLE = bytes(range(0x21, 0x7F))
_METHOD_BEGUN = re.compile(rb"[A-Z][A-Z0-9_-]{0,31}(?: .*)?", re.DOTALL)
_EMPTY_LINES = re.compile(rb"(?:\r\n)*+\r?")
_BARE = re.compile(rb"[^\r]\n|\r[^\n]")


class _State(enum.Enum):
    HEAD = enum.auto()
    BODY = enum.auto()
    HELD = enum.auto()
    RAW = enum.auto()


_IN_HEAD, _IN_BODY, _HELD, _RAW = _State  # as in messages.py


class RequestDecoder:
    """What one client sends.

    `feed` raises ClientError with the status to answer; the events of whole requests before the fault are still
    in `events`, since those requests must be answered first.
    """

    __slots__ = (
        "_body",
        "_max_head_bytes",
        "_max_headers",
        "_max_target_bytes",
        "_partial",
        "_state",
        "events",
        "is_held",
        "is_idle",
    )

    def __init__(self, max_head_bytes: int, max_headers: int, max_target_bytes: int) -> None:
        self._max_head_bytes = max_head_bytes
        self._max_headers = max_headers
        self._max_target_bytes = max_target_bytes
        self._state = _IN_HEAD
        self._partial = b""  # of a head; in HELD all that came
        self._body: LengthReader | ChunkedReader | None = None
        self.events: list[RequestEvent] = []
        self.is_idle = True
        """Between two requests: no byte of a next one has come."""
        self.is_held = False
        """A request with Upgrade is not answered yet, see above."""

    def feed(self, data: bytes) -> list[RequestEvent]:
        """Take what came; the events it completes, which the caller owns from then on."""
        try:
            while data:
                if self._state is _IN_HEAD:
                    data = self._read_head(data)
                elif self._state is _IN_BODY:
                    data = self._read_body(data)
                elif self._state is _RAW:
                    self.events.append(data)
                    break
                else:
                    self._partial += data
                    break
        except FieldError as error:
            raise ClientError(400, str(error)) from None
        events, self.events = self.events, []
        return events

    @property
    def held_bytes(self) -> int:
        """How much came after a request with Upgrade that is not answered yet."""
        return len(self._partial) if self.is_held else 0

    def release(self) -> list[RequestEvent]:
        """Read what was held as HTTP. Raises ClientError as `feed` does."""
        self.is_held = False
        self._state = _IN_HEAD
        data, self._partial = self._partial, b""
        return self.feed(data)

    def switch(self) -> list[RequestEvent]:
        """Read no HTTP any more: what was held, and all that comes, is given as it is."""
        self.is_held = False
        self._state = _RAW
        data, self._partial = self._partial, b""
        return [data] if data else []

    def _read_head(self, data: bytes) -> bytes:
        searched = 0
        if self._partial:
            searched = max(len(self._partial) - 3, 0)
            data = self._partial + data
            self._partial = b""
        if data[0] == 13:  # empty lines before a request are skipped (RFC 9112 2.2)
            empty = _EMPTY_LINES.match(data)
            assert empty is not None  # it matches nothing as well
            data, searched = data[empty.end() :], 0
            if not data:
                self._partial = b"\r" if empty[0].endswith(b"\r") else b""
                return b""
            if empty[0].endswith(b"\r"):
                raise ClientError(400, "CR without LF")
        end = data.find(b"\r\n\r\n", searched)
        if end < 0 or end > self._max_head_bytes:
            self._wait(data, searched)
            return b""
        parts = data[:end].split(b" ", 2)
        if len(parts) != 3:
            raise ClientError(400, "a request line is a method, a target and a version")
        method, target, text = parts
        if method not in _USUAL_METHODS and _METHOD.fullmatch(method) is None:
            raise ClientError(400, "the method has bytes that none may have")
        if len(target) > self._max_target_bytes:
            raise ClientError(414, f"the request target is over {self._max_target_bytes} bytes")
        if not target or target.translate(None, _VISIBLE):
            raise ClientError(400, "the request target has bytes that none may have")
        if text.count(b"\n") > self._max_headers:
            raise ClientError(431, f"more than {self._max_headers} headers")
        fields = KNOWN_REQUESTS[text]
        events = self.events
        events.append(RequestHead(method, target, fields))
        if fields.framing is NONE:
            events.append(END)
            self.is_idle = True
            if fields.upgrade:
                self._hold()
        else:
            self._begin_body(fields)
        if len(data) == end + 4:
            return b""
        if len(events) > 2 * _MAX_REQUESTS_AT_ONCE:
            raise ClientError(400, "too many requests at once")
        return data[end + 4 :]

    def _wait(self, data: bytes, searched: int) -> None:
        """Keep the beginning of a head, if it can become one and is not too long already."""
        line = data.partition(b"\r\n")[0]
        if _METHOD_BEGUN.fullmatch(line) is None or _BARE.search(data, max(searched - 1, 0)) is not None:
            raise ClientError(400, "not a valid HTTP/1.1 request")
        if len(line) > self._max_target_bytes + _AROUND_TARGET_BYTES:
            raise ClientError(414, f"the request target is over {self._max_target_bytes} bytes")
        if len(data) > self._max_head_bytes:
            is_target = len(line) > self._max_head_bytes // 2
            raise ClientError(414 if is_target else 431, f"the head is over {self._max_head_bytes} bytes")
        self._partial = data
        self.is_idle = False

    def _begin_body(self, fields: RequestFields) -> None:
        self.is_idle = False
        if fields.framing is CHUNKED:
            self._state = _IN_BODY
            self._body = ChunkedReader(REQUEST_FIELDS, self._max_headers, self._max_head_bytes)
        elif fields.length:
            self._state = _IN_BODY
            self._body = LengthReader(fields.length)
        else:
            self._complete(END)
            if fields.upgrade:
                self._hold()

    def _hold(self) -> None:
        self._state = _HELD
        self.is_held = True

    def _read_body(self, data: bytes) -> bytes:
        body = self._body
        assert body is not None  # set with the state
        piece, rest = body.feed(data)
        if piece:
            self.events.append(piece)
        if body.end is not None:
            self._complete(body.end)
            self._body = None
        return rest

    def _complete(self, end: RequestEvent) -> None:
        self.events.append(end)
        self._state = _IN_HEAD
        self.is_idle = True

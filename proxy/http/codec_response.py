"""Bytes of a backend in, events out: as strict as with clients, and sure of where an answer ends."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from proxy.errors import UpstreamError
from proxy.http.body import LengthReader
from proxy.http.chunked import ChunkedReader
from proxy.http.fields import RESPONSE_FIELDS, FieldError
from proxy.http.head_response import KNOWN_RESPONSES, NO_STATUS_LINE, shown
from proxy.http.messages import CHUNKED, END, LENGTH, NONE, UNTIL_CLOSE

if TYPE_CHECKING:
    from proxy.http.messages import ResponseEvent

_MAX_HEADERS = 256
_BEGINNING = b"HTTP/1."
_SWITCHING = 101
_NO_CONTENT = 204
_BODYLESS = frozenset({_NO_CONTENT, 304})


class _State(enum.Enum):
    HEAD = enum.auto()
    BODY = enum.auto()
    RAW = enum.auto()


_IN_HEAD, _IN_BODY, _RAW = _State  # as in messages.py


class ResponseDecoder:
    """What a backend answers on one connection, to one request after another.

    Call `expect` with each request's method first. 1xx answers are heads without End; the final answer is a head, its
    body and End. After a 101 all is given as it comes, as after `expect(b"CONNECT")`. `feed` and `eof` raise
    UpstreamError where no such answer can come any more.
    """

    __slots__ = (
        "_body",
        "_framing",
        "_is_head_request",
        "_max_head_bytes",
        "_partial",
        "_state",
        "events",
        "is_complete",
        "is_reusable",
    )

    def __init__(self, max_head_bytes: int) -> None:
        self._max_head_bytes = max_head_bytes
        self._state = _IN_HEAD
        self._partial = b""  # of a head
        self._body: LengthReader | ChunkedReader | None = None
        self._framing = NONE
        self._is_head_request = False
        self.events: list[ResponseEvent] = []
        self.is_complete = True
        """The answer to the last request has come whole."""
        self.is_reusable = True
        """The backend keeps the connection open, and has sent nothing after the end of its answer."""

    def expect(self, method: bytes) -> None:
        """Make ready for the answer to one request."""
        self._is_head_request = method == b"HEAD"
        self._state = _RAW if method == b"CONNECT" else _IN_HEAD
        self._framing = UNTIL_CLOSE if method == b"CONNECT" else NONE
        self.is_complete = False

    def feed(self, data: bytes) -> list[ResponseEvent]:
        """Take what came; the events it completes, which the caller owns from then on."""
        try:
            while data and not self.is_complete:
                if self._state is _IN_HEAD:
                    data = self._read_head(data)
                elif self._state is _IN_BODY:
                    data = self._read_body(data)
                else:
                    self.events.append(data)
                    data = b""
        except FieldError as error:
            raise UpstreamError(502, f"the backend's answer is not valid HTTP/1.1: {error}") from None
        if data:
            # Whatever comes after the end of an answer is nobody's (it may be garbage or look like another answer).
            self.is_reusable = False
        events, self.events = self.events, []
        return events

    def eof(self) -> list[ResponseEvent]:
        """Take the end of the connection: it ends an answer without framing (RFC 9112 6.3, 8), and breaks any other."""
        self.is_reusable = False
        if self.is_complete:
            return []
        if self._state is _IN_HEAD:
            raise UpstreamError(502, "the backend closed the connection without an answer")
        if self._framing is not UNTIL_CLOSE:
            raise UpstreamError(502, "the backend closed the connection in the middle of its answer")
        self.is_complete = True
        return [END]

    def close(self) -> None:
        """Let go of what a connection that ended leaves behind."""
        self._partial = b""
        self._body = None

    def _read_head(self, data: bytes) -> bytes:
        if self._partial:
            data = self._partial + data
            self._partial = b""
        end = data.find(b"\r\n\r\n")
        if end < 0 or end > self._max_head_bytes:
            self._wait(data)
            return b""
        text = data[:end]
        if text.count(b"\n") > _MAX_HEADERS:
            raise UpstreamError(502, f"the backend's answer has more than {_MAX_HEADERS} headers")
        head = KNOWN_RESPONSES[text]
        self.events.append(head)
        status = head.status
        if status < 200:
            if status == _SWITCHING:
                self._state = _RAW
                self._framing = UNTIL_CLOSE
            return data[end + 4 :]
        if not head.keep_alive or (status == _NO_CONTENT and (head.framing is CHUNKED or head.length > 0)):
            self.is_reusable = False  # a 204 that speaks of a body may be followed by it, which is nobody's
        framing = NONE if self._is_head_request or status in _BODYLESS else head.framing  # RFC 9112 6.3, item 1
        self._framing = framing
        if framing is LENGTH and head.length:
            self._state = _IN_BODY
            self._body = LengthReader(head.length)
        elif framing is CHUNKED:
            self._state = _IN_BODY
            self._body = ChunkedReader(RESPONSE_FIELDS, _MAX_HEADERS, self._max_head_bytes)
        elif framing is UNTIL_CLOSE:
            self._state = _RAW
        else:
            self.events.append(END)
            self.is_complete = True
        return data[end + 4 :]

    def _wait(self, data: bytes) -> None:
        """Keep the beginning of a head, if it can become one."""
        if not data.startswith(_BEGINNING[: len(data)]):
            raise UpstreamError(502, NO_STATUS_LINE, shown(data))
        if len(data) > self._max_head_bytes:
            raise UpstreamError(502, f"the backend's head is over {self._max_head_bytes} bytes")
        self._partial = data

    def _read_body(self, data: bytes) -> bytes:
        body = self._body
        assert body is not None  # set with the state
        piece, rest = body.feed(data)
        if piece:
            self.events.append(piece)
        if body.end is not None:
            self.events.append(body.end)
            self.is_complete = True
            self._body = None
        return rest

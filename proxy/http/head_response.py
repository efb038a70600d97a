"""What a backend's head says, and the head that goes to the client: that one written anew, or our own. Pure functions.

Date and Server are the backend's; a Date is added where it sends none (RFC 9110 6.6.1).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from proxy.errors import UpstreamError
from proxy.http.fields import (
    CODING,
    CONNECTION,
    DATE,
    LENGTH_FIELD,
    MAX_REMEMBERED,
    MAX_REMEMBERED_BYTES,
    PASS,
    RESPONSE_FIELDS,
    TRAILER,
    UPGRADE,
    Field,
    FieldError,
    is_secret,
    length_of,
    tokens,
    without_named,
)
from proxy.http.messages import CHUNKED, LENGTH, NONE, UNTIL_CLOSE, ResponseHead

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.http.messages import Framing, RequestHead

REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    413: "Content Too Large",
    414: "URI Too Long",
    417: "Expectation Failed",
    421: "Misdirected Request",
    431: "Request Header Fields Too Large",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
    505: "HTTP Version Not Supported",
}
"""All that we say ourselves."""

NO_STATUS_LINE = "the backend's answer does not begin as HTTP/1.1 does"
_ALLOW = b"Allow: GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS\r\n"
"""To OPTIONS, and with 405 (RFC 9110 9.3.7, 15.5.6)."""

# RFC 9112 4. Many servers leave out the space before an empty reason; nobody reads that differently.
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: ([\t -~\x80-\xff]*+))?")
_UPGRADE_REQUIRED = 426


class _Known(dict[bytes, ResponseHead]):
    """From a head as it came, without its last two CRLF, to what it says. Raises UpstreamError and FieldError."""

    __slots__ = ()

    def __missing__(self, text: bytes) -> ResponseHead:
        line, *lines = text.split(b"\r\n")
        fields = [RESPONSE_FIELDS[each] for each in lines]
        read = _judge(line, fields)
        if len(text) <= MAX_REMEMBERED_BYTES and not any(map(is_secret, fields)):
            if len(self) >= MAX_REMEMBERED:
                self.clear()
            self[text] = read
        return read


KNOWN_RESPONSES = _Known()


def _judge(status_line: bytes, fields: list[Field]) -> ResponseHead:
    match = _STATUS_LINE.fullmatch(status_line)
    if match is None:
        raise UpstreamError(502, NO_STATUS_LINE, shown(status_line))
    is_1_1, status, reason = match[1] == b"1", int(match[2]), match[3] or b""
    framing, length = UNTIL_CLOSE, -1
    options: set[bytes] = set()
    passed: list[Field] = []
    has_date, upgrade, trailer = False, b"", b""
    for field in fields:
        kind = field.kind
        if kind == PASS:
            passed.append(field)
        elif kind == DATE:
            has_date = True
            passed.append(field)
        elif kind == LENGTH_FIELD:
            if length >= 0:
                raise FieldError("more than one Content-Length")
            length = length_of(field.value)
        elif kind == CODING:
            if not is_1_1 or framing is CHUNKED or field.value.lower() != b"chunked":
                raise FieldError("a transfer coding other than chunked")
            framing = CHUNKED
        elif kind == CONNECTION:
            options |= tokens(field.value)
        elif kind == UPGRADE:
            upgrade += field.line
        elif kind == TRAILER:
            trailer += field.line
    if length >= 0:
        if framing is CHUNKED:
            raise FieldError("both Content-Length and Transfer-Encoding")
        framing = LENGTH
    line = b"HTTP/1.1 %d %b\r\n" % (status, reason)
    lines = b"".join([field.line for field in without_named(passed, options)])
    keep_alive = b"close" not in options and (is_1_1 or b"keep-alive" in options)
    told = b"Content-Length: %d\r\n" % length if framing is LENGTH else b"Transfer-Encoding: chunked\r\n" + trailer
    usual = b"" if not has_date or status in {204, 304, _UPGRADE_REQUIRED} else b"%b%b%b\r\n" % (line, lines, told)
    return ResponseHead(status, line, lines, has_date, framing, length, keep_alive, upgrade, trailer, usual)


def shown(data: bytes) -> str:
    """The beginning of what came, for the end of a line in the log."""
    return f": {data[:40].decode('latin-1')!r}"


def response_to_client(
    head: ResponseHead, request: RequestHead, *, keep_alive: bool, date: Callable[[], bytes]
) -> tuple[bytes, Framing]:
    """A final head for the client and how the body follows it. `date` gives the time as a Date field has it.

    `keep_alive` is the wish; UNTIL_CLOSE in the answer overrules it.
    """
    is_1_1 = request.fields.version == "1.1"
    framing = head.framing
    if request.method == b"HEAD" or head.status in {204, 304}:
        framing = NONE
    elif framing is not LENGTH:
        # A body without a length is sent in chunks, or to HTTP/1.0 until the end of the connection.
        framing = CHUNKED if is_1_1 else UNTIL_CLOSE
    if keep_alive and is_1_1 and head.usual and framing is not NONE:
        return head.usual, framing
    more = [head.line, head.lines]
    if not head.has_date:
        more.append(b"Date: %b\r\n" % date())
    if framing is CHUNKED:
        more.append(b"Transfer-Encoding: chunked\r\n%b" % head.trailer)
    elif head.length >= 0 and head.status != 204:  # RFC 9110 8.6
        more.append(b"Content-Length: %d\r\n" % head.length)
    options = []
    if head.status == _UPGRADE_REQUIRED and head.upgrade:  # whose whole sense it is (RFC 9110 15.5.22)
        options.append(b"Upgrade")
        more.append(head.upgrade)
    if not keep_alive or framing is UNTIL_CLOSE:
        options.append(b"close")
    elif not is_1_1:
        options.append(b"keep-alive")
    more.append(b"Connection: %b\r\n\r\n" % b", ".join(options) if options else b"\r\n")
    return b"".join(more), framing


def interim_to_client(head: ResponseHead) -> bytes:
    """A 1xx, without what it may not have (RFC 9110 8.6, 9112 6.1); a 101 with what it must (RFC 9110 7.8)."""
    upgrade = b"Connection: Upgrade\r\n" + head.upgrade if head.status == 101 else b""
    return b"%b%b%b\r\n" % (head.line, upgrade, head.lines)


def error_response(status: int, detail: str, *, is_head: bool, keep_alive: bool, date: bytes) -> bytes:
    """A whole answer of our own, with a short body for a person."""
    body = f"{status} {REASONS[status]}: {detail}\n".encode()
    head = (
        b"HTTP/1.1 %d %b\r\nDate: %b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\n%b%b\r\n"
        % (
            status,
            REASONS[status].encode(),
            date,
            len(body),
            _ALLOW if status in {200, 405} else b"",
            b"" if keep_alive else b"Connection: close\r\n",
        )
    )
    return head if is_head else head + body

"""Heads are never passed on as they came: they are taken apart, judged, and written anew from their fields.

That is what keeps a request that two parsers could read differently from crossing (request smuggling). Pure functions.

Rules for what goes to the backend:
- hop-by-hop headers and those that `Connection` names end here (RFC 9110 7.6.1); trailers are dropped, TE with them;
- X-Forwarded-anything, X-Real-IP and Forwarded are ours: what a client sends of them is replaced or dropped, since it
  could say anything; so is `Proxy`, which CGI would turn into HTTP_PROXY ("httpoxy");
- names with an underscore are dropped, as nginx does: gateways (CGI, WSGI) write "-" and "_" alike, and gunicorn takes
  SCRIPT_NAME from a proxy it trusts;
- exactly one Host: the target's authority if the target has one, else the client's.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from proxy.errors import ClientError, UpstreamError

if TYPE_CHECKING:
    from proxy.http.codec import RequestHead, ResponseHead
    from proxy.names import NameTable

_DROP, _CONNECTION, _LENGTH, _CODING, _HOST, _EXPECT, _ONCE = range(7)

_REQUEST_HEADERS = {
    b"keep-alive": _DROP,
    b"proxy-connection": _DROP,
    b"te": _DROP,
    b"trailer": _DROP,
    b"upgrade": _DROP,
    b"http2-settings": _DROP,
    b"proxy": _DROP,
    b"proxy-authorization": _DROP,
    b"forwarded": _DROP,
    b"x-real-ip": _DROP,
    b"connection": _CONNECTION,
    b"content-length": _LENGTH,
    b"transfer-encoding": _CODING,
    b"host": _HOST,
    b"expect": _EXPECT,
    b"authorization": _ONCE,
    b"if-modified-since": _ONCE,
    b"if-unmodified-since": _ONCE,
    b"if-range": _ONCE,
}

_RESPONSE_HEADERS = {
    b"keep-alive": _DROP,
    b"proxy-connection": _DROP,
    b"proxy-authenticate": _DROP,
    b"te": _DROP,
    b"trailer": _DROP,
    b"upgrade": _DROP,
    b"connection": _CONNECTION,
    b"content-length": _LENGTH,
    b"transfer-encoding": _CODING,
}

# `Connection: content-length` and the like would take the framing or the routing out of a message.
_NOT_HOP_BY_HOP = frozenset({b"host", b"content-length", b"transfer-encoding", b"authorization", b"cookie", b"date"})

# uri-host [ ":" port ] of RFC 3986 3.2.2 without userinfo and percent-encoding, which no host name here has.
_AUTHORITY = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=-]+)(?::[0-9]{0,5})?")
_PORT = re.compile(rb":[0-9]*\Z")
_X = ord("x")
_REASON = re.compile(rb"[\t -~\x80-\xff]*")  # RFC 9112 4; llhttp lets control bytes through
_ABSOLUTE = re.compile(rb"(?i:https?)://([^/?#]*)([^#]*)")

_REASONS = {
    400: "Bad Request",
    408: "Request Timeout",
    414: "URI Too Long",
    417: "Expectation Failed",
    421: "Misdirected Request",
    431: "Request Header Fields Too Large",
    501: "Not Implemented",
    502: "Bad Gateway",
    504: "Gateway Timeout",
    505: "HTTP Version Not Supported",
}


class Framing(enum.Enum):
    """How a message's body is delimited on the connection it is written to."""

    NONE = enum.auto()
    LENGTH = enum.auto()
    CHUNKED = enum.auto()
    UNTIL_CLOSE = enum.auto()


# By these names where each request goes: until Python 3.12 each `Framing.X` is a call in the enum module.
NONE, LENGTH, CHUNKED, UNTIL_CLOSE = Framing


@dataclass(frozen=True, slots=True)
class Client:
    """What the front knows of a client, written as header lines for the backend once a connection."""

    forwarded: bytes
    default_host: bytes
    """Stands in when HTTP/1.0 says no host."""
    hosts: NameTable[bool] | None
    """Those that are served; None: any."""

    @classmethod
    def of(cls, peer_host: str, default_host: str, hosts: NameTable[bool] | None = None) -> Client:
        """`peer_host` is the client's address."""
        lines = f"X-Forwarded-For: {peer_host}\r\nX-Forwarded-Proto: https\r\n"
        return cls(lines.encode("ascii", "replace"), default_host.encode("ascii", "replace"), hosts)


def request_to_upstream(head: RequestHead, client: Client) -> tuple[bytes, Framing]:
    """The head for the backend, in HTTP/1.1, and how the body follows it. Raises ClientError."""
    target, host = _split_target(head)
    lines = [b"%b %b HTTP/1.1\r\n" % (head.method, target), b""]
    framing = NONE
    named_by_connection: set[bytes] = set()
    once: set[bytes] = set()
    host_seen = False
    for name, value in head.headers:
        lower = name.lower()
        kind = _REQUEST_HEADERS.get(lower)
        if kind is None:
            if b"_" not in name and (lower[0] != _X or not lower.startswith(b"x-forwarded")):
                lines.append(b"%b: %b\r\n" % (name, value))
        elif kind == _HOST:
            if host_seen:
                raise ClientError(400, "more than one Host")
            host_seen = True
            if host is None:
                host = value
        elif kind == _CONNECTION:
            named_by_connection |= _extra_tokens(value)
        elif kind == _LENGTH:
            framing = LENGTH
            lines.append(b"Content-Length: %b\r\n" % value)
        elif kind == _CODING:
            _require_chunked(head, value, once)
            framing = CHUNKED
            lines.append(b"Transfer-Encoding: chunked\r\n")
        elif kind == _EXPECT:
            if value.lower() != b"100-continue":
                raise ClientError(417, "the only expectation known is 100-continue")
            if head.version == "1.1":  # in HTTP/1.0 it means nothing (RFC 9110 10.1.1)
                lines.append(b"Expect: 100-continue\r\n")
        elif kind == _ONCE:
            if lower in once:
                raise ClientError(400, f"more than one {name.decode('latin-1')}")
            once.add(lower)
            lines.append(b"%b: %b\r\n" % (name, value))
    if not host_seen and head.version == "1.1":  # RFC 9112 3.2
        raise ClientError(400, "Host is missing")
    if host is None:
        host = client.default_host
    if _AUTHORITY.fullmatch(host) is None:
        raise ClientError(400, "Host is not a host name with an optional port")
    if client.hosts is not None and not client.hosts.lookup(_PORT.sub(b"", host).decode("ascii")):
        raise ClientError(421, "this host is not served on a connection that was made for another")
    if named_by_connection:
        lines[2:] = [line for line in lines[2:] if line.partition(b":")[0].lower() not in named_by_connection]
    lines[1] = b"Host: %b\r\n%bX-Forwarded-Host: %b\r\n" % (host, client.forwarded, host)
    lines.append(b"\r\n")
    return b"".join(lines), framing


def _split_target(head: RequestHead) -> tuple[bytes, bytes | None]:
    """The target in origin form, and the authority that an absolute form had (RFC 9112 3.2)."""
    target = head.target
    if head.method == b"CONNECT":
        raise ClientError(501, "CONNECT is not served here")
    if b"#" in target:
        raise ClientError(400, "a request target has no fragment")
    if target.startswith(b"/"):
        return target, None
    if target == b"*" and head.method == b"OPTIONS":
        return target, None
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None:
        raise ClientError(400, "the request target is neither a path nor an http URL")
    authority, rest = absolute.groups()
    if not rest.startswith(b"/"):
        rest = (b"*" if head.method == b"OPTIONS" else b"/") if not rest else b"/" + rest
    return rest, authority


def _extra_tokens(value: bytes) -> set[bytes]:
    tokens = {token.strip() for token in value.lower().split(b",")}
    return tokens - _NOT_HOP_BY_HOP - {b"keep-alive", b"close", b"upgrade", b""}


def _require_chunked(head: RequestHead, value: bytes, once: set[bytes]) -> None:
    if head.version != "1.1":  # RFC 9112 6.1: its framing is to be taken as faulty
        raise ClientError(400, "Transfer-Encoding in HTTP/1.0")
    if value.lower() != b"chunked" or b"transfer-encoding" in once:
        raise ClientError(501, "the only transfer coding known is chunked")
    once.add(b"transfer-encoding")


def response_to_client(head: ResponseHead, request: RequestHead, *, keep_alive: bool) -> tuple[bytes, Framing]:
    """The head for the client and how the body follows it. Raises UpstreamError.

    `keep_alive` is the wish; UNTIL_CLOSE in the answer overrules it.
    """
    status = head.status
    reason = head.reason if head.reason.isalpha() or _REASON.fullmatch(head.reason) else b""
    lines = [b"HTTP/1.1 %d %b\r\n" % (status, reason)]
    framing = UNTIL_CLOSE
    named_by_connection: set[bytes] = set()
    for name, value in head.headers:
        kind = _RESPONSE_HEADERS.get(name.lower())
        if kind is None:
            lines.append(b"%b: %b\r\n" % (name, value))
        elif kind == _LENGTH:
            framing = LENGTH
            if status >= 200 and status != 204:  # RFC 9110 8.6
                lines.append(b"Content-Length: %b\r\n" % value)
        elif kind == _CODING:
            if value.lower() != b"chunked" or framing is CHUNKED or head.version != "1.1":
                raise UpstreamError(502, "the backend uses a transfer coding other than chunked")
            framing = CHUNKED
        elif kind == _CONNECTION:
            named_by_connection |= _extra_tokens(value)
    if named_by_connection:
        lines[1:] = [line for line in lines[1:] if line.partition(b":")[0].lower() not in named_by_connection]
    if status < 200:
        lines.append(b"\r\n")
        return b"".join(lines), NONE
    has_no_body = request.method == b"HEAD" or status in {204, 304}
    if has_no_body:
        framing = NONE
    elif framing is not LENGTH:
        # A body without a length is sent in chunks, or to HTTP/1.0 until the end of the connection.
        if request.version == "1.1":
            framing = CHUNKED
            lines.append(b"Transfer-Encoding: chunked\r\n")
        else:
            framing = UNTIL_CLOSE
    if not keep_alive or framing is UNTIL_CLOSE:
        lines.append(b"Connection: close\r\n\r\n")
    elif request.version == "1.0":
        lines.append(b"Connection: keep-alive\r\n\r\n")
    else:
        lines.append(b"\r\n")
    return b"".join(lines), framing


def error_response(status: int, detail: str, *, is_head: bool, keep_alive: bool) -> bytes:
    """A whole answer of our own, with a short body for a person."""
    body = f"{status} {_REASONS[status]}: {detail}\n".encode()
    head = (
        f"HTTP/1.1 {status} {_REASONS[status]}\r\n"
        f"Content-Type: text/plain; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\n" + ("" if keep_alive else "Connection: close\r\n") + "\r\n"
    ).encode()
    return head if is_head else head + body


def chunk(data: bytes) -> bytes:
    """One chunk (RFC 9112 7.1); `data` must not be empty, which would end the body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"

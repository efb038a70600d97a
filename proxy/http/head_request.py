"""What a request's head says, and the head that goes to the backend. Pure functions.

A head is never passed on as it came: it is taken apart, judged, and written anew. That keeps a request that two
parsers could read differently from crossing (request smuggling).

- Fields of this hop and those that `Connection` names end here (RFC 9110 7.6.1). `TE: trailers` goes on (10.1.4), and
  Upgrade where the protocol may be relayed.
- Of who the client is the backend learns what `forwarded` says.
- Exactly one Host: the target's authority if the target has one, else the client's.
- Via is ours to add, for a gateway must (RFC 9110 7.6.3).
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING

from proxy.errors import ClientError
from proxy.http.fields import (
    CODING,
    CONNECTION,
    DROP,
    EXPECT,
    FORWARDED,
    HOST,
    LENGTH_FIELD,
    MAX_REMEMBERED,
    MAX_REMEMBERED_BYTES,
    ONCE,
    PASS,
    REQUEST_FIELDS,
    TE,
    TRAILER,
    UPGRADE,
    Field,
    is_secret,
    length_of,
    tokens,
    without_named,
)
from proxy.http.forwarded import told_by_proxy
from proxy.http.messages import CHUNKED, LENGTH, NONE, RequestFields

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.http.forwarded import Client
    from proxy.http.messages import RequestHead

# uri-host [ ":" port ] of RFC 3986 3.2.2 without userinfo and percent-encoding, which no host name here has.
_AUTHORITY = re.compile(rb"(\[[0-9A-Fa-f:.]++\]|[A-Za-z0-9._~!$&'()*+,;=-]++)(?::([0-9]{0,5}))?")
_ABSOLUTE = re.compile(rb"(?i:https?)://([^/?#]*)([^#]*)")
_VERSION = re.compile(rb"HTTP/[0-9]\.[0-9]")
_SLASH = ord("/")
_MAX_FORWARDS_DIGITS = 9
_LIMITED = frozenset({b"OPTIONS", b"TRACE"})
_OTHER_METHODS = _LIMITED | {b"CONNECT"}
"""With rules of their own."""

# Upgrades that are not passed on. Behind a 101 for HTTP or TLS a client could send requests past every rule here
# (h2c smuggling).
_NOT_RELAYED = frozenset({b"h2c", b"h2", b"http", b"tls"})


class _Known(dict[bytes, RequestFields]):
    """From what stands behind a request's target to what it says. Raises ClientError and FieldError."""

    __slots__ = ()

    def __missing__(self, text: bytes) -> RequestFields:
        version_text, *lines = text.split(b"\r\n")
        version = _version(version_text)
        fields = [REQUEST_FIELDS[line] for line in lines]
        read = _judge(version, fields)
        if len(text) <= MAX_REMEMBERED_BYTES and not any(map(is_secret, fields)):
            if len(self) >= MAX_REMEMBERED:
                self.clear()
            self[text] = read
        return read


KNOWN_REQUESTS = _Known()


class _Hosts(dict[bytes, bytes]):
    """From a Host to how it is written on: without https' own port (RFC 9110 4.2.3). Raises ClientError."""

    __slots__ = ()

    def __missing__(self, host: bytes) -> bytes:
        match = _AUTHORITY.fullmatch(host)
        if match is None or int(match[2] or 0) > 65_535 or not _is_host(match[1]):
            raise ClientError(400, "Host is not a host name with an optional port")
        written: bytes = match[1] if not match[2] or match[2] == b"443" else host
        if len(host) <= MAX_REMEMBERED_BYTES:
            if len(self) >= MAX_REMEMBERED:
                self.clear()
            self[host] = written
        return written


_hosts = _Hosts()


def _is_host(host: bytes) -> bool:
    """An address in brackets is one (RFC 3986 3.2.2), and no label of a name is empty: some map names to folders."""
    if not host.startswith(b"["):
        return b".." not in host and host != b"."
    try:
        ipaddress.IPv6Address(host[1:-1].decode("ascii"))
    except ValueError:
        return False
    return True


def _version(text: bytes) -> str:
    if text == b"HTTP/1.1":
        return "1.1"
    if text == b"HTTP/1.0":
        return "1.0"
    if _VERSION.fullmatch(text) is None:
        raise ClientError(400, "not a valid HTTP/1.1 request")
    raise ClientError(505, f"{text.decode('ascii')} is not spoken here")


def _judge(version: str, fields: list[Field]) -> RequestFields:
    host: bytes | None = None
    framing, length = NONE, -1
    options: set[bytes] = set()
    passed: list[Field] = []
    for field in fields:
        kind = field.kind
        if kind == PASS:
            passed.append(field)
        elif kind == HOST:
            if host is not None:
                raise ClientError(400, "more than one Host")
            host = field.value
        elif kind == CONNECTION:
            options |= tokens(field.value)
        elif kind == LENGTH_FIELD:
            if length >= 0:
                raise ClientError(400, "more than one Content-Length")
            length = length_of(field.value)
        elif kind == CODING:
            _require_chunked(field.value, version, is_second=framing is CHUNKED)
            framing = CHUNKED
    if host is None and version == "1.1":  # RFC 9112 3.2
        raise ClientError(400, "Host is missing")
    if framing is CHUNKED and length >= 0:  # RFC 9112 6.3, item 3: someone may be trying to smuggle a request
        raise ClientError(400, "both Content-Length and Transfer-Encoding")
    is_1_1 = version == "1.1"
    more, upgrade = _special_lines(fields, options, is_1_1=is_1_1, has_body=framing is CHUNKED or length > 0)
    if framing is CHUNKED:
        more.append(b"Transfer-Encoding: chunked\r\n")
    elif length >= 0:
        framing = LENGTH
        more.append(b"Content-Length: %d\r\n" % length)
    keep_alive = b"close" not in options and (is_1_1 or b"keep-alive" in options)
    return RequestFields(
        version,
        host,
        b"".join([field.line for field in without_named(passed, options)] + more),
        tuple(field for field in fields if field.kind == FORWARDED),
        framing,
        max(length, 0),
        keep_alive,
        upgrade,
    )


def _require_chunked(value: bytes, version: str, *, is_second: bool) -> None:
    if version != "1.1":  # RFC 9112 6.1: its framing is to be taken as faulty
        raise ClientError(400, "Transfer-Encoding in HTTP/1.0")
    codings = [coding.strip(b" \t") for coding in value.lower().split(b",")]
    if is_second or codings[-1] != b"chunked" or codings.count(b"chunked") > 1:  # RFC 9112 6.3, item 4
        raise ClientError(400, "chunked must be the last transfer coding, and once")
    if len(codings) > 1:  # RFC 9112 6.1
        raise ClientError(501, "the only transfer coding known is chunked")


def _special_lines(
    fields: list[Field], options: set[bytes], *, is_1_1: bool, has_body: bool
) -> tuple[list[bytes], bool]:
    """What is written of the fields that mean something between two hops; and whether Upgrade is among it."""
    lines: list[bytes] = []
    seen: set[bytes] = set()
    protocols: list[bytes] = []
    ours: list[bytes] = []
    for field in fields:
        kind, name = field.kind, field.name
        if kind in {PASS, DROP, HOST}:
            continue
        if kind == ONCE:
            if name in seen:
                raise ClientError(400, f"more than one {name.decode('ascii')}")
            lines.append(field.line)
        elif kind == EXPECT:
            if tokens(field.value) != {b"100-continue"}:  # RFC 9110 10.1.1
                raise ClientError(417, "the only expectation known is 100-continue")
            if is_1_1 and name not in seen:  # in HTTP/1.0 it means nothing
                lines.append(b"Expect: 100-continue\r\n")
        elif kind == TE:
            if is_1_1 and b"TE" not in ours and b"trailers" in tokens(field.value):
                ours.append(b"TE")
                lines.append(b"TE: trailers\r\n")
        elif kind == UPGRADE:
            protocols.append(field.value)
        elif kind == TRAILER and has_body:
            lines.append(field.line)
        seen.add(name)
    offered = b", ".join(protocols)
    # With a body it would have to wait for the body's end (RFC 9110 7.8), and may be ignored: so it is.
    upgrade = is_1_1 and not has_body and b"upgrade" in options and bool(offered)
    if upgrade and _NOT_RELAYED.isdisjoint(token.partition(b"/")[0] for token in tokens(offered)):
        ours.append(b"Upgrade")
        lines.append(b"Upgrade: %b\r\n" % offered)
    else:
        upgrade = False
    if ours:
        lines.append(b"Connection: %b\r\n" % b", ".join(ours))
    return lines, upgrade


def request_to_upstream(head: RequestHead, client: Client) -> bytes:
    """The head for the backend, in HTTP/1.1; the body follows as `head.fields` say. Raises ClientError."""
    method, target, fields = head.method, head.target, head.fields
    host = _hosts[client.default_host if fields.host is None else fields.host]
    lines = fields.lines
    if target[0] != _SLASH or method in _OTHER_METHODS or b"#" in target:
        target, authority = _split_target(method, target)
        if authority is not None:
            host = _hosts[authority]
        if method in _LIMITED:
            lines = _one_forward_less(method, fields)
    if client.hosts is not None and not client.hosts.lookup(_name_in(host)):
        raise ClientError(421, "this host is not served on a connection that was made for another")
    if client.is_usual:
        told = b"%bX-Forwarded-Host: %b\r\n" % (client.lines, host)
    else:
        forwarded: Sequence[Field] = fields.forwarded if client.is_trusted else ()
        if client.rewriting is not None:
            target = client.rewriting.target(target)
            forwarded, lines = client.rewriting.fields(forwarded, lines)
        told = told_by_proxy(client, host, forwarded)
    via = b"Via: 1.1 stapleproxy" if fields.version == "1.1" else b"Via: 1.0 stapleproxy"
    return b"%b %b HTTP/1.1\r\nHost: %b\r\n%b%b%b\r\n\r\n" % (method, target, host, told, lines, via)


def host_of(head: RequestHead, default_host: bytes) -> bytes:
    """The host that a request asked, which has been passed on."""
    authority = _split_target(head.method, head.target)[1]
    if authority is None:
        authority = default_host if head.fields.host is None else head.fields.host
    return _hosts[authority]


def _one_forward_less(method: bytes, fields: RequestFields) -> bytes:
    """The fields of OPTIONS or TRACE with Max-Forwards counted down (RFC 9110 7.6.2). ClientError at its end."""
    if method == b"TRACE" and (fields.framing is CHUNKED or fields.length):  # RFC 9110 9.3.8
        raise ClientError(400, "TRACE has no body")
    if b"max-forwards" not in fields.lines.lower():
        return fields.lines
    lines = fields.lines.split(b"\r\n")
    places = [at for at, line in enumerate(lines) if line.lower().startswith(b"max-forwards:")]
    if not places:
        return fields.lines
    value = lines[places[0]].partition(b": ")[2]
    if len(places) > 1 or not value.isdigit():
        raise ClientError(400, "Max-Forwards is not a number")
    digits = value.lstrip(b"0")
    left = int(digits or b"0") if len(digits) <= _MAX_FORWARDS_DIGITS else 10**_MAX_FORWARDS_DIGITS
    if not left and method == b"OPTIONS":
        raise ClientError(200, "this is as far as Max-Forwards lets it go")
    if not left:  # not echoed, as Apache would: what came may hold cookies, and scripts could read them (XST)
        raise ClientError(405, "TRACE is not answered here")
    lines[places[0]] = b"Max-Forwards: %d" % (left - 1)
    return b"\r\n".join(lines)


def _name_in(host: bytes) -> str:
    match = _AUTHORITY.fullmatch(host)
    return "" if match is None else match[1].decode("ascii")


def _split_target(method: bytes, target: bytes) -> tuple[bytes, bytes | None]:
    """The target in origin form, and the authority that an absolute form had (RFC 9112 3.2)."""
    if method == b"CONNECT":
        raise ClientError(501, "CONNECT is not served here")
    if b"#" in target:
        raise ClientError(400, "a request target has no fragment")
    if target[0] == _SLASH or (target == b"*" and method == b"OPTIONS"):
        return target, None
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None:
        raise ClientError(400, "the request target is neither a path nor an http URL")
    authority, rest = absolute.groups()
    if not rest.startswith(b"/"):
        rest = (b"*" if method == b"OPTIONS" else b"/") if not rest else b"/" + rest
    return rest, authority

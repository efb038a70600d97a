"""How RFC 9112 reads the bytes of one connection, without leave: written apart from the proxy, to judge it.

Where the RFC lets a recipient be lenient (a bare LF as a line's end, obs-fold, spaces before the colon, both framings),
this reader is not, since the next one might do otherwise. It gives the requests up to the first fault, and the fault.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from ipaddress import IPv6Address

_REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([\x21-\x7e]+) HTTP/1\.([01])")
_FIELD_LINE = re.compile(
    rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*((?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)[ \t]*"
)
_HOST = re.compile(rb"(?:\[([0-9A-Fa-f:.]+)\]|[A-Za-z0-9._~!$&'()*+,;=-]+)(?::([0-9]{0,5}))?")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:;[\t\x20-\x7e\x80-\xff]*)?")
_ABSOLUTE = re.compile(rb"(?i:https?)://([^/?]*)(.*)", re.DOTALL)


class Fault(Exception):
    """These bytes are no request, or could be read as more than one."""


class More(Exception):
    """So far so good, but it is not whole."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it stands on the wire."""

    method: bytes
    target: bytes
    """In origin form, or an asterisk; what an absolute form says more is in `host`."""
    host: bytes | None
    """In lower case and without https' own port; None: HTTP/1.0 that names none."""
    body: bytes
    version: bytes
    fields: tuple[tuple[bytes, bytes], ...]
    """Names in lower case."""
    trailers: tuple[tuple[bytes, bytes], ...]
    raw: bytes
    """As it came, from its request line on."""
    is_rewritten: bool
    """Written as a proxy should write to its backend: in origin form, with nothing before it."""

    @property
    def is_last(self) -> bool:
        """Nothing behind it on the connection is a request (RFC 9112 9.3)."""
        options = {each.strip().lower() for value in self.all(b"connection") for each in value.split(b",")}
        return b"close" in options or (self.version == b"1.0" and b"keep-alive" not in options)

    def all(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.fields if key == name]


@dataclass(slots=True)
class Reading:
    """What came on one connection; fed as it comes."""

    requests: list[Request] = field(default_factory=list)
    fault: str = ""
    left: bytes = b""
    """Of a request that is not whole, or after a fault."""
    awaits_continue: bool = False
    """The head of a request has come, and its client waits for leave to send the body."""

    def feed(self, data: bytes) -> None:
        self.left += data
        self.awaits_continue = False
        while self.left and not self.fault:
            try:
                if self.requests and self.requests[-1].is_last:
                    raise Fault("more, after what said it was the last")
                reader = _Reader(self.left)
                request = reader.request()
            except More:
                self.awaits_continue = reader.expects
                return
            except Fault as fault:
                self.fault = str(fault)
                return
            self.requests.append(request)
            self.left = self.left[reader.at :]


def read(data: bytes) -> Reading:
    """Read all of a connection."""
    reading = Reading()
    reading.feed(data)
    return reading


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0
        self.expects = False

    def request(self) -> Request:
        while self.data.startswith(b"\r\n", self.at):  # RFC 9112 2.2
            self.at += 2
        start = self.at
        match = _REQUEST_LINE.fullmatch(self._line())
        if match is None:
            raise Fault("not a request line")
        method, target, minor = match.groups()
        fields = self._fields()

        def all_of(name: bytes) -> list[bytes]:
            return [value for key, value in fields if key == name]

        hosts, lengths, codings = all_of(b"host"), all_of(b"content-length"), all_of(b"transfer-encoding")
        if len(hosts) > 1 or (not hosts and minor == b"1"):
            raise Fault("Host is missing or doubled")  # RFC 9112 3.2
        for host in hosts:
            _check_host(host)
        written, authority = _origin_form(method, target)
        self.expects = b"100-continue" in [value.lower() for value in all_of(b"expect")]
        body, trailers = self._body(lengths, codings, is_1_1=minor == b"1")
        host = authority if authority is not None else (hosts[0] if hosts else None)
        return Request(
            method,
            written,
            None if host is None else host.lower().removesuffix(b":443").removesuffix(b":"),
            body,
            b"1." + minor,
            fields,
            trailers,
            self.data[start : self.at],
            is_rewritten=start == 0 and written == target and minor == b"1",
        )

    def _line(self) -> bytes:
        end = self.data.find(b"\n", self.at)
        if end < 0:
            rest = self.data[self.at :]
            if b"\r" in rest[:-1]:
                raise Fault("a bare CR")
            raise More
        line, self.at = self.data[self.at : end + 1], end + 1
        if not line.endswith(b"\r\n"):
            raise Fault("a bare LF")
        if b"\r" in line[:-2]:
            raise Fault("a bare CR")
        return line[:-2]

    def _fields(self) -> tuple[tuple[bytes, bytes], ...]:
        fields = []
        while line := self._line():
            match = _FIELD_LINE.fullmatch(line)
            if match is None:
                raise Fault("not a field line")
            fields.append((match[1].lower(), match[2]))
        return tuple(fields)

    def _body(
        self, lengths: list[bytes], codings: list[bytes], *, is_1_1: bool
    ) -> tuple[bytes, tuple[tuple[bytes, bytes], ...]]:
        if codings:
            if lengths or len(codings) > 1 or not is_1_1 or codings[0].lower() != b"chunked":
                raise Fault("two framings, or one that is not known")  # RFC 9112 6.1, 6.3
            return self._chunks()
        if not lengths:
            return b"", ()
        if len(lengths) > 1 or not re.fullmatch(rb"[0-9]{1,18}", lengths[0]):
            raise Fault("Content-Length is doubled, or no number")  # RFC 9112 6.3
        return self._exactly(int(lengths[0])), ()

    def _chunks(self) -> tuple[bytes, tuple[tuple[bytes, bytes], ...]]:
        pieces = []
        while True:
            match = _CHUNK_SIZE.fullmatch(self._line())
            if match is None:
                raise Fault("a chunk's size is no number")
            size = int(match[1], 16)
            if not size:
                return b"".join(pieces), self._fields()
            pieces.append(self._exactly(size))
            end = self.data[self.at : self.at + 2]
            if end != b"\r\n"[: len(end)]:
                raise Fault("a chunk is longer than it says")
            if len(end) < 2:
                raise More
            self.at += 2

    def _exactly(self, count: int) -> bytes:
        if len(self.data) - self.at < count:
            raise More
        self.at += count
        return self.data[self.at - count : self.at]


def _origin_form(method: bytes, target: bytes) -> tuple[bytes, bytes | None]:
    """RFC 9112 3.2."""
    if b"#" in target or method == b"CONNECT":
        raise Fault("a fragment, or CONNECT")
    if target.startswith(b"/") or (target == b"*" and method == b"OPTIONS"):
        return target, None
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None:
        raise Fault("not a request target")
    authority, rest = absolute.groups()
    _check_host(authority)
    if not rest:
        return (b"*" if method == b"OPTIONS" else b"/"), authority
    return rest if rest.startswith(b"/") else b"/" + rest, authority


def _check_host(host: bytes) -> None:
    match = _HOST.fullmatch(host)
    if match is None or int(match[2] or 0) > 65_535:
        raise Fault("Host is no host")
    if host.startswith(b"["):
        try:
            IPv6Address(match[1].decode("ascii"))
        except ValueError:
            raise Fault("Host has no address in its brackets") from None

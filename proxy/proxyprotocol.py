"""The PROXY protocol, versions 1 and 2: how a load balancer tells the next one who the client is. Pure functions.

The specification is HAProxy's doc/proxy-protocol.txt; the sections named below are its own. A header stands once,
before all else, and is as good as who sends it: it is read from addresses that are trusted, and from nobody else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_V1_BYTES = 107
"""Section 2.1: the longest line that there can be, with its CR LF."""
MAX_V2_BYTES = 4_096
"""The length field could say 64 kB; 36 bytes are the addresses of IPv6, the rest is room for TLVs."""

ALPN = 0x01
AUTHORITY = 0x02
SSL = 0x20
SSL_VERSION = 0x21
SSL_CN = 0x22
SSL_CIPHER = 0x23

_CLIENT_SSL, _CLIENT_CERT_CONN, _CLIENT_CERT_SESS = 0x01, 0x02, 0x04

_MAX_NAME_BYTES = 255
_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_V1 = b"PROXY "
_FIXED_BYTES = 16
_LOCAL, _PROXY = 0x20, 0x21
_TCP4, _TCP6 = 0x11, 0x21
_ADDRESS_BYTES = {0x0: 0, 0x1: 12, 0x2: 36, 0x3: 216}
"""By family: unspecified, IPv4, IPv6, Unix. Each with two ports, but for the last."""

_ADDRESS, _PORT = rb" ([0-9a-fA-F.:]+)", rb" (0|[1-9][0-9]{0,4})"
_LINE = re.compile(rb"PROXY (?:UNKNOWN(?: [^\r\n]*)?|(TCP4|TCP6)" + _ADDRESS * 2 + _PORT * 2 + rb")\r\n")


class ProxyHeaderError(ValueError):
    """What was sent is no PROXY header; the text says why."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One end of a TCP connection: the text of an IP address, and a port."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Header:
    """A header that was read."""

    size: int
    """How many bytes it takes; what follows is the client's own."""
    source: Endpoint | None
    """The client; None: the sender speaks for itself (a health check), or does not know."""
    destination: Endpoint | None
    tlvs: tuple[tuple[int, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class Tls:
    """What version 2 tells of the client's TLS; empty: nothing to tell."""

    version: str
    cipher: str
    server_name: str = ""
    alpn: bytes = b""
    is_client_verified: bool = False
    """It has shown a certificate that was verified, in this connection."""
    client_name: str = ""
    """The common name in that certificate."""


def read(data: bytes) -> Header | None:
    """Read what a trusted sender has sent so far; None: it is not whole yet. Raises ProxyHeaderError."""
    if data.startswith(_V1):
        return _read_v1(data)
    if data.startswith(_SIGNATURE):
        return _read_v2(data)
    if _V1.startswith(data) or _SIGNATURE.startswith(data):
        return None
    raise ProxyHeaderError("it does not begin with a PROXY header")


def _read_v1(data: bytes) -> Header | None:
    end = data.find(b"\n", 0, MAX_V1_BYTES)
    if end < 0:
        if len(data) >= MAX_V1_BYTES:
            raise ProxyHeaderError(f"its PROXY line is longer than {MAX_V1_BYTES} bytes")
        return None
    found = _LINE.fullmatch(data[: end + 1])
    if found is None:
        raise ProxyHeaderError("its PROXY line is malformed")
    family, source, destination, source_port, destination_port = found.groups()
    if family is None:
        return Header(end + 1, None, None)
    kind = IPv4Address if family == b"TCP4" else IPv6Address
    try:
        hosts = [str(kind(text.decode("ascii"))) for text in (source, destination)]
    except AddressValueError:
        raise ProxyHeaderError("its PROXY line has an address that is none") from None
    ports = [int(source_port), int(destination_port)]
    if max(ports) > 65_535:
        raise ProxyHeaderError("its PROXY line has a port that is none")
    client, own = map(Endpoint, hosts, ports)
    return Header(end + 1, client, own)


def _read_v2(data: bytes) -> Header | None:
    # Judged as soon as it is there: a wrong length must not be waited for.
    if len(data) < _FIXED_BYTES:
        return None
    command, family = data[12], data[13]
    size = _FIXED_BYTES + int.from_bytes(data[14:16])
    if command not in {_LOCAL, _PROXY}:
        raise ProxyHeaderError("its PROXY header has an unknown version or command")
    if size > MAX_V2_BYTES:
        raise ProxyHeaderError(f"its PROXY header is longer than {MAX_V2_BYTES} bytes")
    if len(data) < size:
        return None
    if command == _LOCAL:  # section 2.2: the rest is to be skipped
        return Header(size, None, None)
    body = data[_FIXED_BYTES:size]
    address_bytes = _ADDRESS_BYTES.get(family >> 4)
    if address_bytes is None or family & 0xF > 2 or len(body) < address_bytes:
        raise ProxyHeaderError("its PROXY header is malformed")
    tlvs = tuple(_split(body[address_bytes:]))
    if family not in {_TCP4, _TCP6}:  # section 2.2: the connection's own addresses are to be used
        return Header(size, None, None, tlvs)
    width = 4 if family == _TCP4 else 16
    hosts = [str(ip_address(body[at : at + width])) for at in (0, width)]
    ports = [int.from_bytes(body[at : at + 2]) for at in (2 * width, 2 * width + 2)]
    client, own = map(Endpoint, hosts, ports)
    return Header(size, client, own, tlvs)


def _split(data: bytes) -> Iterable[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        end = at + 3 + int.from_bytes(data[at + 1 : at + 3])
        if at + 3 > len(data) or end > len(data):
            raise ProxyHeaderError("its PROXY header has a field that is cut off")
        yield data[at], data[at + 3 : end]
        at = end


def v1(source: Endpoint, destination: Endpoint) -> bytes:
    """Write the line of version 1."""
    hosts = [ip_address(each.host.partition("%")[0]) for each in (source, destination)]
    if hosts[0].version != hosts[1].version:  # no such connection exists; a header that says so would be refused
        return b"PROXY UNKNOWN\r\n"
    line = f"PROXY TCP{hosts[0].version} {hosts[0]} {hosts[1]} {source.port} {destination.port}\r\n"
    return line.encode("ascii")


def v2(source: Endpoint, destination: Endpoint, tls: Tls | None = None) -> bytes:
    """Write a header of version 2, with what there is to tell of the client's TLS."""
    hosts = [ip_address(each.host.partition("%")[0]) for each in (source, destination)]
    family, addresses = 0, b""
    if hosts[0].version == hosts[1].version:
        family = _TCP4 if hosts[0].version == 4 else _TCP6
        addresses = hosts[0].packed + hosts[1].packed + source.port.to_bytes(2) + destination.port.to_bytes(2)
    body = addresses + (_tls_fields(tls) if tls else b"")
    return b"%b%c%c%b%b" % (_SIGNATURE, _PROXY, family, len(body).to_bytes(2), body)


def _tls_fields(tls: Tls) -> bytes:
    fields = _field(ALPN, tls.alpn) if tls.alpn else b""
    if tls.server_name:
        fields += _field(AUTHORITY, tls.server_name.encode())
    flags, verify = _CLIENT_SSL, 1  # section 2.2.5: 0 only with a certificate that was verified
    if tls.is_client_verified:
        flags, verify = _CLIENT_SSL | _CLIENT_CERT_CONN | _CLIENT_CERT_SESS, 0
    details = _field(SSL_VERSION, tls.version.encode("ascii")) + _field(SSL_CIPHER, tls.cipher.encode("ascii"))
    name = tls.client_name.encode()
    if 0 < len(name) <= _MAX_NAME_BYTES:  # a part of a name would be another's
        details += _field(SSL_CN, name)
    return fields + _field(SSL, bytes([flags]) + verify.to_bytes(4) + details)


def _field(kind: int, value: bytes) -> bytes:
    return b"%c%b%b" % (kind, len(value).to_bytes(2), value)

"""PROXY headers: each whole, byte by byte, and with the client's bytes after it."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import proxyprotocol as pp
from proxy.proxyprotocol import Endpoint, Header, ProxyHeaderError, Tls, read

V4 = (Endpoint("192.0.2.1", 56324), Endpoint("198.51.100.7", 443))
V6 = (Endpoint("2001:db8::1", 56324), Endpoint("2001:db8::2", 443))
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def v2(command: int, family: int, body: bytes = b"", size: int | None = None) -> bytes:
    return SIGNATURE + bytes([command, family]) + (len(body) if size is None else size).to_bytes(2) + body


GOOD = {
    b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n": V4,
    b"PROXY TCP6 2001:db8::1 2001:db8::2 56324 443\r\n": V6,
    b"PROXY UNKNOWN\r\n": (None, None),
    b"PROXY UNKNOWN ffff::ffff ffff::ffff 65535 65535\r\n": (None, None),
    v2(0x21, 0x11, bytes([192, 0, 2, 1, 198, 51, 100, 7]) + (56324).to_bytes(2) + (443).to_bytes(2)): V4,
    pp.v2(*V6): V6,
    v2(0x20, 0x00): (None, None),
    v2(0x20, 0x11, b"whatever stands here is to be skipped"): (None, None),
    v2(0x21, 0x00): (None, None),
    v2(0x21, 0x12, bytes(12)): (None, None),  # UDP
    v2(0x21, 0x31, bytes(216)): (None, None),  # a Unix socket
}

BAD = [
    b"\x16\x03\x01\x02\x00",
    b"GET / HTTP/1.1\r\n\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.7 56324\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\n",
    b"PROXY TCP4  192.0.2.1 198.51.100.7 56324 443\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 443 \r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.7 056 443\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.7 65536 443\r\n",
    b"PROXY TCP4 192.0.2.256 198.51.100.7 56324 443\r\n",
    b"PROXY TCP4 2001:db8::1 2001:db8::2 56324 443\r\n",
    b"PROXY TCP6 192.0.2.1 198.51.100.7 56324 443\r\n",
    b"PROXY TCP5 192.0.2.1 198.51.100.7 56324 443\r\n",
    b"PROXY UNKNOWNS\r\n",
    b"PROXY " + b"U" * 101,
    b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n",
    v2(0x22, 0x11, bytes(12)),
    v2(0x11, 0x11, bytes(12)),
    v2(0x21, 0x11, bytes(11)),
    v2(0x21, 0x21, bytes(35)),
    v2(0x21, 0x41, bytes(40)),
    v2(0x21, 0x13, bytes(12)),
    v2(0x21, 0x11, size=4081),
    v2(0x21, 0x11, bytes(12) + b"\x01"),
    v2(0x21, 0x11, bytes(12) + b"\x01\x00\x05http"),
]


@pytest.mark.parametrize("data", GOOD)
@pytest.mark.parametrize("after", [b"", b"\x16\x03\x01"], ids=["alone", "followed"])
def test_a_header_is_read_as_soon_as_it_is_whole(data, after):
    """Not a byte sooner, and what follows is not part of it."""
    for end in range(len(data)):
        assert read(data[:end]) is None, end
    header = read(data + after)
    assert (header.size, header.source, header.destination) == (len(data), *GOOD[data])


@pytest.mark.parametrize("data", BAD)
def test_anything_else_is_refused_and_never_waited_for(data):
    with pytest.raises(ProxyHeaderError):
        read(data)


@pytest.mark.parametrize("data", [*GOOD, *BAD])
def test_no_more_is_waited_for_than_the_longest_header(data):
    """However it goes on: with so much there is an answer."""
    padded = data + b"A" * pp.MAX_V2_BYTES
    with contextlib.suppress(ProxyHeaderError):
        assert isinstance(read(padded), Header)


def test_the_longest_line_is_read():
    """107 bytes, as section 2.1 has it: two full IPv6 addresses and five-digit ports, after UNKNOWN."""
    longest = (
        b"PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n"
    )
    assert len(longest) == pp.MAX_V1_BYTES
    assert read(longest).size == pp.MAX_V1_BYTES


addresses = st.ip_addresses(v=4) | st.ip_addresses(v=6)
ports = st.integers(0, 65_535)


@given(addresses, addresses, ports, ports)
def test_what_is_written_is_what_is_read(source, destination, source_port, destination_port):
    """In both versions; two families in one connection cannot be, so nothing is told then."""
    ends = Endpoint(str(source), source_port), Endpoint(str(destination), destination_port)
    expected = ends if source.version == destination.version else (None, None)
    for data in (pp.v1(*ends), pp.v2(*ends)):
        header = read(data)
        assert (header.size, header.source, header.destination) == (len(data), *expected)


def test_a_scope_is_no_part_of_an_address():
    """It means something on this machine only."""
    ends = Endpoint("fe80::1%eth0", 1), Endpoint("fe80::2%eth0", 2)
    assert read(pp.v1(*ends)).source == read(pp.v2(*ends)).source == Endpoint("fe80::1", 1)


def test_version_2_tells_of_tls():
    """Section 2.2.1 to 2.2.5: the fields, and inside the SSL field its own."""
    tls = Tls("TLSv1.3", "TLS_AES_128_GCM_SHA256", "www.test", b"h2")
    fields = dict(read(pp.v2(*V4, tls)).tlvs)
    assert fields.pop(pp.SSL) == b"\x01\0\0\0\x01\x21\0\x07TLSv1.3\x23\0\x16TLS_AES_128_GCM_SHA256"
    assert fields == {pp.ALPN: b"h2", pp.AUTHORITY: b"www.test"}


def test_version_2_tells_of_a_verified_client():
    """The three flags, 0 for 'verified', and its common name in UTF-8."""
    tls = Tls("TLSv1.2", "C", is_client_verified=True, client_name="Zoë")
    fields = dict(read(pp.v2(*V6, tls)).tlvs)
    assert fields == {pp.SSL: b"\x07\0\0\0\0\x21\0\x07TLSv1.2\x23\0\x01C\x22\0\x04Zo\xc3\xab"}


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(data):
    for beginning in (b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE, SIGNATURE + b"\x21\x11"):
        with contextlib.suppress(ProxyHeaderError):
            read(beginning + data)

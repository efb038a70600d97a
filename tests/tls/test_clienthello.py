"""The server name is read as OpenSSL would, from whatever pieces and records the ClientHello comes in."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import SSL

from proxy.tls.clienthello import MAX_BYTES, Hello, read


def hello(name: str | None, version=SSL.TLS1_3_VERSION) -> bytes:
    """What OpenSSL's client sends first."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_max_proto_version(version)
    client = SSL.Connection(context)
    if name is not None:
        client.set_tlsext_host_name(name.encode())
    client.set_connect_state()
    with contextlib.suppress(SSL.WantReadError):
        client.do_handshake()
    return client.bio_read(MAX_BYTES)


def in_records(data: bytes, size: int) -> bytes:
    """The same handshake message, in records of at most `size` bytes."""
    message = data[5:]
    pieces = [message[at : at + size] for at in range(0, len(message), size)]
    return b"".join(b"\x16\x03\x01" + len(piece).to_bytes(2) + piece for piece in pieces)


@pytest.mark.parametrize("version", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])
@pytest.mark.parametrize("name", ["localhost", "a.example.test", "x" * 63 + ".test", None])
def test_the_name_that_the_client_sent(name, version):
    """Whole, byte by byte (nothing is said before all is there), and with more behind."""
    data = hello(name, version)
    assert read(data) == Hello(name)
    assert read(data + b"\x17\x03\x03\x00\x01x") == Hello(name)
    assert all(end < read(data[:end]) <= len(data) for end in range(len(data)))


@pytest.mark.parametrize("size", [40, 100, 511])
def test_a_message_may_be_spread_over_records(size):
    """RFC 8446 5.1 allows it, and some clients do it on purpose."""
    data = in_records(hello("localhost"), size)
    assert read(data) == Hello("localhost")
    assert read(data[:-1]) == len(data)


def test_the_header_of_the_message_may_be_cut_too():
    """Its four bytes over four records, the rest in one."""
    data = hello("localhost")[5:]
    pieces = [data[:1], data[1:2], data[2:3], data[3:4], data[4:]]
    assert read(b"".join(b"\x16\x03\x01" + len(piece).to_bytes(2) + piece for piece in pieces)) == Hello("localhost")


def test_a_message_in_crumbs_is_left_to_openssl():
    """Whoever sends a byte a record wants work done; such a client gets the default site."""
    assert read(in_records(hello("localhost"), 1)) == Hello(None)


@pytest.mark.parametrize("size", [1, 40, 100])
def test_a_drip_is_not_read_again_at_each_drop(size):
    """A byte at a time, in the smallest records there are: looked at a few dozen times, not thousands."""
    data = in_records(hello("localhost"), size)
    needed, reads = 0, 0
    for end in range(1, len(data) + 1):
        if end >= needed:
            needed = read(data[:end])
            reads += 1
            if not isinstance(needed, int):
                break
    assert isinstance(needed, Hello)
    assert reads < 120


@pytest.mark.parametrize(
    "data",
    [b"GET / HTTP/1.1\r\n\r\n", b"\x15\x03\x01\x00\x02\x02\x28", b"\x16\x03\x01\0\4\2\0\0\0", b"\x80\x2e\x01"],
)
def test_what_is_no_client_hello_is_left_to_openssl(data):
    """It knows the right alert."""
    assert read(data) == Hello(None)


def test_nobody_is_waited_for_without_end():
    """A message that claims 16 MB, and records without content."""
    assert read(b"\x16\x03\x01\xff\xff" + b"\x01\xff\xff\xff" + bytes(MAX_BYTES)) == Hello(None)
    assert read(b"\x16\x03\x01\x00\x00") == Hello(None)


@given(st.data())
def test_a_damaged_client_hello_is_no_trouble(data):
    """Any byte changed, anything cut out: a name, none, or a wait; never an exception."""
    whole = bytearray(hello("localhost"))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(whole) - 1))
        whole[at] = data.draw(st.integers(0, 255))
    result = read(bytes(whole[: data.draw(st.integers(0, len(whole)))]))
    assert isinstance(result, int | Hello)

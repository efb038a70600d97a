"""The server name is read as OpenSSL would, from whatever pieces and records the ClientHello comes in."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import SSL

from proxy.tls.clienthello import MAX_BYTES, Hello, read, status_extensions


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


def hello_with_status(request: bytes, *, begins_with: bytes = b"") -> bytes:
    """A ClientHello whose status_request holds this; other extensions before and behind it."""
    extensions = (
        begins_with + b"\x00\x17\x00\x00" + b"\x00\x05" + len(request).to_bytes(2) + request + b"\xff\x01\x00\x01\x00"
    )
    body = (
        b"\x03\x03" + bytes(32) + b"\x00" + b"\x00\x02\x13\x01" + b"\x01\x00" + len(extensions).to_bytes(2) + extensions
    )
    message = b"\x01" + len(body).to_bytes(3) + body
    return b"\x16\x03\x01" + len(message).to_bytes(2) + message


NONCE = bytes.fromhex("3011300f06092b0601050507300102040204 00".replace(" ", ""))


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (b"\x01" + b"\x00\x00" + len(NONCE).to_bytes(2) + NONCE, NONCE),
        (b"\x01" + b"\x00\x03abc" + len(NONCE).to_bytes(2) + NONCE, NONCE),
        (b"\x01\x00\x00\x00\x00", b""),
        (b"\x02\x00\x00" + len(NONCE).to_bytes(2) + NONCE, b""),
        (b"\x01", b""),
        (b"", b""),
    ],
    ids=["with a nonce", "with responder ids", "without", "another type", "cut short", "empty"],
)
def test_the_extensions_for_the_responder(request_, expected):
    """RFC 6066 8: behind the type and the list of responders; in one record or many, with a second message behind."""
    data = hello_with_status(request_)
    assert status_extensions(data) == expected
    assert status_extensions(in_records(data, 7)) == expected
    assert status_extensions(data + data) == expected


def test_no_status_request_and_no_hello_have_none():
    """Nothing raises."""
    assert status_extensions(hello("localhost")) == b""
    assert status_extensions(b"") == b""
    assert status_extensions(b"GET / HTTP/1.1\r\n\r\n") == b""


@given(st.binary(max_size=200))
def test_extensions_of_anything(data):
    """Whatever comes, it is bytes and no error."""
    assert isinstance(status_extensions(b"\x16\x03\x01" + len(data).to_bytes(2) + b"\x01" + data), bytes)

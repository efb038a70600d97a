"""The beginning of a connection: whole, byte by byte, and with more behind it."""

from __future__ import annotations

import ssl

import pytest

from proxy.names import NameTable
from proxy.proxyprotocol import Endpoint, v1, v2
from proxy.tls.opening import Opening, Refused

ENDS = Endpoint("192.0.2.7", 4711), Endpoint("198.51.100.1", 443)
HTTP = b"HTTP/1.1 400 no"


def client_hello(name: str = "one.test") -> bytes:
    outgoing = ssl.MemoryBIO()
    context = ssl.create_default_context()
    tls = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


HELLO = client_hello()
# The contexts are only handed through: any objects will do.
NAMES = NameTable([(("one.test",), "one"), (("two.test",), "two")], "one")
ONE = NameTable([(("one.test",), "one")], "one")
STRICT = NameTable([(("one.test",), "one")], None)


def feed(data: bytes, contexts=NAMES, *, step: int = 1 << 20, header: bool = False, http: bytes = HTTP):
    """What comes of it, and how many bytes it took."""
    opening = Opening(contexts, http, awaits_proxy_header=header)
    for at in range(0, len(data), step):
        opened = opening.feed(data[at : at + step])
        if opened is not None:
            return opened, at + step
    return None, len(data)


@pytest.mark.parametrize("step", [1, 7, 1 << 20])
@pytest.mark.parametrize("header", [b"", v1(*ENDS), v2(*ENDS)])
def test_the_name_chooses_the_site_and_openssl_gets_what_came(header, step):
    """All of the ClientHello and nothing of the header, which tells who the client is."""
    for name, expected in (("one.test", "one"), ("two.test", "two"), ("other.test", "one")):
        hello = client_hello(name)
        opened, _ = feed(header + hello, step=step, header=bool(header))
        assert (opened.context, opened.data) == (expected, hello)
        assert (opened.header.source if header else opened.header) == (ENDS[0] if header else None)


def test_where_every_name_leads_to_one_site_nothing_is_waited_for():
    opened, _ = feed(HELLO[:1], ONE)
    assert (opened.context, opened.data) == ("one", HELLO[:1])


def test_a_header_alone_is_waited_behind():
    """For the first byte of the ClientHello, and with one site too."""
    assert feed(v2(*ENDS), ONE, header=True)[0] is None


@pytest.mark.parametrize("data", [HELLO, b"GET / HTTP/1.1\r\n", b"PROXY TCP4 \r\n", b"\r\n\r\n\0\r\nQUIT\n\x11"])
def test_without_the_header_that_is_due_there_is_nothing(data):
    """And no answer: who should have sent it does not read one."""
    with pytest.raises(Refused, match="a PROXY header is due") as caught:
        feed(data + bytes(20), header=True)
    assert caught.value.answer == b""


@pytest.mark.parametrize("header", [v1(*ENDS), v2(*ENDS)])
def test_a_header_that_is_not_due_goes_to_openssl(header):
    """Which will find that it is no TLS."""
    opened, _ = feed(header + HELLO)
    assert opened.data == header + HELLO


@pytest.mark.parametrize(
    "method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE", "PRI"]
)
@pytest.mark.parametrize("step", [1, 1 << 20])
def test_http_is_answered_as_soon_as_its_method_is_there(method, step):
    for header in (b"", v1(*ENDS)):
        with pytest.raises(Refused, match="HTTP without TLS") as caught:
            feed(header + method.encode() + b" ", ONE, step=step, header=bool(header))
        assert caught.value.answer == HTTP


@pytest.mark.parametrize("data", [b"GETS", b"get /", b"SSH-2.0", b"\x80\x2e\x01", b"P@", b"\x15\x03\x01"])
def test_what_is_neither_goes_to_openssl(data):
    assert feed(data, ONE)[0].data == data


def test_where_there_is_no_http_its_methods_mean_nothing():
    assert feed(b"GET / HTTP/1.1\r\n", ONE, http=b"")[0].data == b"GET / HTTP/1.1\r\n"


def test_an_unknown_name_may_be_refused():
    """With RFC 6066's own alert."""
    for hello in (client_hello("other.test"), client_hello("192.0.2.1")):
        with pytest.raises(Refused, match="unknown name") as caught:
            feed(hello, STRICT)
        assert caught.value.answer == b"\x15\x03\x03\x00\x02\x02\x70"

"""The URI of a responder as Apache reads it, and the bytes that go there. Each row was seen with Apache itself."""

from __future__ import annotations

import pytest
from cryptography.x509 import ocsp
from ocsp.pki import CA, LEAF, nonce, seq

from proxy.ocsp.httpd_check import CertId
from proxy.ocsp.httpd_request import Target, UnusableUriError, http_request, ocsp_request, target
from proxy.ocsp.request import build_request

ID = CertId.of(LEAF.cert, CA.cert)

# URI, host, port, path
USABLE = [
    ("http://127.0.0.1:8080", "127.0.0.1", 8080, "/"),
    ("http://ocsp.test", "ocsp.test", 80, "/"),
    ("http://user:pw@ocsp.test:8080/a/b?c=d#e", "ocsp.test", 8080, "/a/b?c=d"),
    ("http://user@ocsp.test:8080/@x", "ocsp.test", 8080, "/@x"),
    ("http://ocsp.test?q", "ocsp.test", 80, "/?q"),
    ("http://ocsp.test#f", "ocsp.test", 80, "/"),
    ("http://ocsp.test/a?b?c#d#e", "ocsp.test", 80, "/a?b?c"),
    ("http://ocsp.test/a#b?c", "ocsp.test", 80, "/a"),
    ("http://LocalHost/a%20b", "LocalHost", 80, "/a%20b"),
    ("http://[::1]:81/", "::1", 81, "/"),
    ("http://[::1]", "::1", 80, "/"),
    ("http://127.0.0.1:/", "127.0.0.1", 80, "/"),
    ("http://127.0.0.1:0/", "127.0.0.1", 80, "/"),
    ("http://127.0.0.1:99999/", "127.0.0.1", 34463, "/"),
    ("http://127.0.0.1:0080/x", "127.0.0.1", 80, "/x"),
    ("http://127.0.0.1:+81/", "127.0.0.1", 81, "/"),
    ("http://", "", 80, "/"),
    ("http:///x", "", 80, "/x"),
    ("http:foo", None, 80, "foo"),
    ("http://a b/", "a b", 80, "/"),
]


@pytest.mark.parametrize(("uri", "host", "port", "path"), USABLE)
def test_a_uri_that_is_asked(uri, host, port, path):
    """With whatever apr_uri_parse lets through."""
    found = target(uri)
    assert (found.host, found.port, found.path) == (host, port, path)


UNUSABLE = [
    (None, 2621),
    ("https://ocsp.test/", 1940),
    ("HTTP://ocsp.test/", 1940),
    ("ldap://ocsp.test/x", 1940),
    ("foo", 1940),  # Apache dies of these three
    ("http//x", 1940),
    ("//ocsp.test/", 1940),
    ("", 1940),
    ("http://x:abc/", 1939),
    ("http://x:80;y/", 1939),
    ("http://x:80x/", 1939),
    ("http://[::1/", 1939),
    ("ht tp://x/", 1939),
    ("1http://x/", 1939),
]


@pytest.mark.parametrize(("uri", "number"), UNUSABLE)
def test_a_uri_that_ends_the_handshake(uri, number):
    """Rows I and J."""
    with pytest.raises(UnusableUriError) as caught:
        target(uri)
    assert caught.value.note[0] == number


def test_the_request_is_for_one_certificate():
    """The same as the one that is sent ahead of handshakes: SHA-1, no extension, no signature."""
    assert ocsp_request(ID, b"") == build_request(LEAF.cert, CA.cert)
    assert ocsp_request(ID, b"\x30\x00") == build_request(LEAF.cert, CA.cert), "an empty list is none"


def test_the_clients_extensions_are_passed_on():
    """Byte for byte: a client's nonce reaches the responder."""
    extensions = seq(nonce(b"n" * 16))
    request = ocsp_request(ID, extensions)
    assert request.endswith(extensions)
    assert len(ocsp.load_der_ocsp_request(request).extensions) == 1


def test_the_bytes_on_the_wire():
    """HTTP/1.0, the port always, and nothing that is not needed; to a proxy with the whole URL."""
    to = Target("ocsp.test", 80, "/p?q", "ocsp.test")
    rest = b"Host: ocsp.test:80\r\nContent-Type: application/ocsp-request\r\nConnection: close\r\n"
    rest += b"Content-Length: 4\r\n\r\nbody"
    assert http_request(to, b"body", by_proxy=False) == b"POST /p?q HTTP/1.0\r\n" + rest
    assert http_request(to, b"body", by_proxy=True) == b"POST http://ocsp.test:80/p?q HTTP/1.0\r\n" + rest

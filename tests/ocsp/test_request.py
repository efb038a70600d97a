"""What a responder is asked, and at which URL."""

from __future__ import annotations

import base64
import hashlib
from urllib.parse import unquote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509 import ocsp
from hypothesis import given
from hypothesis import strategies as st
from ocsp import pki

from proxy.ocsp.request import NONCE_BYTES, build_request, get_url

SHORT = b"\xff\xef\xbe\xfb\xef\xbe"  # base64: /+++ and more of what needs escaping


def test_a_request_is_as_rfc_5019_wants_it():
    """One SHA-1 CertID, no nonce nor any other extension."""
    request = ocsp.load_der_ocsp_request(build_request(pki.LEAF.cert, pki.CA.cert))
    assert isinstance(request.hash_algorithm, hashes.SHA1)
    assert request.serial_number == pki.LEAF.cert.serial_number
    assert list(request.extensions) == []


def test_a_nonce_is_asked_for():
    """RFC 9654 2.1: an OCTET STRING within the extension's own, not critical."""
    nonce = bytes(range(NONCE_BYTES))
    request = ocsp.load_der_ocsp_request(build_request(pki.LEAF.cert, pki.CA.cert, nonce))
    (extension,) = request.extensions
    assert extension.value == x509.OCSPNonce(nonce)
    assert not extension.critical
    assert pki.nonce(nonce) in build_request(pki.LEAF.cert, pki.CA.cert, nonce)


def test_the_issuer_is_named_as_in_the_certificate():
    """RFC 6960 4.1.1: issuerNameHash is over the issuer field of the certificate, however the issuer writes itself."""
    leaf = pki.named_otherwise(pki.LEAF, pki.CA)
    request = ocsp.load_der_ocsp_request(build_request(leaf.cert, pki.CA.cert))
    assert request.issuer_name_hash == hashlib.sha1(leaf.cert.issuer.public_bytes()).digest()  # noqa: S324  a CertID's
    assert request.issuer_name_hash != hashlib.sha1(pki.CA.cert.subject.public_bytes()).digest()  # noqa: S324  likewise


@pytest.mark.parametrize("uri", ["http://ocsp.example", "http://ocsp.example/", "http://ocsp.example//"])
def test_exactly_one_slash(uri):
    """RFC 5019 5: base64, percent-encoded, after one slash."""
    assert get_url(uri, b"\xff\xef\xbe") == "http://ocsp.example/%2F%2B%2B%2B"


def test_a_path_is_kept():
    """The responder's own path stays before the request."""
    assert get_url("http://pki.example/ocsp/", b"ab") == "http://pki.example/ocsp/YWI%3D"


@pytest.mark.parametrize("uri", ["http://ocsp.example/?ca=1", "http://ocsp.example/#x"])
def test_no_get_after_a_query(uri):
    """No path can follow a query: POST."""
    assert get_url(uri, b"ab") is None


def test_at_most_255_bytes():
    """RFC 5019 5: the whole URL has at most 255 bytes, else it is POST."""
    uri = "http://o/"  # 9 bytes, and 246 of base64 without a sign that is escaped
    assert len(get_url(uri, bytes(183)) or "") == 253
    assert len(get_url(uri + "xx", bytes(180)) or "") == 252
    assert get_url(uri + "abc", bytes(183)) is None
    assert len(get_url(uri + "a", bytes(183)) or "") == 255


@given(st.binary(max_size=200))
def test_what_is_asked_can_be_read_back(der):
    """A responder that undoes the encodings has the request again."""
    url = get_url("http://ocsp.example", der)
    if url is not None:
        assert base64.b64decode(unquote(url.removeprefix("http://ocsp.example/"))) == der

"""What a backend is told of a client's certificate: the names that are ours, and a subject that stays on its line."""

from __future__ import annotations

import pytest
from certs import make_chain
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from proxy.clientcerts import common_name, header_lines, is_ours, subject
from proxy.http.fields import DROP, REQUEST_FIELDS


@pytest.mark.parametrize(
    "name", ["X-Client-Cert-Verified", "X-CLIENT-CERT-Subject", "x-client-cert-", "Client-Cert", "client-cert-CHAIN"]
)
def test_headers_that_speak_of_certificates_are_ours_alone(name):
    """A client's are dropped by the one table that all requests go through."""
    assert is_ours(name.lower().encode())
    assert REQUEST_FIELDS[f"{name}: x".encode()].kind == DROP


@pytest.mark.parametrize("name", [b"x-client", b"client-certificate", b"x-client-certs", b"client-cert-x"])
def test_other_names_are_not(name):
    assert not is_ours(name)


def test_without_a_certificate_there_is_one_line():
    assert header_lines(None) == b"X-Client-Cert-Verified: NONE\r\n"


@given(name=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=16))
def test_a_subject_stays_on_its_line(tmp_path_factory, name):
    """Whatever a CA has put into it: printable ASCII, from which RFC 4514's reader gets the name back."""
    leaf = make_chain(tmp_path_factory.mktemp("c"), common_name=name).leaf
    written = subject(leaf)
    assert written.isascii()
    assert written.isprintable()
    assert common_name(leaf) == name
    assert x509.Name.from_rfc4514_string(written) == leaf.subject
    lines = header_lines(leaf).split(b"\r\n")
    assert [line.partition(b":")[0] for line in lines[:-1]] == [
        b"X-Client-Cert-Verified", b"X-Client-Cert-Subject", b"X-Client-Cert-Serial", b"X-Client-Cert-Fingerprint",
        b"X-Client-Cert-Not-After", b"Client-Cert",
    ]  # fmt: skip
    assert lines[-1] == b""

"""The client against OpenSSL's own server: what it must see, and what it must refuse."""

import socket
import time
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from lab.servers import build_response, openssl_server

from proxy.lab.ca import LabCA
from proxy.lab.certnames import is_for_name
from proxy.lab.client import ProbeError, probe
from proxy.lab.signing import Signing

NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def ca():
    return LabCA.create(NOW)


@pytest.fixture(scope="module")
def issued(ca):
    return {kind: ca.issue(["lab.test"], key=kind) for kind in ("rsa", "ec")}


@pytest.fixture(scope="module")
def folder(ca, issued, tmp_path_factory):
    """The certificates, and for the EC one a good and a revoked response."""
    folder = tmp_path_factory.mktemp("ca")
    ca.write(folder)
    leaf = issued["ec"].leaf
    request = ocsp.OCSPRequestBuilder().add_certificate(leaf, ca.intermediate.certificate, hashes.SHA256()).build()
    for name, revoked in (("good", {}), ("revoked", {leaf.serial_number: NOW.replace(microsecond=0)})):
        der = build_response(
            request.public_bytes(Encoding.DER),
            Signing.of(ca, "delegate"),
            NOW,
            validity=timedelta(hours=1),
            revoked=revoked,
        )
        (folder / f"{name}.der").write_bytes(der)
    return folder


def files(folder, kind, prefix=""):
    """Options for s_server; `prefix` d for its second certificate."""
    stem = folder / f"lab.test.{kind}"
    return [f"-{prefix}cert", f"{stem}.pem", f"-{prefix}key", f"{stem}.key", f"-{prefix}cert_chain", f"{stem}.pem"]


@pytest.mark.parametrize("tls", ["1.2", "1.3"])
def test_a_good_staple_is_verified(folder, issued, tls):
    with openssl_server(*files(folder, "ec"), "-status_file", folder / "good.der") as port:
        result = probe("127.0.0.1", port, "lab.test", roots=folder / "root.pem", tls=tls, request_path="/")
    assert result.tls_version == f"TLSv{tls}"
    assert result.leaf == issued["ec"].leaf
    assert result.staple.status == "good"
    assert result.staple.signer == "CN=Lab OCSP Signer"
    assert result.staple_der == (folder / "good.der").read_bytes()
    assert result.http_status == 200
    assert b"s_server" in result.body


def test_a_revoked_staple_is_told_and_not_taken(folder):
    with openssl_server(*files(folder, "ec"), "-status_file", folder / "revoked.der") as port:
        result = probe("127.0.0.1", port, "lab.test", roots=folder / "root.pem")
    assert result.staple is None
    assert result.staple_refusal.startswith("revoked: ")


def test_no_staple_is_no_failure(ca, folder):
    with openssl_server(*files(folder, "ec")) as port:
        result = probe("127.0.0.1", port, "lab.test", roots=[ca.root.certificate])
    assert (result.staple_der, result.staple, result.staple_refusal) == (None, None, "no staple was sent")


@pytest.mark.parametrize("tls", ["1.2", "1.3"])
@pytest.mark.parametrize("kind", ["rsa", "ec"])
def test_the_kind_of_certificate_can_be_chosen(folder, issued, kind, tls):
    with openssl_server(*files(folder, "rsa"), *files(folder, "ec", "d")) as port:
        result = probe("127.0.0.1", port, "lab.test", roots=folder / "root.pem", kind=kind, tls=tls)
    assert result.leaf == issued[kind].leaf


@pytest.mark.parametrize("tls", ["1.2", "1.3"])
def test_a_session_resumes_without_a_staple(folder, tls):
    with openssl_server(*files(folder, "ec"), "-status_file", folder / "good.der") as port:
        ask = {"roots": folder / "root.pem", "tls": tls, "request_path": "/"}
        first = probe("127.0.0.1", port, "lab.test", **ask)
        second = probe("127.0.0.1", port, "lab.test", session=first.session, **ask)
    assert (first.resumed, second.resumed) == (False, True)
    assert (second.staple_der, second.leaf) == (None, first.leaf)


def test_an_unknown_root_is_refused_with_openssls_reason(folder):
    stranger = LabCA.create(NOW).root.certificate
    with (
        openssl_server(*files(folder, "ec")) as port,
        pytest.raises(ProbeError, match="trusted root: unable to get issuer cert locally"),
    ):
        probe("127.0.0.1", port, "lab.test", roots=[stranger])


def test_another_name_is_refused(folder):
    with (
        openssl_server(*files(folder, "ec")) as port,
        pytest.raises(ProbeError, match=r"the certificate is for lab\.test, not for other\.test"),
    ):
        probe("127.0.0.1", port, "other.test", roots=folder / "root.pem")


def test_without_roots_everything_is_shown(folder):
    with openssl_server(*files(folder, "ec")) as port:
        assert probe("127.0.0.1", port, "other.test", roots=None).issuer is not None


def test_a_silent_server_is_left_at_the_deadline():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started_at = time.monotonic()
        with pytest.raises(ProbeError, match=r"the TLS handshake failed \(the time allowed is over\)"):
            probe("127.0.0.1", silent.getsockname()[1], "lab.test", roots=None, timeout_s=0.2)
    assert time.monotonic() - started_at < 5


@pytest.mark.parametrize(
    ("name", "is_for"),
    [
        ("a.test", True),
        ("A.TEST.", True),
        ("www.b.test", True),
        ("b.test", False),
        ("x.www.b.test", False),
        ("127.0.0.1", True),
        ("0:0:0:0:0:0:0:1", True),
        ("127.0.0.2", False),
    ],
)
def test_names_match_as_rfc_6125_says(ca, name, is_for):
    assert is_for_name(ca.issue(["a.test", "*.b.test", "127.0.0.1", "::1"]).leaf, name) is is_for

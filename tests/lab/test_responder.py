"""The lab's responder satisfies ``openssl ocsp``, and counts what it is asked."""

import base64
import json
import signal
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from urllib.parse import quote, urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from lab.servers import build_response, openssl, process_at

from proxy.lab.ca import LabCA
from proxy.lab.signing import Signing

NOW = datetime(2026, 5, 4, 3, 2, 1, 999_999, tzinfo=UTC)


@pytest.fixture(scope="module")
def ca():
    return LabCA.create(datetime.now(UTC))


@pytest.fixture(scope="module")
def folder(ca, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ca")
    ca.issue(["a.test"])
    ca.write(folder)
    return folder


def request_der(ca, *, algorithm=None, issuer=None):
    leaf, issuer = ca.issue(["b.test"]).leaf, issuer or ca.intermediate.certificate
    request = ocsp.OCSPRequestBuilder().add_certificate(leaf, issuer, algorithm or hashes.SHA1())  # noqa: S303 (as clients do)
    return request.build().public_bytes(Encoding.DER)


def answer(ca, der, *, signer="delegate", validity=timedelta(seconds=90), revoked=None):
    made = build_response(der, Signing.of(ca, signer), NOW, validity=validity, revoked=revoked or {})
    return ocsp.load_der_ocsp_response(made)


@pytest.mark.parametrize("algorithm", [hashes.SHA1(), hashes.SHA256()], ids=lambda a: a.name)  # noqa: S303 (as clients do)
def test_it_answers_in_the_hash_it_was_asked_in(ca, algorithm):
    response = answer(ca, request_der(ca, algorithm=algorithm))
    assert response.certificate_status is ocsp.OCSPCertStatus.GOOD
    assert response.hash_algorithm.name == algorithm.name


def test_times_are_whole_seconds(ca):
    response = answer(ca, request_der(ca))
    assert response.this_update_utc == NOW.replace(microsecond=0)
    assert response.next_update_utc == NOW.replace(microsecond=0) + timedelta(seconds=90)


def test_next_update_can_be_left_out(ca):
    assert answer(ca, request_der(ca), validity=None).next_update_utc is None


def test_a_revoked_serial_is_revoked(ca):
    der = request_der(ca)
    serial = ocsp.load_der_ocsp_request(der).serial_number
    response = answer(ca, der, revoked={serial: NOW.replace(microsecond=0)})
    assert response.certificate_status is ocsp.OCSPCertStatus.REVOKED


def test_a_line_of_the_index_marked_r_revokes_from_the_next_answer_on(ca, folder):
    """With the time and the reason that stand there; a line that cannot be read is told in the log."""
    issued = ca.issue(["revoked.test"])
    ca.write(folder)
    request = ocsp.OCSPRequestBuilder().add_certificate(issued.leaf, ca.intermediate.certificate, hashes.SHA256())
    der = request.build().public_bytes(Encoding.DER)
    index = folder / "index.txt"
    text = index.read_text()
    line = next(line for line in text.splitlines() if "\trevoked.test.ec.pem\t" in line)
    with process_at("responder", "--folder", str(folder)) as (url, _):

        def answer_after(edited):
            index.write_text(text.replace(line, edited))
            return ocsp.load_der_ocsp_response(ask(url, "/", method="POST", body=der)[1])

        try:
            assert answer_after(line).certificate_status is ocsp.OCSPCertStatus.GOOD
            full = answer_after(line.replace("V", "R", 1).replace("\t\t", "\t260102030405Z,keyCompromise\t"))
            assert full.certificate_status is ocsp.OCSPCertStatus.REVOKED
            assert full.revocation_time_utc == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
            assert full.revocation_reason is x509.ReasonFlags.key_compromise
            letter_only = answer_after(line.replace("V", "R", 1))
            assert letter_only.certificate_status is ocsp.OCSPCertStatus.REVOKED
            assert letter_only.revocation_time_utc == datetime.fromtimestamp(int(index.stat().st_mtime), UTC)
            assert answer_after("Q" + line).response_status is ocsp.OCSPResponseStatus.INTERNAL_ERROR
        finally:
            index.write_text(text)


def test_only_a_delegate_needs_its_certificate_sent(ca):
    assert answer(ca, request_der(ca)).certificates == [ca.ocsp_signer.certificate]
    assert answer(ca, request_der(ca), signer="issuer").certificates == []


def test_another_issuers_certificate_is_unauthorized(ca):
    """RFC 5019 2.2.3."""
    der = request_der(ca, issuer=ca.root.certificate)
    assert answer(ca, der).response_status is ocsp.OCSPResponseStatus.UNAUTHORIZED


@pytest.mark.parametrize("end", [0, 1, 20, -1])
def test_a_cut_request_is_malformed(ca, end):
    der = request_der(ca)[:end]
    assert answer(ca, der).response_status is ocsp.OCSPResponseStatus.MALFORMED_REQUEST


@pytest.mark.parametrize("signer", ["issuer", "delegate"])
def test_openssl_ocsp_says_good(folder, signer):
    """With its nonce, by POST, the whole path verified up to the root."""
    with process_at("responder", "--folder", str(folder), "--signer", signer) as (url, _):
        result = openssl(
            "ocsp", "-issuer", folder / "intermediate.pem", "-cert", folder / "a.test.ec.pem", "-url", url,
            "-CAfile", folder / "root.pem", "-verify_other", folder / "intermediate.pem",
        )  # fmt: skip
    assert "Response verify OK" in result.stderr
    assert "a.test.ec.pem: good" in result.stdout
    assert "no nonce" not in result.stderr


def ask(url, path, *, method="GET", body=None):
    connection = HTTPConnection(urlsplit(url).netloc, timeout=5)
    try:
        connection.request(method, path, body)
        reply = connection.getresponse()
        return reply, reply.read()
    finally:
        connection.close()


def test_the_process_answers_get_and_counts_by_method_and_serial(ca, folder):
    der = request_der(ca)
    encoded = base64.b64encode(der).decode()
    with process_at("responder", "--folder", str(folder)) as (url, _):
        for path in (quote(encoded, safe=""), encoded):  # some clients leave the slashes of base64 as they are
            reply, body = ask(url, f"/{path}")
            assert reply.getheader("Content-Type") == "application/ocsp-response"
            assert ocsp.load_der_ocsp_response(body).certificate_status is ocsp.OCSPCertStatus.GOOD
        _, body = ask(url, "/no-base64")
        assert ocsp.load_der_ocsp_response(body).response_status is ocsp.OCSPResponseStatus.MALFORMED_REQUEST
        _, counts = ask(url, "/-/requests")
    serial = f"{ocsp.load_der_ocsp_request(der).serial_number:x}"
    assert json.loads(counts) == {
        "total": 3,
        "methods": {"GET": 3},
        "serials": {serial: 2, "unparsable": 1},
        "prefixes": {"no-base64": 1},
    }


def test_a_request_too_long_is_refused(folder):
    with process_at("responder", "--folder", str(folder)) as (url, _):
        reply, _ = ask(url, "/", method="POST", body=b"x" * 10_000)
    assert reply.status == 413


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_cleanly_when_told(folder, number):
    with process_at("responder", "--folder", str(folder)) as (_, process):
        process.send_signal(number)
        assert process.wait(10) == 0


def test_it_ends_when_its_starter_does(folder):
    with process_at("responder", "--folder", str(folder), "--exit-with-stdin") as (_, process):
        process.stdin.close()
        assert process.wait(10) == 0

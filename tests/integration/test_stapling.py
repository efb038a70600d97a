"""Stapling end to end: real responder, real proxy process, real clients. Rows of the behaviours' table are named."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from integration.clients import alert_number, curl, is_not_stapled, is_stapled, s_client, verify_with_openssl
from integration.conftest import free_port
from integration.front import WARNING, run, site, toml, wait_until
from lab.servers import process_at, require_peer
from OpenSSL import SSL

from proxy.lab.client import probe

PRIVATE_EXTENSION = x509.ObjectIdentifier("1.3.6.1.4.1.99999.1")
FAST = {"refresh_min_interval_s": 1, "retry_min_interval_s": 0.2, "retry_max_interval_s": 0.5, "fetch_timeout_s": 2}


def staple_of(port: int, lab, **how):
    return probe("127.0.0.1", port, how.pop("name", "localhost"), roots=lab.root, **how)


@pytest.fixture
def both(lab):
    """A site with an RSA and an ECDSA certificate, and a responder that runs."""
    pairs = [lab.issue("localhost", key="rsa"), lab.issue("localhost", key="ec")]
    with lab.responder():
        yield lab, pairs


TLS = {"1.2": "-tls1_2", "1.3": "-tls1_3"}
SIGALGS = {"rsa": "rsa_pss_rsae_sha256:RSA+SHA256", "ec": "ECDSA+SHA256"}


def test_the_staple_is_good_for_every_kind_of_certificate_and_version(both, backend, tmp_path):
    """'asked: sent'; 'RSA and ECDSA certificates of one name have each its own staple, chosen with the certificate'.

    Three clients judge: s_client shows it, `openssl ocsp` and our own verify it.
    """
    lab, pairs = both
    with run(tmp_path, toml(site(backend, *pairs))) as front:
        seen = set()
        for version, flag in TLS.items():
            for kind, (chain, _) in zip(("rsa", "ec"), pairs, strict=True):
                said = s_client(front.port, "-status", flag, "-sigalgs", SIGALGS[kind], ca=lab.root)
                assert is_stapled(said), said
                assert "Verify return code: 0 (ok)" in said
                result = staple_of(front.port, lab, tls=version, kind=kind)
                assert result.staple is not None, result.staple_refusal
                verdict = verify_with_openssl(
                    result.staple_der, tmp_path, chain, issuer=lab.intermediate, root=lab.root
                )
                assert "Response verify OK" in verdict
                assert f"{chain}: good" in verdict
                seen.add((kind, result.staple_der))
        assert len(seen) == 2, "one response for each certificate, the same in both versions"


def test_curl_accepts_the_staple(both, backend, tmp_path):
    """``curl --cert-status`` verifies the response by itself, and fails without one."""
    lab, pairs = both
    with run(tmp_path, toml(site(backend, *pairs))) as front:
        done = curl("--cert-status", f"https://localhost:{front.port}/", ca=lab.root)
        assert done.returncode == 0, done.stderr
        assert '"method": "GET"' in done.stdout
    with run(tmp_path, toml(site(backend, *pairs), stapling={"enabled": False})) as front:
        done = curl("--cert-status", f"https://localhost:{front.port}/", ca=lab.root)
        assert done.returncode == 91, "curl's word for a missing staple"


@pytest.mark.parametrize("flag", TLS.values())
def test_not_asked_nothing_of_it(both, backend, tmp_path, flag):
    """'not asked: nothing of it'."""
    lab, pairs = both
    with run(tmp_path, toml(site(backend, *pairs))) as front:
        said = s_client(front.port, flag, "-msg", "-tlsextdebug", ca=lab.root)
        assert "status request" not in said
        assert "CertificateStatus" not in said
        assert "Verify return code: 0 (ok)" in said


@pytest.mark.parametrize("flag", TLS.values())
def test_asked_and_none_to_be_had(lab, backend, tmp_path, flag):
    """'the handshake goes on, the extension is not echoed, and no empty status is sent'."""
    pair = lab.issue("localhost")
    with run(tmp_path, toml(site(backend, pair), stapling={**FAST, "warmup_timeout_s": 1})) as front:
        said = s_client(front.port, "-status", flag, "-msg", "-tlsextdebug", ca=lab.root)
        assert is_not_stapled(said), said
        assert 'TLS server extension "status request"' not in said
        assert "CertificateStatus" not in said


def test_a_resumption_carries_no_staple(both, backend, tmp_path):
    """'a TLS 1.2 resumption carries no staple', nor a TLS 1.3 one: the certificate is not sent either."""
    lab, pairs = both
    with run(tmp_path, toml(site(backend, *pairs))) as front:
        for version in TLS:
            first = staple_of(front.port, lab, tls=version, request_path="/")
            again = staple_of(front.port, lab, session=first.session, request_path="/")
            assert first.staple is not None
            assert not first.resumed
            assert again.resumed
            assert again.staple_der is None
            assert again.http_status == 200


def test_a_certificate_without_a_responder_is_served_quietly(lab, backend, tmp_path):
    """'a certificate with no responder and no issuer: no staple, no error': normal today, so one info line."""
    pair = lab.issue("localhost", with_uri=False)
    with run(tmp_path, toml(site(backend, pair))) as front:
        assert is_not_stapled(s_client(front.port, "-status", ca=lab.root))
        assert staple_of(front.port, lab, request_path="/").http_status == 200
        assert "no-ocsp-uri" in front.log
        assert not re.search(f"{WARNING}|ERROR", front.log), front.log


def test_stapling_on_for_one_host_and_off_for_another(lab, backend, tmp_path):
    """'only the first', and 'one request is made, not two'."""
    on, off = lab.issue("on.test"), lab.issue("off.test")
    sites = site(backend, on) + site(backend, off, stapling={"enabled": False})
    with lab.responder(), run(tmp_path, toml(sites)) as front:
        assert staple_of(front.port, lab, name="on.test").staple is not None
        assert staple_of(front.port, lab, name="off.test").staple_der is None
        asked = curl(f"http://127.0.0.1:{lab.port}/-/requests", ca=lab.root).stdout
        assert '"total": 1' in asked


def test_a_must_staple_certificate_gets_its_staple(lab, backend, tmp_path):
    """'must-staple certificate: served with a staple when stapling is on', in the very first handshake."""
    pair = lab.issue("localhost", must_staple=True)
    with lab.responder(), run(tmp_path, toml(site(backend, pair))) as front:
        assert is_stapled(s_client(front.port, "-status", ca=lab.root))


@pytest.mark.slow
def test_turned_off_it_is_gone_and_turned_on_it_is_back(both, backend, tmp_path):
    """'turned off and reloaded: gone from the next handshake; on again: back' (by a restart: a reload is to come)."""
    lab, pairs = both
    for enabled in (True, False, True):
        with run(tmp_path, toml(site(backend, *pairs), stapling={"enabled": enabled})) as front:
            assert is_stapled(s_client(front.port, "-status", ca=lab.root)) is enabled


@contextlib.contextmanager
def canned_responder(port: int, der: bytes, status: int = 200, content_type: str = "application/ocsp-response"):
    """A responder that has one answer."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(der)))
            self.end_headers()
            self.wfile.write(der)

        do_POST = do_GET  # noqa: N815  # http.server's name

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", port), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


def client_hello(status_request: bytes = b"\x01\0\0\0\0") -> bytes:
    """A TLS 1.2 ClientHello record of OpenSSL's, for localhost, with this body in its status_request extension."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    context.set_ocsp_client_callback(lambda *_: True)
    client = SSL.Connection(context)
    client.set_tlsext_host_name(b"localhost")
    client.request_ocsp()
    client.set_connect_state()
    with contextlib.suppress(SSL.WantReadError):
        client.do_handshake()
    message = client.bio_read(65536)[5:]
    before, extension, after = message.partition(b"\x00\x05\x00\x05\x01\0\0\0\0")
    assert extension
    grown = len(status_request) - 5
    at = 4 + 2 + 32
    at += 1 + before[at]  # session id
    at += 2 + int.from_bytes(before[at : at + 2])  # cipher suites
    at += 1 + before[at]  # compression methods
    extensions_bytes = int.from_bytes(before[at : at + 2]) + grown
    before = before[:at] + extensions_bytes.to_bytes(2) + before[at + 2 :]
    body = before[4:] + b"\x00\x05" + len(status_request).to_bytes(2) + status_request + after
    handshake = b"\x01" + len(body).to_bytes(3) + body
    assert len(handshake) < 16_384
    return b"\x16\x03\x01" + len(handshake).to_bytes(2) + handshake


def server_flight(port: int, hello: bytes) -> dict[int, bytes]:
    """The server's TLS 1.2 handshake messages up to ServerHelloDone, which are in the clear, by type."""
    messages: dict[int, bytes] = {}
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock, sock.makefile("rb") as stream:
        sock.sendall(hello)
        pending = b""
        while 14 not in messages:
            kind, *_ = header = stream.read(5)
            assert kind == 22, f"no handshake record: {header!r}"
            pending += stream.read(int.from_bytes(header[3:]))
            while len(pending) >= 4 and len(pending) >= 4 + (length := int.from_bytes(pending[1:4])):
                messages[pending[0]], pending = pending[4 : 4 + length], pending[4 + length :]
    return messages


def certificate_status(messages: dict[int, bytes]) -> bytes:
    """The response in a CertificateStatus message (RFC 6066 8)."""
    body = messages[22]
    assert body[0] == 1
    assert int.from_bytes(body[1:4]) == len(body) - 4
    return body[4:]


def test_a_huge_staple_is_carried_whole(lab, backend, tmp_path):
    """'a huge staple (over one record) is carried whole'; in TLS 1.2 OpenSSL's client takes none over 16 kB."""
    pair = lab.issue("localhost")
    leaf = x509.load_pem_x509_certificate(pair[0].read_bytes())
    issuer, signer = lab.ca.intermediate.certificate, lab.ca.ocsp_signer
    now = datetime.now(UTC).replace(microsecond=0)
    der = (
        ocsp.OCSPResponseBuilder()
        .add_response(
            leaf, issuer, hashes.SHA256(), ocsp.OCSPCertStatus.GOOD, now, now + timedelta(hours=1), None, None
        )
        .responder_id(ocsp.OCSPResponderEncoding.HASH, signer.certificate)
        .certificates([signer.certificate])
        .add_extension(x509.UnrecognizedExtension(PRIVATE_EXTENSION, bytes(20_000)), critical=False)
        .sign(signer.key, hashes.SHA256())
        .public_bytes(Encoding.DER)
    )
    assert 16_384 < len(der) < 65_536
    with canned_responder(lab.port, der), run(tmp_path, toml(site(backend, pair))) as front:
        assert staple_of(front.port, lab, tls="1.3").staple_der == der
        assert is_stapled(s_client(front.port, "-status", "-tls1_3", ca=lab.root))
        assert certificate_status(server_flight(front.port, client_hello())) == der


def test_a_long_responder_id_list_changes_nothing(lab, backend, tmp_path):
    """'a long responder_id_list in the request changes nothing' (RFC 6066 8), nor do request extensions."""
    pair = lab.issue("localhost")
    with lab.responder(), run(tmp_path, toml(site(backend, pair))) as front:
        plain = certificate_status(server_flight(front.port, client_hello()))
        ids = b"".join(len(each).to_bytes(2) + each for each in [b"\xa2\x16\x04\x14" + bytes(20)] * 200)
        nonce = bytes.fromhex("3021301f06092b0601050507300102") + b"\x04\x12\x04\x10" + bytes(16)
        for body in (b"\x01" + len(ids).to_bytes(2) + ids + bytes(2), b"\x01\0\0" + len(nonce).to_bytes(2) + nonce):
            assert certificate_status(server_flight(front.port, client_hello(body))) == plain
        assert staple_of(front.port, lab).staple_der == plain


def test_the_responder_is_down_at_the_start(lab, backend, tmp_path):
    """It serves, without a staple, and staples as soon as the responder is back."""
    pair = lab.issue("localhost")
    with run(tmp_path, toml(site(backend, pair), stapling={**FAST, "warmup_timeout_s": 1})) as front:
        result = staple_of(front.port, lab, request_path="/")
        assert (result.http_status, result.staple_der) == (200, None)
        assert "connect" in front.wait_for_log(f"{WARNING}.*")[0]
        with lab.responder():
            wait_until(lambda: staple_of(front.port, lab).staple is not None, 5, "a staple")
        assert is_stapled(s_client(front.port, "-status", ca=lab.root))


def test_the_start_does_not_wait_for_a_silent_responder_for_ever(lab, backend, tmp_path):
    """'bounded by warmup_timeout': a responder that accepts and says nothing delays the start by that much at most."""
    with socket.create_server(("127.0.0.1", lab.port)):
        begin = time.monotonic()
        stapling = {"warmup_timeout_s": 0.5, "fetch_timeout_s": 60}
        with run(tmp_path, toml(site(backend, lab.issue("localhost")), stapling=stapling)) as front:
            assert time.monotonic() - begin < 10
            assert is_not_stapled(s_client(front.port, "-status", ca=lab.root))


@pytest.mark.slow
def test_the_responder_goes_down_later(lab, backend, tmp_path):
    """It goes on stapling until nextUpdate and not one second longer; real time, a response valid for 6 seconds."""
    pair = lab.issue("localhost")
    with lab.responder("--validity-s", "6"):
        front_run = run(tmp_path, toml(site(backend, pair), stapling=FAST))
        front = front_run.__enter__()
    with contextlib.ExitStack() as stack:
        stack.push(front_run.__exit__)
        held = staple_of(front.port, lab).staple
        assert held is not None
        end = held.next_update.timestamp()
        stapled_at, missing_at = [], []
        while time.time() < end + 2:
            before = time.time()
            result = staple_of(front.port, lab)
            if result.staple_der is None:
                missing_at.append(time.time())
            else:
                assert result.staple_der == held.der
                stapled_at.append(before)
        assert max(stapled_at) < end
        assert min(missing_at) > end
        assert max(stapled_at) > end - 1, "it stapled to the last second"
        assert staple_of(front.port, lab, request_path="/").http_status == 200, "and serves without"


@pytest.mark.slow
def test_a_staple_is_refreshed_at_half_life_without_a_gap(lab, backend, tmp_path):
    """Through several lives of a 4-second response, every handshake has a valid one."""
    pair = lab.issue("localhost")
    with lab.responder("--validity-s", "4"), run(tmp_path, toml(site(backend, pair), stapling=FAST)) as front:
        seen = set()
        give_up_at = time.monotonic() + 20
        while len(seen) < 4 and time.monotonic() < give_up_at:
            result = staple_of(front.port, lab)
            assert result.staple is not None, (result.staple_refusal, front.log)
            seen.add(result.staple.this_update)
        assert len(seen) == 4


def test_openssl_as_the_responder(lab, backend, tmp_path):
    """Another implementation signs: ``openssl ocsp`` with the delegate's key, asked by GET or POST as it takes it."""
    require_peer("openssl")
    import subprocess

    pairs = [lab.issue("localhost", key="rsa"), lab.issue("localhost", key="ec")]
    folder = lab.folder
    command = [
        "openssl",
        "ocsp",
        "-port",
        str(lab.port),
        "-index",
        folder / "index.txt",
        "-CA",
        folder / "intermediate.pem",
    ]
    command += ["-rsigner", folder / "ocsp-signer.pem", "-rkey", folder / "ocsp-signer.key", "-ndays", "1"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            with run(tmp_path, toml(site(backend, *pairs), stapling=FAST)) as front:
                for kind in ("rsa", "ec"):
                    wait_until(lambda kind=kind: staple_of(front.port, lab, kind=kind).staple is not None, 10, kind)
                    assert is_stapled(s_client(front.port, "-status", "-sigalgs", SIGALGS[kind], ca=lab.root))
        finally:
            process.kill()


def test_a_revoked_certificate_is_not_stapled_and_the_other_still_is(lab, backend, tmp_path):
    """'fetched 'revoked' is not stapled, and 'good' of the other certificate still is'."""
    rsa, ec = lab.issue("localhost", key="rsa"), lab.issue("localhost", key="ec")
    serial = x509.load_pem_x509_certificate(rsa[0].read_bytes()).serial_number
    with lab.responder("--revoked", f"{serial:x}"), run(tmp_path, toml(site(backend, rsa, ec))) as front:
        assert staple_of(front.port, lab, kind="rsa").staple_der is None
        assert staple_of(front.port, lab, kind="ec").staple is not None
        front.wait_for_log("WARNING.*revoked")


def test_a_configured_responder_goes_before_the_certificates(lab, backend, tmp_path):
    """'a configured responder goes before the AIA's'."""
    other = lab.issue("localhost")
    port = free_port()
    with (
        process_at("responder", "--folder", str(lab.folder), "--listen", f"127.0.0.1:{port}"),
        run(tmp_path, toml(site(backend, other), stapling={"responder_url": f"http://127.0.0.1:{port}"})) as front,
    ):
        assert staple_of(front.port, lab).staple is not None


@pytest.mark.slow
def test_the_issuer_may_stand_in_a_file_of_its_own(lab, backend, tmp_path):
    """'the issuer is not in the chain file, but among the trusted: stapled'."""
    chain, key = lab.issue("localhost")
    leaf_only = tmp_path / "leaf.pem"
    leaf_only.write_bytes(x509.load_pem_x509_certificate(chain.read_bytes()).public_bytes(Encoding.PEM))
    with_issuer = site(backend, (leaf_only, key)) + f'issuer = "{lab.intermediate}"\n'
    with lab.responder(), run(tmp_path, toml(with_issuer)) as front:
        assert probe("127.0.0.1", front.port, "localhost", roots=None).staple_der is not None
    with lab.responder(), run(tmp_path, toml(site(backend, (leaf_only, key)))) as front:
        front.wait_for_log("WARNING.*issuer")
        assert probe("127.0.0.1", front.port, "localhost", roots=None).staple_der is None


@pytest.mark.slow
def test_an_answer_that_is_no_response_is_not_stapled(lab, backend, tmp_path):
    """'the responder answers with something else (an HTML page, 404): not stapled, nothing critical logged'."""
    pair = lab.issue("localhost")
    page = b"<html>welcome to the hotel's network</html>"
    for answer in [(page, 200, "text/html"), (page, 404, "text/html"), (page,), (b"",), (b"\x30\x03\x0a\x01\x03",)]:
        with canned_responder(lab.port, *answer), run(tmp_path, toml(site(backend, pair), stapling=FAST)) as front:
            assert is_not_stapled(s_client(front.port, "-status", ca=lab.root))
            front.wait_for_log(WARNING)
            assert not re.search("ERROR|Traceback", front.log), front.log
            assert alert_number(s_client(front.port, ca=lab.root)) is None


def test_the_cache_file_lets_a_restart_staple_at_once(lab, backend, tmp_path):
    """'a restart keeps a valid stored response (no new request)', with the responder gone meanwhile."""
    pair = lab.issue("localhost")
    configuration = toml(
        site(backend, pair), stapling={"cache": f"shmcb:{tmp_path}/staples(128000)", "warmup_timeout_s": 1}
    )
    with lab.responder(), run(tmp_path, configuration) as front:
        held = staple_of(front.port, lab).staple_der
        assert held is not None
    with run(tmp_path, configuration) as front:
        assert staple_of(front.port, lab).staple_der == held


@pytest.mark.slow
def test_a_cache_smaller_than_the_certificates_holds_the_busy_ones(lab, backend, tmp_path):
    """Five entries fit, eight certificates are served: what was pushed out is back for the next handshake but one."""
    names = [f"host{number}.test" for number in range(8)]
    sites = "".join(site(backend, lab.issue(name)) for name in names)
    stapling = {"cache": f"shmcb:{tmp_path}/small(8192)"}
    with lab.responder(), run(tmp_path, toml(sites, stapling=stapling)) as front:
        missed = 0
        for name in names * 2:
            missed += staple_of(front.port, lab, name=name).staple is None
            wait_until(lambda name=name: staple_of(front.port, lab, name=name).staple is not None, 5, name)
        assert missed >= 3, "they cannot all have been there"
        assert f'"total": {len(names)}' in curl(f"http://127.0.0.1:{lab.port}/-/requests", ca=lab.root).stdout

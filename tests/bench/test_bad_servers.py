"""Servers that do what they should not: each is told of by its kind, costs no more than its time, and hides nobody."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
import time
from datetime import timedelta

import pytest
from bench.conftest import NOW
from bench.scripted import Scripted, read_to_end
from bench.test_round import PATIENT, closed, run
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from lab.servers import openssl_server
from OpenSSL import SSL, crypto

from proxy.bench.outcomes import Failure, StapleOutcome
from proxy.bench.plan import Phase, Timeouts, Tls
from proxy.bench.report import Report, notes

SHORT = Timeouts(5, 0.3, 0.3)
TRY_LATER = bytes.fromhex("30030a0103")
HELLO_THAT_NEVER_ENDS = b"\x16\x03\x03\x40\x00" + b"\x02\x00\x3f\xfc\x03\x03" + bytes(100)


@contextlib.contextmanager
def raw_server(talk):
    """A server without TLS: `talk` gets each connection, in a thread of its own, once its ClientHello has come."""
    threads = []

    def serve(listener):
        with contextlib.suppress(OSError):
            while True:
                sock, _ = listener.accept()
                threads.append(threading.Thread(target=one, args=(sock,)))
                threads[-1].start()

    def one(sock):
        with sock, contextlib.suppress(OSError):
            sock.settimeout(20)
            sock.recv(4096)
            talk(sock)

    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    for each in (thread, *threads):
        each.join(20)
        assert not each.is_alive()


def reset(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def half(sock):
    sock.sendall(HELLO_THAT_NEVER_ENDS)
    sock.recv(1)


@pytest.mark.parametrize(
    ("talk", "kind", "detail"),
    [
        (reset, Failure.CLOSED, "Connection reset by peer"),
        (half, Failure.HANDSHAKE_TIMEOUT, ""),
        (lambda sock: sock.sendall(HELLO_THAT_NEVER_ENDS), Failure.CLOSED, ""),
        (lambda sock: sock.sendall(bytes(range(256)) * 300), Failure.TLS, "wrong version number"),
        (lambda sock: sock.sendall(b"\x15\x03\x03\x00\x02\x02\x70"), Failure.ALERT, "unrecognized name"),
        (lambda sock: sock.sendall(b"\x15\x03\x03\x00\x02\x02\xfe"), Failure.ALERT, "number 254"),
    ],
    ids=["reset", "half", "cut", "garbage", "alert", "unknown-alert"],
)
def test_a_handshake_that_goes_wrong_has_its_kind(talk, kind, detail):
    """And an alert is one by its number: OpenSSL's words for some of them do not say so."""
    with raw_server(talk) as port:
        tally = run(port, closed(4, 2), timeouts=SHORT)
    assert (tally.handshakes, tally.connections) == (0, 4)
    assert tally.failures == {(kind, detail): 4}


def endless(piece):
    """Send this for ever, once the handshake is done."""

    def talk(connection):
        with contextlib.suppress(Exception):
            while True:
                connection.sendall(piece)

    return talk


@pytest.mark.slow
def test_a_server_that_never_stops_talking_is_left(server):
    """It sends no end: the client has what it came for, and stays for a second at most."""
    with server(talk=endless(bytes(16_000))).running() as scripted:
        begun_at = time.monotonic()
        tally = run(scripted.port, closed(3, 1))
    assert (tally.handshakes, tally.failed) == (3, 0)
    assert time.monotonic() - begun_at < 15


@pytest.mark.parametrize(
    ("piece", "failure"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n" + bytes(10_000), (Failure.ANSWER_TIMEOUT, "")),
        (b"HTTP/1.1 100 Continue\r\n\r\n", (Failure.ANSWER_TIMEOUT, "")),
    ],
    ids=["body", "1xx"],
)
def test_an_answer_without_end_is_told_of(server, piece, failure):
    def talk(connection):
        connection.recv(4096)
        with contextlib.suppress(Exception):
            connection.sendall(piece)
            endless(b"0" * 1000 if b"Content-Length" in piece else piece)(connection)

    with server(talk=talk).running() as scripted:
        tally = run(scripted.port, closed(2, 1), path="/", requests=1, timeouts=Timeouts(5, 20, 0.3))
    assert (tally.handshakes, tally.failures) == (2, {failure: 2})


def test_an_answer_that_is_none_is_told_of(server):
    """The handshake was one all the same."""

    def talk(connection):
        connection.recv(4096)
        connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")

    with server(talk=talk).running() as scripted:
        tally = run(scripted.port, closed(2, 1), path="/", requests=1)
    assert tally.handshakes == scripted.handshakes == 2
    assert {kind for kind, _ in tally.failures} == {Failure.ANSWER}
    assert all(detail for _, detail in tally.failures)


def test_an_answer_in_chunks_is_whole_and_the_next_request_follows(server):
    def talk(connection):
        for _ in range(3):
            while not connection.recv(4096).endswith(b"\r\n\r\n"):
                pass
            connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
            connection.sendall(b"0\r\n\r\n")
        connection.shutdown()

    with server(talk=talk).running() as scripted:
        tally = run(scripted.port, closed(4, 1), path="/", requests=3)
    assert (tally.handshakes, tally.failed, tally.statuses) == (4, 0, {200: 12})


def test_an_answer_that_is_cut_is_told_of(server):
    """Without close_notify nobody knows whether a body without a length is whole; with a length everybody does."""

    def talk(connection):
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")

    with server(talk=talk).running() as scripted:
        tally = run(scripted.port, closed(2, 1), path="/", requests=1)
    assert (tally.handshakes, {kind for kind, _ in tally.failures}) == (2, {Failure.ANSWER})


def test_a_server_that_wants_another_handshake_before_it_answers_gets_it(server):
    """As Apache does, in TLS 1.2, where only one folder wants a client certificate. To us it is one handshake."""

    def talk(connection):
        connection.recv(4096)
        connection.renegotiate()
        connection.do_handshake()  # sends the HelloRequest
        connection.setblocking(False)
        while connection.renegotiate_pending():
            assert select.select([connection], [], [], 5)[0], "the client does not answer"
            with contextlib.suppress(SSL.WantReadError):
                connection.recv(1, socket.MSG_PEEK)
        connection.setblocking(True)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none")
        read_to_end(connection)

    with server(talk=talk).running() as scripted:
        tally = run(scripted.port, closed(2, 1), path="/", requests=1, tls=Tls("1.2"), timeouts=Timeouts(20, 20, 5))
    assert (tally.handshakes, tally.failures, tally.statuses) == (2, {}, {200: 2})


def test_what_goes_wrong_after_the_handshake_takes_none_away(server):
    """The server has counted it: bytes that are no TLS come behind the first answer."""

    def talk(connection):
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none")
        connection.recv(4096)
        with socket.socket(fileno=connection.fileno()) as sock:
            sock.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
            sock.detach()

    with server(talk=talk).running() as scripted:
        tally = run(scripted.port, closed(2, 1), path="/", requests=2)
    assert tally.handshakes == scripted.handshakes == 2
    assert {kind for kind, _ in tally.failures} == {Failure.TLS}


@pytest.mark.parametrize(
    ("version", "failure"),
    [("1.2", (Failure.TLS, "excessive message size")), ("1.3", (Failure.ALERT, "internal error"))],
)
def test_a_staple_of_200_kilobytes_gets_through_no_openssl(ca, site, tmp_path, version, failure):
    """A client's takes 16 kB in TLS 1.2; a server's does not write so much in TLS 1.3. Either way it is told."""
    ca.write(tmp_path)
    issuer = ca.intermediate.certificate
    builder = ocsp.OCSPResponseBuilder().add_response(
        site.leaf, issuer, hashes.SHA256(), ocsp.OCSPCertStatus.GOOD, NOW, NOW + timedelta(hours=1), None, None
    )
    builder = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, issuer)
    copies = 200_000 // len(issuer.public_bytes(Encoding.DER))
    large = builder.certificates([issuer] * copies).sign(ca.intermediate.key, hashes.SHA256())
    (tmp_path / "large.der").write_bytes(large.public_bytes(Encoding.DER))
    stem = tmp_path / site.stem
    options = ("-cert", f"{stem}.pem", "-key", f"{stem}.key", "-status_file", tmp_path / "large.der")
    with openssl_server(*options) as port:
        tally = run(port, closed(2, 1), tls=Tls(version))
    assert (tally.handshakes, tally.failures) == (0, {failure: 2})


def test_a_staple_that_changes_is_another_response(server, staples):
    """As when the server fetches a new one in the middle of a run: each is verified once."""
    order = ["good", "revoked", "over"]
    with server(staple=lambda number: staples[order[number // 10]]).running() as scripted:
        tally = run(scripted.port, closed(30, 1))
    assert (len(tally.seen), tally.verified) == (3, 3)
    assert [seen.count for seen in tally.seen.values()] == [10, 10, 10]
    assert tally.staples == {
        (StapleOutcome.GOOD, ""): 10,
        (StapleOutcome.REVOKED, ""): 10,
        (StapleOutcome.INVALID, "expired"): 10,
    }


@pytest.mark.slow
def test_a_rate_that_cannot_be_reached_is_said(server):
    """One client after the other, each of whom takes 20 ms, are 50 a second and no more."""
    with server(before=lambda _: time.sleep(0.02) is None).running() as scripted:
        phase = Phase(seconds=1, rate=150)
        tally = run(scripted.port, phase, timeouts=PATIENT)
    assert tally.handshakes == 150
    said = notes(Report("x", {}, None, 1, phase, tally))
    assert any(note.startswith("150 clients a second were to come") for note in said), said
    reachable = Phase(seconds=1.5, rate=20)
    with server().running() as scripted:
        tally = run(scripted.port, reachable)
    assert not [note for note in notes(Report("x", {}, None, 1, reachable, tally)) if "were to come" in note]


def test_a_client_that_is_counted_is_connected_once(server):
    """Connections are all that the server has accepted: of warm-up, of those who failed, and of no others."""
    with server(before=lambda number: number % 3 > 0).running() as scripted:
        tally = run(scripted.port, Phase(handshakes=30, rate=200, ramp_s=0.1, warmup_s=0.1))
    warmup = tally.warmup
    assert tally.handshakes + warmup.handshakes == scripted.handshakes
    assert warmup.failed > 0
    assert tally.connections == scripted.handshakes + tally.failed + warmup.failed


def odd_leaf(site, found, instead):
    """The site's certificate with these bytes of it changed: only OpenSSL can hold some of what comes of that."""
    der = site.leaf.public_bytes(Encoding.DER)
    assert der.count(found) == 1
    return crypto.load_certificate(crypto.FILETYPE_ASN1, der.replace(found, instead))


@pytest.mark.filterwarnings("ignore:Passing pyOpenSSL X509")  # only OpenSSL can hold it
def test_a_certificate_that_cannot_be_read_is_no_end_of_the_run(ca, site, staples):
    """OpenSSL takes a version that there is not, cryptography refuses it: the staple is then beside nothing."""
    odd = odd_leaf(site, bytes.fromhex("a003020102"), bytes.fromhex("a003020137"))  # version 3; there is no 56
    with Scripted((odd, ca.intermediate.certificate), site.key, staple=lambda _: staples["good"]).running() as scripted:
        tally = run(scripted.port, closed(2, 1))
    assert tally.handshakes == scripted.handshakes == 2
    assert tally.staples == {(StapleOutcome.INVALID, "no-issuer"): 2}


@pytest.mark.filterwarnings("ignore:Passing pyOpenSSL X509")
def test_a_serial_number_that_is_not_positive_is_no_warning_on_the_terminal(ca, site):
    """Many private CAs have made such; warnings are errors here."""
    serial = site.leaf.serial_number
    encoded = serial.to_bytes(serial.bit_length() // 8 + 1)
    odd = odd_leaf(site, encoded, bytes([0x80]) + encoded[1:])  # below 0
    with Scripted((odd, ca.intermediate.certificate), site.key, staple=lambda _: TRY_LATER).running() as scripted:
        tally = run(scripted.port, closed(2, 1))
    assert (tally.handshakes, tally.staples) == (2, {(StapleOutcome.INVALID, "no-issuer"): 2})

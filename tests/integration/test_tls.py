"""The TLS front: names, versions, algorithms, resumption, alerts. Rows of the behaviours' table are named."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import ssl
import time

import pytest
from integration.clients import alert_number, curl, s_client
from integration.conftest import free_port
from integration.front import WARNING, is_alive, run, site, toml, wait_until

from proxy.lab.client import probe


@pytest.fixture
def pair(lab):
    return lab.issue("localhost", with_uri=False)


def subject(said: str) -> str:
    return re.search(r"subject=CN = (\S+)", said)[1]


def test_names_choose_the_certificate(lab, backend, tmp_path):
    """'wildcards match one label', exact names go first; 'default certificate without SNI or with an unknown name'."""
    first, exact, wild = (lab.issue(name, with_uri=False) for name in ("first.test", "a.wild.test", "*.wild.test"))
    with run(tmp_path, toml(site(backend, first) + site(backend, wild) + site(backend, exact))) as front:
        for name, expected in {
            "first.test": "first.test",
            "a.wild.test": "a.wild.test",
            "A.WILD.TEST": "a.wild.test",
            "b.wild.test": "*.wild.test",
            "b.b.wild.test": "first.test",
            "wild.test": "first.test",
            "unknown.test": "first.test",
        }.items():
            assert subject(s_client(front.port, ca=lab.root, name=name)) == expected, name
        without = s_client(front.port, ca=lab.root, name=None)
        assert subject(without) == "first.test"


def test_the_default_site_can_be_chosen(lab, backend, tmp_path):
    """Not the first, but the one that says so."""
    first, second = lab.issue("first.test", with_uri=False), lab.issue("second.test", with_uri=False)
    with run(tmp_path, toml(site(backend, first) + site(backend, second, default=True))) as front:
        assert subject(s_client(front.port, ca=lab.root, name="other.test")) == "second.test"


def test_each_name_has_its_backend(lab, backend, tmp_path):
    """The site that SNI chose is the one whose backend is asked."""
    here, gone = lab.issue("here.test", with_uri=False), lab.issue("gone.test", with_uri=False)
    with run(tmp_path, toml(site(backend, here) + site("http://127.0.0.1:1", gone))) as front:
        for name, status in {"here.test": 200, "gone.test": 502}.items():
            assert probe("127.0.0.1", front.port, name, roots=lab.root, request_path="/").http_status == status


@pytest.mark.parametrize(
    ("options", "number", "why"),
    [
        (["-tls1_1", "-cipher", "DEFAULT:@SECLEVEL=0"], 70, "'protocol versions out of range: protocol_version alert'"),
        (["-tls1_2", "-cipher", "CAMELLIA128-SHA"], 40, "no cipher in common: handshake_failure"),
        (["-alpn", "h2"], 120, "RFC 7301 3.2: no_application_protocol"),
    ],
)
def test_a_failed_handshake_sends_its_alert_before_it_closes(lab, pair, backend, tmp_path, options, number, why):
    """The client learns why; the server goes on."""
    with run(tmp_path, toml(site(backend, pair))) as front:
        assert alert_number(s_client(front.port, *options, ca=lab.root)) == number, why
        assert curl(f"https://localhost:{front.port}/", ca=lab.root).returncode == 0
        assert "ERROR" not in front.log


def test_what_is_not_tls_is_refused_at_once(lab, pair, backend, tmp_path):
    """A broken message gets its alert; to what does not even look like TLS there is nothing to say,
    but to HTTP in HTTP. None waits."""
    with run(tmp_path, toml(site(backend, pair))) as front:
        for beginning, answer in {
            b"\x16\x03\x01\x00\x05\xff\xff\xff\xff\xff": b"\x15\x03",
            b"\x15\x03\x01\x00\x02\x02\x28": b"\x15\x03",
            b"SSH-2.0-OpenSSH_9.9\r\n": b"",
            b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n": b"HT",  # the whole answer is in test_modes.py
        }.items():
            with socket.create_connection(("127.0.0.1", front.port), timeout=5) as sock:
                sock.sendall(beginning)
                assert sock.recv(100)[:2] == answer, beginning


def test_alpn(lab, pair, backend, tmp_path):
    """http/1.1 where the client offers it, whatever else it offers; none where it offers none."""
    with run(tmp_path, toml(site(backend, pair))) as front:
        assert "ALPN protocol: http/1.1" in s_client(front.port, "-alpn", "h2,http/1.1", ca=lab.root)
        assert "No ALPN negotiated" in s_client(front.port, ca=lab.root)


@pytest.mark.slow
@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_a_session_resumes_on_any_worker(lab, pair, backend, tmp_path, version):
    """'tickets resume, across workers': on workers that were started after the ticket was given, too."""
    with run(tmp_path, toml(site(backend, pair), workers=2)) as front:
        how = {"roots": lab.root, "request_path": "/"}
        session = probe("127.0.0.1", front.port, "localhost", tls=version, **how).session
        assert all(probe("127.0.0.1", front.port, "localhost", session=session, **how).resumed for _ in range(12))
        old = front.pids("worker")
        assert len(old) == 2
        for pid in old:
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda pid=pid: not is_alive(pid) and len(front.pids("worker")) == 2)
        assert all(probe("127.0.0.1", front.port, "localhost", session=session, **how).resumed for _ in range(12))


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_a_session_keeps_to_its_name(lab, backend, tmp_path, version):
    """'a resumed session keeps to its name': offered for another, the handshake is a full one."""
    one, two = lab.issue("one.test", with_uri=False), lab.issue("two.test", with_uri=False)
    with run(tmp_path, toml(site(backend, one) + site(backend, two))) as front:
        how = {"roots": lab.root, "request_path": "/"}
        session = probe("127.0.0.1", front.port, "one.test", tls=version, **how).session
        assert probe("127.0.0.1", front.port, "one.test", session=session, **how).resumed
        other = probe("127.0.0.1", front.port, "two.test", session=session, **how)
        assert not other.resumed, "RFC 6066 3"
        assert other.leaf.subject.rfc4514_string() == "CN=two.test"


@pytest.mark.parametrize("flag", ["-tls1_2", "-tls1_3"])
def test_tickets_can_be_turned_off(lab, pair, backend, tmp_path, flag):
    """Then nothing resumes."""
    session_file = tmp_path / "session"
    with run(tmp_path, toml(site(backend, pair), tls={"session_tickets": False})) as front:
        request = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        options = (flag, "-ign_eof")
        s_client(front.port, *options, "-sess_out", str(session_file), ca=lab.root, stdin=request)
        if session_file.exists():
            again = s_client(front.port, *options, "-sess_in", str(session_file), ca=lab.root, stdin=request)
            assert "Reused, " not in again
            assert "200 OK" in again


def test_versions_ciphers_and_groups_can_be_set(lab, pair, backend, tmp_path):
    """What the settings say is what clients get."""
    tls = {"protocols": ["TLSv1.2"], "ciphers": "ECDHE-ECDSA-AES256-GCM-SHA384", "groups": "P-384"}
    with run(tmp_path, toml(site(backend, pair), tls=tls)) as front:
        said = s_client(front.port, ca=lab.root)
        assert "TLSv1.2, Cipher is ECDHE-ECDSA-AES256-GCM-SHA384" in said
        assert "ECDH, secp384r1" in said or "ECDH, P-384" in said
        assert alert_number(s_client(front.port, "-tls1_3", ca=lab.root)) == 70
        assert alert_number(s_client(front.port, "-groups", "X25519", ca=lab.root)) == 40
    tls = {"protocols": ["TLSv1.3"], "ciphersuites": "TLS_CHACHA20_POLY1305_SHA256"}
    with run(tmp_path, toml(site(backend, pair), tls=tls)) as front:
        assert "TLSv1.3, Cipher is TLS_CHACHA20_POLY1305_SHA256" in s_client(front.port, ca=lab.root)
        assert alert_number(s_client(front.port, "-tls1_2", ca=lab.root)) == 70


def test_a_site_has_its_own_versions_and_ciphers(lab, backend, tmp_path):
    """By the name that the client asks for, before OpenSSL has chosen anything; the rest is as for all."""
    old, new = (lab.issue(name, with_uri=False) for name in ("old.test", "new.test"))
    of_old = '[site.tls]\nprotocols = ["TLSv1.2"]\nciphers = "ECDHE-ECDSA-AES256-GCM-SHA384"\n'
    of_new = "[site.tls]\nprefer_server_ciphers = false\n"
    with run(tmp_path, toml(site(backend, old) + of_old + site(backend, new) + of_new)) as front:
        assert "TLSv1.2, Cipher is ECDHE-ECDSA-AES256-GCM-SHA384" in s_client(front.port, ca=lab.root, name="old.test")
        its_own_order = ("-ciphersuites", "TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256")
        said = s_client(front.port, *its_own_order, ca=lab.root, name="new.test")
        assert "TLSv1.3, Cipher is TLS_AES_256_GCM_SHA384" in said


def test_each_address_has_its_sites_and_its_default(lab, backend, tmp_path):
    """One name may be another site at another address, as with Apache's virtual hosts."""
    everywhere, here, there = (lab.issue(name, with_uri=False) for name in ("all.test", "here.test", "there.test"))
    one, two = (f"127.0.0.1:{free_port()}" for _ in range(2))
    sites = [
        site(backend, here, listen=[one], names=["same.test"]),
        site(backend, there, listen=[two], names=["same.test"]),
        site(backend, everywhere),
    ]
    with run(tmp_path, toml("".join(sites), listen=[one, two], workers=2)):
        for address, expected in ((one, "here.test"), (two, "there.test")):
            port = int(address.rpartition(":")[2])
            assert subject(s_client(port, ca=lab.root, name="same.test")) == expected
            assert subject(s_client(port, ca=lab.root, name=None)) == expected
            assert subject(s_client(port, ca=lab.root, name="all.test")) == "all.test"


def test_by_default_the_server_chooses_aes_128(lab, pair, backend, tmp_path):
    """The cheapest that is strong, whatever order the client has; see benchmarks/README.md."""
    with run(tmp_path, toml(site(backend, pair))) as front:
        assert "Cipher is TLS_AES_128_GCM_SHA256" in s_client(front.port, ca=lab.root)
        assert "Cipher is ECDHE-ECDSA-AES128-GCM-SHA256" in s_client(front.port, "-tls1_2", ca=lab.root)


def test_renegotiation_is_refused(lab, pair, backend, tmp_path):
    """'client renegotiation refused; no_renegotiation or a close'."""
    with run(tmp_path, toml(site(backend, pair))) as front:
        said = s_client(front.port, "-tls1_2", "-msg", ca=lab.root, stdin="R\n")
        assert "RENEGOTIATING" in said
        assert "no_renegotiation" in said or "no renegotiation" in said, said


@pytest.mark.slow
def test_a_client_that_says_nothing_is_cut_off(lab, pair, backend, tmp_path):
    """The handshake's deadline holds for who sends nothing, and for who stops in the middle."""
    with run(tmp_path, toml(site(backend, pair), tls={"handshake_timeout_s": 1})) as front:
        for beginning in (b"", b"\x16\x03\x01\x02\x00\x01\x00"):
            with socket.create_connection(("127.0.0.1", front.port), timeout=10) as sock:
                sock.sendall(beginning)
                begin = time.monotonic()
                with contextlib.suppress(ConnectionResetError):
                    assert sock.recv(100) == b""
                assert 0.5 < time.monotonic() - begin < 5


def connect(port: int, root) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=root)
    return context.wrap_socket(socket.create_connection(("127.0.0.1", port), timeout=10), server_hostname="localhost")


def test_a_close_is_announced(lab, pair, backend, tmp_path):
    """'close_notify on close': Python's client raises SSLEOFError for an end without it."""
    with run(tmp_path, toml(site(backend, pair))) as front, connect(front.port, lab.root) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        sock.suppress_ragged_eofs = False
        answer = b"".join(iter(lambda: sock.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 200")


def test_a_client_that_has_taken_its_leave_is_not_waited_for(lab, pair, backend, tmp_path):
    """After close_notify both ways the socket is closed whole, though the client has not ended it: a byte is reset."""
    with run(tmp_path, toml(site(backend, pair))) as front:
        sock = connect(front.port, lab.root)
        with sock.unwrap() as raw:
            raw.sendall(b"x")
            begin = time.monotonic()

            def is_reset() -> bool:
                try:
                    raw.sendall(b"x")
                except (ConnectionResetError, BrokenPipeError):
                    return True
                return False

            wait_until(is_reset, what="the reset")
            assert time.monotonic() - begin < 4  # and not after the time for which others are read on


def test_a_client_that_just_vanishes_is_no_error(lab, pair, backend, tmp_path):
    """'an end without it from the client is no error logged'; neither is a reset."""
    with run(tmp_path, toml(site(backend, pair))) as front:
        for _ in range(3):
            sock = connect(front.port, lab.root)
            sock.sendall(b"GET /bytes/100000 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            # SO_LINGER 0: the close is a reset, with the answer unread.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            socket.socket(fileno=sock.detach()).close()
        assert curl(f"https://localhost:{front.port}/", ca=lab.root).returncode == 0
        assert not re.search(f"{WARNING}|ERROR|Traceback", front.log), front.log


def test_tls_records_may_come_in_any_pieces(lab, pair, backend, tmp_path):
    """A record over several reads, and several records in one."""
    with run(tmp_path, toml(site(backend, pair))) as front:
        context = ssl.create_default_context(cafile=lab.root)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
        with socket.create_connection(("127.0.0.1", front.port), timeout=10) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

            def until_done(step):
                while True:
                    try:
                        return step()
                    except ssl.SSLWantReadError:
                        for byte in outgoing.read():
                            sock.sendall(bytes([byte]))
                        incoming.write(sock.recv(65536))

            until_done(tls.do_handshake)
            for _ in range(3):
                for piece in (b"GET /bytes/5 HT", b"TP/1.1\r\nHost: loc", b"alhost\r\n\r\n"):
                    tls.write(piece)
                answer = b""
                while not answer.endswith(b"01234"):
                    answer += until_done(lambda: tls.read(65536))
                assert answer.startswith(b"HTTP/1.1 200")
                tls.write(b"GET /bytes/5 HTTP/1.1\r\nHost: localhost\r\n\r\n")
                sock.sendall(outgoing.read())
                answer = b""
                while not answer.endswith(b"01234"):
                    answer += until_done(lambda: tls.read(65536))


def test_unknown_names_can_be_refused(lab, backend, tmp_path):
    """'or a fatal unrecognized_name when so set': for a name that no site has, and for none."""
    one, two = lab.issue("one.test", with_uri=False), lab.issue("two.test", with_uri=False)
    for sites in (site(backend, one) + site(backend, two), site(backend, one)):
        with run(tmp_path, toml(sites, tls={"unknown_names": "refuse"})) as front:
            assert subject(s_client(front.port, ca=lab.root, name="one.test")) == "one.test"
            for name in ("unknown.test", None):
                said = s_client(front.port, ca=lab.root, name=name)
                assert alert_number(said) == 112, said


def test_a_host_that_differs_from_sni_can_be_refused(lab, backend, tmp_path):
    """'Host that differs from the SNI: 421 or served, a setting'."""
    pair = lab.issue("one.test", "*.wild.test", with_uri=False)
    expected = {
        "serve": {"one.test": "200", "a.wild.test:8443": "200", "other.test": "200"},
        "refuse": {
            "one.test": "200",
            "ONE.test:8443": "200",
            "a.wild.test": "200",
            "other.test": "421",
            "[::1]": "421",
        },
    }
    for setting, statuses in expected.items():
        with run(tmp_path, toml(site(backend, pair), http={"other_hosts": setting})) as front:
            for host, status in statuses.items():
                options = ("--resolve", f"one.test:{front.port}:127.0.0.1", "-H", f"Host: {host}", "-o", "/dev/null")
                done = curl(*options, "-w", "%{http_code}", f"https://one.test:{front.port}/", ca=lab.root)
                assert done.stdout == status, (setting, host)

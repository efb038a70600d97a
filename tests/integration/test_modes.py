"""What the front does besides HTTP over TLS: raw relay, the redirecting port, HSTS, plain HTTP where TLS belongs."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import ssl
import threading
import time
from pathlib import Path

import pytest
from integration import peers
from integration.clients import alert_number, curl, s_client
from integration.conftest import free_port
from integration.front import run, site, toml, wait_until
from integration.peers import PATIENCE_S, Client

from proxy.proxyprotocol import read as read_header

MIB = 1_048_576


@pytest.fixture
def pair(lab):
    return lab.issue("localhost", with_uri=False)


@pytest.fixture
def raw():
    """A backend that does as the test says."""
    with peers.backend() as made:
        yield made


def address(backend) -> str:
    return backend.url.replace("http:", "tcp:")


def relay(backend, pair, **settings) -> str:
    return site(address(backend), pair, mode="tcp", **settings)


def echo(visit) -> None:
    """Send back what comes, and end when the client does, in whichever way."""
    with contextlib.suppress(ConnectionResetError):
        while data := visit.sock.recv(65_536):
            visit.send(data)
        visit.sock.shutdown(socket.SHUT_WR)


def echo_once(visit) -> None:
    """Send back the first that comes, and end."""
    visit.send(b"220 " + visit.sock.recv(65_536))
    visit.sock.shutdown(socket.SHUT_WR)


def resident_bytes(pid: int) -> int:
    return int(re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[1]) * 1024


# ---- Mode tcp ----


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_bytes_go_both_ways_as_they_are(lab, pair, raw, tmp_path, version):
    """Nothing in them is looked at: neither HTTP nor a text."""
    sent = "\0 neither HTTP nor\n\n text\n"
    with run(tmp_path, toml(relay(raw, pair))) as front, raw.does(echo_once):
        assert sent in s_client(front.port, version, "-quiet", ca=lab.root, stdin=sent)


def test_the_backend_may_speak_first(lab, pair, raw, tmp_path):
    """As with SMTP: a greeting arrives before the client has said anything."""

    def greet(visit):
        visit.send(b"220 ready\r\n")
        assert visit.read(6) == b"QUIT\r\n"
        visit.sock.shutdown(socket.SHUT_WR)

    with run(tmp_path, toml(relay(raw, pair))) as front, raw.does(greet), Client(front.port, lab.root) as client:
        assert client.line() == b"220 ready"
        client.send(b"QUIT\r\n")
        assert client.is_closed()


def test_the_clients_end_is_passed_on_and_the_answer_still_comes(lab, pair, raw, tmp_path):
    """close_notify ends one direction (RFC 8446 6.1), and the FIN after it changes nothing."""

    def answer(visit):
        data = b"".join(iter(lambda: visit.sock.recv(65_536), b""))
        visit.send(b"%d bytes\r\n" % len(data))
        visit.sock.shutdown(socket.SHUT_WR)

    with run(tmp_path, toml(relay(raw, pair))) as front, raw.does(answer):
        for with_fin in (False, True):
            with Client(front.port, lab.root) as client:
                client.send(b"x" * 100_000)
                client.end()
                if with_fin:
                    client.sock.shutdown(socket.SHUT_WR)
                assert client.line() == b"100000 bytes"
                assert client.is_closed()


def test_the_backends_end_is_passed_on_and_the_client_may_go_on(lab, pair, raw, tmp_path):
    """The client sees close_notify, and what it sends then arrives, its own end too."""
    received = []

    def half_close(visit):
        visit.send(b"that is all\r\n")
        visit.sock.shutdown(socket.SHUT_WR)
        received.append(b"".join(iter(lambda: visit.sock.recv(65_536), b"")))

    with run(tmp_path, toml(relay(raw, pair))) as front, raw.does(half_close), Client(front.port, lab.root) as client:
        assert client.line() == b"that is all"
        assert client.is_closed()
        client.send(b"y" * 300_000)
        client.end()
        wait_until(lambda: received)
        assert received == [b"y" * 300_000]


@pytest.mark.parametrize("mode", ["tcp", "http"])
def test_what_comes_behind_the_clients_end_is_not_kept(lab, pair, raw, tmp_path, mode):
    """It shall be ignored (RFC 8446 6.1), and not wait in memory for somebody who never reads it."""
    asked, may_answer = threading.Event(), threading.Event()

    def answer_late(visit):
        visit.head()
        asked.set()
        may_answer.wait(PATIENCE_S)
        visit.send(peers.OK)
        visit.sock.shutdown(socket.SHUT_WR)

    upstream = address(raw) if mode == "tcp" else raw.url
    record = b"\x17\x03\x03\x40\x00" + bytes(16_384)
    with (
        run(tmp_path, toml(site(upstream, pair, mode=mode))) as front,
        raw.does(answer_late),
        Client(front.port, lab.root) as client,
    ):
        (worker,) = front.pids("worker")
        client.send(peers.request())
        assert asked.wait(PATIENCE_S)
        client.end()
        before = resident_bytes(worker)
        for _ in range(64):
            client.sock.sendall(64 * record)
        grown = resident_bytes(worker) - before
        may_answer.set()
        assert client.answer().body == b"ok"
    assert grown < 16 * MIB


def test_a_cut_is_not_taken_for_an_end(lab, pair, raw, tmp_path):
    """Who ends without close_notify may have been cut off: the backend sees a reset. And the other way round."""
    seen = []

    def listen(visit):
        try:
            while visit.sock.recv(65_536):
                pass
            seen.append("end")
        except ConnectionResetError:
            seen.append("reset")

    with run(tmp_path, toml(relay(raw, pair))) as front:
        with raw.does(listen):
            with Client(front.port, lab.root) as client:
                client.send(b"half a mess")
                wait_until(lambda: raw.count)
            wait_until(lambda: seen)
        assert seen == ["reset"]
        reset = lambda visit: (visit.send(b"half an ans\r\n"), visit.read(2), visit.reset())  # noqa: E731  # read on
        with raw.does(reset), Client(front.port, lab.root) as client:
            assert client.line() == b"half an ans"
            client.send(b"go")
            assert client.is_cut()


def test_a_backend_that_is_not_there_cuts_the_client_off(lab, pair, tmp_path):
    """At once, with one line that names it; the next client is served like the first."""
    port = free_port()
    with run(tmp_path, toml(site(f"tcp://127.0.0.1:{port}", pair, mode="tcp"))) as front:
        with Client(front.port, lab.root) as client:
            assert client.is_cut()
        front.wait_for_log(rf"cannot connect to the backend tcp://127.0.0.1:{port}")
        with socket.create_server(("127.0.0.1", port)) as listener, Client(front.port, lab.root) as client:
            client.send(b"hello")
            sock, _ = listener.accept()
            with sock:
                assert sock.recv(5) == b"hello"


def test_several_backends_get_connections_in_turn(lab, pair, raw, tmp_path):
    """And the next one gets it where one is not there."""
    with peers.backend() as other, other.does(echo), raw.does(echo):
        upstream = f'["tcp://127.0.0.1:{free_port()}", "{address(other)}", "{address(raw)}"]'
        configuration = relay(raw, pair).replace(f'"{address(raw)}"', upstream)
        with run(tmp_path, toml(configuration)) as front:
            for _ in range(6):
                with Client(front.port, lab.root) as client:
                    client.send(b"hello\r\n")
                    assert client.line() == b"hello"
                    client.end()
            assert (other.count, raw.count) == (4, 2)


def test_a_unix_socket_is_a_backend(lab, pair, tmp_path):
    path = tmp_path / "app.sock"
    with (
        socket.socket(socket.AF_UNIX) as listener,
        run(tmp_path, toml(site(f"unix:{path}", pair, mode="tcp"))) as front,
    ):
        listener.bind(str(path))
        listener.listen()
        with Client(front.port, lab.root) as client:
            client.send(b"hello")
            sock, _ = listener.accept()
            with sock:
                assert sock.recv(5) == b"hello"


@pytest.mark.parametrize("who", ["client", "backend"])
def test_a_slow_side_slows_the_other(lab, pair, raw, tmp_path, who):
    """However much there is to send, little of it waits in the front; and all of it arrives."""
    amount = 64 * MIB
    sent, go = [], []

    def feed(visit):
        if who == "client":  # the client is the slow one: the backend sends
            for _ in range(amount // MIB):
                visit.send(bytes(MIB))
                sent.append(MIB)
            visit.sock.shutdown(socket.SHUT_WR)
        else:
            wait_until(lambda: go)
            with contextlib.suppress(ConnectionResetError):
                while visit.sock.recv(MIB):
                    pass

    def settled() -> bool:
        before = len(sent)
        time.sleep(0.2)  # nothing tells that somebody is stuck but that nothing moves
        return len(sent) == before

    with run(tmp_path, toml(relay(raw, pair))) as front, raw.does(feed), Client(front.port, lab.root) as client:
        client.sock.settimeout(30)
        if who == "client":
            wait_until(lambda: sent and settled())
            assert sum(sent) < amount // 2
            assert len(client.rest()) == amount
            return
        worker = front.pids("worker")[0]

        def memory() -> int:
            with open(f"/proc/{worker}/statm") as statm:  # noqa: PTH123  # a number of the kernel's, not a file of ours
                return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

        before = memory()
        client.sock.settimeout(0.5)
        with contextlib.suppress(TimeoutError):
            for _ in range(amount // MIB):
                client.send(bytes(MIB))
                sent.append(MIB)
        assert sum(sent) < amount // 2
        assert memory() - before < 8 * MIB
        go.append(True)


@pytest.mark.slow
def test_who_does_not_move_is_cut_off(lab, pair, raw, tmp_path):
    """After idle_timeout_s without a byte; one byte in either direction begins it anew."""
    limit = {"idle_timeout_s": 1}
    with (
        run(tmp_path, toml(relay(raw, pair), tcp=limit)) as front,
        raw.does(echo),
        Client(front.port, lab.root) as client,
    ):
        begin = time.monotonic()
        for _ in range(3):
            time.sleep(0.6)  # shorter than the limit, all together longer
            client.send(b"still here\r\n")
            assert client.line() == b"still here"
        assert client.is_cut()
        assert 2.7 < time.monotonic() - begin < PATIENCE_S


def test_alpn_is_not_looked_at_unless_it_is_set(lab, pair, raw, tmp_path):
    """Without a list any offer goes; with one the first that the client offers, or RFC 7301's fatal alert."""
    with run(tmp_path, toml(relay(raw, pair))) as front, raw.does(echo):
        assert "No ALPN negotiated" in s_client(front.port, "-alpn", "h2,imap", ca=lab.root)
    with run(tmp_path, toml(relay(raw, pair, alpn=["imap", "pop3"]))) as front, raw.does(echo):
        assert "ALPN protocol: imap" in s_client(front.port, "-alpn", "pop3,imap", ca=lab.root)
        assert "No ALPN negotiated" in s_client(front.port, ca=lab.root)
        assert alert_number(s_client(front.port, "-alpn", "http/1.1", ca=lab.root)) == 120


@pytest.mark.slow
def test_a_relay_may_go_on_while_the_front_stops(lab, pair, raw, tmp_path):
    """Nobody can tell where a conversation ends: `drain_timeout_s` is the bound."""
    with run(tmp_path, toml(relay(raw, pair), drain_timeout_s=1)) as front, raw.does(echo):
        with Client(front.port, lab.root) as client:
            client.send(b"one\r\n")
            assert client.line() == b"one"
            front.process.send_signal(signal.SIGTERM)
            front.wait_for_log("stopping")
            client.send(b"two\r\n")
            assert client.line() == b"two"
            assert client.is_cut()
        assert front.process.wait(PATIENCE_S) == 0


def test_http_and_tcp_stand_beside_each_other(lab, backend, raw, tmp_path):
    """The name that a client asks for chooses the mode."""
    web, mail = lab.issue("web.test", with_uri=False), lab.issue("mail.test", with_uri=False)
    with run(tmp_path, toml(site(backend, web) + relay(raw, mail))) as front:
        resolve = ("--resolve", f"web.test:{front.port}:127.0.0.1")
        assert '"method": "GET"' in curl(*resolve, f"https://web.test:{front.port}/", ca=lab.root).stdout
        with raw.does(echo_once):
            assert "220 hello" in s_client(front.port, "-quiet", ca=lab.root, name="mail.test", stdin="hello")


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_the_backend_is_told_who_the_client_is(lab, pair, raw, tmp_path, version):
    """Before the first byte, and once; what follows is the client's own."""
    heads = []

    def read(visit):
        data = b""
        while not data.endswith(b"hello"):
            data += visit.sock.recv(65_536)
        heads.append(data)
        visit.send(b"done\r\n")

    settings = {"proxy_protocol": version, "alpn": ["imap"]}
    with run(tmp_path, toml(relay(raw, pair, **settings))) as front, raw.does(read):
        context = ssl.create_default_context(cafile=lab.root)
        context.set_alpn_protocols(["imap"])
        with socket.create_connection(("127.0.0.1", front.port), PATIENCE_S) as sock:
            own = sock.getsockname()
            with context.wrap_socket(sock, server_hostname="localhost") as tls:
                tls.sendall(b"hello")
                assert tls.recv(100) == b"done\r\n"
        header = read_header(heads[0])
        assert (header.source.host, header.source.port) == own
        assert (header.destination.host, header.destination.port) == ("127.0.0.1", front.port)
        assert heads[0][header.size :] == b"hello"
        fields = dict(header.tlvs)
        if version == "v2":
            assert (fields[1], fields[2]) == (b"imap", b"localhost")
            assert b"TLSv1.3" in fields[0x20]


# ---- Plain HTTP where TLS belongs ----


@pytest.mark.parametrize("step", [1, 100])
def test_plain_http_is_told_so(lab, pair, backend, tmp_path, step):
    """As nginx does: one small answer, then the end. However slowly the method comes."""
    with run(tmp_path, toml(site(backend, pair))) as front:
        for method in (b"GET / HTTP/1.1", b"POST / HTTP/1.1", b"PRI * HTTP/2.0"):
            with socket.create_connection(("127.0.0.1", front.port), PATIENCE_S) as sock:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                request = method + b"\r\nHost: localhost\r\n\r\n"
                for at in range(0, 5, step):
                    sock.sendall(request[at : at + step])
                with contextlib.suppress(ConnectionError):
                    sock.sendall(request[at + step :])
                answer = b"".join(iter(lambda: sock.recv(65_536), b""))
                assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
                assert b"plain HTTP request was sent to an HTTPS port" in answer
        done = curl(f"http://localhost:{front.port}/", "-w", "%{http_code}", "-o", "/dev/null", ca=lab.root)
        assert done.stdout == "400"


def test_plain_http_means_nothing_where_there_is_no_http(lab, pair, raw, tmp_path):
    with run(tmp_path, toml(relay(raw, pair))) as front:
        assert ask(front.port, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n") == b""


def test_plain_http_is_told_so_only_where_there_is_http(lab, pair, backend, raw, tmp_path):
    """Each address by itself."""
    other = lab.issue("other.test", with_uri=False)
    http, tcp = (f"127.0.0.1:{free_port()}" for _ in range(2))
    sites = site(backend, pair, listen=[http]) + relay(raw, other, listen=[tcp])
    with run(tmp_path, toml(sites, listen=[http, tcp])):
        answers = [ask(int(each.rpartition(":")[2]), b"GET / HTTP/1.1\r\n\r\n") for each in (http, tcp)]
    assert answers[0].startswith(b"HTTP/1.1 400 ")
    assert answers[1] == b""


# ---- HSTS ----


def test_hsts_is_in_each_answer_once(lab, pair, raw, tmp_path):
    """The backend's own is replaced; the front's own errors have it too."""
    own = b"HTTP/1.1 200 OK\r\nstrict-transport-security: max-age=1\r\nContent-Length: 2\r\n\r\nok"

    def answers(visit):
        for answer in (peers.OK, own):
            visit.head()
            visit.send(answer)

    with raw.does(answers):
        settings = {"hsts_max_age_s": 31_536_000, "hsts_include_subdomains": True, "hsts_preload": True}
        with run(tmp_path, toml(site(raw.url, pair, **settings))) as front, Client(front.port, lab.root) as client:
            for request, status in ((peers.request(), 200), (peers.request(), 200), (b"GET / HTTP/1.1\r\n\r\n", 400)):
                client.send(request)
                answer = client.answer()
                assert answer.status == status
                expected = "max-age=31536000; includeSubDomains; preload"
                assert answer.all("Strict-Transport-Security") == [expected], request


def test_without_hsts_the_backends_own_is_left_alone(lab, pair, raw, tmp_path):
    own = b"HTTP/1.1 200 OK\r\nStrict-Transport-Security: max-age=1\r\nContent-Length: 2\r\n\r\nok"
    script = lambda visit: (visit.head(), visit.send(own))  # noqa: E731  # two steps, once
    with run(tmp_path, toml(site(raw.url, pair))) as front, raw.does(script), Client(front.port, lab.root) as client:
        assert client.ask().all("Strict-Transport-Security") == ["max-age=1"]


# ---- The redirecting port ----


@pytest.fixture
def redirecting(lab, pair, backend, tmp_path):
    """A front with a port that redirects; gives that port and the folder of challenges."""
    folder, port = tmp_path / "acme", free_port()
    folder.mkdir()
    settings = {"listen": [f"127.0.0.1:{port}"], "acme_folder": str(folder)}
    with run(tmp_path, toml(site(backend, pair), redirect=settings, http={"client_timeout_s": 2})) as front:
        yield front, port, folder


def ask(port: int, request: bytes, step: int = 65_536) -> bytes:
    with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(request), step):
            sock.sendall(request[at : at + step])
        return b"".join(iter(lambda: sock.recv(65_536), b""))


def test_everybody_is_sent_to_https(lab, redirecting):
    """Same host, same target; byte by byte too, and with a body that nobody reads."""
    front, port, _ = redirecting
    front.wait_for_log(
        f"ready: 1 worker accepts connections on 127.0.0.1:{front.port}, and redirect from 127.0.0.1:{port}"
    )
    request = b"POST /a?b=c%20d HTTP/1.1\r\nHost: LOCALHOST:8080\r\nContent-Length: 100000\r\n\r\n"
    for sent, step in ((request + b"x" * 100_000, 65_536), (request, 1)):
        answer = ask(port, sent, step)
        assert answer.startswith(b"HTTP/1.1 301 Moved Permanently\r\n")
        assert b"\r\nLocation: https://localhost/a?b=c%20d\r\n" in answer
        assert re.search(rb"\r\nDate: \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT\r\n", answer)
    done = curl("-w", "%{redirect_url}", "-o", "/dev/null", f"http://localhost:{port}/x", ca=lab.root)
    assert done.stdout == "https://localhost/x"


def test_a_challenge_is_shown(lab, redirecting):
    """What the ACME client has put there, and nothing else that the folder's neighbours have."""
    _, port, folder = redirecting
    (folder / "to-ken_1").write_text("to-ken_1.hash")
    (folder / "big").write_bytes(bytes(4097))
    (folder / "folder").mkdir()
    (folder.parent / "secret").write_text("secret")
    (folder / "link").symlink_to(folder.parent / "secret")
    os.mkfifo(folder / "pipe")
    url = f"http://localhost:{port}/.well-known/acme-challenge/"
    assert curl(f"{url}to-ken_1", ca=lab.root).stdout == "to-ken_1.hash"
    assert "Content-Length: 13" in curl("--head", f"{url}to-ken_1", ca=lab.root).stdout
    names = [
        "",
        "none",
        "big",
        "folder",
        "link",
        "pipe",
        "../secret",
        "%2e%2e/secret",
        "to-ken_1?",
        "to-ken_1/",
        "a" * 129,
    ]
    for name in names:
        done = curl("--path-as-is", "-w", "%{http_code}", "-o", "/dev/null", url + name, ca=lab.root)
        assert done.stdout == "404", name


@pytest.mark.slow
def test_who_is_slow_or_endless_on_the_redirecting_port_is_ended(redirecting):
    """The limits are those of [http]: a head may take no longer than client_timeout_s, trickled or not."""
    front, port, _ = redirecting
    assert ask(port, b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 40_000).startswith(b"HTTP/1.1 431 ")
    with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as sock:
        begin, answer = time.monotonic(), b""
        sock.settimeout(0.2)
        while not answer:
            sock.sendall(b"G")
            with contextlib.suppress(TimeoutError):
                answer = sock.recv(100)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert 1.5 < time.monotonic() - begin < 6
    assert "Traceback" not in front.log


def test_an_open_connection_to_the_redirecting_port_does_not_delay_the_stop(redirecting):
    front, port, _ = redirecting
    with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as sock:
        sock.sendall(b"GET ")
        begin = time.monotonic()
        assert front.stop() == 0
        assert time.monotonic() - begin < 5

"""The access log of the real proxy: what the lines say, rotation under load, a full disk."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import threading
from typing import TYPE_CHECKING

import pytest
from integration import front
from integration.clients import curl, s_client
from integration.conftest import free_port
from integration.front import wait_until
from integration.peers import OK, PATIENCE_S, Client, Proxied, backend, chunked, request, serve_ok
from integration.tables import proxied_with

if TYPE_CHECKING:
    from pathlib import Path


def logging_proxy(folder: Path, upstream: str, path: str | Path, form: str = "json", **settings):
    """The proxy with an access log."""
    return proxied_with(folder, upstream, access_log={"path": str(path), "format": form}, **settings)


def json_lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def wait_for_lines(path: Path, count: int) -> list[dict]:
    wait_until(lambda: len(json_lines(path)) >= count, what=f"{count} lines")
    return json_lines(path)


@pytest.fixture(scope="module")
def origin():
    with backend() as made:
        yield made


@pytest.fixture(scope="module")
def logged(origin, tmp_path_factory):
    folder = tmp_path_factory.mktemp("logged")
    path = folder / "access.log"
    with logging_proxy(folder, origin.url, path) as proxy:
        yield proxy, path


@pytest.fixture
def new_lines(logged):
    """The lines that a test adds: call it with how many it waits for."""
    _, path = logged
    before = len(json_lines(path))
    return lambda count: wait_for_lines(path, before + count)[before:]


def test_a_request_is_a_line(logged, origin, new_lines):
    proxy, _ = logged
    with origin.does(lambda visit: (visit.head(), visit.send(OK))), proxy.client() as client:
        client.send(request("/path?q=1", "GET", 'User-Agent: "x" \\', "Referer: http://e.test/"))
        assert client.answer().body == b"ok"
    (told,) = new_lines(1)
    assert (told["remote_addr"], told["request_method"], told["request_uri"]) == ("127.0.0.1", "GET", "/path?q=1")
    assert (told["status"], told["body_bytes_sent"]) == (200, 2)
    assert told["bytes_sent"] > 2
    assert told["user_agent"] == '"x" \\'
    assert told["request_length"] == len(request("/path?q=1", "GET", 'User-Agent: "x" \\', "Referer: http://e.test/"))
    assert told["upstream_addr"] == origin.url
    assert told["upstream_status"] == 200
    assert 0 <= told["upstream_response_time"] <= told["request_time"] < 5
    assert (told["ssl_protocol"], told["ssl_server_name"]) == ("TLSv1.3", "localhost")
    assert told["staple"] == "not-asked"
    assert told["request_completion"] is True


def test_requests_of_one_connection_are_counted(logged, origin, new_lines):
    """Pipelined ones too, in their order."""
    proxy, _ = logged
    with origin.does(serve_ok), proxy.client() as client:
        client.send(request("/1") + request("/2", "POST", body=b"abc") + request("/3"))
        assert [client.answer().status for _ in range(3)] == [200] * 3
    told = new_lines(3)
    assert [(each["request_uri"], each["connection_requests"]) for each in told] == [("/1", 1), ("/2", 2), ("/3", 3)]
    assert len({each["connection"] for each in told}) == 1
    assert sum(each["request_length"] for each in told) == len(
        request("/1") + request("/2", "POST", body=b"abc")
    ) + len(request("/3"))


def test_what_was_refused_has_a_line(logged, new_lines):
    """Whether its head could be read or not."""
    proxy, _ = logged
    with proxy.client() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\nbad header\r\n\r\n")
        assert client.answer().status == 400
    with proxy.client() as client:
        client.send(request("/x", "CONNECT"))
        assert client.answer().status >= 400
    first, second = new_lines(2)
    assert (first["status"], first["request_method"], first["upstream_addr"]) == (400, None, None)
    assert (second["request_method"], second["status"] >= 400) == ("CONNECT", True)


def test_a_client_that_leaves_is_499(logged, origin, new_lines):
    """nginx's number for it; nothing was said to the client."""
    proxy, _ = logged
    asked = threading.Event()

    def script(visit):
        visit.head()
        asked.set()
        visit.is_closed()

    with origin.does(script):
        with proxy.client() as client:
            client.send(request("/slow"))
            assert asked.wait(10)
        (told,) = new_lines(1)
    assert (told["status"], told["request_completion"], told["bytes_sent"]) == (499, False, 0)


def test_an_answer_that_breaks_off_is_not_complete(logged, origin, new_lines):
    proxy, _ = logged

    def script(visit):
        visit.head()
        visit.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        visit.close()

    with origin.does(script), proxy.client() as client:
        client.send(request("/broken"))
        assert client.is_cut()
    (told,) = new_lines(1)
    assert (told["status"], told["request_completion"], told["body_bytes_sent"]) == (200, False, 4)


def test_a_backend_that_fails_is_told(logged, origin, new_lines):
    proxy, _ = logged
    with origin.does(lambda visit: (visit.head(), visit.close())), proxy.client() as client:
        client.send(request("/gone", "POST", body=b"x"))
        assert client.answer().status == 502
    (told,) = new_lines(1)
    assert (told["status"], told["upstream_status"], told["upstream_addr"]) == (502, None, origin.url)


def test_an_upgrade_is_one_line_when_it_is_over(logged, origin, new_lines):
    proxy, _ = logged

    def script(visit):
        visit.head()
        visit.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nhello")
        visit.send(visit.read(5))

    with origin.does(script), proxy.client() as client:
        client.send(request("/ws", "GET", "Connection: Upgrade", "Upgrade: echo"))
        assert client.head().status == 101
        assert client.exactly(5) == b"hello"
        client.send(b"world")
        assert client.exactly(5) == b"world"
        client.end()
    (told,) = new_lines(1)
    assert (told["status"], told["body_bytes_sent"]) == (101, 10)


def test_chunked_bodies_count_as_they_are_sent(logged, origin, new_lines):
    proxy, _ = logged

    def script(visit):
        visit.head()
        visit.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"abc"))

    with origin.does(script), proxy.client() as client:
        assert client.ask("/chunked").body == b"abc"
    (told,) = new_lines(1)
    assert told["body_bytes_sent"] == len(chunked(b"abc"))


@pytest.mark.slow
def test_the_staple_of_the_connection(lab, backend, tmp_path):
    """Fresh with age and size, not asked, resumed, and none before the responder answers."""
    files = lab.issue("localhost", "127.0.0.1")
    path = tmp_path / "access.log"
    form = "$uri $staple $staple_age $staple_bytes $ssl_session_reused"
    configuration = front.toml(
        front.site(backend, files),
        stapling={"warmup_timeout_s": 1, "retry_min_interval_s": 0.2, "retry_max_interval_s": 0.2},
        access_log={"path": str(path), "format": form},
    )
    get = "GET {} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"

    def ask(target: str, *options: str) -> None:
        s_client(running.port, "-ign_eof", *options, ca=lab.root, stdin=get.format(target))

    with front.run(tmp_path, configuration) as running:
        ask("/none", "-status")
        ask("/not-asked")
        with lab.responder():
            wait_until(lambda: "Cert Status: good" in s_client(running.port, "-status", ca=lab.root))
            session = tmp_path / "session"
            ask("/fresh", "-status", "-sess_out", str(session))
            ask("/resumed", "-status", "-sess_in", str(session))
        wait_until(lambda: path.exists() and path.read_text().count("\n") == 4)
        assert running.stop() == 0
    none, not_asked, fresh, resumed = path.read_text().splitlines()
    assert none == "/none none - - ."
    assert not_asked == "/not-asked not-asked - - ."
    assert re.fullmatch(r"/fresh fresh \d+ [1-9]\d{2,3} \.", fresh)
    assert resumed == "/resumed resumed - - r"


@pytest.mark.slow
def test_a_connection_that_is_refused_for_want_of_a_staple(lab, backend, tmp_path):
    """The only handshake that fails and has a line: nobody would see it elsewhere."""
    files = lab.issue("localhost", "127.0.0.1")
    path = tmp_path / "access.log"
    configuration = front.toml(
        front.site(backend, files),
        stapling={"warmup_timeout_s": 1, "on_missing": "refuse"},
        access_log={"path": str(path), "format": "%a %{SSL_TLS_SNI}x [%r] %>s $staple"},
    )
    with front.run(tmp_path, configuration) as running:
        s_client(running.port, "-status", ca=lab.root)
        s_client(running.port, "-tls1_1", ca=lab.root)
        wait_until(path.read_text)
        assert running.stop() == 0
    assert path.read_text() == "127.0.0.1 localhost [-] 000 refused\n"


def relayed(folder: Path, lab, upstream: str, **settings) -> str:
    """A configuration in mode tcp that logs to `access.log` in `folder`."""
    files = lab.issue("localhost", "127.0.0.1", with_uri=False)
    log = {"path": str(folder / "access.log"), "format": "json"}
    return front.toml(front.site(upstream, files, mode="tcp"), access_log=log, **settings)


@pytest.mark.slow
def test_a_relayed_connection_is_one_line(lab, origin, tmp_path):
    """When it is over: the bytes of both directions, how long it lasted, where it went, and the TLS under it."""

    def script(visit):
        visit.send(b"220 ready\r\n")
        assert visit.read(6) == b"QUIT\r\n"
        visit.sock.shutdown(socket.SHUT_WR)

    upstream = origin.url.replace("http:", "tcp:")
    with (
        front.run(tmp_path, relayed(tmp_path, lab, upstream)) as running,
        origin.does(script),
        Client(running.port, lab.root) as client,
    ):
        assert client.line() == b"220 ready"
        client.send(b"QUIT\r\n")
        assert client.is_closed()
        client.end()
        (told,) = wait_for_lines(tmp_path / "access.log", 1)
    assert (told["status"], told["request_completion"]) == (200, True)
    assert (told["bytes_sent"], told["request_length"]) == (11, 6)
    assert (told["request_method"], told["request_uri"], told["upstream_status"]) == (None, None, None)
    assert (told["upstream_addr"], told["host"], told["remote_addr"]) == (upstream, "localhost", "127.0.0.1")
    assert 0 <= told["upstream_response_time"] <= told["request_time"] < 20
    assert (told["ssl_protocol"], told["staple"]) == ("TLSv1.3", "not-asked")


@pytest.mark.slow
def test_a_relayed_connection_that_is_cut_is_not_complete(lab, origin, tmp_path):
    """It was relayed all the same: 200, as nginx writes of its streams."""

    def script(visit):
        visit.send(b"220 ready\r\n")
        visit.is_closed()

    upstream = origin.url.replace("http:", "tcp:")
    with front.run(tmp_path, relayed(tmp_path, lab, upstream)) as running, origin.does(script):
        with Client(running.port, lab.root) as client:
            assert client.line() == b"220 ready"
        (told,) = wait_for_lines(tmp_path / "access.log", 1)
    assert (told["status"], told["request_completion"], told["bytes_sent"]) == (200, False, 11)


@pytest.mark.slow
def test_a_connection_that_no_backend_took_is_502(lab, tmp_path):
    configuration = relayed(tmp_path, lab, f"tcp://127.0.0.1:{free_port()}")
    with front.run(tmp_path, configuration) as running:
        with Client(running.port, lab.root) as client:
            assert client.is_cut()
        (told,) = wait_for_lines(tmp_path / "access.log", 1)
    assert (told["status"], told["upstream_addr"], told["bytes_sent"]) == (502, None, 0)


def test_requests_to_the_redirecting_port_have_lines(lab, origin, tmp_path):
    """With what was asked, what was said, and no word of TLS; one that could not be read is a line too."""
    port, files, path = free_port(), lab.issue("localhost", with_uri=False), tmp_path / "access.log"
    form = "$remote_addr [$request] $status $body_bytes_sent $request_length $scheme $host $http_user_agent $staple"
    configuration = front.toml(
        front.site(origin.url, files),
        redirect={"listen": [f"127.0.0.1:{port}"]},
        access_log={"path": str(path), "format": form},
    )
    asked = b"GET /x?y HTTP/1.1\r\nHost: www.test\r\nUser-Agent: me\r\n\r\n"
    with front.run(tmp_path, configuration) as running:
        bodies = []
        for data in (asked, b"no request\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as sock:
                sock.sendall(data)
                bodies.append(len(sock.makefile("rb").read().partition(b"\r\n\r\n")[2]))
        with socket.create_connection(("127.0.0.1", port), PATIENCE_S):
            pass  # who asks nothing has no line
        assert running.stop() == 0
    first, second = path.read_text().splitlines()
    assert first == f"127.0.0.1 [GET\\x20/x?y\\x20HTTP/1.1] 301 {bodies[0]} {len(asked)} http www.test me -"
    assert second == f"127.0.0.1 [-] 400 {bodies[1]} 14 http - - -"


def test_what_is_written_at_the_stop(backend, tmp_path):
    """Nothing waits for the second to be over then."""
    path = tmp_path / "access.log"
    with logging_proxy(tmp_path, backend, path, "common") as proxy:
        for number in range(20):
            proxy.ask(f"/?{number}")
        assert proxy.front.stop() == 0
    assert path.read_text().count("\n") == 20


def test_a_request_that_is_cut_at_the_stop_has_its_line(origin, tmp_path):
    """Its time was over: nothing was said to the client, and the line says so."""
    path, asked = tmp_path / "access.log", threading.Event()

    def script(visit):
        visit.head()
        asked.set()
        visit.is_closed()

    with (
        logging_proxy(tmp_path, origin.url, path, drain_timeout_s=0.2) as proxy,
        origin.does(script),
        proxy.client() as client,
    ):
        client.send(request("/cut"))
        assert asked.wait(10)
        assert proxy.front.stop() == 0
    (told,) = json_lines(path)
    assert (told["request_uri"], told["request_completion"]) == ("/cut", False)


def load(proxy: Proxied, stop: threading.Event, counts: list[int]) -> None:
    """Ask one thing after the other until told to stop; how many answers there were is added."""
    count = 0
    with Client(proxy.front.port, proxy.root) as client:
        while not stop.is_set():
            assert client.ask(f"/?{count}").status == 200
            count += 1
    counts.append(count)


@pytest.mark.slow
def test_rotation_under_load_loses_and_tears_nothing(backend, tmp_path):
    """Two workers, four clients, six rotations by rename and SIGUSR1: as many whole lines as answers."""
    path = tmp_path / "access.log"
    with logging_proxy(tmp_path, backend, path, workers=2) as proxy:
        stop, counts = threading.Event(), []
        threads = [threading.Thread(target=load, args=(proxy, stop, counts)) for _ in range(4)]
        for thread in threads:
            thread.start()
        rotated = []
        for number in range(6):
            wait_until(lambda: path.exists() and path.stat().st_size > 10_000)
            old = path.with_suffix(f".{number}")
            path.rename(old)
            proxy.front.process.send_signal(signal.SIGUSR1)
            rotated.append(old)
        stop.set()
        for thread in threads:
            thread.join()
        assert len(counts) == 4
        assert proxy.front.stop() == 0
    files = [*rotated, path]
    lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    assert len(lines) == sum(counts)
    assert len({(each["pid"], each["connection"], each["connection_requests"]) for each in lines}) == len(lines)


def test_sigusr1_ends_nobody_without_a_log(backend, tmp_path):
    """Whoever rotates logs does not know who has one."""
    with logging_proxy(tmp_path, backend, tmp_path / "log") as proxy:
        for pid in proxy.front.pids("keeper"):
            subprocess.run(["kill", "-USR1", str(pid)], check=True)
        proxy.front.process.send_signal(signal.SIGUSR1)
        assert proxy.ask("/").status == 200
    ca = tmp_path / "root.pem"
    (key,) = tmp_path.glob("localhost*.key")
    with front.run(tmp_path, front.toml(front.site(backend, (key.with_suffix(".pem"), key)))) as running:
        running.process.send_signal(signal.SIGUSR1)
        assert curl(f"https://localhost:{running.port}/", ca=ca).returncode == 0
        assert running.stop() == 0


@pytest.mark.slow
def test_a_full_disk_delays_nobody(backend, tmp_path):
    """/dev/full: requests go on, the trouble is told once, and the stop is not held up."""
    with logging_proxy(tmp_path, backend, "/dev/full", "combined") as proxy:
        with proxy.client() as client:
            for _ in range(200):
                assert client.ask("/").status == 200
        proxy.front.wait_for_log("access log /dev/full cannot be written: No space left on device; trying again")
        assert proxy.front.stop() == 0
        assert proxy.front.log.count("cannot be written") == 1


@pytest.mark.parametrize(
    ("path", "why"),
    [("/proc/nothing/log", "cannot be opened: No such file or directory"), (".", "cannot be opened: Is a directory")],
)
def test_a_log_that_cannot_be_opened_is_told_at_the_start(lab, tmp_path, path, why):
    files = lab.issue("localhost")
    text = front.toml(front.site("http://127.0.0.1:1", files), access_log={"path": path})
    with front.run(tmp_path, text, until_ready=False) as running:
        assert running.process.wait(20) != 0
        assert why in running.log
        assert "Traceback" not in running.log


@pytest.mark.slow
def test_standard_output(backend, tmp_path):
    """For containers: lines among what the process says there."""
    with logging_proxy(tmp_path, backend, "-", "common") as proxy:
        proxy.ask("/?hello")
        proxy.front.wait_for_log(r'127\.0\.0\.1 - - \[.*\] "GET /\?hello HTTP/1\.1" 200 \d+\n')

"""Limits of the real proxy: connections, descriptors, and clients that trickle."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import socket
import ssl
import time
from pathlib import Path

import pytest
from integration.front import wait_until
from integration.peers import Truncated, backend, proxied, request
from integration.tables import proxied_with

TRICKLE_S = 0.05
QUIET_CPU_S = 0.25


@pytest.fixture(scope="module")
def origin():
    with backend() as made:
        yield made


def cpu_s(pid: int) -> float:
    """User and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def is_refused(port: int) -> bool:
    """The connection is made, and closed before anything is said."""
    with socket.create_connection(("127.0.0.1", port), 10) as sock:
        sock.settimeout(10)
        try:
            return sock.recv(1) == b""
        except ConnectionError:
            return True


# Connections.


def test_more_connections_than_there_may_be_are_closed_at_once(origin, tmp_path):
    """Those that are open go on; who leaves makes room; the log has a line for many."""
    with proxied_with(tmp_path, origin.url, limits={"max_connections": 3}) as proxy, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(proxy.client()) for _ in range(3)]
        for _ in range(30):
            assert is_refused(proxy.front.port)
        assert [client.ask().status for client in clients] == [200] * 3
        clients[0].sock.close()
        wait_until(lambda: not refused_when_asked(proxy))
        proxy.front.wait_for_log(r"connections closed as they came, the last: limits\.max_connections")
        assert proxy.front.log.count("connections closed as they came") < 10


def refused_when_asked(proxy) -> bool:
    try:
        return proxy.ask().status != 200
    except (OSError, ssl.SSLError, Truncated):
        return True


def test_one_client_cannot_take_the_places_of_all(origin, tmp_path):
    """127.0.0.2 is another one."""
    with (
        proxied_with(tmp_path, origin.url, limits={"max_connections_per_client": 2}) as proxy,
        contextlib.ExitStack() as stack,
    ):
        clients = [stack.enter_context(proxy.client()) for _ in range(2)]
        assert is_refused(proxy.front.port)
        other = stack.enter_context(socket.create_connection(("127.0.0.1", proxy.front.port), 10, ("127.0.0.2", 0)))
        context = ssl.create_default_context(cafile=proxy.root)
        with context.wrap_socket(other, server_hostname="localhost") as tls:
            tls.sendall(request())
            assert tls.recv(100).startswith(b"HTTP/1.1 200")
        assert clients[1].ask().status == 200
        proxy.front.wait_for_log(r"1 connections closed as they came, the last of 127\.0\.0\.1: limits\.max_conn")


# Descriptors.


@pytest.mark.slow
def test_at_the_limit_of_descriptors_clients_wait_and_nothing_spins(origin, tmp_path):
    """The limit is lowered as it runs: who is connected is served, who comes waits in the queue, then gets in."""
    with proxied_with(tmp_path, origin.url) as proxy, contextlib.ExitStack() as stack:
        worker = proxy.worker
        assert proxy.ask().status == 200
        resource.prlimit(worker, resource.RLIMIT_NOFILE, (80, 4096))
        looked_by = time.monotonic() + 2.0
        wait_until(lambda: time.monotonic() > looked_by)  # it looks each second
        clients: list = []
        while "no client is accepted for now" not in proxy.front.log:
            clients.append(stack.enter_context(proxy.client()))
            assert clients[-1].ask().status == 200
            assert len(clients) < 100
        waiting = [
            stack.enter_context(socket.create_connection(("127.0.0.1", proxy.front.port), 10)) for _ in range(20)
        ]
        before = cpu_s(worker)
        until = time.monotonic() + 2.5
        wait_until(lambda: time.monotonic() > until)
        assert cpu_s(worker) - before < QUIET_CPU_S
        assert descriptors(worker) < 80
        for client in clients:
            assert client.ask().status == 200
        for sock in waiting:
            sock.setblocking(False)
            with pytest.raises(BlockingIOError):
                sock.recv(1)
        for client in clients:
            client.sock.close()
        proxy.front.wait_for_log("clients are accepted again")
        for sock in waiting:
            sock.close()
        wait_until(lambda: not refused_when_asked(proxy))
        assert proxy.front.log.count("no client is accepted for now") == 1
        assert proxy.front.stop() == 0


@pytest.mark.slow
def test_a_limit_below_what_is_open_does_not_make_it_spin(origin, tmp_path):
    """Not a single descriptor more is to be had: the event loop by itself would try again in each of its rounds."""
    with proxied_with(tmp_path, origin.url) as proxy, contextlib.ExitStack() as stack:
        worker = proxy.worker
        client = stack.enter_context(proxy.client())
        assert client.ask().status == 200
        resource.prlimit(worker, resource.RLIMIT_NOFILE, (4, 4096))
        for _ in range(20):
            stack.enter_context(socket.create_connection(("127.0.0.1", proxy.front.port), 10))
        proxy.front.wait_for_log("no client is accepted for now")
        before = cpu_s(worker)
        until = time.monotonic() + 2.0
        wait_until(lambda: time.monotonic() > until)
        assert cpu_s(worker) - before < QUIET_CPU_S
        assert client.ask().status == 200
        resource.prlimit(worker, resource.RLIMIT_NOFILE, (4096, 4096))
        proxy.front.wait_for_log("clients are accepted again")
        assert proxy.ask().status == 200


# Trickles: a byte now and then does not keep a connection for ever. Each waits for the end of it.


def trickle(client, piece: bytes, give_up_after_s: float = 15.0) -> float:
    """Send a byte at a time until the proxy has ended it; how long that took."""
    began = time.monotonic()
    client.sock.settimeout(TRICKLE_S)
    with contextlib.suppress(OSError, ssl.SSLError):
        while time.monotonic() - began < give_up_after_s:
            client.send(piece)
            with contextlib.suppress(TimeoutError):
                if client.sock.recv(1, socket.MSG_PEEK):
                    return time.monotonic() - began
                break
    return time.monotonic() - began


@pytest.mark.slow
def test_a_head_that_trickles(origin, tmp_path):
    with proxied(tmp_path, origin.url, client_timeout_s=1) as proxy, proxy.client() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ")
        assert trickle(client, b"x") < 4
        client.sock.settimeout(10)
        assert client.answer().status == 408


@pytest.mark.slow
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_body_that_trickles(origin, tmp_path, framing):
    """Twenty bytes a second are something each time, and too little: 408, and the backend sees the end."""
    with proxied(tmp_path, origin.url, client_timeout_s=1, client_min_bytes_per_second=100) as proxy:
        head = "Transfer-Encoding: chunked" if framing == "chunked" else "Content-Length: 1000000"
        with origin.does(read_to_the_end), proxy.client() as client:
            client.send(request("/", "POST", head))
            assert trickle(client, b"x" if framing == "length" else b"1\r\nx\r\n") < 5
            client.sock.settimeout(10)
            assert client.answer().status == 408


def read_to_the_end(visit) -> None:
    with contextlib.suppress(ConnectionError):
        while visit.read(1):
            pass


@pytest.mark.slow
def test_a_slow_body_that_is_fast_enough(origin, tmp_path):
    """For several times the time-out, at a pace above the least."""
    http = {"client_timeout_s": 1, "client_min_bytes_per_second": 100}
    with proxied(tmp_path, origin.url, **http) as proxy, proxy.client() as client:
        client.send(request("/", "POST", "Content-Length: 4000"))
        for _ in range(40):
            client.send(b"x" * 100)
            time.sleep(0.1)  # the pace itself is what is tried
        assert client.answer().status == 200


@pytest.mark.slow
def test_an_answer_that_is_taken_in_drops(origin, tmp_path):
    """A client that reads a little each time, with the worker's buffers full, is cut off."""
    body = 64 << 20

    def script(visit):
        visit.head()
        with contextlib.suppress(OSError):
            visit.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % body + bytes(body))

    with (
        proxied(tmp_path, origin.url, client_timeout_s=2, client_min_bytes_per_second=100_000) as proxy,
        origin.does(script),
        proxy.client(receive_buffer=4096) as client,
    ):
        client.send(request())
        began, taken = time.monotonic(), 0
        with contextlib.suppress(OSError):
            while time.monotonic() - began < 30 and (data := client.sock.recv(512)):
                taken += len(data)
                time.sleep(TRICKLE_S)
        assert time.monotonic() - began < 20
        assert taken < body // 4


@pytest.mark.slow
def test_a_handshake_that_trickles(origin, tmp_path):
    """Byte after byte of a ClientHello: the whole of it has its time."""
    with proxied_with(tmp_path, origin.url, tls={"handshake_timeout_s": 1}) as proxy:
        hello = b"\x16\x03\x01\x10\x00\x01\x00\x0f\xfc\x03\x03" + bytes(4000)
        with socket.create_connection(("127.0.0.1", proxy.front.port), 10) as sock:
            began = time.monotonic()
            with contextlib.suppress(OSError):
                for at in range(len(hello)):
                    sock.sendall(hello[at : at + 1])
                    sock.settimeout(TRICKLE_S)
                    with contextlib.suppress(TimeoutError):
                        if sock.recv(1) == b"":
                            break
            assert time.monotonic() - began < 5


@pytest.mark.slow
def test_a_backend_whose_head_trickles(origin, tmp_path):
    """A byte of the head does not prolong the time for it: 504."""

    def script(visit):
        visit.head()
        with contextlib.suppress(OSError):
            visit.send(b"HTTP/1.1 200 OK\r\nX: ")
            for _ in range(200):
                visit.send(b"x")
                time.sleep(TRICKLE_S)

    with proxied(tmp_path, origin.url, upstream_timeout_s=1) as proxy, origin.does(script):
        began = time.monotonic()
        assert proxy.ask().status == 504
        assert time.monotonic() - began < 5


@pytest.mark.slow
def test_a_backend_that_streams_slowly_may(origin, tmp_path):
    """Events sent now and then are what some backends are for."""

    def script(visit):
        visit.head()
        visit.send(b"HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n")
        for _ in range(30):
            visit.send(b"x")
            time.sleep(0.1)

    with proxied(tmp_path, origin.url, upstream_timeout_s=1, client_timeout_s=1) as proxy, origin.does(script):
        assert proxy.ask().body == b"x" * 30


@pytest.mark.slow
def test_a_head_and_a_first_byte_have_limits_of_their_own(origin, tmp_path):
    """A client may be slow with a body and not with a head, a backend with its first byte and not between others."""

    def thoughtful(visit):
        visit.head()
        time.sleep(0.8)
        visit.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nok")
        visit.head()  # until it is closed

    limits = {"client_head_timeout_s": 0.3, "upstream_first_byte_timeout_s": 10, "upstream_timeout_s": 0.3}
    with proxied(tmp_path, origin.url, **limits) as proxy:
        with origin.does(thoughtful), proxy.client() as client:
            client.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            began = time.monotonic()
            assert client.head().status == 200, "it began after more than upstream_timeout_s"
            assert client.exactly(2) == b"ok"
            assert client.is_cut(), "the rest did not come in time"
            assert time.monotonic() - began < 5
        with proxy.client() as client:
            client.send(b"GET / HTTP/1.1\r\n")
            began = time.monotonic()
            assert client.head().status == 408
            assert time.monotonic() - began < 5


@pytest.mark.slow
def test_two_thousand_trickling_clients_beside_normal_ones(origin, tmp_path):
    """See benchmarks/slow_clients.py for the figures: here all are served, and memory per client is bounded."""
    count = 2000
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with proxied(tmp_path, origin.url) as proxy, contextlib.ExitStack() as stack:
        assert proxy.ask().status == 200
        before = resident_kib(proxy.worker)
        clients = []
        for _ in range(count):
            clients.append(stack.enter_context(proxy.client()))
            clients[-1].send(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ")
        for client in clients:
            client.send(b"x")
        with proxy.client() as client:
            began = time.monotonic()
            for _ in range(50):
                assert client.ask().status == 200
            assert time.monotonic() - began < 10
        assert (resident_kib(proxy.worker) - before) / count < 64


def resident_kib(pid: int) -> int:
    return int(re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[1])

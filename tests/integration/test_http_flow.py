"""Bodies through the proxy: whole, in every size, and no faster than the slower side takes them."""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import socket
import ssl
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from integration.front import wait_until
from integration.peers import OK, backend, chunked, proxied, request

MIB = 1 << 20
LARGE = 300
ALLOWED_GROWTH_MIB = 16
STILL_S = 0.5
# Around what TLS puts into one record, and around what the proxy reads and writes at once.
SIZES = (0, 1, 16_383, 16_384, 16_385, 262_143, 262_144, 262_145)
BLOCK = os.urandom(MIB)


@pytest.fixture(scope="module")
def origin():
    with backend() as made:
        yield made


@pytest.fixture(scope="module")
def proxy(origin, tmp_path_factory):
    with proxied(tmp_path_factory.mktemp("flow"), origin.url) as running:
        yield running


@pytest.fixture(scope="module")
def lab_proxy(backend, tmp_path_factory):
    """Before the lab's backend, whose /echo streams."""
    with proxied(tmp_path_factory.mktemp("lab"), backend) as running:
        yield running


def resident_mib(pid: int) -> float:
    return int(re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[1]) / 1024


def settled(value, within_s: float = 20.0):
    """`value()` once it has not changed for a while."""
    last, since = value(), time.monotonic()

    def is_still():
        nonlocal last, since
        now = value()
        if now != last:
            last, since = now, time.monotonic()
        return time.monotonic() - since >= STILL_S

    wait_until(is_still, within_s, "standstill")
    return last


def digest(blocks: int) -> str:
    sha = hashlib.sha256()
    for _ in range(blocks):
        sha.update(BLOCK)
    return sha.hexdigest()


def digest_of(read, count: int) -> str:
    sha = hashlib.sha256()
    while count:
        piece = read(min(MIB, count))
        assert piece, f"{count} bytes are missing"
        count -= len(piece)
        sha.update(piece)
    return sha.hexdigest()


@pytest.mark.slow
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_client_that_reads_nothing_stops_the_backend(origin, proxy, framing):
    """The worker holds little of the answer however large it is; then all of it arrives whole."""

    def script(visit):
        visit.head()
        head = b"Transfer-Encoding: chunked" if framing == "chunked" else b"Content-Length: %d" % (LARGE * MIB)
        visit.send(b"HTTP/1.1 200 OK\r\n%b\r\n\r\n" % head)
        for _ in range(LARGE):
            visit.send(b"%x\r\n%b\r\n" % (MIB, BLOCK) if framing == "chunked" else BLOCK)
            sent.append(MIB)
        if framing == "chunked":
            visit.send(b"0\r\n\r\n")

    sent: list[int] = []
    proxy_before = resident_mib(proxy.worker)
    with origin.does(script), proxy.client(receive_buffer=65_536) as client:
        client.send(request())
        wait_until(lambda: sent, what="the begin of the answer")
        assert settled(lambda: len(sent)) < 30
        assert resident_mib(proxy.worker) - proxy_before < ALLOWED_GROWTH_MIB
        assert client.head().status == 200
        if framing == "chunked":
            sha = hashlib.sha256()
            for piece in iter(client.chunk, b""):
                sha.update(piece)
            assert sha.hexdigest() == digest(LARGE)
        else:
            assert digest_of(client.exactly, LARGE * MIB) == digest(LARGE)
        assert resident_mib(proxy.worker) - proxy_before < ALLOWED_GROWTH_MIB


@pytest.mark.slow
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_backend_that_reads_nothing_stops_the_client(origin, proxy, framing):
    """The worker holds little of the upload however large it is; then all of it arrives whole."""

    def script(visit):
        head = visit.head()
        go_on.wait(30)
        if framing == "chunked":
            got.append(hashlib.sha256(visit.body(head)).hexdigest())
        else:
            got.append(digest_of(visit.read, LARGE * MIB))
        visit.send(OK)

    def upload():
        head = "Transfer-Encoding: chunked" if framing == "chunked" else f"Content-Length: {LARGE * MIB}"
        client.send(request("/", "POST", head))
        for _ in range(LARGE):
            client.send(b"%x\r\n%b\r\n" % (MIB, BLOCK) if framing == "chunked" else BLOCK)
            sent.append(MIB)
        if framing == "chunked":
            client.send(b"0\r\n\r\n")

    go_on, sent, got = threading.Event(), [], []
    before = resident_mib(proxy.worker)
    with origin.does(script), proxy.client() as client:
        thread = threading.Thread(target=upload, daemon=True)
        client.sock.settimeout(60)
        thread.start()
        wait_until(lambda: sent, what="the begin of the upload")
        assert settled(lambda: len(sent)) < 30
        assert resident_mib(proxy.worker) - before < ALLOWED_GROWTH_MIB
        go_on.set()
        thread.join(60)
        assert client.answer().body == b"ok"
        assert got == [digest(LARGE)]
        assert resident_mib(proxy.worker) - before < ALLOWED_GROWTH_MIB


@pytest.mark.slow
def test_pipelined_large_answers_to_a_client_that_reads_nothing(origin, proxy):
    """The second answer does not begin before the client has taken the first."""

    def script(visit):
        while visit.head():
            asked.append(visit.number)
            visit.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (20 * MIB))
            for _ in range(20):
                visit.send(BLOCK)

    asked: list[int] = []
    before = resident_mib(proxy.worker)
    with origin.does(script), proxy.client(receive_buffer=65_536) as client:
        client.send(request() * 10)
        wait_until(lambda: asked, what="the first request")
        assert settled(lambda: len(asked)) == 1
        assert resident_mib(proxy.worker) - before < ALLOWED_GROWTH_MIB
        for _ in range(10):
            assert client.head().status == 200
            assert digest_of(client.exactly, 20 * MIB) == digest(20)


class Echo:
    """/echo of the lab's backend, asked by http.client."""

    def __init__(self, proxy):
        context = ssl.create_default_context(cafile=proxy.root)
        self.connection = http.client.HTTPSConnection("localhost", proxy.front.port, context=context, timeout=20)
        self.connection._create_connection = lambda *_: socket.create_connection(("127.0.0.1", proxy.front.port), 20)
        self.close = self.connection.close

    def __call__(self, body: bytes, piece: int = 0) -> bytes:
        """`piece`: the size of the chunks; 0: with Content-Length."""
        pieces = (body[at : at + piece] for at in range(0, len(body), piece)) if piece else None
        self.connection.request(
            "POST", "/echo", body=pieces or body, encode_chunked=bool(piece),
            headers={"Transfer-Encoding": "chunked"} if piece else {},
        )  # fmt: skip
        return self.connection.getresponse().read()


@pytest.mark.parametrize("is_chunked", [False, True])
def test_bodies_around_the_boundaries_come_back_as_they_went(lab_proxy, is_chunked):
    """Every size in one connection, both ways."""
    with closing(Echo(lab_proxy)) as echo:
        for size in SIZES:
            body = BLOCK[:size]
            for piece in (1000, 65_536, max(size, 1)) if is_chunked else (0,):
                assert echo(body, piece) == body


@pytest.mark.parametrize("is_chunked", [False, True])
def test_boundaries_fall_anywhere_in_a_record(origin, proxy, is_chunked):
    """Head and body in one write, so that records end within chunk sizes and between requests."""

    def script(visit):
        while head := visit.head():
            body = visit.body(head)
            visit.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    with origin.does(script), proxy.client() as client:
        for size in SIZES:
            body = BLOCK[:size]
            framing = "Transfer-Encoding: chunked" if is_chunked else f"Content-Length: {size}"
            pieces = [body[at : at + 16_000] for at in range(0, size, 16_000)]
            client.send(request("/", "POST", framing) + (chunked(*pieces) if is_chunked else body))
            assert client.answer().body == body


@pytest.mark.slow
@pytest.mark.parametrize("is_chunked", [False, True])
def test_fifty_megabytes_go_and_come_back_at_once(lab_proxy, is_chunked):
    """The backend streams back what it gets, so both directions are busy and each may pause the other."""
    count = 50
    with lab_proxy.client() as client:

        def upload():
            framing = "Transfer-Encoding: chunked" if is_chunked else f"Content-Length: {count * MIB}"
            client.send(request("/echo", "POST", framing))
            for _ in range(count):
                client.send(b"%x\r\n%b\r\n" % (MIB, BLOCK) if is_chunked else BLOCK)
            if is_chunked:
                client.send(b"0\r\n\r\n")

        thread = threading.Thread(target=upload, daemon=True)
        thread.start()
        assert hashlib.sha256(client.answer().body).hexdigest() == digest(count)
        thread.join(10)


REQUESTS = st.lists(
    st.tuples(
        st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE"]),
        st.sampled_from(["none", "length", "chunked"]),
        st.binary(max_size=2000) | st.integers(0, 70_000).map(lambda size: BLOCK[:size]),
    ),
    min_size=1,
    max_size=8,
)
FRAMINGS = st.lists(st.sampled_from(["length", "chunked"]), min_size=1, max_size=4)


@pytest.mark.slow
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(requests=REQUESTS, cut=st.integers(1, 100_000), framings=FRAMINGS)
def test_each_answer_belongs_to_its_request(origin, proxy, requests, cut, framings):
    """Any sequence on one connection, pipelined, cut anywhere, answered in any framing: nothing is shifted."""

    def script(visit):
        while head := visit.head():
            method, target, _ = head.split(b" ", 2)
            body = target + visit.body(head)
            if framings[int(target[1:]) % len(framings)] == "length":
                visit.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
            else:
                visit.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                body = chunked(body)
            visit.send(b"" if method == b"HEAD" else body)

    raw, expected = b"", []
    for number, (method, framing, body) in enumerate(requests):
        sent = b"" if framing == "none" else body
        if framing == "none":
            raw += request(f"/{number}", method)
        elif framing == "length":
            raw += request(f"/{number}", method, f"Content-Length: {len(body)}") + body
        else:
            pieces = [body[at : at + 777] for at in range(0, len(body), 777)]
            raw += request(f"/{number}", method, "Transfer-Encoding: chunked") + chunked(*pieces)
        expected.append(b"" if method == "HEAD" else b"/%d" % number + sent)
    with origin.does(script), proxy.client() as client:
        step = max(cut, len(raw) // 500)
        pieces = [raw[at : at + step] for at in range(0, len(raw), step)]
        thread = threading.Thread(target=lambda: [client.send(piece) for piece in pieces], daemon=True)
        thread.start()
        assert [client.answer(method).body for method, _, _ in requests] == expected
        thread.join(10)
        assert client.ask("/0").body == b"/0"


def test_a_broken_tls_connection_ends_its_request_at_once(origin, proxy):
    """Else the backend's answer would be fetched for nobody, as fast as it comes."""
    ended = threading.Event()

    def endless(visit):
        visit.request()
        visit.send(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            while True:
                visit.sock.sendall(BLOCK)
        except OSError:
            ended.set()

    with origin.does(endless), proxy.client() as client:
        client.send(request())
        assert client.head().status == 200
        client.sock.sendall(b"\x17\x03\x03\x00\x20" + b"x" * 32)  # a record that nobody has encrypted
        assert ended.wait(3)

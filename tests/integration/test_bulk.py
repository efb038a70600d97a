"""Large bodies of several clients at once, all read through one buffer of the worker: none gets bytes of another."""

from __future__ import annotations

import contextlib
import hashlib
import random
from concurrent.futures import ThreadPoolExecutor

from integration.peers import Client, backend, proxied, request

SIZES = (5_000_000, 10, 300_000, 0, 70_000, 2_000_000, 1)


def digest(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest().encode()


def tell_digest(visit) -> None:
    """Answer each request with what its body comes to, and the body itself."""
    while head := visit.head():
        body = visit.body(head)
        visit.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (64 + len(body)) + digest(body) + body)


def take_all(visit) -> None:
    """Read until the proxy ends or cuts it."""
    if visit.head():
        with contextlib.suppress(ConnectionError):
            while visit.sock.recv(65_536):
                pass


def test_large_and_small_bodies_on_many_connections(tmp_path):
    """On each connection large reads and small ones take turns, and all connections are read at once."""

    def ask_all(number: int) -> int:
        bodies = [random.Random(f"{number} {size}").randbytes(size) for size in SIZES]
        with Client(proxy.front.port, proxy.root) as client:
            for body in bodies:
                client.send(request("/", "POST", body=body))
                answer = client.answer()
                assert (answer.status, answer.body[:64], answer.body[64:] == body) == (200, digest(body), True)
        return len(bodies)

    with (
        backend() as origin,
        origin.does(tell_digest),
        proxied(tmp_path, origin.url) as proxy,
        ThreadPoolExecutor(4) as clients,
    ):
        assert sum(clients.map(ask_all, range(4))) == 4 * len(SIZES)
        assert "Traceback" not in proxy.front.log


def test_an_upload_that_its_client_leaves_harms_nobody(tmp_path):
    """It is cut in the middle of large reads; the next client's is whole."""
    with (
        backend() as origin,
        origin.does(take_all),
        proxied(tmp_path, origin.url) as proxy,
    ):
        with Client(proxy.front.port, proxy.root) as client:
            client.send(request("/", "POST", "Content-Length: 9000000") + bytes(3_000_000))
        with origin.does(tell_digest), Client(proxy.front.port, proxy.root) as client:
            body = b"whole" * 200_000
            client.send(request("/", "POST", body=body))
            assert client.answer().body[64:] == body
        assert "Traceback" not in proxy.front.log

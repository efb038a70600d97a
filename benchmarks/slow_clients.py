"""Normal requests beside very many clients that trickle, and their memory: ``python benchmarks/slow_clients.py``.

Three kinds of them, a third each, all of which do next to nothing, once a second: a byte of a head that never ends, a
byte of a body that takes a day, and 1 KiB taken of an answer of 4 MiB. They are a process of their own.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import resource
import socket
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from typing import TYPE_CHECKING

import click
from compare import OURS, PEER, STARTS, say
from counting import proportional_kib
from load import HOST, SERVER_NAME, Client, get
from OpenSSL import SSL
from peers import Cores, running_lab

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection

    from peers import Server

KINDS = ("slow heads", "slow bodies", "slow readers")
BEGINNINGS = {
    "slow heads": b"GET /bytes/1024 HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
    "slow bodies": b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n",
    "slow readers": b"GET /bytes/4194304 HTTP/1.1\r\nHost: localhost\r\n\r\n",
}
READ_BYTES = 1024
RECEIVE_BUFFER_BYTES = 4096
READY_WITHIN_S = 120.0


@dataclass(frozen=True, slots=True)
class Measured:
    """One server, with or without clients that trickle."""

    name: str
    slow: str
    count: int
    bytes_each: float
    p50_ms: float
    p99_ms: float


def begin(context: SSL.Context, port: int, kind: str) -> SSL.Connection:
    """Open a connection and do what this kind begins with."""
    tcp = socket.socket()
    if kind == "slow readers":
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
    tcp.connect((HOST, port))
    connection = SSL.Connection(context, tcp)
    connection.set_tlsext_host_name(SERVER_NAME)
    connection.set_connect_state()
    connection.do_handshake()
    connection.sendall(BEGINNINGS[kind])
    tcp.setblocking(False)
    return connection


def trickle(port: int, kinds: tuple[str, ...], count: int, ready: Connection) -> None:
    """Open the connections, say so, and go on trickling until killed. Whoever is cut off comes again."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    kind_of = [kinds[number % len(kinds)] for number in range(count)]
    connections = [begin(context, port, kind) for kind in kind_of]
    ready.send(count)
    while True:
        began = time.monotonic()
        for number, kind in enumerate(kind_of):
            connection = connections[number]
            try:
                if kind == "slow readers":
                    connection.recv(READ_BYTES)
                else:
                    connection.send(b"x")
            except SSL.WantReadError:
                pass
            except SSL.Error:
                connections[number] = begin(context, port, kind)
        time.sleep(max(0.0, 1.0 - (time.monotonic() - began)))


@contextlib.contextmanager
def trickling(server: Server, kinds: tuple[str, ...], count: int) -> Iterator[None]:
    """Have so many clients beside."""
    if not count:
        yield
        return
    method = multiprocessing.get_context("fork")
    ours, theirs = method.Pipe()
    process = method.Process(target=trickle, args=(server.port, kinds, count, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        if not ours.poll(READY_WITHIN_S) or ours.recv() != count:
            raise SystemExit(f"{server.name}: the slow clients did not get in")
        yield
        if not process.is_alive():
            raise SystemExit(f"{server.name}: the slow clients did not stay")
    finally:
        process.kill()
        process.join()


def measure(name: str, folder: Path, cores: Cores, kinds: tuple[str, ...], count: int, requests: int) -> Measured:
    """In servers that have just been started."""
    with running_lab(folder) as lab, STARTS[name](lab, cores.prefix()) as server:
        client = Client(server, "ec", "1.3")
        connection = client.connect()
        for _ in range(50):
            get(connection)
        before = proportional_kib(server.worker_pid)
        with trickling(server, kinds, count):
            taken = []
            for _ in range(requests):
                began = time.perf_counter()
                get(connection)
                taken.append((time.perf_counter() - began) * 1e3)
            after = proportional_kib(server.worker_pid)
        connection.close()
    cuts = quantiles(taken, n=100)
    slow = "none" if not count else kinds[0] if len(kinds) == 1 else "a third of each"
    return Measured(name, slow, count, (after - before) * 1024 / count if count else 0.0, cuts[49], cuts[98])


def table(rows: list[Measured]) -> str:
    lines = [
        "| server | slow clients | number | memory for each, bytes | normal request, p50, ms | p99, ms |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for row in rows:
        each = f"{row.bytes_each:,.0f}" if row.count else ""
        lines.append(f"| {row.name} | {row.slow} | {row.count:,} | {each} | {row.p50_ms:.2f} | {row.p99_ms:.2f} |")
    return "\n".join(lines)


@click.command()
@click.option("--clients", "count", default=2000, show_default=True, help="Those that trickle.")
@click.option("--requests", default=2000, show_default=True, help="Normal ones, one after the other.")
@click.option("--quick", is_flag=True, help="A few of each: to see whether it works.")
def main(*, count: int, requests: int, quick: bool) -> None:
    """Measure normal requests with and without clients that trickle, and the worker's memory for each of those."""
    if quick:
        count, requests = 30, 200
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    cores = Cores.choose()
    rows = []
    for kinds, number in [(KINDS, 0), *(((kind,), count) for kind in KINDS), (KINDS, count)]:
        for name in (OURS, PEER):
            say(f"{name}: {number} clients, {', '.join(kinds)}")
            with tempfile.TemporaryDirectory() as folder:
                rows.append(measure(name, Path(folder), cores, kinds, number, requests))
    click.echo(table(rows))


if __name__ == "__main__":
    main()

"""The server's cost of large bodies in either direction, beside its peers: ``python benchmarks/bulk.py``."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

import click
from compare import Effort
from load import Client, LoadError, close
from proxying import SUITE, Work, compare_all, run_all
from proxying_report import Target

if TYPE_CHECKING:
    from collections.abc import Iterator

    from OpenSSL import SSL
    from peers import Server
    from proxying import Load

MB = 1_000_000
TARGETS = {"nginx": Target(1.2)}
_PIECE = bytes(range(256)) * 256
_MAX_HEAD_BYTES = 4096
_WITHIN_S = 30.0
"""A server that needs longer for one body is left out."""


def download(connection: SSL.Connection, size: int) -> None:
    """Take one answer with so many bytes."""
    connection.sendall(b"GET /bulk/%d HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n" % size)
    left = size - len(_read_head(connection, size))
    buffer = bytearray(len(_PIECE))
    give_up_at = time.monotonic() + _WITHIN_S
    while left > 0:
        _look(give_up_at, left)
        left -= connection.recv_into(buffer)
    if left < 0:
        raise LoadError(f"{-left} bytes more than were asked for")


def upload(connection: SSL.Connection, size: int) -> None:
    """Send one request with so many bytes; the backend must have got them all."""
    connection.sendall(b"POST /sink HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % size)
    left = size
    give_up_at = time.monotonic() + _WITHIN_S
    while left > 0:
        _look(give_up_at, left)
        connection.sendall(_PIECE[:left])
        left -= len(_PIECE)
    wanted = b"%d\n" % size
    body = _read_head(connection, len(wanted))
    while len(body) < len(wanted):
        body += connection.recv(len(_PIECE))
    if body != wanted:
        raise LoadError(f"{size} bytes were sent, but the backend says: {body[:100]!r}")


def _look(give_up_at: float, left: int) -> None:
    if time.monotonic() > give_up_at:
        raise LoadError(f"{left} bytes are left after {_WITHIN_S:g} s")


def _read_head(connection: SSL.Connection, length: int) -> bytes:
    """Take the head; what came of the body with it."""
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += connection.recv(len(_PIECE))
        if not answer.startswith(b"HTTP/1.1 200 "[: len(answer)]) or len(answer) > _MAX_HEAD_BYTES + len(_PIECE):
            raise LoadError(f"not the answer that was asked for: {answer[:200]!r}")
    head, _, body = answer.partition(b"\r\n\r\n")
    if b"content-length: %d\r\n" % length not in head.lower() + b"\r\n":
        raise LoadError(f"not the length that was asked for: {head!r}")
    return body


@contextlib.contextmanager
def downloading(server: Server) -> Iterator[Load]:
    connection = Client(server, "ec", "1.3", SUITE).connect()
    yield lambda megabytes: download(connection, megabytes * MB)
    close(connection)


@contextlib.contextmanager
def uploading(server: Server) -> Iterator[Load]:
    connection = Client(server, "ec", "1.3", SUITE).connect()
    yield lambda megabytes: upload(connection, megabytes * MB)
    close(connection)


WORKS = [
    Work("download", "MB", downloading, 1, TARGETS),
    Work("upload", "MB", uploading, 1, TARGETS),
]


@click.command()
@click.option("--rounds", default=6, show_default=True, help="For CPU time, alternating between the servers.")
@click.option("--megabytes", default=100, show_default=True, help="Of one body; each of these rounds has one.")
@click.option("--counted", default=20, show_default=True, help="The same for instructions and calls; 0: neither.")
@click.option("--quick", is_flag=True, help="Small bodies, CPU time only: to see whether it works.")
@click.option("--json", "as_json", is_flag=True, help="All rounds, as JSON.")
def main(*, rounds: int, megabytes: int, counted: int, quick: bool, as_json: bool) -> None:
    """Measure one large answer and one large request body with Content-Length, streamed, per megabyte."""
    effort = Effort.quick() if quick else Effort(rounds, megabytes, counted)
    run_all(lambda folder, cores: compare_all(WORKS, effort, folder, cores), as_json=as_json)


if __name__ == "__main__":
    main()

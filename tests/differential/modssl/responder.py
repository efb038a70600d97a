"""A responder that does what a case tells it to, byte by byte, and remembers what it was sent.

One listening socket for all cases: a case's certificates name a path of its own, and the act of that path plays.
"""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import threading
import time
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE_S = 20.0
_PIECE = 1 << 16
_BACKLOG = 128


class Query(NamedTuple):
    """One request, as it came."""

    head: bytes
    body: bytes

    @property
    def path(self) -> str:
        """Without query, and without what stands before it when a proxy is asked."""
        target = self.head.split(b" ", 2)[1].decode("latin-1")
        return re.sub(r"^http://[^/]*", "", target).partition("?")[0]


class Shelf:
    """What came on one path, what was answered, and what is to be done with the next."""

    def __init__(self) -> None:
        self.queries: list[Query] = []
        self.bodies: list[bytes] = []
        self.act: Callable[[Call], None] | None = None
        """None: close without a word."""


class Call:
    """One connection on which a query came, as an act sees it."""

    def __init__(self, connection: socket.socket, query: Query, shelf: Shelf, is_over: threading.Event) -> None:
        self.connection = connection
        self.query = query
        self._shelf = shelf
        self._is_over = is_over

    def will_answer(self, der: bytes) -> None:
        """Remember the response before it is sent, so that a staple can be told by its bytes."""
        self._shelf.bodies.append(der)

    def send(self, data: bytes) -> None:
        self.connection.sendall(data)

    def reset(self) -> None:
        """Close so that the other side gets RST."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def pause(self, seconds: float) -> None:
        self._is_over.wait(seconds)

    def hold(self) -> None:
        """Say nothing more until the other side has gone."""
        give_up_at = time.monotonic() + PATIENCE_S
        self.connection.settimeout(0.2)
        while not self._is_over.is_set() and time.monotonic() < give_up_at:
            with contextlib.suppress(TimeoutError):
                if not self.connection.recv(_PIECE):
                    return


class Responder:
    """Listens on a free port of a loopback address while it is entered."""

    def __init__(self) -> None:
        self._shelves: defaultdict[str, Shelf] = defaultdict(Shelf)
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        self.arrivals: list[float] = []
        """When queries came, by `time.monotonic`."""
        self._listeners = [socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG)]
        with contextlib.suppress(OSError):  # a machine without IPv6 has cases less
            self._listeners.append(socket.create_server(("::1", 0), family=socket.AF_INET6, backlog=_BACKLOG))
        self.port, *rest = (listener.getsockname()[1] for listener in self._listeners)
        self.port6: int | None = next(iter(rest), None)

    def __enter__(self) -> Self:
        for listener in self._listeners:
            threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._is_over.set()
        for listener in self._listeners:
            listener.shutdown(socket.SHUT_RDWR)  # close() alone leaves accept() waiting
            listener.close()

    def shelf(self, path: str) -> Shelf:
        with self._lock:
            return self._shelves[path]

    def forget(self) -> None:
        """Begin anew, for the next server that is tried."""
        with self._lock:
            self._shelves.clear()
            self.arrivals.clear()

    def _accept(self, listener: socket.socket) -> None:
        while not self._is_over.is_set():
            try:
                connection, _address = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        # The other side often ends early here: that is what the cases look at, from its own end.
        with connection, contextlib.suppress(OSError):
            connection.settimeout(PATIENCE_S)
            query = _read(connection)
            if query is None:
                return
            shelf = self.shelf(query.path)
            self.arrivals.append(time.monotonic())
            shelf.queries.append(query)
            if shelf.act is not None:
                shelf.act(Call(connection, query, shelf, self._is_over))


def _read(connection: socket.socket) -> Query | None:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(_PIECE)
        if not piece:
            return None
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: *(\d+)", head)
    while length and len(body) < int(length[1]):
        piece = connection.recv(_PIECE)
        if not piece:
            break
        body += piece
    return Query(head, body)


class Deaf:
    """Listens, but its queue is full: whoever connects waits until he gives up."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=0)
        self.port: int = self._listener.getsockname()[1]
        self._waiting = [socket.socket() for _ in range(3)]

    def __enter__(self) -> Self:
        for each in self._waiting:
            each.setblocking(False)
            each.connect_ex(("127.0.0.1", self.port))
        return self

    def __exit__(self, *_exc: object) -> None:
        for each in (*self._waiting, self._listener):
            each.close()

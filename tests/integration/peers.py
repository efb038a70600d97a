"""Both ends of the proxy, byte by byte: a client that sees how a connection ends, a backend that does as it is told."""

from __future__ import annotations

import contextlib
import io
import queue
import socket
import ssl
import struct
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self

from integration import front

from proxy.lab.ca import LabCA

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PATIENCE_S = 10.0
PIECE = 65_536


@dataclass
class Answer:
    """One answer as a client sees it."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes = b""

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def get(self, name: str) -> str | None:
        values = self.all(name)
        assert len(values) <= 1, values
        return values[0] if values else None


class Truncated(Exception):
    """The connection ended in the middle."""


class _Plaintext(io.RawIOBase):
    """TLS over memory buffers, so that one thread may read while another writes: an SSLSocket does not allow that."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        self._sock = sock
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._lock = threading.Lock()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname="localhost")
        self._until_done(self._tls.do_handshake)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        try:
            return self._until_done(self._tls.read, len(buffer), buffer)
        except ssl.SSLZeroReturnError:
            return 0

    def send(self, data: bytes) -> None:
        with self._lock:
            self._tls.write(data)
            encrypted = self._out.read()
        self._sock.sendall(encrypted)

    def end(self) -> None:
        with self._lock, contextlib.suppress(ssl.SSLWantReadError):
            self._tls.unwrap()
        self._sock.sendall(self._out.read())

    def _until_done(self, step, *arguments):
        while True:
            with self._lock:
                try:
                    answer, is_done = step(*arguments), True
                except ssl.SSLWantReadError:
                    is_done = False
                encrypted = self._out.read()
            if encrypted:
                self._sock.sendall(encrypted)
            if is_done:
                return answer
            received = self._sock.recv(PIECE)
            with self._lock:
                if received:
                    self._in.write(received)
                else:
                    self._in.write_eof()


class Client:
    """HTTP over TLS with nothing between: what is sent is what is written."""

    def __init__(self, port: int, root: Path, *, receive_buffer: int | None = None) -> None:
        self.sock = socket.socket()
        self.sock.settimeout(PATIENCE_S)
        if receive_buffer is not None:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.connect(("127.0.0.1", port))
        self._tls = _Plaintext(self.sock, ssl.create_default_context(cafile=root))
        self._file = io.BufferedReader(self._tls, PIECE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        self._tls.send(data)

    def end(self) -> None:
        """Send close_notify: nothing more will come from here, but answers are still read."""
        self._tls.end()

    def line(self) -> bytes:
        line = self._file.readline(100_000)
        if not line.endswith(b"\r\n"):
            raise Truncated(line)
        return line[:-2]

    def exactly(self, count: int) -> bytes:
        data = self._file.read(count)
        if len(data) < count:
            raise Truncated(data)
        return data

    def head(self) -> Answer:
        """The next head, interim answers included."""
        version, status, _ = (self.line() + b" ").split(b" ", 2)
        assert version == b"HTTP/1.1"
        headers = []
        while line := self.line():
            name, colon, value = line.decode("latin-1").partition(":")
            assert colon, line
            headers.append((name, value.strip()))
        return Answer(int(status), headers)

    def chunk(self) -> bytes:
        """The next chunk; b"" is the last."""
        data = self.exactly(int(self.line(), 16))
        assert self.line() == b""
        return data

    def answer(self, method: str = "GET") -> Answer:
        """The next final answer, whole."""
        answer = self.head()
        while answer.status < 200:
            answer = self.head()
        length, coding = answer.get("Content-Length"), answer.get("Transfer-Encoding")
        assert length is None or coding is None
        if method == "HEAD" or answer.status in {204, 304}:
            assert coding is None
        elif coding is not None:
            assert coding == "chunked"
            answer.body = b"".join(iter(self.chunk, b""))
        elif length is not None:
            answer.body = self.exactly(int(length))
        else:
            answer.body = self.rest()
        return answer

    def rest(self) -> bytes:
        """What comes until the server closes in order, with close_notify."""
        return self._file.read()

    def is_closed(self) -> bool:
        """It ends here, in order, with nothing left."""
        return self.rest() == b""

    def is_cut(self) -> bool:
        """It ends here, without close_notify."""
        try:
            self._file.read()
        except (ssl.SSLError, ConnectionError):
            return True
        return False

    def ask(self, target: str = "/", method: str = "GET", *headers: str, body: bytes = b"") -> Answer:
        """One request and its answer."""
        self.send(request(target, method, *headers, body=body))
        return self.answer(method)


def request(target: str = "/", method: str = "GET", *headers: str, body: bytes = b"") -> bytes:
    lines = [f"{method} {target} HTTP/1.1", "Host: localhost", *headers]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def chunked(*pieces: bytes) -> bytes:
    """A body in chunks."""
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in [*pieces, b""])


class Visit:
    """One connection that the proxy has made, at the backend."""

    def __init__(self, sock: socket.socket, number: int) -> None:
        self.sock = sock
        self.number = number
        """Which connection of this script it is, from 0."""
        sock.settimeout(PATIENCE_S)
        self._file = sock.makefile("rb")

    def head(self) -> bytes:
        """The next request's head; b"" when the proxy has closed."""
        lines = []
        if self._file.closed:
            return b""
        with contextlib.suppress(ConnectionError):
            while (line := self._file.readline()) not in {b"\r\n", b""}:
                lines.append(line)
        return b"".join(lines)

    def body(self, head: bytes) -> bytes:
        """The body that `head` speaks of."""
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if line)
        if fields.get(b"transfer-encoding") == b"chunked":
            pieces = []
            while size := int(self._file.readline() or self._break_off(), 16):
                pieces.append(self._file.read(size))
                self._file.readline()
            self._file.readline()
            return b"".join(pieces)
        return self._file.read(int(fields.get(b"content-length", b"0")))

    @staticmethod
    def _break_off() -> bytes:
        raise ConnectionAbortedError("the request breaks off")

    def request(self) -> tuple[bytes, bytes]:
        head = self.head()
        return head, self.body(head)

    def read(self, count: int) -> bytes:
        return self._file.read(count)

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def is_closed(self) -> bool:
        """The proxy ends it, and sends nothing more."""
        try:
            return self._file.closed or self._file.read(1) == b""
        except ConnectionError:
            return True

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        self._file.close()
        self.sock.close()

    def reset(self) -> None:
        """Close by RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._file.close()
        self.sock.close()


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def serve_ok(visit: Visit) -> None:
    """Answer every request with 200 and "ok"."""
    while head := visit.head():
        visit.body(head)
        visit.send(OK)


@dataclass
class Backend:
    """Listens, and does with each connection what the current script says, in a thread of its own."""

    listener: socket.socket
    _threads: list[threading.Thread] = field(default_factory=list)
    _visits: list[Visit] = field(default_factory=list)
    _failures: queue.SimpleQueue[BaseException] = field(default_factory=queue.SimpleQueue)
    _script: Callable[[Visit], None] = serve_ok

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.listener.getsockname()[1]}"

    @property
    def count(self) -> int:
        """Connections since this script began."""
        return len(self._visits)

    @contextlib.contextmanager
    def does(self, script: Callable[[Visit], None]) -> Iterator[Backend]:
        """Run `script` with each new connection; at the end all are closed, and its failures are the test's."""
        self._script = script
        try:
            yield self
        finally:
            for visit in list(self._visits):
                with contextlib.suppress(OSError):
                    visit.sock.shutdown(socket.SHUT_WR)
            for thread in self._threads:
                thread.join(PATIENCE_S)
            self._threads.clear()
            self._visits.clear()
            self._script = serve_ok
        if not self._failures.empty():
            raise self._failures.get()

    def leave(self) -> None:
        """Listen no more: connections are refused from now on."""
        with contextlib.suppress(OSError):  # it has left before
            self.listener.shutdown(socket.SHUT_RDWR)  # wakes `accept`
        self.listener.close()

    def accept(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            visit = Visit(sock, len(self._visits))
            self._visits.append(visit)
            thread = threading.Thread(target=self._run, args=(visit, self._script), daemon=True)
            thread.start()
            self._threads.append(thread)

    def _run(self, visit: Visit, script: Callable[[Visit], None]) -> None:
        try:
            script(visit)
            visit.is_closed()  # the proxy shall close first, where the script has not: then none stays in its pool
        except ConnectionAbortedError:
            pass  # the proxy has ended it in the middle of a request; the test says whether it should
        except BaseException as error:  # noqa: BLE001  # a thread's edge: raised again in the test
            self._failures.put(error)
        finally:
            visit.close()


@contextlib.contextmanager
def backend() -> Iterator[Backend]:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        made = Backend(listener)
        thread = threading.Thread(target=made.accept, daemon=True)
        thread.start()
        try:
            yield made
        finally:
            made.leave()
            thread.join(PATIENCE_S)


@dataclass
class Proxied:
    """A proxy that runs."""

    front: front.Front
    root: Path

    def client(self, **options) -> Client:
        return Client(self.front.port, self.root, **options)

    def ask(self, *arguments, **more) -> Answer:
        with self.client() as client:
            return client.ask(*arguments, **more)

    @property
    def worker(self) -> int:
        return self.front.pids("worker")[0]


@contextlib.contextmanager
def proxied(folder: Path, upstream: str, **http) -> Iterator[Proxied]:
    """The proxy before `upstream`, with a certificate that needs no staple, and these settings of [http]."""
    ca = LabCA.create(datetime.now(UTC))
    issued = ca.issue(["localhost", "127.0.0.1"])
    ca.write(folder)
    files = (folder / f"{issued.stem}.pem", folder / f"{issued.stem}.key")
    with front.run(folder, front.toml(front.site(upstream, files), http=http)) as running:
        yield Proxied(running, folder / "root.pem")

"""A steady load of clients that forgive nothing: nothing is sent twice, and a full handshake has a staple that is good.

Three kinds, in threads of their own: a full handshake and one request; requests on one connection, until an answer says
that it was the last; sessions that are resumed, if the server will. None looks whether its connection still stands
before it sends, as libraries do: a request that is sent is answered, or it is a failure.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from OpenSSL import SSL

from proxy.ocsp.response import Rules, check

NAME = "localhost"
TIMEOUT_S = 20
_LOOKS = 5
_REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
_LAST_REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


class Client:
    """One connection, blocking. `port` is its own, by which the server's process can be told."""

    def __init__(self, context: SSL.Context, port: int, session: SSL.Session | None = None) -> None:
        self.staple = b""
        self.is_last = False
        """An answer has said that the connection ends with it."""
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        # OpenSSL blocks by itself, so the socket has to have the timeout.
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            self._socket.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", TIMEOUT_S, 0))
        self.tls = SSL.Connection(context, self._socket)
        self.tls.set_app_data(self)
        self.tls.set_connect_state()
        self.tls.set_tlsext_host_name(NAME.encode())
        self.tls.request_ocsp()
        if session is not None:
            self.tls.set_session(session)
        self._address = ("127.0.0.1", port)

    def shake_hands(self) -> None:
        self._socket.connect(self._address)
        self.tls.do_handshake()

    def is_resumed(self) -> bool:
        # pyOpenSSL has no public name for this.
        return bool(SSL._lib.SSL_session_reused(self.tls._ssl))

    def get(self, request: bytes) -> None:
        """Send a request, and read the whole answer."""
        self.tls.sendall(request)
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self.tls.recv(65536)
        head, _, body = answer.lower().partition(b"\r\n\r\n")
        if not head.startswith(b"http/1.1 200 "):
            raise ValueError(head.decode("latin-1"))
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        while len(body) < length:
            body += self.tls.recv(65536)
        self.is_last = b"\r\nconnection: close" in head

    def close(self) -> None:
        with contextlib.suppress(SSL.Error, OSError):
            self.tls.shutdown()
        self._socket.close()


@dataclass(frozen=True)
class Failure:
    """A request that has got no whole answer, or a handshake that failed."""

    kind: str
    client_port: int
    what: str


@dataclass
class Load:
    """What has happened so far."""

    port: int
    leaf_and_issuer: tuple
    """Certificates, for the staples."""
    pause_s: float = 0.0
    """Between two requests of one client."""
    failures: list[Failure] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    without_staple: list[str] = field(default_factory=list)
    _good: set[bytes] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    @property
    def has_seen_good_staples(self) -> bool:
        return bool(self._good)

    def told(self) -> str:
        """The counts, one in a line."""
        with self._lock:
            lines = [f"{count:8} {what}" for what, count in sorted(self.counts.items())]
        lines += [
            f"{len(self.failures):8} failed",
            f"{len(self.without_staple):8} full handshakes without a good staple",
        ]
        return "\n".join(lines)

    @contextlib.contextmanager
    def running(self, *, full: int = 1, kept: int = 2, resumed: int = 1):
        """So many clients of each kind; at the end each finishes its request."""
        kinds = [self._full] * full + [self._kept] * kept + [self._resumed] * resumed
        self._threads = [threading.Thread(target=self._work, args=(kind,), daemon=True) for kind in kinds]
        for thread in self._threads:
            thread.start()
        try:
            yield self
        finally:
            self.stop()

    def stop(self) -> None:
        """Let each finish its request."""
        self._stop.set()
        for thread in self._threads:
            thread.join(2 * TIMEOUT_S)
            assert not thread.is_alive(), "a client hangs"

    def _work(self, kind) -> None:
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_session_cache_mode(SSL.SESS_CACHE_CLIENT)
        context.set_ocsp_client_callback(_on_staple)
        kind(context)

    def _full(self, context: SSL.Context) -> None:
        while not self._stop.wait(self.pause_s):
            client = Client(context, self.port)
            if self._has_done(client, "full", client.shake_hands) and self._is_stapled(client):
                self._count("full handshakes", self._has_done(client, "full", lambda: client.get(_LAST_REQUEST)))  # noqa: B023
            client.close()

    def _kept(self, context: SSL.Context) -> None:
        client = None
        while not self._stop.wait(self.pause_s):
            if client is None:
                client = Client(context, self.port)
                if not self._has_done(client, "kept", client.shake_hands) or not self._is_stapled(client):
                    client = None
                    continue
                self._count("kept connections", True)
            is_done = self._has_done(client, "kept", lambda: client.get(_REQUEST))  # noqa: B023
            self._count("requests on kept connections", is_done)
            if not is_done or client.is_last:
                client.close()
                client = None
        if client is not None:
            client.close()

    def _resumed(self, context: SSL.Context) -> None:
        session = None
        while not self._stop.wait(self.pause_s):
            client = Client(context, self.port, session)
            session = None
            if self._has_done(client, "resumed", client.shake_hands):
                is_resumed = client.is_resumed()
                if is_resumed or self._is_stapled(client):
                    is_done = self._has_done(client, "resumed", lambda: client.get(_LAST_REQUEST))  # noqa: B023
                    self._count("resumptions" if is_resumed else "full handshakes", is_done)
                    session = client.tls.get_session()
            client.close()

    def _has_done(self, client: Client, kind: str, what) -> bool:
        try:
            what()
        except Exception as error:  # noqa: BLE001  # whatever it is, it is a failure, and the load goes on
            with self._lock:
                self.failures.append(Failure(kind, client.port, f"{what}: {type(error).__name__}: {error}"))
            client.close()
            return False
        return True

    def _count(self, what: str, is_done: bool) -> None:
        with self._lock:
            self.counts[what] += is_done

    def _is_stapled(self, client: Client) -> bool:
        """Verify a staple, once each: it is the same bytes very often."""
        if client.staple not in self._good:
            leaf, issuer = self.leaf_and_issuer
            try:
                check(client.staple, leaf=leaf, issuer=issuer, now=datetime.now(UTC), rules=Rules())
            except Exception as error:  # noqa: BLE001  # whatever it is, it is no good staple
                self.without_staple.append(f"{type(error).__name__}: {error}")
            else:
                self._good.add(client.staple)
        return True


def _on_staple(connection: SSL.Connection, der: bytes, _data: object) -> bool:
    connection.get_app_data().staple = der
    return True


def leaf_and_issuer(chain: Path) -> tuple:
    """What staples are verified with, of a certificate's file that has its issuer."""
    leaf, issuer, *_ = x509.load_pem_x509_certificates(chain.read_bytes())
    return leaf, issuer


def connections_of(pid: int, port: int) -> set[int]:
    """The clients' ports of the connections to `port` that a process has open."""
    links = set()
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            links.add(str(fd.readlink()))
    found = set()
    # More than once: while others come and go, the kernel leaves some out.
    lines = [line.split() for _ in range(_LOOKS) for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    for _, own, peer, *more in lines:
        if f"socket:[{more[6]}]" in links and int(own.rpartition(":")[2], 16) == port:
            found.add(int(peer.rpartition(":")[2], 16))
    return found

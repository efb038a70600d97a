"""The load: handshakes and requests from one process, one at a time, the same bytes for every server.

Every full handshake must bring the very staple that was verified before the run, if the server staples; whatever is
not as it should be ends the run with LoadError.
"""

from __future__ import annotations

import itertools
import socket
import struct
from typing import TYPE_CHECKING, Literal

from OpenSSL import SSL

from proxy.lab.backend import SMALL
from proxy.tls.binding import lib

if TYPE_CHECKING:
    from collections.abc import Mapping

    from peers import Server

Kind = Literal["ec", "rsa"]
Version = Literal["1.2", "1.3"]

HOST = "127.0.0.1"
SERVER_NAME = b"localhost"
REQUEST = (
    f"GET /bytes/{len(SMALL)} HTTP/1.1\r\nHost: localhost\r\n"
    "User-Agent: stapleproxy-benchmark\r\nAccept: */*\r\nAccept-Encoding: gzip\r\n\r\n"
).encode()

_ANSWER_WITHIN_S = 30
_PIECE_BYTES = 65536
_MAX_ANSWER_BYTES = len(SMALL) + 4096
_VERSIONS = {"1.2": SSL.TLS1_2_VERSION, "1.3": SSL.TLS1_3_VERSION}
_SIGNATURES = {"ec": b"ECDSA+SHA256", "rsa": b"RSA-PSS+SHA256:RSA+SHA256"}


class LoadError(Exception):
    """A server did not do what is measured."""


class Client:
    """Connects to one server for one kind of certificate and one version of TLS.

    `suite` leaves one TLS 1.3 cipher suite to choose from; None: OpenSSL's own, so each server takes what it prefers.
    """

    def __init__(
        self,
        server: Server,
        kind: Kind,
        version: Version,
        suite: str | None = None,
        *,
        sites: Mapping[bytes, bytes | None] | None = None,
        asks: bool = True,
    ) -> None:
        """Ask for each of `sites` in turn: the server's name, and the staple that must come; else for the only one.

        `asks` False: for no staple, and then none may come.
        """
        self._server = server
        self._sites = itertools.cycle((sites or {SERVER_NAME: server.staples.get(kind)}).items())
        self._asks = asks
        self._staple: bytes | None = None
        context = self._context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_min_proto_version(_VERSIONS[version])
        context.set_max_proto_version(_VERSIONS[version])
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.set_ocsp_client_callback(self._on_staple)
        if suite is not None:
            context.set_tls13_ciphersuites(suite.encode())
        for function, value in (
            (lib.SSL_CTX_set1_curves_list, b"X25519:P-256"),
            (lib.SSL_CTX_set1_sigalgs_list, _SIGNATURES[kind]),
        ):
            if function(context._context, value) != 1:  # noqa: SLF001  pyOpenSSL has no names for these two
                raise LoadError(f"this OpenSSL does not know {value.decode()}")

    def _on_staple(self, _connection: SSL.Connection, staple: bytes, _data: object) -> bool:
        self._staple = staple
        return True

    def connect(self, session: SSL.Session | None = None) -> SSL.Connection:
        """Open a connection that must resume if a session is given, and else bring the staple."""
        tcp = socket.create_connection((HOST, self._server.port))
        tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A timeout of Python's would make the socket non-blocking, which OpenSSL would see.
        for timeout in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            tcp.setsockopt(socket.SOL_SOCKET, timeout, struct.pack("ll", _ANSWER_WITHIN_S, 0))
        connection = SSL.Connection(self._context, tcp)
        connection.set_connect_state()
        name, expected = next(self._sites)
        connection.set_tlsext_host_name(name)
        if self._asks:
            connection.request_ocsp()
        if session is not None:
            connection.set_session(session)
        self._staple = None
        try:
            connection.do_handshake()
        except SSL.Error as error:
            raise LoadError(f"{self._server.name}: no handshake: {error!r}") from error
        is_resumed = bool(lib.SSL_session_reused(connection._ssl))  # noqa: SLF001  nor for this
        if is_resumed is not (session is not None):
            raise LoadError(f"{self._server.name}: a session was {'' if is_resumed else 'not '}resumed")
        if not self._asks:
            expected = b""
        if session is None and expected is not None and (self._staple or b"") != expected:
            raise LoadError(f"{self._server.name}: {'another' if self._staple else 'no'} staple in a full handshake")
        return connection

    def full(self, count: int) -> None:
        """Do full handshakes, each on a connection that is closed after it."""
        for _ in range(count):
            close(self.connect())

    def session(self) -> SSL.Session:
        """Make a session to resume; asked for after an answer, when TLS 1.3 has brought its tickets."""
        connection = self.connect()
        get(connection)
        session = connection.get_session()
        close(connection)
        if session is None:
            raise LoadError(f"{self._server.name}: no session")
        return session

    def resumed(self, count: int, session: SSL.Session) -> None:
        """Do handshakes that resume `session`, each on a connection that is closed after it."""
        for _ in range(count):
            close(self.connect(session))


def get(connection: SSL.Connection) -> None:
    """Ask once and take the answer, on a connection that stays open."""
    connection.sendall(REQUEST)
    answer = b""
    while not answer.endswith(SMALL):
        answer += connection.recv(_PIECE_BYTES)
        if len(answer) > _MAX_ANSWER_BYTES:
            raise LoadError(f"too long an answer: {answer[:200]!r}")
    if not answer.startswith(b"HTTP/1.1 200 "):
        raise LoadError(f"not the answer that was asked for: {answer[:200]!r}")


def close(connection: SSL.Connection) -> None:
    """Say that it ends, then wait for the server to end it: so nothing of it is left to do in the next measurement."""
    connection.shutdown()
    connection.sock_shutdown(socket.SHUT_WR)
    tcp = socket.socket(fileno=connection.fileno())  # past OpenSSL, which would stop at the tickets or at close_notify
    try:
        while tcp.recv(_PIECE_BYTES):
            pass
    except ConnectionResetError:
        pass  # it is over for the server too
    finally:
        tcp.detach()
        connection.close()

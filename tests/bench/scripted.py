"""A TLS server that does what a test tells it, one connection after the other, and counts what it did."""

from __future__ import annotations

import contextlib
import socket
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from OpenSSL import SSL

from proxy.tls.binding import lib

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE_S = 10.0


@dataclass
class Scripted:
    """`staple` gives what to staple to the n-th connection (b"": nothing), `talk` is what follows its handshake.

    `before` is called when the n-th connection was accepted; where it returns False, the connection is closed.
    """

    chain: tuple
    key: object
    staple: Callable[[int], bytes] = lambda _: b""
    before: Callable[[int], bool] = lambda _: True
    talk: Callable[[SSL.Connection], None] = field(default_factory=lambda: read_to_end)
    prepare: Callable[[SSL.Context], None] = lambda _: None
    handshakes: int = 0
    resumed: int = 0
    asked: int = 0
    """How often a staple was asked for."""
    names: list = field(default_factory=list)
    errors: list = field(default_factory=list)
    port: int = 0

    @contextlib.contextmanager
    def running(self):
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.use_certificate(self.chain[0])
        for extra in self.chain[1:]:
            context.add_extra_chain_cert(extra)
        context.use_privatekey(self.key)
        context.set_session_id(b"scripted")
        context.set_ocsp_server_callback(self._on_asked)
        self.prepare(context)
        with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
            self.port = listener.getsockname()[1]
            listener.settimeout(0.05)
            self._ending = threading.Event()
            thread = threading.Thread(target=self._serve, args=(listener, context))
            thread.start()
            try:
                yield self
            finally:
                self._ending.set()
                thread.join(PATIENCE_S)
                assert not thread.is_alive()

    def _on_asked(self, _connection, _data):
        self.asked += 1
        return self.staple(self._number)

    def _serve(self, listener, context):
        self._number = -1
        while not self._ending.is_set():
            try:
                sock, _ = listener.accept()
            except TimeoutError:
                continue
            self._number += 1
            with contextlib.closing(sock):
                if not self.before(self._number):
                    continue
                sock.settimeout(None)
                # Not Python's timeout, which makes the socket non-blocking: the client's patience ends first.
                connection = SSL.Connection(context, sock)
                connection.set_accept_state()
                try:
                    connection.do_handshake()
                    self.handshakes += 1
                    self.resumed += lib.SSL_session_reused(connection._ssl)
                    self.names.append(connection.get_servername())
                    self.talk(connection)
                except SSL.Error as error:
                    self.errors.append(error)


def read_to_end(connection):
    """Wait for the client's close_notify, and answer it."""
    with contextlib.suppress(SSL.ZeroReturnError, SSL.SysCallError):
        while connection.recv(4096):
            pass
    connection.shutdown()


def answer(*bodies, keep=True):
    """Answer so many requests, then close."""

    def talk(connection):
        for body in bodies:
            request = b""
            while not request.endswith(b"\r\n\r\n"):
                request += connection.recv(4096)
            close = b"" if keep else b"Connection: close\r\n"
            connection.sendall(b"HTTP/1.1 200 OK\r\n%bContent-Length: %d\r\n\r\n%b" % (close, len(body), body))
        read_to_end(connection)

    return talk

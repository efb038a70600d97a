"""One client: connects, shakes hands, makes its requests, and ends.

Callbacks of the loop on a bare socket, and OpenSSL over memory buffers, as in `proxy.tls.engine`. An event calls
OpenSSL once, so what a client costs beyond that is a few system calls and what is counted.

It ends with close_notify, in one piece with what ended the handshake, and waits for the server to close, for a second
at most: so the server has seen the whole handshake and has counted it, and the ports that wait out their last minute
(RFC 9293 3.3.2) are the server's. In TLS 1.3 a server may refuse the client's certificate after the client is done:
so a handshake is counted when the connection is over.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from enum import IntEnum
from typing import TYPE_CHECKING

from OpenSSL import SSL

from proxy.bench.outcomes import Failure
from proxy.errors import UpstreamError
from proxy.http.codec_response import ResponseDecoder
from proxy.http.messages import ResponseHead
from proxy.tls.binding import ffi, lib, raw

if TYPE_CHECKING:
    from proxy.bench.crowd import Crowd

_PIECE_BYTES = 65_536
_MAX_HEAD_BYTES = 65_536
_CLOSING_S = 1.0
"""How long the server may take to close after we said that it is over, or to send the ticket that we wait for."""
_SECOND_NS = 1_000_000_000
_ALERT_LENGTH = (19).to_bytes(2, "big")
"""What the header of an encrypted alert says in TLS 1.3: level, description, type and tag (RFC 8446 5.2)."""

# One for the process: each call copies out of it before the next begins.
_buffer = ffi.new("char[]", _PIECE_BYTES)
_contents = ffi.buffer(_buffer)


class State(IntEnum):
    """What it waits for."""

    CONNECTED = 0
    HANDSHAKE = 1
    ANSWER = 2
    TICKET = 3
    CLOSE = 4
    OVER = 5


_TIMEOUTS = {
    State.CONNECTED: Failure.CONNECT_TIMEOUT,
    State.HANDSHAKE: Failure.HANDSHAKE_TIMEOUT,
    State.ANSWER: Failure.ANSWER_TIMEOUT,
}
"""In the other states it has what it came for."""


class Attempt:
    """One connection; it counts itself, and tells the crowd when it is over."""

    __slots__ = (
        "_begun_ns",
        "_connected_ns",
        "_connection",
        "_crowd",
        "_decoder",
        "_done_ns",
        "_due_ns",
        "_fd",
        "_from_ssl",
        "_into_ssl",
        "_is_counted",
        "_is_silent_since_handshake",
        "_left",
        "_name",
        "_sent_ns",
        "_session_before",
        "_socket",
        "_ssl",
        "_state",
        "_unsent",
        "_wants_session",
        "deadline_ns",
        "has_failed",
    )

    def __init__(self, crowd: Crowd, name: str, due_ns: int, *, is_counted: bool, resumes: bool) -> None:
        self._crowd = crowd
        self._name = name
        self._due_ns = due_ns
        self._is_counted = is_counted
        self._wants_session = resumes
        self._state = State.CONNECTED
        self._unsent = b""
        self._done_ns = 0
        self.has_failed = False
        self._begun_ns = time.monotonic_ns()
        self._allow(crowd.work.timeouts.connect_s, self._begun_ns)
        address = crowd.work.address
        self._socket = socket.socket(
            socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK
        )
        self._fd = self._socket.fileno()
        crowd.open.add(self)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        failed = self._socket.connect_ex(address)
        if failed not in {0, errno.EINPROGRESS}:
            crowd.loop.call_soon(self._fail, Failure.CONNECT, os.strerror(failed))
        else:
            crowd.loop.add_writer(self._fd, self._on_connected)

    def __repr__(self) -> str:
        return f"<Attempt {self._name} waits for {self._state.name}>"

    def time_is_over(self) -> None:
        """End it, since what it waits for did not come in time."""
        kind = _TIMEOUTS.get(self._state)
        if kind is None:
            self._over()
        else:
            self._fail(kind, "")

    def _allow(self, seconds: float, now_ns: int) -> None:
        self.deadline_ns = now_ns + int(seconds * _SECOND_NS)

    def _on_connected(self) -> None:
        crowd = self._crowd
        crowd.loop.remove_writer(self._fd)
        if failed := self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._fail(Failure.CONNECT, os.strerror(failed))
            return
        self._connected_ns = time.monotonic_ns()
        self._allow(crowd.work.timeouts.handshake_s, self._connected_ns)
        self._state = State.HANDSHAKE
        self._connection = connection = SSL.Connection(crowd.context)
        private = raw(connection)
        ssl = self._ssl = private._ssl  # noqa: SLF001  # see proxy/tls/binding.py, here and below
        self._into_ssl = private._into_ssl  # noqa: SLF001
        self._from_ssl = private._from_ssl  # noqa: SLF001
        lib.SSL_set_connect_state(ssl)
        if self._name:
            lib.SSL_set_tlsext_host_name(ssl, self._name.encode("ascii"))
        if crowd.asks_staple:
            lib.SSL_set_tlsext_status_type(ssl, lib.TLSEXT_STATUSTYPE_ocsp)
        if self._wants_session and (session := crowd.sessions.get(self._name)) is not None:
            connection.set_session(session)
        lib.SSL_do_handshake(ssl)
        crowd.loop.add_reader(self._fd, self._on_readable)
        self._flush()

    def _on_readable(self) -> None:
        try:
            data = self._socket.recv(_PIECE_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._on_end(os.strerror(error.errno or 0))
            return
        if not data:
            self._on_end("")
            return
        if self._is_counted:
            self._crowd.tally.bytes_in += len(data)
        if self._state is State.CLOSE:
            self._look_for_alert(data)
            return
        lib.BIO_write(self._into_ssl, data, len(data))
        if self._state is State.HANDSHAKE:
            done = lib.SSL_do_handshake(self._ssl)
            if done == 1:
                self._on_established()
            elif lib.SSL_get_error(self._ssl, done) == lib.SSL_ERROR_WANT_READ:
                self._flush()
            else:
                self._refuse(done)
        # Tickets, or the beginning of an answer, may have come with the end of the handshake.
        if self._state is State.ANSWER or self._state is State.TICKET:
            self._read()

    def _on_established(self) -> None:
        ssl, work = self._ssl, self._crowd.work
        self._done_ns = time.monotonic_ns()
        self._is_silent_since_handshake = True
        if self._wants_session:
            # One that was not taken, or is not there yet, is replaced.
            self._wants_session = lib.SSL_session_reused(ssl) != 1
            # Held, so that the next session cannot be made at the same address.
            self._session_before = ffi.gc(lib.SSL_get1_session(ssl), lib.SSL_SESSION_free)
        if work.requests:
            self._decoder = ResponseDecoder(_MAX_HEAD_BYTES)
            self._left = work.requests
            self._request()
        elif self._wants_session and not self._take_session():
            self._state = State.TICKET
            self._allow(_CLOSING_S, self._done_ns)
            self._flush()
        else:
            self._finish()

    def _request(self) -> None:
        self._left -= 1
        request = self._crowd.request(self._name, is_last=not self._left)
        self._decoder.expect(b"GET")
        written = lib.SSL_write(self._ssl, request, len(request))
        if written <= 0:
            self._refuse(written)
            return
        self._sent_ns = time.monotonic_ns()
        self._state = State.ANSWER
        self._allow(self._crowd.work.timeouts.answer_s, self._sent_ns)
        self._flush()

    def _read(self) -> None:
        """Take the plaintext that is there: of an answer, or none at all where tickets came."""
        self._is_silent_since_handshake = False
        while self._state is State.ANSWER or self._state is State.TICKET:
            length = lib.SSL_read(self._ssl, _buffer, _PIECE_BYTES)
            if length > 0:
                if self._state is State.ANSWER:
                    self._on_answer(_contents[:length])
                continue
            error = lib.SSL_get_error(self._ssl, length)
            if error == lib.SSL_ERROR_WANT_READ:
                if self._state is State.TICKET and self._take_session():
                    self._finish()
                return
            if error == lib.SSL_ERROR_ZERO_RETURN:
                self._on_end("")
            else:
                self._refuse(length)

    def _on_answer(self, data: bytes) -> None:
        tally = self._crowd.tally
        if self._sent_ns:
            if self._is_counted:
                tally.latencies.first_byte.add(time.monotonic_ns() - self._sent_ns)
            self._sent_ns = 0
        try:
            events = self._decoder.feed(data)
        except UpstreamError as error:
            self._fail(Failure.ANSWER, error.detail)
            return
        if self._is_counted:
            for event in events:
                if isinstance(event, ResponseHead) and event.status >= 200:
                    tally.statuses[event.status] += 1
        if self._decoder.is_complete:
            self._on_answered()

    def _on_answered(self) -> None:
        if not self._left:
            if self._wants_session:
                self._take_session()
            self._finish()
        elif self._decoder.is_reusable:
            self._request()
        else:
            self._fail(Failure.ANSWER, "the server wants no more requests on this connection")

    def _take_session(self) -> bool:
        """Keep the session for those who come later; False: its ticket is still to come."""
        ssl = self._ssl
        # In TLS 1.3 a ticket that has come is a new session.
        if lib.SSL_version(ssl) == lib.TLS1_3_VERSION and lib.SSL_get_session(ssl) == self._session_before:
            return False
        session = self._connection.get_session()
        if session is not None:
            self._crowd.sessions[self._name] = session
        return True

    def _finish(self) -> None:
        self._state = State.CLOSE
        self._allow(_CLOSING_S, time.monotonic_ns())
        if lib.SSL_shutdown(self._ssl) < 0:  # the connection has failed before: there is nobody to say it to
            lib.ERR_clear_error()
        self._flush()

    def _look_for_alert(self, data: bytes) -> None:
        """Notice that the server refused us after all: an alert comes first then, and else mostly a ticket.

        To read every ticket would cost each client a tenth of its handshake. What comes behind bytes that were left
        unread cannot be read either.
        """
        if self._is_silent_since_handshake and data[3:5] == _ALERT_LENGTH:
            self._read_alert(data)
        self._is_silent_since_handshake = False

    def _read_alert(self, data: bytes) -> None:
        lib.BIO_write(self._into_ssl, data, len(data))
        length = lib.SSL_read(self._ssl, _buffer, _PIECE_BYTES)
        if length <= 0 and lib.SSL_get_error(self._ssl, length) == lib.SSL_ERROR_SSL:
            self._refuse(length)

    def _flush(self) -> None:
        """Send what OpenSSL has written; what the socket does not take waits for it."""
        data = b""
        while (length := lib.BIO_read(self._from_ssl, _buffer, _PIECE_BYTES)) > 0:
            data += _contents[:length]
        if not data:
            return
        if self._is_counted:
            self._crowd.tally.bytes_out += len(data)
        if self._unsent:
            self._unsent += data
            return
        self._unsent = data
        self._send()

    def _send(self) -> None:
        try:
            sent = self._socket.send(self._unsent)
        except BlockingIOError:
            sent = 0
        except OSError:
            # The server has closed. What it sent before, perhaps an alert, is still to be read: reading tells the end.
            sent = len(self._unsent)
        rest = self._unsent[sent:]
        if rest and len(rest) == len(self._unsent):
            self._crowd.loop.add_writer(self._fd, self._send)
        elif not rest:
            self._crowd.loop.remove_writer(self._fd)
        self._unsent = rest

    def _on_end(self, why: str) -> None:
        """The server has closed, or `why` the connection broke."""
        if self._state is State.HANDSHAKE:
            self._fail(Failure.CLOSED, why)
        elif self._state is State.ANSWER:
            try:
                self._decoder.eof()
            except UpstreamError as error:
                self._fail(Failure.ANSWER, why or error.detail)
            else:
                self._on_answered()
        else:
            self._over()

    def _refuse(self, result: int) -> None:
        """Tell OpenSSL's error by its kind."""
        try:
            raw(self._connection)._raise_ssl_error(self._ssl, result)  # noqa: SLF001
        except (SSL.SysCallError, SSL.ZeroReturnError):
            self._fail(Failure.CLOSED, "")
        except SSL.Error as error:
            queue = error.args[0] if error.args else None
            why = str(queue[-1][-1]) if queue else type(error).__name__
            _, is_alert, alert = why.partition("alert ")
            self._flush()  # the alert that tells the server why
            self._fail(Failure.ALERT if is_alert else Failure.TLS, alert or why)

    def _fail(self, kind: Failure, detail: str) -> None:
        self.has_failed = True
        if kind in {Failure.ALERT, Failure.TLS}:
            self._done_ns = 0  # refused after all
        if self._is_counted:
            self._crowd.tally.fail(kind, detail, time.monotonic_ns())
        self._over()

    def _over(self) -> None:
        if self._state is State.OVER:
            return
        self._state = State.OVER
        crowd = self._crowd
        crowd.loop.remove_reader(self._fd)
        crowd.loop.remove_writer(self._fd)
        self._socket.close()
        crowd.open.discard(self)
        if self._done_ns:
            if self._is_counted:
                crowd.count(
                    self._connection,
                    self._ssl,
                    due_ns=self._due_ns,
                    begun_ns=self._begun_ns,
                    connected_ns=self._connected_ns,
                    done_ns=self._done_ns,
                )
            else:
                crowd.tally.warmup += 1
        crowd.on_over(self)

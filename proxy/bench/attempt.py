"""One client: connects, shakes hands, makes its requests, and ends.

Callbacks of the loop on a bare socket; TLS is its `Channel`'s. What it measures is what a packet capture would show:
`connect` from the SYN to its answer, `handshake` from the ClientHello, which is made before, to the client's Finished.

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

from proxy.bench.channel import Channel, RefusedError
from proxy.bench.outcomes import Failure
from proxy.errors import UpstreamError
from proxy.http.codec_response import ResponseDecoder
from proxy.http.messages import ResponseHead

if TYPE_CHECKING:
    from proxy.bench.crowd import Crowd

_PIECE_BYTES = 65_536
_MAX_HEAD_BYTES = 65_536
_CLOSING_S = 1.0
"""How long the server may take to close after we said that it is over, or to send the ticket that we wait for."""
_SECOND_NS = 1_000_000_000
_CONNECTED = {0, errno.EISCONN}
_CONNECTING = {errno.EINPROGRESS, errno.EALREADY}


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
    """One connection; the crowd counts it, and is told when it is over."""

    __slots__ = (
        "_crowd",
        "_decoder",
        "_fd",
        "_left",
        "_sent_ns",
        "_state",
        "_unsent",
        "_wants_session",
        "begun_ns",
        "channel",
        "connected_ns",
        "deadline_ns",
        "done_ns",
        "due_ns",
        "failure",
        "first_byte_ns",
        "is_counted",
        "name",
        "socket",
    )

    def __init__(self, crowd: Crowd, name: str, due_ns: int, *, is_counted: bool, resumes: bool) -> None:
        self._crowd = crowd
        self._wants_session = resumes
        self._state = State.CONNECTED
        self._unsent = b""
        self.name = name
        self.is_counted = is_counted
        self.due_ns = due_ns
        self.connected_ns = self.done_ns = self.first_byte_ns = 0
        """0, each, as long as it has not come so far; `first_byte_ns` is how long the first answer took to begin."""
        self.failure: tuple[Failure, str] | None = None
        # The ClientHello costs this side as much as all the rest: it is no part of the server's time.
        session = crowd.sessions.get(name) if resumes else None
        self.channel = Channel(crowd.offer, name, session, asks_staple=crowd.asks_staple)
        address = crowd.work.address
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._fd = self.socket.fileno()
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        crowd.open.add(self)
        self.begun_ns = time.monotonic_ns()
        self._allow(crowd.work.timeouts.connect_s, self.begun_ns)
        failed = self.socket.connect_ex(address)
        if failed in _CONNECTING:
            # On loopback the answer is here by now, and the loop would see it later.
            failed = self.socket.connect_ex(address)
        if failed in _CONNECTED:
            self._on_connected()
        elif failed in _CONNECTING:
            crowd.loop.add_writer(self._fd, self._on_writable)
        else:
            crowd.loop.call_soon(self._fail, Failure.CONNECT, os.strerror(failed))

    def __repr__(self) -> str:
        return f"<Attempt {self.name} waits for {self._state.name}>"

    def time_is_over(self) -> None:
        """End it, since what it waits for did not come in time."""
        kind = _TIMEOUTS.get(self._state)
        if kind is None:
            self._over()
        else:
            self._fail(kind, "")

    def _allow(self, seconds: float, now_ns: int) -> None:
        self.deadline_ns = now_ns + int(seconds * _SECOND_NS)

    def _on_writable(self) -> None:
        self._crowd.loop.remove_writer(self._fd)
        if failed := self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._fail(Failure.CONNECT, os.strerror(failed))
        else:
            self._on_connected()

    def _on_connected(self) -> None:
        crowd = self._crowd
        self.connected_ns = time.monotonic_ns()
        self._allow(crowd.work.timeouts.handshake_s, self.connected_ns)
        self._state = State.HANDSHAKE
        self._flush()
        crowd.loop.add_reader(self._fd, self._on_readable)

    def _on_readable(self) -> None:
        try:
            data = self.socket.recv(_PIECE_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._on_end(os.strerror(error.errno or 0))
            return
        if not data:
            self._on_end("")
            return
        if self.is_counted:
            self._crowd.tally.bytes_in += len(data)
        try:
            self._on_data(data)
        except RefusedError as error:
            self._flush()  # the alert that tells the server why
            self._fail(error.kind, error.detail)

    def _on_data(self, data: bytes) -> None:
        if self._state is State.CLOSE:
            self.channel.look_for_alert(data)
            return
        self.channel.feed(data)
        if self._state is State.HANDSHAKE:
            if self.channel.is_established():
                self._on_established()
            else:
                self._flush()
        # Tickets, or the beginning of an answer, may have come with the end of the handshake.
        if self._state is State.ANSWER or self._state is State.TICKET:
            self._read()

    def _on_established(self) -> None:
        self.done_ns = time.monotonic_ns()
        requests = self._crowd.work.requests
        if self._wants_session:
            # One that was not taken, or is not there yet, is replaced.
            self._wants_session = not self.channel.is_resumed
            self.channel.mark_session()
        if requests:
            self._decoder = ResponseDecoder(_MAX_HEAD_BYTES)
            self._left = requests
            self._request()
        elif self._wants_session and not self._take_session():
            self._state = State.TICKET
            self._allow(_CLOSING_S, self.done_ns)
            self._flush()
        else:
            self._finish()

    def _request(self) -> None:
        self._left -= 1
        request = self._crowd.request(self.name, is_last=not self._left)
        self._decoder.expect(b"GET")
        self.channel.write(request)
        self._sent_ns = time.monotonic_ns()
        self._state = State.ANSWER
        self._allow(self._crowd.work.timeouts.answer_s, self._sent_ns)
        self._flush()

    def _read(self) -> None:
        """Take the plaintext that is there: of an answer, or none at all where tickets came."""
        while self._state is State.ANSWER or self._state is State.TICKET:
            data = self.channel.read()
            if data is None:
                if self._state is State.TICKET and self._take_session():
                    self._finish()
                else:
                    self._flush()  # in TLS 1.2 a server may want another handshake before it answers
                return
            if not data:
                self._on_end("")
            elif self._state is State.ANSWER:
                self._on_answer(data)

    def _on_answer(self, data: bytes) -> None:
        tally = self._crowd.tally
        if self._sent_ns:
            took = time.monotonic_ns() - self._sent_ns
            self._sent_ns = 0
            self.first_byte_ns = self.first_byte_ns or took
            if self.is_counted:
                tally.latencies.first_byte.add(took)
        try:
            events = self._decoder.feed(data)
        except UpstreamError as error:
            self._fail(Failure.ANSWER, error.detail)
            return
        if self.is_counted:
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
        session = self.channel.new_session()
        if session is None:
            return False
        self._crowd.sessions[self.name] = session
        return True

    def _finish(self) -> None:
        self._state = State.CLOSE
        self._allow(_CLOSING_S, time.monotonic_ns())
        self.channel.close()
        self._flush()

    def _flush(self) -> None:
        """Send what OpenSSL has written; what the socket does not take waits for it."""
        data = self.channel.output()
        if not data:
            return
        if self.is_counted:
            self._crowd.tally.bytes_out += len(data)
        if self._unsent:
            self._unsent += data
            return
        self._unsent = data
        self._send()

    def _send(self) -> None:
        try:
            sent = self.socket.send(self._unsent)
        except BlockingIOError:
            sent = 0
        except OSError:
            # The server has closed. What it sent before, perhaps an alert, is still to be read: reading tells the end.
            sent = len(self._unsent)
        self._unsent = self._unsent[sent:]
        if self._unsent:
            self._crowd.loop.add_writer(self._fd, self._send)
        else:
            self._crowd.loop.remove_writer(self._fd)

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

    def _fail(self, kind: Failure, detail: str) -> None:
        self.failure = kind, detail
        if kind is Failure.ALERT and not self.first_byte_ns:
            self.done_ns = 0  # in TLS 1.3 the server was not done: it has refused us after all
        self._over()

    def _over(self) -> None:
        if self._state is State.OVER:
            return
        self._state = State.OVER
        crowd = self._crowd
        crowd.loop.remove_reader(self._fd)
        crowd.loop.remove_writer(self._fd)
        crowd.count(self)
        self.socket.close()
        crowd.open.discard(self)
        crowd.on_over(self)

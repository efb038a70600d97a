"""Questions of handshakes that wait, from the workers to the keeper, and the answers: one pair of sockets a worker.

Datagrams in order (SOCK_SEQPACKET), made in the master before the fork, which keeps both ends: the death of a worker or
of the keeper breaks nothing. A keeper that has started says so, and is asked again what is still waited for.
"""

from __future__ import annotations

import logging
import os
import socket
import struct
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from proxy.cache.layout import KEY_BYTES
from proxy.identity import CacheKey
from proxy.log import Seldom
from proxy.ocsp.httpd import Outcome
from proxy.tls import clienthello
from proxy.tls.inline import Preset

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from proxy.httpd import Table
    from proxy.tls.inline import StapleWantedError

_log = logging.getLogger("stapleproxy.httpd")

MAX_STAPLE_BYTES = 200_000
"""What a datagram takes by Linux' default. A longer response is not stapled, where Apache staples up to 2 MiB."""
MAX_WAITING = 1_024
"""Handshakes of one worker that wait at a time. One more is not stapled; in Apache it would find no thread."""

_FULL_TOLD_EVERY_S = 60.0
_DATAGRAM_BYTES = 1 << 18
_SOCKET_BYTES = 1 << 20
_QUESTION = struct.Struct(f"!QH{KEY_BYTES}s")
_ANSWER = struct.Struct("!QB")
_HELLO = _ANSWER.pack(0, 0)
"""What a keeper says that starts."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be stapled for a certificate, by the settings of a site."""

    number: int
    """The asker's own."""
    site: int
    key: CacheKey
    extensions: bytes
    """The requestExtensions that the client has sent, in DER; b"": none."""

    def packed(self) -> bytes:
        return _QUESTION.pack(self.number, self.site, self.key) + self.extensions

    @classmethod
    def unpacked(cls, data: bytes) -> Question:
        number, site, key = _QUESTION.unpack_from(data)
        return cls(number, site, CacheKey(key), data[_QUESTION.size :])


class Wire:
    """The two ends between one worker and the keeper."""

    def __init__(self) -> None:
        self.of_worker, self.of_keeper = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (self.of_worker, self.of_keeper):
            end.setblocking(False)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BYTES)

    def close(self) -> None:
        self.of_worker.close()
        self.of_keeper.close()


@dataclass(frozen=True, slots=True)
class Inline:
    """What keeper and workers have in common where staples are fetched in handshakes."""

    table: Table
    wires: Sequence[Wire]
    """One for each worker, by its number."""


class _End:
    """One end: what the kernel does not take at once is sent as soon as it does."""

    def __init__(
        self, sock: socket.socket, loop: asyncio.AbstractEventLoop, on_datagram: Callable[[bytes], None]
    ) -> None:
        self._sock = sock
        self._loop = loop
        self._on_datagram = on_datagram
        self._unsent: deque[bytes] = deque()  # bounded by what is waited for
        loop.add_reader(sock, self._read)

    def send(self, data: bytes) -> None:
        self._unsent.append(data)
        if len(self._unsent) == 1:
            self._write()

    def _write(self) -> None:
        while self._unsent:
            try:
                self._sock.send(self._unsent[0])
            except BlockingIOError:
                self._loop.add_writer(self._sock, self._write)
                return
            except OSError as error:  # the kernel has no memory, say: that handshake waits until its client leaves
                _log.error("a message between worker and keeper was lost: %s", error)
            self._unsent.popleft()
        self._loop.remove_writer(self._sock)

    def _read(self) -> None:
        try:
            data = self._sock.recv(_DATAGRAM_BYTES)
        except BlockingIOError:
            return
        self._on_datagram(data)


class Asker:
    """A worker's side."""

    def __init__(self, wire: Wire, loop: asyncio.AbstractEventLoop) -> None:
        # An answer to a worker before this one, dead by now, must fit no question of this one.
        self._next = int.from_bytes(os.urandom(7)) or 1
        self._waiting: dict[int, tuple[Question, Callable[[Preset], None]]] = {}
        self._loop = loop
        self._full = Seldom(_FULL_TOLD_EVERY_S)
        self._end = _End(wire.of_worker, loop, self._on_answer)

    def ask(self, wanted: StapleWantedError, hello: bytes, then: Callable[[Preset], None]) -> None:
        """Ask for what a handshake wants; `then` is called with the answer, as late as it may come."""
        if len(self._waiting) >= MAX_WAITING:
            if self._full.is_due(self._loop.time()):
                _log.error("nothing is stapled for more clients: %d wait for a response already", MAX_WAITING)
            self._loop.call_soon(then, Preset(b""))
            return
        question = Question(self._next, wanted.site, wanted.key, clienthello.status_extensions(hello))
        self._next += 1
        self._waiting[question.number] = (question, then)
        self._end.send(question.packed())

    def _on_answer(self, data: bytes) -> None:
        if data == _HELLO:
            for question, _ in self._waiting.values():
                self._end.send(question.packed())
            return
        number, outcome = _ANSWER.unpack_from(data)
        _, then = self._waiting.pop(number, (None, None))
        if then is not None:  # else it was asked twice, of two keepers
            then(Preset(data[_ANSWER.size :], outcome == Outcome.FATAL))


class Answerer:
    """The keeper's side of one worker: each question is put to it once."""

    def __init__(
        self, wire: Wire, loop: asyncio.AbstractEventLoop, on_question: Callable[[Answerer, Question], None]
    ) -> None:
        self._on_question = on_question
        self._open: set[int] = set()
        self._end = _End(wire.of_keeper, loop, self._on_datagram)
        self._end.send(_HELLO)

    def answer(self, question: Question, outcome: Outcome, staple: bytes) -> None:
        """Answer; what is too long for it is not stapled."""
        self._open.discard(question.number)
        if len(staple) > MAX_STAPLE_BYTES:
            _log.error("a response of %d bytes is not stapled: at most %d can be", len(staple), MAX_STAPLE_BYTES)
            outcome, staple = Outcome.NONE, b""
        self._end.send(_ANSWER.pack(question.number, outcome) + staple)

    def _on_datagram(self, data: bytes) -> None:
        question = Question.unpacked(data)
        if question.number not in self._open:  # else it was sent to the keeper before, and again to this one
            self._open.add(question.number)
            self._on_question(self, question)

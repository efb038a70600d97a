"""A backend that writes down what comes, connection by connection, and answers what it can read without a doubt."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import Self

from differential import strict

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_REFUSAL = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_PIECE = 1 << 18


@dataclass(slots=True)
class Arrival:
    """One connection that a proxy has made."""

    data: bytearray = field(default_factory=bytearray)
    reading: strict.Reading = field(default_factory=strict.Reading)
    is_closed: bool = False
    is_continued: bool = False
    """The request that is coming has been told to."""


@dataclass(frozen=True, slots=True)
class Record:
    """What one case brought to the backend."""

    requests: tuple[strict.Request, ...]
    faults: tuple[str, ...]
    open_halves: int
    """Connections that are still open after half a request: what comes next on them would be taken for its rest."""


class Recorder:
    """Serves one proxy, in a thread; `take` is for the test's."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        self._arrivals: list[Arrival] = []
        self._requests: list[strict.Request] = []
        """In the order in which they came, whatever the connection; up to the first fault of a case."""
        self._has_fault = False
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._lock = threading.Lock()
        self._is_over = False
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over = True
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()
        self._selector.close()

    def take(self, *, within_s: float = 1.0) -> Record:
        """What came since the last time, when all that had been sent by now is read; waits for halves to be closed."""
        give_up_at = time.monotonic() + within_s
        while True:
            with self._lock:
                self._turn(0)  # until the kernel holds nothing more
                halves = [each for each in self._arrivals if each.reading.left and not each.is_closed]
                if not halves or time.monotonic() > give_up_at:
                    return self._take(len(halves))
            time.sleep(0.001)  # between two looks, bounded above

    def _take(self, open_halves: int) -> Record:
        requests, self._requests = self._requests, []
        self._has_fault = False
        faults = [f"{each.reading.fault}: {bytes(each.data)!r}" for each in self._arrivals if each.reading.fault]
        # A connection with a fault or half a request belongs to this case alone.
        self._arrivals = [each for each in self._arrivals if not each.is_closed and not each.reading.left]
        for each in self._arrivals:
            each.data.clear()
        return Record(tuple(requests), tuple(faults), open_halves)

    def _serve(self) -> None:
        while not self._is_over:
            self._selector.select(0.05)
            with self._lock:
                self._turn(0)

    def _turn(self, timeout_s: float) -> None:
        while ready := self._selector.select(timeout_s):
            for key, _ in ready:
                if key.fileobj is self._listener:
                    with contextlib.suppress(BlockingIOError):
                        sock, _ = self._listener.accept()
                        sock.setblocking(False)
                        arrival = Arrival()
                        self._arrivals.append(arrival)
                        self._selector.register(sock, selectors.EVENT_READ, arrival)
                else:
                    self._read(key.fileobj, key.data)

    def _read(self, sock: socket.socket, arrival: Arrival) -> None:
        try:
            data = sock.recv(_PIECE)
        except ConnectionError:
            data = b""
        answers = b""
        if data:
            reading = arrival.reading
            arrival.data += data
            before = len(reading.requests)
            reading.feed(data)
            if not self._has_fault:
                self._requests += reading.requests[before:]
            self._has_fault |= bool(reading.fault)
            answers = ANSWER * (len(reading.requests) - before)
            arrival.is_continued &= not answers
            if reading.fault:
                answers += _REFUSAL
            elif reading.awaits_continue and not arrival.is_continued:
                answers += CONTINUE
                arrival.is_continued = True
        is_last = bool(arrival.reading.fault) or (arrival.reading.requests and arrival.reading.requests[-1].is_last)
        with contextlib.suppress(OSError):
            sock.sendall(answers)
        if not data or is_last:
            arrival.is_closed = True
            self._selector.unregister(sock)
            sock.close()

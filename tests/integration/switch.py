"""A switch on the way to a server: connections go to where it is set, and are cut when that changes."""

from __future__ import annotations

import contextlib
import socket
import threading
import time


class Switch:
    """Forwards bytes of loopback; `port` is its own. What comes back may be made to take `delay_s`."""

    def __init__(self, to: int) -> None:
        self._to = to
        self.delay_s = 0.0
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def set(self, to: int) -> None:
        """Lead elsewhere from now on."""
        with self._lock:
            self._to = to
            for sock in self._open:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
            self._open.clear()

    def close(self) -> None:
        self._listening.close()
        self.set(0)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._to), 5)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            with self._lock:
                self._open |= {client, server}
            for one, other in ((client, server), (server, client)):
                threading.Thread(target=self._pump, args=(one, other, one is server), daemon=True).start()

    def _pump(self, one: socket.socket, other: socket.socket, is_answer: bool) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65_536):
                if is_answer:
                    time.sleep(self.delay_s)
                other.sendall(data)
        for sock in (one, other):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        with self._lock:
            self._open.discard(one)
        one.close()

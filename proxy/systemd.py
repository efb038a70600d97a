"""The service manager that started us, if one did: what it is told (sd_notify(3)), and the sockets it has opened
(sd_listen_fds(3)). Both are a few environment variables, so no library is needed.

The variables are taken away when they are read: a command that the keeper runs must not speak in our name.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from proxy.errors import StartError

if TYPE_CHECKING:
    from collections.abc import MutableMapping

_log = logging.getLogger("stapleproxy.master")

_FIRST_FD = 3
_MAX_FDS = 1024
_SEND_TIMEOUT_S = 1.0
"""The manager reads at once; one that does not must not hold up the master."""
_US_PER_S = 1_000_000


@dataclass(frozen=True, slots=True)
class Manager:
    """Who is told how it goes; without an address nobody is."""

    address: str = ""
    """Of a datagram socket: a path, or @NAME in the abstract namespace."""
    watchdog_s: float | None = None
    """So often it wants to hear WATCHDOG=1, else it takes us for dead; None: it does not wait for it."""

    @classmethod
    def from_environment(cls, environment: MutableMapping[str, str], pid: int) -> Manager:
        """Take NOTIFY_SOCKET and the watchdog's variables out of `environment`; `pid` is our own."""
        address = environment.pop("NOTIFY_SOCKET", "")
        interval, watched = environment.pop("WATCHDOG_USEC", ""), environment.pop("WATCHDOG_PID", str(pid))
        if not address.startswith(("/", "@")):
            return cls()
        is_ours = watched == str(pid) and interval.isdecimal() and int(interval) > 0
        return cls(address, int(interval) / _US_PER_S if is_ours else None)

    def environment(self, pid: int) -> dict[str, str]:
        """Give the variables by which the process `pid`, which takes our place, finds the manager."""
        variables = {"NOTIFY_SOCKET": self.address} if self.address else {}
        if self.watchdog_s is not None:
            variables |= {"WATCHDOG_USEC": str(round(self.watchdog_s * _US_PER_S)), "WATCHDOG_PID": str(pid)}
        return variables

    def ready(self, status: str) -> None:
        """Tell that clients are served, after the start and after a reload; `status` is shown by systemctl status."""
        self._send("READY=1", f"STATUS={_one_line(status)}")

    def starting(self, status: str, within_s: float) -> None:
        """Tell what lasts, and that it may last so long, whatever TimeoutStartSec= says."""
        self._send(f"STATUS={_one_line(status)}", _extend(within_s))

    def reloading(self, within_s: float) -> None:
        """Tell that a reload begins; `ready` ends it."""
        self._send(
            "RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}", "STATUS=reloading", _extend(within_s)
        )

    def stopping(self, within_s: float) -> None:
        """Tell that the end begins, and that it may take so long, whatever TimeoutStopSec= says."""
        self._send("STOPPING=1", "STATUS=finishing open requests", _extend(within_s))

    def alive(self) -> None:
        """Feed the watchdog."""
        self._send("WATCHDOG=1")

    def successor(self, pid: int, status: str) -> None:
        """Tell that from now on the process `pid` is the service; only we are believed this."""
        self._send(f"MAINPID={pid}", f"STATUS={_one_line(status)}")

    def _send(self, *assignments: str) -> None:
        if not self.address:
            return
        name = f"\0{self.address[1:]}" if self.address.startswith("@") else self.address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.settimeout(_SEND_TIMEOUT_S)
                sock.sendto("\n".join(assignments).encode(), name)
        except OSError as error:
            # Nothing is lost but what the manager shows; if it counts on it, it will act itself.
            _log.warning("the service manager could not be told %s: %s", assignments[0], error.strerror or error)


def inherited(environment: MutableMapping[str, str], pid: int) -> list[socket.socket]:
    """Take over the listening sockets that the service manager has opened for `pid`, which is us; raises StartError."""
    meant_for, count_text = environment.pop("LISTEN_PID", ""), environment.pop("LISTEN_FDS", "")
    environment.pop("LISTEN_FDNAMES", None)
    if meant_for != str(pid):
        return []
    count = int(count_text) if count_text.isdecimal() else -1
    if not 0 <= count <= _MAX_FDS:
        raise StartError(f"LISTEN_FDS is {count_text!r}, which is no number of sockets: start without it")
    sockets: list[socket.socket] = []
    try:
        sockets.extend(map(_listening, range(_FIRST_FD, _FIRST_FD + count)))  # those before a wrong one are in it
    except BaseException:  # whatever it is, it goes on; only the sockets must not stay
        for sock in sockets:
            sock.close()
        raise
    return sockets


def address_text(sock: socket.socket) -> str:
    """Write where a socket listens as `listen` has it, or the path of a Unix socket."""
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return os.fsdecode(name) or "a Unix socket without a name"
    host, port = name[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _listening(fd: int) -> socket.socket:
    try:
        sock = socket.socket(fileno=fd)
    except OSError:
        raise StartError(f"LISTEN_FDS promises a socket as descriptor {fd}, and there is none") from None
    sock.set_inheritable(False)
    sock.setblocking(False)
    if sock.type == socket.SOCK_STREAM and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return sock
    sock.close()
    raise StartError(
        f"the socket unit has opened something else than a listening stream socket (descriptor {fd}): "
        "write ListenStream= and Accept=no in it"
    )


def _extend(within_s: float) -> str:
    return f"EXTEND_TIMEOUT_USEC={round(within_s * _US_PER_S)}"


def _one_line(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)

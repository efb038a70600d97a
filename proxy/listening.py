"""Listening sockets, opened by the master: one for each worker and address, so that the kernel spreads the clients."""

from __future__ import annotations

import errno
import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from proxy.errors import StartError
from proxy.settings.values import ListenAddress

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

_PROBE_TIMEOUT_S = 1.0
_ADMIN_BACKLOG = 16

SockName = tuple[str | int, ...]
"""As getsockname gives it: host, port, and two more for IPv6."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where to listen, as the configuration says it: its port may be 0, which stands for one that is free."""

    family: int
    host: str
    port: int
    rest: tuple[int, ...] = ()
    """What IPv6 has after the port."""
    is_admin: bool = False
    """It is of the admin interface: no worker has it."""

    def at(self, port: int) -> SockName:
        return (self.host, port, *self.rest)


class Slot:
    """One listening socket. The master holds it, so that it outlives the worker that accepts from it."""

    __slots__ = ("_family", "name", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock: socket.socket | None = sock
        """None: closed for now."""
        self._family = sock.family
        self.name: SockName = sock.getsockname()

    @property
    def port(self) -> int:
        return int(self.name[1])

    @property
    def is_shared(self) -> bool:
        """Further sockets can have the same address; not so if somebody else has opened this one."""
        return self.sock is None or bool(self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT))

    def open(self) -> None:
        """Have it open again after `close`; raises StartError."""
        if self.sock is None:
            self.sock = _bind(self._family, self.name, ListenAddress(str(self.name[0]), self.port), is_shared=True)

    def close(self) -> None:
        """Let the kernel give new clients to the others. Whoever was queued here is refused, and may try again."""
        if self.sock is not None:
            self.sock.close()
            self.sock = None


Ports = dict[Place, list[Slot]]
"""All sockets of each address; `inheritance.share` says whose they are."""


def places(address: ListenAddress, *, is_admin: bool = False) -> list[Place]:
    """Resolve an address; raises StartError."""
    try:
        found = socket.getaddrinfo(
            address.host or None, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV
        )
    except OSError as error:
        raise StartError(f"cannot listen on {address}: the host is not known ({error.strerror})") from error
    if not address.host and not socket.has_dualstack_ipv6():
        found = [entry for entry in found if entry[0] == socket.AF_INET]
    return [
        Place(family, str(name[0]), address.port, tuple(int(each) for each in name[2:]), is_admin)
        for family, _, _, _, name in found
    ]


def open_ports(
    addresses: Sequence[ListenAddress],
    workers: int,
    before: Mapping[Place, Sequence[Slot]],
    *,
    is_admin: bool = False,
) -> Ports:
    """Give each address a socket for each worker, bound but not listening yet; those of `before` are kept.

    Clients are refused until the workers listen: better than waiting in a queue for a front that may never be ready.
    Raises StartError; then what is new is closed again.
    """
    ports: Ports = {}
    new: list[Slot] = []
    ours = {slot.port for slots in before.values() for slot in slots}
    try:
        for address in addresses:
            port = address.port
            for place in places(address, is_admin=is_admin):
                if place in ports:
                    raise StartError(f"cannot listen on {address}: another entry of the list is the same address")
                slots = ports[place] = list(before.get(place, ()))
                if slots:
                    port = slots[0].port
                elif port not in ours:
                    # SO_REUSEPORT lets any process of the same user in. A bind without it finds another server first;
                    # it would find us too, on one address of this port while all of them are wanted, say.
                    with _bind(place.family, place.at(port), address, is_shared=False) as probe:
                        port = probe.getsockname()[1]  # port 0: chosen once, the same for all
                while len(slots) < workers and all(slot.is_shared for slot in slots):
                    slots.append(Slot(_bind(place.family, place.at(port), address, is_shared=True)))
                    new.append(slots[-1])
    except BaseException:  # whatever it is, it goes on; only the sockets must not stay
        for slot in new:
            slot.close()
        raise
    return ports


def open_unix(path: Path) -> socket.socket:
    """Listen on a Unix socket that only this user may open; raises StartError.

    A socket that nobody listens on any more is replaced; anything else that bears the name is left alone.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.is_socket():
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                probe.settimeout(_PROBE_TIMEOUT_S)
                if probe.connect_ex(str(path)) != errno.ECONNREFUSED:
                    raise StartError(f"admin.socket {path}: another program listens there: give each its own path")
            path.unlink()
        umask = os.umask(0o177)
        try:
            sock.bind(str(path))
        finally:
            os.umask(umask)
        sock.listen(_ADMIN_BACKLOG)
    except OSError as error:
        sock.close()
        raise StartError(f"admin.socket {path}: cannot be made: {error.strerror or error}") from error
    except BaseException:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


def describe(slots: Iterable[Slot]) -> str:
    """Where they listen, as an operator writes it."""
    return ", ".join(str(ListenAddress(str(slot.name[0]), slot.port)) for slot in slots)


def _bind(family: int, sockaddr: SockName, address: ListenAddress, *, is_shared: bool) -> socket.socket:
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise StartError(f"cannot listen on {address}: {error.strerror}") from error
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if is_shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(sockaddr)
        if not is_shared:
            sock.listen(1)
    except OSError as error:
        sock.close()
        raise StartError(f"cannot listen on {address}: {_why(error, address)}") from error
    sock.setblocking(False)
    return sock


def _why(error: OSError, address: ListenAddress) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"another program listens there already; `ss -ltnp 'sport = :{address.port}'` shows which"
    if error.errno in {errno.EACCES, errno.EPERM}:
        return "permission denied; ports below 1024 need root, or CAP_NET_BIND_SERVICE in the service's unit"
    if error.errno == errno.EADDRNOTAVAIL:
        return "this machine has no such address; `ip address` shows those it has"
    return str(error.strerror)

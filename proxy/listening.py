"""Listening sockets, opened by the master: one for each worker and address, so that the kernel spreads the clients."""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING

from proxy.errors import StartError
from proxy.settings.values import ListenAddress

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_PROBE_TIMEOUT_S = 1.0
_ADMIN_BACKLOG = 16

SockName = tuple[str | int, ...]
"""As getsockname gives it: host, port, and two more for IPv6."""


def open_sockets(addresses: Sequence[ListenAddress], workers: int) -> list[list[socket.socket]]:
    """For each worker its sockets, bound but not listening yet; raises StartError.

    Clients are refused until the workers listen: better than waiting in a queue for a front that may never be ready.
    """
    sockets: list[list[socket.socket]] = [[] for _ in range(workers)]
    try:
        for address in addresses:
            port = address.port
            for family, host, rest in _resolve(address):
                # SO_REUSEPORT lets any process of the same user in. A bind without it finds another server first.
                with _bind(family, (host, port, *rest), address, is_shared=False) as probe:
                    port = probe.getsockname()[1]  # port 0: chosen once, the same for all
                for own in sockets:
                    own.append(_bind(family, (host, port, *rest), address, is_shared=True))
    except BaseException:
        for own in sockets:
            for sock in own:
                sock.close()
        raise
    return sockets


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


def reopen(names: Sequence[tuple[int, SockName]]) -> list[socket.socket]:
    """Bind again what `names_of` told of sockets that were closed; raises StartError."""
    return [_bind(family, name, ListenAddress(str(name[0]), int(name[1])), is_shared=True) for family, name in names]


def names_of(sockets: Sequence[socket.socket]) -> list[tuple[int, SockName]]:
    """Family and address of each, for `reopen`."""
    return [(sock.family, sock.getsockname()) for sock in sockets]


def describe(sockets: Sequence[socket.socket]) -> str:
    """Where they listen, as an operator writes it."""
    names = (sock.getsockname() for sock in sockets)
    return ", ".join(f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}" for name in names)


def _resolve(address: ListenAddress) -> list[tuple[int, str, tuple[int, ...]]]:
    """Family, host, and what IPv6 has after the port."""
    try:
        found = socket.getaddrinfo(
            address.host or None, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV
        )
    except OSError as error:
        raise StartError(f"cannot listen on {address}: the host is not known ({error.strerror})") from error
    if not address.host and not socket.has_dualstack_ipv6():
        found = [entry for entry in found if entry[0] == socket.AF_INET]
    return [(family, str(sockaddr[0]), tuple(map(int, sockaddr[2:]))) for family, _, _, _, sockaddr in found]


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

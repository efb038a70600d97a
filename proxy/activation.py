"""Which setting each socket is for that the service manager has opened."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from proxy.errors import ConfigError, Problem
from proxy.listening import Place, Slot, places
from proxy.systemd import address_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from proxy.settings.values import ListenAddress


def adopt(
    sockets: Sequence[socket.socket], addresses: Sequence[ListenAddress], admin_path: Path | None
) -> tuple[dict[Place, list[Slot]], socket.socket | None]:
    """Give each socket its place among the `addresses`; the second is the admin's, None: it is none of them.

    Raises ConfigError with all that are for nothing, and StartError as `places` does.
    """
    wanted = {(place.family, place.host, place.port): place for address in addresses for place in places(address)}
    ports: dict[Place, list[Slot]] = {}
    admin, problems = None, []
    for sock in sockets:
        if sock.family == socket.AF_UNIX:
            if admin_path is not None and sock.getsockname() == str(admin_path):
                admin = sock
            else:
                problems.append(_for_nothing(sock, "admin.socket"))
        elif (place := wanted.get((sock.family, *sock.getsockname()[:2]))) is None:
            problems.append(_for_nothing(sock, "listen"))
        elif sock.family == socket.AF_INET6 and not sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY):
            what = f"the socket unit has opened {address_text(sock)} for IPv4 as well"
            problems.append(Problem("listen", f"{what}: write BindIPv6Only=ipv6-only in it"))
        else:
            # Used in common by all workers: a sibling beside it (SO_REUSEPORT) would share the clients with a queue
            # that the manager holds open, and in which they would wait while its one worker is replaced.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)
            ports.setdefault(place, []).append(Slot(sock))
    if problems:
        raise ConfigError(*problems)
    return ports, admin


def _for_nothing(sock: socket.socket, key: str) -> Problem:
    where = address_text(sock)
    what = f"the socket unit has opened {where}, which the configuration does not have"
    return Problem(key, f"{what}: add it here, or take it out of the unit")

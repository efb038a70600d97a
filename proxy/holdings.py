"""What the kernel gave a generation, and the next one keeps where it fits: sockets, cache, counts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from proxy.cache.layout import parse_argument
from proxy.cache.segment import Segment
from proxy.counters import Counters
from proxy.listening import open_ports, open_unix

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping, Sequence
    from contextlib import ExitStack
    from pathlib import Path

    from proxy.listening import Place, Ports, Slot
    from proxy.settings.model import Settings
    from proxy.settings.values import ListenAddress


@dataclass(frozen=True, slots=True, eq=False)
class AdminSocket:
    """A Unix socket, and the file by which it is found."""

    path: Path
    sock: socket.socket
    is_ours: bool = True
    """Its file is removed with it; not so if the service manager has opened it, who goes on listening."""

    def close(self) -> None:
        self.sock.close()
        if self.is_ours:
            self.path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Holdings:
    """What the kernel gave us."""

    ports: Mapping[Place, Sequence[Slot]] = field(default_factory=dict)
    segment: Segment | None = None
    admin: AdminSocket | None = None
    cache_lock: int | None = None
    """A descriptor that has the lock on the cache's file, where that is another program's."""
    counters: Counters = field(default_factory=Counters)


def take_segment(settings: Settings, before: Holdings, undo: ExitStack) -> Segment:
    """Keep the cache if it is to be of the same kind, else make another. Raises StartError."""
    argument, eviction = parse_argument(settings.stapling.local_cache), settings.stapling.cache_eviction
    old = before.segment
    if old and (old.argument, old.eviction) == (argument, eviction):
        return old
    segment = Segment.create(argument, eviction, old.lock if old else before.cache_lock)
    undo.callback(segment.close)
    undo.callback(segment.put_back)
    if not segment.is_continued:
        segment.distrust()  # until the keeper has verified again what an earlier run left
    return segment


def take_admin(settings: Settings, before: Holdings, undo: ExitStack) -> AdminSocket | None:
    """Keep the admin interface's socket if it is to have the same path, else make another. Raises StartError."""
    path = settings.admin.socket
    if path is None or (before.admin and before.admin.path == path):
        return before.admin if path else None
    admin = AdminSocket(path, open_unix(path))
    undo.callback(admin.close)
    return admin


def take_ports(
    addresses: Sequence[ListenAddress], count: int, before: Holdings, undo: ExitStack, *, is_admin: bool = False
) -> Ports:
    """Keep what listens on these addresses, and open what they lack for `count` workers. Raises StartError."""
    ports = open_ports(addresses, count, before.ports, is_admin=is_admin)
    undo.callback(_close_new, ports, before.ports)
    return ports


def _close_new(ports: Ports, before: Mapping[Place, Sequence[Slot]]) -> None:
    for place, slots in ports.items():
        for slot in slots[len(before.get(place, ())) :]:
            slot.close()

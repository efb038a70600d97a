"""Accepting clients, and not accepting them: what is done at the limits of connections and of descriptors.

At the limit of descriptors nothing is accepted, and the kernel keeps clients waiting in the queue of the socket. libuv
by itself would accept and drop whoever waits there, by a descriptor that it keeps for that; and without that one it
would spin: each round of the loop tries again, and nobody is told (seen with strace). So the listening is ended before
it comes to that, and begun again when there is room. What the event loop listens on is a copy of the socket each time:
ending it closes the copy alone.

How many descriptors are open is counted, not asked of the kernel, except that each second one is tried.
"""

from __future__ import annotations

import errno
import logging
import os
import resource
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Protocol

from proxy.limits import Admission, DescriptorBudget, Refusal
from proxy.log import Seldom, about

if TYPE_CHECKING:
    import asyncio
    import socket
    from collections.abc import Iterable, Sized

    from proxy.settings.limits import LimitSettings

MakeProtocol = Callable[[], "asyncio.BaseProtocol"]

_log = logging.getLogger("stapleproxy.worker")

_BACKLOG = 1024
_REFUSALS_TOLD_EVERY_S = 1.0
_STOPS_TOLD_EVERY_S = 10.0
_LATER_DESCRIPTORS = 16
"""For what a worker opens in its life and is no connection."""


class Door(Protocol):
    """Who says whether there is room for one more client."""

    def admit(self, host: str) -> bool: ...
    def leave(self, host: str) -> None: ...


class Acceptor:
    """The listening sockets of one worker. `connections` are all that are open, on either side."""

    def __init__(self, connections: Sized, limits: LimitSettings, loop: asyncio.AbstractEventLoop) -> None:
        self._connections = connections
        self._loop = loop
        self._doors: list[tuple[MakeProtocol, socket.socket]] = []
        self._servers: list[asyncio.AbstractServer] = []
        self._admission = Admission(limits.max_connections, limits.max_connections_per_client)
        self._refusals = Seldom(_REFUSALS_TOLD_EVERY_S)
        self._told_refused = 0
        self._stops = Seldom(_STOPS_TOLD_EVERY_S)
        self._others = 0
        self._stop_at = 0
        self._is_stopping = False
        self._is_paused = False

    @property
    def admission(self) -> Admission:
        """Who was let in, and who was not."""
        return self._admission

    async def open(self, groups: Iterable[tuple[MakeProtocol, Iterable[socket.socket]]]) -> None:
        """Listen on sockets, and what makes the protocol of each connection to them; `close` closes them."""
        self._doors = [(partial(self._accept, make), sock) for make, sockets in groups for sock in sockets]
        open_now = len(os.listdir("/proc/self/fd"))  # noqa: PTH208  # only how many
        self._others = open_now + len(self._doors) + _LATER_DESCRIPTORS
        self._stop_at = self._budget().stop_at
        await self._listen()

    async def _listen(self) -> None:
        for accept, sock in self._doors:
            copy = sock.dup()
            copy.setblocking(False)
            self._servers.append(await self._loop.create_server(accept, sock=copy, backlog=_BACKLOG))

    def close(self) -> None:
        """Listen no more: new clients are refused by the kernel."""
        self._end_listening()
        self._is_paused = False
        for _, sock in self._doors:
            sock.close()
        self._doors.clear()

    def _end_listening(self) -> None:
        for server in self._servers:
            server.close()
        self._servers.clear()

    def _budget(self) -> DescriptorBudget:
        return DescriptorBudget(resource.getrlimit(resource.RLIMIT_NOFILE)[0], self._others)

    def _accept(self, make_protocol: MakeProtocol) -> asyncio.BaseProtocol:
        if len(self._connections) >= self._stop_at and not self._is_stopping:
            # Not here: the event loop is in the middle of accepting. What is in the queue now may still come in, for
            # which there are descriptors left.
            self._is_stopping = True
            self._loop.call_soon(self._pause)
        return make_protocol()

    def _pause(self) -> None:
        self._is_stopping = False
        if not self._servers:
            return
        self._end_listening()
        self._is_paused = True
        if self._stops.is_due(self._loop.time()):
            _log.warning(
                "no client is accepted for now: %d connections are open, and the limit of open files is %d",
                len(self._connections),
                resource.getrlimit(resource.RLIMIT_NOFILE)[0],
            )

    async def look(self) -> None:
        """Stop or begin again, by how it stands; to be called each second. The limit may have been changed."""
        budget = self._budget()
        self._stop_at = budget.stop_at
        count, can_open = len(self._connections), _can_open()
        if self._is_paused:
            if count <= budget.go_on_at and can_open:
                try:
                    await self._listen()
                except OSError:  # somebody else took the last descriptor: once more in a second
                    self._end_listening()
                    return
                if not self._doors:  # closed meanwhile
                    self._end_listening()
                    return
                self._is_paused = False
                what = "clients are accepted again: %d connections are open"
                _log.warning(what, count, extra=about(is_over=True))
        elif count >= budget.stop_at or not can_open:
            self._pause()

    # Each connection calls these.

    def admit(self, host: str) -> bool:
        """Whether a client may come in; if not, it is to be closed at once."""
        why = self._admission.admit(host)
        if why is None:
            return True
        if self._refusals.is_due(self._loop.time()):
            refused = sum(self._admission.refused.values())
            count, self._told_refused = refused - self._told_refused, refused
            of_whom = f" of {host}" if why is Refusal.CLIENT else ""
            _log.warning("%d connections closed as they came, the last%s: limits.%s", count, of_whom, why)
        return False

    def leave(self, host: str) -> None:
        """Tell that a client that was admitted has gone."""
        self._admission.leave(host)


def _can_open() -> bool:
    try:
        os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        return error.errno not in {errno.EMFILE, errno.ENFILE}
    return True

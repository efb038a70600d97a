"""Whether a server is there: one loop listens, notices, waits, looks again. Its operations fail at once meanwhile."""

from __future__ import annotations

import asyncio
import logging
import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NoReturn, TypeVar

from proxy.keeper.fleet import decide
from proxy.keeper.fleet.trouble import FleetTrouble
from proxy.keeper.status import FleetServer
from proxy.log import about

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from proxy.keeper.fleet.server import Server

T = TypeVar("T")

_LISTEN_S = 0.5
"""So soon a failed operation is noticed by the loop that listens."""

_log = logging.getLogger("stapleproxy.keeper")


class Link:
    """One server, and how it stands with it. `jitter` gives numbers in [0, 1)."""

    def __init__(self, name: str, server: Server, jitter: Callable[[], float]) -> None:
        self.name = name
        self.state = FleetServer(name, is_up=False, since=datetime.now(UTC), reason="", detail="")
        self.is_settled = asyncio.Event()
        """Set when it is known whether the server is there."""
        self.came_up = asyncio.Event()
        """Set each time when the server has come back: what is there has to be looked at."""
        self.operations = 0
        self.failures = 0
        self._server = server
        self._jitter = jitter

    async def run(
        self, script: str, read: Callable[[object], T], key: bytes, *arguments: str | bytes | int
    ) -> T | None:
        """Run a script for a certificate, and read what it says; None: the server is away."""
        return await self._unless_away(lambda: self._server.run(script, read, key, *arguments))

    async def head(self, key: bytes) -> bytes | None:
        """Give the first bytes of a certificate's value; None: the server is away."""
        return await self._unless_away(lambda: self._server.head(key))

    async def _unless_away(self, operation: Callable[[], Awaitable[T]]) -> T | None:
        if not self.state.is_up:
            return None
        self.operations += 1
        try:
            return await operation()
        except FleetTrouble as trouble:
            self._went(trouble)
            return None

    @property
    def channel(self) -> str:
        return self._server.channel

    async def listen(self, hear: Callable[[bytes], None]) -> NoReturn:
        """Give each announcement to `hear`, for ever; cancel to stop."""
        loop = asyncio.get_running_loop()
        in_a_row = 0
        while True:
            came_s = math.inf
            try:
                async with self._server.subscribed() as subscription:
                    came_s = loop.time()
                    self._came()
                    while self.state.is_up:
                        if message := await subscription.next(_LISTEN_S):
                            hear(message)
            except FleetTrouble as trouble:
                self._went(trouble)
            in_a_row = 1 if loop.time() - came_s > decide.STEADY_S else in_a_row + 1
            await asyncio.sleep(decide.retry_s(in_a_row, self._jitter()))

    async def close(self) -> None:
        """Give up the connections."""
        self.state = FleetServer(self.name, is_up=False, since=datetime.now(UTC), reason="", detail="")
        await self._server.close()

    def _came(self) -> None:
        extra = about(upstream=self.name, is_over=True)
        _log.info("%s: responses are shared over it", self.name, extra=extra)
        self.state = FleetServer(self.name, is_up=True, since=datetime.now(UTC), reason="", detail="")
        self.is_settled.set()
        self.came_up.set()

    def _went(self, trouble: FleetTrouble) -> None:
        self.is_settled.set()
        self.failures += 1
        what = "%s: %s; until it is back each machine asks responders by itself, and staples what it has"
        _log.warning(what, self.name, trouble, extra=about(upstream=self.name, reasons=[trouble.reason]))
        was_up, since = self.state.is_up, self.state.since
        self.state = FleetServer(
            self.name,
            is_up=False,
            since=datetime.now(UTC) if was_up else since,
            reason=trouble.reason,
            detail=trouble.detail,
        )

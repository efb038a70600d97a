"""A worker: accepts connections, terminates TLS, staples from shared memory, proxies. It never asks a responder.

It joins `tls` and `http`, which do not know each other: each connection is a `Frontend` (HTTP) on a `TlsTransport`
(TLS) on a socket. Everything that decides was built in the master before the fork.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import uvloop

from proxy.deadlines import SWEEP_INTERVAL_S, Deadlines
from proxy.http.frontend import Frontend
from proxy.http.upstream import UpstreamPool
from proxy.tls.transport import TlsTransport

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence

    from OpenSSL import SSL

    from proxy.names import NameTable
    from proxy.settings.model import HttpSettings
    from proxy.settings.values import UpstreamAddress

_log = logging.getLogger("stapleproxy.worker")

_BACKLOG = 1024
_DRAIN_POLL_S = 0.05
# Connections are freed by reference counting; the collector only looks for cycles that errors leave behind.
_GC_THRESHOLD = 50_000


@dataclass(frozen=True, slots=True)
class Route:
    """Where a site's requests go."""

    upstream: UpstreamAddress
    default_host: str
    """Stands in where HTTP/1.0 names none."""
    hosts: NameTable[bool] | None
    """Those that are served; None: any."""


@dataclass(frozen=True, slots=True)
class Plan:
    """All that a worker needs; a context's app data is the index of its site's route."""

    contexts: NameTable[SSL.Context | None]
    """By server name; None: such clients are refused."""
    routes: tuple[Route, ...]
    http: HttpSettings
    handshake_timeout_s: float
    drain_timeout_s: float


def run(
    plan: Plan,
    sockets: Sequence[socket.socket],
    life_fd: int,
    ready_fd: int,
    tell: Callable[[float], None],
) -> int:
    """Serve until SIGTERM, or until `life_fd` says that the master is gone; the exit status.

    One byte is written to `ready_fd` when connections are accepted. `tell` is called each second, and at the end, with
    the time: what the handshakes counted goes to where others see it.
    """
    gc.set_threshold(_GC_THRESHOLD)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_Worker(plan, runner.get_loop(), tell).serve(sockets, life_fd, ready_fd))
    return 0


class _Worker:
    def __init__(self, plan: Plan, loop: asyncio.AbstractEventLoop, tell: Callable[[float], None]) -> None:
        self._plan = plan
        self._loop = loop
        self._tell = tell
        self._deadlines = Deadlines()
        self._is_draining = False
        self._stop = asyncio.Event()
        pools: dict[UpstreamAddress, UpstreamPool] = {}
        for route in plan.routes:
            if route.upstream not in pools:
                pools[route.upstream] = UpstreamPool(route.upstream, plan.http, self._deadlines, loop)
        self._pools = pools

    async def serve(self, sockets: Sequence[socket.socket], life_fd: int, ready_fd: int) -> None:
        loop = self._loop
        loop.add_signal_handler(signal.SIGTERM, self._stop.set)
        loop.add_reader(life_fd, self._on_master_gone, life_fd)
        servers = [await loop.create_server(self._accept, sock=sock, backlog=_BACKLOG) for sock in sockets]
        os.write(ready_fd, b"r")
        os.close(ready_fd)
        sweeper = loop.create_task(self._sweep())
        await self._stop.wait()
        for server in servers:
            server.close()
        await self._drain()
        sweeper.cancel()
        self._tell(time.time())

    def _on_master_gone(self, life_fd: int) -> None:
        _log.warning("the master is gone; finishing what is open, then leaving")
        self._loop.remove_reader(life_fd)
        self._stop.set()

    def _accept(self) -> TlsTransport:
        plan = self._plan
        return TlsTransport(
            plan.contexts, self._make_app, self._deadlines, plan.handshake_timeout_s, _log_failure, self._loop
        )

    def _make_app(self, site: object) -> Frontend:
        assert isinstance(site, int)  # the context's app data, see Plan
        route = self._plan.routes[site]
        pool = self._pools[route.upstream]
        return Frontend(pool, self._plan.http, route.default_host, route.hosts, is_draining=self._is_draining)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_INTERVAL_S)
            self._deadlines.sweep(self._loop.time())
            self._tell(time.time())

    def _open_connections(self) -> list[TlsTransport]:
        return [item for item in self._deadlines if isinstance(item, TlsTransport)]

    async def _drain(self) -> None:
        """Let open requests finish, within the time there is; idle connections are closed at once."""
        self._is_draining = True
        for transport in self._open_connections():
            transport.drain()
        end_at = self._loop.time() + self._plan.drain_timeout_s
        # Polled, since nothing else tells when the last of very many is gone, and it lasts a moment.
        while self._open_connections() and self._loop.time() < end_at:  # noqa: ASYNC110
            await asyncio.sleep(_DRAIN_POLL_S)
        left = self._open_connections()
        if left:
            _log.warning("%d connections cut: still open %.0f s after the stop", len(left), self._plan.drain_timeout_s)
        for transport in left:
            transport.abort()
        for pool in self._pools.values():
            pool.close()


def _log_failure(why: str, peer_host: str) -> None:
    # Scanners make such lines by the thousand, so they are there for who looks for them.
    _log.debug("client %s: %s", peer_host, why)

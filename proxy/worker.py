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
from functools import partial
from typing import TYPE_CHECKING

import uvloop

from proxy import clientcerts
from proxy.accepting import Acceptor
from proxy.accesslog.trail import AccessLog
from proxy.deadlines import SWEEP_INTERVAL_S, Deadlines
from proxy.http.forwarded import is_trusted
from proxy.http.frontend import Frontend
from proxy.http.group import open_group
from proxy.http.routes import Routes
from proxy.inline import Asker
from proxy.redirect import Redirector
from proxy.redirect_answer import PLAIN_HTTP
from proxy.tls.transport import State, TlsTransport
from proxy.tunnel import Relay
from proxy.tunnel_backend import Backends

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence

    from proxy.backends import SiteGroups
    from proxy.counters import SiteCounts, WorkerCounts
    from proxy.http.forwarded import Networks
    from proxy.http.group import GroupPlan, Nowhere, UpstreamGroup
    from proxy.http.pool import UpstreamPool
    from proxy.inline import Wire
    from proxy.names import NameTable
    from proxy.settings.http import HttpSettings
    from proxy.settings.limits import AccessLogSettings, LimitSettings
    from proxy.settings.model import Site
    from proxy.settings.modes import RedirectSettings, TcpSettings
    from proxy.settings.values import ListenAddress
    from proxy.tls.session import Session
    from proxy.tls.site import SiteContext
    from proxy.tls.transport import App

_log = logging.getLogger("stapleproxy.worker")

_DRAIN_POLL_S = 0.05
_CLOSING_S = 1.0
"""Of a drain: what idle connections have for their end."""
# glibc gives free memory at the heap's end back to the kernel once it is twice as much as the largest block that it has
# ever seen freed (mallopt(3), M_TRIM_THRESHOLD). Without this each piece of a large body costs the faults to get it
# again.
_LARGEST_BLOCK_BYTES = 2 << 20
# Connections are freed by reference counting; the collector only looks for cycles that errors leave behind.
_GC_THRESHOLD = 50_000


@dataclass(frozen=True, slots=True)
class Route:
    """Where a site's requests go."""

    groups: SiteGroups
    default_host: str
    """Stands in where HTTP/1.0 names none."""
    hosts: NameTable[bool] | None
    """Those that are served; None: any."""
    site: Site


@dataclass(frozen=True, slots=True)
class Entrance:
    """Addresses, and what is served there."""

    addresses: tuple[ListenAddress, ...]
    contexts: NameTable[SiteContext | None]
    """By server name; None: such clients are refused."""
    has_http: bool
    """There is a site that speaks HTTP: who does it without TLS is told so."""


@dataclass(frozen=True, slots=True)
class Plan:
    """All that a worker needs; what a site's context hands back is the index of its route."""

    entrances: tuple[Entrance, ...]
    routes: tuple[Route, ...]
    http: HttpSettings
    handshake_timeout_s: float
    drain_timeout_s: float
    tcp: TcpSettings
    redirect: RedirectSettings
    load_balancers: Networks
    """Who has to send a PROXY header."""
    limits: LimitSettings
    access_log: AccessLogSettings


def run(
    plan: Plan,
    sockets: Sequence[Sequence[socket.socket]],
    redirecting: Sequence[socket.socket],
    life_fd: int,
    ready_fd: int,
    tell: Callable[[float], None],
    counts: WorkerCounts,
    wire: Wire | None = None,
) -> int:
    """Serve the `sockets` of each entrance with TLS, and `redirecting` without it; the exit status.

    Until SIGTERM, or SIGUSR2 if another worker has taken over, or until `life_fd` says that the master is gone. One
    byte is written to `ready_fd` when connections are accepted. `tell` is called each second, and at the end, with the
    time: what the handshakes counted goes to where others see it. With `wire` handshakes wait for what they staple.
    All else is counted in `counts`, which has a site for each route of the plan.
    """
    gc.set_threshold(_GC_THRESHOLD)
    bytes(_LARGEST_BLOCK_BYTES)  # freed at once
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_Worker(plan, runner.get_loop(), tell, counts, wire).serve(sockets, redirecting, life_fd, ready_fd))
    return 0


class _Worker:
    def __init__(
        self,
        plan: Plan,
        loop: asyncio.AbstractEventLoop,
        tell: Callable[[float], None],
        counts: WorkerCounts,
        wire: Wire | None,
    ) -> None:
        self._plan = plan
        self._counts = counts
        self._ask_staple = Asker(wire, loop).ask if wire else None
        self._loop = loop
        self._tell = tell
        self._deadlines = Deadlines()
        self._acceptor = Acceptor(self._deadlines, plan.limits, loop)
        self._access_log = AccessLog(plan.access_log) if plan.access_log.path else None
        self._is_draining = False
        self._is_replaced = False
        self._stop = asyncio.Event()
        groups: dict[GroupPlan, UpstreamPool | UpstreamGroup | Nowhere] = {}
        for route in plan.routes:
            for group in (route.groups.default, *(each for _, each in route.groups.routes)):
                if group not in groups:
                    groups[group] = open_group(group, plan.http, self._deadlines, loop)
        self._groups = groups
        self._routes = [
            Routes([(prefix, groups[group]) for prefix, group in each.groups.routes], groups[each.groups.default])
            for each in plan.routes
        ]
        self._backends = [
            Backends([server.address for server in each.site.upstream], self._deadlines, loop) for each in plan.routes
        ]
        self._is_load_balancer = partial(is_trusted, trusted=plan.load_balancers) if plan.load_balancers else None

    async def serve(
        self,
        sockets: Sequence[Sequence[socket.socket]],
        redirecting: Sequence[socket.socket],
        life_fd: int,
        ready_fd: int,
    ) -> None:
        loop = self._loop
        loop.add_signal_handler(signal.SIGTERM, self._on_stop)
        loop.add_signal_handler(signal.SIGUSR2, self._on_replaced)
        loop.add_reader(life_fd, self._on_master_gone, life_fd)
        if self._access_log is not None:
            loop.add_signal_handler(signal.SIGUSR1, self._access_log.file.reopen)
        doors = [(self._maker(entrance), own) for entrance, own in zip(self._plan.entrances, sockets, strict=True)]
        await self._acceptor.open([*doors, (self._redirect, redirecting)])
        os.write(ready_fd, b"r")
        os.close(ready_fd)
        sweeper = loop.create_task(self._sweep())
        await self._stop.wait()
        self._acceptor.close()
        await self._drain()
        sweeper.cancel()
        if self._access_log is not None:
            self._access_log.file.close()
        self._tell_counts()

    def _on_stop(self) -> None:
        self._is_replaced = False
        self._stop.set()

    def _on_replaced(self) -> None:
        self._is_replaced = not self._stop.is_set()
        self._stop.set()

    def _on_master_gone(self, life_fd: int) -> None:
        _log.warning("the master is gone; finishing what is open, then leaving")
        self._loop.remove_reader(life_fd)
        self._stop.set()

    def _maker(self, entrance: Entrance) -> Callable[[], TlsTransport]:
        """Put together what each connection there is made with: once, and by position, which costs it least."""
        return partial(
            TlsTransport,
            entrance.contexts,
            self._make_app,
            self._deadlines,
            self._plan.handshake_timeout_s,
            _log_failure,
            self._loop,
            self._is_load_balancer,
            PLAIN_HTTP if entrance.has_http else b"",
            self._acceptor,
            self._on_no_staple,
            self._ask_staple,
            self._counts,
        )

    def _on_no_staple(self, transport: TlsTransport, site: object, session: Session) -> None:
        assert isinstance(site, int)  # see Plan
        self._counts.sites[site].refused()
        if self._access_log is not None:
            self._access_log.add_refused(session, "", transport.endpoints(), self._loop.time)

    def _redirect(self) -> Redirector:
        plan = self._plan
        return Redirector(
            plan.redirect, plan.http, self._deadlines, self._loop, self._acceptor, self._access_log, self._counts
        )

    def _make_app(self, site: object, session: Session) -> App:
        assert isinstance(site, int)  # see Plan
        counts = self._counts.sites[site]
        app = self._open_app(site, session, counts)
        counts.shook_hands(session.kind())  # only now: what the client has shown could be read
        return app

    def _open_app(self, site: int, session: Session, counts: SiteCounts) -> App:
        route = self._plan.routes[site]
        settings = route.site
        trail = None if self._access_log is None else self._access_log.follow(session, route.default_host)
        if settings.mode == "tcp":
            tls = session.told() if settings.proxy_protocol == "v2" else None
            return Relay(self._backends[site], self._plan.tcp, settings.proxy_protocol, tls, trail, counts)
        is_asked = settings.client_certificate.mode != "none"
        return Frontend(
            self._routes[site],
            self._plan.http,
            route.default_host,
            route.hosts,
            certificate_lines=clientcerts.header_lines(session.client_certificate) if is_asked else b"",
            trusted_proxies=self._plan.http.trusted_proxies,
            rewriting=route.groups.rewriting,
            trail=trail,
            counts=counts,
            is_draining=self._is_draining,
        )

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_INTERVAL_S)
            self._deadlines.sweep(self._loop.time())
            if not self._stop.is_set():
                await self._acceptor.look()
            if self._access_log is not None:
                self._access_log.file.flush()
            self._tell_counts()

    def _tell_counts(self) -> None:
        self._tell(time.time())
        admission, log = self._acceptor.admission, self._access_log
        self._counts.tell(admission.count, admission.refused, log.file.dropped if log is not None else 0)

    def _open_connections(self) -> list[TlsTransport | Redirector]:
        return [item for item in self._deadlines if isinstance(item, TlsTransport | Redirector)]

    async def _wait_for_connections(self, end_at: float, may_wait: Callable[[], bool] = lambda: True) -> None:
        """Wait until all are gone, or it is too late."""
        # Slept at first: who was accepted just now is not among them yet. And polled, since nothing else tells when the
        # last of very many is gone, and it lasts a moment.
        while True:
            await asyncio.sleep(_DRAIN_POLL_S)
            if not self._open_connections() or not may_wait() or self._loop.time() >= end_at:
                return

    async def _drain(self) -> None:
        """Let open requests finish, within the time there is; idle connections are closed at once.

        Where another worker has taken over, they are not: their clients may be sending just now. They have one request
        more, and are told in the answer that it was the last.
        """
        self._is_draining = True
        end_at = self._loop.time() + self._plan.drain_timeout_s
        if self._is_replaced:
            for transport in self._open_connections():
                transport.retire()
            closing_s = min(_CLOSING_S, self._plan.drain_timeout_s / 2)
            await self._wait_for_connections(end_at - closing_s, lambda: self._is_replaced)
        for transport in self._open_connections():
            transport.drain()
        await self._wait_for_connections(end_at)
        left = self._open_connections()
        if cut := [each for each in left if not (isinstance(each, TlsTransport) and each.state is State.CLOSING)]:
            _log.warning("%d connections cut: still open %.0f s after the stop", len(cut), self._plan.drain_timeout_s)
        for transport in left:
            transport.abort()
        if left:
            await asyncio.sleep(_DRAIN_POLL_S)  # until they have heard of it, and have their lines in the access log
        for group in self._groups.values():
            group.close()


def _log_failure(why: str, peer_host: str) -> None:
    # Scanners make such lines by the thousand, so they are there for who looks for them.
    _log.debug("client %s: %s", peer_host, why)

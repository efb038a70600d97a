"""One or several servers that serve the same: which gets a request, and what happens when it cannot be reached.

A request of which nothing has been sent goes to another server when one cannot be reached, refuses, or has no
connection free. There are at most `upstream_max_tries` of these, each bounded by `upstream_connect_timeout_s`: once for
a free connection, once to make one.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from proxy.errors import UpstreamError
from proxy.http.balance import Ejection, choose
from proxy.http.health import watch
from proxy.http.pool import UpstreamPool

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine

    from proxy.deadlines import Deadlines
    from proxy.http.dial import BackendTls
    from proxy.http.health import HealthCheck
    from proxy.http.upstream import UpstreamConnection
    from proxy.settings.http import HttpSettings
    from proxy.settings.upstreams import Balance, UpstreamServer


@dataclass(frozen=True, slots=True)
class GroupPlan:
    """What a worker makes a group from; equal plans are one group."""

    servers: tuple[UpstreamServer, ...]
    balance: Balance = "round-robin"
    tls: BackendTls | None = None
    health: HealthCheck | None = None


def open_group(
    plan: GroupPlan, settings: HttpSettings, deadlines: Deadlines, loop: asyncio.AbstractEventLoop
) -> UpstreamPool | UpstreamGroup | Nowhere:
    """Make what requests are given to; a single server needs no choice."""
    if not plan.servers:
        return Nowhere(loop)
    if len(plan.servers) == 1:
        return UpstreamPool(plan.servers[0].address, settings, deadlines, loop, tls=plan.tls)
    return UpstreamGroup(plan, settings, deadlines, loop)


class Nowhere:
    """Stands where there is no server: each request is answered with 404."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def take(self) -> None:
        """Have no connection, as a pool of which all are busy."""

    def connect(self, done: Callable[[UpstreamConnection | UpstreamError], None]) -> asyncio.Task[None]:
        """Say so, when the request has been read as far as it has come."""
        return self._loop.create_task(self._refuse(done))

    async def _refuse(self, done: Callable[[UpstreamConnection | UpstreamError], None]) -> None:
        done(UpstreamError(404, "nothing is served here"))

    def close(self) -> None:
        """Have nothing to end."""


class UpstreamGroup:
    """Several servers of one worker."""

    def __init__(
        self, plan: GroupPlan, settings: HttpSettings, deadlines: Deadlines, loop: asyncio.AbstractEventLoop
    ) -> None:
        ejection = Ejection(settings.upstream_max_fails, settings.upstream_retry_min_s, settings.upstream_retry_max_s)
        self.pools = tuple(
            UpstreamPool(address, settings, deadlines, loop, tls=plan.tls, weight=weight, ejection=ejection)
            for address, weight in plan.servers
        )
        self._balance = plan.balance
        self._max_tries = min(len(self.pools), settings.upstream_max_tries)
        self._loop = loop
        self._first: UpstreamPool | None = None  # chosen by `take`, which found nothing idle there
        self._tasks: set[asyncio.Task[None]] = set()
        if plan.health is not None:
            for pool in self.pools:
                self._begin(watch(pool, plan.health, _jitter))

    def __repr__(self) -> str:
        return f"<UpstreamGroup {self._balance} {self.pools}>"

    def take(self) -> UpstreamConnection | None:
        """An idle connection to the server whose turn it is, or None: `connect`, at once."""
        chosen = choose(self.pools, self._balance, self._loop.time())
        connection = chosen.take()
        self._first = chosen if connection is None else None
        return connection

    def connect(self, done: Callable[[UpstreamConnection | UpstreamError], None]) -> asyncio.Task[None]:
        """Find a connection; `done` gets it, or why there is none. Cancel the task to lose interest."""
        first, self._first = self._first, None
        return self._begin(self._connect(first, done))

    async def _connect(
        self, pool: UpstreamPool | None, done: Callable[[UpstreamConnection | UpstreamError], None]
    ) -> None:
        tried: list[UpstreamPool] = []
        while True:
            pool = pool or choose(self.pools, self._balance, self._loop.time(), tried)
            result = await pool.open()
            tried.append(pool)
            pool = None
            if not isinstance(result, UpstreamError) or len(tried) >= self._max_tries:
                done(result)
                return

    def close(self) -> None:
        """End the checks, and close what is idle; what is in use ends with its exchange."""
        for task in self._tasks:
            task.cancel()
        for pool in self.pools:
            pool.close()

    def _begin(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _jitter() -> float:
    # So that the workers' checks spread, whenever they started.
    return random.uniform(0.9, 1.1)  # noqa: S311  # no secret

"""The connections of one worker to one server: those that are idle, how many there are, and who waits for one.

Each connection counts from the attempt to make it until it is lost. When there are as many as there may be, requests
wait in a queue of limited length, and get in order what becomes free: a connection, or the place of one.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING

from proxy.errors import UpstreamError
from proxy.http.balance import Ejection, Standing
from proxy.http.dial import dial
from proxy.http.upstream import UpstreamConnection
from proxy.log import about

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.deadlines import Deadlines
    from proxy.http.dial import BackendTls
    from proxy.settings.http import HttpSettings
    from proxy.settings.values import UpstreamAddress

_log = logging.getLogger("stapleproxy.upstream")

_NEVER_LEFT_OUT = Ejection(max_fails=0, min_s=0, max_s=0)


class UpstreamPool:
    """See above. `ejection` is for one of several servers."""

    def __init__(
        self,
        address: UpstreamAddress,
        settings: HttpSettings,
        deadlines: Deadlines,
        loop: asyncio.AbstractEventLoop,
        *,
        tls: BackendTls | None = None,
        weight: int = 1,
        ejection: Ejection = _NEVER_LEFT_OUT,
    ) -> None:
        self.address = address
        self.settings = settings
        self.deadlines = deadlines
        self.now = loop.time
        self.tls = tls
        self.weight = weight
        self.standing = Standing(ejection)
        self._loop = loop
        self._idle: deque[UpstreamConnection] = deque()
        self._count = 0  # idle, busy, and being made
        self._waiting: deque[asyncio.Future[UpstreamConnection | None]] = deque()
        self._connecting: set[asyncio.Task[None]] = set()
        self.is_failing = False
        """It has failed since it last worked."""

    def __repr__(self) -> str:
        waiting = len(self._waiting)
        return (
            f"<UpstreamPool {self.address} idle={len(self._idle)} of={self._count} waiting={waiting} {self.standing}>"
        )

    @property
    def load(self) -> int:
        """Requests that it has, or that wait for it."""
        return self._count - len(self._idle) + len(self._waiting)

    @property
    def is_full(self) -> bool:
        """A further request would have to wait."""
        return not self._idle and self._count >= self.settings.upstream_max_connections

    # For requests.

    def take(self) -> UpstreamConnection | None:
        """The idle connection used last (the others may then run out), or None: `connect`."""
        while self._idle:
            connection = self._idle.pop()
            if connection.is_usable():
                return connection
        return None

    def connect(self, done: Callable[[UpstreamConnection | UpstreamError], None]) -> asyncio.Task[None]:
        """Open a connection; `done` gets it, or why there is none. Cancel the task to lose interest."""
        task = self._loop.create_task(self._connect(done))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)
        return task

    async def _connect(self, done: Callable[[UpstreamConnection | UpstreamError], None]) -> None:
        done(await self.open())

    async def open(self) -> UpstreamConnection | UpstreamError:
        """Make a connection, or wait for one; or why there is none, which has been reported."""
        try:
            async with asyncio.timeout(self.settings.upstream_connect_timeout_s):
                connection = await self._turn()
        except TimeoutError:
            return UpstreamError(503, "no connection to the backend became free in time")
        except UpstreamError as error:  # no fault of the server's
            return error
        if connection is not None:
            return connection
        result = await self._make()
        if isinstance(result, UpstreamError):
            self.report(result)
        return result

    async def _turn(self) -> UpstreamConnection | None:
        """Get the place of a connection to be made, None, or wait until there is that or an idle one."""
        while True:
            # A new one before an idle one: who asks has found none idle, or one that had just ended, and when a backend
            # restarts the others have too.
            if self._count < self.settings.upstream_max_connections:
                self._count += 1
                return None
            connection = self.take()
            if connection is not None:
                return connection
            if len(self._waiting) >= self.settings.upstream_max_waiting:
                raise UpstreamError(503, "too many requests wait for the backend")
            turn: asyncio.Future[UpstreamConnection | None] = self._loop.create_future()
            self._waiting.append(turn)
            try:
                connection = await turn
            except asyncio.CancelledError:
                if turn in self._waiting:
                    self._waiting.remove(turn)
                elif not turn.cancelled():  # it got it in the moment of giving up
                    self._give_back(turn.result())
                raise
            if connection is None or connection.is_usable():
                return connection
            # It ended on its way here, and its place went to the next.

    async def _make(self) -> UpstreamConnection | UpstreamError:
        connection = UpstreamConnection(self)
        is_good = False
        try:
            await dial(lambda: connection, self.address, self.tls, self.settings.upstream_connect_timeout_s)
            is_good = connection.is_usable()
        except UpstreamError as error:
            return UpstreamError(error.status, error.detail)  # without the traceback, whose frames hold the connection
        finally:
            if not is_good:  # it may have been made in the moment of giving up
                was_counted_off = connection.was_made
                connection.close()
                connection.connection_lost(None)  # which uvloop would not say
                if not was_counted_off:
                    self._leave_place()
        return connection if is_good else UpstreamError(502, "the backend closed the connection at once")

    # For connections.

    def put(self, connection: UpstreamConnection) -> None:
        """Keep an idle connection, or close it if there are enough."""
        if self._waiting and self._hand_on(connection):
            return
        if len(self._idle) < self.settings.upstream_max_idle:
            self._idle.append(connection)
        else:
            connection.close()

    def on_lost(self, connection: UpstreamConnection) -> None:
        """Forget a connection that has ended."""
        self.deadlines.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        self._leave_place()

    def _leave_place(self) -> None:
        if not self._hand_on(None):
            self._count -= 1

    def _hand_on(self, what: UpstreamConnection | None) -> bool:
        """Give a connection, or the place of one, to who waits longest; whether anybody does."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():  # cancelled, and not yet told so
                turn.set_result(what)
                return True
        return False

    def _give_back(self, what: UpstreamConnection | None) -> None:
        if what is None:
            self._leave_place()
        elif what.is_usable():
            self.put(what)

    def report(self, error: UpstreamError, *, is_its_fault: bool = True) -> None:
        """Log the first failure of a row, and when it is left out; the first success after it is logged too."""
        if not self.is_failing:
            self.is_failing = True
            _log.warning(
                "upstream %s fails: %s; logged once until it works again",
                self.address,
                error.detail + error.seen,
                extra=about(upstream=str(self.address)),
            )
        if is_its_fault:
            pause_s = self.standing.fail(self.now())
            if pause_s is not None and self.standing.ejections == 1:
                _log.warning(
                    "upstream %s is left out for %g s after %d failures in a row, then longer if it goes on failing",
                    self.address,
                    pause_s,
                    self.standing.fails,
                    extra=about(upstream=str(self.address)),
                )

    def report_answer(self) -> None:
        """Note that an answer has begun: the trial is passed, even if it is a stream or a tunnel that never ends."""
        if self.standing.is_on_trial:
            self.report_success()

    def report_success(self) -> None:
        """Note that an answer was whole; see `report`."""
        if self.is_failing:
            self.is_failing = False
            self.standing.succeed()
            _log.warning("upstream %s works again", self.address, extra=about(upstream=str(self.address), is_over=True))

    def close(self) -> None:
        """Close what is idle; what is in use ends with its exchange."""
        while self._idle:
            self._idle.pop().close()

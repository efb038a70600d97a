"""Connections to one backend: at most one request at a time on each, kept for the next one when the answer allows it.

A connection that is in the pool belongs to nobody; taken, it belongs to one exchange, which gets its events. The pool
is one worker's own.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Protocol, cast

from proxy.deadlines import NEVER, Deadlines
from proxy.errors import UpstreamError
from proxy.http.codec import ResponseDecoder

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.http.codec import ResponseEvent
    from proxy.settings.model import HttpSettings, UpstreamAddress

_log = logging.getLogger("stapleproxy.upstream")

_HIGH_WATER_BYTES = 262_144


class Exchange(Protocol):
    """What a connection tells its owner."""

    def on_response(self, events: list[ResponseEvent]) -> None: ...
    def on_upstream_error(self, error: UpstreamError) -> None: ...
    def pause_request(self) -> None: ...
    def resume_request(self) -> None: ...


class UpstreamConnection(asyncio.Protocol):
    """One connection to the backend."""

    __slots__ = (
        "_decoder",
        "_is_paused",
        "_owner",
        "_pool",
        "_raw",
        "deadline_at",
        "is_lost",
        "is_reused",
        "saw_response",
    )

    def __init__(self, pool: UpstreamPool) -> None:
        self._pool = pool
        self._decoder = ResponseDecoder(pool.settings.max_head_bytes)
        self._owner: Exchange | None = None
        self._is_paused = False
        self._raw = cast("asyncio.Transport", None)  # set by the first thing that ever happens, connection_made
        self.deadline_at = NEVER
        self.is_lost = False
        self.is_reused = False
        """It has served a request before, so the backend may have closed it just now."""
        self.saw_response = False
        """Some of the answer to this request has come."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._raw = cast("asyncio.Transport", transport)
        self._raw.set_write_buffer_limits(high=_HIGH_WATER_BYTES)
        self._pool.deadlines.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True
        self._pool.on_lost(self)
        owner, self._owner = self._owner, None
        if owner is None:
            return
        try:
            if exc is not None:
                raise UpstreamError(502, f"the backend broke the connection ({exc})")
            events = self._decoder.eof()
        except UpstreamError as error:
            owner.on_upstream_error(error)
        else:
            owner.on_response(events)

    def eof_received(self) -> bool:
        """Let the socket be closed: HTTP/1.1 knows no half-closed backend."""
        return False

    def data_received(self, data: bytes) -> None:
        owner = self._owner
        if owner is None:  # in the pool: nobody has asked
            self.close()
            return
        self.saw_response = True
        self.await_answer()
        try:
            events = self._decoder.feed(data)
        except UpstreamError as error:
            self._owner = None
            self.close()
            owner.on_upstream_error(error)
            return
        if events:
            owner.on_response(events)

    def pause_writing(self) -> None:
        self.await_answer()  # of the socket, here: a backend that takes nothing is as gone as one that says nothing
        if self._owner is not None:
            self._owner.pause_request()

    def resume_writing(self) -> None:
        self.deadline_at = NEVER
        if self._owner is not None:
            self._owner.resume_request()

    def on_deadline(self) -> None:
        owner, self._owner = self._owner, None
        self.close()
        if owner is not None:
            owner.on_upstream_error(UpstreamError(504, "the backend did not answer in time"))

    # The owner calls these.

    def begin(self, owner: Exchange, method: bytes) -> None:
        """Take the connection for one request."""
        self._owner = owner
        self.saw_response = False
        self._decoder.expect(method)
        self.deadline_at = NEVER  # until the request is sent it is the client who is waited for

    def write(self, data: bytes) -> None:
        """Send a part of the request."""
        if not self.is_lost:
            self._raw.write(data)

    def await_answer(self) -> None:
        """Count the time from now: the request is sent whole."""
        self.deadline_at = self._pool.now() + self._pool.settings.upstream_timeout_s

    def pause_reading(self) -> None:
        """Take no more of the answer for now; the client's own deadline runs meanwhile."""
        if not self.is_lost:
            self._is_paused = True
            self._raw.pause_reading()
            self.deadline_at = NEVER

    def resume_reading(self) -> None:
        """Take the answer again."""
        if self._is_paused and not self.is_lost:
            self._is_paused = False
            self._raw.resume_reading()
            self.await_answer()

    def finish(self, *, request_is_complete: bool) -> None:
        """Give the connection back after the answer: to the pool if it can serve again."""
        self.resume_reading()
        self._owner = None
        self._pool.report_success()
        if request_is_complete and self._decoder.is_complete and self._decoder.is_reusable and not self.is_lost:
            self.is_reused = True
            self.deadline_at = self._pool.now() + self._pool.settings.upstream_idle_timeout_s
            self._pool.put(self)
        else:
            self.close()

    def close(self) -> None:
        """Cut the connection: nobody wants what may still come."""
        self._owner = None
        if not self.is_lost:
            self._raw.abort()


class UpstreamPool:
    """The connections of one worker to one backend."""

    def __init__(
        self, address: UpstreamAddress, settings: HttpSettings, deadlines: Deadlines, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.address = address
        self.settings = settings
        self.deadlines = deadlines
        self.now = loop.time
        self._loop = loop
        self._idle: deque[UpstreamConnection] = deque()
        self._connecting: set[asyncio.Task[None]] = set()
        self._is_failing = False

    def __repr__(self) -> str:
        return f"<UpstreamPool {self.address} idle={len(self._idle)} connecting={len(self._connecting)}>"

    def take(self) -> UpstreamConnection | None:
        """The idle connection used last (the others may then run out), or None: `connect`."""
        return self._idle.pop() if self._idle else None

    def put(self, connection: UpstreamConnection) -> None:
        """Keep an idle connection, or close it if there are enough."""
        if len(self._idle) < self.settings.upstream_max_idle:
            self._idle.append(connection)
        else:
            connection.close()

    def on_lost(self, connection: UpstreamConnection) -> None:
        """Forget a connection that has ended."""
        self.deadlines.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    def connect(self, done: Callable[[UpstreamConnection | UpstreamError], None]) -> asyncio.Task[None]:
        """Open a connection; `done` gets it, or why there is none. Cancel the task to lose interest."""
        task = self._loop.create_task(self._connect(done))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)
        return task

    async def _connect(self, done: Callable[[UpstreamConnection | UpstreamError], None]) -> None:
        address = self.address
        connection = UpstreamConnection(self)
        try:
            async with asyncio.timeout(self.settings.upstream_connect_timeout_s):
                if address.path:
                    await self._loop.create_unix_connection(lambda: connection, address.path)
                else:
                    await self._loop.create_connection(lambda: connection, address.host, address.port)
        except TimeoutError:
            done(UpstreamError(504, "connecting to the backend took too long"))
        except OSError as error:
            done(UpstreamError(502, f"the backend cannot be reached ({error.strerror or error})"))
        else:
            done(connection)

    def report(self, error: UpstreamError) -> None:
        """Log the first failure of a row; the first success after it is logged too."""
        if not self._is_failing:
            self._is_failing = True
            _log.warning("upstream %s fails: %s; logged once until it works again", self.address, error.detail)

    def report_success(self) -> None:
        """See `report`."""
        if self._is_failing:
            self._is_failing = False
            _log.warning("upstream %s works again", self.address)

    def close(self) -> None:
        """Close what is idle; what is in use ends with its exchange."""
        while self._idle:
            self._idle.pop().close()

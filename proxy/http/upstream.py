"""Connections to one backend: at most one request at a time on each, kept for the next one when the answer allows it.

A connection that is in the pool belongs to nobody; taken, it belongs to one exchange, which gets its events. The pool
is one worker's own.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from typing import TYPE_CHECKING, Protocol, cast

from proxy.deadlines import NEVER, Deadlines
from proxy.errors import UpstreamError
from proxy.http.codec import ResponseDecoder

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.http.codec import ResponseEvent
    from proxy.settings.model import HttpSettings
    from proxy.settings.values import UpstreamAddress

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
        "_is_read_paused",
        "_is_request_complete",
        "_is_write_paused",
        "_owner",
        "_pool",
        "_raw",
        "deadline_at",
        "is_open",
        "is_reused",
        "saw_response",
    )

    def __init__(self, pool: UpstreamPool) -> None:
        self._pool = pool
        self._owner: Exchange | None = None
        self._is_request_complete = False
        self._is_read_paused = False
        self._is_write_paused = False
        # Set by the first thing that ever happens, connection_made, if it does.
        self._raw = cast("asyncio.Transport", None)
        self._decoder = cast("ResponseDecoder", None)
        self.deadline_at = NEVER
        self.is_open = False
        self.is_reused = False
        """It has served a request before, so the backend may have closed it just now."""
        self.saw_response = False
        """Some of the answer to this request has come."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._raw = cast("asyncio.Transport", transport)
        self._raw.set_write_buffer_limits(high=_HIGH_WATER_BYTES)
        self._decoder = ResponseDecoder(self._pool.settings.max_head_bytes)
        self.is_open = True
        self._pool.deadlines.add(self)

    def data_received(self, data: bytes) -> None:
        owner = self._owner
        if owner is None:  # in the pool: nobody has asked
            self.close()
            return
        self.saw_response = True
        self._set_deadline()
        try:
            events = self._decoder.feed(data)
        except UpstreamError as error:
            self._owner = None
            self.close()
            owner.on_upstream_error(error)
            return
        if events:
            owner.on_response(events)

    def eof_received(self) -> bool:
        """End it here: HTTP/1.1 knows no half-closed backend, and a plain close would first wait for what is unsent."""
        self._end(None)
        self._raw.abort()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self.is_open:
            if exc is not None and self._owner is not None:
                self._receive_rest()
            self._end(exc)

    def _receive_rest(self) -> None:
        """Take an answer that came before the whole request was read, as 413 may.

        Closing with unread input makes the kernel send RST, and then it is our writing that fails, not our reading.
        """
        try:
            data = os.read(self._raw.get_extra_info("socket").fileno(), _HIGH_WATER_BYTES)
        except OSError:
            return
        if data:
            self.data_received(data)

    def _end(self, exc: Exception | None) -> None:
        self.is_open = False
        self._pool.on_lost(self)
        owner, self._owner = self._owner, None
        if owner is not None:
            try:
                if exc is not None:
                    raise UpstreamError(502, f"the backend broke the connection ({exc})")
                events = self._decoder.eof()
            except UpstreamError as error:
                owner.on_upstream_error(error)
            else:
                owner.on_response(events)
        self._decoder.close()

    def pause_writing(self) -> None:
        self._is_write_paused = True
        self._set_deadline()
        if self._owner is not None:
            self._owner.pause_request()

    def resume_writing(self) -> None:
        self._is_write_paused = False
        self._set_deadline()
        if self._owner is not None:
            self._owner.resume_request()

    def on_deadline(self) -> None:
        owner, self._owner = self._owner, None
        self.close()
        if owner is not None:
            owner.on_upstream_error(UpstreamError(504, "the backend did not answer in time"))

    def _set_deadline(self) -> None:
        """Count the time from now, if it is the backend who is waited for and not the client."""
        is_its_turn = self._is_request_complete or self._is_write_paused
        if is_its_turn and not self._is_read_paused:
            self.deadline_at = self._pool.now() + self._pool.settings.upstream_timeout_s
        else:
            self.deadline_at = NEVER

    # The owner calls these.

    def begin(self, owner: Exchange, method: bytes) -> None:
        """Take the connection for one request."""
        self._owner = owner
        self._is_request_complete = False
        self.saw_response = False
        self._decoder.expect(method)
        self.deadline_at = NEVER

    def write(self, data: bytes) -> None:
        """Send a part of the request."""
        if self.is_open:
            self._raw.write(data)

    def end_request(self) -> None:
        """Wait for the answer from now on: no more of the request is to come."""
        self._is_request_complete = True
        self._set_deadline()

    def pause_reading(self) -> None:
        """Take no more of the answer for now; the client's own deadline runs meanwhile."""
        if self.is_open:
            self._is_read_paused = True
            self._raw.pause_reading()
            self._set_deadline()

    def resume_reading(self) -> None:
        """Take the answer again."""
        if self._is_read_paused and self.is_open:
            self._is_read_paused = False
            self._raw.resume_reading()
            self._set_deadline()

    def finish(self, *, request_is_complete: bool) -> None:
        """Give the connection back after the answer: to the pool if it can serve again."""
        self.resume_reading()
        self._owner = None
        self._pool.report_success()
        decoder = self._decoder
        is_reusable = request_is_complete and decoder.is_complete and decoder.is_reusable and self.is_usable()
        # A backend that has not taken the request's body has an odd idea of where the next one begins.
        if is_reusable and not self._raw.get_write_buffer_size():
            self.is_reused = True
            self.deadline_at = self._pool.now() + self._pool.settings.upstream_idle_timeout_s
            self._pool.put(self)
        else:
            self.close()

    def is_usable(self) -> bool:
        """Neither side has ended it, as far as is known."""
        return self.is_open and not self._raw.is_closing()

    def close(self) -> None:
        """Cut the connection: nobody wants what may still come."""
        self._owner = None
        if self.is_open:
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
        while self._idle:
            connection = self._idle.pop()
            if connection.is_usable():
                return connection
        return None

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
        result: UpstreamConnection | UpstreamError | None = None
        try:
            async with asyncio.timeout(self.settings.upstream_connect_timeout_s):
                if address.path:
                    await self._loop.create_unix_connection(lambda: connection, address.path)
                else:
                    await self._loop.create_connection(lambda: connection, address.host, address.port)
            result = connection
        except TimeoutError:
            result = UpstreamError(504, "connecting to the backend took too long")
        except OSError as error:
            result = UpstreamError(502, f"the backend cannot be reached ({error.strerror or error})")
        finally:
            if result is not connection:  # it may have been made in the moment of giving up
                connection.close()
                connection.connection_lost(None)  # which uvloop would not say
        done(result)

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

"""A connection to a backend: at most one request at a time on it, kept for the next one when the answer allows it.

A connection that is in its pool belongs to nobody; taken, it belongs to one exchange, which gets its events.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Protocol, cast

from proxy.deadlines import NEVER
from proxy.errors import UpstreamError
from proxy.http.codec import ResponseDecoder

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.http.codec import ResponseEvent
    from proxy.http.pool import UpstreamPool

_HIGH_WATER_BYTES = 65_536


class Upstream(Protocol):
    """Where an exchange gets its connection: one server's pool, or a group of them."""

    def take(self) -> UpstreamConnection | None: ...
    def connect(self, done: Callable[[UpstreamConnection | UpstreamError], None]) -> asyncio.Task[None]: ...


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
        "waited_since",
        "was_made",
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
        self.waited_since = 0.0
        """Since when it is the backend's turn: the request was complete, or something of the answer came."""
        self.is_open = False
        self.was_made = False
        """It is, or has been, open."""
        self.is_reused = False
        """It has served a request before, so the backend may have closed it just now."""
        self.saw_response = False
        """Some of the answer to this request has come."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._raw = cast("asyncio.Transport", transport)
        self._raw.set_write_buffer_limits(high=_HIGH_WATER_BYTES)
        self._decoder = ResponseDecoder(self._pool.settings.max_head_bytes)
        self.is_open = self.was_made = True
        self._pool.deadlines.add(self)

    def data_received(self, data: bytes) -> None:
        owner = self._owner
        if owner is None:  # in the pool: nobody has asked
            self.close()
            return
        self.saw_response = True
        try:
            events = self._decoder.feed(data)
        except UpstreamError as error:
            self._owner = None
            self.close()
            owner.on_upstream_error(error)
            return
        if events:
            self._set_deadline()  # not for each byte: a head that trickles has no longer than one that stays out
            if self._pool.is_failing:
                self._pool.report_answer()
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
        if self._raw.get_extra_info("sslcontext") is not None:
            return  # what is left to read there are records, and who could decrypt them is gone
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

    def abort(self) -> None:
        """Cut the connection; its owner hears of it."""
        self._raw.abort()

    def _set_deadline(self) -> None:
        """Count the time from now, if it is the backend who is waited for and not the client."""
        is_its_turn = self._is_request_complete or self._is_write_paused
        if is_its_turn and not self._is_read_paused:
            settings = self._pool.settings
            limit_s = settings.upstream_timeout_s if self.saw_response else settings.first_byte_timeout_s
            self.waited_since = now = self._pool.now()
            self.deadline_at = now + limit_s
        else:
            self.deadline_at = NEVER

    # The owner calls these.

    @property
    def address(self) -> str:
        """Of the backend, as the configuration has it."""
        return str(self._pool.address)

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

    def report(self, error: UpstreamError) -> None:
        """Note that its owner's request failed here."""
        # An idle connection that ended just as it was taken says nothing about the server.
        is_stale = self.is_reused and not self.is_open and not self.saw_response
        self._pool.report(error, is_its_fault=not is_stale)

    def is_usable(self) -> bool:
        """Neither side has ended it, as far as is known."""
        return self.is_open and not self._raw.is_closing()

    def close(self) -> None:
        """Cut the connection: nobody wants what may still come."""
        self._owner = None
        if self.is_open:
            self._raw.abort()

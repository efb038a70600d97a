"""Deadlines for very many connections: a number in each, looked at once a second.

A timer of the event loop for each request would cost more than parsing it. A second of delay is nothing to limits that
are counted in tens of seconds.
"""

from __future__ import annotations

import contextlib
import logging
from typing import Protocol

from proxy.log import Seldom

_log = logging.getLogger("stapleproxy.deadlines")

SWEEP_INTERVAL_S = 1.0
_BUGS_TOLD_EVERY_S = 60.0
NEVER = float("inf")


class Pace:
    """Whether a peer moves bytes fast enough: a trickle may not hold a connection for ever.

    It must never do nothing for a whole window (in seconds), and at the end of each have moved so many bytes. The byte
    counts given are totals. Whoever is not waited for has no pace: begin a new one when it is its turn again.
    """

    __slots__ = ("_at_begin", "_ends_at", "_min_bytes", "_moved_at", "_window_s")

    def __init__(self, window_s: float, min_bytes_per_second: float, now: float, count: int) -> None:
        self._window_s = window_s
        self._min_bytes = max(1.0, window_s * min_bytes_per_second)
        self._ends_at = now + window_s
        self._moved_at = now
        self._at_begin = count

    def move(self, now: float) -> float:
        """Note that something has moved; when to look again."""
        self._moved_at = now
        return min(now + self._window_s, self._ends_at)

    def look(self, now: float, count: int) -> float | None:
        """Judge at that time: when to look again, or None, and the peer is too slow."""
        if now >= self._moved_at + self._window_s or count - self._at_begin < self._min_bytes:
            return None
        self._at_begin = count
        self._ends_at = now + self._window_s
        return min(self._moved_at + self._window_s, self._ends_at)


class Expiring(Protocol):
    """Something that must not wait longer than until `deadline_at` (the event loop's time; NEVER: no limit now)."""

    deadline_at: float

    def on_deadline(self) -> None:
        """Act on it. Called again at each sweep until the deadline is moved or the object discarded."""

    def abort(self) -> None:
        """Cut the connection."""


class Deadlines(set[Expiring]):
    """The set of everything in one worker that waits: added when it begins, discarded at its end."""

    __slots__ = ("_bugs",)

    def __init__(self) -> None:
        self._bugs = Seldom(_BUGS_TOLD_EVERY_S)

    def sweep(self, now: float) -> None:
        """Tell each item that is late.

        One that raises is cut, and the others are told all the same: else nobody here would be late any more.
        """
        for item in [item for item in self if item.deadline_at <= now]:
            if item.deadline_at <= now and item in self:  # else by what another one's end has changed
                try:
                    item.on_deadline()
                except Exception:  # noqa: BLE001  # whatever it is, it is told here
                    if self._bugs.is_due(now):  # many may be of one kind
                        _log.exception("a bug: the end of a connection's time was not dealt with; it is cut")
                    item.deadline_at = NEVER
                    with contextlib.suppress(Exception):  # it is broken already
                        item.abort()

"""Deadlines for very many connections: a number in each, looked at once a second.

A timer of the event loop for each request would cost more than parsing it. A second of delay is nothing to limits that
are counted in tens of seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

SWEEP_INTERVAL_S = 1.0
NEVER = float("inf")


class Expiring(Protocol):
    """Something that must not wait longer than until `deadline_at` (the event loop's time; NEVER: no limit now)."""

    deadline_at: float

    def on_deadline(self) -> None:
        """Act on it. Called again at each sweep until the deadline is moved or the object discarded."""


class Deadlines:
    """The set of everything in one worker that waits."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: set[Expiring] = set()

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[Expiring]:
        return iter(self._waiting)

    def add(self, item: Expiring) -> None:
        """Watch `item` until it is discarded."""
        self._waiting.add(item)

    def discard(self, item: Expiring) -> None:
        """Watch `item` no more."""
        self._waiting.discard(item)

    def sweep(self, now: float) -> None:
        """Tell each item that is late."""
        for item in [item for item in self._waiting if item.deadline_at <= now]:
            item.on_deadline()

"""Whose turn it is at which responder: so many at a time, so many a second, those without a staple first.

Pure: time is an argument, and what begins is returned. A certificate that waits costs one entry of a queue. One slow
or dead responder fills its own lane only.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxy.identity import CacheKey


@dataclass(slots=True)
class _Lane:
    urgent: deque[CacheKey] = field(default_factory=deque)
    """Of certificates for which nothing is held."""
    others: deque[CacheKey] = field(default_factory=deque)
    under_way: int = 0
    is_others_turn: bool = False
    next_s: float = -math.inf
    """When one more may begin, if those before had been evenly spaced."""

    @property
    def waiting(self) -> int:
        return len(self.urgent) + len(self.others)

    def pop(self) -> CacheKey:
        """Take those without a staple first, but not twice in a row while others wait.

        They come back each minute: where a responder refuses many, they alone could fill the lane for ever.
        """
        queue = self.others if self.others and (self.is_others_turn or not self.urgent) else self.urgent
        self.is_others_turn = queue is self.urgent
        return queue.popleft()


class Lanes:
    """One lane for each responder. What enters begins once, by `begin`, and is to `leave` when it is over."""

    def __init__(self, at_once: int, per_second: float) -> None:
        self._at_once = at_once
        self._interval_s = 1 / per_second
        # As many as may be under way may also begin together, after a rest: a small set is asked for at once.
        self._burst_s = (at_once - 1) * self._interval_s
        self._lanes: dict[str, _Lane] = {}

    @property
    def waiting(self) -> int:
        """How many wait, in all lanes."""
        return sum(lane.waiting for lane in self._lanes.values())

    def enter(self, name: str, key: CacheKey, *, urgent: bool) -> None:
        """Queue a certificate at a responder."""
        lane = self._lanes.setdefault(name, _Lane())
        (lane.urgent if urgent else lane.others).append(key)

    def leave(self, name: str) -> None:
        """Say that one which had begun is over."""
        self._lanes[name].under_way -= 1

    def begin(self, now_s: float) -> list[tuple[str, CacheKey]]:
        """Take all that may begin now, as (lane, key)."""
        begun: list[tuple[str, CacheKey]] = []
        for name, lane in list(self._lanes.items()):
            if lane.next_s > now_s + self._burst_s + self._interval_s:  # the clock was set back
                lane.next_s = now_s
            while lane.waiting and lane.under_way < self._at_once and lane.next_s - self._burst_s <= now_s:
                lane.under_way += 1
                lane.next_s = max(lane.next_s, now_s) + self._interval_s
                begun.append((name, lane.pop()))
            if not lane.waiting and not lane.under_way and lane.next_s <= now_s:
                del self._lanes[name]  # as good as new
        return begun

    def next_s(self) -> float:
        """When something may begin without anything ending before; infinite: nothing waits for time alone."""
        return min(
            (
                lane.next_s - self._burst_s
                for lane in self._lanes.values()
                if lane.waiting and lane.under_way < self._at_once
            ),
            default=math.inf,
        )

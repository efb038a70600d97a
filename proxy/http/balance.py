"""Which server of several is next, and which are left out for a while. Pure: time is an argument.

Three things keep a server from being chosen, in this order of weight; none of them ever makes a request fail, since
when nothing better is left the next tier is chosen from:

tried     it has failed this very request
left out  `max_fails` failures in a row, or the active checks say that it is down
full      it has all the connections that it may have

A server that was left out comes back on trial: one request goes to it, and the others wait for how that ends. A failure
doubles the pause, anything else ends it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from proxy.settings.upstreams import Balance

_MAX_DOUBLINGS = 30
"""Far beyond any cap, and no number grows without end."""


@dataclass(frozen=True, slots=True)
class Ejection:
    """When a server is left out, and for how long."""

    max_fails: int
    """Failures in a row; 0: it never is."""
    min_s: float
    max_s: float


class Standing:
    """What one worker knows of one server."""

    __slots__ = ("_against", "_ejection", "ejections", "fails", "is_down", "is_on_trial", "left_out_until", "turn")

    def __init__(self, ejection: Ejection) -> None:
        self._ejection = ejection
        self._against = 0  # checks in a row that say otherwise than `is_down`
        self.is_on_trial = False
        """It was left out, and one request is to show whether it works again."""
        self.turn = 0
        """Of the smooth weighted round robin; over all servers the sum stays 0."""
        self.fails = 0
        """In a row."""
        self.ejections = 0
        """In a row: what the pause is doubled by."""
        self.left_out_until = 0.0
        self.is_down = False
        """The active checks say so."""

    def __repr__(self) -> str:
        return f"<Standing fails={self.fails} ejections={self.ejections} down={self.is_down}>"

    def is_trusted(self, now: float) -> bool:
        """It may be chosen before others that are not."""
        return not self.is_down and (not self.ejections or now >= self.left_out_until)

    def begin(self, now: float) -> None:
        """Note that it was chosen."""
        if self.ejections and now >= self.left_out_until:
            self.is_on_trial = True
            self.left_out_until = now + self._pause_s()

    def fail(self, now: float) -> float | None:
        """Note a failure; the seconds for which it is left out, if that begins now."""
        self.fails += 1
        if self.ejections and not self.is_on_trial:
            return None  # of the same trouble, from a request that was under way before
        if not self._ejection.max_fails or self.fails < self._ejection.max_fails:
            return None
        self.is_on_trial = False
        self.ejections += 1
        pause_s = self._pause_s()
        self.left_out_until = now + pause_s
        return pause_s

    def succeed(self) -> None:
        """Note an answer: nothing is held against it."""
        self.fails = self.ejections = 0
        self.is_on_trial = False

    def check(self, *, is_good: bool, healthy_after: int, unhealthy_after: int) -> bool:
        """Note an active check; whether that changes `is_down`. A server is up until so many checks say otherwise."""
        if is_good is not self.is_down:
            self._against = 0
            return False
        self._against += 1
        if self._against < (healthy_after if is_good else unhealthy_after):
            return False
        self._against = 0
        self.is_down = not is_good
        if is_good:
            self.succeed()
        return True

    def _pause_s(self) -> float:
        doublings = min(self.ejections - 1, _MAX_DOUBLINGS)
        return min(self._ejection.min_s * 2.0**doublings, self._ejection.max_s)


class Server(Protocol):
    """One of several, as the choice sees it."""

    weight: int
    standing: Standing

    @property
    def load(self) -> int: ...
    @property
    def is_full(self) -> bool: ...


S = TypeVar("S", bound=Server)


def choose(servers: Sequence[S], balance: Balance, now: float, tried: Collection[S] = ()) -> S:
    """Say which server is next; at least one is given."""
    left = [each for each in servers if each not in tried] or servers
    left = [each for each in left if each.standing.is_trusted(now)] or left
    left = [each for each in left if not each.is_full] or left
    if balance == "least-connections":
        least = min(each.load / each.weight for each in left)
        left = [each for each in left if each.load / each.weight == least]
    chosen = _in_turn(left)
    chosen.standing.begin(now)
    return chosen


def _in_turn(servers: Sequence[S]) -> S:
    """Go round smoothly by weight, as nginx does: weights 5, 1, 1 give a a b a c a a, and not five a in a row."""
    total = 0
    best = servers[0]
    for each in servers:
        each.standing.turn += each.weight
        total += each.weight
        if each.standing.turn > best.standing.turn:
            best = each
    best.standing.turn -= total
    return best

"""What is simulated of a fleet, for the exact run and the model alike: its size, its time, what happened when. PURE."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING

from proxy.keeper.fleet import decide
from proxy.ocsp import policy
from proxy.ocsp.response import CertStatus, Staple

if TYPE_CHECKING:
    import random

LATENCY_S = (0.02, 0.2)
"""Of a responder, evenly spread."""
LIVES_S = (43_200.0, 172_800.0, 172_800.0, 604_800.0, 604_800.0)
"""Of the responses; certificates take turns. Each answer is signed when it is asked for."""
QUESTION, ALONE, CONNECT, PUSH = "question", "question, alone", "connect", "announcement to one machine"
_PACE = policy.Pace()
_EPOCH = datetime(2030, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class World:
    """A fleet with one server, which goes away after `before_s`, and is back `away_s` later."""

    machines: int
    certificates: int
    before_s: float
    away_s: float
    after_s: float
    lives_s: tuple[float, ...] = LIVES_S

    def __post_init__(self) -> None:
        # Each machine asks once at most for a certificate while the server is away: the model reckons with it.
        if self.away_s + decide.ALONE_MAX_S > min(pause_s(life_s, 1.0) for life_s in self.lives_s):
            raise ValueError("the server is away for longer than responses stay unasked for")

    @property
    def back_s(self) -> float:
        return self.before_s + self.away_s

    @property
    def end_s(self) -> float:
        return self.back_s + self.after_s

    def life_s(self, certificate: int) -> float:
        return self.lives_s[certificate % len(self.lives_s)]


@cache
def _staple(life_s: float) -> Staple:
    until = _EPOCH + timedelta(seconds=life_s)
    return Staple(b"", CertStatus.GOOD, _EPOCH, until, _EPOCH, until, "the issuer", "sha1")


def pause_s(life_s: float, jitter: float) -> float:
    """How long after a response was signed and fetched a machine is due: the real policy."""
    return (policy.next_refresh(_staple(life_s), _EPOCH, jitter, _PACE) - _EPOCH).total_seconds()


def comes_back_s(world: World, chance: random.Random, tally: Tally) -> float:
    """When a machine is connected again: the real pauses between tries, each of which is refused at once."""
    at_s, failures = world.before_s, 0
    while at_s < world.back_s:
        tally.add(CONNECT, at_s)
        failures += 1
        at_s += decide.retry_s(failures, chance.random())
    return at_s


class Tally:
    """How often what happened, second by second."""

    def __init__(self, end_s: float) -> None:
        self._seconds = int(end_s) + 1
        self._by_second: defaultdict[str, list[float]] = defaultdict(lambda: [0.0] * self._seconds)

    def add(self, what: str, at_s: float, number: float = 1.0) -> None:
        if 0 <= at_s < self._seconds:
            self._by_second[what][int(at_s)] += number

    def series(self, what: str) -> list[float]:
        return self._by_second[what]

    def total(self, what: str, begin_s: float, end_s: float) -> float:
        return sum(self._by_second[what][int(begin_s) : int(end_s)])

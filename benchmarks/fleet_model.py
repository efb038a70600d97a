"""A large fleet: each certificate's rounds are events, and of its machines only those that come first are drawn.

All machines of a round hold the same response, so they are due by their own part of the jitter, and the first ones by
the least order statistics of their pauses: the next smaller of n evenly spread numbers below x is x * u ** (1 / n).
Who comes after the first one's announcement has nothing to do any more. While the server is away each machine that is
due asks, and is drawn.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from typing import TYPE_CHECKING, NamedTuple

from fleet_constants import FOUND, LOCK, LOOK, PUT
from fleet_world import ALONE, LATENCY_S, PUSH, QUESTION, Tally, comes_back_s, pause_s

from proxy.keeper.fleet import decide

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

    from fleet_world import World


class InStep(NamedTuple):
    """A certificate that some machines asked for by themselves: how it went when the server was back."""

    fetchers: int
    after_s: float
    """Since the server is back, when the last machine has the newest response."""


class Model:
    """Runs once.

    `pass_s`: how long a machine looks at all certificates after it has come back. `started_s`: all responses were
    fetched within so many seconds, from 0 on; None: the fleet has run for so long that this has spread.
    """

    def __init__(self, world: World, chance: random.Random, pass_s: float, started_s: float | None = None) -> None:
        self.tally = Tally(world.end_s)
        self.in_step: list[InStep] = []
        self._world = world
        self._chance = chance
        self._pass_s = pass_s
        self._started_s = started_s
        self.connected_at_s = [comes_back_s(world, chance, self.tally) for _ in range(world.machines)]
        self._in_order = sorted(self.connected_at_s)
        self._all_back_s = self._in_order[-1]

    def run(self) -> Tally:
        for certificate in range(self._world.certificates):
            self._live(self._world.life_s(certificate))
        return self.tally

    def _pauses(self, life_s: float, shared: float) -> Iterator[float]:
        """The pauses of all machines after a response, the shortest first; `shared`: of their jitter."""
        jitter = 1.0
        for left in range(self._world.machines, 0, -1):
            jitter *= self._chance.random() ** (1 / left)
            yield pause_s(life_s, decide.joint_jitter(shared, jitter))

    def _live(self, life_s: float) -> None:
        shared = self._chance.random()
        pauses = [*self._some_pauses(life_s, shared)]
        signed_s = self._chance.random() * (-pauses[0] if self._started_s is None else self._started_s)
        while signed_s + pauses[0] < self._world.end_s:
            if signed_s + pauses[0] < self._world.before_s or signed_s >= self._world.back_s:
                signed_s = self._round(signed_s, pauses)
            else:
                signed_s = self._trouble(signed_s, life_s, shared, pauses)
            shared = self._chance.random()
            pauses = [*self._some_pauses(life_s, shared)]

    def _some_pauses(self, life_s: float, shared: float) -> Iterator[float]:
        """Those that end before the first question may be answered."""
        first_s = None
        for each_s in self._pauses(life_s, shared):
            yield each_s
            first_s = each_s if first_s is None else first_s
            if each_s > first_s + LATENCY_S[1]:
                return

    def _round(self, signed_s: float, pauses: list[float]) -> float:
        """One machine asks, all others hear of it; when the new response was signed."""
        due_s = signed_s + pauses[0]
        answered_s = due_s + self._chance.uniform(*LATENCY_S)
        self.tally.add(QUESTION, due_s)
        self.tally.add(LOOK, due_s, sum(signed_s + each_s < answered_s for each_s in pauses))
        self.tally.add(LOCK, due_s)
        self._published(answered_s)
        return answered_s

    def _published(self, at_s: float) -> None:
        self.tally.add(PUT, at_s)
        self.tally.add(PUSH, at_s, self._connected(at_s))

    def _connected(self, at_s: float) -> int:
        if at_s < self._world.before_s or at_s >= self._all_back_s:
            return self._world.machines
        return bisect_right(self._in_order, at_s)

    # --- while the server is away, and until all know the newest

    def _trouble(self, signed_s: float, life_s: float, shared: float, drawn: list[float]) -> float:
        holders, asked_s = self._ask_alone(signed_s, life_s, shared, drawn)
        if not holders and asked_s >= self._all_back_s:
            return self._round(signed_s, [asked_s - signed_s])
        newest_s = self._give_back(holders, asked_s)
        if newest_s is None:  # the first one that was due asked for all
            if asked_s >= self._world.end_s:
                return asked_s
            self.tally.add(QUESTION, asked_s)
            self.tally.add(LOOK, asked_s)
            self.tally.add(LOCK, asked_s)
            newest_s = asked_s + self._chance.uniform(*LATENCY_S)
            self._published(newest_s)
            self._settled(len(holders), newest_s, newest_s)
        return newest_s

    def _ask_alone(
        self, signed_s: float, life_s: float, shared: float, drawn: list[float]
    ) -> tuple[list[tuple[float, int]], float]:
        """Who has asked alone, as (signed, machine), and when the first one would ask for all."""
        machines = self._world.machines
        begin, holders, asked_s = self._chance.randrange(machines), [], math.inf
        for number, pause in enumerate(self._from(drawn, life_s, shared)):
            due_s, machine = signed_s + pause, (begin + number) % machines
            back_s = self.connected_at_s[machine]
            if self._world.before_s <= due_s < back_s:
                remaining_s = life_s - pause
                at_s = due_s + decide.alone_pause_s(remaining_s, self._chance.random())
                if at_s < back_s:
                    self.tally.add(ALONE, at_s)
                    holders.append((at_s + self._chance.uniform(*LATENCY_S), machine))
                    continue
                due_s = at_s
            asked_s = min(asked_s, due_s)
            if signed_s + pause >= self._all_back_s:
                break
        return holders, asked_s

    def _from(self, drawn: list[float], life_s: float, shared: float) -> Iterator[float]:
        """Those drawn already, and the rest of all pauses."""
        yield from drawn
        left = self._world.machines - len(drawn)
        # The jitter of the last one drawn: pauses are straight lines of the jitter.
        longest_s, shortest_s = (pause_s(life_s, decide.joint_jitter(shared, own)) for own in (0.0, 1.0))
        jitter = (longest_s - drawn[-1]) / (longest_s - shortest_s)
        for each in range(left, 0, -1):
            jitter *= self._chance.random() ** (1 / each)
            yield pause_s(life_s, decide.joint_jitter(shared, jitter))

    def _give_back(self, holders: list[tuple[float, int]], asked_s: float) -> float | None:
        """Have those give their response who look before anybody asks; when the newest was signed, None: none did."""
        looks = sorted(
            (self.connected_at_s[machine] + self._chance.random() * self._pass_s, signed_s)
            for signed_s, machine in holders
        )
        if not looks or looks[0][0] >= asked_s:
            return None
        newest_s, at_s, news = -math.inf, 0.0, 0
        for look_s, signed_s in looks:
            if signed_s > newest_s:
                newest_s, at_s = signed_s, look_s
                news += 1
                self._published(at_s)
        self._settled(len(holders), looks[0][0], at_s, news)
        return newest_s

    def _settled(self, fetchers: int, first_s: float, last_s: float, news: int = 1) -> None:
        """Tell of those that were not back when it was announced: each finds it when it looks."""
        if found := max(self._world.machines - self._connected(first_s) - (news - 1), 0):
            self.tally.add(FOUND, self._all_back_s + self._chance.random() * self._pass_s, found)
        if missing := self._world.machines - self._connected(last_s):
            # The greatest of so many evenly spread ones.
            looked_s = self._all_back_s + self._chance.random() ** (1 / missing) * self._pass_s
            last_s = max(last_s, looked_s)
        self.in_step.append(InStep(fetchers, last_s - self._world.back_s))

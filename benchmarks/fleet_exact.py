"""A small fleet, each machine and certificate an event of its own: what the model of a large one is held against.

Real are the policy and what a machine decides; the server is two dicts, and takes no time.
"""

from __future__ import annotations

import heapq
from functools import partial
from typing import TYPE_CHECKING

from fleet_constants import FOUND, HEAD, LOCK, LOOK, PUT
from fleet_world import ALONE, LATENCY_S, PUSH, QUESTION, Tally, comes_back_s, pause_s

from proxy.keeper.fleet import decide
from proxy.keeper.fleet.decide import Sync
from proxy.keeper.fleet.value import Head

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from fleet_world import World


class Exact:
    """Runs once."""

    def __init__(self, world: World, chance: random.Random) -> None:
        self.tally = Tally(world.end_s)
        self._world = world
        self._chance = chance
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._number = 0
        pairs = range(world.machines), range(world.certificates)
        self._held = [[0.0] * world.certificates for _ in pairs[0]]
        """When each response was signed."""
        self._due_s = [[0.0] * world.certificates for _ in pairs[0]]
        self._alone = [[False] * world.certificates for _ in pairs[0]]
        self._connected_at_s = [0.0] * world.machines
        self._stored = [0.0] * world.certificates
        self._lock_until_s = [0.0] * world.certificates
        for certificate in pairs[1]:
            self._begin(certificate)

    def run(self) -> Tally:
        for machine in range(self._world.machines):
            at_s = comes_back_s(self._world, self._chance, self.tally)
            self._connected_at_s[machine] = at_s
            order = list(range(self._world.certificates))
            self._chance.shuffle(order)
            for place, certificate in enumerate(order):
                look_s = at_s + place / decide.RESYNC_PER_S
                self._at(look_s, partial(self._keep_in_step, machine, certificate))
        while self._events and self._events[0][0] < self._world.end_s:
            now_s, _, event = heapq.heappop(self._events)
            event(now_s)
        return self.tally

    def _begin(self, certificate: int) -> None:
        """Let all hold the same response, fetched at any moment since which nobody is due."""
        life_s = self._world.life_s(certificate)
        shared = self._chance.random()
        pauses = [
            pause_s(life_s, decide.joint_jitter(shared, self._chance.random())) for _ in range(self._world.machines)
        ]
        signed_s = -self._chance.random() * min(pauses)
        self._stored[certificate] = signed_s
        for machine, each_s in enumerate(pauses):
            self._held[machine][certificate] = signed_s
            self._schedule(machine, certificate, signed_s + each_s)

    def _at(self, when_s: float, event: Callable[[float], None]) -> None:
        self._number += 1
        heapq.heappush(self._events, (when_s, self._number, event))

    def _schedule(self, machine: int, certificate: int, due_s: float) -> None:
        self._due_s[machine][certificate] = due_s
        self._at(due_s, lambda now_s: self._due(now_s, machine, certificate))

    def _is_connected(self, machine: int, now_s: float) -> bool:
        return now_s < self._world.before_s or now_s >= self._connected_at_s[machine]

    def _due(self, now_s: float, machine: int, certificate: int) -> None:
        if self._due_s[machine][certificate] != now_s:  # it was put elsewhere since
            return
        if not self._is_connected(machine, now_s):
            self._without_the_fleet(now_s, machine, certificate)
        elif self._stored[certificate] > self._held[machine][certificate]:
            self.tally.add(FOUND, now_s)
            self._take(machine, certificate)
        else:
            self.tally.add(LOOK, now_s)
            left_s = self._lock_until_s[certificate] - now_s
            if left_s > 0:
                self._schedule(machine, certificate, now_s + decide.wait_s(left_s, self._chance.random()))
                return
            self.tally.add(LOCK, now_s)
            self._lock_until_s[certificate] = now_s + decide.LOCK_LIFE_S
            self._ask(now_s, machine, certificate, QUESTION)

    def _without_the_fleet(self, now_s: float, machine: int, certificate: int) -> None:
        if self._alone[machine][certificate]:
            self._ask(now_s, machine, certificate, ALONE)
            return
        self._alone[machine][certificate] = True
        left_s = self._held[machine][certificate] + self._world.life_s(certificate) - now_s
        self._schedule(machine, certificate, now_s + decide.alone_pause_s(left_s, self._chance.random()))

    def _ask(self, now_s: float, machine: int, certificate: int, kind: str) -> None:
        self.tally.add(kind, now_s)
        self._due_s[machine][certificate] = -1.0
        answered_s = now_s + self._chance.uniform(*LATENCY_S)
        self._at(answered_s, lambda then_s: self._answered(then_s, machine, certificate))

    def _answered(self, now_s: float, machine: int, certificate: int) -> None:
        self._held[machine][certificate] = now_s
        self._take_as(machine, certificate, now_s)
        if self._is_connected(machine, now_s):
            self._lock_until_s[certificate] = 0.0
            self._put(now_s, machine, certificate)

    def _put(self, now_s: float, machine: int, certificate: int) -> None:
        signed_s = self._held[machine][certificate]
        self.tally.add(PUT, now_s)
        if self._stored[certificate] >= signed_s:
            return
        self._stored[certificate] = signed_s
        for other in range(self._world.machines):
            if self._is_connected(other, now_s):
                self.tally.add(PUSH, now_s)
                if self._held[other][certificate] < signed_s:
                    self._take(other, certificate)

    def _take(self, machine: int, certificate: int) -> None:
        self._held[machine][certificate] = self._stored[certificate]
        self._take_as(machine, certificate, self._stored[certificate])

    def _take_as(self, machine: int, certificate: int, asked_s: float) -> None:
        self._alone[machine][certificate] = False
        jitter = decide.shared_jitter(certificate.to_bytes(4, "big"), repr(asked_s).encode(), self._chance.random())
        self._schedule(machine, certificate, asked_s + pause_s(self._world.life_s(certificate), jitter))

    def _keep_in_step(self, machine: int, certificate: int, now_s: float) -> None:
        self.tally.add(HEAD, now_s)
        mine, theirs = self._held[machine][certificate], self._stored[certificate]
        heads = [Head(int(each * 1000), int(each * 1000)) for each in (mine, theirs)]  # a finer clock than a response's
        match decide.sync(*heads):
            case Sync.TAKE:
                self.tally.add(FOUND, now_s)
                self._take(machine, certificate)
            case Sync.PUT_NEWER:
                self._put(now_s, machine, certificate)

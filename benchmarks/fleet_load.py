"""What the one thread of the fleet's server has to do, second by second, and what a machine has. PURE.

Two kinds of work: what comes when it comes (rounds), and the looks at all certificates, of which a machine has one
under way at a time: they slow down by themselves where the server has no time for them.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet_constants import FOUND, HEAD, LOCK, LOOK, PUT
from fleet_world import PUSH, pause_s

from proxy.keeper.fleet import decide

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

    from fleet_constants import Constants
    from fleet_world import Tally, World

HALF_TRIP_S = 0.00025
"""From a machine to the server, in one data centre."""
_LEAST_FOR_HEADS = 0.05
"""Of the server's time: who waits for it takes turns with all others."""


@dataclass(frozen=True, slots=True)
class Second:
    """What the server did in one second, and how far behind it was at its end."""

    operations: float
    bytes_in: float
    bytes_out: float
    busy: float
    behind_s: float


def resync_pace(machines: int, constants: Constants) -> float:
    """How many certificates a machine looks at in a second when all have come back at once."""
    return min(decide.RESYNC_PER_S, 1 / (machines * constants.server_s(HEAD)))


def seconds(world: World, tally: Tally, constants: Constants, connected_at_s: Sequence[float]) -> list[Second]:
    """Go through all seconds of a run."""
    own = {name: tally.series(name) for name in (LOOK, FOUND, LOCK, PUT)}
    pushes = tally.series(PUSH)
    polled = 1 / decide.poll_interval_s(world.certificates)
    told: list[Second] = []
    looks = _Looks(world, connected_at_s)
    behind_s = 0.0
    for second, pushed in enumerate(pushes):
        counts = {name: series[second] for name, series in own.items()}
        is_crowded = behind_s > 0 or pushed * constants.push_alone_s > 1
        push_s = constants.push_pipelined_s if is_crowded else constants.push_alone_s
        work_s = behind_s + pushed * push_s + sum(number * constants.server_s(name) for name, number in counts.items())
        left_s = max(1.0 - work_s, _LEAST_FOR_HEADS)
        counts[HEAD] = looks.next(second, polled, left_s / constants.server_s(HEAD))
        work_s += counts[HEAD] * constants.server_s(HEAD)
        behind_s = max(work_s - 1.0, 0.0)
        told.append(
            Second(
                sum(counts.values()),
                sum(number * constants.operations[name].bytes_in for name, number in counts.items()),
                pushed * constants.push_bytes
                + sum(number * constants.operations[name].bytes_out for name, number in counts.items()),
                min(work_s, 1.0),
                behind_s,
            )
        )
    return told


class _Looks:
    """How many heads are looked at, by those that poll and those that have just come back."""

    def __init__(self, world: World, connected_at_s: Sequence[float]) -> None:
        self._world = world
        self._connects = sorted(connected_at_s)
        self._begun: list[float] = []
        """How far the pass of all was when each machine came back."""
        self._done = 0
        self._progress = 0.0

    def next(self, second: int, polled: float, most: float) -> float:
        if second < self._world.before_s:
            return min(self._world.machines * polled, most)
        while len(self._begun) < len(self._connects) and self._connects[len(self._begun)] <= second:
            self._begun.append(self._progress)
        while self._done < len(self._begun) and self._progress - self._begun[self._done] >= self._world.certificates:
            self._done += 1
        polls = min(self._done * polled, most)
        busy = len(self._begun) - self._done
        if busy:
            step = min(decide.RESYNC_PER_S, (most - polls) / busy)
            self._progress += step
            return polls + busy * step
        return polls


@dataclass(frozen=True, slots=True)
class Steady:
    """A fleet of some size in which all is well."""

    machines: int
    certificates: int
    rounds: float
    """In a second, by the whole fleet."""
    alone: float
    """Questions in a second without a fleet."""
    operations: float
    bytes_in: float
    bytes_out: float
    busy: float
    """Part of the server's one thread."""
    polls_busy: float
    """Of it: looks at all certificates, as a safety net."""
    keeper_busy: float
    """Part of one core of a machine."""
    poll_s: float
    """Until a machine has looked at all certificates once."""
    resync_s: float
    """The same when all have come back at once."""
    memory_bytes: float


def steady(machines: int, certificates: int, lives_s: Sequence[float], constants: Constants) -> Steady:
    """Reckon with means."""
    costs = constants.operations
    # The greatest of n numbers is n / (n + 1) on average.
    jitter = decide.joint_jitter(0.5, machines / (machines + 1))
    rounds = certificates * statistics.fmean(1 / pause_s(each, jitter) for each in lives_s)
    alone = machines * certificates * statistics.fmean(1 / pause_s(each, 0.5) for each in lives_s)
    interval_s = decide.poll_interval_s(certificates)
    polls = machines / interval_s
    counts = {HEAD: polls, LOOK: rounds, LOCK: rounds, PUT: rounds}
    polls_busy = polls * constants.server_s(HEAD)
    turn_s = sum(constants.server_s(name) for name in (LOOK, LOCK, PUT))
    return Steady(
        machines,
        certificates,
        rounds,
        alone,
        sum(counts.values()),
        sum(number * costs[name].bytes_in for name, number in counts.items()),
        rounds * machines * constants.push_bytes
        + sum(number * costs[name].bytes_out for name, number in counts.items()),
        polls_busy + rounds * (turn_s + machines * constants.push_alone_s),
        polls_busy,
        costs[HEAD].client_s / interval_s
        + rounds * constants.take_s
        + rounds / machines * sum(costs[name].client_s for name in (LOOK, LOCK, PUT)),
        certificates * interval_s,
        certificates / resync_pace(machines, constants),
        certificates * constants.memory_bytes,
    )


def all_staple_s(machines: int, constants: Constants, busy: float, chance: random.Random) -> float:
    """From a responder's answer at one machine to the last machine that staples it; drawn for each machine."""
    stored_s = constants.operations[PUT].client_s + HALF_TRIP_S + constants.server_s(PUT)
    last_s = 0.0
    for number in range(1, machines + 1):
        waited_s = chance.random() * constants.take_s if chance.random() < busy else 0.0
        last_s = max(last_s, number * constants.push_alone_s + HALF_TRIP_S + waited_s + constants.take_s)
    return stored_s + last_s

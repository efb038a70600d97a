"""Days of a keeper with very many certificates in virtual time: the real `Refresher`, simulated responders."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import re
import statistics
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from refresh_loop import VirtualLoop, unread_log
from refresh_world import START, TIMEOUT_S, ChargedCache, Kind, Responders

from proxy.keeper.refresher import Refresher
from proxy.lab.ca import LabCA
from proxy.settings.model import StaplingSettings

if TYPE_CHECKING:
    import logging
    from collections.abc import AsyncIterator, Iterator, Sequence

    from refresh_world import Asked, CacheCost

    from proxy.sites import StapledCertificate

HOUR_S, DAY_S = 3_600, 86_400


@dataclass(frozen=True, slots=True)
class Spread:
    """Questions to the usual responders, minute by minute."""

    period: str
    questions: int
    mean_per_minute: float
    most_per_minute: int
    variation: float
    """Standard deviation over mean."""
    most_per_second: int
    """At all of them together."""


@dataclass(frozen=True, slots=True)
class OfKind:
    """What the responders of one kind and their certificates saw."""

    kind: str
    responders: int
    questions: int
    most_per_second: int
    """At one of them."""
    most_under_way: int
    """At one of them."""
    median_late_s: float | None
    """After the moment when a refresh was due; None: there was none."""
    most_late_s: float | None
    lapsed: int
    """Staples that had ended before the next one came."""


@dataclass(frozen=True, slots=True)
class Result:
    """What came out; times are virtual, CPU times are the keeper's."""

    certificates: int
    days: int
    cold_ready_s: float
    """Until `warm_up` returned, which is when workers start to listen."""
    cold_half_s: float
    cold_usual_s: float
    """Until every certificate of a usual responder had its staple."""
    cold_longest_turn_s: float
    warm_ready_s: float
    """The same when the cache holds a staple for each."""
    warm_longest_turn_s: float
    cpu_per_refresh_s: float
    """Over the days after the start, failures of the dead one included; without the cache's part."""
    cache_per_refresh_s: float
    spreads: tuple[Spread, ...]
    kinds: tuple[OfKind, ...]
    identity_bytes: float
    """Of memory for each certificate: what its files need, chain and key read."""
    watched_bytes: float
    """What the scheduler adds."""
    staple_bytes: float
    """What a staple adds, the cache's own memory not counted."""
    response_bytes: float


def simulate(certificates: int, responders: int, days: int, cost: CacheCost, seed: int = 1) -> Result:
    """Start without a staple, go on for some days; then start again with a full cache."""
    chance = random.Random(seed)
    kinds = [Kind.DEAD, Kind.SLOW, *[Kind.USUAL] * (responders - 2)]
    chance.shuffle(kinds)
    ca = LabCA.create(START - timedelta(days=1))
    world = Responders(ca, kinds, chance)
    cache = world.cache = ChargedCache(cost)
    memory = [private_bytes()]
    watched = tuple(world.certificates(certificates, ca))
    memory.append(private_bytes())
    with unread_log() as log:
        days_of = _Days(world, cache, watched, log, chance)
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(days_of.cold(days, memory))
        usual = [each for each in world.by_url.values() if each.kind is Kind.USUAL]
        spreads = tuple(_spreads(usual, days))
        seen = tuple(_of_kind(world, kind) for kind in Kind)
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            warm_ready_s, warm_longest_turn_s = runner.run(days_of.warm(days))
    identities_bytes, watched_bytes, staples_bytes = (after - before for before, after in pairwise(memory))
    got = sorted(world.first_s.values())
    usual_urls = {url for url, each in world.by_url.items() if each.kind is Kind.USUAL}
    usual_first = [world.first_s[each.identity.cache_key] for each in watched if each.responder_urls[0] in usual_urls]
    lengths = [len(each.response) for each in cache._held.values()]  # noqa: SLF001  a look that costs nothing
    return Result(
        certificates=certificates,
        days=days,
        cold_ready_s=days_of.ready_s,
        cold_half_s=got[certificates // 2],
        cold_usual_s=max(usual_first),
        cold_longest_turn_s=days_of.longest_turn_s,
        warm_ready_s=warm_ready_s,
        warm_longest_turn_s=warm_longest_turn_s,
        cpu_per_refresh_s=days_of.cpu_per_refresh_s,
        cache_per_refresh_s=cost.put + cost.note,
        spreads=spreads,
        kinds=seen,
        identity_bytes=identities_bytes / certificates,
        watched_bytes=watched_bytes / certificates,
        staple_bytes=staples_bytes / len(got),
        response_bytes=statistics.fmean(lengths),
    )


class _Days:
    def __init__(
        self,
        world: Responders,
        cache: ChargedCache,
        certificates: Sequence[StapledCertificate],
        log: logging.Logger,
        chance: random.Random,
    ) -> None:
        self._world, self._cache = world, cache
        self._certificates = certificates
        self._log = log
        self._chance = chance
        self.ready_s = self.longest_turn_s = self.cpu_per_refresh_s = 0.0

    def _refresher(self, certificates: Sequence[StapledCertificate], begin_s: float) -> tuple[Refresher, VirtualLoop]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        self._world.loop = self._cache.loop = loop
        settings = StaplingSettings(fetch_timeout_s=TIMEOUT_S)
        refresher = Refresher(
            certificates,
            settings,
            self._cache,
            fetcher=self._world,
            log=self._log,
            clock=lambda: START.timestamp() + begin_s + loop.time(),
            jitter=self._chance.random,
        )
        return refresher, loop

    async def cold(self, days: int, memory: list[float]) -> None:
        refresher, loop = self._refresher(self._certificates, 0.0)
        with loop.not_ours():
            memory.append(private_bytes())
        await _new_turn(loop)
        begun_s = loop.time()
        await refresher.warm_up()
        self.ready_s = loop.time() - begun_s
        async with _at_work(refresher):
            await asyncio.sleep(HOUR_S - loop.time())
            self.longest_turn_s = loop.longest_turn_s()
            with loop.not_ours():
                memory.append(private_bytes())
                count_before, cpu_before_s = self._count(), loop.cpu_s
            charged_before_s = loop.charged_s
            await asyncio.sleep(days * DAY_S - loop.time())
            spent_s = loop.cpu_s - cpu_before_s - (loop.charged_s - charged_before_s)
            self.cpu_per_refresh_s = spent_s / (self._count() - count_before)

    async def warm(self, days: int) -> tuple[float, float]:
        held = [each for each in self._certificates if each.identity.cache_key in self._world.first_s]
        refresher, loop = self._refresher(held, float(days * DAY_S))
        await _new_turn(loop)
        begun_s = loop.time()
        await refresher.warm_up()
        ready_s = loop.time() - begun_s
        async with _at_work(refresher):
            await asyncio.sleep(1)
        return ready_s, loop.longest_turn_s()

    def _count(self) -> int:
        return sum(each.by_second.total() for each in self._world.by_url.values())


async def _new_turn(loop: VirtualLoop) -> None:
    await asyncio.sleep(0)
    loop.longest_turn_s()


@contextlib.asynccontextmanager
async def _at_work(refresher: Refresher) -> AsyncIterator[None]:
    work = asyncio.create_task(refresher.run())
    try:
        yield
    finally:
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work


def _spreads(usual: Sequence[Asked], days: int) -> Iterator[Spread]:
    by_second: Counter[int] = Counter()
    for each in usual:
        by_second.update(each.by_second)
    yield _spread("first hour", by_second, 0, HOUR_S)
    yield _spread("rest of day 1", by_second, HOUR_S, DAY_S)
    for day in range(1, days):
        yield _spread(f"day {day + 1}", by_second, day * DAY_S, (day + 1) * DAY_S)


def _spread(period: str, by_second: Counter[int], begin_s: int, end_s: int) -> Spread:
    minutes = [0] * ((end_s - begin_s) // 60)
    seconds = [0]
    for second, count in by_second.items():
        if begin_s <= second < end_s:
            minutes[(second - begin_s) // 60] += count
            seconds.append(count)
    mean = statistics.fmean(minutes)
    variation = statistics.pstdev(minutes) / mean if mean else 0.0
    return Spread(period, sum(minutes), mean, max(minutes), variation, max(seconds))


def _of_kind(world: Responders, kind: Kind) -> OfKind:
    of_kind = [each for each in world.by_url.values() if each.kind is kind]
    late_s = world.late_s[kind]
    return OfKind(
        kind=kind.value,
        responders=len(of_kind),
        questions=sum(each.by_second.total() for each in of_kind),
        most_per_second=max(max(each.by_second.values()) for each in of_kind),
        most_under_way=max(each.most_under_way for each in of_kind),
        median_late_s=statistics.median(late_s) if late_s else None,
        most_late_s=max(late_s) if late_s else None,
        lapsed=world.lapsed[kind],
    )


def private_bytes() -> float:
    """Memory of this process that no file and no shared segment backs."""
    gc.collect()
    found = re.search(r"^RssAnon:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None  # Linux has it
    return int(found[1]) * 1024.0

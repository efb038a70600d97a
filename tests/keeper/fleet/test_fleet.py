"""Machines of a fleet in one process, each with its own cache, before one real Redis."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import ssl
import time
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from integration.redis_servers import REDIS_AND_VALKEY, redis_server
from keeper.fleet.fake_redis import announcement, array, bulk, fake_redis, honest
from keeper.responders import responder, until
from keeper.world import ONE, TWO, Responder, World, at_work, key, stapled
from ocsp import pki
from ocsp.pki import DAY, NOW, Answer, cert_id, issue, revoked, single

from proxy.cache.layout import CacheArgument
from proxy.cache.segment import Segment
from proxy.keeper.fleet.fleet import Fleet
from proxy.keeper.fleet.server import Names
from proxy.keeper.fleet.value import MAX_ANNOUNCED_BYTES, Head, encode
from proxy.redisdoor import Credentials, RedisDoor
from proxy.settings.caching import parse_redis

if TYPE_CHECKING:
    from proxy.keeper.refresher import Refresher

PREFIX = "t:"
VALUE, LOCK = Names.of(PREFIX, key(ONE)).value, Names.of(PREFIX, key(ONE)).lock


def door(cache: str, **more) -> RedisDoor:
    nobody = Credentials()
    values = {"credentials": nobody, "sentinel_credentials": nobody, "sentinel_master": None, "is_cluster": False}
    servers = parse_redis(cache)
    tls = ssl.create_default_context() if servers.is_tls else None
    return RedisDoor(**{"servers": servers, "key_prefix": PREFIX, "timeout_s": 5, "tls": tls, **values, **more})


@pytest.fixture(scope="module", params=REDIS_AND_VALKEY)
def running(request, tmp_path_factory):
    with redis_server(tmp_path_factory.mktemp("redis"), program=request.param) as server:
        yield server


@pytest.fixture
def server(running):
    running.cli("FLUSHALL")
    return running


class Origin:
    """What all machines have in common besides Redis: the time, and the responder."""

    def __init__(self) -> None:
        self.moment = NOW
        self.responder = Responder(lambda: self.moment)


@dataclass
class Member:
    """One machine."""

    world: World
    fleet: Fleet
    refresher: Refresher

    @property
    def counts(self):
        return self.fleet.told().counts

    @property
    def refused(self):
        return dict(self.fleet.told().refused)


@contextlib.asynccontextmanager
async def member(server_door, *certificates, world=None, find_issuer=None, **settings):
    """One machine that has warmed up and is at work; it has the time and the responder of `world`."""
    with contextlib.closing(Segment.create(CacheArgument("", 512_000))) as segment:
        own = World(segment, retry_min_interval_s=1, **settings)
        if world:
            own.responder = world.responder
            own.moment = world.moment
        fleet = Fleet(server_door, own.settings, jitter=lambda: 0.0)
        async with own.refresher(*certificates, sharing=fleet, find_issuer=find_issuer) as refresher:
            living = asyncio.create_task(fleet.run(refresher.watched(), refresher))
            try:
                await fleet.settled()
                await refresher.warm_up()
                async with at_work(refresher):
                    yield Member(own, fleet, refresher)
            finally:
                assert not living.done(), living.exception()
                living.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await living


def test_machines_that_start_together_ask_once(server):
    """And the one that comes later does not ask at all."""

    async def run():
        async with contextlib.AsyncExitStack() as stack:
            origin = Origin()
            url = await stack.enter_async_context(responder(origin.responder))
            certificates = stapled(ONE, url), stapled(TWO, url)
            entering = [stack.enter_async_context(member(door(f"redis:{server.address}"), *certificates, world=origin))]
            entering += [
                stack.enter_async_context(member(door(f"redis:{server.address}"), *certificates, world=origin))
                for _ in range(2)
            ]
            members = await asyncio.gather(*entering)
            members.append(
                await stack.enter_async_context(member(door(f"redis:{server.address}"), *certificates, world=origin))
            )
            assert [origin.responder.questions(leaf) for leaf in (ONE, TWO)] == [1, 1]
            assert len({each.world.staple(leaf) for each in members for leaf in (ONE, TWO)}) == 2
            assert sum(each.counts["locked"] for each in members) == 2
            assert sum(each.counts["taken"] for each in members) >= 6

    asyncio.run(run())


def test_a_new_response_is_everywhere_within_a_second(server):
    """Announced by the one that fetched it; the other is not due, and asks nothing."""

    async def run():
        origin = Origin()
        async with responder(origin.responder) as url:
            place = door(f"redis:{server.address}")
            async with (
                member(place, stapled(ONE, url), world=origin) as one,
                member(place, stapled(ONE, url), world=origin) as two,
            ):
                first = two.world.staple(ONE)
                origin.moment += DAY / 4
                one.world.moment = two.world.moment = origin.moment
                assert one.refresher.refresh(key(ONE))
                await until(lambda: one.counts["stored"] == 2)
                begun = time.monotonic()
                await until(lambda: two.world.staple(ONE) != first)
                assert time.monotonic() - begun < 1
                assert two.world.staple(ONE) == one.world.staple(ONE)
                assert origin.responder.questions(ONE) == 2

    asyncio.run(run())


@pytest.mark.parametrize("takes_lock", [False, True])
def test_what_comes_by_two_ways_at_once_is_taken_once(takes_lock):
    """Taken twice, it would count as a response that the responder has repeated, and put the question off.

    Nor is anybody asked then, when it is found in the moment that the lock is to be taken.
    """

    async def run():
        origin = Origin()
        says = {"GETRANGE": bulk(b"2 a newer program's")}  # leaves the walk out of it
        async with (
            responder(origin.responder) as url,
            fake_redis(says) as fake,
            member(door(f"redis:{fake.address}"), stapled(ONE, url), world=origin) as one,
        ):
            await until(lambda: fake.listeners and one.counts["stored"])
            origin.moment += DAY
            der = origin.responder.good(ONE)
            value = encode(Head(int(origin.moment.timestamp()), 10**13), der)

            async def late(writer, words):
                if takes_lock and words[-2] == b"0":
                    writer.write(honest(words, "TURN"))
                    return
                del fake.says["TURN"]
                fake.listeners[0].write(announcement(fake.channel, key(ONE).hex().encode() + b" " + value))
                await until(lambda: one.world.staple(ONE) == der)
                writer.write(array(b"found", 10**13, value))

            fake.says["TURN"] = late
            one.world.moment = origin.moment
            await until(lambda: one.world.staple(ONE) == der and next(iter(one.refresher.watched())).due_s)
            assert one.counts["taken"] == 1
            assert origin.responder.questions(ONE) == 1

    asyncio.run(run())


def poisons():
    good = Origin().responder.good(ONE)
    other = Answer(singles=(single(cert_id(TWO), this_update=NOW, next_update=NOW + 2 * DAY),)).der
    stranger = issue("ca.example")
    forged = Answer(singles=(single(cert_id(ONE), this_update=NOW, next_update=NOW + 2 * DAY),), signer=stranger).der
    old = Origin().responder.good(ONE, this_update=NOW - 5 * DAY, next_update=NOW - DAY)
    head = Head(int(NOW.timestamp()) + 999, 10**13)
    return {
        "malformed": b"\x00\xff no format at all",
        "unparsable": encode(head, b"nonsense"),
        "certid-mismatch": encode(head, other),
        "bad-signature": encode(head, good[:-1] + bytes([good[-1] ^ 1])),
        "unauthorized-signer": encode(head, forged),
        "expired": encode(Head(int((NOW - 5 * DAY).timestamp()), 10**13), old),
        "too-large": encode(head, b"x" * 70_000),
        "trailing-bytes": encode(head, good + b"\0"),
    }


@pytest.mark.parametrize("reason", poisons())
def test_what_somebody_put_there_is_verified_and_refused(server, reason, lines):
    """It is refused with its reason, and the machine asks as if nothing were there; what is good replaces it."""
    server.put(VALUE, poisons()[reason])

    async def run():
        origin = Origin()
        async with responder(origin.responder) as url:
            place = door(f"redis:{server.address}")
            async with member(place, stapled(ONE, url), world=origin) as one:
                assert one.refused == {reason: 1}
                assert one.world.staple(ONE)
                assert any(f"is refused: {reason}" in line for line in lines())
                assert origin.responder.questions(ONE) == 1
                await until(lambda: server.raw("GET", VALUE).endswith(one.world.staple(ONE)))
                async with member(place, stapled(ONE, url), world=origin) as two:
                    assert (two.refused, two.world.staple(ONE)) == ({}, one.world.staple(ONE))
                    assert origin.responder.questions(ONE) == 1

    asyncio.run(run())


def test_what_is_there_and_no_string_is_overwritten(server):
    server.cli("RPUSH", VALUE, "x")

    async def run():
        origin = Origin()
        async with (
            responder(origin.responder) as url,
            member(door(f"redis:{server.address}"), stapled(ONE, url), world=origin) as one,
        ):
            assert one.world.staple(ONE)
            await until(lambda: server.raw("GET", VALUE).endswith(one.world.staple(ONE)))

    asyncio.run(run())


def test_a_value_of_an_unknown_format_is_left_alone(server):
    """Neither read nor overwritten, by no way: the machine asks by itself, under the lock that all formats share."""
    server.put(VALUE, b"2 what a newer version has written")

    async def run():
        origin = Origin()
        async with responder(origin.responder) as url:
            place = door(f"redis:{server.address}")
            async with member(place, stapled(ONE, url), world=origin) as one:
                assert one.world.staple(ONE)
                await until(lambda: one.counts["unknown-format"])
                operations = one.fleet.told().operations
                one.fleet._links[0].came_up.set()  # as when the server had been away: all is looked at
                await until(lambda: one.fleet.told().operations > operations)
                await asyncio.sleep(0)
                assert one.refused == {}
                assert server.cli("EXISTS", LOCK) == "0"

    asyncio.run(run())
    assert server.raw("GET", VALUE) == b"2 what a newer version has written"


def test_never_an_older_one_over_a_newer_one(server):
    """Checked on the server, in the step that stores: whatever a machine believes."""

    async def run():
        origin = Origin()
        async with responder(origin.responder) as url:
            place = door(f"redis:{server.address}")
            async with member(place, stapled(ONE, url), world=origin) as one:
                await until(lambda: one.counts["stored"])
                watched = next(iter(one.refresher.watched()))
                newest = server.raw("GET", VALUE)
                watched.newest = replace(watched.newest, this_update=NOW - DAY, der=b"older")
                await one.fleet.store(watched, watched.newest, None)
                assert one.counts["older"] == 1
        assert server.raw("GET", VALUE) == newest

    asyncio.run(run())


def test_revoked_is_known_everywhere_at_once(server):
    """The issuer's word, whoever heard it: nothing is stapled any more, on no machine."""

    async def run():
        origin = Origin()
        async with responder(origin.responder) as url:
            place = door(f"redis:{server.address}")
            async with (
                member(place, stapled(ONE, url), world=origin) as one,
                member(place, stapled(ONE, url), world=origin) as two,
            ):
                origin.moment += DAY / 4
                one.world.moment = two.world.moment = origin.moment
                origin.responder.say = lambda leaf: origin.responder.good(leaf, status=revoked(origin.moment))
                assert one.refresher.refresh(key(ONE))
                await until(lambda: one.world.staple(ONE) is None)
                await until(lambda: two.world.staple(ONE) is None)
                assert origin.responder.questions(ONE) == 2

    asyncio.run(run())


def test_a_failure_counts_for_all_for_a_moment(server):
    """While the responder gives nothing, machines do not ask one after the other at once."""

    async def run():
        from aiohttp import web

        origin = Origin()
        origin.responder.say = lambda _: web.Response(status=500)
        async with responder(origin.responder) as url:
            place = door(f"redis:{server.address}")
            async with (
                member(place, stapled(ONE, url), world=origin) as one,
                member(place, stapled(ONE, url), world=origin, warmup_timeout_s=0.2) as two,
            ):
                assert origin.responder.questions(ONE) == 1
                assert two.counts["in-vain"] == 1
                assert next(iter(two.refresher.watched())).troubles[0].reason == "asked-in-vain"
                origin.responder.say = None

                def time_goes_on() -> bytes | None:
                    one.world.moment += timedelta(seconds=1)
                    return two.world.staple(ONE)

                await until(time_goes_on)
                assert origin.responder.questions(ONE) == 2

    asyncio.run(run())


def test_the_lock_of_a_holder_that_died_is_waited_for_and_then_taken(server):
    """Nobody waits longer than its life."""
    server.cli("SET", LOCK, "somebody's", "PX", "1500")

    async def run():
        origin = Origin()
        async with responder(origin.responder) as url:
            place = door(f"redis:{server.address}")
            async with member(place, stapled(ONE, url), world=origin, warmup_timeout_s=0.2) as one:
                assert one.world.staple(ONE) is None
                assert one.counts["waited"] == 1
                one.world.moment += DAY / 1000
                await until(lambda: server.cli("EXISTS", LOCK) == "0")
                one.world.moment += DAY / 1000
                one.refresher.refresh(key(ONE))
                await until(lambda: one.world.staple(ONE))
                assert origin.responder.questions(ONE) == 1

    asyncio.run(run())


def test_a_lost_announcement_is_made_up_for_by_the_poll(server, monkeypatch):
    """Pub/Sub promises nothing: somebody stored a response, and nobody said so."""
    monkeypatch.setattr("proxy.keeper.fleet.decide.POLL_LEAST_S", 0.5)

    async def run():
        origin = Origin()
        async with responder(origin.responder) as url:
            place = door(f"redis:{server.address}")
            async with member(place, stapled(ONE, url), world=origin) as one:
                newer = origin.responder.good(ONE, this_update=NOW + DAY / 4)
                one.world.moment += DAY / 2
                head = Head(int((NOW + DAY / 4).timestamp()), int(time.time() * 1000))
                server.put(VALUE, encode(head, newer))
                await until(lambda: one.world.staple(ONE) == newer)

    asyncio.run(run())


def test_who_has_no_room_for_what_it_got_gives_it_to_the_others(server):
    """And the lock with it, for which they would wait else."""

    async def run():
        origin = Origin()
        extension = pki.extension(pki.UNKNOWN_EXTENSION, critical=False, value=bytes(600_000))
        origin.responder.say = lambda leaf: origin.responder.good(leaf, extensions=[extension])
        place = door(f"redis:{server.address}")
        async with (
            responder(origin.responder) as url,
            member(place, stapled(ONE, url), world=origin, max_response_bytes=1_000_000) as one,
        ):
            await until(lambda: one.counts["stored"])
            assert one.world.staple(ONE) is None
            assert (one.fleet.told().locks_held, server.cli("EXISTS", LOCK)) == (0, "0")
            assert int(server.cli("STRLEN", VALUE)) > 600_000

    asyncio.run(run())


def test_an_announcement_too_long_to_have_the_value_in_it_is_fetched(server, monkeypatch):
    from proxy.keeper.fleet import scripts

    monkeypatch.setattr(scripts, "PUT", scripts.PUT.replace(f"#value <= {MAX_ANNOUNCED_BYTES}", "#value <= 100"))

    async def run():
        origin = Origin()
        async with responder(origin.responder) as url:
            place = door(f"redis:{server.address}")
            async with (
                member(place, stapled(ONE, url), world=origin) as one,
                member(place, stapled(ONE, url), world=origin) as two,
            ):
                first = two.world.staple(ONE)
                origin.moment += DAY / 4
                one.world.moment = two.world.moment = origin.moment
                assert one.refresher.refresh(key(ONE))
                await until(lambda: two.world.staple(ONE) not in {first, None})
                assert origin.responder.questions(ONE) == 2

    asyncio.run(run())


def test_a_server_that_lost_everything_gets_it_back(server):
    """Emptied while nobody was due: who holds a response returns it, once."""

    async def run():
        origin = Origin()
        async with responder(origin.responder) as url:
            place = door(f"redis:{server.address}")
            async with (
                member(place, stapled(ONE, url), stapled(TWO, url), world=origin) as one,
                member(place, stapled(ONE, url), stapled(TWO, url), world=origin) as two,
            ):
                server.cli("FLUSHALL")
                for each in (one, two):
                    each.fleet._links[0].came_up.set()
                await until(lambda: len(server.keys(f"{PREFIX}*:staple")) == 2)
                await until(lambda: one.counts["returned"] + two.counts["returned"] == 2)
                assert origin.responder.questions(ONE) == 1

    asyncio.run(run())


def test_several_servers_have_a_part_of_the_keys_each(server, tmp_path):
    """Apache's redis:host,host; the part of one that is away is asked for by each machine itself."""

    async def run(other):
        origin = Origin()
        async with responder(origin.responder) as url:
            place = door(f"redis:{server.address},{other.address}", timeout_s=1)
            async with member(place, stapled(ONE, url), stapled(TWO, url), world=origin) as one:
                await until(lambda: one.counts["stored"] == 2)
                split = [len(each.keys(f"{PREFIX}*:staple")) for each in (server, other)]
                assert split == [sum(int.from_bytes(key(leaf)[:4]) % 2 == n for leaf in (ONE, TWO)) for n in (0, 1)]

    with redis_server(tmp_path / "other") as other:
        asyncio.run(run(other))


@pytest.mark.slow
def test_neither_the_start_nor_the_end_waits_for_a_server_that_hangs(tmp_path):
    """However long an operation may take: both have a bound of their own."""

    async def run(server):
        origin = Origin()
        async with responder(origin.responder) as url:
            place = door(f"redis:{server.address}", timeout_s=60)
            async with member(place, stapled(ONE, url), world=origin) as one:
                await until(lambda: one.counts["stored"])
                server.process.send_signal(signal.SIGSTOP)
                assert one.refresher.refresh(key(ONE))
                await until(lambda: one.fleet.told().operations > 3)
                begun = time.monotonic()
            assert time.monotonic() - begun < 20
            begun = time.monotonic()
            async with member(place, stapled(ONE, url), world=origin, warmup_timeout_s=0.1):
                assert time.monotonic() - begun < 20

    with redis_server(tmp_path) as server:
        begun = time.monotonic()
        asyncio.run(run(server))
        assert time.monotonic() - begun < 50

"""A server that lies: the machine has its staple all the same, goes on, and writes no traceback."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta

import pytest
from keeper.fleet.fake_redis import announcement, array, bulk, fake_redis
from keeper.fleet.test_fleet import VALUE, Origin, door, member, running, server
from keeper.responders import responder, until
from keeper.world import ONE, key, stapled
from ocsp.pki import DAY, NOW, revoked

from proxy.keeper.fleet.value import Head, encode

__all__ = ["running", "server"]  # fixtures


async def endless(writer, _words):
    """A value without an end."""
    writer.write(b"$999999999999\r\n")
    with contextlib.suppress(ConnectionError):
        while not writer.is_closing():
            writer.write(b"x" * 65_536)
            await writer.drain()


async def hang_up(writer, _words):
    writer.close()


async def silence(_writer, _words):
    pass


async def byte_by_byte(writer, _words):
    with contextlib.suppress(ConnectionError):
        for _ in range(40):
            writer.write(b"$")
            await writer.drain()
            await asyncio.sleep(0.05)


ANSWERS = {
    "a word": b"+OK\r\n",
    "a number": b":5\r\n",
    "nothing": b"$-1\r\n",
    "no list": b"*-1\r\n",
    "an empty list": b"*0\r\n",
    "no number": b":abc\r\n",
    "no length": b"$abc\r\n",
    "a negative length": b"$-7\r\n",
    "lists in lists": b"*1\r\n" * 5_000 + b":1\r\n",
    "a long list": b"*999999999\r\n" + b":1\r\n" * 2_000_000,
    "another protocol": b">2\r\n+a\r\n+b\r\n",
    "a map": b"%1\r\n+a\r\n:1\r\n",
    "HTTP": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "a line without an end": b"+" + b"x" * 300_000,
    "escapes": b"-ERR \x1b[31m\xff\x07 red\r\n",
    "moved": b"-MOVED 1 127.0.0.1:1\r\n",
    "ask": b"-ASK 1 127.0.0.1:1\r\n",
    "no script": b"-NOSCRIPT none\r\n",
    "lists of numbers": array(1, 2, 3),
    "found and nothing": array(b"found", 0),
    "found far from now": array(b"found", 2**63 - 1, b"1 1 1 -\nx"),
    "found, with a number of 400 digits": array(b"found", 10**400, b"1 1 1 -\nx"),
    "theirs, with a number of 400 digits": array(b"theirs", 10**400),
    "theirs for ever": array(b"theirs", 2**63 - 1),
    "theirs without an end": array(b"theirs", -1),
    "in vain, always": array(b"in-vain", 10_000),
    "long": array(b"long", 2**63 - 1),
    "a word that is none": array(b"\xff\xff", 1),
    "endless": endless,
    "hangs up": hang_up,
    "is silent": silence,
    "a byte at a time": byte_by_byte,
}
COMMANDS = ("TURN", "ALL", "CLIENT", "SUBSCRIBE", "SET", "GETRANGE", "PUT", "EXTEND", "RELEASE", "EVAL")
SAID = [
    pytest.param(command, answer, marks=[] if command == "TURN" else [pytest.mark.slow])
    for command in COMMANDS
    for answer in ANSWERS
]


@pytest.mark.parametrize(("command", "answer"), SAID)
def test_whatever_it_says_the_machine_has_its_staple(command, answer, lines):
    async def run():
        origin = Origin()
        says = {command: ANSWERS[answer]}
        if command == "EVAL":
            says |= dict.fromkeys(("TURN", "PUT"), b"-NOSCRIPT none\r\n")
        async with responder(origin.responder) as url, fake_redis(says) as fake:
            place = door(f"redis:{fake.address}", timeout_s=0.3)
            settings = {"warmup_timeout_s": 0.1, "fetch_timeout_s": 1}
            async with member(place, stapled(ONE, url), world=origin, **settings) as one:

                def time_goes_on():
                    one.world.moment += timedelta(seconds=0.5)
                    return one.world.staple(ONE)

                await until(time_goes_on)
                # Visited, too, and heard.
                one.fleet._links[0].came_up.set()
                for writer in fake.listeners:
                    if isinstance(says[command], bytes) and not writer.is_closing():
                        writer.write(says[command])
                await one.world.some_naps()
                assert one.world.staple(ONE)
        written = lines()
        assert not any("Traceback" in line or "\x1b" in line or "broke" in line for line in written), written

    asyncio.run(run())


def test_in_vain_for_ever_stops_nobody():
    """A server that says so though it was insisted: the second time the machine asks without a lock."""

    async def run():
        origin = Origin()
        async with responder(origin.responder) as url, fake_redis({"TURN": array(b"in-vain", -1)}) as fake:
            place = door(f"redis:{fake.address}")
            async with member(place, stapled(ONE, url), world=origin, warmup_timeout_s=0.1) as one:

                def time_goes_on():
                    one.world.moment += timedelta(seconds=1)
                    return one.world.staple(ONE)

                await until(time_goes_on)
                assert one.counts["in-vain"] == 3

    asyncio.run(run())


@pytest.mark.slow
@pytest.mark.parametrize("lie", [0, 1, 10**6])
def test_nobodys_word_puts_a_refresh_off_until_it_is_too_late(lie):
    """The same response, announced over and over as one that a responder gave just now; its head says what it likes."""

    async def run():
        origin = Origin()
        async with responder(origin.responder) as url, fake_redis() as fake:
            place = door(f"redis:{fake.address}")
            async with member(place, stapled(ONE, url), world=origin) as one:
                first = one.world.staple(ONE)
                await until(lambda: fake.listeners)
                (listener,) = fake.listeners
                asked_ms = 10**13
                while one.world.staple(ONE) == first:
                    assert one.world.moment < NOW + 2 * DAY - DAY / 10, "the staple is nearly over"
                    one.world.moment += DAY / 50
                    origin.moment = one.world.moment
                    asked_ms += 1
                    heard = one.counts["announced"]
                    value = encode(Head(int(NOW.timestamp()) + lie, asked_ms, 10**8), first)
                    listener.write(announcement(fake.channel, key(ONE).hex().encode() + b" " + value))
                    await until(lambda heard=heard: one.counts["announced"] > heard)
                    await one.world.some_naps()

    asyncio.run(run())


def test_the_servers_time_may_be_any(lines):
    async def run():
        origin = Origin()
        value = encode(Head(int(NOW.timestamp()), 1), origin.responder.good(ONE))
        says = {"TURN": array(b"found", 2**63 - 1, value), "GETRANGE": bulk(value[:64])}
        async with responder(origin.responder) as url, fake_redis(says) as fake:
            place = door(f"redis:{fake.address}")
            async with member(place, stapled(ONE, url), world=origin) as one:
                await until(lambda: one.world.staple(ONE))
                one.fleet._links[0].came_up.set()
                looked = fake.heard["GETRANGE"]
                await until(lambda: fake.heard["GETRANGE"] > looked)
        assert not any("broke" in line for line in lines())

    asyncio.run(run())


def test_what_is_revoked_is_told_once_however_often_it_is_announced():
    """Each telling runs the operator's command."""

    async def run():
        origin = Origin()
        origin.responder.say = lambda leaf: origin.responder.good(leaf, status=revoked(NOW))
        async with responder(origin.responder) as url, fake_redis() as fake:
            place = door(f"redis:{fake.address}")
            async with member(place, stapled(ONE, url), world=origin) as one:
                await until(lambda: one.world.heard.kinds == ["revoked"] and fake.listeners)
                der = next(iter(one.refresher.watched())).newest.der
                for asked_ms in range(10**13, 10**13 + 50):
                    value = encode(Head(int(NOW.timestamp()), asked_ms), der)
                    fake.listeners[0].write(announcement(fake.channel, key(ONE).hex().encode() + b" " + value))
                await until(lambda: one.counts["announced"] == 50)
                assert one.world.heard.kinds == ["revoked"]

    asyncio.run(run())


def test_nobody_has_asked_in_the_future(server):
    """The server's clock was wrong for a while: who asks now still counts as having asked, for all."""
    origin = Origin()
    same = origin.responder.good(ONE)
    origin.responder.say = lambda _: same
    server.put(VALUE, encode(Head(int(NOW.timestamp()), 9 * 10**14), same))

    async def run():
        async with responder(origin.responder) as url:
            place = door(f"redis:{server.address}")
            async with member(place, stapled(ONE, url), world=origin) as one:
                await until(lambda: one.world.staple(ONE))
                asked = origin.responder.questions(ONE)
                one.world.moment += DAY * 5 / 4
                await until(lambda: origin.responder.questions(ONE) > asked)
                await until(lambda: one.counts["stored"])
                assert one.counts["older"] == 0

    asyncio.run(run())

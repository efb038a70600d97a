"""What whoever can write to the server, or stands in its place, can do to a fleet: make machines ask by themselves."""

from __future__ import annotations

import asyncio
import contextlib
import time
import tracemalloc
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from keeper.fleet.test_fleet import LOCK, PREFIX, VALUE, Origin, door, member, running, server
from keeper.fleet.test_servers import trouble
from keeper.responders import raw_responder, responder, until
from keeper.world import ONE, key, stapled
from ocsp.pki import CA, DAY, NOW
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, RedisError

from proxy.keeper.fleet import clients, scripts
from proxy.keeper.fleet.clients import MAX_ANSWER_BYTES, BoundedParser
from proxy.keeper.fleet.decide import patience_s
from proxy.keeper.fleet.value import Head, encode

__all__ = ["running", "server"]  # fixtures


# --- who stands in the server's place

NO_REDIS = {
    "another protocol": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "a length without end": b"$999999999999\r\n",
    "a length below nothing": b"$-5\r\n\r\n",
    "no number": b":x\r\n",
    "a line without end": b"+" + b"x" * 200_000,
    "lists in lists": b"*1\r\n" * 100_000,
    "a list without end": b"*999999999\r\n" + b":1\r\n" * 200_000,
    "the wrong kind of answer": b":5\r\n" * 1_000,
}


@pytest.mark.parametrize("name", NO_REDIS)
def test_what_is_no_redis_is_told_and_done_without(name):
    """Whatever it says, the machine asks by itself, and goes on."""

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65_536):
            writer.write(NO_REDIS[name])
            await writer.drain()

    async def run():
        async with raw_responder(say) as url:
            return await trouble(door(url.replace("http:", "redis:"), timeout_s=2))

    reason, detail = asyncio.run(run())
    # Where redis-py waits for an OK, any other answer counts as no connection.
    assert reason == "protocol" or (reason == "unreachable" and "setting client" in detail), detail
    assert len(detail) < 300


async def parsed(sent: bytes, cut: int) -> object:
    """What the parser makes of bytes that come in two pieces; the connection ends behind them."""
    stream = asyncio.StreamReader()
    parser = BoundedParser(65_536)
    parser.on_connect(type("Connected", (), {"_reader": stream, "encoder": clients.Connection().encoder}))
    stream.feed_data(sent[:cut])
    reading = asyncio.create_task(parser.read_response())
    await asyncio.sleep(0)
    stream.feed_data(sent[cut:])
    stream.feed_eof()
    return await reading


@given(
    st.lists(st.sampled_from([b"*", b"$", b":", b"+", b"-", b"1", b"9", b"\r\n", b"-1\r\n", b"x"])), st.integers(0, 9)
)
def test_an_answer_is_read_or_refused_and_nothing_worse(parts, cut):
    """No error but redis-py's own comes of any bytes: who waits for the answer knows those."""
    with contextlib.suppress(RedisError):
        asyncio.run(parsed(b"".join(parts), cut))


def test_answers_are_read_as_redis_py_reads_them():
    sent = b"*3\r\n$5\r\nfound\r\n:7\r\n$3\r\n\x00\r\n\r\n"
    for cut in range(len(sent)):
        assert asyncio.run(parsed(sent, cut)) == [b"found", 7, b"\x00\r\n"]
        with pytest.raises(RedisConnectionError):
            asyncio.run(parsed(sent[:cut], 0))


@pytest.mark.parametrize(
    "sent",
    [
        b"$%d\r\n" % MAX_ANSWER_BYTES,
        b"*2\r\n" + b"$%d\r\n%b\r\n" % (MAX_ANSWER_BYTES // 2, b"x" * (MAX_ANSWER_BYTES // 2)) * 2,
        b"*99999\r\n" + b":1\r\n" * 99_999,
    ],
)
def test_an_answer_is_bounded_in_its_parts_and_in_all(sent):
    with pytest.raises(InvalidResponse, match="more than"):
        asyncio.run(parsed(sent, 0))


ODD = st.none() | st.integers() | st.binary(max_size=9) | st.sampled_from([b"found", b"ours", b"stored"])


@given(ODD | st.lists(ODD, max_size=4))
def test_what_a_script_never_says_is_a_mistake(reply):
    """Each is read as what it should be, or refused."""
    for read in (scripts.read_turn, scripts.read_put, scripts.read_done):
        with contextlib.suppress(ValueError):
            read(reply)


# --- who can write to it

LONG = 40_000_000


def test_an_announcement_of_any_length_is_not_taken_into_memory(server):
    """The connection ends instead, with a word; and sharing goes on when it is made anew."""

    async def run():
        origin = Origin()
        async with (
            responder(origin.responder) as url,
            member(door(f"redis:{server.address}"), stapled(ONE, url), world=origin) as one,
        ):
            await until(lambda: one.counts["stored"])
            failures = one.fleet.told().failures
            tracemalloc.start()
            try:
                done = await asyncio.to_thread(server.publish, f"{PREFIX}new", b"x" * LONG)
                assert done == b"1\n"
                await until(lambda: one.fleet.told().failures > failures)
                await until(lambda: one.fleet.told().servers[0].is_up)
                peak = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
            assert peak < LONG + 4 * MAX_ANSWER_BYTES  # the test's own, and what is let in

    asyncio.run(run())


@pytest.mark.parametrize("command", [("RPUSH", LOCK, "x"), ("HSET", LOCK, "a", "b")])
def test_a_lock_that_is_none_is_taken(server, command):
    """It is no string, so nobody's: it must not keep the fleet from asking, nor look like a server in trouble."""
    server.cli(*command)

    async def run():
        origin = Origin()
        async with (
            responder(origin.responder) as url,
            member(door(f"redis:{server.address}"), stapled(ONE, url), world=origin) as one,
        ):
            await until(lambda: one.counts["stored"])
            assert one.fleet.told().failures == 0
            assert server.cli("EXISTS", LOCK) == "0"

    asyncio.run(run())


@pytest.mark.parametrize("life", [(), ("PX", "100000000")])
def test_nobody_waits_for_ever_for_a_lock(server, life):
    """Somebody put it there and does not ask. Who has waited for longer than an honest holder needs asks by itself."""
    server.cli("SET", LOCK, "somebody's", *life)

    async def run():
        origin = Origin()
        async with (
            responder(origin.responder) as url,
            member(
                door(f"redis:{server.address}"),
                stapled(ONE, url),
                world=origin,
                fetch_timeout_s=1,
                warmup_timeout_s=0.1,
            ) as one,
        ):
            begun = one.world.moment

            def time_goes_on():
                one.world.moment += timedelta(seconds=0.2)
                return one.world.staple(ONE)

            await until(time_goes_on)
            assert one.world.moment - begun >= timedelta(seconds=patience_s(1, 1))
            assert one.counts["waited"] >= 2
            await until(lambda: one.counts["stored"])  # it is given to the others all the same
            assert server.cli("GET", LOCK) == "somebody's"

    asyncio.run(run())


def test_a_head_that_lies_about_an_expired_response_is_overwritten(server):
    """A true response, long over, that says of itself to be the newest of all: it must not keep better ones out."""
    over = Origin().responder.good(ONE, this_update=NOW - 5 * DAY, next_update=NOW - DAY)
    server.put(VALUE, encode(Head(99_999_999_999, 10**13), over))

    async def run():
        origin = Origin()
        async with (
            responder(origin.responder) as url,
            member(door(f"redis:{server.address}"), stapled(ONE, url), world=origin) as one,
        ):
            assert one.refused == {"expired": 1}
            await until(lambda: server.raw("GET", VALUE).endswith(one.world.staple(ONE)))

    asyncio.run(run())


def test_a_response_of_the_future_is_refused_and_left_for_those_whose_clocks_agree(server):
    """By the clock alone nobody knows whose is wrong: it is neither stapled nor overwritten by an older one."""
    future = Origin().responder.good(ONE, this_update=NOW + DAY, next_update=NOW + 3 * DAY)
    value = encode(Head(int((NOW + DAY).timestamp()), 10**12), future)
    server.put(VALUE, value)

    async def run():
        origin = Origin()
        async with (
            responder(origin.responder) as url,
            member(door(f"redis:{server.address}"), stapled(ONE, url), world=origin) as one,
        ):
            await until(lambda: one.counts["older"])
            assert set(one.refused) == {"not-yet-valid"}
            assert one.world.staple(ONE) not in {None, future}
            assert server.raw("GET", VALUE) == value

    asyncio.run(run())


def test_who_has_refused_by_a_wrong_clock_takes_it_when_the_clock_is_right(server):
    """As after a start before the time was set: else all that start so would ask the responder for all they have."""

    async def run():
        origin, early = Origin(), Origin()
        early.responder, early.moment = origin.responder, NOW - 2 * DAY
        async with responder(origin.responder) as url:
            place = door(f"redis:{server.address}")
            async with member(place, stapled(ONE, url), world=origin) as one:
                await until(lambda: one.counts["stored"])
                async with member(place, stapled(ONE, url), world=early) as two:
                    assert (set(two.refused), two.world.staple(ONE)) == ({"not-yet-valid"}, None)
                    questions = origin.responder.questions(ONE)
                    two.world.moment = NOW
                    two.refresher.refresh(key(ONE))
                    await until(lambda: two.world.staple(ONE))
                    assert two.world.staple(ONE) == one.world.staple(ONE)
                    assert origin.responder.questions(ONE) == questions

    asyncio.run(run())


def test_what_is_repeated_again_and_again_keeps_nobody_from_asking_near_its_end(server):
    """That a responder has said the same again is taken from others for three quarters of a staple's life only."""

    async def run():
        origin = Origin()
        async with (
            responder(origin.responder) as url,
            member(door(f"redis:{server.address}"), stapled(ONE, url), world=origin) as one,
        ):
            await until(lambda: one.counts["stored"])
            held = one.world.staple(ONE)
            repeated = encode(Head(int(NOW.timestamp()), int(time.time() * 1000) + 1), held)
            server.put(VALUE, repeated)
            origin.moment = one.world.moment = NOW + DAY * 1.6
            await asyncio.to_thread(server.publish, f"{PREFIX}new", key(ONE).hex().encode() + b" " + repeated)
            await until(lambda: one.counts["announced"])
            one.refresher.refresh(key(ONE))
            await until(lambda: one.world.staple(ONE) != held)
            assert origin.responder.questions(ONE) == 2
            assert one.counts["locked"] == 2  # one after the other, near the end too

    asyncio.run(run())


def test_before_that_it_counts_as_asked(server):
    """The same a while earlier: one question is enough for all, even where the responder has nothing newer."""

    async def run():
        origin = Origin()
        async with (
            responder(origin.responder) as url,
            member(door(f"redis:{server.address}"), stapled(ONE, url), world=origin) as one,
        ):
            await until(lambda: one.counts["stored"])
            held = one.world.staple(ONE)
            server.put(VALUE, encode(Head(int(NOW.timestamp()), int(time.time() * 1000) + 1), held))
            origin.moment = one.world.moment = NOW + DAY * 1.2
            one.refresher.refresh(key(ONE))
            await until(lambda: one.counts["taken"])
            await one.world.some_naps()
            assert origin.responder.questions(ONE) == 1

    asyncio.run(run())


def test_a_max_age_that_nobody_has_signed_puts_off_no_longer(server):
    """Else a head that says "ten years" would have nobody ask until the very end."""

    async def run():
        origin = Origin()
        async with (
            responder(origin.responder) as url,
            member(door(f"redis:{server.address}"), stapled(ONE, url), world=origin) as one,
        ):
            await until(lambda: one.counts["stored"])
            watched = next(iter(one.refresher.watched()))
            staple = watched.newest
            server.put(VALUE, encode(Head(int(NOW.timestamp()), int(time.time() * 1000) + 1, 10**8), staple.der))
            life = staple.serve_until - staple.this_update
            origin.moment = one.world.moment = staple.this_update + life * 0.7
            one.refresher.refresh(key(ONE))
            await until(lambda: one.counts["taken"] and watched.due_s is not None)
            assert watched.due_s <= (staple.this_update + life * 0.75).timestamp()

    asyncio.run(run())


def test_who_does_not_know_the_issuer_yet_finds_it_and_takes_what_is_there(server):
    """Else each machine whose chain lacks it would ask at its first start."""

    async def run():
        origin = Origin()

        async def find(_):
            return CA.cert

        async with responder(origin.responder) as url:
            known = stapled(ONE, url)
            unknown = replace(known, identity=replace(known.identity, issuer=None))
            place = door(f"redis:{server.address}")
            async with member(place, known, world=origin) as one:
                await until(lambda: one.counts["stored"])
                async with member(place, unknown, world=origin, find_issuer=find) as two:
                    assert two.world.staple(ONE) == one.world.staple(ONE)
                    assert two.counts["taken"] == 1
                    assert origin.responder.questions(ONE) == 1

    asyncio.run(run())

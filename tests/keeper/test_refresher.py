"""The refresher with a real responder, a real cache and a clock that the test sets."""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import timedelta

import pytest
from aiohttp import web
from keeper import world as world_module
from keeper.responders import head_of, raw_responder, responder, until
from keeper.world import HOUR, ONE, TWO, Responder, World, at_work, key, stapled
from ocsp import pki
from ocsp.pki import CA, DAY, NOW, Answer, cert_id, single

from proxy.cache.layout import CacheArgument
from proxy.cache.segment import Segment
from proxy.keeper.refresher import Refresher


def test_fetched_at_once_after_start(world, lines):
    """Behaviours: without a staple it is fetched for at once, and served until nextUpdate and not one second longer."""

    async def run():
        async with (
            responder(world.responder) as url,
            world.refresher(stapled(ONE, url), stapled(TWO, url)) as refresher,
        ):
            await refresher.warm_up()
        world.moment = NOW + 2 * DAY - timedelta(seconds=1)
        assert world.staple(ONE)
        assert world.staple(TWO)
        world.moment = NOW + 2 * DAY
        assert world.staple(ONE) is None
        assert len(lines()) == 2
        assert all(line.startswith("INFO CN=") and "stapled until 2030-06-17 12:00:00Z" in line for line in lines())

    asyncio.run(run())


def test_refreshed_at_half_life(world):
    """Asked again when half of the response's time is over, not before; and again at half of the next one's."""

    async def run():
        async with responder(world.responder) as url, world.running(stapled(ONE, url)):
            for round_ in (1, 2, 3):
                first = world.staple(ONE)
                assert world.responder.questions(ONE) == round_
                world.moment += DAY - timedelta(seconds=1)
                await world.some_naps()
                assert world.responder.questions(ONE) == round_
                world.moment += timedelta(seconds=1)
                await until(lambda before=first: world.staple(ONE) != before)

    asyncio.run(run())


def test_a_stored_staple_causes_no_fetch(world, lines):
    """Behaviours: a staple loaded and still long valid causes no fetch; a restart keeps a valid stored response."""

    async def run():
        world.store(ONE, der := world.responder.good(ONE), NOW + 2 * DAY)
        async with responder(world.responder) as url, world.running(stapled(ONE, url), stapled(TWO, url)):
            await until(lambda: world.staple(TWO))
            assert world.staple(ONE) == der
            assert world.responder.questions(ONE) == 0
            assert lines()[0].endswith("from the cache")
            world.moment += DAY
            await until(lambda: world.responder.questions(ONE))

    asyncio.run(run())


def test_a_stored_staple_past_half_life_is_served_and_renewed(world):
    """Behaviours: inside the renew window it is fetched again though valid, and served meanwhile."""

    async def run():
        world.store(ONE, old := world.responder.good(ONE, this_update=NOW - 3 * DAY), NOW + 2 * DAY)
        async with responder(world.responder) as url, world.refresher(stapled(ONE, url)) as refresher:
            await refresher.warm_up()
            assert (world.staple(ONE), world.responder.asked) == (old, [])
            async with at_work(refresher):
                await until(lambda: world.staple(ONE) != old)
                assert world.staple(ONE)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("stored", "word"),
    [
        (lambda: Answer(singles=(single(cert_id(TWO)),)).der, "certid-mismatch"),
        (lambda: Answer(singles=(single(cert_id(ONE), next_update=NOW - HOUR),)).der, "expired"),
        (lambda: Answer(signer=pki.ROOT, singles=(single(cert_id(ONE)),)).der, "unauthorized-signer"),
        (lambda: Answer(singles=(single(cert_id(ONE), status=pki.revoked(NOW - DAY)),)).der, "revoked"),
        (lambda: b"garbage", "unparsable"),
    ],
    ids=["of another", "expired", "not by the issuer", "revoked", "garbage"],
)
def test_a_stored_response_is_verified_again(world, lines, stored, word):
    """What lies in the cache's file is believed no more than what comes from the network."""

    async def run():
        world.store(ONE, bad := stored(), NOW + 2 * DAY)
        world.responder.say = lambda _: web.Response(status=500)
        async with responder(world.responder) as url, world.refresher(stapled(ONE, url)) as refresher:
            await refresher.warm_up()
            assert world.responder.questions(ONE) == 1
        assert world.staple(ONE) is None
        assert f"the stored response is not stapled: {word}" in lines()[0]
        assert bad

    asyncio.run(run())


def test_a_stored_end_is_not_believed(world):
    """The end comes from the response, whatever the cache's entry says."""

    async def run():
        world.store(ONE, world.responder.good(ONE), NOW + 99 * DAY)
        async with world.refresher(stapled(ONE, "http://127.0.0.1:1/")) as refresher:
            await refresher.warm_up()
        assert world.cache.get(key(ONE)).serve_until_s == (NOW + 2 * DAY).timestamp()

    asyncio.run(run())


def test_others_entries_are_left_alone(world):
    """A certificate that is configured no longer keeps its response until it ends."""

    async def run():
        world.store(TWO, b"anything", NOW + DAY)
        async with world.refresher() as refresher:
            await refresher.warm_up()
        assert world.staple(TWO) == b"anything"

    asyncio.run(run())


def test_the_next_responder_when_one_fails(world, lines):
    """Several responders are asked in their order until one gives a staple."""

    async def run():
        async def closed(reader, _):
            await head_of(reader)

        async with raw_responder(closed) as dead, responder(world.responder) as url:
            async with world.refresher(stapled(ONE, dead, url)) as refresher:
                await refresher.warm_up()
            assert world.staple(ONE)
            async with world.refresher(stapled(TWO, url, dead)) as refresher:
                await refresher.warm_up()
            assert world.staple(TWO)
        assert all(url in line for line in lines())

    asyncio.run(run())


def expired(world: World) -> bytes:
    return world.responder.good(ONE, this_update=NOW - 2 * DAY, next_update=world.moment - HOUR)


TROUBLES = {
    "http-status": lambda _: web.Response(status=500),
    "content-type": lambda _: web.Response(text="<html>"),
    "unparsable": lambda _: b"<html>",
    "try-later": lambda _: bytes.fromhex("30030a0103"),
    "unauthorized": lambda _: bytes.fromhex("30030a0106"),
    "certid-mismatch": lambda world: world.responder.good(TWO),
    "bad-signature": lambda _: Answer(key=pki.ROOT.key, singles=(single(cert_id(ONE)),)).der,
    "expired": expired,
    "unknown": lambda world: world.responder.good(ONE, status=pki.UNKNOWN),
    "older-than-held": lambda world: world.responder.good(ONE, this_update=NOW - HOUR),
    "unauthorized-signer": lambda _: (
        Answer(signer=pki.ROOT, singles=(single(cert_id(ONE), status=pki.revoked(NOW)),)).der
    ),
}


@pytest.mark.parametrize("word", TROUBLES)
def test_the_good_one_is_kept_through_any_trouble(world, lines, word):
    """Whatever comes instead, the staple held is sent to its end; it is said why; and the next good one is taken."""

    async def run():
        async with responder(world.responder) as url, world.running(stapled(ONE, url)):
            held = world.staple(ONE)
            world.responder.say = lambda _: TROUBLES[word](world)
            asked = len(world.responder.asked)
            world.moment = NOW + DAY
            await until(lambda: len(lines()) == 2)
            assert len(world.responder.asked) > asked
            assert world.staple(ONE) == held
            assert lines()[1].startswith(
                "WARNING CN=one.example: no new staple, the one held lasts until 2030-06-17 12:00:00Z"
            )
            assert "trying again in 5 s" in lines()[1]
            assert f"{url}: {word}: " in lines()[1]
            world.moment = NOW + 2 * DAY
            assert world.staple(ONE) is None
            await until(lambda: len(lines()) == 4)
            assert "none is held; trying again in 10 s" in lines()[2]
            assert lines()[3].endswith("expired, and clients get none")
            world.responder.say = None
            world.moment += timedelta(seconds=10)
            await until(lambda: world.staple(ONE))
            assert lines()[4].startswith("INFO")

    asyncio.run(run())


def test_revoked_is_stapled_no_more(world, lines):
    """Behaviours: fetched 'revoked' is not stapled, and 'good' of the other certificate still is.

    The 'good' held is withdrawn too; an older 'good' from one that lags does not bring it back, a newer one does.
    """

    async def run():
        async with responder(world.responder) as url, world.running(stapled(ONE, url), stapled(TWO, url)):
            good = world.responder.good
            world.responder.say = lambda leaf: good(leaf, status=pki.revoked(NOW, 6)) if leaf is ONE else good(leaf)
            world.moment = NOW + DAY
            await until(lambda: world.staple(ONE) is None)
            assert world.staple(TWO)
            await until(lambda: any("revoked: since 2030-06-15" in line for line in lines()))
            (line,) = [line for line in lines() if "revoked" in line]
            assert "none is held" in line
            assert "(the staple held is withdrawn)" in line

            world.responder.say = lambda leaf: good(leaf, this_update=NOW)
            world.moment += timedelta(seconds=5)
            await until(lambda: any("older-than-held" in line for line in lines()))
            assert world.staple(ONE) is None

            # Nor does it after the keeper has started anew, for as long as the cache has the newer word.
            async with world.running(stapled(ONE, url)):
                world.moment += timedelta(seconds=5)
                await until(lambda: len([line for line in lines() if "older-than-held" in line]) >= 2)
                assert world.staple(ONE) is None

            world.responder.say = None
            world.moment += HOUR
            await until(lambda: world.staple(ONE))

    asyncio.run(run())


def test_the_word_revoked_is_final(world):
    """After the issuer's 'revoked' no other responder is asked: it could only be behind."""

    async def run():
        second = Responder(lambda: world.moment)
        world.responder.say = lambda leaf: world.responder.good(leaf, status=pki.revoked(NOW))
        async with (
            responder(world.responder) as url,
            responder(second) as other,
            world.refresher(stapled(ONE, url, other)) as refresher,
        ):
            await refresher.warm_up()
        assert (world.staple(ONE), second.asked) == (None, [])

    asyncio.run(run())


def test_a_slow_responder_holds_up_only_its_own(segment):
    """The start waits for it no longer than set; the other certificate is stapled; what was asked for still arrives."""

    async def run():
        world = World(segment, warmup_timeout_s=0.1)
        go_on = asyncio.Event()

        async def slow(request: web.Request) -> web.StreamResponse:
            await go_on.wait()
            return await world.responder(request)

        async with (
            responder(slow) as slow_url,
            responder(world.responder) as url,
            world.running(stapled(ONE, slow_url), stapled(TWO, url)),
        ):
            assert (world.staple(ONE), bool(world.staple(TWO))) == (None, True)
            world.moment += DAY
            await until(lambda: world.responder.questions(TWO) == 2)
            go_on.set()
            await until(lambda: world.staple(ONE))

    asyncio.run(run())


def test_a_silent_responder_holds_up_nobody_who_has_another(segment, monkeypatch):
    """Who waited there while it proved silent goes to the next one at once, not after a deadline each."""
    leaves = [pki.issue(f"{number}.example", CA) for number in range(40)]
    monkeypatch.setattr(world_module, "LEAVES", leaves)

    async def run():
        world = World(
            segment,
            fetch_timeout_s=0.5,
            max_fetches_per_responder=2,
            max_fetches_per_responder_per_second=1000,
            warmup_timeout_s=2,
        )
        begun_s, asked_in_vain = time.monotonic(), 0
        world.clock = lambda: NOW.timestamp() + time.monotonic() - begun_s  # turns at a responder take some time

        async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
            nonlocal asked_in_vain
            asked_in_vain += 1
            await reader.read()

        async with (
            raw_responder(silent) as silent_url,
            responder(world.responder) as url,
            world.running(*(stapled(leaf, silent_url, url) for leaf in leaves)),
        ):
            assert world.heard.outcomes.count("fetched") == len(leaves)
        assert asked_in_vain == 2

    asyncio.run(run())


def test_retry_after_is_obeyed(world, lines):
    """A responder that asks for time gets it."""

    async def run():
        world.responder.say = lambda _: web.Response(status=429, headers={"Retry-After": "120"})
        async with responder(world.responder) as url, world.refresher(stapled(ONE, url)) as refresher:
            await refresher.warm_up()
        assert "trying again in 120 s" in lines()[0]

    asyncio.run(run())


def test_a_clock_set_back_stalls_nothing(world):
    """What was due in a day is due in a day after the clock was set back by a year."""

    async def run():
        async with responder(world.responder) as url, world.running(stapled(ONE, url)):
            world.moment = NOW - 50 * DAY
            await world.some_naps()
            world.moment += DAY
            await until(lambda: world.responder.questions(ONE) == 2)

    asyncio.run(run())


def test_a_clock_years_ahead_loses_nothing(world, lines):
    """By it the certificate is over, and nobody is asked; when it is right again the staple is served and refreshed."""

    async def run():
        async with responder(world.responder) as url, world.running(stapled(ONE, url)):
            world.moment = ONE.cert.not_valid_after_utc + DAY
            await until(lambda: any("the certificate has expired" in line for line in lines()))
            world.moment = NOW + DAY
            assert world.staple(ONE)
            await until(lambda: world.responder.questions(ONE) == 2)

    asyncio.run(run())


def test_a_clock_that_was_wrong_at_the_start_loses_nothing(segment, lines):
    """A stored response that was to come by that clock is served when the clock is right, though nobody answers."""

    async def run():
        before = World(segment)
        before.store(ONE, before.responder.good(ONE), NOW + 2 * DAY)
        segment.distrust()
        world = World(segment)
        world.responder.say = lambda _: web.Response(status=500)
        world.moment = NOW - 20 * DAY
        async with responder(world.responder) as url, world.running(stapled(ONE, url)):
            assert world.staple(ONE) is None
            world.moment = NOW + HOUR
            await until(lambda: world.responder.questions(ONE) == 2)
            await until(lambda: world.staple(ONE))
        assert "stapled until 2030-06-17 12:00:00Z, from the cache" in "\n".join(lines())

    asyncio.run(run())


def test_what_the_cache_cannot_take(segment, lines):
    """A response too long for the cache is told, and the certificate is not forgotten."""

    async def run():
        small = Segment.create(CacheArgument("", 8192))
        world = World(small)
        extension = pki.extension(pki.UNKNOWN_EXTENSION, critical=False, value=bytes(9000))
        world.responder.say = lambda leaf: world.responder.good(leaf, extensions=[extension])
        async with responder(world.responder) as url, world.running(stapled(ONE, url)):
            assert lines()[0].startswith("WARNING CN=one.example: the cache does not take the staple: ")
            world.responder.say = None
            world.moment += DAY
            await until(lambda: world.staple(ONE))
        small.close()

    asyncio.run(run())


def test_an_expired_certificate_is_asked_for_no_more(world, lines):
    """Its last staple ends with it, and no responder is bothered."""

    async def run():
        async with responder(world.responder) as url, world.running(stapled(ONE, url)):
            world.moment = ONE.cert.not_valid_after_utc + timedelta(seconds=1)
            await until(lambda: len(lines()) == 2)
            assert "the certificate has expired" in lines()[1]
            world.moment += 400 * DAY
            await world.some_naps()
        assert world.responder.questions(ONE) == 1

    asyncio.run(run())


def test_a_mistake_of_ours_ends_nothing(world, lines):
    """An exception that nobody expects is logged, and the certificate is tried again."""

    async def run():
        class Broken:
            calls = 0

            async def fetch(self, _uri: str, _request_der: bytes, **_: object) -> None:
                self.calls += 1
                raise RuntimeError("broken")

        fetcher = Broken()
        log = logging.getLogger("stapleproxy.keeper")
        certificates = [stapled(ONE, "http://x.example/")]
        refresher = Refresher(certificates, world.settings, world.cache, fetcher=fetcher, log=log, clock=world.clock)
        await refresher.warm_up()
        assert lines() == ["ERROR CN=one.example: the attempt broke"]
        async with at_work(refresher):
            world.moment += HOUR
            await until(lambda: fetcher.calls == 2)

    asyncio.run(run())


def test_it_stops_with_what_is_under_way(world):
    """Cancelled in the middle of an exchange, it leaves nothing behind."""

    async def run():
        asked = asyncio.Event()

        async def silent(reader, _):
            await head_of(reader)
            asked.set()
            await asyncio.Event().wait()

        async with raw_responder(silent) as url, world.refresher(stapled(ONE, url)) as refresher:
            warming = asyncio.create_task(refresher.warm_up())
            await asked.wait()
            warming.cancel()
            async with at_work(refresher):
                await world.some_naps()
                (under_way,) = refresher._tasks
            assert under_way.cancelled()

    asyncio.run(run())

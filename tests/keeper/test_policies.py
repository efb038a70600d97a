"""What the operator may want otherwise, and what is told of it: with a real responder, a real cache, a set clock."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta

import pytest
from aiohttp import web
from cryptography.x509 import ocsp
from keeper.responders import OCSP, request_in, responder, until
from keeper.world import HOUR, ONE, TWO, Responder, World, key, stapled
from ocsp import pki
from ocsp.pki import DAY, NOW, Answer, cert_id, single

from proxy.errors import Reason, StapleRejected


def test_the_responder_that_works_is_asked_first_from_then_on(world):
    """The other one is asked again when this one fails: memory, not a verdict."""

    async def run():
        second = Responder(lambda: world.moment)
        world.responder.say = lambda _: web.Response(status=500)
        async with (
            responder(world.responder) as bad,
            responder(second) as good,
            world.running(stapled(ONE, bad, good)),
        ):
            assert (len(world.responder.asked), len(second.asked)) == (1, 1)
            world.moment += DAY
            await until(lambda: len(second.asked) == 2)
            assert len(world.responder.asked) == 1
            second.say, world.responder.say = world.responder.say, None
            world.moment += DAY
            await until(lambda: len(world.responder.asked) == 2)
            await until(lambda: world.heard.outcomes[-1] == "fetched")
            world.moment += DAY
            await until(lambda: len(world.responder.asked) == 3)
            assert len(second.asked) == 3

    asyncio.run(run())


def test_an_unchanged_response_is_not_sent_again(world):
    """The tag of the response held goes with the question; 304 keeps it and says when to ask next."""

    async def run():
        asked: list[str | None] = []
        der = world.responder.good(ONE)

        async def tagging(request: web.Request) -> web.Response:
            asked.append(request.headers.get("If-None-Match"))
            if asked[-1] == '"1"':
                return web.Response(status=304, headers={"ETag": '"1"'})
            return web.Response(body=der, content_type=OCSP, headers={"ETag": '"1"'})

        async with responder(tagging) as url, world.running(stapled(ONE, url)):
            world.moment += DAY
            await until(lambda: world.heard.outcomes == ["fetched", "not-modified"])
            assert asked == [None, '"1"']
            assert world.staple(ONE) == der
            # Half of what remained: another question before the end.
            world.moment += DAY / 2
            await until(lambda: len(asked) == 3)
            # Its time over, the response cannot be the newest: asked for whole again.
            world.moment += DAY / 2
            await until(lambda: asked[-1] is None)
            assert world.heard.outcomes.count("fetched") == 1

    asyncio.run(run())


def test_a_tag_is_of_one_responder(world):
    """Another responder's tag means nothing to this one."""

    async def run():
        second = Responder(lambda: world.moment)
        tags: list[str | None] = []

        async def tagging(request: web.Request) -> web.StreamResponse:
            if world.moment > NOW:
                return web.Response(status=500)
            answer = await world.responder(request)
            answer.headers["ETag"] = '"1"'
            return answer

        async def noting(request: web.Request) -> web.StreamResponse:
            tags.append(request.headers.get("If-None-Match"))
            return await second(request)

        async with responder(tagging) as url, responder(noting) as other, world.running(stapled(ONE, url, other)):
            world.moment += DAY
            await until(lambda: tags)
            assert tags == [None]

    asyncio.run(run())


def test_revoked_is_stapled_where_the_operator_wants_it(world):
    """on_revoked = "staple": clients hear it from us, to its end; and a good one that is newer takes its place."""

    async def run():
        world.responder.say = lambda leaf: world.responder.good(leaf, status=pki.revoked(NOW))
        async with (
            responder(world.responder) as url,
            world.running(stapled(ONE, url, on_revoked="staple"), stapled(TWO, url)),
        ):
            der = world.staple(ONE)
            assert ocsp.load_der_ocsp_response(der).certificate_status is ocsp.OCSPCertStatus.REVOKED
            assert world.staple(TWO) is None
            assert world.heard.kinds == ["revoked", "revoked"]
            # A keeper that begins anew goes on with it.
            async with world.running(stapled(ONE, url, on_revoked="staple")):
                assert world.staple(ONE) == der
            world.responder.say = None
            world.moment += DAY
            await until(lambda: world.staple(ONE) not in {der, None})

    asyncio.run(run())


def test_a_nonce_is_sent_and_must_come_back(segment):
    """RFC 9654: what was asked for is insisted upon, else a replay would do."""

    async def run():
        world = World(segment, nonce=True)
        nonces = []

        async def with_nonce(request: web.Request) -> web.Response:
            question = ocsp.load_der_ocsp_request(await request_in(request))
            (nonce,) = [each.value for each in question.extensions]
            nonces.append(nonce.nonce)
            extensions = [pki.nonce(nonce.nonce)] if len(nonces) != 2 else []
            answer = Answer(singles=(single(cert_id(ONE), next_update=world.moment + DAY),), extensions=extensions)
            return web.Response(body=answer.der, content_type=OCSP)

        async with responder(with_nonce) as url, world.running(stapled(ONE, url)):
            assert world.staple(ONE)
            world.moment += DAY / 2
            await until(lambda: world.heard.outcomes == ["fetched", "nonce-mismatch"])
            assert len({*nonces}) == 2
            assert {len(each) for each in nonces} == {32}

    asyncio.run(run())


def test_events_tell_each_thing_once(world):
    """fetched, refused, expiring, expired: in their order, with what an operator needs to know."""

    async def run():
        async with responder(world.responder) as url, world.running(stapled(ONE, url)):
            (fetched,) = world.heard.events
            assert (fetched.kind, fetched.names, fetched.responder) == ("fetched", ("x.example",), url)
            assert fetched.serve_until == NOW + 2 * DAY
            world.responder.say = lambda _: web.Response(status=500)
            world.moment += DAY
            await until(lambda: world.heard.kinds[1:] == ["refused"])
            assert world.heard.events[1].reasons == ("http-status",)
            for moment, kind in ((DAY * 1.6, "expiring"), (DAY * 2, "expired")):
                world.moment = NOW + moment
                await until(lambda kind=kind: kind in world.heard.kinds)
            assert world.heard.events[-1].serve_until is None
            world.moment += HOUR
            await until(lambda: world.heard.kinds[-1] == "refused")
            assert [each for each in world.heard.kinds if each != "refused"] == ["fetched", "expiring", "expired"]
            world.responder.say = None
            world.moment += HOUR
            await until(lambda: world.heard.kinds[-1] == "fetched")

    asyncio.run(run())


def test_the_end_is_told_where_the_responder_only_repeats_itself(world):
    """Nobody refuses anything, so it is no failure; and yet the staple is about to expire, and expires."""

    async def run():
        held = world.responder.good(ONE)
        world.responder.say = lambda _: held
        async with responder(world.responder) as url, world.running(stapled(ONE, url)):
            for part in (1, 1.55, 1.8, 1.95, 2):
                asked = world.responder.questions(ONE)
                world.moment = NOW + DAY * part
                await until(lambda asked=asked: world.responder.questions(ONE) > asked)
                await world.some_naps()
            assert world.heard.kinds == ["fetched", "expiring", "refused", "expired"]

    asyncio.run(run())


def test_revoked_in_the_second_of_a_good_counts(world):
    """Of two words with one thisUpdate the graver one."""

    async def run():
        async with responder(world.responder) as url, world.running(stapled(ONE, url)):
            good = world.responder.good(ONE, this_update=NOW)
            world.responder.say = lambda leaf: world.responder.good(leaf, this_update=NOW, status=pki.revoked(NOW))
            world.moment += DAY
            await until(lambda: world.heard.kinds == ["fetched", "revoked"])
            assert world.staple(ONE) is None
            world.responder.say = lambda _: good
            world.moment += HOUR
            await until(lambda: world.heard.kinds[2:] == ["refused"])
            assert world.heard.events[-1].reasons == ("older-than-held",)

    asyncio.run(run())


def test_revoked_is_an_event_of_its_own(world):
    async def run():
        async with responder(world.responder) as url, world.running(stapled(ONE, url)):
            world.responder.say = lambda leaf: world.responder.good(leaf, status=pki.revoked(NOW + DAY, 1))
            world.moment += DAY
            await until(lambda: world.heard.kinds == ["fetched", "revoked"])
            assert world.heard.events[1].reasons == ("revoked",)
            assert "key_compromise" in world.heard.events[1].detail.lower().replace("keycompromise", "key_compromise")

    asyncio.run(run())


def test_an_operator_can_force_an_update(world):
    """Behaviours: the operator can force an update, and sees last and next update, successes and failures."""

    async def run():
        async with (
            responder(world.responder) as url,
            world.refresher(stapled(ONE, url)) as refresher,
        ):
            await refresher.warm_up()
            work = asyncio.create_task(refresher.run())
            world.moment += HOUR
            assert refresher.refresh(key(ONE))
            assert refresher.refresh(key(ONE))  # twice is once
            await until(lambda: world.heard.outcomes == ["fetched"] * 2)
            await world.some_naps()
            (watched,) = refresher.watched()
            assert world.responder.questions(ONE) == 2
            assert (watched.successes, watched.failures) == (2, 0)
            assert watched.held(world.moment).this_update == world.moment
            assert not refresher.refresh(key(TWO))
            work.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await work

    asyncio.run(run())


def test_a_response_given_by_hand_replaces_the_one_served_at_once(world, lines):
    """Behaviours: an update put in by hand replaces the served one at once; it is verified like any other."""

    async def run():
        async with responder(world.responder) as url, world.refresher(stapled(ONE, url)) as refresher:
            await refresher.warm_up()
            (watched,) = refresher.watched()
            world.moment += HOUR
            by_hand = world.responder.good(ONE)
            refresher.offer(watched, by_hand)
            assert world.staple(ONE) == by_hand
            with pytest.raises(StapleRejected) as caught:
                refresher.offer(watched, world.responder.good(TWO))
            assert caught.value.reason is Reason.CERTID_MISMATCH
            with pytest.raises(StapleRejected) as caught:
                refresher.offer(watched, world.responder.good(ONE, this_update=NOW - HOUR))
            assert caught.value.reason is Reason.OLDER_THAN_HELD
            assert world.staple(ONE) == by_hand
            # Revoked too: the operator chose this very response.
            world.moment += HOUR
            revoked = world.responder.good(ONE, status=pki.revoked(NOW))
            refresher.offer(watched, revoked)
            assert world.staple(ONE) == revoked

    asyncio.run(run())


def test_a_file_alone_is_enough(world):
    """Without a responder nothing is asked, and its end is told all the same."""

    async def run():
        async with world.refresher(stapled(ONE)) as refresher:
            await refresher.warm_up()
            (watched,) = refresher.watched()
            refresher.offer(watched, world.responder.good(ONE))
            assert world.staple(ONE)
            for moment in (DAY, DAY * 1.9, DAY * 1.95, DAY * 2, DAY * 3):
                world.moment = NOW + moment
                refresher.look_at_end(watched)
            assert world.heard.kinds == ["fetched", "expiring", "expired"]
            assert world.heard.outcomes == []

    asyncio.run(run())


def test_questions_are_spread_over_time(segment):
    """A start with many certificates at one responder asks it no more often than it is meant to be."""

    async def run():
        world = World(segment, max_fetches_per_responder=2, max_fetches_per_responder_per_second=1)
        leaves = [pki.issue(f"{number}.example", pki.CA) for number in range(5)]
        times = []

        async def noting(_request: web.Request) -> web.Response:
            times.append(world.moment)
            return web.Response(status=500)

        async with responder(noting) as url, world.refresher(*(stapled(leaf, url) for leaf in leaves)) as refresher:
            warming = asyncio.create_task(refresher.warm_up())
            for count in (2, 3, 4):
                await until(lambda count=count: len(times) == count)
                await world.some_naps()
                assert len(times) == count
                world.moment += timedelta(seconds=1)
            await warming
            assert len(times) == 5

    asyncio.run(run())

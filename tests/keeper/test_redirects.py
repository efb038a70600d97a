"""Redirects: how many, where to, by which method, and with what."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web
from keeper.questions import LONG_REQUEST, failure, fetch
from keeper.responders import Recorder, answer, responder

from proxy.errors import FetchReason


def redirecting(times: int, status: int = 302):
    async def handler(request: web.Request) -> web.StreamResponse:
        hop = int(request.query.get("hop", "0"))
        if hop == times:
            return answer()
        return web.Response(status=status, headers={"Location": f"/next?hop={hop + 1}"})

    return handler


def test_redirects_are_followed_and_bounded():
    """Three are followed, a fourth is not, so a loop ends."""

    async def run():
        async with responder(redirecting(3)) as uri:
            assert (await fetch(uri)).body == b"good"
        async with responder(redirecting(4)) as uri:
            assert (await failure(uri)).reason == "redirect"

    asyncio.run(run())


@pytest.mark.parametrize("target", ["ftp://127.0.0.1/", "file:///etc/passwd", "http://[::1"])
def test_redirects_only_to_http(target):
    """A responder cannot send us elsewhere than to another web server."""

    async def run():
        async with responder(Recorder(lambda: web.Response(status=302, headers={"Location": target}))) as uri:
            assert (await failure(uri)).reason == "redirect"

    asyncio.run(run())


@pytest.mark.parametrize(
    ("status", "methods"),
    [
        (301, ["POST", "POST"]),
        (302, ["POST", "POST"]),
        (303, ["POST", "GET"]),
        (307, ["POST", "POST"]),
        (308, ["POST", "POST"]),
    ],
)
def test_a_redirected_post_stays_one(status, methods):
    """With its body, unless the responder says that the answer is to be fetched elsewhere."""

    async def run():
        asked = []

        async def handler(request: web.Request) -> web.Response:
            asked.append((request.method, await request.read()))
            if len(asked) == 1:
                return web.Response(status=status, headers={"Location": "there"})
            return answer()

        async with responder(handler) as uri:
            assert (await fetch(uri, LONG_REQUEST)).method == "POST"
        assert [method for method, _ in asked] == methods
        assert [body for _, body in asked] == [LONG_REQUEST if method == "POST" else b"" for method in methods]

    asyncio.run(run())


@pytest.mark.parametrize("location", ["/next/%2B%2f?a=%2F", "next/%2B%2f?a=%2F", "//{host}/next/%2B%2f?a=%2F"])
def test_escapes_survive_redirects(location):
    """What stands in a Location goes on the wire as it is."""

    async def run():
        paths = []

        async def handler(request: web.Request) -> web.Response:
            paths.append(request.raw_path)
            if len(paths) == 1:
                return web.Response(status=302, headers={"Location": location.format(host=request.host)})
            return answer()

        async with responder(handler) as uri:
            await fetch(uri + "/a%2Fb")
        before = "/a%2Fb/" if location.startswith("next") else "/"
        assert paths[1] == before + "next/%2B%2f?a=%2F"

    asyncio.run(run())


def test_no_password_goes_where_a_redirect_leads():
    """Neither that of the URL we were given, nor one that the redirect invents."""

    async def run():
        last = Recorder(answer)
        async with responder(last) as target:

            async def handler(request: web.Request) -> web.Response:
                assert request.headers["Authorization"].startswith("Basic ")
                where = target.replace("//", "//you:word@" if "invented" in request.path else "//")
                return web.Response(status=302, headers={"Location": where})

            async with responder(handler) as uri:
                for path in ("/carried", "/invented"):
                    await fetch(uri.replace("//", "//me:word@") + path)
        assert ["Authorization" in request.headers for request in last.seen] == [False, False]

    asyncio.run(run())


@pytest.mark.parametrize(
    "headers",
    [{}, {"Location": ""}, {"Location": "http://a b/"}, {"Location": "http:///"}, {"Location": "http://h:99999/"}],
)
def test_a_redirect_to_nowhere_passes_its_wish_on(headers):
    """RFC 9110 10.2.3: a redirect too may ask to wait."""

    async def run():
        answers = Recorder(lambda: web.Response(status=302, headers={"Retry-After": "7", **headers}))
        async with responder(answers) as uri:
            failed = await failure(uri)
        assert (failed.reason, failed.retry_after_s) == (FetchReason.REDIRECT, 7)

    asyncio.run(run())

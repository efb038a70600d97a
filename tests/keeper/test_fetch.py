"""One exchange with a responder, against real servers on loopback."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import TYPE_CHECKING

import pytest
from aiohttp import web
from keeper.responders import OCSP, head_of, raw_responder, request_in, responder

from proxy import __version__
from proxy.errors import FetchFailed
from proxy.keeper.fetch import Fetched, Fetcher
from proxy.settings.model import StaplingSettings

if TYPE_CHECKING:
    from collections.abc import Callable

REQUEST = b"\xff\xef\xbe request"  # its base64 has signs that must be escaped
LONG_REQUEST = bytes(250)


def settings(**changes) -> StaplingSettings:
    return StaplingSettings(**{"fetch_timeout_s": 5, **changes})


async def fetch(uri: str, request: bytes = REQUEST, **changes) -> Fetched:
    async with Fetcher(settings(**changes)) as fetcher:
        return await fetcher.fetch(uri, request)


async def failure(uri: str, request: bytes = REQUEST, **changes) -> FetchFailed:
    with pytest.raises(FetchFailed) as caught:
        await fetch(uri, request, **changes)
    assert caught.value.detail
    assert "\n" not in caught.value.detail
    return caught.value


def answer(body: bytes = b"good", **more) -> web.Response:
    return web.Response(body=body, **{"content_type": OCSP, **more})


class Recorder:
    """A handler that answers with a new `get()` or `post()` each time, and remembers what it was asked."""

    def __init__(self, get: Callable[[], web.Response], post: Callable[[], web.Response] | None = None) -> None:
        self.seen: list[web.Request] = []
        self.bodies: list[bytes] = []
        self.peers: set[object] = set()
        self._answers = {"GET": get, "POST": post or get}

    async def __call__(self, request: web.Request) -> web.Response:
        self.seen.append(request)
        self.peers.add(request.transport.get_extra_info("peername"))
        self.bodies.append(await request_in(request))
        return self._answers[request.method]()

    @property
    def methods(self) -> list[str]:
        return [request.method for request in self.seen]


def test_get_first():
    """A short request goes by GET, escaped, and says who asks; the answer comes back as it is."""

    async def run():
        asked = Recorder(answer)
        async with responder(asked) as uri:
            fetched = await fetch(uri)
        assert fetched == Fetched(b"good", "GET", None)
        assert asked.bodies == [REQUEST]
        assert asked.seen[0].raw_path == "/%2F%2B%2B%2BIHJlcXVlc3Q%3D"
        assert asked.seen[0].headers["User-Agent"] == f"stapleproxy/{__version__}"
        assert "Cookie" not in asked.seen[0].headers

    asyncio.run(run())


def test_a_long_request_goes_by_post():
    """What is longer than 255 bytes as a URL is posted, with its content type."""

    async def run():
        asked = Recorder(answer)
        async with responder(asked) as uri:
            assert (await fetch(uri + "/ocsp", LONG_REQUEST)).method == "POST"
        assert (asked.methods, asked.bodies) == (["POST"], [LONG_REQUEST])
        assert asked.seen[0].path == "/ocsp"
        assert asked.seen[0].content_type == "application/ocsp-request"

    asyncio.run(run())


@pytest.mark.parametrize(
    "to_get",
    [
        lambda: web.Response(status=405),
        lambda: web.Response(status=404),
        lambda: web.Response(status=400),
        lambda: web.Response(status=501),
        lambda: web.Response(text="<html>It works!</html>", content_type="text/html"),
    ],
    ids=["405", "404", "400", "501", "HTML page"],
)
def test_post_after_a_get_in_vain(to_get):
    """A responder that does not know GET is asked once more, by POST."""

    async def run():
        asked = Recorder(to_get, answer)
        async with responder(asked) as uri:
            assert (await fetch(uri)).method == "POST"
        assert asked.methods == ["GET", "POST"]
        assert asked.bodies == [REQUEST, REQUEST]

    asyncio.run(run())


@pytest.mark.parametrize(
    ("response", "word", "methods"),
    [
        (lambda: web.Response(status=404, text="<html>"), "http-status", ["GET", "POST"]),
        (lambda: web.Response(status=500), "http-status", ["GET"]),
        (lambda: web.Response(status=503), "http-status", ["GET"]),
        (lambda: web.Response(status=429), "http-status", ["GET"]),
        (lambda: web.Response(status=204), "http-status", ["GET"]),
        (lambda: web.Response(text="<html>", content_type="text/html"), "content-type", ["GET", "POST"]),
        (lambda: web.Response(body=b"good", headers={"Content-Type": ""}), "content-type", ["GET", "POST"]),
    ],
    ids=["404", "500", "503", "429", "204", "HTML with 200", "no type"],
)
def test_an_answer_that_is_none(response, word, methods):
    """Behaviours: it answers with something else, an HTML page or 404. One word for it, and never a third question."""

    async def run():
        asked = Recorder(response)
        async with responder(asked) as uri:
            assert (await failure(uri)).reason == word
        assert asked.methods == methods

    asyncio.run(run())


@pytest.mark.parametrize(
    ("headers", "expected_s"),
    [
        ({"Retry-After": "120"}, 120),
        ({"Retry-After": "Sat, 15 Jun 2030 12:05:00 GMT", "Date": "Sat, 15 Jun 2030 12:00:00 GMT"}, 300),
        ({"Retry-After": "Sat, 15 Jun 2030 11:00:00 GMT", "Date": "Sat, 15 Jun 2030 12:00:00 GMT"}, 0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "-1"}, None),
        ({"Retry-After": "9" * 400}, None),
        ({}, None),
    ],
)
def test_retry_after(headers, expected_s):
    """The responder's wish is passed on, in seconds."""

    async def run():
        async with responder(Recorder(lambda: web.Response(status=503, headers=headers))) as uri:
            assert (await failure(uri)).retry_after_s == expected_s

    asyncio.run(run())


DATE = "Sat, 15 Jun 2030 12:00:00 GMT"


@pytest.mark.parametrize(
    ("headers", "expected_s"),
    [
        ({"Cache-Control": "max-age=3600"}, 3600),
        ({"Cache-Control": 'public, No-Transform, Max-Age="60"'}, 60),
        ({"Cache-Control": "max-age=3600", "Age": "600"}, 3000),
        ({"Cache-Control": "max-age=60", "Age": "600"}, 0),
        ({"Cache-Control": "max-age=3600", "Expires": DATE, "Date": DATE}, 3600),
        ({"Cache-Control": "s-maxage=5, no-store"}, None),
        ({"Cache-Control": "max-age=x"}, None),
        ({"Expires": "Sat, 15 Jun 2030 13:00:00 GMT", "Date": DATE}, 3600),
        ({"Expires": "0", "Date": DATE}, None),
        ({"Expires": DATE, "Date": "Sat, 15 Jun 2030 12:00:00 -0000"}, None),
    ],
)
def test_max_age(headers, expected_s):
    """How long the answer stays the newest, as its headers say."""

    async def run():
        async with responder(Recorder(lambda: answer(headers=headers))) as uri:
            assert (await fetch(uri)).max_age_s == expected_s

    asyncio.run(run())


@pytest.mark.parametrize("is_chunked", [False, True])
def test_size_limit(is_chunked):
    """Exactly the limit is taken, one byte more is not."""

    async def handler(request: web.Request) -> web.StreamResponse:
        response = answer(b"x" * int(request.path.split("/")[1]))
        if is_chunked:
            response.enable_chunked_encoding()
        return response

    async def run():
        async with responder(handler) as uri:
            assert len((await fetch(f"{uri}/2000", max_response_bytes=2000)).body) == 2000
            assert (await failure(f"{uri}/2001", max_response_bytes=2000)).reason == "too-large"

    asyncio.run(run())


def test_an_endless_body_is_cut_at_the_limit():
    """A body without end costs the limit and no more."""

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": OCSP})
        await response.prepare(request)
        try:
            while True:
                await response.write(bytes(4096))
        except OSError:
            return response

    async def run():
        async with responder(handler) as uri:
            assert (await failure(uri)).reason == "too-large"

    asyncio.run(run())


async def silent(reader, writer):
    await head_of(reader)
    await asyncio.Event().wait()


async def drip(reader, writer):
    await head_of(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/ocsp-response\r\nContent-Length: 60000\r\n\r\n")
    while True:  # each byte would satisfy a timeout between bytes
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.01)


async def hello(reader, writer):
    writer.write(b"SSH-2.0-OpenSSH\r\n")


async def headless(reader, writer):
    await head_of(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: applic")


async def cut(reader, writer):
    await head_of(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/ocsp-response\r\nContent-Length: 100\r\n\r\nhalf")
    await writer.drain()


async def cut_chunk(reader, writer):
    await head_of(reader)
    writer.write(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/ocsp-response\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nha"
    )
    await writer.drain()


async def bad_chunk(reader, writer):
    await head_of(reader)
    writer.write(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/ocsp-response\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
    )
    await writer.drain()


async def closed(reader, writer):
    await head_of(reader)


async def reset(reader, writer):
    await head_of(reader)
    linger = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


async def huge_head(reader, writer):
    await head_of(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n")


@pytest.mark.parametrize(
    ("handler", "words"),
    [
        (silent, {"timeout"}),
        (drip, {"timeout"}),
        (hello, {"protocol"}),
        (headless, {"disconnected", "protocol"}),
        (cut, {"disconnected"}),
        (cut_chunk, {"disconnected"}),
        (bad_chunk, {"disconnected", "protocol"}),
        (closed, {"disconnected"}),
        (reset, {"disconnected"}),
        (huge_head, {"protocol"}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_broken_exchanges(handler, words):
    """Whatever a responder does to the connection ends within the deadline, as FetchFailed with its word."""

    async def run():
        async with raw_responder(handler) as uri:
            assert (await failure(uri, fetch_timeout_s=0.2)).reason in words

    asyncio.run(run())


def test_refused():
    """Nobody listens there."""

    async def run():
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
            assert (await failure(f"http://127.0.0.1:{port}")).reason == "connect"

    asyncio.run(run())


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("http://no-such-host.invalid/", {"dns"}),
        ("ldap://127.0.0.1/cn=ca", {"protocol"}),
        ("http://[::1", {"protocol"}),
        ("http://127.0.0.1:99999/", {"protocol"}),
        ("http:///nowhere", {"protocol"}),
        ("nonsense", {"protocol"}),
        ("", {"protocol"}),
        ("http://127.0.0.1/a b", {"protocol"}),
        ("http://127.0.0.1/ HTTP/1.1\r\nX: y\r\n", {"protocol"}),
        ("http://" + "x" * 300, {"protocol", "dns"}),
        ("http://exa\udcffmple/", {"protocol", "dns"}),
    ],
)
def test_addresses_that_lead_nowhere(uri, words):
    """A certificate may name anything as its responder."""

    async def run():
        assert (await failure(uri)).reason in words

    asyncio.run(run())


def test_tls_responder_with_a_certificate_of_nobody():
    """Plain HTTP where TLS is said: a word for it."""

    async def run():
        async with raw_responder(hello) as uri:
            assert (await failure(uri.replace("http:", "https:"))).reason == "tls"

    asyncio.run(run())


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


def test_a_cookie_is_not_sent_back():
    """Responders set cookies; nothing comes of it."""

    async def run():
        asked = Recorder(lambda: answer(headers={"Set-Cookie": "a=b"}))
        async with responder(asked) as uri, Fetcher(settings()) as fetcher:
            await fetcher.fetch(uri, REQUEST)
            await fetcher.fetch(uri, REQUEST)
        assert ["Cookie" in request.headers for request in asked.seen] == [False, False]

    asyncio.run(run())


def test_one_connection_serves_several_requests():
    """A responder is not connected to anew for each certificate."""

    async def run():
        asked = Recorder(answer)
        async with responder(asked) as uri, Fetcher(settings()) as fetcher:
            for _ in range(3):
                await fetcher.fetch(uri, REQUEST)
        assert (len(asked.seen), len(asked.peers)) == (3, 1)

    asyncio.run(run())


def test_a_limit_for_each_responder():
    """Behaviours: seven certificates at one responder with six connections, all fetched; another one is not held up."""

    async def run():
        under_way, most = 0, 0
        go_on = asyncio.Event()
        all_in = asyncio.Event()

        async def slow(request: web.Request) -> web.StreamResponse:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            if under_way == 6:
                all_in.set()
            await go_on.wait()
            under_way -= 1
            return answer()

        async with (
            responder(slow) as slow_uri,
            responder(Recorder(answer)) as quick_uri,
            Fetcher(settings(max_fetches_per_responder=6)) as fetcher,
        ):
            seven = [asyncio.create_task(fetcher.fetch(slow_uri, REQUEST)) for _ in range(7)]
            await asyncio.wait_for(all_in.wait(), 5)
            assert (await fetcher.fetch(quick_uri, REQUEST)).body == b"good"
            assert not any(task.done() for task in seven)
            go_on.set()
            assert [fetched.body for fetched in await asyncio.gather(*seven)] == [b"good"] * 7
        assert most == 6

    asyncio.run(run())


def test_waiting_for_a_turn_is_not_the_responders_fault():
    """The deadline is that of the exchange: the last in a row is asked for too, however slow those before it."""

    async def run():
        async with (
            raw_responder(silent) as uri,
            Fetcher(settings(max_fetches_per_responder=1, fetch_timeout_s=0.1)) as fetcher,
        ):
            results = await asyncio.gather(*(fetcher.fetch(uri, REQUEST) for _ in range(3)), return_exceptions=True)
        assert [error.reason for error in results] == ["timeout"] * 3

    asyncio.run(run())


def test_only_inside_its_block():
    """A mistake of ours is told as one."""

    async def run():
        with pytest.raises(RuntimeError, match="async with"):
            await Fetcher(settings()).fetch("http://127.0.0.1:1", REQUEST)

    asyncio.run(run())

"""One exchange with a responder: by which method, what is taken for an answer, and what is remembered of it."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web
from keeper.questions import LONG_REQUEST, REQUEST, failure, fetch, fetching
from keeper.responders import OCSP, Recorder, answer, head_of, raw_responder, responder

from proxy import __version__
from proxy.errors import FetchFailed, FetchReason
from proxy.keeper.fetch import MAX_POST_FIRST, POST_FIRST_S, Fetched, PostFirst


def test_get_first():
    """A short request goes by GET, escaped, and says who asks; the answer comes back as it is."""

    async def run():
        asked = Recorder(answer)
        async with responder(asked) as uri:
            fetched = await fetch(uri)
        assert fetched == Fetched(b"good", "GET", None)
        assert asked.bodies == [REQUEST]
        assert asked.seen[0].raw_path == "/%2F%2B%2B%2BIHJlcXVlc3Q%3D"
        assert asked.seen[0].headers["Accept"] == OCSP
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


@pytest.mark.parametrize("status", [429, 503, 404])
def test_retry_after(status):
    """The responder's wish is passed on, in seconds."""

    async def run():
        async with responder(Recorder(lambda: web.Response(status=status, headers={"Retry-After": "120"}))) as uri:
            assert (await failure(uri)).retry_after_s == 120

    asyncio.run(run())


def test_max_age():
    """How long the answer stays the newest is read from all lines of a field."""

    async def handler(reader, writer):
        await head_of(reader)
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/ocsp-response\r\nCache-Control: public\r\n"
            b"cache-control: max-age=60\r\nAge: 10\r\nContent-Length: 4\r\n\r\ngood"
        )

    async def run():
        async with raw_responder(handler) as uri:
            assert (await fetch(uri)).max_age_s == 50

    asyncio.run(run())


def refused() -> web.Response:
    return web.Response(status=405)


def test_post_goes_first_where_it_is_known_to_work():
    """A GET in vain is not repeated with each certificate; it is remembered for each address by itself."""

    async def run():
        asked, other = Recorder(refused, answer), Recorder(answer)
        async with responder(asked) as uri, responder(other) as other_uri, fetching() as fetcher:
            for _ in range(3):
                assert (await fetcher.fetch(uri, REQUEST)).method == "POST"
            assert (await fetcher.fetch(other_uri, REQUEST)).method == "GET"
        assert asked.methods == ["GET", "POST", "POST", "POST"]

    asyncio.run(run())


def test_get_is_tried_again_when_post_is_refused():
    """The responder has changed its mind: the exchange works all the same, and GET goes first from then on."""

    async def run():
        asked = Recorder(refused, answer)
        async with responder(asked) as uri, fetching() as fetcher:
            await fetcher.fetch(uri, REQUEST)
            asked.answers = {"GET": answer, "POST": refused}
            assert (await fetcher.fetch(uri, REQUEST)).method == "GET"
            assert (await fetcher.fetch(uri, REQUEST)).method == "GET"
        assert asked.methods == ["GET", "POST", "POST", "GET", "GET"]

    asyncio.run(run())


def test_get_is_tried_again_after_post_has_failed():
    """Whatever was wrong, what was learnt before it may not be true after it."""

    async def run():
        asked = Recorder(refused, answer)
        async with responder(asked) as uri, fetching() as fetcher:
            await fetcher.fetch(uri, REQUEST)
            asked.answers["POST"] = lambda: web.Response(status=500)
            with pytest.raises(FetchFailed):
                await fetcher.fetch(uri, REQUEST)
            asked.answers = {"GET": answer, "POST": answer}
            assert (await fetcher.fetch(uri, REQUEST)).method == "GET"

    asyncio.run(run())


def test_a_request_too_long_for_get_says_nothing_about_get():
    """POST because of the length is no reason for POST where GET would do."""

    async def run():
        async with responder(Recorder(answer)) as uri, fetching() as fetcher:
            assert (await fetcher.fetch(uri, LONG_REQUEST)).method == "POST"
            assert (await fetcher.fetch(uri, REQUEST)).method == "GET"

    asyncio.run(run())


def test_what_is_remembered_is_forgotten_in_time_and_bounded():
    """For a day, and for so many addresses; the oldest goes first."""
    wants_post = PostFirst()
    wants_post.note("a", 1000)
    assert wants_post.holds("a", 1000 + POST_FIRST_S - 1)
    assert not wants_post.holds("a", 1000 + POST_FIRST_S)
    assert not wants_post.holds("b", 1000)
    for number in range(MAX_POST_FIRST):
        wants_post.note(str(number), 2000)
    assert not wants_post.holds("a", 2000)
    assert wants_post.holds("0", 2000)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b"404 Gone fishing", "404 Gone fishing"),
        (b"404 ", "404 Not Found"),
        (b"404", "404 Not Found"),
        (b"499 ", "499"),
        (b"500 Impr\xe9vu \x1b[2J\xe2\x80\xae", "500 Impr?vu ?[2J?"),
    ],
)
def test_a_status_is_told_as_the_responder_words_it(line, told):
    """Or as RFC 9110 does, where the responder leaves the words out; without what no terminal or JSON should get."""

    async def handler(reader, writer):
        await head_of(reader)
        writer.write(b"HTTP/1.1 " + line + b"\r\nContent-Length: 0\r\n\r\n")

    async def run():
        async with raw_responder(handler) as uri:
            assert str(await failure(uri, LONG_REQUEST)) == f"http-status: {told}"

    asyncio.run(run())


NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
HTML = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>"


@pytest.mark.parametrize(
    ("to_post", "told"),
    [
        (NOT_FOUND, "http-status: 404 Not Found"),
        (HTML, "content-type: 'text/html' instead of application/ocsp-response"),
        (b"", "timeout: no whole answer within 0.2 s"),
    ],
    ids=["404", "HTML page", "silence"],
)
def test_both_troubles_are_told(to_post, told):
    """GET in vain and POST in vain: the word is the last one's, and an operator sees both."""

    async def handler(reader, writer):
        while True:
            if (await head_of(reader)).startswith(b"GET"):
                writer.write(NOT_FOUND)
            else:
                await reader.readexactly(len(REQUEST))
                writer.write(to_post)

    async def run():
        async with raw_responder(handler) as uri:
            failed = await failure(uri, fetch_timeout_s=5 if to_post else 0.2)
        assert str(failed) == f"{told} (to POST, after http-status: 404 Not Found to GET)"

    asyncio.run(run())


@pytest.mark.parametrize("tag", ['"abc"', 'W/"abc"'])
def test_an_entity_tag_goes_back_as_it_came(tag):
    """The responder says by 304 that the response held is still the newest, and for how long."""

    async def run():
        def by_tag() -> web.Response:
            headers = {"ETag": tag, "Cache-Control": "max-age=60"}
            is_held = asked.seen[-1].headers.get("If-None-Match") == tag
            return web.Response(status=304, headers=headers) if is_held else answer(headers=headers)

        asked = Recorder(by_tag)
        async with responder(asked) as uri, fetching() as fetcher:
            first = await fetcher.fetch(uri, REQUEST)
            second = await fetcher.fetch(uri, REQUEST, etag=first.etag)
        assert first == Fetched(b"good", "GET", 60, tag)
        assert second == Fetched(None, "GET", 60, tag)
        assert "If-None-Match" not in asked.seen[0].headers

    asyncio.run(run())


def test_a_304_without_a_tag_leaves_the_tag_as_it_is():
    """RFC 9110 15.4.5 asks for it; who leaves it out has not changed it."""

    async def run():
        async with responder(Recorder(lambda: web.Response(status=304))) as uri, fetching() as fetcher:
            assert await fetcher.fetch(uri, REQUEST, etag='"a"') == Fetched(None, "GET", None, '"a"')

    asyncio.run(run())


def test_a_newer_response_comes_with_its_own_tag():
    """With a tag asked or without: 200 is a whole answer."""

    async def run():
        asked = Recorder(lambda: answer(headers={"ETag": '"new"'}))
        async with responder(asked) as uri, fetching() as fetcher:
            assert await fetcher.fetch(uri, REQUEST, etag='"old"') == Fetched(b"good", "GET", None, '"new"')

    asyncio.run(run())


def test_post_knows_no_tags():
    """None is sent, and one that comes is not kept: it would be that of another thing than a GET gives."""

    async def run():
        asked = Recorder(lambda: answer(headers={"ETag": '"a"'}))
        async with responder(asked) as uri, fetching() as fetcher:
            assert await fetcher.fetch(uri, LONG_REQUEST, etag='"a"') == Fetched(b"good", "POST", None, None)
        assert "If-None-Match" not in asked.seen[0].headers

    asyncio.run(run())


@pytest.mark.parametrize("request_der", [REQUEST, LONG_REQUEST], ids=["GET", "POST"])
def test_a_304_that_was_not_asked_for_is_none(request_der):
    """There is nothing that it could be about."""

    async def run():
        async with responder(Recorder(lambda: web.Response(status=304))) as uri:
            assert (await failure(uri, request_der)).reason is FetchReason.PROTOCOL

    asyncio.run(run())


def test_a_download_is_of_any_type():
    """CA Issuers files come as whatever the web server takes them for; the size is bounded, redirects are followed."""

    async def handler(request: web.Request) -> web.Response:
        if request.path == "/ca.cer":
            return web.Response(status=302, headers={"Location": "/there"})
        return web.Response(body=b"x" * 2000, content_type="text/plain")

    async def run():
        async with responder(handler) as uri, fetching() as fetcher:
            assert await fetcher.download(uri + "/ca.cer", limit_bytes=2000) == b"x" * 2000
            with pytest.raises(FetchFailed, match=r"^too-large: "):
                await fetcher.download(uri + "/ca.cer", limit_bytes=1999)

    asyncio.run(run())


def test_a_download_that_is_not_there():
    """It is asked for once: a file has no POST."""

    async def run():
        asked = Recorder(lambda: web.Response(status=404))
        async with responder(asked) as uri, fetching() as fetcher:
            with pytest.raises(FetchFailed, match=r"^http-status: 404 Not Found$"):
                await fetcher.download(uri, limit_bytes=2000)
        assert asked.methods == ["GET"]

    asyncio.run(run())


def test_only_inside_its_block():
    """A mistake of ours is told as one."""

    async def run():
        with pytest.raises(RuntimeError, match="async with"):
            await fetching().fetch("http://127.0.0.1:1", REQUEST)

    asyncio.run(run())

"""Exchanges that break, whatever a responder does, and how much of it is taken."""

from __future__ import annotations

import asyncio
import socket
import struct

import pytest
from aiohttp import web
from keeper.questions import REQUEST, failure, fetch, fetching
from keeper.responders import ANSWER, OCSP, Recorder, answer, head_of, raw_responder, responder

from proxy.errors import FetchReason


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


async def interim(reader, writer):
    await head_of(reader)
    while True:
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)
        await writer.drain()


async def chunk_extensions(reader, writer):
    await head_of(reader)
    writer.write(ANSWER.partition(b"Content-Length")[0] + b"Transfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"1;" + b"x" * 4000 + b"\r\nx\r\n")
        await writer.drain()


async def trailers(reader, writer):
    await head_of(reader)
    writer.write(ANSWER.partition(b"Content-Length")[0] + b"Transfer-Encoding: chunked\r\n\r\n0\r\n")
    while True:
        writer.write(b"a: b\r\n" * 1000)
        await writer.drain()


@pytest.mark.parametrize(
    ("handler", "reasons"),
    [
        (interim, {FetchReason.TOO_LARGE}),
        (chunk_extensions, {FetchReason.TOO_LARGE}),
        # aiohttp counts fields, since 3.14, and calls it what it likes.
        (trailers, {FetchReason.TOO_LARGE, FetchReason.PROTOCOL, FetchReason.DISCONNECTED}),
    ],
)
def test_what_is_not_body_is_bounded_too(handler, reasons):
    """Interim answers and framing without end are cut off by their size, long before the deadline."""

    async def run():
        async with raw_responder(handler) as uri:
            assert (await failure(uri, fetch_timeout_s=60)).reason in reasons

    asyncio.run(run())


def test_the_bound_is_of_one_exchange_and_not_of_the_connection():
    """A kept connection carries any number of answers, each of nearly the longest size."""

    async def run():
        asked = Recorder(lambda: answer(b"x" * 60_000))
        async with responder(asked) as uri, fetching(max_response_bytes=60_000) as fetcher:
            for _ in range(5):
                assert len((await fetcher.fetch(uri, REQUEST)).body) == 60_000
        assert len(asked.seen) == 5
        assert len({request.transport for request in asked.seen}) == 1

    asyncio.run(run())

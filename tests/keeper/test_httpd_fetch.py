"""The HTTP client of mod_ssl against real servers that say what a test wants. The rows were seen with Apache itself."""

from __future__ import annotations

import asyncio
import socket
import struct
from dataclasses import dataclass, field

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from keeper.responders import raw_responder

from proxy.keeper.httpd_fetch import MAX_BODY_BYTES, HttpdFetcher, NoAnswerError, Way
from proxy.ocsp.httpd import TRY_LATER
from proxy.ocsp.httpd_request import target

REQUEST = b"\x30\x02\x30\x00"
HEAD = b"HTTP/1.0 200 OK\r\nContent-Type: application/ocsp-response\r\n\r\n"
SHORT_S = 0.3
"""For what is meant to take too long."""


@dataclass
class Asked:
    """A responder that sends these pieces, one after a pause each, and then ends, resets or hangs."""

    pieces: tuple[bytes, ...] = ()
    end: str = "close"
    pause_s: float = 0.0
    heads: list[bytes] = field(default_factory=list)

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heads.append(await reader.readuntil(b"\r\n\r\n") + await reader.readexactly(len(REQUEST)))
        for piece in self.pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(self.pause_s)
        if self.end == "hang":
            await asyncio.Event().wait()
        if self.end == "reset":
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()


def fetch(
    handler: Asked, *, timeout_s: float = 10, path: str = "/", by_proxy: bool = False
) -> tuple[object, list[int]]:
    """What came of asking it (the response's DER, or None), and the numbers of the lines."""

    async def run():
        notes = []
        fetcher = HttpdFetcher(notes.append)
        async with raw_responder(handler) as url:
            to = target("http://ocsp.test:8080/p?q" if by_proxy else url + path)
            try:
                response = await fetcher.fetch(to, REQUEST, Way(timeout_s, url if by_proxy else None))
            except NoAnswerError:
                return None, [note[0] for note in notes]
            return response.der, [note[0] for note in notes]

    return asyncio.run(run())


def test_the_request_is_apaches_byte_for_byte():
    """HTTP/1.0, POST, the port always, four headers in this order."""
    asked = Asked((HEAD + TRY_LATER,))
    found, numbers = fetch(asked, path="/a?b#c")
    assert (found, numbers) == (TRY_LATER, [1973, 1975, 1981, 1987])
    host = asked.heads[0].split(b"Host: ")[1].split(b"\r\n")[0]
    assert asked.heads[0] == (
        b"POST /a?b HTTP/1.0\r\nHost: " + host + b"\r\nContent-Type: application/ocsp-request\r\n"
        b"Connection: close\r\nContent-Length: 4\r\n\r\n" + REQUEST
    )


def test_a_proxy_gets_the_whole_url():
    """The request line is absolute; Host stays the responder's."""
    asked = Asked((HEAD + TRY_LATER,))
    found, _ = fetch(asked, by_proxy=True)
    assert found == TRY_LATER
    assert asked.heads[0].startswith(b"POST http://ocsp.test:8080/p?q HTTP/1.0\r\nHost: ocsp.test:8080\r\n")


TAKEN = [
    pytest.param((b"HTTP/1.0 204 No\r\n\r\n" + TRY_LATER,), id="204 with a body"),
    pytest.param((b"HTTP/1.1 299\r\n\r\n" + TRY_LATER,), id="299"),
    pytest.param((b"HTTP/ 200\r\n\r\n" + TRY_LATER,), id="no version"),
    pytest.param((b"HTTP/xx 200abc\r\n\r\n" + TRY_LATER,), id="text behind the number"),
    pytest.param((b"HTTP/1.0  200\r\n\r\n" + TRY_LATER,), id="two spaces"),
    pytest.param((b"HTTP/1.0 +200\r\n\r\n" + TRY_LATER,), id="a sign"),
    pytest.param((b"HTTP/1.0 200\nA: b\n\n" + TRY_LATER,), id="bare line feeds"),
    pytest.param((b"HTTP/1.0 200 " + b"x" * 8200 + b"\r\n\r\n" + TRY_LATER,), id="a long status line"),
    pytest.param((HEAD + TRY_LATER + b"more",), id="bytes behind"),
    pytest.param((b"HTTP/1.0 200\r\nContent-Length: 1\r\n\r\n" + TRY_LATER,), id="a length that is wrong"),
    pytest.param((b"HTTP/1.0 200\r\nContent-Type: text/html\r\n\r\n" + TRY_LATER,), id="a type that is wrong"),
    pytest.param((b"HTTP/1.0 200\r\n" + b"a: b\r\n" * 255 + b"\r\n" + TRY_LATER,), id="255 header lines"),
    pytest.param(tuple(bytes([byte]) for byte in HEAD + TRY_LATER), id="byte by byte"),
    pytest.param((HEAD + TRY_LATER + bytes(MAX_BODY_BYTES - len(TRY_LATER)),), id="2 MiB"),
]


@pytest.mark.parametrize("pieces", TAKEN)
def test_an_answer_that_is_taken(pieces):
    """Only the status counts, and what the body begins with."""
    assert fetch(Asked(pieces))[0] == TRY_LATER


NOT_TAKEN = [
    pytest.param((b"HTTP/1.0 199 x\r\n\r\n" + TRY_LATER,), "close", [1980], id="199"),
    pytest.param((b"HTTP/1.0 300 x\r\n\r\n" + TRY_LATER,), "close", [1980], id="300"),
    pytest.param((b"HTTP/1.0 2000\r\n\r\n" + TRY_LATER,), "close", [1980], id="2000"),
    pytest.param((b"HTTP/1.0 -200\r\n\r\n" + TRY_LATER,), "close", [1980], id="-200"),
    pytest.param((b"http/1.0 200\r\n\r\n" + TRY_LATER,), "close", [1980], id="lower case"),
    pytest.param((b"HTTP/1.0\r\n\r\n",), "close", [1980], id="no number"),
    pytest.param((b"HTTP/1.0\t200\r\n\r\n",), "close", [1980], id="a tab"),
    pytest.param((b"hello\r\n\r\n",), "close", [1980], id="no HTTP"),
    pytest.param((), "close", [2321, 1980], id="nothing"),
    pytest.param((b"HTTP/1.0 200 OK",), "close", [1979, 1980], id="a status line without end"),
    pytest.param((b"HTTP/1.0 200 OK\r\n",), "close", [2321, 1983], id="a status line alone"),
    pytest.param((b"HTTP/1.0 200 OK\r\nA: b\r\n",), "close", [1981, 2321, 1983], id="a head without end"),
    pytest.param((b"HTTP/1.0 200 OK\r\nA: b",), "close", [1979, 1983], id="a header line without end"),
    pytest.param((b"HTTP/1.0 200\r\nA: " + b"x" * 17_000,), "close", [1979, 1983], id="a header line too long"),
    pytest.param(
        (b"HTTP/1.0 200\r\n" + b"a: b\r\n" * 256 + b"\r\n",), "close", [1981] * 255 + [1982], id="256 header lines"
    ),
    pytest.param((HEAD,), "close", [1981, 1988], id="no body"),
    pytest.param((HEAD + b"hello",), "close", [1981, 1987, 1988], id="another body"),
    pytest.param((HEAD + b"5\r\n" + TRY_LATER + b"\r\n0\r\n\r\n",), "close", [1981, 1987, 1988], id="chunks"),
    pytest.param((), "hang", [1977, 1980], id="it says nothing"),
    pytest.param((b"HTTP/1.0 200 OK\r\nA: b",), "hang", [1977, 1983], id="it stops in the head"),
    pytest.param((HEAD + TRY_LATER,), "hang", [1981, 1987, 1985], id="it does not close"),
    pytest.param((HEAD + TRY_LATER[:2],), "reset", [1981, 1987, 1985], id="it resets"),
]


@pytest.mark.parametrize(("pieces", "end", "expected"), NOT_TAKEN)
def test_an_answer_that_is_not_taken(pieces, end, expected):
    """Each with its number; what ends it is told, and nothing is raised but NoAnswerError."""
    found, numbers = fetch(
        Asked(pieces, end, pause_s=0.05 if end == "reset" else 0), timeout_s=SHORT_S if end == "hang" else 10
    )
    assert (found, numbers) == (None, [1973, 1975, *expected])


def test_more_than_2_mib():
    """One byte more is too much; the pieces before it have been told."""
    found, numbers = fetch(Asked((HEAD + TRY_LATER + bytes(MAX_BODY_BYTES - len(TRY_LATER) + 1),)))
    assert (found, numbers[-1]) == (None, 1986)


def test_the_time_is_for_each_step():
    """A trickle lasts longer than the limit, and is taken."""
    pieces = tuple(HEAD[at : at + 12] for at in range(0, len(HEAD), 12))
    found, _ = fetch(Asked((*pieces, TRY_LATER), pause_s=0.15), timeout_s=0.6)
    assert found == TRY_LATER


def test_no_time_at_all():
    """0: no connection comes about."""
    assert fetch(Asked((HEAD + TRY_LATER,)), timeout_s=0) == (None, [1973, 1974])


class Addresses(AbstractResolver):
    """Names with several addresses, of which some answer."""

    def __init__(self, *hosts: str) -> None:
        self.hosts = hosts

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        family = socket.AF_INET
        return [
            ResolveResult(hostname=host, host=each, port=port, family=family, proto=0, flags=0) for each in self.hosts
        ]

    async def close(self) -> None: ...


def test_addresses_are_tried_in_their_order():
    """The first that a connection comes about with is asked."""

    async def run():
        notes = []
        asked = Asked((HEAD + TRY_LATER,))
        async with raw_responder(asked, host="127.0.0.7") as url:
            fetcher = HttpdFetcher(notes.append, Addresses("127.0.0.5", "127.0.0.6", "127.0.0.7"))
            to = target(url.replace("127.0.0.7", "ocsp.test"))
            assert (await fetcher.fetch(to, REQUEST, Way(10, None))).der == TRY_LATER
        fetcher = HttpdFetcher(notes.append, Addresses("127.0.0.5", "127.0.0.6"))
        with pytest.raises(NoAnswerError):
            await fetcher.fetch(to, REQUEST, Way(10, None))
        assert [note[0] for note in notes] == [1973, 1975, 1981, 1987, 1973, 1974]

    asyncio.run(run())


@pytest.mark.parametrize("uri", ["http://", "http://nosuch.invalid/", "http://a b/", "http://x..y/", "http://a\0b/"])
def test_a_name_without_address(uri):
    """One line; no time limit is for the lookup."""

    async def run():
        notes = []
        with pytest.raises(NoAnswerError):
            await HttpdFetcher(notes.append).fetch(target(uri), REQUEST, Way(10, None))
        assert [note[0] for note in notes] == [1972]

    asyncio.run(run())


def test_a_proxy_without_port():
    """Apache takes port 0, and there is never a connection."""

    async def run():
        notes = []
        with pytest.raises(NoAnswerError):
            await HttpdFetcher(notes.append).fetch(target("http://ocsp.test/"), REQUEST, Way(10, "http://127.0.0.1/"))
        assert [note[0] for note in notes] == [1973, 1974]

    asyncio.run(run())

"""Fetches for handshakes that wait: one at a time, looked up again first, kept as each site's settings say."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from dataclasses import dataclass, field

import pytest
from keeper.responders import raw_responder
from ocsp.pki import CA, LEAF, NOW, OTHER_LEAF, UNKNOWN_EXTENSION, Answer, cert_id, extension, revoked, single
from tls.test_clienthello import NONCE, hello_with_status

from proxy.cache.layout import CacheArgument
from proxy.cache.reader import CacheReader
from proxy.cache.segment import Segment
from proxy.cache.writer import CacheWriter
from proxy.httpd import Certificate, Table
from proxy.identity import CacheKey
from proxy.inline import MAX_STAPLE_BYTES, MAX_WAITING, Asker, Inline, Wire
from proxy.keeper.httpd_refresher import HttpdRefresher
from proxy.keeper.reporter import Observer
from proxy.ocsp.httpd import TRY_LATER, Rules
from proxy.ocsp.httpd_check import CertId
from proxy.ocsp.httpd_request import ocsp_request
from proxy.settings.stapling_httpd import HttpdStapling
from proxy.tls.inline import Preset, StapleWantedError

A, B = CacheKey(b"a" * 20), CacheKey(b"b" * 20)
GOOD = Answer().der
OF_B = Answer(singles=(single(cert_id(OTHER_LEAF)),)).der
HEAD = b"HTTP/1.0 200 OK\r\n\r\n"
STANDARD, STRICT = 0, 1
"""Sites: with Apache's defaults, and with neither errors nor made-up answers."""


@dataclass
class Responder:
    """Answers with what `answers` has for the n-th question (the last one for all after it), when `gate` is open."""

    answers: list[bytes]
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    asked: list[bytes] = field(default_factory=list)
    open: int = 0
    most_open: int = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.asked.append(await reader.readexactly(int(re.search(rb"Content-Length: (\d+)", head)[1])))
        self.open += 1
        self.most_open = max(self.open, self.most_open)
        await self.gate.wait()
        self.open -= 1
        writer.write(HEAD + self.answers[min(len(self.asked), len(self.answers)) - 1])
        await writer.drain()


class World:
    """A keeper, workers, and a cache whose clock the test sets."""

    def __init__(self, url: str, segment: Segment, workers: int = 1) -> None:
        certificates = {
            A: Certificate(CertId.of(LEAF.cert, CA.cert), url),
            B: Certificate(CertId.of(OTHER_LEAF.cert, CA.cert), url),
        }
        strict = HttpdStapling(return_responder_errors=False, fake_try_later=False, force_url=url + "/forced")
        self.table = Table(certificates, (Rules(HttpdStapling()), Rules(strict)))
        self.segment = segment
        self.wires = [Wire() for _ in range(workers)]
        self.now_s = NOW.timestamp()
        loop = asyncio.get_running_loop()
        self.askers = [Asker(wire, loop) for wire in self.wires]
        self.answers: list[tuple[str, Preset]] = []
        self._task: asyncio.Task | None = None
        self.start()

    def start(self) -> None:
        reader, writer = CacheReader(self.segment), CacheWriter(self.segment)
        keeper = HttpdRefresher([Inline(self.table, self.wires)], reader, writer, Observer(), lambda: self.now_s)
        self._task = asyncio.create_task(keeper.run())

    async def kill(self) -> None:
        """What is left of a keeper that was killed: nothing, but what waits in the sockets."""
        for wire in self.wires:
            asyncio.get_running_loop().remove_reader(wire.of_keeper)
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    def ask(self, name: str, key: CacheKey = A, site: int = STANDARD, worker: int = 0, hello: bytes = b"") -> None:
        self.askers[worker].ask(StapleWantedError(site, key), hello, lambda preset: self.answers.append((name, preset)))

    async def until(self, condition) -> None:
        async with asyncio.timeout(20):
            while not condition():  # noqa: ASYNC110  many conditions, of objects that know no events
                await asyncio.sleep(0.002)

    async def answered(self, count: int) -> list[tuple[str, bytes]]:
        await self.until(lambda: len(self.answers) >= count)
        return [(name, preset.staple) for name, preset in self.answers]

    def held(self, key: CacheKey = A) -> tuple[bytes, float] | None:
        entry = CacheWriter(self.segment).get(key)
        return entry and (entry.response, entry.serve_until_s - NOW.timestamp())


def in_world(responder: Responder, story, workers: int = 1) -> None:
    async def run():
        segment = Segment.create(CacheArgument("", 128_000))
        async with raw_responder(responder) as url:
            world = World(url, segment, workers)
            try:
                await story(world)
            finally:
                await world.kill()
                for wire in world.wires:
                    asyncio.get_running_loop().remove_reader(wire.of_worker)
                    wire.of_worker.close()
                    wire.of_keeper.close()
        segment.close()

    asyncio.run(run())


def test_one_fetch_is_for_all_who_wait_for_a_certificate():
    """Three handshakes of two workers for one certificate: one question, and all get the answer."""
    responder = Responder([GOOD])

    async def story(world: World) -> None:
        world.ask("1")
        world.ask("2", worker=1)
        world.ask("3")
        await world.until(lambda: responder.asked)
        responder.gate.set()
        assert await world.answered(3) == [("1", GOOD), ("2", GOOD), ("3", GOOD)]
        assert len(responder.asked) == 1
        assert world.held() == (b"\x01" + GOOD, 3600)

    in_world(responder, story, workers=2)


def test_what_the_client_adds_to_its_request_reaches_the_responder():
    """The requestExtensions of the one whose handshake leads to the fetch, byte for byte."""
    responder = Responder([GOOD])
    responder.gate.set()

    async def story(world: World) -> None:
        status = b"\x01\x00\x00" + len(NONCE).to_bytes(2) + NONCE
        world.ask("1", hello=hello_with_status(status))
        await world.answered(1)
        assert responder.asked == [ocsp_request(world.table.certificates[A].cert_id, NONCE)]
        assert responder.asked[0].endswith(NONCE)

    in_world(responder, story)


def test_fetches_are_one_after_another_for_all_certificates():
    """Who wants another certificate waits until the fetch before is over."""
    responder = Responder([GOOD, OF_B])

    async def story(world: World) -> None:
        world.ask("a")
        world.ask("b", B, worker=1)
        await world.until(lambda: responder.asked)
        responder.gate.set()
        assert await world.answered(2) == [("a", GOOD), ("b", OF_B)]
        assert responder.most_open == 1

    in_world(responder, story, workers=2)


def test_without_answer_and_without_made_up_ones_each_one_asks_anew():
    """Row C3: nothing is kept, so four handshakes are four questions, in their order."""
    responder = Responder([b"no"])
    responder.gate.set()

    async def story(world: World) -> None:
        for name in "1234":
            world.ask(name, site=STRICT)
        assert await world.answered(4) == [(name, b"") for name in "1234"]
        assert len(responder.asked) == 4
        assert world.held() is None

    in_world(responder, story)


def test_a_made_up_answer_is_for_all():
    """Row C1: one question, and the made-up tryLater is kept as long as a good response."""
    responder = Responder([b"no"])
    responder.gate.set()

    async def story(world: World) -> None:
        for name in "1234":
            world.ask(name)
        assert await world.answered(4) == [(name, TRY_LATER) for name in "1234"]
        assert len(responder.asked) == 1
        assert world.held() == (b"\x01" + TRY_LATER, 3600)

    in_world(responder, story)


def test_each_site_judges_what_another_has_fetched():
    """An error that one site's fetch has kept is none to a site that staples no errors; it is not asked for again."""
    responder = Responder([TRY_LATER])
    responder.gate.set()

    async def story(world: World) -> None:
        world.ask("standard")
        await world.answered(1)
        world.ask("strict", site=STRICT)
        assert await world.answered(2) == [("standard", TRY_LATER), ("strict", b"")]
        assert len(responder.asked) == 1
        assert world.held() == (b"\x00" + TRY_LATER, 600)

    in_world(responder, story)


def test_what_is_over_in_the_cache_is_gone():
    """A response that would still be valid is asked for again, and not stapled when nobody answers."""
    responder = Responder([GOOD, b"no"])
    responder.gate.set()

    async def story(world: World) -> None:
        world.ask("1", site=STRICT)
        await world.answered(1)
        world.now_s += 3600
        world.ask("2", site=STRICT)
        assert await world.answered(2) == [("1", GOOD), ("2", b"")]
        assert len(responder.asked) == 2

    in_world(responder, story)


@pytest.mark.parametrize(("size", "is_kept"), [(10_239, True), (10_240, False)])
def test_a_response_that_is_too_long_is_stapled_and_not_kept(size, is_kept, caplog):
    """Row H: 10,239 octets fit."""
    caplog.set_level(logging.DEBUG, "stapleproxy.httpd")
    padding = size - len(Answer(produced_at=NOW, extensions=()).der)
    while True:
        der = padded(padding)
        if len(der) == size:
            break
        padding += size - len(der)
    responder = Responder([der])
    responder.gate.set()

    async def story(world: World) -> None:
        world.ask("1")
        assert await world.answered(1) == [("1", der)]
        assert (world.held() is not None) is is_kept

    in_world(responder, story)
    told = [number for number in numbers(caplog) if number in {"AH01928", "AH01945"}]
    assert told == ([] if is_kept else ["AH01928", "AH01945"])


def padded(count: int) -> bytes:
    return Answer(extensions=(extension(UNKNOWN_EXTENSION, critical=False, value=bytes(count)),)).der


def numbers(caplog) -> list[str]:
    return [record.getMessage()[:7] for record in caplog.records if record.name == "stapleproxy.httpd"]


def test_lines_of_a_fetch_and_of_what_was_found_meanwhile(caplog):
    """The keeper's part of the order that Apache has; `revoked` is an error line, once a fetch."""
    caplog.set_level(logging.DEBUG, "stapleproxy.httpd")
    responder = Responder([Answer(singles=(single(status=revoked(NOW)),)).der])
    responder.gate.set()

    async def story(world: World) -> None:
        world.ask("1")
        world.ask("2")
        await world.answered(2)

    in_world(responder, story)
    fetching = ["AH01930", "AH03238", "AH01938", "AH01973", "AH01975", "AH01987", "AH01942", "AH02969"]
    assert numbers(caplog) == [*fetching, "AH03040", "AH01956", "AH01933", "AH01953", "AH03237", "AH01956"]
    assert [record.levelname for record in caplog.records if "AH02969" in record.getMessage()] == ["ERROR"]


def test_a_uri_of_no_use_is_fatal(caplog):
    """Row I, each time; nothing is asked or kept."""
    caplog.set_level(logging.DEBUG, "stapleproxy.httpd")
    responder = Responder([GOOD])

    async def story(world: World) -> None:
        certificate = world.table.certificates[A]
        world.table = Table({A: Certificate(certificate.cert_id, "https://x/")}, world.table.rules)
        await world.kill()
        world.start()
        world.ask("1")
        await world.answered(1)
        assert world.answers == [("1", Preset(b"", is_fatal=True))]
        assert world.held() is None
        assert responder.asked == []

    in_world(responder, story)
    assert numbers(caplog)[-3:] == ["AH01938", "AH01940", "AH01955"]


def test_a_keeper_that_is_killed_is_followed_by_one_that_asks_for_what_is_waited_for():
    """What was under way and what waited is answered by the next one, each once."""
    responder = Responder([GOOD])

    async def story(world: World) -> None:
        for name in "123":
            world.ask(name)
        await world.until(lambda: responder.asked)
        await world.kill()
        world.ask("while there is none")
        responder.gate.set()
        world.start()
        expected = [("1", GOOD), ("2", GOOD), ("3", GOOD), ("while there is none", GOOD)]
        assert sorted(await world.answered(4)) == expected
        assert len(responder.asked) == 2
        world.ask("5")
        await world.answered(5)
        assert len(world.answers) == 5

    in_world(responder, story)


def test_a_response_that_no_datagram_takes_is_not_stapled(caplog):
    """The handshake goes on without, and the log says why."""
    responder = Responder([padded(MAX_STAPLE_BYTES)])
    responder.gate.set()

    async def story(world: World) -> None:
        world.ask("1")
        assert await world.answered(1) == [("1", b"")]

    in_world(responder, story)
    assert "is not stapled: at most 200000 can be" in caplog.text


def test_the_longest_response_that_a_datagram_takes():
    """It arrives whole."""
    der = padded(MAX_STAPLE_BYTES - 500)
    responder = Responder([der])
    responder.gate.set()

    async def story(world: World) -> None:
        world.ask("1")
        assert await world.answered(1) == [("1", der)]

    in_world(responder, story)


def test_more_than_the_kernel_takes_and_more_than_may_wait(caplog):
    """All that may wait are answered, though the sockets were full; who comes then is not kept waiting.

    The log has one line of it, however many come.
    """
    responder = Responder([GOOD])

    async def story(world: World) -> None:
        for number in range(MAX_WAITING + 2):
            world.ask(str(number))
        assert await world.answered(2) == [(str(MAX_WAITING), b""), (str(MAX_WAITING + 1), b"")]
        responder.gate.set()
        found = await world.answered(MAX_WAITING + 2)
        assert sorted(found[2:], key=lambda each: int(each[0])) == [(str(n), GOOD) for n in range(MAX_WAITING)]
        assert len(responder.asked) == 1

    in_world(responder, story)
    assert caplog.text.count("1024 wait for a response already") == 1

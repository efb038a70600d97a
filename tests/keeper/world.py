"""Everything round one refresher: a real responder, a real cache, and a clock that the test sets."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from aiohttp import web
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.x509 import ocsp
from keeper.responders import OCSP, request_in, until
from ocsp import pki
from ocsp.pki import CA, DAY, NOW, Answer, Party, cert_id, single

from proxy.cache.reader import CacheReader
from proxy.cache.writer import CacheWriter
from proxy.identity import CacheKey, Identity
from proxy.keeper.fetch import Fetcher
from proxy.keeper.refresher import Refresher
from proxy.keeper.reporter import Observer
from proxy.settings.model import Settings, StaplingSettings
from proxy.sites import LoadedSite, StapledCertificate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from proxy.cache.segment import Segment
    from proxy.keeper.events import Event
    from proxy.keeper.fleet.sharing import Sharing

LEAVES = [pki.issue(f"{name}.example", CA) for name in ("one", "two")]
ONE, TWO = LEAVES
HOUR = timedelta(hours=1)


def key(leaf: Party) -> CacheKey:
    return CacheKey(leaf.cert.fingerprint(SHA1()))  # noqa: S303  the key of the cache, as Apache's


def stapled(leaf: Party, *urls: str, must_staple: bool = False, **more) -> StapledCertificate:
    label = leaf.cert.subject.rfc4514_string()
    names = ("x.example",)
    identity = Identity(label, leaf.cert, (CA.cert,), CA.cert, leaf.key, names, urls, must_staple, key(leaf))
    return StapledCertificate(identity, urls, names, **more)


def sites_of(*certificates: StapledCertificate) -> tuple[tuple[LoadedSite, ...], Settings]:
    """A site for each certificate, as a configuration has it."""
    tables = [
        {
            "names": list(each.names),
            "upstream": "http://127.0.0.1:1",
            "certificate": [{"chain": "chain.pem", "key": "key.pem"}],
            "stapling": {"responder_url": each.responder_urls[0]} if each.responder_urls else {},
        }
        for each in certificates
    ]
    settings = Settings.model_validate({"site": tables})
    pairs = zip(settings.site, certificates, strict=True)
    return tuple(LoadedSite(site, (each.identity,), each.names) for site, each in pairs), settings


class Heard(Observer):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.outcomes: list[str] = []
        self.events: list[Event] = []

    def asked(self, responder: str, outcome: str, elapsed_s: float) -> None:
        assert responder
        assert elapsed_s >= 0
        self.outcomes.append(str(outcome))

    def happened(self, event: Event) -> None:
        self.events.append(event)

    @property
    def kinds(self) -> list[str]:
        return [str(event.kind) for event in self.events]


@dataclass
class Responder:
    """Answers with a response made when asked, valid for two days from the test's own time, unless told otherwise."""

    now: Callable[[], datetime]
    asked: list[int] = field(default_factory=list)
    say: Callable[[Party], web.Response | bytes] | None = None

    async def __call__(self, request: web.Request) -> web.Response:
        serial = ocsp.load_der_ocsp_request(await request_in(request)).serial_number
        self.asked.append(serial)
        leaf = next(leaf for leaf in LEAVES if leaf.cert.serial_number == serial)
        said = self.say(leaf) if self.say else self.good(leaf)
        return said if isinstance(said, web.Response) else web.Response(body=said, content_type=OCSP)

    def good(self, leaf: Party, **parts) -> bytes:
        times = {"this_update": self.now(), "next_update": self.now() + 2 * DAY}
        return Answer(singles=(single(cert_id(leaf), **{**times, **parts}),)).der

    def questions(self, leaf: Party) -> int:
        return self.asked.count(leaf.cert.serial_number)


class World:
    """Everything round one refresher."""

    def __init__(self, segment: Segment, **settings) -> None:
        self.moment = NOW
        self.looks = 0
        self.settings = StaplingSettings(**{"fetch_timeout_s": 5, **settings})
        self.cache = CacheWriter(segment)
        self.reader = CacheReader(segment)
        self.responder = Responder(lambda: self.moment)
        self.heard = Heard()

    def staple(self, leaf: Party) -> bytes | None:
        """What a worker would staple now."""
        return self.reader.get(key(leaf), self.moment.timestamp())

    def store(self, leaf: Party, der: bytes, until: datetime) -> None:
        """As an earlier run left it."""
        self.cache.put(key(leaf), der, until.timestamp(), NOW.timestamp())

    def clock(self) -> float:
        self.looks += 1
        return self.moment.timestamp()

    async def some_naps(self) -> None:
        """Give the refresher the time to do what it should not do."""
        enough = self.looks + 4
        await until(lambda: self.looks >= enough)

    @contextlib.asynccontextmanager
    async def refresher(
        self, *certificates: StapledCertificate, sharing: Sharing | None = None, find_issuer=None
    ) -> AsyncIterator[Refresher]:
        async with Fetcher(self.settings) as fetcher:
            yield Refresher(
                certificates,
                self.settings,
                self.cache,
                fetcher=fetcher,
                find_issuer=find_issuer,
                sharing=sharing,
                observer=self.heard,
                log=logging.getLogger("stapleproxy.keeper"),
                clock=self.clock,
                jitter=lambda: 0.0,
            )

    @contextlib.asynccontextmanager
    async def running(self, *certificates: StapledCertificate) -> AsyncIterator[None]:
        """Warmed up, and at work until the block ends."""
        async with self.refresher(*certificates) as refresher:
            await refresher.warm_up()
            async with at_work(refresher):
                yield


@contextlib.asynccontextmanager
async def at_work(refresher: Refresher) -> AsyncIterator[None]:
    work = asyncio.create_task(refresher.run())
    try:
        yield
    finally:
        assert not work.done()
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work

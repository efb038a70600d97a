"""What is round the keeper in the simulation: responders of three kinds, the price of the cache, certificates."""

from __future__ import annotations

import asyncio
from array import array
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.ocsp import OCSPCertStatus, OCSPResponderEncoding, OCSPResponseBuilder

from proxy.errors import FetchFailed, FetchReason
from proxy.identity import CacheKey, Identity
from proxy.keeper.fetch import Fetched
from proxy.sites import StapledCertificate

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator, Sequence

    from cryptography import x509
    from refresh_loop import VirtualLoop

    from proxy.lab.ca import LabCA

START = datetime(2030, 1, 1, tzinfo=UTC)
LATENCY_S, SLOW_S, TIMEOUT_S = (0.02, 0.2), 10.0, 15.0
LIVES = (timedelta(hours=12), timedelta(days=2), timedelta(days=2), timedelta(days=7), timedelta(days=7))
"""Of the responses; the responders take turns."""


class Kind(Enum):
    """How a responder answers."""

    USUAL = f"answers within {LATENCY_S[0]} to {LATENCY_S[1]} s"
    SLOW = f"answers after {SLOW_S:.0f} s"
    DEAD = "never answers"


@dataclass(slots=True)
class Asked:
    """What one responder saw."""

    kind: Kind
    life: timedelta
    by_second: Counter[int] = field(default_factory=Counter)
    under_way: int = 0
    most_under_way: int = 0


class CacheCost(NamedTuple):
    """Seconds that each call of the cache's writer takes; they are charged, not spent."""

    put: float
    get: float
    note: float
    vouch: float


class Stored(NamedTuple):
    response: bytes
    serve_until_s: float


class ChargedCache:
    """Stands for the cache's writer: a dict, at the price of the real one."""

    def __init__(self, cost: CacheCost) -> None:
        self.loop: VirtualLoop | None = None
        self._cost = cost
        self._held: dict[bytes, Stored] = {}
        self.due_s: dict[bytes, float] = {}

    def put(self, key: bytes, response: bytes, serve_until_s: float, now_s: float) -> None:  # noqa: ARG002  the writer's
        self._charge(self._cost.put)
        self._held[key] = Stored(response, serve_until_s)

    def get(self, key: bytes) -> Stored | None:
        self._charge(self._cost.get)
        return self._held.get(key)

    def remove(self, key: bytes) -> bool:
        self._charge(self._cost.get)
        return self._held.pop(key, None) is not None

    def vouch_for(self, key: bytes) -> None:  # noqa: ARG002  the writer's
        self._charge(self._cost.vouch)

    def note_refresh(self, key: bytes, refresh_at_s: float) -> None:
        self._charge(self._cost.note)
        self.due_s[key] = refresh_at_s

    def _charge(self, seconds: float) -> None:
        assert self.loop is not None
        self.loop.charge(seconds)


class Responders:
    """All of them, as the fetcher sees them; they sign at no cost to the keeper."""

    def __init__(self, ca: LabCA, kinds: Sequence[Kind], chance: random.Random) -> None:
        self._authority = ca.intermediate
        self._chance = chance
        self.loop: VirtualLoop | None = None
        self.by_url = {
            f"http://responder{number}.example/": Asked(kind, LIVES[number % len(LIVES)])
            for number, kind in enumerate(kinds)
        }
        self.leaves: dict[int, tuple[x509.Certificate, CacheKey]] = {}
        self.cache: ChargedCache | None = None
        self.late_s: dict[Kind, array[float]] = {kind: array("d") for kind in Kind}
        """How much later than due each question after the first was put."""
        self.lapsed: Counter[Kind] = Counter()
        """Staples that had ended when the next one came."""
        self.first_s: dict[bytes, float] = {}
        """When the first response for a certificate came."""

    async def fetch(self, uri: str, request_der: bytes, *, etag: str | None = None) -> Fetched:  # noqa: ARG002  never given
        assert self.loop is not None
        assert self.cache is not None
        with self.loop.not_ours():
            now_s = self.loop.time()
            asked = self.by_url[uri]
            leaf, key = self.leaves[ocsp.load_der_ocsp_request(request_der).serial_number]
            asked.by_second[int(now_s)] += 1
            asked.under_way += 1
            asked.most_under_way = max(asked.most_under_way, asked.under_way)
            if key in self.first_s:
                self.late_s[asked.kind].append(START.timestamp() + now_s - self.cache.due_s[key])
        try:
            if asked.kind is Kind.DEAD:
                await asyncio.sleep(TIMEOUT_S)
                raise FetchFailed(FetchReason.TIMEOUT, f"no whole answer within {TIMEOUT_S:g} s")
            await asyncio.sleep(SLOW_S if asked.kind is Kind.SLOW else self._chance.uniform(*LATENCY_S))
        finally:
            asked.under_way -= 1
        with self.loop.not_ours():
            now_s = self.loop.time()
            held = self.cache._held.get(key)  # noqa: SLF001  a look that costs nothing
            self.lapsed[asked.kind] += held is not None and held.serve_until_s <= START.timestamp() + now_s
            self.first_s.setdefault(key, now_s)
            return Fetched(self._sign(leaf, START + timedelta(seconds=now_s), asked.life), "GET", None)

    def _sign(self, leaf: x509.Certificate, now: datetime, life: timedelta) -> bytes:
        begin, issuer = now.replace(microsecond=0), self._authority.certificate
        parts = (OCSPCertStatus.GOOD, begin, begin + life, None, None)
        builder = OCSPResponseBuilder().add_response(leaf, issuer, SHA1(), *parts)  # noqa: S303  as requests have it
        signed = builder.responder_id(OCSPResponderEncoding.HASH, issuer).sign(self._authority.key, SHA256())
        return signed.public_bytes(Encoding.DER)

    def certificates(self, count: int, ca: LabCA) -> Iterator[StapledCertificate]:
        """Issue `count` certificates, for the responders in turn."""
        urls = list(self.by_url)
        for number in range(count):
            url, name = urls[number % len(urls)], f"host{number}.example"
            issued = ca.issue([name], ocsp_urls=[url], days=3000)
            ca.issued.clear()
            leaf, issuer = issued.leaf, ca.intermediate.certificate
            cache_key = CacheKey(leaf.fingerprint(SHA1()))  # noqa: S303  the cache's key, as Apache's
            self.leaves[leaf.serial_number] = leaf, cache_key
            identity = Identity(name, leaf, (issuer,), issuer, issued.key, (name,), (url,), False, cache_key)
            yield StapledCertificate(identity, (url,), (name,))

"""Keeps a staple for every certificate: asks in time, takes only better ones, tells the cache.

One heap of (due, key) says who is next. A certificate is in the heap, or a task is at work on it, never both, so
nothing is asked twice at once and an idle certificate costs one heap entry. A slow responder holds up the tasks of its
own certificates only. All times are the wall clock's, since responses end by it; no wait is longer than
`LONGEST_NAP_S`, so a clock that was set or a machine that slept is noticed within it.

What is held is kept through any trouble until its end. The one thing that ends it sooner is the issuer's own newer word
that the certificate is revoked: then nothing is stapled, since the old 'good', though not yet over, is known to be
false. 'Unknown' does not: it is what a responder says that lost or has not yet got its data, it is no word on the
certificate (RFC 6960 2.2), and the 'good' held remains the issuer's promise until nextUpdate.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import math
import random
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NoReturn, Protocol

from proxy.errors import FetchFailed, Reason, StapleRejected
from proxy.identity import CacheKey
from proxy.ocsp import policy
from proxy.ocsp.request import build_request
from proxy.ocsp.response import CertStatus, Rules, require_good, verify

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cryptography import x509

    from proxy.identity import Identity
    from proxy.keeper.fetch import Fetched
    from proxy.ocsp.response import Staple
    from proxy.settings.model import StaplingSettings
    from proxy.sites import StapledCertificate

LONGEST_NAP_S = 60.0

_LOG = logging.getLogger("stapleproxy.keeper")


class CacheEntry(Protocol):
    """One response in the cache."""

    @property
    def key(self) -> bytes: ...
    @property
    def response(self) -> bytes: ...
    @property
    def serve_until_s(self) -> float: ...


class Cache(Protocol):
    """What is asked of the cache's writer."""

    def put(self, key: bytes, response: bytes, serve_until_s: float, now_s: float) -> None:
        """Publish a response; ValueError says why it cannot be kept."""

    def get(self, key: bytes) -> CacheEntry | None:
        """Give the response, if it is there."""

    def remove(self, key: bytes) -> bool:
        """Take a response back; False: there was none."""

    def vouch_for(self, key: bytes) -> None:
        """Let a response that an earlier run left be stapled."""

    def note_refresh(self, key: bytes, refresh_at_s: float) -> None:
        """Tell who looks on when the next attempt is."""

    def entries(self) -> Sequence[CacheEntry]:
        """Give all responses in the cache."""


class Fetching(Protocol):
    """What is asked of the fetcher."""

    async def fetch(self, uri: str, request_der: bytes) -> Fetched:
        """Ask a responder; FetchFailed says why there is no answer."""


@dataclass(slots=True)
class _Watched:
    """One certificate, and how it stands with it."""

    identity: Identity
    issuer: x509.Certificate
    urls: tuple[str, ...]
    """Of its responders, in the order to ask them."""
    newest: Staple | None = None
    """The issuer's newest word, 'good' or 'revoked'. It outlives its end: an older one stays an older one."""
    failures: int = 0
    """In a row."""

    def held(self, now: datetime) -> Staple | None:
        """The staple that the cache has for it, unless its time is over."""
        newest = self.newest
        return newest if newest and newest.status is CertStatus.GOOD and now < newest.serve_until else None


class Refresher:
    """The keeper's main work. `clock` gives the wall clock's seconds, `jitter` numbers in [0, 1)."""

    def __init__(
        self,
        certificates: Sequence[StapledCertificate],
        settings: StaplingSettings,
        cache: Cache,
        *,
        fetcher: Fetching,
        log: logging.Logger = _LOG,
        clock: Callable[[], float] = time.time,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._settings = settings
        self._rules = Rules.from_settings(settings)
        self._pace = policy.Pace.from_settings(settings)
        self._cache = cache
        self._fetcher = fetcher
        self._log = log
        self._clock = clock
        self._jitter = jitter
        self._watched: dict[CacheKey, _Watched] = {
            each.identity.cache_key: _Watched(each.identity, issuer, each.responder_urls)
            for each in certificates
            if (issuer := each.identity.issuer) is not None  # `sites` leaves the others out, and says so
        }
        self._heap: list[tuple[float, CacheKey]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._woken = asyncio.Event()
        self._looked_s = clock()

    async def warm_up(self) -> None:
        """Take over what the cache holds, then ask once for every certificate without a staple.

        Returns when all were asked for, or after `warmup_timeout_s`; what is under way then goes on.
        """
        self._take_over()
        for key, watched in self._watched.items():
            if watched.held(self._now()) is None:
                self._start(key)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._settings.warmup_timeout_s)

    async def run(self) -> NoReturn:
        """Refresh for ever, after `warm_up`; cancel to stop."""
        try:
            while True:
                self._woken.clear()
                now_s = self._clock()
                if now_s < self._looked_s - LONGEST_NAP_S:  # the clock was set back: what was due in an hour still is
                    self._heap = [(due_s - self._looked_s + now_s, key) for due_s, key in self._heap]
                self._looked_s = now_s
                while self._heap and self._heap[0][0] <= now_s:
                    self._start(heapq.heappop(self._heap)[1])
                nap_s = min(self._heap[0][0] - now_s, LONGEST_NAP_S) if self._heap else LONGEST_NAP_S
                await self._nap(nap_s)
        finally:
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _nap(self, nap_s: float) -> None:
        try:
            async with asyncio.timeout(nap_s):
                await self._woken.wait()
        except TimeoutError:
            pass

    def _take_over(self) -> None:
        """Verify again what the cache holds: a file proves nothing, and the rules may have changed since.

        Responses for certificates that are configured no longer are left alone; they go with time.
        """
        now = self._now()
        for entry in self._cache.entries():
            watched = self._watched.get(CacheKey(entry.key))
            if watched is None:
                continue
            staple = None
            try:
                staple = self._verified(watched, entry.response, now)
                require_good(staple)
            except StapleRejected as refusal:
                if staple is not None and staple.status is CertStatus.REVOKED:
                    self._withdraw(watched, staple)
                else:
                    self._cache.remove(entry.key)
                self._log.info("%s: the stored response is not stapled: %s", watched.identity.label, refusal)
                continue
            if entry.serve_until_s == staple.serve_until.timestamp() or self._publish(watched, staple):
                watched.newest = staple
                self._cache.vouch_for(entry.key)
                self._schedule(watched, policy.half_life(staple, self._jitter()))
                self._log.info(
                    "%s: stapled until %s, from the cache", watched.identity.label, _text(staple.serve_until)
                )

    def demand(self, key: bytes) -> None:
        """Publish again what a worker did not find: the cache had to push it out for others.

        Nothing is fetched for it: a certificate without a staple is due as soon as its responder may be asked again.
        """
        watched = self._watched.get(CacheKey(key))
        held = watched.held(self._now()) if watched is not None else None
        if watched is not None and held is not None and self._cache.get(key) is None and self._publish(watched, held):
            self._log.debug("%s: back in the cache, on demand", watched.identity.label)

    def _start(self, key: CacheKey) -> None:
        task = asyncio.create_task(self._attempt(self._watched[key]))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _attempt(self, watched: _Watched) -> None:
        """Ask for one certificate and put it back into the heap, whatever happened."""
        try:
            due = await self._ask(watched)
        except Exception:  # noqa: BLE001  the edge of a task: a mistake of ours must not end the refreshing
            self._log.exception("%s: the attempt broke", watched.identity.label)
            due = self._now() + timedelta(seconds=self._pace.retry_max_s)
        if due is not None:
            self._schedule(watched, due)

    async def _ask(self, watched: _Watched) -> datetime | None:
        """Ask one responder after the other; when to ask again, None for never."""
        identity = watched.identity
        if self._now() > identity.leaf.not_valid_after_utc:
            self._log.warning("%s: the certificate has expired: no staple is fetched any more", identity.label)
            return None
        request = build_request(identity.leaf, watched.issuer)
        troubles: list[str] = []
        retry_after_s: float | None = None
        for url in watched.urls:
            try:
                fetched = await self._fetcher.fetch(url, request)
                staple = self._verified(watched, fetched.body, self._now())
                policy.may_replace(watched.newest, staple)
                if staple.status is CertStatus.REVOKED:
                    troubles.append(f"{url}: {self._withdraw(watched, staple)}")
                    break  # the issuer's word: another responder could only be behind
                require_good(staple)
            except StapleRejected as refusal:
                troubles.append(f"{url}: {refusal}")
            except FetchFailed as failure:
                troubles.append(f"{url}: {failure}")
                retry_after_s = max(retry_after_s or 0, failure.retry_after_s or 0) or None
            else:
                return self._accept(watched, staple, url, fetched.max_age_s)
        return self._put_off(watched, "; ".join(troubles), retry_after_s)

    def _verified(self, watched: _Watched, der: bytes, now: datetime) -> Staple:
        return verify(der, leaf=watched.identity.leaf, issuer=watched.issuer, now=now, rules=self._rules)

    def _accept(self, watched: _Watched, staple: Staple, url: str, max_age_s: float | None) -> datetime:
        now = self._now()
        watched.failures = 0
        due = policy.next_refresh(staple, now, self._jitter(), self._pace, max_age_s)
        is_new = watched.newest is None or watched.newest.der != staple.der
        # Published even when it is the one held: the cache may have pushed it out meanwhile.
        if self._publish(watched, staple):
            watched.newest = staple
            self._log.log(
                logging.INFO if is_new else logging.DEBUG,
                "%s: stapled until %s, from %s; next refresh at %s",
                *(watched.identity.label, _text(staple.serve_until), url, _text(due)),
            )
        return due

    def _publish(self, watched: _Watched, staple: Staple) -> bool:
        key = watched.identity.cache_key
        try:
            self._cache.put(key, staple.der, staple.serve_until.timestamp(), self._clock())
        except ValueError as error:
            self._log.warning("%s: the cache does not take the staple: %s", watched.identity.label, error)
            return False
        return True

    def _withdraw(self, watched: _Watched, staple: Staple) -> str:
        """Staple no more for a certificate that the issuer says is revoked.

        The response is kept in the cache, as one that may not be served: else a keeper that starts anew would take an
        older 'good' that somebody replays.
        """
        had_one = watched.held(self._now()) is not None
        watched.newest = staple
        try:
            self._cache.put(watched.identity.cache_key, staple.der, 0.0, self._clock())
        except ValueError:  # it does not fit: what must not stay is the good one
            self._cache.remove(watched.identity.cache_key)
        return f"{Reason.REVOKED}: {staple.revocation}" + (" (the staple held is withdrawn)" if had_one else "")

    def _put_off(self, watched: _Watched, troubles: str, retry_after_s: float | None) -> datetime:
        now = self._now()
        held = watched.held(now)
        is_revoked = watched.newest is not None and watched.newest.status is CertStatus.REVOKED
        watched.failures += 1
        pause_s = policy.retry_pause_s(
            watched.failures,
            self._jitter(),
            self._pace,
            remaining_s=math.inf if is_revoked else (held.serve_until - now).total_seconds() if held else None,
            retry_after_s=retry_after_s,
        )
        lasting = f"the one held lasts until {_text(held.serve_until)}" if held else "none is held"
        label = watched.identity.label
        self._log.warning("%s: no new staple, %s; trying again in %.0f s; %s", label, lasting, pause_s, troubles)
        return now + timedelta(seconds=pause_s)

    def _schedule(self, watched: _Watched, due: datetime) -> None:
        heapq.heappush(self._heap, (due.timestamp(), watched.identity.cache_key))
        self._cache.note_refresh(watched.identity.cache_key, due.timestamp())
        self._woken.set()

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)


def _text(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%SZ}"

"""Keeps a staple for every certificate: asks in time, takes only better ones, tells the cache.

One heap of (due, key) says who is next. A certificate is in the heap, or waits in the lane of a responder, or a task is
at work on it: nothing is asked twice at once, and an idle certificate costs one heap entry. All times are the wall
clock's, since responses end by it; no wait is longer than `LONGEST_NAP_S`, so a clock that was set or a machine that
slept is noticed within it.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import math
import random
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NoReturn

from proxy.errors import FetchFailed, FetchReason, Reason, StapleRejected
from proxy.identity import CacheKey
from proxy.keeper.asker import Asker
from proxy.keeper.lanes import Lanes
from proxy.keeper.reporter import Observer, Reporter
from proxy.keeper.shelf import Shelf
from proxy.keeper.silence import Silence
from proxy.keeper.turns import Turns
from proxy.keeper.watched import Trouble, Watched
from proxy.log import about
from proxy.ocsp import policy
from proxy.ocsp.response import Rules
from proxy.sites import responder_address

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence

    from cryptography import x509

    from proxy.identity import Identity
    from proxy.keeper.asker import Fetching
    from proxy.keeper.fleet.decide import Found
    from proxy.keeper.fleet.sharing import Sharing
    from proxy.keeper.shelf import Cache
    from proxy.ocsp.response import Staple
    from proxy.settings.model import StaplingSettings
    from proxy.sites import StapledCertificate
    from proxy.staplefile import Proved

LONGEST_NAP_S = 60.0
_TAKEN_OVER_AT_ONCE = 64
"""Verifications of stored responses in a row, about 20 ms, before anything else gets its turn."""
_QUEUED_AT_ONCE = 1_000
"""Certificates that are due, about 6 ms, before anything else gets its turn: at a first start all are due."""

_LOG = logging.getLogger("stapleproxy.keeper")


class Refresher:
    """The keeper's main work. `clock` gives the wall clock's seconds, `jitter` numbers in [0, 1)."""

    def __init__(
        self,
        certificates: Sequence[StapledCertificate],
        settings: StaplingSettings,
        cache: Cache,
        *,
        fetcher: Fetching,
        find_issuer: Callable[[Identity], Awaitable[x509.Certificate]] | None = None,
        sharing: Sharing | None = None,
        observer: Observer | None = None,
        log: logging.Logger = _LOG,
        clock: Callable[[], float] = time.time,
        jitter: Callable[[], float] = random.random,
        proved: Proved | None = None,
    ) -> None:
        self._settings = settings
        self._pace = policy.Pace.from_settings(settings)
        self._observer = observer or Observer()
        self._reporter = Reporter(log, self._observer)
        self._log = log
        self._clock = clock
        self._jitter = jitter
        self._shelf = Shelf(cache, Rules.from_settings(settings), log, proved)
        self._asker = Asker(fetcher, self._shelf, find_issuer, self._now, with_nonce=settings.nonce)
        timeout_s = settings.fetch_timeout_s
        self._turns = (
            Turns(sharing, self, self._asker, self._shelf, self._reporter, self._pace, timeout_s, self._now, jitter)
            if sharing
            else None
        )
        self._watched = {each.identity.cache_key: Watched(each, each.identity.issuer) for each in certificates}
        self._lanes = Lanes(settings.max_fetches_per_responder, settings.max_fetches_per_responder_per_second)
        self._heap: list[tuple[float, CacheKey]] = []
        self._over: set[CacheKey] = set()
        """Of certificates that have expired: nothing is asked, unless the clock proves wrong."""
        self._silence = Silence(clock)
        self._unasked: set[CacheKey] = set()
        """Those without a staple at the start whose first round is not over."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._woken = asyncio.Event()
        self._looked_s = clock()

    def watched(self) -> Iterable[Watched]:
        """All certificates, to look at."""
        return self._watched.values()

    async def warm_up(self, also: Callable[[], Awaitable[None]] | None = None) -> None:
        """Take over what the cache holds, then ask once for every certificate without a staple.

        Before anybody is asked, `also` may offer what it has. Returns when all were asked for, or after
        `warmup_timeout_s`; what is under way then goes on.
        """
        for number, watched in enumerate(self._watched.values(), 1):
            self._begin_with(watched)
            if not number % _TAKEN_OVER_AT_ONCE:
                await asyncio.sleep(0)
        if also is not None:
            await also()
        try:
            async with asyncio.timeout(self._settings.warmup_timeout_s):
                while self._unasked:
                    await self._turn()
        except TimeoutError:
            pass

    async def run(self) -> NoReturn:
        """Refresh for ever, after `warm_up`; cancel to stop."""
        try:
            while True:
                await self._turn()
        finally:
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def refresh(self, key: CacheKey) -> bool:
        """Ask for a certificate as soon as its responder's lane allows; False: it is being asked for, or cannot be."""
        watched = self._watched.get(key)
        if watched is None or watched.due_s is None or not watched.certificate.responder_urls:
            return False
        watched.etag = None  # whoever orders this wants the response, not a word that it is the same
        if self._turns:
            self._turns.hurry(watched)
        self._schedule(watched, self._now())
        return True

    def demand(self, key: bytes) -> None:
        """Publish again what a worker did not find: the cache had to push it out for others.

        Nothing is fetched for it: a certificate without a staple is due as soon as its responder may be asked again.
        """
        if watched := self._watched.get(CacheKey(key)):
            self._shelf.bring_back(watched, self._now())

    def offer(self, watched: Watched, der: bytes, source: str = "the operator") -> Staple:
        """Take a response that the operator gave, and say from where in the log; raises StapleRejected."""
        before = watched.newest
        now = self._now()
        staple = self._shelf.offer(watched, der, now, by_hand=True)
        due = policy.next_refresh(staple, now, self._jitter(), self._pace) if watched.due_s is not None else None
        self._reporter.accepted(watched, before, staple, "", now, due, source)
        if due is not None:
            self._unasked.discard(watched.identity.cache_key)
            self._schedule(watched, due)
        return staple

    def look_at_end(self, watched: Watched) -> None:
        """Tell of a staple that is about to expire, or has, where no attempt will."""
        self._reporter.note_end(watched, self._now())

    # --- whose turn it is

    def _begin_with(self, watched: Watched) -> None:
        if self._turns:
            self._turns.ended(watched)  # what was announced before is in the cache, if it found room there
        staple = self._shelf.take_over(watched, self._now())
        if staple:
            self._reporter.taken_over(watched, staple)
        if not watched.certificate.responder_urls:
            return
        if watched.held(self._now()) and staple:
            watched.jitter = self._jitter_of(watched, staple)
            self._schedule(watched, policy.first_refresh(staple, self._now(), watched.jitter, self._pace))
        else:
            self._unasked.add(watched.identity.cache_key)
            # In a fleet in an order of one's own: machines that start together then share the work.
            soonest = timedelta(seconds=self._jitter() if self._turns else 0.0)
            self._schedule(watched, self._now() - soonest)

    async def _turn(self) -> None:
        """Start what may be started, then wait until there may be more."""
        self._woken.clear()
        now_s = self._clock()
        if now_s < self._looked_s - LONGEST_NAP_S:  # the clock was set back: what was due in an hour still is
            self._move_by(now_s - self._looked_s)
            for key in self._over:  # and what was over may not be
                self._schedule(self._watched[key], self._now())
            self._over.clear()
        self._looked_s = now_s
        for _ in range(_QUEUED_AT_ONCE):
            if not self._heap or self._heap[0][0] > now_s:
                break
            due_s, key = heapq.heappop(self._heap)
            if self._watched[key].due_s == due_s:  # else it was put elsewhere since
                self._begin_round(self._watched[key])
        looked_s = math.inf
        if turns := self._turns:
            for key in turns.begin_looks(now_s):
                self._start(self._look(turns, self._watched[key]))
            looked_s = turns.next_s()
        for lane, key in self._lanes.begin(now_s):
            self._start(self._attempt(self._watched[key], lane))
        next_s = min(self._heap[0][0] if self._heap else math.inf, self._lanes.next_s(), looked_s)
        if next_s <= now_s:  # more is due than is queued at once
            await asyncio.sleep(0)
            return
        try:
            async with asyncio.timeout(min(max(next_s - now_s, 0.0), LONGEST_NAP_S)):
                await self._woken.wait()
        except TimeoutError:
            pass

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _move_by(self, shift_s: float) -> None:
        self._heap = []
        for key, watched in self._watched.items():
            if watched.due_s is not None:
                watched.due_s += shift_s
                self._heap.append((watched.due_s, key))
        heapq.heapify(self._heap)

    def _begin_round(self, watched: Watched) -> None:
        watched.due_s = None
        if self._now() > watched.identity.leaf.not_valid_after_utc:
            label = watched.identity.label
            extra = about(certificate=label, reasons=[Reason.CERTIFICATE_EXPIRED])
            self._log.warning("%s: the certificate has expired: no staple is fetched any more", label, extra=extra)
            self._unasked.discard(watched.identity.cache_key)
            self._over.add(watched.identity.cache_key)
            return
        watched.round, watched.retry_after_s = (), None
        if self._turns:
            self._turns.enter(watched)
            self._woken.set()
        else:
            self._queue(watched)

    def _queue(self, watched: Watched) -> None:
        if not watched.round:
            self._silence.prefer_another(watched)
        lane = responder_address(watched.url(len(watched.round)))
        self._lanes.enter(lane, watched.identity.cache_key, urgent=watched.held(self._now()) is None)
        self._woken.set()

    def _schedule(self, watched: Watched, due: datetime) -> None:
        watched.due_s = due.timestamp()
        heapq.heappush(self._heap, (watched.due_s, watched.identity.cache_key))
        self._shelf.cache.note_refresh(watched.identity.cache_key, watched.due_s)
        self._woken.set()

    # --- one certificate

    async def _attempt(self, watched: Watched, lane: str) -> None:
        """Ask one responder, then queue at the next one or schedule the next round, whatever happened."""
        try:
            if self._silence.is_better_asked_elsewhere(watched, lane):
                due = None
            else:
                due = await self._turns.begin(watched) if self._turns and not watched.round else None
                due = due or await self._ask(watched, lane)
        except Exception:  # noqa: BLE001  the edge of a task: a mistake of ours must not end the refreshing
            self._log.exception("%s: the attempt broke", watched.identity.label)
            due = self._now() + timedelta(seconds=min(self._pace.retry_max_s, policy.WITHOUT_STAPLE_MAX_PAUSE_S))
            self.end_round(watched)
        finally:
            self._lanes.leave(lane)
            self._woken.set()
        if due is None:
            self._queue(watched)
        else:
            self._schedule(watched, due)

    async def _ask(self, watched: Watched, lane: str) -> datetime | None:
        """Ask the responder whose turn it is; when to ask again, None: the next one at once."""
        number = len(watched.round)
        url = watched.url(number)
        before = watched.newest
        begun_s = time.monotonic()
        try:
            answer = await self._asker.ask(watched, url)
        except (StapleRejected, FetchFailed) as error:
            self._observer.asked(lane, error.reason, time.monotonic() - begun_s)
            if error.reason is FetchReason.TIMEOUT:
                self._silence.begins(lane)
            elif error.reason is not FetchReason.NO_ISSUER:  # then it was not asked
                self._silence.ends(lane)
            watched.round = (*watched.round, Trouble(url, error.reason, error.detail))
            if isinstance(error, FetchFailed):
                watched.retry_after_s = max(watched.retry_after_s or 0, error.retry_after_s or 0) or None
            # 'Revoked' is the issuer's word: another responder could only be behind.
            is_last = len(watched.round) == len(watched.certificate.responder_urls)
            if not is_last and error.reason is not Reason.REVOKED:
                return None
            due = self.put_off(watched)
            if self._turns and error.reason is Reason.REVOKED and watched.newest:  # as much worth knowing as a 'good'
                await self._turns.answered(watched, watched.newest, None)
            elif self._turns:
                await self._turns.failed(watched, (due - self._now()).total_seconds())
            return due
        self._observer.asked(lane, answer.outcome, time.monotonic() - begun_s)
        self._silence.ends(lane)
        watched.working = (watched.working + number) % len(watched.certificate.responder_urls)
        watched.failures, watched.troubles = 0, ()
        watched.successes += 1
        if before is None or before.der != answer.staple.der:
            watched.jitter = self._jitter_of(watched, answer.staple)
        now = self._now()
        due = policy.next_refresh(answer.staple, now, watched.jitter, self._pace, answer.max_age_s)
        self._reporter.accepted(watched, before, answer.staple, url, now, due)
        life_s = (answer.staple.serve_until - answer.staple.this_update).total_seconds()
        if watched.successes == 1 and life_s <= self._pace.refresh_min_s:
            self._log.warning(
                "%s: its responses are valid for %.0f s, and refresh_min_interval_s is not less: it is not kept to",
                watched.identity.label,
                life_s,
            )
        self.end_round(watched)
        if self._turns:
            await self._turns.answered(watched, answer.staple, answer.max_age_s)
        return due

    def put_off(self, watched: Watched, *, was_asked: bool = True) -> datetime:
        """End a round in which nothing came; when the next one begins. `was_asked`: the start need not wait for it."""
        now = self._now()
        if was_asked:
            self.end_round(watched)
        # What an earlier run left may prove good by now: the clock was wrong, say.
        if watched.newest is None and (stored := self._shelf.take_over(watched, now)):
            self._reporter.taken_over(watched, stored)
        held = watched.held(now)
        watched.failures += 1
        watched.troubles = watched.round
        pause_s = policy.retry_pause_s(
            watched.failures,
            self._jitter(),
            self._pace,
            remaining_s=math.inf if watched.is_withheld else (held.serve_until - now).total_seconds() if held else None,
            retry_after_s=watched.retry_after_s,
        )
        self._reporter.refused(watched, now, pause_s)
        return now + timedelta(seconds=pause_s)

    def end_round(self, watched: Watched) -> None:
        """End a round."""
        self._unasked.discard(watched.identity.cache_key)
        if self._turns:
            self._turns.ended(watched)

    def _jitter_of(self, watched: Watched, staple: Staple) -> float:
        return self._turns.jitter_of(watched, staple) if self._turns else self._jitter()

    # --- in a fleet

    def announced(self, watched: Watched, found: Found) -> None:
        """Take what another machine has fetched, whether it is due here or not."""
        assert self._turns is not None
        if watched.is_withheld and watched.newest and watched.newest.der == found.der:
            return  # said already, and to the operator's command; whoever is due looks himself
        due = self._turns.take(watched, found)
        if due is None:
            return
        if watched.due_s is not None:
            self._schedule(watched, due)
        elif watched.certificate.responder_urls and watched.identity.cache_key not in self._over:
            self._turns.settle(watched, due)  # it waits for its turn, or is asked for

    async def _look(self, turns: Turns, watched: Watched) -> None:
        """See what the fleet has of a certificate that is due; then it is settled, or waits for a responder."""
        due = None
        try:
            due = await turns.look(watched)
        except Exception:  # noqa: BLE001  the edge of a task, as above
            self._log.exception("%s: the look at what the fleet has broke", watched.identity.label)
        finally:
            turns.leave()
            self._woken.set()
        if due is None:
            self._queue(watched)
        else:
            self._schedule(watched, due)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)

"""Turns in a fleet: whether a certificate that is due here is asked for, taken from another machine, or left to one."""

from __future__ import annotations

import contextlib
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

from proxy.errors import FetchFailed, Reason, StapleRejected
from proxy.keeper.fleet.decide import (
    Alone,
    Found,
    InVain,
    Ours,
    Theirs,
    alone_pause_s,
    patience_s,
    shared_jitter,
    wait_s,
)
from proxy.keeper.lanes import Lanes
from proxy.keeper.watched import EXPIRING_LIFE, Trouble
from proxy.ocsp import policy

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from cryptography import x509

    from proxy.identity import CacheKey
    from proxy.keeper.fleet.decide import Turn
    from proxy.keeper.fleet.sharing import Sharing
    from proxy.keeper.reporter import Reporter
    from proxy.keeper.shelf import Shelf
    from proxy.keeper.watched import Watched
    from proxy.ocsp.policy import Pace
    from proxy.ocsp.response import Staple

ASKED_IN_VAIN = "asked-in-vain"
_LANE = "fleet"
_LOOKS_AT_ONCE = 8
_LOOKS_PER_S = 2_000


class Learning(Protocol):
    """What is asked of the asker."""

    async def learn_issuer(self, watched: Watched) -> x509.Certificate:
        """Give the issuer, found if need be; raises FetchFailed."""


class Scheduling(Protocol):
    """What is asked of the refresher."""

    def put_off(self, watched: Watched, *, was_asked: bool = True) -> datetime:
        """End a round in which nothing came; when the next one begins. `was_asked`: the start need not wait for it."""

    def end_round(self, watched: Watched) -> None:
        """End a round."""


class Turns:
    """One writer: the refresher."""

    def __init__(
        self,
        sharing: Sharing,
        scheduling: Scheduling,
        learning: Learning,
        shelf: Shelf,
        reporter: Reporter,
        pace: Pace,
        fetch_timeout_s: float,
        now: Callable[[], datetime],
        jitter: Callable[[], float],
    ) -> None:
        self._sharing = sharing
        self._scheduling = scheduling
        self._learning = learning
        self._shelf = shelf
        self._reporter = reporter
        self._pace = pace
        self._fetch_timeout_s = fetch_timeout_s
        self._now = now
        self._jitter = jitter
        self._looks = Lanes(_LOOKS_AT_ONCE, _LOOKS_PER_S)
        self._alone: set[CacheKey] = set()
        """Those whose round goes on without the fleet, after a pause."""
        self._waited_s: dict[CacheKey, float] = {}
        """For others' locks, in the round under way."""
        self._let_pass: set[CacheKey] = set()
        """Those for which another one's failure has counted: the next time it does not."""
        self._settled: dict[CacheKey, datetime] = {}
        """Those that another machine has settled while they waited here, and when they are due then."""

    # --- who looks next

    def enter(self, watched: Watched) -> None:
        """Queue a certificate that is due."""
        self._looks.enter(_LANE, watched.identity.cache_key, urgent=watched.held(self._now()) is None)

    def begin_looks(self, now_s: float) -> list[CacheKey]:
        """Take those whose `look` may begin now."""
        return [key for _, key in self._looks.begin(now_s)]

    def leave(self) -> None:
        """Say that a `look` is over."""
        self._looks.leave(_LANE)

    def next_s(self) -> float:
        """When a `look` may begin without another one ending before."""
        return self._looks.next_s()

    # --- one certificate; a moment says when to look again, None that the round goes on towards the responder

    async def look(self, watched: Watched) -> datetime | None:
        """See what the fleet has of a certificate that is due."""
        if settled := self._settled.pop(watched.identity.cache_key, None):  # announced while it waited for this
            return settled
        return self._act_on(watched, await self._sharing.look(watched, insists=self._insists(watched)))

    async def begin(self, watched: Watched) -> datetime | None:
        """Take the lock, when the responder may be asked."""
        if settled := self._settled.pop(watched.identity.cache_key, None):
            return settled
        turn = await self._sharing.begin(watched, insists=self._insists(watched))
        if isinstance(turn, Found) and watched.issuer is None:  # found here, and not by a look, since this may wait
            with contextlib.suppress(FetchFailed):
                await self._learning.learn_issuer(watched)
        due = self._act_on(watched, turn)
        if due is None and isinstance(turn, Found):  # it was refused, or is due again: it counts as absent now
            turn = await self._sharing.begin(watched, insists=self._insists(watched))
            due = None if isinstance(turn, Found) else self._act_on(watched, turn)
        return due

    async def answered(self, watched: Watched, staple: Staple, max_age_s: float | None) -> None:
        """Give the others what a responder has said, though it may have found no room here."""
        self._let_pass.discard(watched.identity.cache_key)
        await self._sharing.store(watched, staple, max_age_s)

    async def failed(self, watched: Watched, pause_s: float) -> None:
        """Let others ask, in a while."""
        self._let_pass.discard(watched.identity.cache_key)
        await self._sharing.give_up(watched, pause_s)

    def take(self, watched: Watched, found: Found) -> datetime | None:
        """Prove and keep what another machine has fetched; None: it is of no use, or is due again."""
        sharing, before, now = self._sharing, watched.newest, self._now()
        if watched.issuer is None:
            return None
        try:
            staple = self._shelf.offer(watched, found.der, now)
        except StapleRejected as refusal:
            if refusal.reason is not Reason.REVOKED or watched.newest is None:
                sharing.refused(watched, found, refusal.reason, refusal.detail)
                return None
            sharing.taken(watched, found, watched.newest)
            watched.round = (Trouble(sharing.name, refusal.reason, refusal.detail),)
            return self._scheduling.put_off(watched)
        sharing.taken(watched, found, staple)
        # By what is signed, and not by the head, which could say that each repetition is news.
        if before and staple.this_update == before.this_update and self._is_ending(watched):
            return None
        watched.failures, watched.troubles = 0, ()
        if before is None or before.der != staple.der:
            watched.jitter = self.jitter_of(watched, staple)
        asked = now - timedelta(seconds=found.age_s)
        due = policy.next_refresh(staple, asked, watched.jitter, self._pace, found.head.max_age_s)
        ending = staple.serve_until - (staple.serve_until - staple.this_update) * EXPIRING_LIFE
        if now < ending:  # nor by a max-age, which nobody has signed
            due = min(due, ending)
        self._reporter.accepted(watched, before, staple, "", now, due, sharing.name)
        if due <= now:
            return None
        self._let_pass.discard(watched.identity.cache_key)
        self._scheduling.end_round(watched)
        return due

    def jitter_of(self, watched: Watched, staple: Staple) -> float:
        """Draw the jitter of a new response's refresh, in step with the other machines."""
        return shared_jitter(watched.identity.cache_key, staple.der, self._jitter())

    def hurry(self, watched: Watched) -> None:
        """Have it asked for without a pause should the fleet be of no help: somebody has ordered it."""
        self._alone.add(watched.identity.cache_key)

    def settle(self, watched: Watched, due: datetime) -> None:
        """Say that another machine has settled what waits here for its turn."""
        self._settled[watched.identity.cache_key] = due

    def ended(self, watched: Watched) -> None:
        """Forget what belongs to a round that is over."""
        key = watched.identity.cache_key
        self._alone.discard(key)
        self._waited_s.pop(key, None)
        self._settled.pop(key, None)

    def _insists(self, watched: Watched) -> bool:
        return watched.identity.cache_key in self._let_pass or self._is_ending(watched)

    def _is_ending(self, watched: Watched) -> bool:
        """Near the end of what is held nobody's word counts that there is nothing newer: it may be a lie."""
        now = self._now()
        held = watched.held(now)
        return held is not None and held.serve_until - now <= (held.serve_until - held.this_update) * EXPIRING_LIFE

    def _is_patient(self, watched: Watched) -> bool:
        longest_s = patience_s(len(watched.certificate.responder_urls), self._fetch_timeout_s)
        return self._waited_s.get(watched.identity.cache_key, 0.0) <= longest_s

    def _act_on(self, watched: Watched, turn: Turn) -> datetime | None:
        key, now = watched.identity.cache_key, self._now()
        # Not if the lock was got: then what was announced is known, and it is to be asked for all the same. Nor if what
        # was found is another one. The same, which was on its way here twice, would be taken for a repetition, and put
        # the question off.
        is_news = isinstance(turn, Found) and not (watched.newest and watched.newest.der == turn.der)
        if not is_news and not isinstance(turn, Ours) and (settled := self._settled.pop(key, None)):
            return settled
        if isinstance(turn, Theirs) and not self._is_patient(watched):
            turn = Alone()
        match turn:
            case Found():
                return self.take(watched, turn)
            case Theirs(left_s):
                pause_s = wait_s(left_s, self._jitter())
                self._waited_s[key] = self._waited_s.get(key, 0.0) + pause_s
                return now + timedelta(seconds=pause_s)
            case InVain() if not self._insists(watched):  # else it is a lie, and would be for ever
                self._let_pass.add(key)
                what = "another machine of the fleet has asked in vain a moment ago"
                watched.round = (Trouble(self._sharing.name, ASKED_IN_VAIN, what),)
                self.ended(watched)
                return self._scheduling.put_off(watched, was_asked=False)
            case Alone() if key not in self._alone:
                self._alone.add(key)
                held = watched.held(now)
                remaining_s = (held.serve_until - now).total_seconds() if held else None
                return now + timedelta(seconds=alone_pause_s(remaining_s, self._jitter()))
        return None

"""What is held for each certificate: judged, published in the cache, withdrawn, brought back.

What is held is kept through any trouble until its end. The one thing that ends it sooner is the issuer's own newer word
that the certificate is revoked: then nothing is stapled, since the old 'good', though not yet over, is known to be
false. 'Unknown' does not: it is what a responder says that lost or has not yet got its data, it is no word on the
certificate (RFC 6960 2.2), and the 'good' held remains the issuer's promise until nextUpdate.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from proxy.errors import Reason, StapleRejected
from proxy.log import about
from proxy.ocsp import policy
from proxy.ocsp.response import CertStatus, require_good, require_nonce, verify

if TYPE_CHECKING:
    import logging
    from datetime import datetime

    from proxy.keeper.watched import Watched
    from proxy.ocsp.response import Rules, Staple
    from proxy.staplefile import Proved


class CacheEntry(Protocol):
    """One response in the cache."""

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


class Shelf:
    """The one writer of `Watched.newest` and of the cache."""

    def __init__(self, cache: Cache, rules: Rules, log: logging.Logger, proved: Proved | None = None) -> None:
        self.cache = cache
        self._rules = rules
        self._proved = proved
        self._log = log

    def offer(
        self, watched: Watched, der: bytes, now: datetime, *, nonce: bytes | None = None, by_hand: bool = False
    ) -> Staple:
        """Keep a response that is as good as what is held, or better; raises StapleRejected.

        `nonce`: what it must repeat. `by_hand`: the operator chose this response, so that 'revoked' is stapled too.
        """
        staple = self.verified(watched, der, now)
        if nonce is not None:
            require_nonce(der, nonce)
        policy.may_replace(watched.newest, staple)
        if staple.status is CertStatus.REVOKED and not by_hand and watched.certificate.on_revoked == "withhold":
            had_one = watched.held(now) is not None
            self._withdraw(watched, staple, now)
            raise StapleRejected(Reason.REVOKED, staple.revocation + (" (the staple held is withdrawn)" * had_one))
        if staple.status is CertStatus.UNKNOWN:
            require_good(staple)
        # Published even when it is the one held: the cache may have pushed it out meanwhile.
        if self._publish(watched, staple, now):
            if watched.newest is None or watched.newest.der != staple.der:
                watched.told, watched.etag = "", None
            watched.newest, watched.is_by_hand = staple, by_hand
        return staple

    def verified(self, watched: Watched, der: bytes, now: datetime) -> Staple:
        """Prove a response; raises StapleRejected."""
        if watched.issuer is None:
            raise ValueError("nothing can be proved without the issuer")
        if self._proved and (staple := self._proved.find(watched.identity.cache_key, der, now)):
            return staple
        return verify(der, leaf=watched.identity.leaf, issuer=watched.issuer, now=now, rules=self._rules)

    def take_over(self, watched: Watched, now: datetime) -> Staple | None:
        """Verify again what an earlier run left: a file proves nothing, and the rules may have changed since."""
        key = watched.identity.cache_key
        entry = self.cache.get(key)
        if entry is None or watched.issuer is None:
            return None
        staple = None
        try:
            staple = self.verified(watched, entry.response, now)
            if not watched.may_staple(staple):
                require_good(staple)
        except StapleRejected as refusal:
            if staple is not None and staple.status is CertStatus.REVOKED:
                self._withdraw(watched, staple, now)
            elif refusal.reason is not Reason.NOT_YET_VALID:  # that one is good in a while, or when the clock is right
                self.cache.remove(key)
            extra = about(certificate=watched.identity.label, reasons=[refusal.reason])
            self._log.info("%s: the stored response is not stapled: %s", watched.identity.label, refusal, extra=extra)
            return None
        if entry.serve_until_s != staple.serve_until.timestamp() and not self._publish(watched, staple, now):
            return None
        watched.newest = staple
        self.cache.vouch_for(key)
        return staple

    def bring_back(self, watched: Watched, now: datetime) -> None:
        """Publish again what the cache had to push out for others."""
        held = watched.held(now)
        if held and self.cache.get(watched.identity.cache_key) is None and self._publish(watched, held, now):
            self._log.debug("%s: back in the cache, on demand", watched.identity.label)

    def _publish(self, watched: Watched, staple: Staple, now: datetime) -> bool:
        try:
            self.cache.put(watched.identity.cache_key, staple.der, staple.serve_until.timestamp(), now.timestamp())
        except ValueError as error:
            extra = about(certificate=watched.identity.label)
            self._log.warning("%s: the cache does not take the staple: %s", watched.identity.label, error, extra=extra)
            return False
        return True

    def _withdraw(self, watched: Watched, staple: Staple, now: datetime) -> None:
        """Staple no more for a certificate that the issuer says is revoked.

        The response is kept in the cache, as one that may not be served: else a keeper that starts anew would take an
        older 'good' that somebody replays.
        """
        watched.newest, watched.is_by_hand = staple, False
        key = watched.identity.cache_key
        try:
            self.cache.put(key, staple.der, 0.0, now.timestamp())
        except ValueError:  # it does not fit: what must not stay is the good one
            self.cache.remove(key)

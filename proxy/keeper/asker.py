"""One question to one responder, from what is known of the certificate to a response that is kept."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from proxy.errors import FetchFailed, FetchReason, Reason, StapleRejected
from proxy.ocsp.request import NONCE_BYTES, build_request

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from cryptography import x509

    from proxy.identity import Identity
    from proxy.keeper.fetch import Fetched
    from proxy.keeper.shelf import Shelf
    from proxy.keeper.watched import Watched
    from proxy.ocsp.response import Staple

FETCHED, NOT_MODIFIED = "fetched", "not-modified"


class Fetching(Protocol):
    """What is asked of the fetcher."""

    async def fetch(self, uri: str, request_der: bytes, *, etag: str | None = None) -> Fetched:
        """Ask a responder; FetchFailed says why there is no answer."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A response that is kept."""

    staple: Staple
    max_age_s: float | None
    """How long caches may keep it; None: the responder did not say."""
    outcome: str
    """`FETCHED`, or `NOT_MODIFIED` where the responder said that it is still the one held."""


class Asker:
    """Asks, and gives what comes to the shelf."""

    def __init__(
        self,
        fetcher: Fetching,
        shelf: Shelf,
        find_issuer: Callable[[Identity], Awaitable[x509.Certificate]] | None,
        now: Callable[[], datetime],
        *,
        with_nonce: bool,
    ) -> None:
        self._fetcher = fetcher
        self._shelf = shelf
        self._find_issuer = find_issuer
        self._now = now
        self._with_nonce = with_nonce

    async def ask(self, watched: Watched, url: str) -> Answer:
        """Ask the responder at `url`; raises FetchFailed or StapleRejected, and what is held stays as it is."""
        issuer = await self.learn_issuer(watched)
        nonce = secrets.token_bytes(NONCE_BYTES) if self._with_nonce else None
        request = build_request(watched.identity.leaf, issuer, nonce)
        fetched = await self._fetcher.fetch(url, request, etag=self._tag(watched, url))
        if fetched.body is None:
            return self._not_modified(watched, fetched)
        staple = self._shelf.offer(watched, fetched.body, self._now(), nonce=nonce)
        watched.etag = (url, fetched.etag) if fetched.etag and watched.newest is staple else None
        return Answer(staple, fetched.max_age_s, FETCHED)

    async def learn_issuer(self, watched: Watched) -> x509.Certificate:
        """Give the issuer, found if need be; raises FetchFailed."""
        if watched.issuer is None:
            if self._find_issuer is None:
                raise FetchFailed(FetchReason.PROTOCOL, "the issuer's certificate is not known")
            watched.issuer = await self._find_issuer(watched.identity)
        return watched.issuer

    def _tag(self, watched: Watched, url: str) -> str | None:
        """The tag of what is held, if this very responder gave it to the same question: else the whole must come."""
        if watched.etag is None or self._with_nonce or watched.held(self._now()) is None:
            return None
        tagged_url, tag = watched.etag
        return tag if tagged_url == url else None

    def _not_modified(self, watched: Watched, fetched: Fetched) -> Answer:
        held = watched.held(self._now())
        if held is None:
            raise StapleRejected(Reason.EXPIRED, "the responder says 304, of a response whose time is over by now")
        self._shelf.bring_back(watched, self._now())
        return Answer(held, fetched.max_age_s, NOT_MODIFIED)
